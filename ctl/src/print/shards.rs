//! Which member leads which shard.

use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::push_line;
use crate::print::table::table;
use ringd::api::proto::etcdserverpb::StatusResponse;

/// One shard of one member, as it says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardRow {
    /// Which shard.
    pub(crate) shard: u64,
    /// The member's name.
    pub(crate) name: String,
    /// Where the shard's clients find it there.
    pub(crate) endpoint: String,
    /// What it says.
    pub(crate) status: StatusResponse,
}

/// The heads of [`ShardRow::columns`].
const HEADS: [&str; 8] = [
    "SHARD",
    "MEMBER",
    "ID",
    "ENDPOINT",
    "IS LEADER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
];

impl ShardRow {
    /// Which member it is.
    pub(crate) fn member(&self) -> u64 {
        self.status.header.unwrap_or_default().member_id
    }

    fn is_leader(&self) -> bool {
        self.status.leader != 0 && self.status.leader == self.member()
    }

    fn columns(&self) -> Vec<String> {
        vec![
            self.shard.to_string(),
            self.name.clone(),
            format!("{:x}", self.member()),
            self.endpoint.clone(),
            self.is_leader().to_string(),
            self.status.raft_term.to_string(),
            self.status.raft_index.to_string(),
            self.status.raft_applied_index.to_string(),
        ]
    }
}

impl Show for Vec<ShardRow> {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for row in self {
            push_line(out, row.columns().join(", ").as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        for row in self {
            fields.plain("Shard", row.shard);
            fields.quoted("Name", row.name.as_bytes());
            fields.id("MemberID", row.member());
            fields.quoted("Endpoint", row.endpoint.as_bytes());
            fields.plain("IsLeader", row.is_leader());
            fields.id("Leader", row.status.leader);
            fields.plain("RaftTerm", row.status.raft_term);
            fields.plain("RaftIndex", row.status.raft_index);
            fields.plain("RaftAppliedIndex", row.status.raft_applied_index);
            fields.end();
        }
    }

    fn json(&self, _: bool) -> String {
        json::list(self.iter().map(|row| {
            Object::new()
                .always("shard", row.shard)
                .text("name", &row.name)
                .number("member_id", row.member())
                .text("endpoint", &row.endpoint)
                .flag("isLeader", row.is_leader())
                .number("leader", row.status.leader)
                .number("raftTerm", row.status.raft_term)
                .number("raftIndex", row.status.raft_index)
                .number("raftAppliedIndex", row.status.raft_applied_index)
                .done()
        }))
    }

    fn table(&self) -> Option<String> {
        Some(table(&HEADS, &self.iter().map(ShardRow::columns).collect::<Vec<_>>()))
    }
}
