//! Clients that put, get, delete and swap all at once, and write down what they are told; and one
//! that watches.

use crate::history::value_number;
use crate::history::{Change, Clock, Fate, Record, SIZE_SHIFT, key, number_of, value};
use crate::linear::{Act, Held};
use crate::support::call::{Client, Status};
use crate::support::dice::Dice;
use crate::support::server::PATIENCE;
use crate::support::{block_on, pause};
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb::KeyValue;
use ringd::api::proto::mvccpb::event::EventType;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::task::JoinSet;

/// Clients that change and read.
const CLIENTS: u64 = 6;
/// Keys: few, so that calls meet.
const KEYS: usize = 6;
/// How long a client waits for an answer; then it goes to another member, and never knows.
const ANSWER: Duration = Duration::from_millis(1500);
/// How long a watcher waits for anything before it goes to another member.
const QUIET: Duration = Duration::from_millis(700);
/// How long it waits before it dials another member, when one is not there.
const AGAIN: Duration = Duration::from_millis(20);
/// Refusals that say that nothing was done.
const REFUSALS: [&str; 1] = ["etcdserver: too many requests"];

/// How many calls have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ended: usize,
    acknowledged: usize,
}

/// What clients share.
#[derive(Debug, Default)]
struct Shared {
    clock: Clock,
    values: AtomicU64,
    /// KiB that each value has more.
    more_kib: AtomicU64,
    counts: Mutex<(Counts, bool)>,
    more: Condvar,
}

/// What clients and the watcher wrote down.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) records: Vec<Record>,
    pub(crate) changes: Vec<Change>,
}

/// Clients on a thread of their own.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Notes>>,
}

impl Load {
    /// Clients of the members on these ports.
    pub(crate) fn start(ports: Vec<u16>, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = Arc::clone(&shared);
        let thread = Some(spawn(move || block_on(run(ports, seed, clients))));
        Self { shared, thread }
    }

    /// Waits until so many calls more have ended, whatever became of them.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub(crate) fn ended(&self, more: usize) {
        self.wait(more, |counts| counts.ended);
    }

    /// Waits until so many changes more were acknowledged.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub(crate) fn acknowledged(&self, more: usize) {
        self.wait(more, |counts| counts.acknowledged);
    }

    fn wait(&self, more: usize, count: fn(Counts) -> usize) {
        let counts = self.shared.counts();
        let due = count(counts.0) + more;
        let waited =
            self.shared.more.wait_timeout_while(counts, PATIENCE, |now| count(now.0) < due);
        let (counts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let now = count(counts.0);
        drop(counts);
        assert!(now >= due, "clients wait for {} more after {PATIENCE:?}", due - now);
    }

    /// Makes each value so many KiB longer from now on.
    pub(crate) fn swell(&self, kib: u64) {
        self.shared.more_kib.store(kib, Ordering::Relaxed);
    }

    /// Lets the clients end; what they wrote down.
    ///
    /// # Panics
    ///
    /// If one of them has found something that cannot be.
    pub(crate) fn end(mut self) -> Notes {
        self.stop();
        let thread = self.thread.take().expect("it is taken once");
        thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
    }

    fn stop(&self) {
        self.shared.counts().1 = true;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "clients run beside the test")]
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

impl Shared {
    /// The counts, and whether it is over. Who has panicked with them was a test that has failed.
    fn counts(&self) -> MutexGuard<'_, (Counts, bool)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.counts().1
    }

    fn count(&self, is_acknowledged: bool) {
        let mut counts = self.counts();
        counts.0.ended += 1;
        counts.0.acknowledged += usize::from(is_acknowledged);
        drop(counts);
        self.more.notify_all();
    }
}

async fn run(ports: Vec<u16>, seed: u64, shared: Arc<Shared>) -> Notes {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let dice = Dice::new(seed.wrapping_mul(1000) + number);
        let desk = Desk::new(ports.clone(), usize::try_from(number).expect("small"));
        clients.spawn(client(desk, dice, Arc::clone(&shared)));
    }
    let watcher = tokio::spawn(watch(Desk::new(ports, 0), Arc::clone(&shared)));
    let records = clients.join_all().await.concat();
    Notes { records, changes: watcher.await.expect("a watcher does not panic") }
}

/// A connection to one of the members, and the way to the next.
struct Desk {
    ports: Vec<u16>,
    at: usize,
    connection: Option<Client>,
}

impl Desk {
    fn new(ports: Vec<u16>, at: usize) -> Self {
        Self { ports, at, connection: None }
    }

    /// A connection to the member, or to another one if there is none.
    async fn connection(&mut self) -> Option<Client> {
        if self.connection.is_none() {
            let port = self.ports[self.at % self.ports.len()];
            let dialled = tokio::time::timeout(ANSWER, Client::connect(port)).await;
            self.connection = dialled.ok().and_then(Result::ok);
            if self.connection.is_none() {
                self.leave();
                pause(AGAIN).await;
            }
        }
        self.connection.clone()
    }

    /// Asks another member next time.
    fn leave(&mut self) {
        self.connection = None;
        self.at += 1;
    }
}

async fn client(mut desk: Desk, mut dice: Dice, shared: Arc<Shared>) -> Vec<Record> {
    let (mut records, mut last) = (Vec::new(), vec![None; KEYS]);
    while !shared.is_over() {
        // Now and then to another member, so that each is asked for everything.
        if dice.chance(2) {
            desk.leave();
        }
        let Some(connection) = desk.connection().await else { continue };
        let key = dice.index(KEYS);
        let mut record = begin(key, last[key], &mut dice, &shared);
        let outcome = tokio::time::timeout(ANSWER, ask(&connection, &mut record)).await;
        record.ended = shared.clock.now();
        let status = match outcome {
            Ok(Ok(revision)) => {
                record.fate = Fate::Told(revision);
                None
            }
            Ok(Err(status)) => Some(status),
            Err(_) => Some(Status { code: -1, message: "no answer".to_owned() }),
        };
        if let Some(status) = status {
            let is_refused = REFUSALS.contains(&status.message.as_str());
            record.fate = if is_refused { Fate::Refused } else { Fate::Unknown };
            desk.leave();
        }
        let is_told = matches!(record.fate, Fate::Told(_));
        if is_told {
            last[key] = seen(record.act);
        }
        let is_change = !matches!(record.act, Act::Read { .. });
        shared.count(is_told && is_change);
        records.push(record);
    }
    records
}

/// What a key holds after a call, as far as its client knows.
fn seen(act: Act) -> Held {
    match act {
        Act::Read { seen } => seen,
        Act::Put { value, .. } | Act::Swap { value, otherwise: None, .. } => Some(value),
        Act::Delete { .. } => None,
        Act::Swap { otherwise: Some(seen), .. } => seen,
    }
}

/// A call that begins now.
fn begin(key: usize, last: Held, dice: &mut Dice, shared: &Shared) -> Record {
    let mut is_serializable = false;
    let kib = shared.more_kib.load(Ordering::Relaxed);
    let value = || shared.values.fetch_add(1, Ordering::Relaxed) | (kib << SIZE_SHIFT);
    let act = match dice.below(20) {
        0..6 => Act::Put { value: value(), before: None },
        6..11 => Act::Swap { expected: last, value: value(), otherwise: None },
        11..13 => Act::Delete { before: None },
        13..17 => Act::Read { seen: None },
        _ => {
            is_serializable = true;
            Act::Read { seen: None }
        }
    };
    let (began, fate) = (shared.clock.now(), Fate::Unknown);
    Record { key, act, is_serializable, seen_at: 0, fate, began, ended: 0 }
}

/// Asks a member; what was seen is in the record then, and the revision told.
async fn ask(client: &Client, record: &mut Record) -> Result<i64, Status> {
    let name = key(record.key);
    let held = |kv: Option<&KeyValue>| kv.map(|kv| value_number(&kv.value));
    match &mut record.act {
        Act::Read { seen } => {
            let serializable = record.is_serializable;
            let get = pb::RangeRequest { key: name, serializable, ..pb::RangeRequest::default() };
            let answer: pb::RangeResponse = client.unary("/etcdserverpb.KV/Range", &get).await?;
            *seen = held(answer.kvs.first());
            record.seen_at = answer.kvs.first().map_or(0, |kv| kv.mod_revision);
            Ok(revision(answer.header))
        }
        Act::Put { value: number, before } => {
            let (value, prev_kv) = (value(*number), true);
            let put = pb::PutRequest { key: name, value, prev_kv, ..pb::PutRequest::default() };
            let answer: pb::PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await?;
            *before = held(answer.prev_kv.as_ref());
            Ok(revision(answer.header))
        }
        Act::Delete { before } => {
            let delete = pb::DeleteRangeRequest {
                key: name,
                prev_kv: true,
                ..pb::DeleteRangeRequest::default()
            };
            let path = "/etcdserverpb.KV/DeleteRange";
            let answer: pb::DeleteRangeResponse = client.unary(path, &delete).await?;
            *before = held(answer.prev_kvs.first());
            assert_eq!(i64::from(before.is_some()), answer.deleted, "what was deleted was there");
            Ok(revision(answer.header))
        }
        Act::Swap { expected, value, otherwise } => {
            let txn = swap(name, *expected, *value);
            let answer: pb::TxnResponse = client.unary("/etcdserverpb.KV/Txn", &txn).await?;
            *otherwise = (!answer.succeeded).then(|| {
                use pb::response_op::Response;
                match answer.responses.first().and_then(|op| op.response.as_ref()) {
                    Some(Response::ResponseRange(range)) => held(range.kvs.first()),
                    other => panic!("a read was asked for, not {other:?}"),
                }
            });
            Ok(revision(answer.header))
        }
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// Puts a value if the key holds what is expected, else reads it.
fn swap(key: bytes::Bytes, expected: Held, number: u64) -> pb::TxnRequest {
    use pb::compare::{CompareTarget, TargetUnion};
    use pb::request_op::Request;
    let (target, union) = match expected {
        Some(number) => (CompareTarget::Value, TargetUnion::Value(value(number))),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = pb::Compare {
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..pb::Compare::default()
    };
    let put = pb::PutRequest { key: key.clone(), value: value(number), ..Default::default() };
    let get = pb::RangeRequest { key, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![op(Request::RequestRange(get))],
    }
}

/// Watches all keys from the beginning, on one member after the other; what it is told.
async fn watch(mut desk: Desk, shared: Arc<Shared>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while !shared.is_over() {
        let Some(connection) = desk.connection().await else { continue };
        let next = changes.last().map_or(1, |(revision, ..)| revision + 1);
        let (more, _) = watched(&connection, next, QUIET, |_| shared.is_over()).await;
        changes.extend(more);
        desk.leave();
    }
    changes
}

/// All changes up to a revision, as one member tells them.
///
/// # Panics
///
/// If it does not tell them all.
pub(crate) async fn changes(client: &Client, last: i64) -> Vec<Change> {
    let (mut changes, why) = watched(client, 1, PATIENCE, |told| told >= last).await;
    changes.retain(|(revision, ..)| *revision <= last);
    let told = changes.last().map_or(0, |(revision, ..)| *revision);
    assert_eq!(told, last, "a watch from the beginning tells all, but: {why}");
    changes
}

/// What a watch from a revision on tells until it is enough, silent, or ends, and why.
async fn watched(
    client: &Client,
    start_revision: i64,
    quiet: Duration,
    is_enough: impl Fn(i64) -> bool,
) -> (Vec<Change>, String) {
    use pb::watch_request::RequestUnion;
    let mut changes = Vec::new();
    let create = pb::WatchCreateRequest {
        key: "k/".into(),
        range_end: "k0".into(),
        start_revision,
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut stream = match client.open("/etcdserverpb.Watch/Watch").await {
        Ok(stream) => stream,
        Err(why) => return (changes, why),
    };
    if let Err(why) = stream.send(&request) {
        return (changes, why);
    }
    loop {
        let told = match stream.next_within::<pb::WatchResponse>(quiet).await {
            Ok(Some(told)) if told.canceled => return (changes, told.cancel_reason),
            Ok(Some(told)) => told,
            Ok(None) => return (changes, "it is silent".to_owned()),
            Err(answer) => return (changes, format!("{answer:?}")),
        };
        for event in told.events {
            let is_put = event.r#type() == EventType::Put;
            let kv = event.kv.expect("an event has a pair");
            let held = is_put.then(|| value_number(&kv.value));
            changes.push((kv.mod_revision, number_of(&kv.key), held));
        }
        if is_enough(changes.last().map_or(start_revision - 1, |(revision, ..)| *revision)) {
            return (changes, "it is enough".to_owned());
        }
    }
}
