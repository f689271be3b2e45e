//! What may be true: every answer and every recovery is held against what the clients have done.
//!
//! The oracle knows what each client asked, in which order the requests came to the shard, and what
//! the clients were told. It knows nothing of logs and disks. After a crash the keyspace must be
//! what some beginning of that order gives, and that beginning must hold everything that anyone was
//! told of.

use crate::client::{Answer, End};
use crate::hash;
use crate::model::{
    COMPACTED, Effect, FUTURE, Keys, Leases, Model, NO_FLOOR, Op, Question, Refused, Row, Told, Txn,
};
use crate::node::{self, Disks};
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::mvcc::{Found, KeyRange, RangeQuery, Records};
use ringd::shard::Shard;
use ringd::types::{Change, LeaseId, Location};
use std::collections::BTreeMap;

/// Texts of answers to requests of which nothing was done.
const REFUSALS: [&str; 3] = [
    "etcdserver: too many requests",
    "etcdserver: request is too large",
    "etcdserver: server stopped",
];
const TIMEOUT: &str = "etcdserver: request timed out";
const TOO_LATE: &str = "context deadline exceeded";
/// How the text begins for a message that is larger than the server takes.
const TOO_LARGE: &str = "grpc: received message larger than max";

/// One call of a client.
#[derive(Debug)]
struct Call {
    op: Op,
    /// The highest revision that anyone was told of when it was sent, and the highest that anyone
    /// was told to be compacted.
    told: (i64, i64),
    /// How many writes of the order anyone was told of by then, at least.
    told_at: usize,
    sent_at: u64,
    /// Milliseconds that its client gave it.
    deadline: Option<u64>,
    is_submitted: bool,
    /// The server never saw it as a request: its message is beyond what it takes.
    is_oversized: bool,
}

/// All that is known from outside.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    calls: Vec<Call>,
    /// Writes in the order in which they came to the shard, with what each does.
    order: Vec<(usize, Effect)>,
    model: Model,
    /// The highest revision that anyone was told of, and the highest that anyone was told to be
    /// compacted.
    told: (i64, i64),
    /// Writes of the order that anyone was told of are before this one.
    told_at: usize,
    pub(crate) leases: Lives,
    term: u64,
    /// Milliseconds before a request may time out.
    timeout: u64,
    pub(crate) answers: u64,
    pub(crate) timeouts: u64,
    pub(crate) refusals: u64,
}

impl Oracle {
    pub(crate) fn new(timeout: u64, ttl_min: i64) -> Self {
        let model = Model::new(ttl_min);
        Self { timeout, told: (1, NO_FLOOR), model, ..Self::default() }
    }

    /// The revision after everything that was asked.
    pub(crate) fn revision(&self) -> i64 {
        self.model.revision()
    }

    /// A client sends a request; its name from now on.
    pub(crate) fn sent(
        &mut self,
        op: Op,
        now: u64,
        deadline: Option<u64>,
        is_oversized: bool,
    ) -> usize {
        let (told, told_at, sent_at) = (self.told, self.told_at, now);
        let is_submitted = false;
        let call = Call { op, told, told_at, sent_at, deadline, is_submitted, is_oversized };
        self.calls.push(call);
        self.calls.len() - 1
    }

    /// What it asked.
    pub(crate) fn op(&self, call: usize) -> &Op {
        &self.calls[call].op
    }

    /// Whether it has come to the shard.
    pub(crate) fn is_submitted(&self, call: usize) -> bool {
        self.calls[call].is_submitted
    }

    /// It came to the shard.
    pub(crate) fn submitted(&mut self, call: usize, now: u64) {
        self.calls[call].is_submitted = true;
        let op = &self.calls[call].op;
        if op.is_write() {
            let effect = self.model.apply(op);
            if let Ok(Told::Grant(told)) = &effect.told {
                self.leases.lives(told.id, now, told.ttl);
            }
            self.order.push((call, effect));
        }
    }

    /// The shard has proposed to end these leases, in this order.
    ///
    /// # Errors
    /// One of them has time left.
    pub(crate) fn ended(&mut self, ids: &[i64], now: u64) -> Result<(), String> {
        for id in ids {
            self.leases.ends(*id, now)?;
            // It may have been revoked by what is before in the log, or not: that may be refused.
            let call = self.sent(Op::Expire { id: *id }, now, None, false);
            self.submitted(call, now);
        }
        Ok(())
    }

    /// The leases after everything that was asked.
    pub(crate) fn known_leases(&self) -> &Leases {
        self.model.leases()
    }

    /// How many writes of the order anyone was told of, at least.
    pub(crate) fn told_at(&self) -> usize {
        self.told_at
    }

    /// The leases after so many writes of the order.
    fn leases_after(&self, writes: usize) -> Option<&Leases> {
        Some(&*self.order[writes.checked_sub(1)?].1.leases)
    }

    /// A renewal was answered with so many seconds, when so much was told at least.
    ///
    /// # Errors
    /// No lease is such at any time since.
    pub(crate) fn check_renewal(&self, id: i64, ttl: i64, told_at: usize) -> Result<(), String> {
        let due = |leases: Option<&Leases>| leases.and_then(|it| it.get(&id)).copied().unwrap_or(0);
        let mut times = told_at..=self.order.len();
        if times.any(|writes| due(self.leases_after(writes)) == ttl) {
            return Ok(());
        }
        Err(format!("lease {id} is said to last {ttl} s, after {told_at} writes or later"))
    }

    /// Its answer has left the shard, which is at `revision`, and may be seen at any time: it is
    /// good, or a status.
    pub(crate) fn released(&mut self, call: usize, revision: i64, status: Option<&str>) {
        let at = self.order.iter().position(|known| known.0 == call);
        match (at, status) {
            (Some(at), None) => {
                let Effect { revision, floor, .. } = self.order[at].1;
                self.heard(revision, floor);
                self.told_at = self.told_at.max(at + 1);
            }
            // A read has seen all up to there.
            (None, None) => self.heard(revision, NO_FLOOR),
            (Some(at), Some(text)) if REFUSALS.contains(&text) => {
                self.order.remove(at);
                self.told_at -= usize::from(at < self.told_at);
                self.replay();
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Somebody who watches may know that all up to `revision` is there, and what is compacted.
    pub(crate) fn heard_at(&mut self, revision: i64, floor: Option<i64>) {
        self.heard(revision, floor.unwrap_or(NO_FLOOR));
    }

    /// Everything that was asked.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The highest revision that anyone was told of.
    pub(crate) fn told(&self) -> i64 {
        self.told.0
    }

    /// Somebody may know that all up to `revision` is there, and that below `floor` is compacted.
    fn heard(&mut self, revision: i64, floor: i64) {
        self.told = (self.told.0.max(revision), self.told.1.max(floor));
    }

    /// Does everything again from the beginning.
    fn replay(&mut self) {
        self.model.begin_again();
        for (call, effect) in &mut self.order {
            *effect = self.model.apply(&self.calls[*call].op);
        }
    }

    /// A client has read an answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn answered(&mut self, answer: &Answer, now: u64) -> Result<(), String> {
        self.answers += 1;
        let call = &self.calls[answer.call];
        let wrong = |what: String| format!("call {} {:?}: {what}", answer.call, call.op);
        match &answer.end {
            End::Reset => Ok(()),
            End::Status(_, text) if REFUSALS.contains(&&text[..]) => {
                self.refusals += 1;
                Ok(())
            }
            End::Status(_, text) if text == TIMEOUT && now >= call.sent_at + self.timeout => {
                self.timeouts += 1;
                Ok(())
            }
            End::Status(4, text)
                if text == TOO_LATE && call.deadline.is_some_and(|ms| now >= call.sent_at + ms) =>
            {
                self.timeouts += 1;
                Ok(())
            }
            End::Status(_, text) if call.is_oversized && text.starts_with(TOO_LARGE) => {
                self.refusals += 1;
                Ok(())
            }
            _ if call.is_oversized => Err(wrong(format!("oversized, {:?}", answer.end))),
            End::Status(code, text) => self.check_status(answer.call, *code, text).map_err(wrong),
            // It says nothing, not even who answers.
            End::Messages(messages) if matches!(call.op, Op::Defragment) => {
                let is_empty = matches!(&messages[..], [message] if message.is_empty());
                is_empty.then_some(()).ok_or_else(|| wrong(format!("{messages:?}")))
            }
            End::Messages(messages) => {
                let header = self.check_answer(answer.call, messages).map_err(wrong)?;
                self.heard(header.revision, NO_FLOOR);
                let term_before = std::mem::replace(&mut self.term, header.raft_term);
                if term_before > header.raft_term {
                    return Err(format!("term {term_before} is followed by {}", header.raft_term));
                }
                Ok(())
            }
        }
    }

    /// Holds a good answer against what is due; its header.
    fn check_answer(&self, at: usize, messages: &[Vec<u8>]) -> Result<pb::ResponseHeader, String> {
        let call = &self.calls[at];
        if let Op::Stream(question) = &call.op {
            return self.check_stream(call, question, messages);
        }
        let [bytes] = messages else {
            return Err(format!("{} messages in place of one", messages.len()));
        };
        match &call.op {
            Op::Put { .. } => {
                let mut told = decode::<pb::PutResponse>(bytes)?;
                self.check_effect(at, told.header.take(), Told::Put(told))
            }
            Op::Delete { .. } => {
                let mut told = decode::<pb::DeleteRangeResponse>(bytes)?;
                self.check_effect(at, told.header.take(), Told::Delete(told))
            }
            Op::Compact { .. } => {
                let mut told = decode::<pb::CompactionResponse>(bytes)?;
                // A physical one is told of later than what came after it.
                self.check_effect(at, told.header.take(), Told::Compact(told))
            }
            Op::Txn(txn) if call.op.is_write() => {
                let _ = txn;
                let mut told = decode::<pb::TxnResponse>(bytes)?;
                self.check_effect(at, told.header.take(), Told::Txn(told))
            }
            Op::Txn(txn) => self.check_read_txn(call, txn, decode(bytes)?),
            Op::Range(question) | Op::Stream(question) => {
                self.check_range(call, question, decode(bytes)?)
            }
            Op::HashKv { revision } => self.check_hash(call, *revision, &decode(bytes)?),
            Op::Defragment => unreachable!("its answer has nothing to check"),
            Op::Grant { .. } => {
                let mut told = decode::<pb::LeaseGrantResponse>(bytes)?;
                self.check_effect(at, told.header.take(), Told::Grant(told))
            }
            Op::Revoke { .. } => {
                let mut told = decode::<pb::LeaseRevokeResponse>(bytes)?;
                self.check_effect(at, told.header.take(), Told::Revoke(told))
            }
            Op::TimeToLive { id, keys } => {
                self.check_time_to_live(call, *id, *keys, decode(bytes)?)
            }
            Op::Expire { .. } => unreachable!("nobody asks for it"),
        }
    }

    fn check_time_to_live(
        &self,
        call: &Call,
        id: i64,
        keys: bool,
        mut told: pb::LeaseTimeToLiveResponse,
    ) -> Result<pb::ResponseHeader, String> {
        let header = self.check_time(call, told.header.take(), 0)?;
        let due = |writes: usize| {
            let revision = writes.checked_sub(1).map_or(1, |last| self.order[last].1.revision);
            let granted = self.leases_after(writes).and_then(|leases| leases.get(&id)).copied();
            let ttl_is_due = match granted {
                // A new leader gives a second more.
                Some(ttl) => (0..=ttl + 1).contains(&told.ttl),
                None => told.ttl == -1,
            };
            revision == header.revision && told.granted_ttl == granted.unwrap_or(0) && ttl_is_due
        };
        if told.id != id || !(call.told_at..=self.order.len()).any(due) {
            return Err(format!("at {} told {told:?}", header.revision));
        }
        let wanted = keys && told.ttl >= 0;
        let due = if wanted { self.model.keys_of(id, header.revision) } else { Vec::new() };
        if told.keys != due {
            return Err(format!("at {} told {told:?}, due {due:?}", header.revision));
        }
        Ok(header)
    }

    fn effect(&self, call: usize) -> Result<&Effect, String> {
        let found = self.order.iter().find(|known| known.0 == call);
        found.map(|known| &known.1).ok_or_else(|| "answered, and not in the order".to_owned())
    }

    fn check_status(&self, at: usize, code: u32, text: &str) -> Result<(), String> {
        let call = &self.calls[at];
        let is_told = |refused: Refused| refused.0 == code && refused.1 == text;
        let may_be = |revision: i64| {
            (is_told(FUTURE) && revision > call.told.0)
                || (is_told(COMPACTED) && revision < self.model.floor())
        };
        let allowed = match &call.op {
            op if op.is_write() => match &self.effect(at)?.told {
                Err(refused) => is_told(*refused),
                Ok(_) => false,
            },
            Op::Range(question) | Op::Stream(question) => {
                question.revision > 0 && may_be(question.revision)
            }
            Op::HashKv { revision } => *revision > 0 && may_be(*revision),
            Op::Defragment => false,
            Op::Txn(txn) => txn.questions().any(|read| read.revision > 0 && may_be(read.revision)),
            Op::TimeToLive { .. } => false,
            Op::Put { .. } | Op::Delete { .. } | Op::Compact { .. } => unreachable!("a write"),
            Op::Grant { .. } | Op::Revoke { .. } | Op::Expire { .. } => unreachable!("a write"),
        };
        if allowed { Ok(()) } else { Err(format!("status {code} {text:?}")) }
    }

    fn check_effect(
        &self,
        call: usize,
        header: Option<pb::ResponseHeader>,
        told: Told,
    ) -> Result<pb::ResponseHeader, String> {
        let header = header.ok_or("no header")?;
        let effect = self.effect(call)?;
        let is_late = matches!(self.calls[call].op, Op::Compact { physical: true, .. })
            && header.revision > effect.revision
            && header.revision <= self.model.revision();
        if (header.revision != effect.revision && !is_late) || Ok(&told) != effect.told.as_ref() {
            return Err(format!("told {} {told:?}, due {effect:?}", header.revision));
        }
        Ok(header)
    }

    /// What a read says of when it was done, and what it says of the past.
    fn check_time(
        &self,
        call: &Call,
        header: Option<pb::ResponseHeader>,
        revision: i64,
    ) -> Result<pb::ResponseHeader, String> {
        let header = header.ok_or("no header")?;
        let (now, (told, floor)) = (header.revision, call.told);
        if now < told || now > self.model.revision() || revision > now {
            let last = self.model.revision();
            return Err(format!("read {revision} at {now}, told {told} before, last {last}"));
        }
        if revision > 0 && revision < floor {
            return Err(format!("read {revision} at {now}, told that {floor} was compacted"));
        }
        Ok(header)
    }

    fn check_range(
        &self,
        call: &Call,
        question: &Question,
        mut told: pb::RangeResponse,
    ) -> Result<pb::ResponseHeader, String> {
        let header = self.check_time(call, told.header.take(), question.revision)?;
        let due = self.model.range(question, header.revision);
        if told != due {
            let told = (told.kvs.len(), told.count, told.more);
            let due = (due.kvs.len(), due.count, due.more);
            return Err(format!("at {} told {told:?}, due {due:?}", header.revision));
        }
        Ok(header)
    }

    /// The parts of a stream come to what a range is answered.
    fn check_stream(
        &self,
        call: &Call,
        question: &Question,
        messages: &[Vec<u8>],
    ) -> Result<pb::ResponseHeader, String> {
        let mut whole = pb::RangeResponse::default();
        for (nth, bytes) in messages.iter().enumerate() {
            let part = decode::<pb::RangeStreamResponse>(bytes)?;
            let part = part.range_response.ok_or("a part of a stream without a range")?;
            whole.kvs.extend(part.kvs);
            if nth + 1 == messages.len() {
                (whole.header, whole.more, whole.count) = (part.header, part.more, part.count);
            } else if part.header.is_some() || part.more || part.count != 0 {
                return Err(format!("part {nth} of a stream holds what the last one is for"));
            }
        }
        self.check_range(call, question, whole)
    }

    fn check_read_txn(
        &self,
        call: &Call,
        txn: &Txn,
        mut told: pb::TxnResponse,
    ) -> Result<pb::ResponseHeader, String> {
        let header = self.check_time(call, told.header.take(), 0)?;
        let due = self.model.read_txn(txn, header.revision, call.told.1);
        if due.as_ref() != Ok(&told) {
            return Err(format!("at {} told {told:?}, due {due:?}", header.revision));
        }
        Ok(header)
    }

    fn check_hash(
        &self,
        call: &Call,
        revision: i64,
        told: &pb::HashKvResponse,
    ) -> Result<pb::ResponseHeader, String> {
        let header = self.check_time(call, told.header, revision)?;
        let at = if revision > 0 { revision } else { header.revision };
        let floor = told.compact_revision;
        let known = floor == NO_FLOOR || self.order.iter().any(|(_, effect)| effect.floor == floor);
        if !known || floor < call.told.1 || told.hash_revision != at {
            return Err(format!("{told:?} at {at}, told that {} was compacted", call.told.1));
        }
        let due = hash::hash_kv(&self.model, at, floor);
        if told.hash != due {
            return Err(format!("{told:?}, due {due} at {at}"));
        }
        Ok(header)
    }

    /// Holds what a recovered shard has come to against everything known: its revision, what is
    /// compacted, and its leases.
    ///
    /// # Errors
    /// What is lost or invented.
    pub(crate) fn check_recovered(&self, shard: &Shard) -> Result<Kept, String> {
        let keyspace = shard.keyspace();
        let revision = keyspace.revision().0;
        let floor = keyspace.compacted().map_or(NO_FLOOR, |floor| floor.0);
        if revision < self.told.0 || floor < self.told.1 {
            return Err(format!("lost: at {revision}, {floor}, and {:?} was told", self.told));
        }
        let lessor = shard.lessor();
        lessor.check_all();
        let granted = |id| lessor.get(id).map_or(0, |lease| lease.0);
        let leases: Leases = lessor.ids().map(|id| (id.0, granted(id))).collect();
        match self.beginning(revision, floor, &leases) {
            Some(writes) if writes < self.told_at => {
                Err(format!("lost: {leases:?} at {revision}, and {} writes told", self.told_at))
            }
            Some(writes) => Ok(Kept { revision, floor, writes }),
            None => Err(format!("invented: at {revision}, {floor}, {leases:?}")),
        }
    }

    /// How many of the writes in their order give this revision, floor and leases, at most.
    fn beginning(&self, revision: i64, floor: i64, leases: &Leases) -> Option<usize> {
        let at = |effect: &Effect| {
            (effect.revision, effect.floor) == (revision, floor) && *effect.leases == *leases
        };
        let last = self.order.iter().rposition(|(_, effect)| at(effect)).map(|at| at + 1);
        let is_new = (revision, floor) == (1, NO_FLOOR) && leases.is_empty();
        last.or_else(|| is_new.then_some(0))
    }

    /// Holds what a recovered shard tells at two revisions against the model, values and all:
    /// the present one, and one of the past.
    ///
    /// # Errors
    /// What is changed.
    pub(crate) fn check_values(
        &self,
        shard: &mut Shard,
        disks: &mut Disks,
        past: u64,
    ) -> Result<(), String> {
        let Kept { revision, floor, .. } = self.check_recovered(shard)?;
        let past = i64::try_from(past).map_or(1, |past| past % revision + 1);
        for at in [revision, past] {
            let wrong = |why: String| format!("revision {at} of {floor}..={revision}: {why}");
            match node::rows(shard, disks, at) {
                Err(why) if at < floor && why == COMPACTED.1 => {}
                Err(why) => return Err(wrong(why)),
                Ok(_) if at < floor => return Err(wrong("it was compacted".to_owned())),
                Ok(rows) => {
                    let due = self.model.rows(&Keys::all(), at);
                    if !due.iter().map(Row::pair).eq(rows.iter().cloned()) {
                        return Err(wrong(format!("{} rows, due {}", rows.len(), due.len())));
                    }
                    if at == revision {
                        check_keys(shard, &due).map_err(wrong)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Holds every revision that can still be read of a shard against the model, but for values.
    ///
    /// # Errors
    /// What is changed.
    pub(crate) fn check_history(&self, shard: &Shard) -> Result<(), String> {
        let Kept { revision, floor, .. } = self.check_recovered(shard)?;
        shard.keyspace().check_all();
        (floor.max(1)..=revision).try_for_each(|revision| self.check_at(shard, revision))
    }

    fn check_at(&self, shard: &Shard, revision: i64) -> Result<(), String> {
        let mut query = RangeQuery::new(KeyRange::new(b"\0", b"\0"));
        (query.revision, query.keys_only) = (revision, true);
        let rows = self.model.rows(&Keys::all(), revision);
        let (mut due, mut same) = (rows.iter(), true);
        let summary = shard.keyspace().range_with(&query, &Nothing, |row| {
            same &= due.next().is_some_and(|due| {
                let at = (row.create_revision.0, row.location.main.0, row.version);
                (due.key, (due.created, due.modified, due.version)) == (row.key, at)
            });
        });
        let count = summary.map_err(|refusal| format!("revision {revision}: {refusal}"))?.count;
        if same && i64::try_from(rows.len()) == Ok(count) {
            return Ok(());
        }
        Err(format!("revision {revision} is changed: {count} rows, due {}", rows.len()))
    }

    /// The server has come back with so much, having begun to read at `since`: what came later was
    /// never done. `is_whole` is whether leases live all their time from then on.
    pub(crate) fn restarted(&mut self, kept: &Kept, since: u64, is_whole: bool) {
        let Kept { revision, floor, writes } = *kept;
        self.order.truncate(writes);
        self.replay();
        assert!((self.model.revision(), self.model.floor()) == (revision, floor), "as found");
        self.heard(revision, floor);
        self.told_at = writes;
        for (id, ttl) in self.model.leases().iter().filter(|_| is_whole) {
            self.leases.lives(*id, since, *ttl);
        }
    }
}

/// What a recovered shard has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) revision: i64,
    floor: i64,
    /// How many writes of the order.
    writes: usize,
}

/// Until when leases live at least.
#[derive(Debug, Default)]
pub(crate) struct Lives(BTreeMap<i64, u64>);

impl Lives {
    /// A lease lives for so many seconds from a moment on.
    pub(crate) fn lives(&mut self, id: i64, since: u64, ttl: i64) {
        let until = since + u64::try_from(ttl).expect("a lease lasts") * 1000;
        let known = self.0.entry(id).or_insert(until);
        *known = until.max(*known);
    }

    fn ends(&self, id: i64, now: u64) -> Result<(), String> {
        match self.0.get(&id) {
            Some(until) if now >= *until => Ok(()),
            until => Err(format!("lease {id} ends at {now}, and lives until {until:?}")),
        }
    }
}

/// The keys that hang on each lease are those whose rows name it.
fn check_keys(shard: &Shard, rows: &[Row<'_>]) -> Result<(), String> {
    let lessor = shard.lessor();
    for id in lessor.ids() {
        let keys = lessor.get(id).expect("listed").1;
        let due = rows.iter().filter(|row| row.lease == id.0).map(|row| row.key);
        if !keys.iter().eq(due) {
            return Err(format!("keys of lease {id}: {keys:?}"));
        }
    }
    match rows.iter().find(|row| row.lease != 0 && !lessor.contains(LeaseId(row.lease))) {
        Some(row) => Err(format!("{row:?} hangs on a lease that is not there")),
        None => Ok(()),
    }
}

/// No values: who reads keys only needs none.
struct Nothing;

impl Records for Nothing {
    fn lease(&self, _: Location) -> LeaseId {
        LeaseId(0)
    }

    fn value(&self, _: Location) -> Bytes {
        unreachable!("no value is asked for")
    }

    fn has_lease(&self, _: LeaseId) -> bool {
        false
    }

    fn push(&mut self, _: Change, _: Option<Found>) {
        unreachable!("nothing is written")
    }
}

/// Reads a message of an answer.
fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}
