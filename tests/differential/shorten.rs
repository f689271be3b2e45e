//! From requests that both servers answer differently, to fewer that they do.

use crate::bugs::Bug;
use crate::generate::Op;
use crate::pair::Pair;
use crate::support::block_on;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{RequestOp, TxnRequest};

/// Characters that are shown of a request.
const LINE_MAX: usize = 4000;

/// Leaves out what the difference in the last request does not need: requests before it, then parts
/// of it, then requests again; each with so many fresh pairs of servers, at most.
pub(crate) fn shorten(ops: Vec<Op>, bug: Bug, replays_max: usize) -> Vec<Op> {
    let ops = with_fewer_requests(with_short_values(ops, bug), bug, replays_max);
    with_fewer_requests(with_fewer_parts(ops, bug, replays_max), bug, replays_max)
}

/// Cuts all values, if the difference does not need them.
fn with_short_values(ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let short = ops.iter().cloned().map(|mut op| {
        match &mut op {
            Op::Put(put) => put.value.truncate(4),
            Op::Txn(txn) => cut_values(txn),
            Op::Range(_)
            | Op::Delete(_)
            | Op::Compact(_)
            | Op::Stream(_)
            | Op::HashKv(_)
            | Op::Hash
            | Op::Grant(_)
            | Op::Revoke(_)
            | Op::TimeToLive(_)
            | Op::Leases
            | Op::Brief(_)
            | Op::KeepAlive(_)
            | Op::Watch(..)
            | Op::HalfClose(_)
            | Op::GiveUp(_)
            | Op::Settle
            | Op::Restart => {}
        }
        op
    });
    let short: Vec<_> = short.collect();
    if differs(&short, bug) == Some(ops.len() - 1) { short } else { ops }
}

fn cut_values(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => put.value.truncate(4),
            Some(Request::RequestTxn(txn)) => cut_values(txn),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

/// Leaves out all requests before the last, halves of them, quarters, ….
fn with_fewer_requests(mut ops: Vec<Op>, bug: Bug, replays_max: usize) -> Vec<Op> {
    let mut replays = 0;
    let mut size = ops.len() - 1;
    while size > 0 {
        let mut end = ops.len() - 1;
        while end > 0 && replays < replays_max {
            replays += 1;
            let start = end.saturating_sub(size);
            let fewer = [&ops[..start], &ops[end..]].concat();
            if let Some(last) = differs(&fewer, bug) {
                ops = fewer[..=last].to_vec();
            }
            end = start.min(ops.len() - 1);
        }
        size /= 2;
    }
    ops
}

/// Leaves out parts of the last request, if it is a transaction.
fn with_fewer_parts(mut ops: Vec<Op>, bug: Bug, replays_max: usize) -> Vec<Op> {
    let mut replays = 0;
    while let Some(Op::Txn(txn)) = ops.last() {
        let last = ops.len() - 1;
        let smaller = fewer_parts(txn).into_iter().find_map(|txn| {
            replays += 1;
            let fewer = [&ops[..last], &[Op::Txn(txn)]].concat();
            let differs = replays < replays_max && differs(&fewer, bug) == Some(last);
            differs.then_some(fewer)
        });
        match smaller {
            Some(fewer) => ops = fewer,
            None => break,
        }
    }
    ops
}

/// A transaction without each of its parts in turn, and of the parts of its parts.
fn fewer_parts(txn: &TxnRequest) -> Vec<TxnRequest> {
    let mut all = Vec::new();
    for at in 0..txn.compare.len() {
        let mut fewer = txn.clone();
        fewer.compare.remove(at);
        all.push(fewer);
    }
    let lists: [fn(&mut TxnRequest) -> &mut Vec<RequestOp>; 2] =
        [|txn| &mut txn.success, |txn| &mut txn.failure];
    for list in lists {
        for at in 0..list(&mut txn.clone()).len() {
            let mut fewer = txn.clone();
            let op = list(&mut fewer).remove(at);
            all.push(fewer);
            let Some(Request::RequestTxn(nested)) = op.request else { continue };
            all.extend(fewer_parts(&nested).into_iter().map(|nested| {
                let mut fewer = txn.clone();
                list(&mut fewer)[at].request = Some(Request::RequestTxn(nested));
                fewer
            }));
        }
    }
    all
}

/// Requests in few words, one in a line.
pub(crate) fn listed(ops: &[Op]) -> String {
    let mut text = String::new();
    for op in ops {
        let line = format!("  {op:?}");
        match line.char_indices().nth(LINE_MAX) {
            Some((at, _)) => text += &format!("{} …\n", &line[..at]),
            None => text += &format!("{line}\n"),
        }
    }
    for field in [
        "value",
        "lease",
        "prev_kv",
        "ignore_value",
        "ignore_lease",
        "range_end",
        "limit",
        "revision",
        "sort_order",
        "sort_target",
        "serializable",
        "keys_only",
        "count_only",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
        "physical",
        "start_revision",
        "progress_notify",
        "filters",
        "watch_id",
        "fragment",
        "compare",
        "success",
        "failure",
    ] {
        for zero in ["0", "false", "b\"\"", "None", "Key", "[]"] {
            text = text.replace(&format!(" {field}: {zero},"), "");
            text = text.replace(&format!(", {field}: {zero} }}"), " }");
        }
    }
    text
}

/// The first of `ops` that fresh servers answer differently.
fn differs(ops: &[Op], bug: Bug) -> Option<usize> {
    block_on(async {
        let mut pair = Pair::start().await;
        for (number, op) in ops.iter().enumerate() {
            if pair.compare_with(op, bug).await.is_err() {
                return Some(number);
            }
        }
        None
    })
}
