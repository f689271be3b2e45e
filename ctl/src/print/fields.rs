//! The format that has a field a line: `"Name" : value`.

use crate::go;
use ringd::api::proto::etcdserverpb::ResponseHeader;
use ringd::api::proto::mvccpb::KeyValue;
use std::fmt;

/// Lines of fields.
#[derive(Debug)]
pub(crate) struct Fields {
    text: String,
    hex: bool,
}

impl Fields {
    /// None yet; ids are decimal or hexadecimal.
    pub(crate) fn new(hex: bool) -> Self {
        Self { text: String::new(), hex }
    }

    /// All lines.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// A value as it is.
    pub(crate) fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.text.push_str(&format!("\"{name}\" : {value}\n"));
    }

    /// A value in quotes, with escapes.
    pub(crate) fn quoted(&mut self, name: &str, value: &[u8]) {
        self.plain(name, go::quote(value));
    }

    /// The id of a member or a cluster.
    pub(crate) fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.plain(name, format_args!("{id:x}")) } else { self.plain(name, id) }
    }

    /// The id of a lease.
    pub(crate) fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.plain(name, format_args!("{id:016x}")) } else { self.plain(name, id) }
    }

    /// An empty line.
    pub(crate) fn end(&mut self) {
        self.text.push('\n');
    }

    /// The header of an answer.
    pub(crate) fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.plain("Revision", header.revision);
        }
        self.plain("RaftTerm", header.raft_term);
    }

    /// A row, each name with `prefix` before it.
    pub(crate) fn row(&mut self, prefix: &str, kv: &KeyValue) {
        let name = |name| format!("{prefix}{name}");
        self.quoted(&name("Key"), &kv.key);
        self.plain(&name("CreateRevision"), kv.create_revision);
        self.plain(&name("ModRevision"), kv.mod_revision);
        self.plain(&name("Version"), kv.version);
        self.quoted(&name("Value"), &kv.value);
        self.lease(&name("Lease"), kv.lease);
    }
}
