//! When history is forgotten without anyone asking: two flags that mean something together.

use crate::config::error::ConfigError;
use crate::config::value::duration;
use std::time::Duration;

/// What is forgotten by itself (`--auto-compaction-mode` and `--auto-compaction-retention`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Nothing.
    Off,
    /// What is older than this, which is never 0.
    Periodic(Duration),
    /// All but so many of the last revisions, which is never 0.
    Revision(u64),
}

/// Seconds of an hour, the unit of a period that is a bare number.
const HOUR: u64 = 60 * 60;

impl AutoCompaction {
    /// The meaning of the two flags.
    ///
    /// A bare number is hours, or revisions in that mode; anything else is a duration, whose
    /// nanoseconds etcd takes for revisions in that mode. Nothing, 0 and less are off.
    ///
    /// # Errors
    /// For a mode that is none and a retention that is neither, in etcd's words.
    pub(super) fn parse(mode: &str, retention: &str) -> Result<Self, ConfigError> {
        let is_periodic = match mode {
            "periodic" => true,
            "revision" => false,
            "" => return Err(ConfigError::NoCompactionMode),
            _ => return Err(ConfigError::CompactionMode(mode.to_owned())),
        };
        if retention.is_empty() {
            return Ok(Self::Off);
        }
        let number = retention.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
        let length = || {
            duration(retention)
                .map_err(|_| ConfigError::CompactionRetention(why_no_duration(retention)))
        };
        Ok(match number {
            Some(0) => Self::Off,
            Some(hours) if is_periodic => {
                Self::Periodic(Duration::from_secs(hours.saturating_mul(HOUR)))
            }
            Some(revisions) => Self::Revision(revisions),
            None => match length()? {
                Duration::ZERO => Self::Off,
                period if is_periodic => Self::Periodic(period),
                length => Self::Revision(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)),
            },
        })
    }
}

/// Why a text that is no duration is none, in the words of Go's `time`.
fn why_no_duration(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        if !number.contains(|c: char| c.is_ascii_digit()) || number.len() > 19 {
            break;
        }
        if unit.is_empty() || number.matches('.').count() > 1 {
            return format!("time: missing unit in duration {text:?}");
        }
        if !["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"].contains(&unit) {
            return format!("time: unknown unit {unit:?} in duration {text:?}");
        }
        rest = after;
    }
    format!("time: invalid duration {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_hours_or_revisions_and_all_else_a_duration() {
        let hours = |hours| Ok(AutoCompaction::Periodic(Duration::from_secs(hours * HOUR)));
        assert_eq!(AutoCompaction::parse("periodic", "1"), hours(1));
        assert_eq!(AutoCompaction::parse("periodic", "+72"), hours(72));
        let minutes = Ok(AutoCompaction::Periodic(Duration::from_secs(90 * 60)));
        assert_eq!(AutoCompaction::parse("periodic", "1h30m"), minutes);
        assert_eq!(AutoCompaction::parse("revision", "1000"), Ok(AutoCompaction::Revision(1000)));
        let nanoseconds = Ok(AutoCompaction::Revision(5_000_000_000));
        assert_eq!(AutoCompaction::parse("revision", "5s"), nanoseconds);
        for mode in ["periodic", "revision"] {
            for off in ["", "0", "0s", "-1h", "00"] {
                assert_eq!(AutoCompaction::parse(mode, off), Ok(AutoCompaction::Off), "{off}");
            }
        }
    }

    #[test]
    fn what_is_neither_is_refused_in_the_words_of_etcd() {
        let why = |mode, retention| match AutoCompaction::parse(mode, retention) {
            Ok(meaning) => panic!("{meaning:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(why("x", "1"), "unknown auto-compaction-mode \"x\"");
        assert_eq!(why("", "x"), "undefined auto-compaction-mode");
        let cases = [
            ("x", "time: invalid duration \"x\""),
            ("-1", "time: missing unit in duration \"-1\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1h5", "time: missing unit in duration \"1h5\""),
            ("99999999999999999999", "time: invalid duration \"99999999999999999999\""),
            (".h", "time: invalid duration \".h\""),
        ];
        for (retention, text) in cases {
            let text = format!("error parsing CompactionRetention: {text}");
            assert_eq!(why("periodic", retention), text);
            assert_eq!(why("revision", retention), text);
        }
    }
}
