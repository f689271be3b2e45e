//! Bugs that are planted, to test the tests.

use crate::generate::{Generator, Op};
use crate::run;
use crate::shorten::shorten;
use ringd::api::proto::etcdserverpb::WatchCreateRequest;
use ringd::api::proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;

/// Requests until each of them must have been found.
const OPS: u64 = 2000;
/// Requests that are enough to show one, and how often one may try with fewer.
const ENOUGH: usize = 20;
const REPLAYS: usize = 12;

/// Makes of a request what the server under test is asked in its place.
pub(crate) type Bug = fn(&mut Op);

/// A bug that shows in no answer to the request itself, or in few.
pub(crate) struct Planted {
    name: &'static str,
    generator: fn(u64) -> Generator,
    pub(crate) bug: Bug,
}

/// A watcher that is created.
fn created(op: &mut Op) -> Option<&mut WatchCreateRequest> {
    if let Op::Watch(_, request) = op
        && let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union
    {
        return Some(create);
    }
    None
}

/// All of them.
pub(crate) const BUGS: [Planted; 10] = [
    Planted {
        name: "a long value loses a byte",
        generator: Generator::few,
        bug: |op| {
            if let Op::Put(put) = op
                && put.value.len() > 200
            {
                put.value.truncate(put.value.len() - 1);
            }
        },
    },
    Planted {
        name: "a compaction keeps a revision too many",
        generator: Generator::few,
        bug: |op| {
            if let Op::Compact(compact) = op {
                compact.revision = compact.revision.saturating_sub(1);
            }
        },
    },
    Planted {
        name: "less is less or equal",
        generator: Generator::few,
        bug: |op| {
            let Op::Txn(txn) = op else { return };
            for compare in &mut txn.compare {
                if let Some(TargetUnion::Version(version)) = &mut compare.target_union
                    && compare.result == CompareResult::Less as i32
                {
                    *version = version.saturating_add(1);
                }
            }
        },
    },
    Planted {
        name: "a nested transaction forgets its last operation",
        generator: Generator::few,
        bug: |op| {
            let Op::Txn(txn) = op else { return };
            for op in &mut txn.success {
                if let Some(Request::RequestTxn(nested)) = &mut op.request {
                    nested.success.pop();
                }
            }
        },
    },
    Planted {
        name: "a key is not given its lease",
        generator: Generator::few,
        bug: |op| {
            if let Op::Put(put) = op {
                put.lease = 0;
            }
        },
    },
    Planted {
        name: "a revoked lease stays",
        generator: Generator::few,
        bug: |op| {
            if let Op::Revoke(revoke) = op
                && revoke.id > 0
            {
                revoke.id = 0;
            }
        },
    },
    Planted {
        name: "a watcher that begins in the past misses a revision",
        generator: |seed| Generator::few(seed).watching(),
        bug: |op| {
            if let Some(create) = created(op)
                && create.start_revision > 0
            {
                create.start_revision = create.start_revision.saturating_add(1);
            }
        },
    },
    Planted {
        name: "filters are not looked at",
        generator: |seed| Generator::few(seed).watching(),
        bug: |op| {
            if let Some(create) = created(op) {
                create.filters.clear();
            }
        },
    },
    Planted {
        name: "nobody is told what was before",
        generator: |seed| Generator::few(seed).watching(),
        bug: |op| {
            if let Some(create) = created(op) {
                create.prev_kv = false;
            }
        },
    },
    Planted {
        name: "a watcher of all from a key on is one of that key",
        generator: |seed| Generator::few(seed).watching(),
        bug: |op| {
            if let Some(create) = created(op)
                && create.range_end == b"\0"[..]
            {
                create.range_end.clear();
            }
        },
    },
];

#[test]
fn bugs_that_are_planted_are_found() {
    for planted in BUGS {
        let (_, failure) = run((planted.generator)(1), OPS, planted.bug);
        assert!(failure.is_some(), "not found: {}", planted.name);
    }
}

#[test]
fn what_shows_a_bug_is_made_short() {
    let Planted { generator, bug, .. } = BUGS[7];
    let (ops, failure) = run(generator(1), OPS, bug);
    assert!(failure.is_some(), "the bug is found");
    let short = shorten(ops, bug, REPLAYS);
    assert!(short.len() <= ENOUGH, "{} requests are left: {short:?}", short.len());
}
