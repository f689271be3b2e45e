//! The log as this node knows it: its end in memory, the terms of more, the rest on disk.

use std::collections::VecDeque;

use crate::raft::message::Entry;
use crate::raft::message::Position;
use crate::types::LogIndex;
use crate::types::Term;

/// Most stretches of one term that are remembered; older terms are then read with the entries.
const RUN_COUNT_MAX: usize = 1024;

/// The log and how far it has come, by what is true of the entries up to there.
///
/// # Shape
/// `snapshot <= base <= emitted <= committed <= last` and `durable <= written <= last`;
/// `base <= durable`. The entries in memory are those after `base`. `committed` may pass
/// `written`: a majority need not include us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    /// Up to here nothing exists as an entry.
    snapshot: Position,
    /// Up to here nothing is in memory.
    base: Position,
    entries: VecDeque<Entry>,
    /// Where each term begins, as far back as known; the first stands for `base` at the start.
    runs: Vec<Position>,
    last: Position,
    /// Handed to the disk.
    written: LogIndex,
    /// On disk, in the order of this log.
    durable: LogIndex,
    committed: LogIndex,
    /// Handed to the state machine.
    emitted: LogIndex,
    /// Bytes of the entries after `emitted`.
    pending_size: usize,
    /// Bytes of the entries in memory up to `emitted`.
    cached_size: usize,
}

impl Log {
    pub(super) fn new(
        snapshot: Position,
        base: Position,
        entries: Vec<Entry>,
        committed: LogIndex,
        applied: LogIndex,
    ) -> Self {
        let mut log = Self {
            snapshot,
            base,
            entries: VecDeque::new(),
            runs: vec![base],
            last: base,
            written: base.index,
            durable: base.index,
            committed,
            emitted: applied,
            pending_size: 0,
            cached_size: 0,
        };
        for entry in entries {
            log.append(entry);
        }
        log.written = log.last.index;
        log.durable = log.last.index;
        log.committed = log.committed.max(applied);
        log.check();
        log
    }

    fn check(&self) {
        assert!(self.snapshot.index <= self.base.index, "what is in memory exists");
        assert!(self.base.index <= self.emitted, "what is not applied is in memory");
        assert!(self.emitted <= self.committed, "only committed entries are applied");
        assert!(self.committed <= self.last.index, "only entries that exist are committed");
        assert!(self.durable <= self.written, "only written entries are durable");
        assert!(self.written <= self.last.index, "only entries that exist are written");
        assert!(self.base.index <= self.durable, "what is not durable is in memory");
    }

    pub(super) fn snapshot(&self) -> Position {
        self.snapshot
    }

    /// The index before the first entry in memory.
    pub(super) fn base(&self) -> LogIndex {
        self.base.index
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    pub(super) fn written(&self) -> LogIndex {
        self.written
    }

    pub(super) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(super) fn committed(&self) -> LogIndex {
        self.committed
    }

    pub(super) fn emitted(&self) -> LogIndex {
        self.emitted
    }

    pub(super) fn pending_size(&self) -> usize {
        self.pending_size
    }

    /// The term of the entry at this index, if it is known without reading.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
        if index > self.last.index {
            return None;
        }
        if index > self.base.index {
            return Some(self.entries[self.offset(index)].term);
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        after.checked_sub(1).map(|run| self.runs[run].term)
    }

    /// The last place up to `index` whose term is at most `term`.
    ///
    /// Where the log's memory of terms ends, the place before it, with `term` as the bound.
    pub(super) fn last_within(&self, index: LogIndex, term: Term) -> Position {
        let mut index = index.min(self.last.index);
        for run in self.runs.iter().rev() {
            if run.index > index {
                continue;
            }
            if run.term <= term {
                return Position { index, term: run.term };
            }
            index = LogIndex(run.index.0.saturating_sub(1));
        }
        Position { index, term }
    }

    /// Adds an entry at the end.
    pub(super) fn append(&mut self, entry: Entry) {
        assert!(entry.index == self.last.index.next(), "the log has no gap");
        assert!(entry.term >= self.last.term, "terms never fall");
        if entry.term > self.last.term {
            if self.runs.len() >= RUN_COUNT_MAX {
                self.runs.remove(0);
            }
            self.runs.push(entry.position());
        }
        self.last = entry.position();
        if entry.index > self.emitted {
            self.pending_size += entry.size();
        } else {
            self.cached_size += entry.size();
        }
        self.entries.push_back(entry);
    }

    /// Takes away the entries from `from` on: they are not the leader's.
    pub(super) fn cut(&mut self, from: LogIndex) {
        assert!(from > self.committed, "a committed entry stays");
        while self.last.index >= from {
            let entry = self.entries.pop_back().expect("what is not committed is in memory");
            self.pending_size -= entry.size();
            if self.runs.last().is_some_and(|run| run.index == entry.index) {
                self.runs.pop();
            }
            self.last = self.entries.back().map_or(self.base, Entry::position);
        }
        self.written = self.written.min(self.last.index);
        self.durable = self.durable.min(self.last.index);
        self.check();
    }

    /// Becomes empty after `last`: a snapshot replaces everything.
    pub(super) fn reset(&mut self, last: Position) {
        assert!(last.index > self.committed, "a snapshot never goes back");
        self.entries.clear();
        self.snapshot = last;
        self.base = last;
        self.runs = vec![last];
        self.last = last;
        self.written = last.index;
        self.durable = last.index;
        self.committed = last.index;
        self.emitted = last.index;
        self.pending_size = 0;
        self.cached_size = 0;
    }

    /// Entries `first..=last` as far as they fit `size_max`, at least one; they are in memory.
    pub(super) fn slice(&self, first: LogIndex, last: LogIndex, size_max: usize) -> Vec<Entry> {
        assert!(first > self.base.index, "the entries are in memory");
        let from = self.offset(first);
        let to = self.offset(last.next());
        let mut size = 0;
        let mut count = 0;
        for entry in self.entries.range(from..to) {
            size += entry.size();
            if count > 0 && size > size_max {
                break;
            }
            count += 1;
        }
        self.entries.range(from..from + count).cloned().collect()
    }

    fn offset(&self, index: LogIndex) -> usize {
        usize::try_from(index.0 - self.base.index.0 - 1).expect("what is in memory fits a usize")
    }

    /// Entries to hand to the disk, as many as fit, and marks them as handed over.
    pub(super) fn write(&mut self, size_max: usize) -> Vec<Entry> {
        if self.written == self.last.index {
            return Vec::new();
        }
        let entries = self.slice(self.written.next(), self.last.index, size_max);
        self.written = entries.last().expect("there is one to write").index;
        entries
    }

    /// Up to `index` the disk holds this log.
    pub(super) fn stored(&mut self, index: LogIndex) {
        assert!(index <= self.written, "only written entries become durable");
        self.durable = self.durable.max(index);
    }

    /// Up to `index` a majority holds this log.
    pub(super) fn commit(&mut self, index: LogIndex) {
        assert!(index <= self.last.index, "only entries that exist are committed");
        self.committed = self.committed.max(index);
    }

    /// Committed entries to hand to the state machine, and marks them as handed over.
    ///
    /// # Cost
    /// With `keep` they are cloned (a reference count each); without, those that are durable move
    /// out.
    pub(super) fn emit(&mut self, keep: bool, size_max: usize) -> Vec<Entry> {
        if self.emitted == self.committed {
            return Vec::new();
        }
        if !keep {
            self.shrink(0);
            if self.base.index == self.emitted && self.committed <= self.durable {
                return self.move_out();
            }
        }
        let entries = self.slice(self.emitted.next(), self.committed, size_max);
        let size: usize = entries.iter().map(Entry::size).sum();
        self.pending_size -= size;
        self.cached_size += size;
        self.emitted = entries.last().expect("there is one to apply").index;
        entries
    }

    fn move_out(&mut self) -> Vec<Entry> {
        let count = self.offset(self.committed.next());
        let entries: Vec<Entry> = self.entries.drain(..count).collect();
        self.pending_size -= entries.iter().map(Entry::size).sum::<usize>();
        self.base = entries.last().expect("there is one to apply").position();
        self.emitted = self.committed;
        entries
    }

    /// Lets go of the oldest entries in memory until those handed over take at most `size_max`.
    pub(super) fn shrink(&mut self, size_max: usize) {
        let end = self.emitted.min(self.durable);
        while self.cached_size > size_max && self.base.index < end {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let entry = self.entries.pop_front().expect("the entry after the base is in memory");
        self.cached_size -= entry.size();
        self.base = entry.position();
    }

    /// Entries up to `last` no longer exist.
    pub(super) fn compact(&mut self, last: Position) {
        if last.index <= self.snapshot.index {
            return;
        }
        assert!(last.index <= self.emitted, "a snapshot covers only what was applied");
        assert!(last.index <= self.durable, "a snapshot covers only what is durable");
        while self.base.index < last.index {
            self.drop_first();
        }
        self.snapshot = last;
        let keep = self.runs.partition_point(|run| run.index <= last.index).saturating_sub(1);
        self.runs.drain(..keep);
        self.check();
    }
}
