//! JSON as Go's encoder writes it: fields in the order of the message, those without a value left
//! out, bytes in base64, and what HTML would trip over escaped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringd::api::proto::etcdserverpb::ResponseHeader;
use ringd::api::proto::mvccpb::KeyValue;

/// A JSON object in the making.
#[derive(Debug, Default)]
pub(crate) struct Object(String);

impl Object {
    /// One without fields.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The object as text.
    pub(crate) fn done(self) -> String {
        format!("{{{}}}", self.0)
    }

    /// A field whose value is JSON already.
    pub(crate) fn raw(mut self, name: &str, json: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&format!("\"{name}\":{json}"));
        self
    }

    /// A field that may be missing.
    pub(crate) fn some(self, name: &str, json: Option<String>) -> Self {
        match json {
            Some(json) => self.raw(name, &json),
            None => self,
        }
    }

    /// A number, also if it is 0.
    pub(crate) fn always(self, name: &str, number: impl Into<i128>) -> Self {
        self.raw(name, &number.into().to_string())
    }

    /// A number, unless it is 0.
    pub(crate) fn number(self, name: &str, number: impl Into<i128>) -> Self {
        let number = number.into();
        if number == 0 { self } else { self.always(name, number) }
    }

    /// A truth, unless it is none.
    pub(crate) fn flag(self, name: &str, flag: bool) -> Self {
        if flag { self.raw(name, "true") } else { self }
    }

    /// A text, unless it is empty.
    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        if text.is_empty() { self } else { self.raw(name, &string(text)) }
    }

    /// Bytes, unless there are none.
    pub(crate) fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        if bytes.is_empty() { self } else { self.raw(name, &base64(bytes)) }
    }

    /// A list, unless it is empty.
    pub(crate) fn list(self, name: &str, items: impl Iterator<Item = String>) -> Self {
        let items = list(items);
        if items == "[]" { self } else { self.raw(name, &items) }
    }

    /// The fields of an answer's header among the object's own.
    pub(crate) fn header(self, header: Option<&ResponseHeader>) -> Self {
        let header = header.copied().unwrap_or_default();
        self.number("cluster_id", header.cluster_id)
            .number("member_id", header.member_id)
            .number("revision", header.revision)
            .number("raft_term", header.raft_term)
    }

    /// The header of an answer as a field, if it has one.
    pub(crate) fn headed(header: Option<&ResponseHeader>) -> Self {
        let object = header.map(|header| Self::new().header(Some(header)).done());
        Self::new().some("header", object)
    }
}

/// A list of what is JSON already.
pub(crate) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A text in quotes.
pub(crate) fn string(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    let mut escaped = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Bytes in quotes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

/// A row.
pub(crate) fn row(kv: &KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_a_value_are_left_out() {
        let object = Object::new()
            .number("a", 0)
            .always("b", 0)
            .number("c", u64::MAX)
            .flag("d", false)
            .text("e", "<\"&>")
            .bytes("f", b"\xff")
            .list("g", std::iter::empty())
            .list("h", ["1".to_owned(), "2".to_owned()].into_iter());
        assert_eq!(
            object.done(),
            "{\"b\":0,\"c\":18446744073709551615,\"e\":\"\\u003c\\\"\\u0026\\u003e\",\
             \"f\":\"/w==\",\"h\":[1,2]}"
        );
    }
}
