//! From the log's files to a running shard.
//!
//! Entries that the log knows to be committed are applied as they are read, so that what waits in
//! memory is only the log's last stretch; the rest goes to Raft, which commits it anew once it
//! leads.

use crate::mvcc::Keyspace;
use crate::raft;
use crate::raft::ConfigData;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::Membership;
use crate::raft::Position;
use crate::shard::Config;
use crate::shard::Shard;
use crate::shard::apply;
use crate::shard::memory::Memory;
use crate::shard::wait::Proposals;
use crate::shard::wait::Reads;
use crate::types::LogIndex;
use crate::types::Tick;
use crate::wal;
use crate::wal::FileId;
use crate::wal::Record;
use bytes::Bytes;
use std::collections::VecDeque;

/// What recovery wants, or has come to.
#[derive(Debug)]
pub enum Step {
    /// Read `size` bytes at `offset` of `file` and pass them to [`Recovery::handle`].
    Read {
        /// The file.
        file: FileId,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        size: usize,
    },
    /// The shard is open; how many entries were applied, and how many wait for a leader.
    Done(Box<Shard>),
    /// The files can not be opened: which, where, why, and what to do. Nothing was changed.
    Refused(String),
}

/// A shard on its way from its files.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    wal: wal::Recovery,
    state: State,
    seed: u64,
    now: Tick,
}

/// What the records so far amount to.
#[derive(Debug)]
struct State {
    keyspace: Keyspace,
    records: Memory,
    /// The last entry applied.
    applied: Position,
    membership: Membership,
    /// Entries after `applied`, without a gap.
    rest: VecDeque<Entry>,
}

impl Recovery {
    /// Recovery from these files of the log's directory, by name and size.
    ///
    /// `log_id` is this node's, `seed` feeds every choice Raft makes by lot.
    #[must_use]
    pub fn new(config: Config, log_id: u64, files: &[(String, u64)], seed: u64, now: Tick) -> Self {
        let voters: Vec<_> = config.members.iter().filter(|m| !m.learner).map(|m| m.id).collect();
        let learners: Vec<_> = config.members.iter().filter(|m| m.learner).map(|m| m.id).collect();
        let state = State {
            keyspace: Keyspace::new(),
            records: Memory::default(),
            applied: Position::default(),
            membership: Membership::new(&voters, &learners),
            rest: VecDeque::new(),
        };
        let wal = wal::Recovery::new(config.wal, config.id, log_id, files);
        Self { config, wal, state, seed, now }
    }

    /// The bytes of the last [`Step::Read`].
    pub fn handle(&mut self, bytes: &[u8]) {
        self.wal.handle(bytes);
    }

    /// The next thing to do. After [`Step::Done`] or [`Step::Refused`] there is none.
    pub fn poll(&mut self) -> Step {
        loop {
            match self.wal.poll() {
                wal::Step::Read { file, offset, size } => return Step::Read { file, offset, size },
                wal::Step::Records => {
                    for record in self.wal.records() {
                        if let Err(why) = self.state.take(&record) {
                            return Step::Refused(why);
                        }
                    }
                }
                wal::Step::Done(recovered) => return self.open(*recovered),
                wal::Step::Refused(damage) => return Step::Refused(damage.to_string()),
            }
        }
    }

    fn open(&mut self, recovered: wal::Recovered) -> Step {
        let (asked, room) = (self.config.request_size_max, recovered.writer.entry_size_max());
        if asked > room {
            return Step::Refused(format!(
                "--max-request-bytes {asked} does not fit the segments that this log was made \
                 with, which hold requests of up to {room} bytes; lower it to that"
            ));
        }
        let state = std::mem::replace(&mut self.state, State::empty());
        let last = state.rest.back().map_or(state.applied.index, |entry| entry.index);
        let restored = raft::Restored {
            hard_state: raft::HardState {
                term: recovered.hard_state.term,
                vote: recovered.hard_state.vote,
                committed: recovered.hard_state.committed.min(last),
            },
            snapshot: Position::default(),
            base: state.applied,
            membership: state.membership,
            entries: state.rest.into(),
            applied: state.applied.index,
        };
        if let Err(rule) = restored.check() {
            let end = recovered.end.0;
            return Step::Refused(format!(
                "the log up to {end} does not hold together: {rule} does not hold; restore this \
                 member from a backup, or remove it and add it anew"
            ));
        }
        let mut raft = raft::Node::new(self.config.raft.clone(), restored, self.seed);
        raft.handle(raft::Input::Tick(self.now));
        Step::Done(Box::new(Shard {
            config: self.config.clone(),
            raft,
            wal: recovered.writer,
            keyspace: state.keyspace,
            records: state.records,
            applied: state.applied.index,
            applied_term: state.applied.term,
            proposals: Proposals::default(),
            reads: Reads::default(),
            outputs: VecDeque::new(),
            now: self.now,
            unmarked: None,
            stopping: false,
            halted: false,
        }))
    }
}

impl State {
    fn empty() -> Self {
        Self {
            keyspace: Keyspace::new(),
            records: Memory::default(),
            applied: Position::default(),
            membership: Membership::new(&[], &[]),
            rest: VecDeque::new(),
        }
    }

    /// Takes in one record.
    ///
    /// # Errors
    /// A record that contradicts those before it, or an entry this build can not apply.
    fn take(&mut self, record: &Record<'_>) -> Result<(), String> {
        match *record {
            Record::Entry { term, index, kind, data } => {
                let kind = EntryKind::from_code(kind).ok_or_else(|| {
                    format!("entry {index} is of kind {kind}, which is not known")
                })?;
                if index <= self.applied.index {
                    return Err(format!("entry {index} is written again after it was committed"));
                }
                while self.rest.pop_back_if(|entry| entry.index >= index).is_some() {}
                let data = Bytes::copy_from_slice(data);
                self.rest.push_back(Entry { term, index, kind, data });
                Ok(())
            }
            Record::HardState(state) => self.advance(state.committed),
            Record::Snapshot { index, .. } => {
                Err(format!("a snapshot at entry {index}, which this build does not write"))
            }
        }
    }

    /// Applies what is known to be committed.
    fn advance(&mut self, committed: LogIndex) -> Result<(), String> {
        while let Some(entry) = self.rest.pop_front_if(|entry| entry.index <= committed) {
            self.applied = entry.position();
            match entry.kind {
                EntryKind::Empty => {}
                EntryKind::Config => {
                    let data = ConfigData::decode(&entry.data)
                        .ok_or_else(|| format!("entry {} holds no membership", entry.index))?;
                    self.membership = data.membership;
                }
                EntryKind::Normal => {
                    let result = apply::apply(&mut self.keyspace, &mut self.records, &entry.data);
                    result.map(drop).map_err(|error| {
                        format!("entry {} can not be applied: {error}", entry.index)
                    })?;
                }
            }
        }
        Ok(())
    }
}
