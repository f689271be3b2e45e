//! The conditions of a transaction: `mod("key") > "5"`.

use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use ringd::api::proto::etcdserverpb::Compare;
use ringd::api::proto::etcdserverpb::compare::CompareResult;
use ringd::api::proto::etcdserverpb::compare::CompareTarget;
use ringd::api::proto::etcdserverpb::compare::TargetUnion;

/// The parts of a condition, as far as they could be read.
#[derive(Debug, Default)]
struct Parts {
    key: Vec<u8>,
    operator: Vec<u8>,
    value: Vec<u8>,
    count: usize,
}

/// Reads what is behind `target(`: a quoted key, `)`, an operator, a quoted value; between them
/// spaces, behind them anything.
fn parts(text: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let Some((key, rest)) = go::unquote(text) else { return parts };
    (parts.key, parts.count) = (key, 1);
    let Some(rest) = rest.strip_prefix(b")").and_then(after_spaces) else { return parts };
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    if end == 0 {
        return parts;
    }
    (parts.operator, parts.count) = (rest[..end].to_vec(), 2);
    let value = after_spaces(&rest[end..]).and_then(go::unquote);
    if let Some((value, _)) = value {
        (parts.value, parts.count) = (value, 3);
    }
    parts
}

/// What follows at least one space.
fn after_spaces(text: &[u8]) -> Option<&[u8]> {
    let rest = text.trim_ascii_start();
    (rest.len() < text.len()).then_some(rest)
}

/// The condition of a line.
///
/// # Errors
///
/// What about it cannot be understood.
pub(super) fn comparison(line: &[u8]) -> Result<Compare, Failure> {
    let told = String::from_utf8_lossy(line);
    let wrong = |text: String| Failure::new(Exit::InvalidInput, text);
    let malformed = |why: &str| wrong(format!("malformed comparison: {told}{why}"));
    let open = line.iter().position(|&byte| byte == b'(').ok_or_else(|| malformed(""))?;
    let target = String::from_utf8_lossy(&line[..open]);
    let Parts { key, operator, value, count } = parts(&line[open + 1..]);
    if count < 3 {
        let (key, value) = (go::quote(&key), go::quote(&value));
        let operator = String::from_utf8_lossy(&operator);
        return Err(malformed(&format!("; got {target}({key}) {operator} {value}")));
    }
    let text = String::from_utf8_lossy(&value);
    let number = |radix| {
        let number = go::parse_int(&text, radix);
        number.map_err(|_| wrong(format!("invalid txn compare request: {told}")))
    };
    let (target, union) = match &target[..] {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        target => return Err(malformed(&format!(" (unknown target {target})"))),
    };
    let result = match &operator[..] {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b"<" => CompareResult::Less,
        b">" => CompareResult::Greater,
        operator => {
            let operator = String::from_utf8_lossy(operator);
            return Err(malformed(&format!(" (unknown operator {operator})")));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: bytes::Bytes::new(),
        target_union: Some(union),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::tests::oddities;

    #[test]
    fn a_condition_has_a_target_a_key_an_operator_and_a_value() {
        let compare = comparison(br#"mod("a\x41") >  "5" and more"#).expect("it is right");
        assert_eq!(compare.key, "aA");
        assert_eq!(compare.result(), CompareResult::Greater);
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(5)));
        let compare = comparison(b"lease(`k`) != `ff`").expect("it is right");
        assert_eq!(compare.target_union, Some(TargetUnion::Lease(255)));
        assert_eq!(compare.target(), CompareTarget::Lease);
    }

    #[test]
    fn complaints_are_etcdctls() {
        for (line, said) in [
            ("bad", "malformed comparison: bad"),
            (r#"mod("a)"#, r#"malformed comparison: mod("a); got mod("")  """#),
            (r#"mod("a) < "1""#, r#"malformed comparison: mod("a) < "1"; got mod("a) < ")  """#),
            (r#"mod(a) < "1""#, r#"malformed comparison: mod(a) < "1"; got mod("")  """#),
            (r#"mod("a") < 1"#, r#"malformed comparison: mod("a") < 1; got mod("a") < """#),
            (r#"mod("a")>"0""#, r#"malformed comparison: mod("a")>"0"; got mod("a")  """#),
            (r#"mod("a") < "x""#, r#"invalid txn compare request: mod("a") < "x""#),
            (r#"foo("a") < "1""#, r#"malformed comparison: foo("a") < "1" (unknown target foo)"#),
            (r#"mod("a") ~ "1""#, r#"malformed comparison: mod("a") ~ "1" (unknown operator ~)"#),
        ] {
            let failure = comparison(line.as_bytes()).expect_err("it is wrong");
            assert_eq!((failure.code, failure.text.as_deref()), (3, Some(said)));
        }
    }

    #[test]
    fn no_line_is_too_odd_to_be_judged() {
        for line in oddities(b"(\") =\\\xff", 6) {
            assert!(comparison(&line).is_err(), "{}", line.escape_ascii());
            assert!(comparison(&[&b"mod(\"k\""[..], &line].concat()).is_err());
        }
    }
}
