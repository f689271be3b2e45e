//! Numbers and truth values, as Go's `strconv` reads them.

use super::quote;

/// Why a text is no number, in Go's words.
fn wrong(function: &str, text: &str, why: &str) -> String {
    format!("strconv.{function}: parsing {}: {why}", quote(text.as_bytes()))
}

/// The digits of a number and their radix; a radix of 0 is told by a prefix, as in source text.
fn digits(text: &str, radix: u32) -> Option<(String, u32)> {
    let (digits, radix) = match (radix, text.as_bytes()) {
        (0, [b'0', b'x' | b'X', ..]) => (&text[2..], 16),
        (0, [b'0', b'o' | b'O', ..]) => (&text[2..], 8),
        (0, [b'0', b'b' | b'B', ..]) => (&text[2..], 2),
        (0, [b'0', _, ..]) => (&text[1..], 8),
        (0, _) => (text, 10),
        (radix, _) => (text, radix),
    };
    let whole = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    whole.then(|| (digits.to_owned(), radix))
}

/// A signed number of 64 bits.
///
/// # Errors
///
/// Go's own words for what is wrong.
pub(crate) fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) =
        digits(rest, radix).ok_or_else(|| wrong("ParseInt", text, "invalid syntax"))?;
    let size = i128::from_str_radix(&digits, radix).unwrap_or(i128::MAX);
    let number = if negative { -size } else { size };
    i64::try_from(number).map_err(|_| wrong("ParseInt", text, "value out of range"))
}

/// An unsigned number of 64 bits.
///
/// # Errors
///
/// Go's own words for what is wrong.
pub(crate) fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    let (digits, radix) =
        digits(text, radix).ok_or_else(|| wrong("ParseUint", text, "invalid syntax"))?;
    u64::from_str_radix(&digits, radix).map_err(|_| wrong("ParseUint", text, "value out of range"))
}

/// A truth value.
///
/// # Errors
///
/// Go's own words for what is wrong.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(wrong("ParseBool", text, "invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_int("-5", 10), Ok(-5));
        assert_eq!(parse_int("+5", 10), Ok(5));
        assert_eq!(parse_int("ff", 16), Ok(255));
        assert_eq!(parse_int("0x10", 0), Ok(16));
        assert_eq!(parse_int("010", 0), Ok(8));
        assert_eq!(parse_int("-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(parse_uint("bdae9bbc11dd390d", 16), Ok(0xbdae_9bbc_11dd_390d));
        for text in ["", "-", "x", "0x5", "1_0", " 1"] {
            let why = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_int(text, 10), Err(why));
        }
        let big = "9".repeat(60);
        let why = format!("strconv.ParseInt: parsing \"{big}\": value out of range");
        assert_eq!(parse_int(&big, 10), Err(why));
        assert!(parse_uint("-1", 10).is_err());
        assert!(parse_uint(&big, 10).is_err());
    }

    #[test]
    fn truth_is_spelled_in_twelve_ways() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        let why = "strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(parse_bool("yes"), Err(why.to_owned()));
    }
}
