//! Which call a path names.

use crate::api::proto::SERVICES;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::api::status::echo;

/// A call this build answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// `etcdserverpb.KV/Range`.
    Range,
    /// `etcdserverpb.KV/Put`.
    Put,
    /// `etcdserverpb.KV/DeleteRange`.
    DeleteRange,
    /// `etcdserverpb.KV/Txn`.
    Txn,
    /// `etcdserverpb.KV/Compact`.
    Compact,
    /// `etcdserverpb.KV/RangeStream`.
    RangeStream,
    /// `etcdserverpb.Maintenance/HashKV`.
    HashKv,
    /// `etcdserverpb.Maintenance/Hash`.
    Hash,
    /// `etcdserverpb.Maintenance/Defragment`.
    Defragment,
    /// `etcdserverpb.Maintenance/Status`.
    Status,
    /// `etcdserverpb.Cluster/MemberList`.
    MemberList,
    /// `etcdserverpb.Cluster/MemberAdd`.
    MemberAdd,
    /// `etcdserverpb.Cluster/MemberRemove`.
    MemberRemove,
    /// `etcdserverpb.Cluster/MemberUpdate`.
    MemberUpdate,
    /// `etcdserverpb.Cluster/MemberPromote`.
    MemberPromote,
    /// `etcdserverpb.Maintenance/MoveLeader`.
    MoveLeader,
    /// `etcdserverpb.Maintenance/Alarm`, as far as it only asks.
    Alarm,
    /// One whose client sends messages for as long as it likes.
    Duplex(Flow),
    /// One of `v3lockpb.Lock` or `v3electionpb.Election`.
    Recipe(Goal),
    /// `etcdserverpb.Lease/LeaseGrant`.
    LeaseGrant,
    /// `etcdserverpb.Lease/LeaseRevoke`.
    LeaseRevoke,
    /// `etcdserverpb.Lease/LeaseTimeToLive`.
    LeaseTimeToLive,
    /// `etcdserverpb.Lease/LeaseLeases`.
    LeaseLeases,
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
    /// The empty handler that `--bench-method` opens: decodes a put, stores nothing.
    BenchEmpty,
}

impl Method {
    /// Whether a member without a vote may answer it. Of reads that depends on their message.
    pub(crate) fn is_for_learners(self) -> bool {
        matches!(self, Self::Range | Self::Status | Self::BenchEmpty)
    }

    /// Whether its answer is a stream of messages.
    pub(crate) fn is_answered_by_many(self) -> bool {
        matches!(
            self,
            Self::Duplex(_) | Self::RangeStream | Self::HealthWatch | Self::Recipe(Goal::Observe)
        )
    }
}

/// A call whose client sends messages for as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// `etcdserverpb.Watch/Watch`.
    Watch,
    /// `etcdserverpb.Lease/LeaseKeepAlive`.
    KeepAlive,
}

/// A call that is made of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// `v3lockpb.Lock/Lock`.
    Lock,
    /// `v3lockpb.Lock/Unlock`.
    Unlock,
    /// `v3electionpb.Election/Campaign`.
    Campaign,
    /// `v3electionpb.Election/Proclaim`.
    Proclaim,
    /// `v3electionpb.Election/Leader`.
    Leader,
    /// `v3electionpb.Election/Observe`.
    Observe,
    /// `v3electionpb.Election/Resign`.
    Resign,
}

/// The calls this build answers beside the hot ones, by service and method.
const BUILT: &[(&str, &str, Method)] = &[
    ("etcdserverpb.KV", "DeleteRange", Method::DeleteRange),
    ("etcdserverpb.KV", "Compact", Method::Compact),
    ("etcdserverpb.KV", "RangeStream", Method::RangeStream),
    ("etcdserverpb.Maintenance", "HashKV", Method::HashKv),
    ("etcdserverpb.Maintenance", "Hash", Method::Hash),
    ("etcdserverpb.Maintenance", "Defragment", Method::Defragment),
    ("etcdserverpb.Maintenance", "Status", Method::Status),
    ("etcdserverpb.Maintenance", "Alarm", Method::Alarm),
    ("etcdserverpb.Cluster", "MemberList", Method::MemberList),
    ("etcdserverpb.Cluster", "MemberAdd", Method::MemberAdd),
    ("etcdserverpb.Cluster", "MemberRemove", Method::MemberRemove),
    ("etcdserverpb.Cluster", "MemberUpdate", Method::MemberUpdate),
    ("etcdserverpb.Cluster", "MemberPromote", Method::MemberPromote),
    ("etcdserverpb.Maintenance", "MoveLeader", Method::MoveLeader),
    ("etcdserverpb.Watch", "Watch", Method::Duplex(Flow::Watch)),
    ("etcdserverpb.Lease", "LeaseKeepAlive", Method::Duplex(Flow::KeepAlive)),
    ("v3lockpb.Lock", "Lock", Method::Recipe(Goal::Lock)),
    ("v3lockpb.Lock", "Unlock", Method::Recipe(Goal::Unlock)),
    ("v3electionpb.Election", "Campaign", Method::Recipe(Goal::Campaign)),
    ("v3electionpb.Election", "Proclaim", Method::Recipe(Goal::Proclaim)),
    ("v3electionpb.Election", "Leader", Method::Recipe(Goal::Leader)),
    ("v3electionpb.Election", "Observe", Method::Recipe(Goal::Observe)),
    ("v3electionpb.Election", "Resign", Method::Recipe(Goal::Resign)),
    ("etcdserverpb.Lease", "LeaseGrant", Method::LeaseGrant),
    ("etcdserverpb.Lease", "LeaseRevoke", Method::LeaseRevoke),
    ("etcdserverpb.Lease", "LeaseTimeToLive", Method::LeaseTimeToLive),
    ("etcdserverpb.Lease", "LeaseLeases", Method::LeaseLeases),
    ("grpc.health.v1.Health", "Check", Method::HealthCheck),
    ("grpc.health.v1.Health", "Watch", Method::HealthWatch),
];

/// The path of the empty handler.
const BENCH_PATH: &[u8] = b"/ringd.Bench/Empty";

/// The call that `path` names, or why there is none.
///
/// # Errors
/// `Unimplemented`: with grpc-go's texts for what no etcd has, with our own for what etcd has and
/// this build has not yet.
pub(crate) fn route(path: &[u8], bench: bool) -> Result<Method, Status> {
    match path {
        b"/etcdserverpb.KV/Put" => return Ok(Method::Put),
        b"/etcdserverpb.KV/Txn" => return Ok(Method::Txn),
        b"/etcdserverpb.KV/Range" => return Ok(Method::Range),
        BENCH_PATH if bench => return Ok(Method::BenchEmpty),
        _ => {}
    }
    let parts = path.strip_prefix(b"/").and_then(|rest| {
        let at = rest.iter().rposition(|byte| *byte == b'/')?;
        Some((&rest[..at], &rest[at + 1..]))
    });
    let Some((service, method)) = parts else {
        return Err(refusal(format!("malformed method name: \"{}\"", echo(path))));
    };
    let is_it = |s: &str, m: &str| (s.as_bytes(), m.as_bytes()) == (service, method);
    if let Some((_, _, built)) = BUILT.iter().find(|(s, m, _)| is_it(s, m)) {
        return Ok(*built);
    }
    let Some((service, methods)) = SERVICES.iter().find(|(name, _)| name.as_bytes() == service)
    else {
        return Err(refusal(format!("unknown service {}", echo(service))));
    };
    let text = echo(method);
    if methods.iter().any(|name| name.as_bytes() == method) {
        return Err(refusal(format!("{service}/{text} is not built into ringd yet")));
    }
    Err(refusal(format!("unknown method {text} for service {service}")))
}

fn refusal(message: String) -> Status {
    Status::made(Code::Unimplemented, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_call_or_says_why_not() {
        assert_eq!(route(b"/etcdserverpb.KV/Put", false), Ok(Method::Put));
        assert_eq!(route(b"/etcdserverpb.Maintenance/Status", false), Ok(Method::Status));
        let text = |path: &[u8]| route(path, false).map_err(|status| status.message.into_owned());
        assert_eq!(text(b"/a.B/C"), Err("unknown service a.B".into()));
        assert_eq!(
            text(b"/etcdserverpb.KV/Nope"),
            Err("unknown method Nope for service etcdserverpb.KV".into())
        );
        assert_eq!(text(b"/x"), Err("malformed method name: \"/x\"".into()));
        assert_eq!(text(BENCH_PATH), Err("unknown service ringd.Bench".into()));
        assert_eq!(route(BENCH_PATH, true), Ok(Method::BenchEmpty));
    }

    #[test]
    fn what_a_path_is_told_of_itself_is_short() {
        let text = |path: &str| route(path.as_bytes(), false).map_err(|status| status.message);
        let (long, cut) = ("a".repeat(4000), "a".repeat(256));
        assert_eq!(text(&format!("/{long}/b")), Err(format!("unknown service {cut}").into()));
        assert_eq!(
            text(&format!("/etcdserverpb.KV/{long}")),
            Err(format!("unknown method {cut} for service etcdserverpb.KV").into())
        );
        let cut = &cut[1..];
        let due = format!("malformed method name: \"/{cut}\"");
        assert_eq!(text(&format!("/{long}")), Err(due.into()));
    }
}
