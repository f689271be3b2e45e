//! What a watch brings.

use crate::failure::Failure;
use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::kv;
use crate::print::push_line;
use prost::Message;
use ringd::api::proto::etcdserverpb::WatchResponse;
use ringd::api::proto::mvccpb::Event;
use ringd::api::proto::mvccpb::KeyValue;

/// What an event is called.
pub(crate) fn kind(event: &Event) -> &'static str {
    match event.r#type {
        0 => "PUT",
        1 => "DELETE",
        _ => "UNKNOWN",
    }
}

impl Show for WatchResponse {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        for event in &self.events {
            push_line(out, kind(event).as_bytes(), false);
            if let Some(kv) = &event.prev_kv {
                kv::push_row(out, kv, hex);
            }
            kv::push_row(out, event.kv.as_ref().unwrap_or(&KeyValue::default()), hex);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        for event in &self.events {
            fields.plain("Type", kind(event));
            if let Some(kv) = &event.prev_kv {
                fields.row("Prev", kv);
            }
            fields.row("", event.kv.as_ref().unwrap_or(&KeyValue::default()));
        }
    }

    fn json(&self, _: bool) -> String {
        let events = self.events.iter().map(|event| {
            Object::new()
                .number("type", event.r#type)
                .some("kv", event.kv.as_ref().map(json::row))
                .some("prev_kv", event.prev_kv.as_ref().map(json::row))
                .done()
        });
        let events = json::list(events);
        let is_on = |flag| if flag { "true" } else { "false" };
        Object::new()
            .raw("Header", &Object::new().header(self.header.as_ref()).done())
            .raw("Events", if self.events.is_empty() { "null" } else { &events })
            .always("CompactRevision", self.compact_revision)
            .raw("Canceled", is_on(self.canceled))
            .raw("Created", is_on(self.created))
            .raw("CancelReason", &json::string(&self.cancel_reason))
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}
