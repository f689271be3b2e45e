//! Faults planted into the record of an honest run, each of which the audit has to find.

use crate::audit::Audit;
use crate::load::Load;
use crate::record::{Attempt, Condition, Entry, Outcome, Read, Record};
use crate::start;
use crate::support::block_on;
use crate::support::dice::Dice;
use bytes::Bytes;
use ringd::api::proto::mvccpb::Event;
use std::time::Duration;
use tokio::task::LocalSet;

/// Writes of the run.
const WRITES: usize = 400;

/// Plants a fault in what happened to one watcher; false if there is no place for it.
type OfWatcher = fn(&mut Vec<Entry>, compacted_max: i64) -> bool;
/// Plants a fault elsewhere.
type OfRecord = fn(&mut Record) -> bool;

const OF_WATCHERS: [(&str, OfWatcher); 13] = [
    ("an event is dropped", |entries, _| {
        middle(entries, is_events).map(|at| events(&mut entries[at]).remove(0)).is_some()
    }),
    ("an answer is dropped", |entries, _| {
        middle(entries, is_events).map(|at| entries.remove(at)).is_some()
    }),
    ("the last event is dropped", |entries, _| {
        let last = entries.iter().rposition(is_events);
        last.map(|at| events(&mut entries[at]).pop()).is_some()
    }),
    ("an answer is repeated", |entries, _| {
        middle(entries, is_events).map(|at| entries.insert(at, entries[at].clone())).is_some()
    }),
    ("an event is repeated", |entries, _| {
        let Some(at) = middle(entries, is_events) else { return false };
        let event = events(&mut entries[at])[0].clone();
        events(&mut entries[at]).push(event);
        true
    }),
    ("two answers are told in the wrong order", |entries, _| {
        let is_pair = |pair: &[Entry]| pair.iter().all(is_events);
        let found = entries.windows(2).position(is_pair);
        found.map(|at| entries.swap(at, at + 1)).is_some()
    }),
    ("progress is ahead of an event", |entries, _| {
        let Some(at) = middle(entries, is_events) else { return false };
        let revision = revision(&events(&mut entries[at])[0]);
        entries.insert(at, Entry::Progress(revision));
        true
    }),
    ("an event has another value", |entries, _| {
        let found = entries.iter().position(
            |entry| matches!(entry, Entry::Events { events, .. } if events[0].r#type == 0),
        );
        let Some(at) = found else { return false };
        let kv = events(&mut entries[at])[0].kv.as_mut();
        kv.expect("an event has a pair").value = Bytes::from_static(b"another");
        true
    }),
    ("an event has another version", |entries, _| {
        let Some(at) = middle(entries, is_events) else { return false };
        let kv = events(&mut entries[at])[0].kv.as_mut();
        kv.expect("an event has a pair").version += 1;
        true
    }),
    ("what was before is not told", |entries, compacted_max| {
        let found = entries.iter_mut().filter(|entry| is_events(entry)).find_map(|entry| {
            events(entry)
                .iter_mut()
                .find(|event| event.prev_kv.is_some() && revision(event) > compacted_max)
        });
        found.map(|event| event.prev_kv = None).is_some()
    }),
    ("an answer is older than its event", |entries, _| {
        let Some(at) = middle(entries, is_events) else { return false };
        if let Entry::Events { header, events, .. } = &mut entries[at] {
            *header = revision(&events[0]) - 1;
        }
        true
    }),
    ("it goes on one revision too late", |entries, _| {
        let found = entries
            .iter_mut()
            .find_map(|entry| if let Entry::Opened(start) = entry { Some(start) } else { None });
        found.map(|start| *start += 1).is_some()
    }),
    ("it is told of a compaction that nobody asked for", |entries, compacted_max| {
        entries.push(Entry::Compacted(compacted_max + 1));
        true
    }),
];

const OF_RECORDS: [(&str, OfRecord); 14] = [
    ("a write that was acknowledged is lost", |record| {
        let Some(attempt) = middle_attempt(record, is_done) else { return false };
        let Outcome::Done(lost) = attempt.outcome else { return false };
        each_event(record, |event| revision(event) == lost);
        true
    }),
    ("a write that was acknowledged is another's", |record| {
        let Some(attempt) = middle_attempt(record, is_done) else { return false };
        let Outcome::Done(revision) = &mut attempt.outcome else { return false };
        *revision += 1;
        true
    }),
    ("a write that was refused is done", |record| {
        let Some(attempt) = middle_attempt(record, is_done) else { return false };
        let Outcome::Done(revision) = attempt.outcome else { return false };
        attempt.outcome = Outcome::Refused { revision, rows: None };
        true
    }),
    ("a write is done on a condition that does not hold", |record| {
        let Some(attempt) = middle_attempt(record, is_done) else { return false };
        attempt.condition = Condition::Mod(1);
        true
    }),
    ("a write is done at a revision that was known before", |record| {
        let Some(attempt) = middle_attempt(record, is_done) else { return false };
        let Outcome::Done(revision) = attempt.outcome else { return false };
        attempt.floor = revision;
        true
    }),
    ("a write is refused though its condition holds", |record| {
        let found = middle_attempt(record, |it| row_of(it).is_some());
        let Some(attempt) = found else { return false };
        attempt.condition = Condition::Mod(row_of(attempt).expect("it was found with one"));
        true
    }),
    ("a write is refused with a row that is not there", |record| {
        let found = middle_attempt(record, |it| row_of(it).is_some());
        let Some(Outcome::Refused { rows: Some(rows), .. }) = found.map(|it| &mut it.outcome)
        else {
            return false;
        };
        rows[0].version += 1;
        true
    }),
    ("a list lacks a row", |record| {
        let found = middle_read(record, |it| it.rows.as_ref().is_some_and(|rows| rows.len() > 1));
        found.and_then(|read| read.rows.as_mut()?.pop()).is_some()
    }),
    ("a list has an old row", |record| {
        let found = middle_read(record, |it| it.rows.as_ref().is_some_and(|rows| rows.len() > 1));
        let row = found.and_then(|read| read.rows.as_mut()?.first_mut());
        row.map(|row| row.mod_revision -= 1).is_some()
    }),
    ("a count is wrong", |record| {
        middle_read(record, |it| it.rows.is_none()).map(|read| read.count += 1).is_some()
    }),
    ("a read is older than what was known", |record| {
        middle_read(record, |_| true).map(|read| read.floor = read.header + 1).is_some()
    }),
    ("a lease ends before its time", |record| {
        for (_, lease) in &mut record.leases {
            lease.ttl += Duration::from_secs(3600);
        }
        !record.leases.is_empty()
    }),
    ("a lease leaves a key", |record| {
        let Some((at, key)) = end_of_lease(record) else { return false };
        each_event(record, |event| revision(event) == at && pair_key(event) == key);
        true
    }),
    ("the end of a lease is told in two parts", |record| {
        let Some((at, _)) = end_of_lease(record) else { return false };
        for log in &mut record.logs {
            let found = log.entries.iter_mut().enumerate().find_map(|(nth, entry)| {
                let Entry::Events { header, events, seen } = entry else { return None };
                let first = events.iter().position(|event| revision(event) == at)?;
                let events = events.split_off(first + 1);
                let is_torn = events.first().is_some_and(|event| revision(event) == at);
                is_torn.then(|| (nth + 1, Entry::Events { header: *header, events, seen: *seen }))
            });
            if let Some((nth, rest)) = found {
                log.entries.insert(nth, rest);
                return true;
            }
        }
        false
    }),
];

fn is_events(entry: &Entry) -> bool {
    matches!(entry, Entry::Events { .. })
}

/// The place of the entry in the middle of those that are like that.
fn middle(entries: &[Entry], is: fn(&Entry) -> bool) -> Option<usize> {
    let found: Vec<_> = (0..entries.len()).filter(|&at| is(&entries[at])).collect();
    found.get(found.len() / 2).copied()
}

fn events(entry: &mut Entry) -> &mut Vec<Event> {
    let Entry::Events { events, .. } = entry else { panic!("an answer with events is asked for") };
    events
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a pair").mod_revision
}

fn pair_key(event: &Event) -> Bytes {
    event.kv.as_ref().expect("an event has a pair").key.clone()
}

fn is_done(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, Outcome::Done(_))
}

/// The revision of the row that a write was refused with.
fn row_of(attempt: &Attempt) -> Option<i64> {
    let Outcome::Refused { rows: Some(rows), .. } = &attempt.outcome else { return None };
    rows.first().map(|row| row.mod_revision)
}

fn middle_attempt(record: &mut Record, is: fn(&Attempt) -> bool) -> Option<&mut Attempt> {
    let mut found: Vec<_> = record.attempts.iter_mut().filter(|it| is(it)).collect();
    (!found.is_empty()).then(|| found.swap_remove(found.len() / 2))
}

fn middle_read(record: &mut Record, is: fn(&Read) -> bool) -> Option<&mut Read> {
    let mut found: Vec<_> = record.reads.iter_mut().filter(|it| is(it)).collect();
    (!found.is_empty()).then(|| found.swap_remove(found.len() / 2))
}

/// Takes events away from all watchers.
fn each_event(record: &mut Record, is_lost: impl Fn(&Event) -> bool) {
    for entry in record.logs.iter_mut().flat_map(|log| &mut log.entries) {
        if is_events(entry) {
            events(entry).retain(|event| !is_lost(event));
        }
    }
}

/// The revision at which a lease ended that had several keys, and one of them.
fn end_of_lease(record: &Record) -> Option<(i64, Bytes)> {
    let all = record.logs.iter().flat_map(|log| &log.entries);
    all.filter_map(
        |entry| if let Entry::Events { events, .. } = entry { Some(events) } else { None },
    )
    .flat_map(|events| events.windows(2))
    .find(|pair| revision(&pair[0]) == revision(&pair[1]))
    .map(|pair| (revision(&pair[0]), pair_key(&pair[0])))
}

/// The record of a run in which nothing went wrong, and the revision that it went to.
fn honest() -> (Record, i64) {
    let mut server = start();
    let recorded = block_on(LocalSet::new().run_until(async {
        let mut load = Load::new(server.port());
        load.start(0, &mut Dice::new(1));
        load.acked(WRITES).await;
        load.rest().await;
        let horizon = load.end().await;
        (load.take(), horizon)
    }));
    assert!(server.is_running(), "it was not ended");
    recorded
}

#[test]
fn every_planted_fault_is_found() {
    let (record, horizon) = honest();
    let judged = |record: Record| Audit::new().judge(record, horizon);
    assert_eq!(judged(record.clone()), Vec::<String>::new(), "nothing is wrong yet");
    for (fault, plant) in OF_WATCHERS {
        let mut planted = 0;
        for nth in 0..record.logs.len() {
            let mut faulty = record.clone();
            if plant(&mut faulty.logs[nth].entries, record.compacted_max) {
                planted += 1;
                let name = &record.logs[nth].name;
                assert!(!judged(faulty).is_empty(), "{name}: {fault}, and it is not found");
            }
        }
        assert!(planted > 0, "{fault}: there is no place for it");
    }
    for (fault, plant) in OF_RECORDS {
        let mut faulty = record.clone();
        assert!(plant(&mut faulty), "{fault}: there is no place for it");
        assert!(!judged(faulty).is_empty(), "{fault}, and it is not found");
    }

    // Of a write that nobody answered, either is right.
    let mut unknown = record;
    for attempt in &mut unknown.attempts {
        attempt.outcome = Outcome::Unknown;
    }
    assert_eq!(judged(unknown), Vec::<String>::new(), "it was done, and may have been");
}
