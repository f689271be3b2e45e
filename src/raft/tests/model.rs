//! The log against a dumb one: all entries ever appended, in a vector, and nothing forgotten.

use bytes::Bytes;

use super::world::Luck;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::Position;
use crate::raft::log::Log;
use crate::types::LogIndex;
use crate::types::Term;

struct Dumb {
    entries: Vec<Entry>,
    written: usize,
    durable: usize,
    committed: usize,
    emitted: usize,
    snapshot: usize,
}

impl Dumb {
    fn position(&self, index: usize) -> Position {
        index.checked_sub(1).map_or(Position::default(), |at| self.entries[at].position())
    }

    fn last_within(&self, index: LogIndex, term: Term) -> LogIndex {
        let fits = |entry: &&Entry| entry.index <= index && entry.term <= term;
        self.entries.iter().rev().find(fits).map_or(LogIndex(0), |entry| entry.index)
    }
}

fn at(index: usize) -> LogIndex {
    LogIndex(index as u64)
}

fn step(log: &mut Log, dumb: &mut Dumb, luck: &mut Luck) {
    let last = dumb.entries.len();
    match luck.below(8) {
        0..=2 => {
            let term = Term(log.last().term.0.max(1) + u64::from(luck.percent(20)));
            let data = Bytes::from(vec![0; luck.index(30)]);
            let entry = Entry { term, index: at(last + 1), kind: EntryKind::Normal, data };
            log.append(entry.clone());
            dumb.entries.push(entry);
        }
        3 if last > dumb.committed && luck.percent(30) => {
            let from = dumb.committed + 1 + luck.index(last - dumb.committed);
            log.cut(at(from));
            dumb.entries.truncate(from - 1);
            dumb.written = dumb.written.min(from - 1);
            dumb.durable = dumb.durable.min(from - 1);
        }
        4 => {
            let size_max = luck.index(1000);
            let entries = log.write(size_max);
            assert_eq!(entries, dumb.entries[dumb.written..dumb.written + entries.len()]);
            assert!(!entries.is_empty() || dumb.written == last, "what there is is written");
            dumb.written += entries.len();
        }
        5 => {
            dumb.durable += luck.index(dumb.written - dumb.durable + 1);
            log.stored(at(dumb.durable));
        }
        6 => {
            dumb.committed += luck.index(last - dumb.committed + 1);
            log.commit(at(dumb.committed));
            let entries = log.emit(luck.percent(50), luck.index(1000));
            assert_eq!(entries, dumb.entries[dumb.emitted..dumb.emitted + entries.len()]);
            dumb.emitted += entries.len();
        }
        _ => {
            log.shrink(luck.index(2000));
            if luck.percent(30) {
                let end = dumb.emitted.min(dumb.durable).max(dumb.snapshot);
                dumb.snapshot += luck.index(end - dumb.snapshot + 1);
                log.compact(dumb.position(dumb.snapshot));
            }
        }
    }
}

fn compare(log: &Log, dumb: &Dumb, luck: &mut Luck) {
    let last = dumb.entries.len();
    assert_eq!(log.last(), dumb.position(last));
    assert_eq!(log.snapshot(), dumb.position(dumb.snapshot));
    let cursors = (log.written(), log.durable(), log.committed(), log.emitted());
    let dumbs = (at(dumb.written), at(dumb.durable), at(dumb.committed), at(dumb.emitted));
    assert_eq!(cursors, dumbs);
    let pending: usize = dumb.entries[dumb.emitted..].iter().map(Entry::size).sum();
    assert_eq!(log.pending_size(), pending);
    let base = usize::try_from(log.base().0).expect("a short log");
    assert_eq!(log.slice(at(base + 1), at(last), usize::MAX), dumb.entries[base..]);
    for index in dumb.snapshot..=last {
        assert_eq!(log.term(at(index)), Some(dumb.position(index).term), "the term at {index}");
    }
    assert_eq!(log.term(at(last + 1)), None);
    let (index, term) = (at(luck.index(last + 3)), Term(luck.below(log.last().term.0 + 2)));
    let (found, dumb_found) = (log.last_within(index, term), dumb.last_within(index, term));
    if dumb_found > at(dumb.snapshot) {
        assert_eq!(found.index, dumb_found);
        assert_eq!(Some(found.term), log.term(found.index));
    } else {
        assert!(found.index <= at(dumb.snapshot), "not past what may agree");
    }
}

#[test]
fn the_log_is_a_vector_that_forgets() {
    for seed in 0..60 {
        let mut luck = Luck(seed);
        let zero = LogIndex(0);
        let origin = Position::default();
        let mut log = Log::new(origin, origin, Vec::new(), zero, zero);
        let entries = Vec::new();
        let mut dumb =
            Dumb { entries, written: 0, durable: 0, committed: 0, emitted: 0, snapshot: 0 };
        for _ in 0..300 {
            step(&mut log, &mut dumb, &mut luck);
            compare(&log, &dumb, &mut luck);
        }
    }
}
