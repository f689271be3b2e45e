//! Answers of single servers about themselves, each beside the server's address.

use crate::go;
use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::push_line;
use crate::print::table::table;
use crate::tell;
use ringd::api::proto::etcdserverpb::HashKvResponse;
use ringd::api::proto::etcdserverpb::StatusResponse;
use std::time::Duration;

/// How a server does.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Its address.
    pub(crate) endpoint: String,
    /// How long it took to answer.
    pub(crate) took: Duration,
    /// What is wrong with it.
    pub(crate) error: Option<String>,
}

impl Health {
    fn columns(&self) -> Vec<String> {
        vec![
            self.endpoint.clone(),
            self.error.is_none().to_string(),
            go::format_duration(self.took),
            self.error.clone().unwrap_or_default(),
        ]
    }
}

impl Show for Vec<Health> {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for Health { endpoint, took, error } in self {
            match error {
                None => {
                    let took = go::format_duration(*took);
                    let told = "is healthy: successfully committed proposal: took =";
                    push_line(out, format!("{endpoint} {told} {took}").as_bytes(), false);
                }
                Some(error) => {
                    let told = "is unhealthy: failed to commit proposal:";
                    tell(format_args!("{endpoint} {told} {error}"));
                }
            }
        }
    }

    fn fields(&self, fields: &mut Fields) {
        for health in self {
            fields.quoted("Endpoint", health.endpoint.as_bytes());
            fields.plain("Health", health.error.is_none());
            fields.plain("Took", go::format_duration(health.took));
            fields.plain("Error", health.error.as_deref().unwrap_or_default());
            fields.end();
        }
    }

    fn json(&self, _: bool) -> String {
        json::list(self.iter().map(|health| {
            Object::new()
                .raw("endpoint", &json::string(&health.endpoint))
                .raw("health", if health.error.is_none() { "true" } else { "false" })
                .raw("took", &json::string(&go::format_duration(health.took)))
                .text("error", health.error.as_deref().unwrap_or_default())
                .done()
        }))
    }

    fn table(&self) -> Option<String> {
        let heads = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
        Some(table(&heads, &self.iter().map(Health::columns).collect::<Vec<_>>()))
    }
}

/// What servers say of themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses(pub(crate) Vec<(String, StatusResponse)>);

/// Bytes for a person, in powers of a thousand.
fn bytes(size: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let size = u64::try_from(size).unwrap_or(0);
    let (mut unit, mut scale) = (0, 1u64);
    while unit + 1 < UNITS.len() && size / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let tenths = (u128::from(size) * 10 + u128::from(scale / 2)) / u128::from(scale);
    if unit == 0 {
        format!("{size} B")
    } else if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        // Half of one goes to the even neighbour, as everywhere where floating point is printed.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let is_up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(is_up), UNITS[unit])
    }
}

/// What share of a server's room holds nothing any more.
fn unused(status: &StatusResponse) -> String {
    let (size, used) = (i128::from(status.db_size), i128::from(status.db_size_in_use));
    // What is used is rounded down, as etcdctl does.
    let share = if size > 0 { used * 100 / size } else { 100 };
    format!("{}%", 100 - share)
}

fn columns((endpoint, status): &(String, StatusResponse)) -> Vec<String> {
    let header = status.header.unwrap_or_default();
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.clone(),
        format!("{:x}", header.member_id),
        status.version.clone(),
        status.storage_version.clone(),
        bytes(status.db_size),
        bytes(status.db_size_in_use),
        unused(status),
        bytes(status.db_size_quota),
        (status.leader == header.member_id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// The heads of [`columns`].
const STATUS_HEADS: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

impl Show for Statuses {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for status in &self.0 {
            push_line(out, columns(status).join(", ").as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        for (endpoint, status) in &self.0 {
            let downgrade = status.downgrade_info.clone().unwrap_or_default();
            fields.header(status.header.as_ref());
            fields.quoted("Version", status.version.as_bytes());
            fields.quoted("StorageVersion", status.storage_version.as_bytes());
            fields.plain("DBSize", status.db_size);
            fields.plain("DBSizeInUse", status.db_size_in_use);
            fields.plain("DBSizeQuota", status.db_size_quota);
            fields.plain("Leader", status.leader);
            fields.plain("IsLearner", status.is_learner);
            fields.plain("RaftIndex", status.raft_index);
            fields.plain("RaftAppliedIndex", status.raft_applied_index);
            fields.plain("Errors", format_args!("[{}]", status.errors.join(" ")));
            fields.quoted("Endpoint", endpoint.as_bytes());
            fields.quoted("DowngradeTargetVersion", downgrade.target_version.as_bytes());
            fields.plain("DowngradeEnabled", downgrade.enabled);
            fields.end();
        }
    }

    fn json(&self, _: bool) -> String {
        if self.0.is_empty() {
            return "null".to_owned();
        }
        json::list(self.0.iter().map(|(endpoint, status)| {
            let downgrade = status.downgrade_info.as_ref().map(|info| {
                let object = Object::new().flag("enabled", info.enabled);
                object.text("targetVersion", &info.target_version).done()
            });
            let status = Object::headed(status.header.as_ref())
                .text("version", &status.version)
                .number("dbSize", status.db_size)
                .number("leader", status.leader)
                .number("raftIndex", status.raft_index)
                .number("raftTerm", status.raft_term)
                .number("raftAppliedIndex", status.raft_applied_index)
                .list("errors", status.errors.iter().map(|error| json::string(error)))
                .number("dbSizeInUse", status.db_size_in_use)
                .flag("isLearner", status.is_learner)
                .text("storageVersion", &status.storage_version)
                .number("dbSizeQuota", status.db_size_quota)
                .some("downgradeInfo", downgrade)
                .done();
            let object = Object::new().raw("Endpoint", &json::string(endpoint));
            object.raw("Status", &status).done()
        }))
    }

    fn table(&self) -> Option<String> {
        Some(table(&STATUS_HEADS, &self.0.iter().map(columns).collect::<Vec<_>>()))
    }
}

/// A hash of the keyspace, and the server that made it.
pub(crate) type Hash = (String, HashKvResponse);

impl Show for Vec<Hash> {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for (endpoint, answer) in self {
            let line = format!("{endpoint}, {}, {}", answer.hash, answer.hash_revision);
            push_line(out, line.as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        for (endpoint, answer) in self {
            fields.header(answer.header.as_ref());
            fields.quoted("Endpoint", endpoint.as_bytes());
            fields.plain("Hash", answer.hash);
            fields.plain("HashRevision", answer.hash_revision);
            fields.end();
        }
    }

    fn json(&self, _: bool) -> String {
        if self.is_empty() {
            return "null".to_owned();
        }
        json::list(self.iter().map(|(endpoint, answer)| {
            let hash = Object::headed(answer.header.as_ref())
                .number("hash", answer.hash)
                .number("compact_revision", answer.compact_revision)
                .number("hash_revision", answer.hash_revision)
                .done();
            let object = Object::new().raw("Endpoint", &json::string(endpoint));
            object.raw("HashKV", &hash).done()
        }))
    }

    fn table(&self) -> Option<String> {
        let rows = self.iter().map(|(endpoint, answer)| {
            vec![endpoint.clone(), answer.hash.to_string(), answer.hash_revision.to_string()]
        });
        Some(table(&["ENDPOINT", "HASH", "HASH REVISION"], &rows.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_as_etcdctl_tells_them() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9950, "10 kB"),
            (24_576, "25 kB"),
            (24_500, "24 kB"),
            (25_500, "26 kB"),
            (2_147_483_648, "2.1 GB"),
            (-1, "0 B"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn a_server_without_a_size_wastes_nothing() {
        assert_eq!(unused(&StatusResponse::default()), "0%");
        let status =
            StatusResponse { db_size: 40_960, db_size_in_use: 36_864, ..Default::default() };
        assert_eq!(unused(&status), "10%");
        let status = StatusResponse { db_size: 45_056, ..status };
        assert_eq!(unused(&status), "19%");
    }
}
