//! Random requests: few keys that are hard to tell apart, every option, and nonsense as well.

use crate::support::dice::Dice;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchRequest,
};
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod lease;
mod txn;
mod watch;

/// Bytes that end up next to each other in order: the lowest, two letters, the highest.
const ALPHABET: [u8; 4] = [0x00, b'a', b'b', 0xff];
/// All values are slices of so many bytes, so that a million requests fit in memory.
const VALUES_SIZE: usize = 64 << 10;
/// One request of so many is a restart of the server under test.
const RESTARTS: u64 = 2500;

/// One request, or another thing that is done to the servers.
#[derive(Clone, PartialEq)]
pub(crate) enum Op {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    /// A range as a stream of chunks.
    Stream(RangeRequest),
    HashKv(HashKvRequest),
    /// Hashes of all that there is.
    Hash,
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    /// A lease that may expire at any time, from its grant to its end.
    Brief(LeaseGrantRequest),
    /// Leases are kept alive over one stream.
    KeepAlive(Vec<i64>),
    /// A message on the watch stream of a number.
    Watch(usize, WatchRequest),
    /// Nothing more will be sent on a watch stream.
    HalfClose(usize),
    /// A watch stream is reset.
    GiveUp(usize),
    /// What watchers were told is compared.
    Settle,
    /// The server under test is killed and started again; its hashes must be what they were.
    Restart,
}

impl Op {
    /// The path of its method.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Put(_) => "/etcdserverpb.KV/Put",
            Self::Range(_) => "/etcdserverpb.KV/Range",
            Self::Delete(_) => "/etcdserverpb.KV/DeleteRange",
            Self::Txn(_) => "/etcdserverpb.KV/Txn",
            Self::Compact(_) => "/etcdserverpb.KV/Compact",
            Self::Stream(_) => "/etcdserverpb.KV/RangeStream",
            Self::HashKv(_) => "/etcdserverpb.Maintenance/HashKV",
            Self::Hash => "/etcdserverpb.Maintenance/Hash",
            Self::Grant(_) => "/etcdserverpb.Lease/LeaseGrant",
            Self::Revoke(_) => "/etcdserverpb.Lease/LeaseRevoke",
            Self::TimeToLive(_) => "/etcdserverpb.Lease/LeaseTimeToLive",
            Self::Leases => "/etcdserverpb.Lease/LeaseLeases",
            Self::Brief(_)
            | Self::KeepAlive(_)
            | Self::Watch(..)
            | Self::HalfClose(_)
            | Self::GiveUp(_)
            | Self::Settle
            | Self::Restart => panic!("it is no unary method"),
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(put) if put.value.len() > 64 => {
                write!(f, "value of {} bytes in ", put.value.len())?;
                PutRequest { value: put.value.slice(..64), ..put.clone() }.fmt(f)
            }
            Self::Put(put) => put.fmt(f),
            Self::Range(range) => range.fmt(f),
            Self::Delete(delete) => delete.fmt(f),
            Self::Txn(txn) => txn.fmt(f),
            Self::Compact(compact) => compact.fmt(f),
            Self::Stream(range) => write!(f, "Stream of {range:?}"),
            Self::HashKv(hash) => hash.fmt(f),
            Self::Hash => f.write_str("Hash"),
            Self::Grant(grant) => grant.fmt(f),
            Self::Revoke(revoke) => revoke.fmt(f),
            Self::TimeToLive(request) => request.fmt(f),
            Self::Leases => f.write_str("Leases"),
            Self::Brief(grant) => write!(f, "Brief {grant:?}"),
            Self::KeepAlive(ids) => write!(f, "KeepAlive {ids:?}"),
            Self::Watch(number, request) => {
                write!(f, "Watch {number}: ")?;
                watch::union(request).fmt(f)
            }
            Self::HalfClose(number) => write!(f, "HalfClose {number}"),
            Self::GiveUp(number) => write!(f, "GiveUp {number}"),
            Self::Settle => f.write_str("Settle"),
            Self::Restart => f.write_str("Restart"),
        }
    }
}

/// What an answer tells a generator about the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The store's revision.
    pub(crate) revision: Option<i64>,
    /// Pairs as they are now.
    pub(crate) kvs: Vec<KeyValue>,
    /// The id of a watcher that was created.
    pub(crate) created: Option<i64>,
}

/// Makes requests from a seed, and from what the answers before showed.
#[derive(Debug)]
pub(crate) struct Generator {
    dice: Dice,
    keys: Vec<Bytes>,
    values: Bytes,
    /// The store's revision as last seen, so that some requests ask for ones that exist.
    revision: i64,
    /// The last revision that was compacted, 0 if none.
    floor: i64,
    /// Every revision that was compacted.
    floors: BTreeSet<i64>,
    /// Pairs as last seen, so that some comparisons hold.
    known: BTreeMap<Bytes, KeyValue>,
    /// Leases that there are.
    leases: BTreeSet<i64>,
    /// The watch streams, if there are to be any.
    streams: Vec<watch::Stream>,
}

impl Generator {
    /// Over six keys, so that each has a long history of lives and deaths.
    pub(crate) fn few(seed: u64) -> Self {
        let keys = [&b"a"[..], b"a\0", b"aa", b"b", b"\xff", b"\xff\xff"];
        Self::over(keys.map(<[u8]>::to_vec).into(), Dice::new(seed))
    }

    /// Over all keys of up to three bytes of [`ALPHABET`], the empty one included.
    pub(crate) fn small(seed: u64) -> Self {
        let mut keys = vec![Vec::new()];
        for from in [0, 1, 5] {
            for at in from..keys.len() {
                let longer = ALPHABET.map(|byte| [keys[at].as_slice(), &[byte]].concat());
                keys.extend(longer);
            }
        }
        Self::over(keys, Dice::new(seed))
    }

    /// Over a thousand keys as applications have them, and some of random bytes.
    pub(crate) fn large(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut keys: Vec<_> =
            (0..1000).map(|n| format!("/registry/pods/{:03}/{n}", n % 17).into_bytes()).collect();
        keys.extend((0..100).map(|_| {
            let len = dice.pick(&[1, 4, 16, 300, 3000]);
            dice.bytes(len, &all)
        }));
        Self::over(keys, dice)
    }

    fn over(keys: Vec<Vec<u8>>, mut dice: Dice) -> Self {
        Self {
            keys: keys.into_iter().map(Bytes::from).collect(),
            values: dice.bytes(VALUES_SIZE, b"xyz\0\xff").into(),
            dice,
            revision: 1,
            floor: 0,
            floors: BTreeSet::new(),
            known: BTreeMap::new(),
            leases: BTreeSet::new(),
            streams: Vec::new(),
        }
    }

    /// With watchers besides.
    pub(crate) fn watching(mut self) -> Self {
        self.streams = watch::streams();
        self
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Op {
        if self.dice.below(RESTARTS) == 0 {
            return Op::Restart;
        }
        if !self.streams.is_empty() && self.dice.chance(30) {
            return self.watch();
        }
        match self.dice.below(1000) {
            0..280 => Op::Put(self.put()),
            280..340 => Op::Delete(self.delete()),
            340..540 => Op::Txn(self.txn()),
            540..600 => self.lease(),
            600..660 => Op::Stream(self.stream()),
            660..690 => Op::HashKv(HashKvRequest { revision: self.hash_revision() }),
            690..695 => Op::Hash,
            695..703 => Op::Compact(self.compact()),
            _ => Op::Range(self.range()),
        }
    }

    /// Takes in what the answer to `op` showed.
    pub(crate) fn learn(&mut self, op: &Op, seen: Seen) {
        self.learn_watch(op, seen.created);
        let Some(revision) = seen.revision else { return };
        let before = std::mem::replace(&mut self.revision, revision);
        match op {
            Op::Put(put) => {
                let old = self.known.remove(&put.key);
                let lease = match &old {
                    Some(old) if put.ignore_lease => old.lease,
                    Some(_) | None => put.lease,
                };
                let kv = KeyValue {
                    key: put.key.clone(),
                    value: put.value.clone(),
                    create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                    mod_revision: revision,
                    version: old.map_or(1, |old| old.version + 1),
                    lease,
                };
                self.known.insert(put.key.clone(), kv);
            }
            Op::Delete(delete) if revision > before => {
                let end = &delete.range_end;
                self.known.retain(|key, _| {
                    *key < delete.key
                        || if end.is_empty() { *key != delete.key } else { key >= end }
                });
            }
            Op::Compact(compact) => {
                self.floor = compact.revision;
                self.floors.insert(compact.revision);
            }
            Op::Grant(grant) => drop(self.leases.insert(grant.id)),
            Op::Revoke(revoke) => {
                self.leases.remove(&revoke.id);
                self.known.retain(|_, kv| kv.lease != revoke.id);
            }
            Op::Delete(_)
            | Op::Range(_)
            | Op::Txn(_)
            | Op::Stream(_)
            | Op::HashKv(_)
            | Op::Hash
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
        self.known.extend(seen.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
    }

    /// One that lets most of history live, so that there is a past to read.
    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.dice.below(10) {
            0..2 => self.some_revision(100),
            2 => 0,
            3 => self.revision,
            4 => self.floor.max(1),
            _ => self.past(),
        };
        // Once 0 is compacted, etcd gives the hash of then for good.
        let revision = if revision == 0 && self.floor == 0 { 1 } else { revision };
        CompactionRequest { revision, physical: self.dice.chance(40) }
    }

    /// etcd remembers the hash at a revision that it has compacted, as it was just before, once
    /// that is done, which may take it a while; so those revisions are not asked for.
    fn hash_revision(&mut self) -> i64 {
        let revision = self.some_revision(60);
        if self.floors.contains(&revision) { 0 } else { revision }
    }

    /// Sometimes one with an order or a filter, which is refused. Not with a target but no order,
    /// which etcd takes, and then leaves out rows or sends them twice.
    fn stream(&mut self) -> RangeRequest {
        let mut range = self.range();
        if range.sort_order == 0 && (0..5).contains(&range.sort_target) {
            range.sort_target = 0;
        }
        if self.dice.chance(10) {
            return range;
        }
        RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.dice.chance(8);
        let ignore_lease = self.dice.chance(8);
        let has_value = if ignore_value { self.dice.chance(20) } else { true };
        PutRequest {
            key: self.key(),
            value: if has_value { self.value() } else { Bytes::new() },
            lease: if self.dice.chance(30) { self.lease_id() } else { 0 },
            prev_kv: self.dice.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.dice.chance(70) { Bytes::new() } else { self.range_end(&key) };
        DeleteRangeRequest { key, range_end, prev_kv: self.dice.chance(40) }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut range = RangeRequest {
            key,
            range_end,
            limit: self.limit(),
            revision: self.some_revision(40),
            serializable: self.dice.chance(20),
            keys_only: self.dice.chance(15),
            count_only: self.dice.chance(10),
            ..RangeRequest::default()
        };
        if self.dice.chance(40) {
            range.sort_order = self.dice.pick(&[0, 1, 2, 1, 2, 2]);
            range.sort_target = self.dice.pick(&[0, 1, 2, 3, 4]);
        }
        if self.dice.chance(3) {
            range.sort_order = self.dice.pick(&[3, -1, i32::MAX, i32::MIN]);
        }
        if self.dice.chance(3) {
            range.sort_target = self.dice.pick(&[5, -1, i32::MAX, i32::MIN]);
        }
        if self.dice.chance(20) {
            range.min_mod_revision = self.some_revision(50);
            range.max_mod_revision = self.some_revision(50);
            range.min_create_revision = self.some_revision(50);
            range.max_create_revision = self.some_revision(50);
        }
        range
    }

    fn key(&mut self) -> Bytes {
        let keys = &self.keys;
        self.dice.pick(keys)
    }

    /// The end of a range from `key`: none, a prefix's, everything's, any key, one below.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.dice.below(10) {
            0..3 => Bytes::new(),
            3..5 => prefix_end(key),
            5 => Bytes::from_static(b"\0"),
            6 => key.clone(),
            7 => [key.as_ref(), b"\0"].concat().into(),
            _ => self.key(),
        }
    }

    fn limit(&mut self) -> i64 {
        if self.dice.chance(60) {
            return 0;
        }
        let some = i64::try_from(self.dice.below(50)).expect("below 50");
        self.dice.pick(&[1, 2, 3, 10, some, some, -1, i64::MIN, i64::MAX, i64::MAX - 1])
    }

    /// 0 but for `percent` of a hundred; then now, past, compacted, future or impossible.
    fn some_revision(&mut self, percent: u64) -> i64 {
        if !self.dice.chance(percent) {
            return 0;
        }
        let (now, floor) = (self.revision, self.floor);
        let (past, near) = (self.past(), (now - self.small_number()).max(1));
        let gone = self.dice.pick(&[1, floor / 2, floor - 1, floor, floor + 1]);
        let odd = self.dice.pick(&[now + 1, now + 1, now + 1000, -1, i64::MIN, i64::MAX]);
        self.dice.pick(&[past, past, past, past, past, near, near, near, now, now, gone, odd])
    }

    /// A revision that exists and is not compacted.
    fn past(&mut self) -> i64 {
        let from = self.floor.max(1);
        let count = u64::try_from(self.revision - from).expect("what is compacted was there");
        from + i64::try_from(self.dice.below(count + 1)).expect("below a revision")
    }

    fn small_number(&mut self) -> i64 {
        i64::try_from(self.dice.below(20)).expect("below 20")
    }

    /// Often one of few, so that sorting by value has ties; seldom long.
    fn value(&mut self) -> Bytes {
        let len = match self.dice.below(200) {
            0..30 => 0,
            30..140 => 1,
            140..198 => self.dice.index(300),
            _ => self.dice.index(50_000),
        };
        let at = self.dice.index(VALUES_SIZE - len);
        self.values.slice(at..at + len)
    }
}

/// The first key after all that start with `prefix`; `\0`, which means all, if there is none.
fn prefix_end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == 0xff).is_some() {}
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end.into()
}
