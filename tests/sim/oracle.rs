//! What may be true: every answer and every recovery is held against what the clients have done.
//!
//! The oracle knows what each client asked, in which order the requests came to the shard, and what
//! the clients were told. It knows nothing of logs and disks. After a crash the keyspace must be
//! what some beginning of that order gives, and that beginning must hold everything that anyone was
//! told of.

use crate::client::{Answer, End};
use crate::model::{Effect, Kept, Keys, Model, Op, Question, Row};
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb;
use ringd::mvcc::{KeyRange, RangeQuery, Records};
use ringd::shard::Shard;

/// Texts of answers to requests of which nothing was done.
const REFUSALS: [&str; 3] = [
    "etcdserver: too many requests",
    "etcdserver: request is too large",
    "etcdserver: server stopped",
];
const TIMEOUT: &str = "etcdserver: request timed out";
const NOT_FOUND: &str = "etcdserver: key not found";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const TOO_LATE: &str = "context deadline exceeded";
/// How the text begins for a message that is larger than the server takes.
const TOO_LARGE: &str = "grpc: received message larger than max";

/// One call of a client.
#[derive(Debug)]
struct Call {
    op: Op,
    /// The highest revision that anyone was told of when it was sent.
    floor: i64,
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
    /// The highest revision that anyone was told of.
    floor: i64,
    term: u64,
    /// Milliseconds before a request may time out.
    timeout: u64,
    pub(crate) answers: u64,
    pub(crate) timeouts: u64,
    pub(crate) refusals: u64,
}

impl Oracle {
    pub(crate) fn new(timeout: u64) -> Self {
        Self { timeout, floor: 1, ..Self::default() }
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
        let floor = self.floor;
        let is_submitted = false;
        self.calls.push(Call { op, floor, sent_at: now, deadline, is_submitted, is_oversized });
        self.calls.len() - 1
    }

    /// Whether it has come to the shard.
    pub(crate) fn is_submitted(&self, call: usize) -> bool {
        self.calls[call].is_submitted
    }

    /// It came to the shard.
    pub(crate) fn submitted(&mut self, call: usize) {
        self.calls[call].is_submitted = true;
        let op = &self.calls[call].op;
        if op.is_write() {
            let effect = self.model.apply(op);
            self.order.push((call, effect));
        }
    }

    /// Its answer has left the shard, which is at `revision`, and may be seen at any time: it is
    /// good, or a status.
    pub(crate) fn released(&mut self, call: usize, revision: i64, status: Option<&str>) {
        let at = self.order.iter().position(|known| known.0 == call);
        match (at, status) {
            (Some(at), None) => self.floor = self.floor.max(self.order[at].1.revision()),
            // A read has seen all up to there.
            (None, None) => self.floor = self.floor.max(revision),
            (Some(at), Some(text)) if REFUSALS.contains(&text) => {
                self.order.remove(at);
                self.replay();
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Does everything again from the beginning.
    fn replay(&mut self) {
        self.model = Model::default();
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
            End::Status(code, text) => self.check_status(call, *code, text).map_err(wrong),
            End::Message(bytes) => {
                let header = match &call.op {
                    Op::Put { .. } => self.check_put(answer.call, bytes).map_err(wrong)?,
                    Op::Delete { .. } => self.check_delete(answer.call, bytes).map_err(wrong)?,
                    Op::Range(question) => {
                        self.check_range(call, question, bytes).map_err(wrong)?
                    }
                };
                self.floor = self.floor.max(header.revision);
                let term_before = std::mem::replace(&mut self.term, header.raft_term);
                if term_before > header.raft_term {
                    return Err(format!("term {term_before} is followed by {}", header.raft_term));
                }
                Ok(())
            }
        }
    }

    fn effect(&self, call: usize) -> Result<&Effect, String> {
        let found = self.order.iter().find(|known| known.0 == call);
        found.map(|known| &known.1).ok_or_else(|| "answered, and not in the order".to_owned())
    }

    fn check_status(&self, call: &Call, code: u32, text: &str) -> Result<(), String> {
        match (&call.op, code, text) {
            (Op::Put { ignore_value: true, .. }, 3, NOT_FOUND) => Ok(()),
            (Op::Range(question), 11, FUTURE) if question.revision > call.floor => Ok(()),
            _ => Err(format!("status {code} {text:?}")),
        }
    }

    fn check_put(&self, call: usize, bytes: &[u8]) -> Result<pb::ResponseHeader, String> {
        let answer = pb::PutResponse::decode(bytes).map_err(|error| error.to_string())?;
        let header = answer.header.ok_or("no header")?;
        let Effect::Put { revision, prev } = self.effect(call)? else {
            return Err(format!("a put went well that could not: {header:?}"));
        };
        let found = answer.prev_kv.as_ref().map(row_of);
        if header.revision != *revision || found != prev.as_ref().map(Kept::row) {
            return Err(format!("told {} {found:?}, due {revision} {prev:?}", header.revision));
        }
        Ok(header)
    }

    fn check_delete(&self, call: usize, bytes: &[u8]) -> Result<pb::ResponseHeader, String> {
        let answer = pb::DeleteRangeResponse::decode(bytes).map_err(|error| error.to_string())?;
        let header = answer.header.ok_or("no header")?;
        let Effect::Delete { revision, deleted, prevs } = self.effect(call)? else {
            return Err("a delete that is none".to_owned());
        };
        let found = answer.prev_kvs.iter().map(row_of);
        let same = header.revision == *revision && answer.deleted == *deleted;
        if !same || !found.eq(prevs.iter().map(Kept::row)) {
            let (at, count) = (header.revision, answer.deleted);
            return Err(format!("told {at} {count}, due {revision} {deleted} {prevs:?}"));
        }
        Ok(header)
    }

    fn check_range(
        &self,
        call: &Call,
        question: &Question,
        bytes: &[u8],
    ) -> Result<pb::ResponseHeader, String> {
        let answer = pb::RangeResponse::decode(bytes).map_err(|error| error.to_string())?;
        let header = answer.header.ok_or("no header")?;
        let now = header.revision;
        if now < call.floor || now > self.model.revision() || question.revision > now {
            let (floor, last) = (call.floor, self.model.revision());
            return Err(format!("read at {now}, told {floor} before, last {last}"));
        }
        let at = if question.revision > 0 { question.revision } else { now };
        let mut rows = self.model.rows(&question.keys, at);
        let count = i64::try_from(rows.len()).expect("few");
        let limit = usize::try_from(question.limit).unwrap_or(0);
        let is_cut = limit > 0 && rows.len() > limit && !question.count_only;
        if is_cut {
            rows.truncate(limit);
        }
        if question.count_only {
            rows.clear();
        }
        if question.keys_only {
            rows.iter_mut().for_each(|row| row.value = &[]);
        }
        let found: Vec<Row<'_>> = answer.kvs.iter().map(row_of).collect();
        if found != rows || answer.count != count || answer.more != is_cut {
            let told = (found.len(), answer.count, answer.more);
            return Err(format!("at {at} of {now} told {told:?}, due {} of {count}", rows.len()));
        }
        Ok(header)
    }

    /// Holds a recovered shard against everything known; the revision it has come to.
    ///
    /// # Errors
    /// What is lost, invented or changed.
    pub(crate) fn check_recovered(&self, shard: &Shard, past: u64) -> Result<i64, String> {
        let revision = shard.keyspace().revision().0;
        if revision < self.floor {
            return Err(format!("lost: at {revision}, and {} was told", self.floor));
        }
        if revision > self.model.revision() {
            return Err(format!("invented: at {revision}, asked {}", self.model.revision()));
        }
        self.check_at(shard, revision)?;
        let past = i64::try_from(past).map_or(1, |past| past % revision + 1);
        self.check_at(shard, past)?;
        Ok(revision)
    }

    /// Holds every revision of a shard against the model.
    ///
    /// # Errors
    /// As [`Self::check_recovered`].
    pub(crate) fn check_history(&self, shard: &Shard) -> Result<(), String> {
        (1..=shard.keyspace().revision().0).try_for_each(|revision| self.check_at(shard, revision))
    }

    fn check_at(&self, shard: &Shard, revision: i64) -> Result<(), String> {
        let mut query = RangeQuery::new(KeyRange::new(b"\0", b"\0"));
        query.revision = revision;
        let rows = self.model.rows(&Keys::all(), revision);
        let (mut due, mut same) = (rows.iter(), true);
        let summary = shard.keyspace().range_with(&query, shard.records(), |row| {
            let value = shard.records().value(row.location);
            same &= due.next().is_some_and(|due| {
                *due == Row {
                    key: row.key,
                    value: &value,
                    created: row.create_revision.0,
                    modified: row.location.main.0,
                    version: row.version,
                }
            });
        });
        let count = summary.map_err(|refusal| format!("revision {revision}: {refusal}"))?.count;
        if same && i64::try_from(rows.len()) == Ok(count) {
            return Ok(());
        }
        Err(format!("revision {revision} is changed: {count} rows, due {}", rows.len()))
    }

    /// The server has come back at this revision: what came later was never done.
    pub(crate) fn restarted(&mut self, revision: i64) {
        let kept = self.order.iter().take_while(|known| known.1.revision() <= revision).count();
        self.order.truncate(kept);
        self.replay();
        assert!(self.model.revision() == revision, "revisions are dense");
        self.floor = self.floor.max(revision);
    }
}

fn row_of(pair: &mvccpb::KeyValue) -> Row<'_> {
    Row {
        key: &pair.key,
        value: &pair.value,
        created: pair.create_revision,
        modified: pair.mod_revision,
        version: pair.version,
    }
}
