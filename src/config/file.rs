//! The configuration file: YAML, of which JSON is a part.
//!
//! Its keys are the flags' names, but for a few blocks, and in capitals, too; its durations are
//! whole nanoseconds.

use crate::config::error::ConfigError;
use crate::config::flags::{self, Flag, Kind};
use crate::config::parse::Notice;
use yaml_serde::Value;

/// The blocks, what their keys mean as flags, and whether lists are allowed.
///
/// `-` before a name stands for a flag that we do not know under any name.
const BLOCKS: [(&str, &[(&str, &str)]); 4] = [
    (
        "socket-options",
        &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")],
    ),
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    ("discovery-config", &[]),
];

/// Every flag that the file sets, with its value in the command line's syntax, in the file's order.
/// Keys that nobody knows are passed over, as in etcd, and noted.
///
/// # Errors
/// Any of [`ConfigError`]'s about a file.
pub(super) fn values(
    path: &str,
    text: &str,
    notices: &mut Vec<Notice>,
) -> Result<Vec<(&'static Flag, String)>, ConfigError> {
    let syntax = |why: String| ConfigError::FileSyntax { path: path.to_owned(), why };
    let whole: Value = yaml_serde::from_str(text).map_err(|error| syntax(error.to_string()))?;
    let mut found = Vec::new();
    for (key, value) in entries(&whole).ok_or_else(|| syntax("expected keys and values".into()))? {
        let block = BLOCKS.iter().find(|(name, _)| key.eq_ignore_ascii_case(name));
        if let Some((block, names)) = block {
            let inner =
                entries(value).ok_or_else(|| wrong(path, &key, value, "keys and values"))?;
            for (key, value) in inner {
                let name = names.iter().find(|(inner, _)| key.eq_ignore_ascii_case(inner));
                let flag = name.map(|(_, name)| *name);
                let flag = flag.or_else(|| discovery(block, &key)).and_then(flags::find);
                let key = format!("{block}.{key}");
                match flag {
                    Some(flag) => found.extend(entry(path, &key, flag, value)?),
                    None => notices.push(Notice::KeyUnknown { key, nearest: None }),
                }
            }
            continue;
        }
        let flag = flags::find(&key.to_ascii_lowercase())
            .filter(|flag| !["config-file", "version"].contains(&flag.name));
        match flag {
            Some(flag) => found.extend(entry(path, &key, flag, value)?),
            None => {
                let nearest = flags::nearest(&key).filter(|name| *name != key);
                notices.push(Notice::KeyUnknown { key, nearest });
            }
        }
    }
    Ok(found)
}

/// The flag of a key in etcd's block for discovery.
fn discovery(block: &str, key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let name = format!("discovery-{}", key.strip_prefix("discovery-").unwrap_or(&key));
    (block == "discovery-config").then(|| flags::find(&name)).flatten().map(|flag| flag.name)
}

/// The keys and values of a mapping; none of nothing.
fn entries(value: &Value) -> Option<Vec<(String, &Value)>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Mapping(mapping) => {
            mapping.iter().map(|(key, value)| Some((key.as_str()?.to_owned(), value))).collect()
        }
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Sequence(_)
        | Value::Tagged(_) => None,
    }
}

/// One flag with its value; none if the value is empty, which leaves the default.
fn entry(
    path: &str,
    key: &str,
    flag: &'static Flag,
    value: &Value,
) -> Result<Option<(&'static Flag, String)>, ConfigError> {
    let expected = match flag.kind {
        Kind::Boolean => "true or false",
        Kind::Integer => "a whole number",
        Kind::Unsigned => "a whole number, not negative",
        Kind::Duration => "a whole number of nanoseconds",
        Kind::Text => "a text",
    };
    let text = match (flag.kind, value) {
        (_, Value::Null) => return Ok(None),
        (Kind::Boolean, Value::Bool(value)) => value.to_string(),
        (Kind::Integer, Value::Number(number)) if number.is_i64() => number.to_string(),
        (Kind::Unsigned, Value::Number(number)) if number.is_u64() => number.to_string(),
        (Kind::Duration, Value::Number(number)) if number.is_i64() => format!("{number}ns"),
        (Kind::Text, Value::String(text)) => text.clone(),
        // etcd's retention is a text that people write as a number.
        (Kind::Text, Value::Number(number)) => number.to_string(),
        (Kind::Text, Value::Sequence(items)) => {
            let texts: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| wrong(path, key, value, "a list of texts"))?.join(",")
        }
        _ => return Err(wrong(path, key, value, expected)),
    };
    Ok(Some((flag, text)))
}

/// The error of a value that is none.
fn wrong(path: &str, key: &str, value: &Value, expected: &str) -> ConfigError {
    let found = match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "keys and values".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    };
    let (path, key, expected) = (path.to_owned(), key.to_owned(), expected.to_owned());
    ConfigError::FileValue { path, key, found, expected }
}
