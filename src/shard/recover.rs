//! From the files of the log and the store to a running shard.
//!
//! The store comes first: its directories give the index, its manifest says up to which entry. The
//! log gives what came after; Raft commits that anew once it leads, and it is applied as if it had
//! just come. So what is read is bounded by what is not sealed, and no value is read at all.
//!
//! Leases are part of the sealed state; which keys hang on them the directories say.
//!
//! A state that came from a peer ([`snapshot`](super::snapshot)) may be ahead of the log. If the
//! log holds its last entry, as of the same term, all that follows there is good. If not, nothing
//! in it is: it ends before, or goes another way than what is committed. Then it begins anew behind
//! the state, and term and vote stay.

use crate::lease::Lessor;
use crate::mvcc::Keyspace;
use crate::mvcc::Restoring;
use crate::raft;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::Membership;
use crate::raft::Position;
use crate::shard::Config;
use crate::shard::Shard;
use crate::shard::alone;
use crate::shard::alone::Company;
use crate::shard::apply::origin_of;
use crate::shard::leases::attach_stretch;
use crate::shard::members::Members;
use crate::shard::request::Member;
use crate::shard::state::State;
use crate::store;
use crate::store::Store;
use crate::types::LogIndex;
use crate::types::Term;
use crate::types::Tick;
use crate::wal;
use crate::wal::Record;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt;

/// What recovery wants, or has come to.
#[derive(Debug)]
pub enum Step {
    /// Read `size` bytes at `offset` of the log's `file` and pass them to [`Recovery::handle`].
    Read {
        /// The file.
        file: wal::FileId,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        size: usize,
    },
    /// The same of the store's files.
    ReadStore {
        /// The file.
        file: store::FileId,
        /// Bytes from its start.
        offset: u64,
        /// Bytes; fewer are there only if the file ends.
        size: usize,
    },
    /// A slice is done, and there is more to do at once: whoever waits for the core may be served
    /// before.
    More,
    /// The shard is open.
    Done(Box<Shard>),
    /// The log's files can not be opened: which, where, why, and what to do. Nothing was changed.
    Refused(String),
    /// The same of the store's files.
    RefusedStore(String),
}

/// The files of a shard's two directories, by name and size.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The log's.
    pub log: &'a [(String, u64)],
    /// The store's.
    pub store: &'a [(String, u64)],
}

/// A shard on its way from its files.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    wal: wal::Recovery,
    phase: Phase,
    seed: u64,
    now: Tick,
    /// The member is to go on as the only one.
    is_alone: bool,
}

/// Which files are read.
#[derive(Debug)]
enum Phase {
    /// The store's. ─all are read→ `Leases`.
    Store { store: Box<store::Recovery>, restoring: Restoring },
    /// None: keys are attached to their leases, from this one on. ─all are→ `Log`.
    Leases(Box<Opening>, Option<Vec<u8>>),
    /// The log's. ─all are read→ `Over`.
    Log(Box<Opening>),
    /// The shard was handed over, or refused.
    Over,
}

/// What the store came to, and the log so far.
#[derive(Debug)]
struct Opening {
    keyspace: Keyspace,
    lessor: Lessor,
    store: Store,
    /// The state that is sealed; none in a new store.
    sealed: Option<State>,
    /// The last entry in the store.
    applied: Position,
    membership: Membership,
    /// The first entry in the log, if the store has it.
    first: Option<Position>,
    /// The term of the last entry in the store, as the log has it.
    applied_term: Option<Term>,
    /// The state came from a peer.
    arrived: bool,
    /// Entries after `applied`, without a gap.
    rest: VecDeque<Entry>,
}

impl Recovery {
    /// Recovery from these files.
    ///
    /// `log_id` is this node's, and its store's too; `seed` feeds every choice Raft makes by lot.
    #[must_use]
    pub fn new(config: Config, log_id: u64, files: Files<'_>, seed: u64, now: Tick) -> Self {
        let wal = wal::Recovery::new(config.wal, config.id, log_id, files.log);
        let store = store::Recovery::new(config.store, config.id, log_id, files.store);
        let phase = Phase::Store { store: Box::new(store), restoring: Restoring::new() };
        Self { config, wal, phase, seed, now, is_alone: false }
    }

    /// The member goes on as the only one of its group, if it is not already: all others count as
    /// removed from here on.
    ///
    /// # Durability
    /// It is one entry of the log, which is durable before anything rests on it.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// Others wait for the core meanwhile: no step takes long, and all of them together longer.
    #[must_use]
    pub fn in_slices(mut self) -> Self {
        if let Phase::Store { restoring, .. } = &mut self.phase {
            *restoring = Restoring::in_slices();
        }
        self
    }

    /// The bytes of the last [`Step::Read`].
    pub fn handle(&mut self, bytes: &[u8]) {
        match &mut self.phase {
            Phase::Store { store, .. } => store.handle(bytes),
            Phase::Log(_) => self.wal.handle(bytes),
            Phase::Leases(..) | Phase::Over => unreachable!("nothing was asked for"),
        }
    }

    /// The next thing to do. After [`Step::Done`] or [`Step::Refused`] there is none.
    pub fn poll(&mut self) -> Step {
        loop {
            let step = match &mut self.phase {
                Phase::Store { .. } => self.poll_store().map_err(Step::RefusedStore),
                Phase::Leases(..) => self.poll_leases().map_err(Step::RefusedStore),
                Phase::Log(_) => self.poll_log().map_err(Step::Refused),
                Phase::Over => unreachable!("recovery is over"),
            };
            match step {
                Ok(Some(step)) => return step,
                Ok(None) => {}
                Err(refused) => {
                    self.phase = Phase::Over;
                    return refused;
                }
            }
        }
    }

    fn poll_store(&mut self) -> Result<Option<Step>, String> {
        let Phase::Store { store, restoring } = &mut self.phase else {
            unreachable!("the store is read");
        };
        match store.poll() {
            store::Step::Read { file, offset, size } => {
                return Ok(Some(Step::ReadStore { file, offset, size }));
            }
            store::Step::Entries => {
                let mut dead = Vec::new();
                for entry in store.entries() {
                    let (at, created, version) = (entry.location, entry.created, entry.version);
                    restoring
                        .add(at, entry.key, created, version, |it| dead.push(it))
                        .map_err(|misfit| refused(&misfit))?;
                }
                for location in dead {
                    store.forget(location);
                }
                return Ok(Some(Step::More));
            }
            store::Step::Done(recovered) => {
                let restoring = std::mem::take(restoring);
                let opening = self.open_store(*recovered, restoring)?;
                self.phase = Phase::Leases(Box::new(opening), None);
            }
            store::Step::Refused(damage) => return Err(damage.to_string()),
        }
        Ok(None)
    }

    fn poll_leases(&mut self) -> Result<Option<Step>, String> {
        let Phase::Leases(mut opening, from) = std::mem::replace(&mut self.phase, Phase::Over)
        else {
            unreachable!("keys are attached");
        };
        let Opening { keyspace, store, lessor, .. } = &mut *opening;
        let rest = attach_stretch(keyspace, store, lessor, from.as_deref());
        let rest = rest.map_err(|misfit| refused(&misfit))?;
        let is_more = rest.is_some();
        self.phase = if is_more { Phase::Leases(opening, rest) } else { Phase::Log(opening) };
        Ok(is_more.then_some(Step::More))
    }

    /// The store is read: the keyspace is as it was sealed.
    fn open_store(
        &self,
        recovered: store::Recovered,
        restoring: Restoring,
    ) -> Result<Opening, String> {
        let (sealed, lessor) = match &recovered.state {
            Some(state) => {
                let (state, lessor) = State::decode(state).map_err(|why| refused(&why))?;
                (Some(state), lessor)
            }
            None => (None, Lessor::new()),
        };
        let mut dead = Vec::new();
        let keyspace = match &sealed {
            Some(state) => restoring
                .finish(state.revision, state.floor, |it| dead.push(it))
                .map_err(|misfit| refused(&misfit))?,
            None => Keyspace::new(),
        };
        let arrived = recovered.parts.arrived;
        let mut store = Store::new(recovered);
        dead.into_iter().for_each(|location| store.forget(location));
        let (applied, membership) = match &sealed {
            Some(state) => (state.applied, state.membership.clone()),
            None if self.config.joins => {
                (Position::default(), Membership::new(&self.config.founders, &[]))
            }
            None => {
                let of = |learner| {
                    let members = self.config.members.iter();
                    members.filter(|it| it.learner == learner).map(|it| it.id).collect::<Vec<_>>()
                };
                (Position::default(), Membership::new(&of(false), &of(true)))
            }
        };
        let rest = VecDeque::new();
        let (first, applied_term) = (None, None);
        let opened = Opening {
            keyspace,
            lessor,
            store,
            sealed,
            applied,
            membership,
            first,
            applied_term,
            arrived,
            rest,
        };
        Ok(opened)
    }

    fn poll_log(&mut self) -> Result<Option<Step>, String> {
        match self.wal.poll() {
            wal::Step::Read { file, offset, size } => Ok(Some(Step::Read { file, offset, size })),
            wal::Step::Records => {
                let Phase::Log(opening) = &mut self.phase else {
                    unreachable!("the log is read");
                };
                for record in self.wal.records() {
                    opening.take(&record)?;
                }
                Ok(None)
            }
            wal::Step::Done(recovered) => {
                let Phase::Log(opening) = std::mem::replace(&mut self.phase, Phase::Over) else {
                    unreachable!("the log is read");
                };
                self.open(*opening, *recovered).map(|shard| Some(Step::Done(Box::new(shard))))
            }
            wal::Step::Refused(damage) => Err(damage.to_string()),
        }
    }

    fn open(&self, mut opening: Opening, mut recovered: wal::Recovered) -> Result<Shard, String> {
        let room = recovered.writer.entry_size_max();
        let room = room.saturating_sub(self.config.encoding_size_max);
        let asked = self.config.request_size_max;
        if asked > room {
            return Err(format!(
                "--max-request-bytes {asked} does not fit the segments that this log was made \
                 with, which hold requests of up to {room} bytes; lower it to that"
            ));
        }
        let applied = opening.applied;
        opening.supersede(&mut recovered);
        let marked = recovered.snapshot.as_ref().map_or(LogIndex(0), |mark| mark.index);
        if marked > applied.index || recovered.last < applied.index {
            return Err(format!(
                "the store holds all up to entry {}, and the log goes from entry {} to {}: they \
                 are not of one time; put back the files that belong together, or restore this \
                 member from a backup",
                applied.index,
                marked.next(),
                recovered.last
            ));
        }
        opening.check_known()?;
        let gone = if self.is_alone {
            opening.leave_others(&self.config, &mut recovered)
        } else {
            Vec::new()
        };
        let last = opening.rest.back().map_or(applied.index, |entry| entry.index);
        let changes = opening.rest.iter().filter(|entry| entry.kind == EntryKind::Config);
        let changes: Vec<Entry> = changes.cloned().collect();
        let up: BTreeSet<_> = opening.rest.iter().filter_map(origin_of).map(|it| it.node).collect();
        let restored = raft::Restored {
            hard_state: raft::HardState {
                term: recovered.hard_state.term.max(applied.term),
                // In a term that is not the log's there was none.
                vote: recovered
                    .hard_state
                    .vote
                    .filter(|_| recovered.hard_state.term >= applied.term),
                committed: recovered.hard_state.committed.min(last).max(applied.index),
            },
            snapshot: opening.snapshot(),
            base: applied,
            membership: opening.membership.clone(),
            entries: opening.rest.into(),
            applied: applied.index,
        };
        if let Err(rule) = restored.check() {
            let end = recovered.end.0;
            return Err(format!(
                "the log up to {end} does not hold together: {rule} does not hold; restore this \
                 member from a backup, or remove it and add it anew"
            ));
        }
        let mut raft = raft::Node::new(self.config.raft.clone(), restored, self.seed);
        raft.handle(raft::Input::Tick(self.now));
        let mut shard = Shard::new(
            self.config.clone(),
            (opening.keyspace, opening.lessor, opening.store),
            (recovered.writer, raft),
            (opening.sealed, opening.membership),
            (self.seed, self.now),
        );
        changes.iter().for_each(|entry| shard.note_change(entry));
        up.into_iter().for_each(|id| shard.note_up(id));
        shard.tell_of_gone(&gone);
        Ok(shard)
    }
}

/// What to say of a store whose checksums hold and whose content does not.
fn refused(why: &dyn fmt::Display) -> String {
    format!(
        "the store does not hold together: {why}; start the version of ringd that wrote it, or \
         restore this member from a backup"
    )
}

impl Opening {
    /// Takes in one record of the log.
    ///
    /// # Errors
    /// A record that contradicts those before it, or the store.
    fn take(&mut self, record: &Record<'_>) -> Result<(), String> {
        match *record {
            Record::Entry { term, index, kind, data } => {
                let kind = EntryKind::from_code(kind).ok_or_else(|| {
                    format!("entry {index} is of kind {kind}, which is not known")
                })?;
                if index <= self.applied.index {
                    self.take_known(Position { term, index });
                    return Ok(());
                }
                while self.rest.pop_back_if(|entry| entry.index >= index).is_some() {}
                let data = Bytes::copy_from_slice(data);
                self.rest.push_back(Entry { term, index, kind, data });
                Ok(())
            }
            Record::HardState(_) | Record::Snapshot { reset: false, .. } => Ok(()),
            Record::Snapshot { term, index, reset: true, .. } => {
                // The log began anew here; what was before does not count.
                self.rest.clear();
                self.first = None;
                self.applied_term = (index == self.applied.index).then_some(term);
                Ok(())
            }
        }
    }

    /// An entry that the store has. It may replace others that were never committed, and those
    /// after them.
    fn take_known(&mut self, entry: Position) {
        self.rest.clear();
        if self.first.is_none_or(|first| entry.index <= first.index) {
            self.first = Some(entry);
        }
        if entry.index == self.applied.index {
            self.applied_term = Some(entry.term);
        } else {
            self.applied_term = None;
        }
    }

    /// Lets the log begin anew behind a state that came from a peer, unless it holds that state's
    /// last entry.
    fn supersede(&mut self, recovered: &mut wal::Recovered) {
        let Position { term, index } = self.applied;
        let mark = recovered.snapshot.as_ref().map(|mark| (mark.term, mark.index));
        let is_known = self.applied_term == Some(term) || mark == Some((term, index));
        // A mark beyond the state is of a log that is not this state's at all.
        if !self.arrived || is_known || mark.is_some_and(|mark| mark.1 > index) {
            return;
        }
        self.rest.clear();
        (self.first, self.applied_term) = (None, Some(term));
        let membership = self.membership.encode();
        let membership = &membership[..];
        recovered.writer.append(&Record::Snapshot { term, index, reset: true, membership });
        recovered.last = index;
    }

    /// Adds the entry after which this member is the only one; who has to leave.
    fn leave_others(&mut self, config: &Config, recovered: &mut wal::Recovered) -> Vec<Member> {
        let members = self.sealed.as_ref().and_then(|state| state.members.clone());
        let members = members.unwrap_or_else(|| Members::new(&config.members));
        let company = Company { membership: self.membership.clone(), members };
        let term = recovered.hard_state.term;
        let (own, known) = (config.raft.id, &config.members);
        let made = alone::entry(own, known, company, (self.applied, &self.rest), term);
        let Some((entry, gone)) = made else { return Vec::new() };
        recovered.writer.append(&Record::Entry {
            term: entry.term,
            index: entry.index,
            kind: entry.kind.code(),
            data: &entry.data,
        });
        recovered.last = entry.index;
        self.rest.push_back(entry);
        gone
    }

    /// Whether the log and the store have the same entry where they meet.
    ///
    /// # Errors
    /// They have not.
    fn check_known(&self) -> Result<(), String> {
        let (index, stored) = (self.applied.index, self.applied.term);
        match self.applied_term {
            Some(term) if term != stored => Err(format!(
                "entry {index} is of term {term} in the log and of term {stored} in the store: \
                 they belong to different histories"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The last entry that no longer exists as one: the log's first, unless nothing is missing.
    fn snapshot(&self) -> Position {
        match self.first {
            Some(first) if first.index == LogIndex(1) => Position::default(),
            Some(first) => first,
            None => self.applied,
        }
    }
}
