//! What a committed entry does to the keyspace.
//!
//! The same entries give the same keyspace and the same answers on every replica: nothing here
//! looks at anything but the entry, the keyspace and its records. An entry that needs an old value
//! which is on disk waits for it, and so do all after it.

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Keyspace;
use crate::mvcc::Put;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::Way;
use crate::raft::ConfigData;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::shard::Shard;
use crate::shard::change::Context;
use crate::shard::command;
use crate::shard::command::ArchivedCommand;
use crate::shard::command::CommandError;
use crate::shard::leases;
use crate::shard::origin::Origin;
use crate::shard::records::Kept;
use crate::shard::records::Needs;
use crate::shard::request::Body;
use crate::shard::request::Failure;
use crate::shard::request::LeaseRefusal;
use crate::shard::request::MemberRefusal;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::shard::wants::Waiter;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::Revision;
use crate::types::Tick;
use bytes::Bytes;

impl Shard {
    /// Whether there is a committed entry that has to wait for nothing more.
    pub(super) fn can_apply(&self) -> bool {
        let next = self.committed.front();
        let may_go = next.is_some_and(|next| !self.waits_to_seal(next.index));
        may_go && self.needs.are_met() && !self.halted
    }

    /// Applies what is committed, up to an entry that has to wait for an old value.
    pub(super) fn apply_committed(&mut self) {
        while self.can_apply()
            && let Some(entry) = self.committed.pop_front()
        {
            if self.apply(&entry) {
                self.release_needs();
                if self.feed.is_full() {
                    self.tell_events();
                }
            } else {
                self.committed.push_front(entry);
            }
        }
        self.tell_events();
        self.lead_leases();
        self.serve_reads();
        self.serve_asks();
    }

    /// Applies one committed entry and answers whoever waits for it; false if it has to wait.
    fn apply(&mut self, entry: &Entry) -> bool {
        assert!(entry.index == self.applied.next(), "entries are applied in order, without a gap");
        let outcome = match entry.kind {
            EntryKind::Empty => None,
            EntryKind::Config => {
                let data = ConfigData::decode(&entry.data).expect("Raft has looked at it");
                let body = self.apply_change(data.membership, &data.context);
                body.map(|body| Ok((body, None)))
            }
            EntryKind::Normal => match self.apply_new(&entry.data) {
                Ok(None) => return false,
                Ok(Some(outcome)) => outcome,
                Err(error) => {
                    self.halt(format!(
                        "entry {} of term {} can not be applied: {error}; start the version of \
                         ringd that wrote it",
                        entry.index, entry.term
                    ));
                    None
                }
            },
        };
        self.applied = entry.index;
        self.applied_term = entry.term;
        let (to, lost) = self.proposals.reached(entry.index, entry.term);
        for to in lost {
            self.reply(to, Err(Unavailable::LeaderChanged.into()));
        }
        let origin = origin_of(entry);
        let waits = origin.and_then(|origin| self.forward_applied(origin));
        if let (Some(to), None) = (waits, &outcome) {
            // It was not answered when it was applied, if it was: nobody knows here.
            self.reply(to, Err(Unavailable::Timeout.into()));
        }
        let (Some(to), Some(result)) = (to.or(waits), outcome) else { return true };
        match result {
            Err(refused) => self.reply(to, Err(refused.into())),
            Ok((body, until)) => {
                let response = Response { header: self.header_of(&body), body };
                match until {
                    Some(floor) => self.seals.physical.push((to, floor, response)),
                    None => self.answer(to, response, Needs::default()),
                }
            }
        }
        true
    }

    /// Applies a command, unless it needs a value that is not in memory; nothing comes of one that
    /// a member has handed over twice.
    fn apply_new(&mut self, data: &Bytes) -> Result<Option<Option<Applied>>, CommandError> {
        let Some(origin) = command::origin(data) else {
            return Ok(self.apply_command(data)?.map(Some));
        };
        if !self.origins.is_new(origin) || !self.membership.contains(origin.node) {
            return Ok(Some(None));
        }
        let applied = self.apply_command(data)?;
        if applied.is_some() {
            self.note_origin(origin);
        }
        Ok(applied.map(Some))
    }

    /// Applies a command, unless it needs a value that is not in memory; none if it does.
    fn apply_command(&mut self, data: &Bytes) -> Result<Option<Applied>, CommandError> {
        let command = ArchivedCommand::open(data)?;
        if self.wait_for_needs(command) {
            return Ok(None);
        }
        if let ArchivedCommand::Member { change } = command {
            let edited = self.apply_edit(change);
            return Ok(Some(edited.map(|body| (body, None)).map_err(Refused::Member)));
        }
        let lessor = &mut self.leases.lessor;
        let mut records =
            Kept { store: &mut self.store, lessor, needs: &self.needs, feed: &mut self.feed };
        let entry = (self.applied.next(), self.now);
        let state = (&mut self.keyspace, &mut self.way);
        let applied = apply(state, &mut records, command, data, entry);
        self.release_asks(command);
        Ok(Some(applied))
    }

    /// Whether a command has to wait for old values; they are on their way then.
    fn wait_for_needs(&mut self, command: &ArchivedCommand<'_>) -> bool {
        let (keyspace, store, needs) = (&self.keyspace, &self.store, &mut self.needs);
        match command {
            ArchivedCommand::Put { key, ignore_value: true, .. } => {
                let found = keyspace.get(key).into_iter();
                found.for_each(|found| needs.want(store, found.location));
            }
            ArchivedCommand::Txn(txn) => needs.of_txn(keyspace, store, txn, &mut self.way),
            ArchivedCommand::Put { .. }
            | ArchivedCommand::DeleteRange { .. }
            | ArchivedCommand::Compact { .. }
            | ArchivedCommand::LeaseGrant { .. }
            | ArchivedCommand::LeaseRevoke { .. }
            | ArchivedCommand::LeaseExpire { .. }
            | ArchivedCommand::LeaseCheckpoint { .. }
            | ArchivedCommand::Member { .. } => {}
        }
        if self.needs.are_met() {
            return false;
        }
        self.needs_pin.get_or_insert_with(|| self.store.pin());
        for block in self.needs.blocks() {
            if self.wants.want(block, Waiter::Apply) {
                self.store.fetch(block);
            }
        }
        true
    }

    /// The entry that needed old values is applied.
    fn release_needs(&mut self) {
        if let Some(pin) = self.needs_pin.take() {
            self.store.unpin(pin);
            self.needs = Needs::default();
        }
    }
}

/// Where an entry comes from, if it says so.
pub(super) fn origin_of(entry: &Entry) -> Option<Origin> {
    match entry.kind {
        EntryKind::Normal => command::origin(&entry.data),
        EntryKind::Config => {
            Some(Context::decode(&ConfigData::decode(&entry.data)?.context)?.origin)
        }
        EntryKind::Empty => None,
    }
}

/// What applying a command gives: the answer, and the floor that must be swept before it leaves.
type Applied = Result<(Body, Option<Revision>), Refused>;

/// The deterministic answers that are not yes.
#[derive(Debug)]
enum Refused {
    Keys(Refusal),
    Lease(LeaseRefusal),
    Member(MemberRefusal),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Keys(refusal)
    }
}

impl From<LeaseRefusal> for Refused {
    fn from(refusal: LeaseRefusal) -> Self {
        Self::Lease(refusal)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Keys(refusal) => refusal.into(),
            Refused::Lease(refusal) => refusal.into(),
            Refused::Member(refusal) => refusal.into(),
        }
    }
}

/// Applies a command whose needs are in memory.
fn apply(
    (keyspace, way): (&mut Keyspace, &mut Way),
    records: &mut Kept<'_>,
    command: &ArchivedCommand<'_>,
    data: &Bytes,
    entry: (LogIndex, Tick),
) -> Applied {
    match command {
        ArchivedCommand::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
            let put = Put {
                key: data.slice_ref(key),
                value: data.slice_ref(value),
                lease: LeaseId(lease.to_native()),
                ignore_value: *ignore_value,
                ignore_lease: *ignore_lease,
            };
            let key = prev_kv.then(|| put.key.clone());
            let prior = keyspace.write().put(put, records)?;
            let prev = key.zip(prior).map(|(key, found)| pair(&key, found, records));
            Ok((Body::Put { prev }, None))
        }
        ArchivedCommand::DeleteRange { key, range_end, prev_kv } => {
            let mut found = Vec::new();
            let range = KeyRange::new(key, range_end);
            let deleted = keyspace.write().delete_range(range, records, |key, prior| {
                if *prev_kv {
                    found.push((Bytes::copy_from_slice(key), prior));
                }
            });
            let prevs = found.iter().map(|(key, prior)| pair(key, *prior, records)).collect();
            Ok((Body::DeleteRange { deleted, prevs }, None))
        }
        ArchivedCommand::Txn(txn) => {
            let outcome = keyspace.txn(txn, &std::mem::take(way), data, records)?;
            Ok((Body::Txn(outcome), None))
        }
        ArchivedCommand::Compact { revision, physical } => {
            let revision = Revision(revision.to_native());
            keyspace.compact(revision)?;
            Ok((Body::Compact, physical.then_some(revision)))
        }
        ArchivedCommand::Member { .. } => unreachable!("members are no part of the keyspace"),
        ArchivedCommand::LeaseGrant { .. }
        | ArchivedCommand::LeaseRevoke { .. }
        | ArchivedCommand::LeaseExpire { .. }
        | ArchivedCommand::LeaseCheckpoint { .. } => {
            Ok((leases::apply(keyspace, records, command, entry)?, None))
        }
    }
}

/// A pair that a change replaced; its value follows when the answer leaves.
fn pair(key: &[u8], found: Found, records: &impl Records) -> KeyValue {
    Row::new(key, found).to_key_value(records.lease(found.location), None)
}
