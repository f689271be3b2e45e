//! The fixed Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical: sorted by length and then by symbol, codes count upwards. So the lengths
//! say everything, and the tables are computed from them by the compiler.

use super::HpackError;

/// Bits of each symbol's code; the last is the end-of-string symbol, which must not occur.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The longest code in bits.
const LENGTH_MAX: usize = 30;
/// The end-of-string symbol.
const END: u16 = 256;

/// The code, turned round for decoding.
struct Tables {
    /// By the next 8 bits: the symbol and the length of a code of at most 8 bits, or length 0.
    short: [(u8, u8); 256],
    /// Symbols in the order of their codes.
    sorted: [u16; 257],
    /// By length: the first code, and where its symbol stands in `sorted`.
    first: [(u64, usize); LENGTH_MAX + 2],
}

static TABLES: Tables = tables();

/// Counts codes upwards, length by length.
const fn tables() -> Tables {
    let mut tables =
        Tables { short: [(0, 0); 256], sorted: [0; 257], first: [(0, 0); LENGTH_MAX + 2] };
    let (mut code, mut rank, mut length) = (0_u64, 0, 1_u8);
    while length as usize <= LENGTH_MAX {
        code <<= 1;
        tables.first[length as usize] = (code, rank);
        let (mut symbol, mut byte) = (0_u16, 0_u8);
        while symbol <= END {
            if LENGTHS[symbol as usize] == length {
                tables.sorted[rank] = symbol;
                if length <= 8 {
                    fill(&mut tables.short, code, byte, length);
                }
                rank += 1;
                code += 1;
            }
            symbol += 1;
            byte = byte.wrapping_add(1);
        }
        length += 1;
    }
    assert!(rank == 257 && code == 1 << LENGTH_MAX, "the code is complete");
    tables.first[LENGTH_MAX + 1] = (0, rank);
    tables
}

/// Enters a short code under every byte that begins with it.
const fn fill(short: &mut [(u8, u8); 256], code: u64, byte: u8, length: u8) {
    let step = 1 << (8 - length);
    let mut at = 0;
    while at < 256 {
        if at as u64 / step == code {
            short[at] = (byte, length);
        }
        at += 1;
    }
}

/// Appends what `input` stands for.
///
/// # Errors
/// [`HpackError::Huffman`] if it holds the end-of-string symbol or is not padded with its first
/// bits, less than a byte of them.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let mut input = input.iter();
    // The next bits, left-aligned, zeros after them; and how many they are.
    let (mut bits, mut count) = (0_u64, 0_u32);
    loop {
        while count <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = TABLES.short[usize::from(bits.to_be_bytes()[0])];
        let length = u32::from(length);
        if length > 0 && length <= count {
            out.push(symbol);
            bits <<= length;
            count -= length;
            continue;
        }
        let Some((symbol, length)) = long_code(bits, count) else { break };
        out.push(u8::try_from(symbol).map_err(|_| HpackError::Huffman)?);
        bits <<= length;
        count -= length;
    }
    let padding_is_ones = count == 0 || bits >> (64 - count) == (1 << count) - 1;
    if count < 8 && padding_is_ones { Ok(()) } else { Err(HpackError::Huffman) }
}

/// The symbol of a code of 9 to 30 bits at the front of `bits`, and its length.
fn long_code(bits: u64, count: u32) -> Option<(u16, u32)> {
    for (length, pair) in (9_u32..).zip(TABLES.first[9..].windows(2)) {
        if length > count {
            return None;
        }
        let (code, (first, rank)) = (bits >> (64 - length), pair[0]);
        let among = usize::try_from(code.checked_sub(first)?).ok()?;
        if among < pair[1].1 - rank {
            return Some((TABLES.sorted[rank + among], length));
        }
    }
    None
}

#[cfg(test)]
pub(super) fn encode(input: &[u8]) -> Vec<u8> {
    let code = |symbol: u16| {
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        let (first, rank) = TABLES.first[length];
        let among = TABLES.sorted[rank..].iter().position(|s| *s == symbol).expect("is there");
        (first + u64::try_from(among).expect("small"), length)
    };
    let mut text = String::new();
    for byte in input {
        let (code, length) = code(u16::from(*byte));
        text.push_str(&format!("{code:0length$b}"));
    }
    while !text.len().is_multiple_of(8) {
        text.push('1');
    }
    let byte = |i: usize| u8::from_str_radix(&text[i * 8..i * 8 + 8], 2).expect("eight bits");
    (0..text.len() / 8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn every_symbol_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encode(&all)).expect("valid"), all);
        for byte in 0..=255 {
            assert_eq!(decoded(&encode(&[byte])).expect("valid"), [byte]);
        }
    }

    #[test]
    fn a_known_word_has_its_known_code() {
        let code = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(encode(b"www.example.com"), code);
        assert_eq!(decoded(&code).expect("valid"), b"www.example.com");
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        let [front @ .., last] = &encode(b"a")[..] else { panic!("a byte") };
        assert!(front.is_empty());
        assert!(decoded(&[*last]).is_ok());
        assert!(decoded(&[*last, 0xff]).is_err(), "eight bits and more of padding");
        assert!(decoded(&[*last & 0xf8]).is_err(), "zeros for padding");
    }

    #[test]
    fn the_end_symbol_is_refused() {
        assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decoded(&[0xff, 0xff, 0xff, 0xfc]).is_err());
    }
}
