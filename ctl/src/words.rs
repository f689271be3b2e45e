//! A line of text as the words of a command: the language of `txn` and of interactive `watch`.

use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The words of a line.
///
/// A word in double quotes has Go's escapes; one in single quotes is taken as it is; any other goes
/// up to the next space, whatever quotes are inside it. A quote that nothing closes is passed over.
///
/// # Errors
///
/// An escape that there is not.
pub(crate) fn words(line: &[u8]) -> Result<Vec<OsString>, Failure> {
    let (mut words, mut rest) = (Vec::new(), line);
    while let Some(&first) = rest.first() {
        let word = match first {
            b'"' => match closed(rest) {
                Some(end) => {
                    let unquoted = go::unquote(&rest[..end]);
                    let (word, _) = unquoted
                        .ok_or_else(|| Failure::new(Exit::InvalidInput, "invalid syntax"))?;
                    rest = &rest[end..];
                    word
                }
                None => {
                    rest = &rest[1..];
                    continue;
                }
            },
            b'\'' => match rest[1..].iter().position(|&byte| byte == b'\'') {
                Some(end) => {
                    let word = rest[1..=end].to_vec();
                    rest = &rest[end + 2..];
                    word
                }
                None => {
                    rest = &rest[1..];
                    continue;
                }
            },
            space if is_space(space) => {
                rest = &rest[1..];
                continue;
            }
            _ => {
                let end = rest.iter().position(|&byte| is_space(byte)).unwrap_or(rest.len());
                let word = rest[..end].to_vec();
                rest = &rest[end..];
                word
            }
        };
        words.push(OsString::from_vec(word));
    }
    Ok(words)
}

/// What separates words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xc)
}

/// Where the double quotes that open `text` are closed, and that quote is past.
fn closed(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every line of up to `length` bytes out of `alphabet`.
    pub(crate) fn oddities(alphabet: &[u8], length: u32) -> impl Iterator<Item = Vec<u8>> {
        let lines = (0..=length)
            .flat_map(|length| (0..alphabet.len().pow(length)).map(move |number| (number, length)));
        lines.map(|(number, length)| {
            let digit = |place| number / alphabet.len().pow(place) % alphabet.len();
            (0..length).map(|place| alphabet[digit(place)]).collect()
        })
    }

    /// The words as text.
    fn texts(line: &[u8]) -> Vec<String> {
        let words = words(line).expect("its escapes are Go's");
        words.into_iter().map(|word| word.into_string().expect("it is text")).collect()
    }

    #[test]
    fn words_are_split_as_etcdctl_splits_them() {
        assert_eq!(texts(b" put  a \"x y\"\t'p q' "), ["put", "a", "x y", "p q"]);
        assert_eq!(texts(b"put a \"b\"c\"d\""), ["put", "a", "b", "c\"d\""]);
        assert_eq!(texts(b"put a x'y z' 'q'r"), ["put", "a", "x'y", "z'", "q", "r"]);
        assert_eq!(texts(b"put a \"\" ''"), ["put", "a", "", ""]);
        assert_eq!(texts(b"put a \"unterminated"), ["put", "a", "unterminated"]);
        assert_eq!(texts(b"put a 'unterminated"), ["put", "a", "unterminated"]);
        assert_eq!(texts(b"put \\\"a b"), ["put", "\\\"a", "b"]);
        assert_eq!(texts(b"a \"\\u4e16\\\"\""), ["a", "\u{4e16}\""]);
        let raw = words(b"put \xff\xfe").expect("there is no escape");
        assert_eq!(raw[1].as_encoded_bytes(), b"\xff\xfe");
        assert_eq!(words(b"\"\\z\"").expect_err("no such escape").code, 3);
    }

    #[test]
    fn no_line_is_too_odd_to_be_split() {
        for line in oddities(b"a \"'\\\xff", 6) {
            let _ = words(&line);
        }
    }
}
