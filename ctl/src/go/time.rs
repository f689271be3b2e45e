//! Durations, as Go reads and writes them.

use super::quote;
use std::time::Duration;

/// Nanoseconds of a unit.
fn unit(name: &str) -> Option<u128> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A duration such as `1h2m3.5s`; one below zero is none at all.
///
/// # Errors
///
/// Go's own words for what is wrong.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let quoted = quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {quoted}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (unsigned, 0u128);
    while !rest.is_empty() || unsigned.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {quoted}"));
        }
        let unknown =
            || format!("time: unknown unit {} in duration {quoted}", quote(name.as_bytes()));
        let unit = unit(name).ok_or_else(unknown)?;
        // Twelve digits behind the point are more than a nanosecond of any unit can tell.
        let part = &format!("{part:0<12}")[..12];
        let parse = |digits: &str| format!("0{digits}").parse::<u128>().map_err(|_| invalid());
        let size = parse(whole)?
            .checked_mul(unit)
            .zip(parse(part)?.checked_mul(unit))
            .and_then(|(whole, part)| whole.checked_add(part / 1_000_000_000_000));
        total = size.and_then(|size| total.checked_add(size)).ok_or_else(invalid)?;
        rest = after;
    }
    let nanoseconds = u64::try_from(total).ok().filter(|&total| i64::try_from(total).is_ok());
    let duration = Duration::from_nanos(nanoseconds.ok_or_else(invalid)?);
    Ok(if text.starts_with('-') { Duration::ZERO } else { duration })
}

/// A fraction's digits without the zeros at its end, with the point before them.
fn fraction(part: u128, digits: usize) -> String {
    let text = format!("{part:0digits$}");
    let text = text.trim_end_matches('0');
    if text.is_empty() { String::new() } else { format!(".{text}") }
}

/// A duration as Go prints it.
pub(crate) fn format_duration(duration: Duration) -> String {
    let total = duration.as_nanos();
    let small = |size: u128, digits, unit| {
        format!("{}{}{unit}", total / size, fraction(total % size, digits))
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => small(1_000, 3, "\u{b5}s"),
        1_000_000..1_000_000_000 => small(1_000_000, 6, "ms"),
        _ => {
            let (seconds, part) = (total / 1_000_000_000, total % 1_000_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let seconds = format!("{}{}s", seconds % 60, fraction(part, 9));
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            (".5ms", 500_000),
            ("1.us", 1_000),
            ("-3s", 0),
            ("0.000000000001h", 3),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for (text, why) in [
            ("5", "time: missing unit in duration \"5\""),
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            (".s", "time: invalid duration \".s\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
        ] {
            assert_eq!(parse_duration(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5\u{b5}s"),
            (3_968_704, "3.968704ms"),
            (1_000_000_000, "1s"),
            (61_000_000_000, "1m1s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
