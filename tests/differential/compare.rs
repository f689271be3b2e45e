//! Whether two answers to one request are the same, field by field.
//!
//! Left aside: the ids of cluster and member, Raft terms, and the order of ties where etcd's own
//! order is arbitrary. etcd sorts with Go's `sort.Sort`, which is not stable, except that up to
//! [`STABLE_MAX`] elements are sorted by insertion; so ties are compared in order up to there, and
//! as sets beyond.

use crate::generate::{Op, Seen};
use crate::support::call::{Answer, Status};
use prost::Message;
use ringd::api::proto::etcdserverpb::range_request::SortTarget;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, HashResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, WatchResponse,
};
use ringd::api::proto::mvccpb::KeyValue;
use ringd::api::proto::v3electionpb::{
    CampaignResponse, LeaderResponse, ProclaimResponse, ResignResponse,
};
use ringd::api::proto::v3lockpb::{LockResponse, UnlockResponse};
use std::fmt::Debug;

/// The most elements of which ties keep their order when etcd sorts.
const STABLE_MAX: i64 = 12;

/// Seconds that a lease may have spent of its time since it was granted: more than any test takes.
const MOST_SPENT: i64 = 3600;
/// Seconds that a new leader adds: an election timeout, and what heartbeats may be late.
const EXTENSION: i64 = 1;

const KEY: i32 = SortTarget::Key as i32;
const VERSION: i32 = SortTarget::Version as i32;
const CREATE: i32 = SortTarget::Create as i32;
const MOD: i32 = SortTarget::Mod as i32;
const VALUE: i32 = SortTarget::Value as i32;

/// Compares all that came back for `op`; gives what is to be learned from it.
///
/// # Errors
///
/// What differs, and both answers.
pub(crate) fn answers(op: &Op, ours: &Answer, theirs: &Answer) -> Result<Seen, String> {
    transport(ours, theirs)?;
    match op {
        Op::Put(_) => messages::<PutResponse>(ours, theirs, PartialEq::eq),
        Op::Delete(_) => messages::<DeleteRangeResponse>(ours, theirs, PartialEq::eq),
        Op::Compact(_) => messages::<CompactionResponse>(ours, theirs, PartialEq::eq),
        Op::HashKv(_) => messages::<HashKvResponse>(ours, theirs, PartialEq::eq),
        // It is over all that a store holds, in the store's own way.
        Op::Hash => {
            messages::<HashResponse>(ours, theirs, |ours, theirs| ours.header == theirs.header)
        }
        Op::Txn(txn) => {
            messages::<TxnResponse>(ours, theirs, |ours, theirs| txns(txn, ours, theirs))
        }
        Op::Range(range) => {
            let equal = |ours: &_, theirs: &_| ranges(range, ours, theirs);
            let seen = messages::<RangeResponse>(ours, theirs, equal)?;
            let current = range.revision <= 0 && !range.keys_only && seen.revision.is_some();
            let kvs = match theirs.message::<RangeResponse>() {
                Ok(answer) if current => answer.kvs,
                Ok(_) | Err(_) => Vec::new(),
            };
            Ok(Seen { kvs, ..seen })
        }
        Op::Stream(_) => both(&streamed(ours)?, &streamed(theirs)?, PartialEq::eq),
        Op::Grant(_) => messages::<LeaseGrantResponse>(ours, theirs, PartialEq::eq),
        Op::Revoke(_) => messages::<LeaseRevokeResponse>(ours, theirs, PartialEq::eq),
        Op::TimeToLive(_) => messages::<LeaseTimeToLiveResponse>(ours, theirs, times_to_live),
        Op::Leases => messages::<LeaseLeasesResponse>(ours, theirs, leases),
        Op::Restart
        | Op::Brief(_)
        | Op::KeepAlive(_)
        | Op::Watch(..)
        | Op::HalfClose(_)
        | Op::GiveUp(_)
        | Op::Settle => unreachable!("it has no answer of its own"),
    }
}

/// Compares what is left of a lease: no more than was granted and a server that just began to lead
/// adds, and of a long one most; how much is up to each server's clock. Its keys are in no order.
pub(crate) fn times_to_live(
    ours: &LeaseTimeToLiveResponse,
    theirs: &LeaseTimeToLiveResponse,
) -> bool {
    let level = |answer: &LeaseTimeToLiveResponse| {
        let mut answer = answer.clone();
        answer.keys.sort();
        let least = (answer.granted_ttl - MOST_SPENT).max(0);
        let most = answer.granted_ttl + EXTENSION;
        if answer.granted_ttl != 0 && (least..=most).contains(&answer.ttl) {
            answer.ttl = answer.granted_ttl;
        }
        answer
    };
    level(ours) == level(theirs)
}

/// Compares the leases that there are, in no order.
fn leases(ours: &LeaseLeasesResponse, theirs: &LeaseLeasesResponse) -> bool {
    let level = |answer: &LeaseLeasesResponse| {
        let mut answer = answer.clone();
        answer.leases.sort_by_key(|lease| lease.id);
        answer
    };
    level(ours) == level(theirs)
}

/// Compares everything but the messages.
///
/// # Errors
///
/// What differs, and both answers.
pub(crate) fn transport(ours: &Answer, theirs: &Answer) -> Result<(), String> {
    let outside = |answer: &Answer| Answer { body: bytes::Bytes::new(), ..answer.clone() };
    same("status, headers or trailers", &outside(ours), &outside(theirs))
}

/// That two things are equal.
///
/// # Errors
///
/// What they are, and both.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, ours: &T, theirs: &T) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    Err(differ(what, ours, theirs))
}

fn differ<T: Debug>(what: &str, ours: &T, theirs: &T) -> String {
    let cut = |text: String| match text.char_indices().nth(6000) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text,
    };
    let (ours, theirs) = (cut(format!("{ours:?}")), cut(format!("{theirs:?}")));
    format!("{what} differ\n  ours:   {ours}\n  theirs: {theirs}")
}

/// An answer with a header, of which all but the revision may differ.
pub(crate) trait Headed: Message + Debug + Default + Clone + PartialEq {
    /// Its header.
    fn header(&mut self) -> &mut Option<ResponseHeader>;
}

macro_rules! headed {
    ($($message:ty),*) => {$(
        impl Headed for $message {
            fn header(&mut self) -> &mut Option<ResponseHeader> {
                &mut self.header
            }
        }
    )*};
}
headed!(PutResponse, DeleteRangeResponse, RangeResponse, TxnResponse, CompactionResponse);
headed!(HashKvResponse, HashResponse, WatchResponse, LeaseGrantResponse, LeaseRevokeResponse);
headed!(LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse);
headed!(ringd::api::proto::etcdserverpb::StatusResponse);
headed!(ringd::api::proto::etcdserverpb::MemberListResponse);
headed!(ringd::api::proto::etcdserverpb::AlarmResponse);
headed!(LockResponse, UnlockResponse, CampaignResponse, LeaderResponse, ProclaimResponse);
headed!(ResignResponse);

/// Takes out of a header what may differ, after seeing that it is there; gives the revision.
///
/// # Errors
///
/// If there is no header, or it names no cluster, member or term.
pub(crate) fn level<M: Headed>(message: &mut M) -> Result<i64, String> {
    let copy = message.clone();
    match message.header() {
        Some(header) if header.cluster_id != 0 && header.member_id != 0 => {
            if header.raft_term == 0 {
                return Err(format!("no Raft term in {copy:?}"));
            }
            let revision = header.revision;
            *header = ResponseHeader { revision, ..ResponseHeader::default() };
            Ok(revision)
        }
        Some(_) | None => Err(format!("no whole header in {copy:?}")),
    }
}

/// Compares the one message of a unary call, or the refusal.
///
/// # Errors
///
/// What differs, and both.
pub(crate) fn messages<M: Headed>(
    ours: &Answer,
    theirs: &Answer,
    equal: impl Fn(&M, &M) -> bool,
) -> Result<Seen, String> {
    both(&ours.message::<M>(), &theirs.message::<M>(), equal)
}

fn both<M: Headed>(
    ours: &Result<M, Status>,
    theirs: &Result<M, Status>,
    equal: impl Fn(&M, &M) -> bool,
) -> Result<Seen, String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
            let revision = Some(level(&mut theirs)?);
            level(&mut ours)?;
            if equal(&ours, &theirs) {
                return Ok(Seen { revision, ..Seen::default() });
            }
            Err(differ("messages", &ours, &theirs))
        }
        (Err(ours), Err(theirs)) => same("errors", ours, theirs).map(|()| Seen::default()),
        (ours, theirs) => Err(differ("answers", ours, theirs)),
    }
}

/// The chunks of a stream as the one answer that they are together.
///
/// # Errors
///
/// If the chunks are not what chunks are: pairs in all of them, the rest in the last.
pub(crate) fn streamed(answer: &Answer) -> Result<Result<RangeResponse, Status>, String> {
    let chunks: Vec<RangeStreamResponse> =
        answer.messages().map_err(|status| format!("no stream of chunks: {status:?}"))?;
    if let Err(status) = answer.status() {
        return Ok(Err(status));
    }
    let chunks: Option<Vec<_>> = chunks.into_iter().map(|chunk| chunk.range_response).collect();
    let mut chunks = chunks.ok_or("a chunk holds no answer")?;
    let mut whole = chunks.pop().ok_or("a stream ends well after no chunk")?;
    for chunk in &chunks {
        let bare = RangeResponse { kvs: chunk.kvs.clone(), ..RangeResponse::default() };
        if *chunk != bare || chunk.kvs.is_empty() {
            return Err(format!("a chunk before the last is not some pairs alone: {chunk:?}"));
        }
    }
    let last = std::mem::take(&mut whole.kvs);
    whole.kvs = chunks.into_iter().flat_map(|chunk| chunk.kvs).chain(last).collect();
    Ok(Ok(whole))
}

/// Compares what a transaction answered, knowing what each part was asked.
fn txns(request: &TxnRequest, ours: &TxnResponse, theirs: &TxnResponse) -> bool {
    if ours == theirs {
        return true;
    }
    let asked = if theirs.succeeded { &request.success } else { &request.failure };
    ours.header == theirs.header
        && ours.succeeded == theirs.succeeded
        && ours.responses.len() == theirs.responses.len()
        && asked.len() == theirs.responses.len()
        && asked.iter().zip(ours.responses.iter().zip(&theirs.responses)).all(part)
}

fn part((asked, (ours, theirs)): (&RequestOp, (&ResponseOp, &ResponseOp))) -> bool {
    match (&asked.request, &ours.response, &theirs.response) {
        (
            Some(Request::RequestRange(range)),
            Some(Response::ResponseRange(ours)),
            Some(Response::ResponseRange(theirs)),
        ) => ranges(range, ours, theirs),
        (
            Some(Request::RequestTxn(txn)),
            Some(Response::ResponseTxn(ours)),
            Some(Response::ResponseTxn(theirs)),
        ) => txns(txn, ours, theirs),
        _ => ours == theirs,
    }
}

/// What a range is sorted by.
fn sort_value(target: i32, kv: &KeyValue) -> Vec<u8> {
    match target {
        VERSION => kv.version.to_be_bytes().to_vec(),
        CREATE => kv.create_revision.to_be_bytes().to_vec(),
        MOD => kv.mod_revision.to_be_bytes().to_vec(),
        _ => kv.value.to_vec(),
    }
}

fn ranges(request: &RangeRequest, ours: &RangeResponse, theirs: &RangeResponse) -> bool {
    if ours == theirs {
        return true;
    }
    let mut sorted = theirs.count;
    if is_cut_before_sorting(request) && request.limit > 0 {
        sorted = sorted.min(request.limit.saturating_add(1));
    }
    let rest = |answer: &RangeResponse| RangeResponse { kvs: Vec::new(), ..answer.clone() };
    if sorted <= STABLE_MAX || rest(ours) != rest(theirs) {
        return false;
    }
    match (request.sort_target, request.keys_only) {
        // A key has its place alone.
        (KEY, _) => false,
        (VALUE, true) => same_keys(ours, theirs),
        _ => same_groups(request, ours, theirs),
    }
}

/// Whether etcd reads no more than the limit: with an order or bounds of revisions it reads all.
fn is_cut_before_sorting(request: &RangeRequest) -> bool {
    request.sort_order == 0
        && request.min_mod_revision == 0
        && request.max_mod_revision == 0
        && request.min_create_revision == 0
        && request.max_create_revision == 0
}

/// What is sorted by is the same throughout, and so are the pairs that have it in common.
fn same_groups(request: &RangeRequest, ours: &RangeResponse, theirs: &RangeResponse) -> bool {
    let groups = |kvs: &[KeyValue]| -> Vec<(Vec<u8>, Vec<KeyValue>)> {
        kvs.chunk_by(|a, b| {
            sort_value(request.sort_target, a) == sort_value(request.sort_target, b)
        })
        .map(|group| {
            let mut group = group.to_vec();
            group.sort_by(|a, b| a.key.cmp(&b.key));
            (sort_value(request.sort_target, &group[0]), group)
        })
        .collect()
    };
    let theirs_more = theirs.more;
    let (mut ours, mut theirs) = (groups(&ours.kvs), groups(&theirs.kvs));
    if theirs_more {
        // The limit may have cut through a tie, and which of it remains is arbitrary.
        let (Some(ours), Some(theirs)) = (ours.pop(), theirs.pop()) else { return false };
        if ours.0 != theirs.0 || ours.1.len() != theirs.1.len() {
            return false;
        }
    }
    ours == theirs
}

/// For values sorted by and then taken out: as many keys, the same ones if nothing was cut.
fn same_keys(ours: &RangeResponse, theirs: &RangeResponse) -> bool {
    let keys = |answer: &RangeResponse| {
        let mut kvs = answer.kvs.clone();
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    };
    ours.count == theirs.count
        && ours.more == theirs.more
        && ours.kvs.len() == theirs.kvs.len()
        && (theirs.more || keys(ours) == keys(theirs))
}
