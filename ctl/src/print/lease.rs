//! Answers about leases.

use crate::failure::Failure;
use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::push_line;
use prost::Message;
use ringd::api::proto::etcdserverpb::LeaseGrantResponse;
use ringd::api::proto::etcdserverpb::LeaseKeepAliveResponse;
use ringd::api::proto::etcdserverpb::LeaseLeasesResponse;
use ringd::api::proto::etcdserverpb::LeaseRevokeResponse;
use ringd::api::proto::etcdserverpb::LeaseTimeToLiveResponse;
use ringd::api::proto::etcdserverpb::ResponseHeader;

/// As etcdctl has it: of these answers, the header is the whole message.
fn protobuf_of(header: Option<&ResponseHeader>) -> Vec<u8> {
    header.copied().unwrap_or_default().encode_to_vec()
}

impl Show for LeaseGrantResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let line = format!("lease {:016x} granted with TTL({}s)", self.id, self.ttl);
        push_line(out, line.as_bytes(), false);
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        fields.lease("ID", self.id);
        fields.plain("TTL", self.ttl);
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header(self.header.as_ref())
            .always("ID", self.id)
            .always("TTL", self.ttl)
            .raw("Error", &json::string(&self.error))
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(protobuf_of(self.header.as_ref()))
    }
}

/// A revocation, of which only the lease is worth a line.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    /// The lease.
    pub(crate) id: i64,
    /// What the server answered.
    pub(crate) answer: LeaseRevokeResponse,
}

impl Show for Revoked {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        push_line(out, format!("lease {:016x} revoked", self.id).as_bytes(), false);
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.answer.header.as_ref());
    }

    fn json(&self, _: bool) -> String {
        Object::headed(self.answer.header.as_ref()).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.answer.encode_to_vec())
    }
}

impl Show for LeaseKeepAliveResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let line = format!("lease {:016x} keepalived with TTL({})", self.id, self.ttl);
        push_line(out, line.as_bytes(), false);
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        fields.lease("ID", self.id);
        fields.plain("TTL", self.ttl);
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header(self.header.as_ref())
            .always("ID", self.id)
            .always("TTL", self.ttl)
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(protobuf_of(self.header.as_ref()))
    }
}

/// What is left of a lease's time.
#[derive(Clone, Debug)]
pub(crate) struct TimeToLive {
    /// Whether its keys were asked for.
    pub(crate) has_keys: bool,
    /// What the server answered.
    pub(crate) answer: LeaseTimeToLiveResponse,
}

impl Show for TimeToLive {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = &self.answer;
        if *granted_ttl == 0 && *ttl == -1 {
            push_line(out, format!("lease {id:016x} already expired").as_bytes(), false);
            return;
        }
        let line = format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)");
        out.extend_from_slice(line.as_bytes());
        if self.has_keys {
            out.extend_from_slice(b", attached keys([");
            out.extend_from_slice(&keys.join(&b" "[..]));
            out.extend_from_slice(b"])");
        }
        out.push(b'\n');
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.answer.header.as_ref());
        fields.lease("ID", self.answer.id);
        fields.plain("TTL", self.answer.ttl);
        fields.plain("GrantedTTL", self.answer.granted_ttl);
        for key in &self.answer.keys {
            fields.quoted("Key", key);
        }
    }

    fn json(&self, _: bool) -> String {
        let keys = json::list(self.answer.keys.iter().map(|key| json::base64(key)));
        Object::new()
            .header(self.answer.header.as_ref())
            .always("id", self.answer.id)
            .always("ttl", self.answer.ttl)
            .always("granted-ttl", self.answer.granted_ttl)
            .raw("keys", if self.answer.keys.is_empty() { "null" } else { &keys })
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(protobuf_of(self.answer.header.as_ref()))
    }
}

impl Show for LeaseLeasesResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        push_line(out, format!("found {} leases", self.leases.len()).as_bytes(), false);
        for lease in &self.leases {
            push_line(out, format!("{:016x}", lease.id).as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        for lease in &self.leases {
            fields.lease("ID", lease.id);
        }
    }

    fn json(&self, _: bool) -> String {
        let leases = self.leases.iter().map(|lease| Object::new().always("id", lease.id).done());
        Object::new().header(self.header.as_ref()).raw("leases", &json::list(leases)).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(protobuf_of(self.header.as_ref()))
    }
}
