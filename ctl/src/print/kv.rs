//! Answers about keys: rows, puts, deletions, transactions.

use crate::failure::Failure;
use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::push_line;
use prost::Message;
use ringd::api::proto::etcdserverpb::DeleteRangeResponse;
use ringd::api::proto::etcdserverpb::PutResponse;
use ringd::api::proto::etcdserverpb::RangeResponse;
use ringd::api::proto::etcdserverpb::TxnResponse;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::mvccpb::KeyValue;

/// Prints a row for people: its key and its value, a line each.
pub(super) fn push_row(out: &mut Vec<u8>, kv: &KeyValue, hex: bool) {
    push_line(out, &kv.key, hex);
    push_line(out, &kv.value, hex);
}

/// Rows of which only the values are printed for people.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    /// The rows.
    pub(crate) answer: &'a RangeResponse,
    /// Whether the keys are left out.
    pub(crate) values_only: bool,
}

impl Show for Rows<'_> {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        for kv in &self.answer.kvs {
            if !self.values_only {
                push_line(out, &kv.key, hex);
            }
            push_line(out, &kv.value, hex);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.answer.header.as_ref());
        for kv in &self.answer.kvs {
            fields.row("", kv);
        }
        fields.plain("More", self.answer.more);
        fields.plain("Count", self.answer.count);
    }

    fn json(&self, _: bool) -> String {
        Object::headed(self.answer.header.as_ref())
            .list("kvs", self.answer.kvs.iter().map(json::row))
            .flag("more", self.answer.more)
            .number("count", self.answer.count)
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.answer.encode_to_vec())
    }
}

impl Show for RangeResponse {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        Rows { answer: self, values_only: false }.simple(out, hex);
    }

    fn fields(&self, fields: &mut Fields) {
        Rows { answer: self, values_only: false }.fields(fields);
    }

    fn json(&self, hex: bool) -> String {
        Rows { answer: self, values_only: false }.json(hex)
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}

impl Show for PutResponse {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        push_line(out, b"OK", false);
        if let Some(kv) = &self.prev_kv {
            push_row(out, kv, hex);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        if let Some(kv) = &self.prev_kv {
            fields.row("Prev", kv);
        }
    }

    fn json(&self, _: bool) -> String {
        Object::headed(self.header.as_ref())
            .some("prev_kv", self.prev_kv.as_ref().map(json::row))
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}

impl Show for DeleteRangeResponse {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        push_line(out, self.deleted.to_string().as_bytes(), false);
        for kv in &self.prev_kvs {
            push_row(out, kv, hex);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        fields.plain("Deleted", self.deleted);
        for kv in &self.prev_kvs {
            fields.row("Prev", kv);
        }
    }

    fn json(&self, _: bool) -> String {
        Object::headed(self.header.as_ref())
            .number("deleted", self.deleted)
            .list("prev_kvs", self.prev_kvs.iter().map(json::row))
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}

impl Show for TxnResponse {
    fn simple(&self, out: &mut Vec<u8>, hex: bool) {
        push_line(out, if self.succeeded { b"SUCCESS" } else { b"FAILURE" }, false);
        for response in self.responses.iter().filter_map(|op| op.response.as_ref()) {
            push_line(out, b"", false);
            match response {
                Response::ResponseRange(range) => range.simple(out, hex),
                Response::ResponsePut(put) => put.simple(out, hex),
                Response::ResponseDeleteRange(deletion) => deletion.simple(out, hex),
                Response::ResponseTxn(txn) => txn.simple(out, hex),
            }
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        fields.plain("Succeeded", self.succeeded);
        for response in self.responses.iter().filter_map(|op| op.response.as_ref()) {
            match response {
                Response::ResponseRange(range) => range.fields(fields),
                Response::ResponsePut(put) => put.fields(fields),
                Response::ResponseDeleteRange(deletion) => deletion.fields(fields),
                Response::ResponseTxn(txn) => txn.fields(fields),
            }
        }
    }

    fn json(&self, hex: bool) -> String {
        let responses = self.responses.iter().map(|op| {
            let response = match &op.response {
                Some(Response::ResponseRange(range)) => ("response_range", range.json(hex)),
                Some(Response::ResponsePut(put)) => ("response_put", put.json(hex)),
                Some(Response::ResponseDeleteRange(deletion)) => {
                    ("response_delete_range", deletion.json(hex))
                }
                Some(Response::ResponseTxn(txn)) => ("response_txn", txn.json(hex)),
                None => return Object::new().raw("Response", "null").done(),
            };
            let response = Object::new().raw(response.0, &response.1).done();
            Object::new().raw("Response", &response).done()
        });
        Object::headed(self.header.as_ref())
            .flag("succeeded", self.succeeded)
            .list("responses", responses)
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}
