//! The texts of flag values, in the syntax of Go's flag package.

use std::time::Duration;

/// Why a text is not a value; the words are Go's, which people grep their logs for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text is not of the flag's kind.
    #[error("parse error")]
    Syntax,
    /// The text is a number that the flag cannot hold.
    #[error("value out of range")]
    Range,
    /// The text is none of the few that the flag takes.
    #[error("invalid value")]
    Choice,
    /// The text breaks a rule that has words of its own.
    #[error("{0}")]
    Rule(String),
}

/// A boolean in any of Go's spellings.
///
/// # Errors
/// [`ValueError::Syntax`] for any other text.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Syntax),
    }
}

/// An integer in Go's literal syntax: `0x`, `0o`, `0b`, a leading zero for octal, underscores.
///
/// # Errors
/// [`ValueError::Syntax`] for no number, [`ValueError::Range`] for one that `T` cannot hold.
pub(super) fn integer<T: TryFrom<i128>>(text: &str) -> Result<T, ValueError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let plain = digits.replace('_', "");
    if plain.is_empty() || !plain.chars().all(|digit| digit.is_digit(radix)) {
        return Err(ValueError::Syntax);
    }
    let size = i128::from_str_radix(&plain, radix).map_err(|_| ValueError::Range)?;
    T::try_from(if negative { -size } else { size }).map_err(|_| ValueError::Range)
}

/// An integer that may not be negative; a sign is a syntax error, as in Go.
///
/// # Errors
/// As [`integer`].
pub(super) fn unsigned<T: TryFrom<i128>>(text: &str) -> Result<T, ValueError> {
    if text.starts_with(['-', '+']) { Err(ValueError::Syntax) } else { integer(text) }
}

/// Nanoseconds in each of Go's units.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration in Go's syntax (`1h30m`, `1.5s`, `0`); one below zero is taken for zero.
///
/// etcd lets a negative duration through and then treats it as no duration at all.
///
/// # Errors
/// [`ValueError::Syntax`] for any other text and for more than 2^63 ns, as in Go.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(ValueError::Syntax);
    }
    let mut total_ns = 0_u128;
    while !rest.is_empty() {
        let (ns, after) = duration_part(rest).ok_or(ValueError::Syntax)?;
        total_ns += ns;
        rest = after;
    }
    let nanoseconds = i64::try_from(total_ns).map_err(|_| ValueError::Syntax)?;
    let magnitude = Duration::from_nanos(nanoseconds.unsigned_abs());
    Ok(if negative { Duration::ZERO } else { magnitude })
}

/// The nanoseconds of a leading `12.5ms`, and what follows it.
fn duration_part(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit_ns = UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, ns)| u128::from(*ns))?;
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? * unit_ns };
    let mut weight = 1;
    for digit in fraction.chars().take(18) {
        weight *= 10;
        total += u128::from(digit.to_digit(10)?) * unit_ns / weight;
    }
    Some((total, rest))
}

/// Each item of a comma-separated list; an empty text has none.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_in_go() {
        assert_eq!(integer::<i64>("-12"), Ok(-12));
        assert_eq!(unsigned::<u64>("0x10"), Ok(16));
        assert_eq!(unsigned::<u64>("017"), Ok(15));
        assert_eq!(unsigned::<u64>("0b11"), Ok(3));
        assert_eq!(unsigned::<u64>("1_000"), Ok(1000));
        assert_eq!(unsigned::<u64>("0"), Ok(0));
        for text in ["", "-", "x", "1x", "0x", "1.5", " 1", "09", "-3"] {
            assert_eq!(unsigned::<u64>(text), Err(ValueError::Syntax), "{text:?}");
        }
        assert_eq!(unsigned::<u32>("4294967296"), Err(ValueError::Range));
        assert_eq!(unsigned::<u64>(&"9".repeat(60)), Err(ValueError::Range));
    }

    #[test]
    fn durations_are_written_as_in_go() {
        let cases = [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("2.s", 2_000_000_000),
            ("1.000000001s", 1_000_000_001),
            ("0.25h", 900_000_000_000),
            ("3us", 3_000),
            ("3\u{b5}s", 3_000),
            ("+7ns", 7),
            ("-5s", 0),
        ];
        for (text, ns) in cases {
            assert_eq!(duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "5d", "1..2s", "-", ".s", "9999999h", "1s2"] {
            assert_eq!(duration(text), Err(ValueError::Syntax), "{text:?}");
        }
    }

    #[test]
    fn booleans_are_written_as_in_go() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("False"), Ok(false));
        assert_eq!(boolean("yes"), Err(ValueError::Syntax));
    }
}
