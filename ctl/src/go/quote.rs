//! Quoted strings, as Go's `%q` writes and reads them.

use std::str::Chars;

/// True for what Go prints as it is: letters, marks, numbers, punctuation, symbols and the space.
fn is_printed(c: char) -> bool {
    // The standard library escapes the same characters in the middle of a text.
    let text: String = ['a', c].iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

/// Bytes in double quotes, with escapes for all that would not print.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\u{7}' => text.push_str("\\a"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{b}' => text.push_str("\\v"),
                '\'' => text.push('\''),
                c if is_printed(c) => text.push(c),
                c if u32::from(c) < 0x80 => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if u32::from(c) < 0x1_0000 => {
                    text.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => text.push_str(&format!("\\U{:08x}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// What stands between the double quotes that open and close `text`, its escapes undone, and what
/// follows; none if it does not open with a quoted string.
///
/// Bytes that are no UTF-8 come out as the replacement character, as Go reads by characters.
pub(crate) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (raw, rest) = match text.first()? {
        b'`' => {
            let end = text[1..].iter().position(|&byte| byte == b'`')?;
            let raw = String::from_utf8_lossy(&text[1..=end]).replace('\r', "");
            return Some((raw.into_bytes(), &text[end + 2..]));
        }
        b'"' => {
            let mut at = 1;
            while *text.get(at)? != b'"' {
                at += if text[at] == b'\\' { 2 } else { 1 };
            }
            (String::from_utf8_lossy(&text[1..at]), &text[at + 1..])
        }
        _ => return None,
    };
    let (mut bytes, mut chars) = (Vec::with_capacity(raw.len()), raw.chars());
    while let Some(c) = chars.next() {
        match c {
            '\n' => return None,
            '\\' => escape(&mut chars, &mut bytes)?,
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some((bytes, rest))
}

/// Undoes one escape, whose backslash has been taken.
fn escape(chars: &mut Chars<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    let kind = chars.next()?;
    let byte = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => u8::try_from(number(chars, 2, 16, 0)?).ok()?,
        '0'..='7' => u8::try_from(number(chars, 2, 8, kind.to_digit(8)?)?).ok()?,
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let c = char::from_u32(number(chars, digits, 16, 0)?)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(());
        }
        _ => return None,
    };
    bytes.push(byte);
    Some(())
}

/// So many more digits of a number that begins with `first`.
fn number(chars: &mut Chars<'_>, count: usize, radix: u32, first: u32) -> Option<u32> {
    let mut number = first;
    for _ in 0..count {
        number = number.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        let text = "v\"<&>\u{1}\u{e9}\u{200b}\u{301}\\'\n\u{e0001}";
        assert_eq!(
            quote(text.as_bytes()),
            "\"v\\\"<&>\\x01\u{e9}\\u200b\u{301}\\\\'\\n\\U000e0001\""
        );
        assert_eq!(quote(b"a\xff\x00"), "\"a\\xff\\x00\"");
    }

    #[test]
    fn a_quoted_string_is_read_up_to_its_end() {
        let read = |text: &'static [u8]| unquote(text);
        assert_eq!(read(b"\"a\" = 1"), Some((b"a".to_vec(), &b" = 1"[..])));
        assert_eq!(read(b"`a\\`b"), Some((b"a\\".to_vec(), &b"b"[..])));
        let escaped = br#""\xff\u00e9\101\a\"\\""#;
        assert_eq!(read(escaped), Some((b"\xff\xc3\xa9A\x07\"\\".to_vec(), &b""[..])));
        assert_eq!(read(b"\"\xff\""), Some(("\u{fffd}".into(), &b""[..])));
        for text in
            [&b"\"a"[..], b"a", b"", b"\"", b"\"\\z\"", b"\"\\400\"", b"\"\\'\"", b"\"\\", b"`"]
        {
            assert_eq!(unquote(text), None, "{}", text.escape_ascii());
        }
    }
}
