//! A keyspace so simple that it is right: the list of everything that ever happened.
//!
//! Written from etcd's rules, without a look at the server's own: every question is answered by
//! walking the list from its beginning. What a write must be answered is the message itself.

use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The status of a refusal: code and text.
pub(crate) type Refused = (u32, &'static str);

pub(crate) const LEASE_NOT_FOUND: Refused = (5, "etcdserver: requested lease not found");
pub(crate) const LEASE_EXISTS: Refused = (9, "etcdserver: lease already exists");
pub(crate) const NOT_FOUND: Refused = (3, "etcdserver: key not found");
pub(crate) const FUTURE: Refused = (11, "etcdserver: mvcc: required revision is a future revision");
pub(crate) const COMPACTED: Refused =
    (11, "etcdserver: mvcc: required revision has been compacted");

/// A range of keys as etcd writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) key: Vec<u8>,
    /// Empty: the one key. One zero byte: no end.
    pub(crate) end: Vec<u8>,
}

impl Keys {
    pub(crate) fn one(key: &[u8]) -> Self {
        Self { key: key.to_vec(), end: Vec::new() }
    }

    /// Every key there is.
    pub(crate) fn all() -> Self {
        Self { key: vec![0], end: vec![0] }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        prev_kv: bool,
        ignore_value: bool,
        lease: i64,
        ignore_lease: bool,
    },
    Delete {
        keys: Keys,
        prev_kv: bool,
    },
    Range(Question),
    /// A range whose answer comes in many messages.
    Stream(Question),
    Txn(Txn),
    Compact {
        revision: i64,
        physical: bool,
    },
    HashKv {
        revision: i64,
    },
    Defragment,
    /// Of a lease that there is, or of one that there never was.
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    TimeToLive {
        id: i64,
        keys: bool,
    },
    /// Nobody's request: the server's own, once a lease has ended.
    Expire {
        id: i64,
    },
}

/// A read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    pub(crate) keys: Keys,
    pub(crate) revision: i64,
    pub(crate) limit: i64,
    pub(crate) serializable: bool,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
    pub(crate) descending: bool,
    /// Only rows last changed at or after this, if it is not 0.
    pub(crate) modified_min: i64,
}

impl Default for Keys {
    fn default() -> Self {
        Self::all()
    }
}

/// Comparisons, and what is done if they all hold, and if not.
#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) compares: Vec<Compare>,
    pub(crate) success: Vec<Op>,
    pub(crate) failure: Vec<Op>,
}

/// One comparison of every key in a range.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub(crate) keys: Keys,
    /// As in the protocol: equal, greater, less, not equal.
    pub(crate) sign: i32,
    pub(crate) with: With,
}

/// What of a key is compared, and with what.
#[derive(Clone, Debug)]
pub(crate) enum With {
    Version(i64),
    Created(i64),
    Modified(i64),
    Lease(i64),
    Value(Vec<u8>),
}

impl Op {
    /// Whether it goes through the log.
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Delete { .. } | Self::Compact { .. } => true,
            Self::Grant { .. } | Self::Revoke { .. } | Self::Expire { .. } => true,
            Self::Range(_) | Self::Stream(_) | Self::HashKv { .. } | Self::Defragment => false,
            Self::TimeToLive { .. } => false,
            Self::Txn(txn) => !txn.is_read_only(),
        }
    }
}

impl Txn {
    /// Whether it is served as a read: there is nothing but ranges in it.
    fn is_read_only(&self) -> bool {
        self.ops().all(|op| matches!(op, Op::Range(_)))
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.success.iter().chain(&self.failure)
    }

    /// What it reads, in either branch.
    pub(crate) fn questions(&self) -> impl Iterator<Item = &Question> {
        self.ops().filter_map(|op| match op {
            Op::Range(question) => Some(question),
            Op::Put { .. }
            | Op::Delete { .. }
            | Op::Stream(_)
            | Op::Txn(_)
            | Op::Compact { .. }
            | Op::HashKv { .. }
            | Op::Defragment
            | Op::Grant { .. }
            | Op::Revoke { .. }
            | Op::TimeToLive { .. }
            | Op::Expire { .. } => None,
        })
    }

    /// The keys of all puts and the ranges of all deletes in it, nested ones too.
    pub(crate) fn changes<'a>(&'a self, puts: &mut Vec<&'a [u8]>, deletes: &mut Vec<&'a Keys>) {
        for op in self.ops() {
            match op {
                Op::Put { key, .. } => puts.push(key),
                Op::Delete { keys, .. } => deletes.push(keys),
                Op::Txn(txn) => txn.changes(puts, deletes),
                Op::Range(_)
                | Op::Stream(_)
                | Op::Compact { .. }
                | Op::HashKv { .. }
                | Op::Defragment => {}
                Op::Grant { .. }
                | Op::Revoke { .. }
                | Op::TimeToLive { .. }
                | Op::Expire { .. } => {}
            }
        }
    }
}

/// A key with what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl Row<'_> {
    /// The message of it.
    pub(crate) fn pair(&self) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// What a write must be answered; the outermost header is left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Range(pb::RangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
}

/// What a write has done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effect {
    /// The keyspace's revision after it.
    pub(crate) revision: i64,
    /// What is compacted after it.
    pub(crate) floor: i64,
    /// The leases after it.
    pub(crate) leases: Rc<Leases>,
    pub(crate) told: Result<Told, Refused>,
}

/// One change: at which revision, which key, and its new value and lease if it is not deleted.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) lease: i64,
}

/// Seconds that each lease was granted, by id.
pub(crate) type Leases = BTreeMap<i64, i64>;

/// What stands for a floor before the first compaction.
pub(crate) const NO_FLOOR: i64 = -1;

/// Everything that ever happened.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    events: Vec<Event>,
    /// The revision below which nothing is read any more.
    floor: i64,
    leases: Rc<Leases>,
    /// Seconds of the shortest lease.
    ttl_min: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Model {
    /// Nothing has happened, and no lease is shorter than so many seconds.
    pub(crate) fn new(ttl_min: i64) -> Self {
        Self { events: Vec::new(), floor: NO_FLOOR, leases: Rc::default(), ttl_min }
    }

    /// Nothing has happened.
    pub(crate) fn begin_again(&mut self) {
        *self = Self::new(self.ttl_min);
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> i64 {
        self.events.last().map_or(1, |event| event.revision)
    }

    /// The revision that was compacted last, or [`NO_FLOOR`].
    pub(crate) fn floor(&self) -> i64 {
        self.floor
    }

    /// The leases.
    pub(crate) fn leases(&self) -> &Rc<Leases> {
        &self.leases
    }

    /// The keys of a lease at a revision, ascending.
    pub(crate) fn keys_of(&self, id: i64, revision: i64) -> Vec<Vec<u8>> {
        let rows = self.rows(&Keys::all(), revision);
        rows.iter().filter(|row| row.lease == id).map(|row| row.key.to_vec()).collect()
    }

    /// All changes, in order.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// The rows of a range at a revision, by key.
    pub(crate) fn rows(&self, keys: &Keys, revision: i64) -> Vec<Row<'_>> {
        let mut rows: BTreeMap<&[u8], Row<'_>> = BTreeMap::new();
        for event in self.events.iter().take_while(|event| event.revision <= revision) {
            if !keys.contains(&event.key) {
                continue;
            }
            let Some(value) = &event.value else {
                rows.remove(&event.key[..]);
                continue;
            };
            let (key, modified) = (&event.key[..], event.revision);
            let row = rows.entry(key).or_insert(Row {
                key,
                value,
                created: modified,
                modified,
                version: 0,
                lease: 0,
            });
            let (version, lease) = (row.version + 1, event.lease);
            *row = Row { value, modified, version, lease, ..*row };
        }
        rows.into_values().collect()
    }

    /// What a read must be answered if the keyspace is at `now`.
    pub(crate) fn range(&self, question: &Question, now: i64) -> pb::RangeResponse {
        let at = if question.revision > 0 { question.revision } else { now };
        let mut rows = self.rows(&question.keys, at);
        let count = i64::try_from(rows.len()).expect("few");
        if question.count_only {
            return pb::RangeResponse { count, ..pb::RangeResponse::default() };
        }
        rows.retain(|row| row.modified >= question.modified_min);
        if question.descending {
            rows.reverse();
        }
        let limit = usize::try_from(question.limit).unwrap_or(0);
        let more = limit > 0 && rows.len() > limit;
        if more {
            rows.truncate(limit);
        }
        if question.keys_only {
            rows.iter_mut().for_each(|row| (row.value, row.lease) = (&[], 0));
        }
        let kvs = rows.iter().map(Row::pair).collect();
        pb::RangeResponse { kvs, more, count, header: None }
    }

    /// Does a write.
    pub(crate) fn apply(&mut self, op: &Op) -> Effect {
        let before = self.revision();
        let next = before + 1;
        let told = match op {
            Op::Txn(txn) => {
                let mut path = Vec::new();
                self.choose_path(txn, &mut path);
                self.check(txn, &mut path.iter(), before)
                    .map(|()| Told::Txn(self.run(txn, &mut path.into_iter(), next)))
            }
            Op::Compact { revision, .. } => self.compact(*revision),
            Op::Grant { id, ttl } => self.grant(*id, *ttl),
            Op::Revoke { id } | Op::Expire { id } => self.revoke(*id),
            Op::Put { .. } | Op::Delete { .. } => {
                self.allow(op, before).map(|()| self.act(op, next))
            }
            Op::Range(_)
            | Op::Stream(_)
            | Op::HashKv { .. }
            | Op::Defragment
            | Op::TimeToLive { .. } => {
                unreachable!("a read changes nothing")
            }
        };
        let leases = self.leases.clone();
        Effect { revision: self.revision(), floor: self.floor, leases, told }
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<Told, Refused> {
        if self.leases.contains_key(&id) {
            return Err(LEASE_EXISTS);
        }
        let ttl = ttl.max(self.ttl_min);
        Rc::make_mut(&mut self.leases).insert(id, ttl);
        Ok(Told::Grant(pb::LeaseGrantResponse { id, ttl, ..pb::LeaseGrantResponse::default() }))
    }

    fn revoke(&mut self, id: i64) -> Result<Told, Refused> {
        if Rc::make_mut(&mut self.leases).remove(&id).is_none() {
            return Err(LEASE_NOT_FOUND);
        }
        let now = self.revision();
        for key in self.keys_of(id, now) {
            self.events.push(Event { revision: now + 1, key, value: None, lease: 0 });
        }
        Ok(Told::Revoke(pb::LeaseRevokeResponse::default()))
    }

    fn compact(&mut self, revision: i64) -> Result<Told, Refused> {
        if revision <= self.floor {
            return Err(COMPACTED);
        }
        if revision > self.revision() {
            return Err(FUTURE);
        }
        self.floor = revision;
        Ok(Told::Compact(pb::CompactionResponse::default()))
    }

    /// What a read-only transaction must be answered if the keyspace is at `now`.
    ///
    /// # Errors
    /// As at `floor`.
    pub(crate) fn read_txn(
        &self,
        txn: &Txn,
        now: i64,
        floor: i64,
    ) -> Result<pb::TxnResponse, Refused> {
        let held = txn.compares.iter().all(|compare| self.holds(compare, now));
        let mut responses = Vec::new();
        for op in if held { &txn.success } else { &txn.failure } {
            let Op::Range(question) = op else { unreachable!("it only reads") };
            if question.revision > now {
                return Err(FUTURE);
            }
            if question.revision > 0 && question.revision < floor {
                return Err(COMPACTED);
            }
            let told = Told::Range(self.range(question, now));
            responses.push(inner(told, now));
        }
        Ok(pb::TxnResponse { header: None, succeeded: held, responses })
    }

    /// Which way each transaction on the path goes, in the order in which they are met; all is
    /// decided before anything is done.
    fn choose_path(&self, txn: &Txn, path: &mut Vec<bool>) {
        let now = self.revision();
        let held = txn.compares.iter().all(|compare| self.holds(compare, now));
        path.push(held);
        for op in if held { &txn.success } else { &txn.failure } {
            if let Op::Txn(txn) = op {
                self.choose_path(txn, path);
            }
        }
    }

    /// Whether everything on the path may be done.
    fn check<'p>(
        &self,
        txn: &Txn,
        path: &mut impl Iterator<Item = &'p bool>,
        before: i64,
    ) -> Result<(), Refused> {
        let held = *path.next().expect("chosen before");
        for op in if held { &txn.success } else { &txn.failure } {
            if let Op::Txn(txn) = op {
                self.check(txn, path, before)?;
            } else {
                self.allow(op, before)?;
            }
        }
        Ok(())
    }

    /// Whether one operation may be done.
    fn allow(&self, op: &Op, before: i64) -> Result<(), Refused> {
        match op {
            Op::Put { lease, .. } if *lease != 0 && !self.leases.contains_key(lease) => {
                Err(LEASE_NOT_FOUND)
            }
            Op::Put { key, ignore_value, ignore_lease, .. }
                if (*ignore_value || *ignore_lease)
                    && self.rows(&Keys::one(key), before).is_empty() =>
            {
                Err(NOT_FOUND)
            }
            Op::Range(question) if question.revision > before => Err(FUTURE),
            Op::Range(question) if question.revision > 0 && question.revision < self.floor => {
                Err(COMPACTED)
            }
            Op::Put { .. }
            | Op::Delete { .. }
            | Op::Range(_)
            | Op::Stream(_)
            | Op::Txn(_)
            | Op::Compact { .. }
            | Op::HashKv { .. }
            | Op::Defragment
            | Op::Grant { .. }
            | Op::Revoke { .. }
            | Op::TimeToLive { .. }
            | Op::Expire { .. } => Ok(()),
        }
    }

    fn run(
        &mut self,
        txn: &Txn,
        path: &mut impl Iterator<Item = bool>,
        next: i64,
    ) -> pb::TxnResponse {
        let held = path.next().expect("chosen before");
        let mut responses = Vec::new();
        for op in if held { &txn.success } else { &txn.failure } {
            let told = if let Op::Txn(txn) = op {
                Told::Txn(self.run(txn, path, next))
            } else {
                self.act(op, next)
            };
            responses.push(inner(told, self.revision()));
        }
        pb::TxnResponse { header: None, succeeded: held, responses }
    }

    /// Does one operation that may be done; what it changes is of revision `next`.
    fn act(&mut self, op: &Op, next: i64) -> Told {
        let now = self.revision();
        match op {
            Op::Put { key, value, prev_kv, ignore_value, lease, ignore_lease } => {
                let rows = self.rows(&Keys::one(key), now);
                let prev = rows.first();
                let value = match prev {
                    Some(prev) if *ignore_value => prev.value.to_vec(),
                    Some(_) | None => value.clone(),
                };
                let lease = prev.filter(|_| *ignore_lease).map_or(*lease, |prev| prev.lease);
                let prev_kv = prev.filter(|_| *prev_kv).map(Row::pair);
                let (key, value) = (key.clone(), Some(value));
                self.events.push(Event { revision: next, key, value, lease });
                Told::Put(pb::PutResponse { header: None, prev_kv })
            }
            Op::Delete { keys, prev_kv } => {
                let rows: Vec<_> = self.rows(keys, now).iter().map(Row::pair).collect();
                let deleted = i64::try_from(rows.len()).expect("rows are few");
                for row in &rows {
                    let key = row.key.to_vec();
                    self.events.push(Event { revision: next, key, value: None, lease: 0 });
                }
                let prev_kvs = if *prev_kv { rows } else { Vec::new() };
                Told::Delete(pb::DeleteRangeResponse { header: None, deleted, prev_kvs })
            }
            Op::Range(question) => Told::Range(self.range(question, now)),
            Op::Txn(_)
            | Op::Compact { .. }
            | Op::Stream(_)
            | Op::HashKv { .. }
            | Op::Defragment
            | Op::Grant { .. }
            | Op::Revoke { .. }
            | Op::TimeToLive { .. }
            | Op::Expire { .. } => unreachable!("not one operation"),
        }
    }

    /// Whether every key of the range compares so; without any key, one that is not there does.
    fn holds(&self, compare: &Compare, now: i64) -> bool {
        let rows = self.rows(&compare.keys, now);
        if rows.is_empty() {
            let with = |number: &i64| compare.sign_holds(0.cmp(number));
            return match &compare.with {
                With::Version(with_)
                | With::Created(with_)
                | With::Modified(with_)
                | With::Lease(with_) => with(with_),
                With::Value(_) => false,
            };
        }
        rows.iter().all(|row| {
            compare.sign_holds(match &compare.with {
                With::Version(with) => row.version.cmp(with),
                With::Created(with) => row.created.cmp(with),
                With::Modified(with) => row.modified.cmp(with),
                With::Lease(with) => row.lease.cmp(with),
                With::Value(with) => row.value.cmp(&with[..]),
            })
        })
    }
}

impl Compare {
    fn sign_holds(&self, order: std::cmp::Ordering) -> bool {
        match self.sign {
            0 => order.is_eq(),
            1 => order.is_gt(),
            2 => order.is_lt(),
            _ => order.is_ne(),
        }
    }
}

/// An answer within a transaction's.
fn inner(told: Told, revision: i64) -> pb::ResponseOp {
    use pb::response_op::Response;
    let header = |revision| Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() });
    let response = match told {
        Told::Put(told) => {
            Response::ResponsePut(pb::PutResponse { header: header(revision), ..told })
        }
        Told::Delete(told) => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: header(revision),
            ..told
        }),
        Told::Range(told) => {
            Response::ResponseRange(pb::RangeResponse { header: header(revision), ..told })
        }
        Told::Txn(told) => Response::ResponseTxn(pb::TxnResponse { header: header(0), ..told }),
        Told::Compact(_) | Told::Grant(_) | Told::Revoke(_) => {
            unreachable!("no transaction does so")
        }
    };
    pb::ResponseOp { response: Some(response) }
}
