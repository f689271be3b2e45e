//! What is wrong with a history is found: each breach is planted into one that is right.

use crate::history::{Change, Fate, Record, Truth, is_linearizable};
use crate::linear::{Act, Held};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn record(act: Act, revision: i64, began: u64) -> Record {
    let (seen_at, is_serializable, ended) = (0, false, began + 1);
    let fate = if revision == 0 { Fate::Unknown } else { Fate::Told(revision) };
    Record { key: 0, act, is_serializable, seen_at, fate, began, ended }
}

/// What is there in the end, and what clients did and were told: a value is put, read, swapped for
/// one that nobody was told of, which is deleted; then one is put that nobody is told of.
fn right() -> (Vec<Change>, Vec<Record>) {
    let changes = vec![(2, 0, Some(1)), (3, 0, Some(2)), (4, 0, None), (5, 0, Some(3))];
    let read = |seen, seen_at, revision, began| Record {
        seen_at,
        ..record(Act::Read { seen }, revision, began)
    };
    let records = vec![
        record(Act::Put { value: 1, before: None }, 2, 10),
        read(Some(1), 2, 2, 20),
        record(Act::Swap { expected: Some(1), value: 2, otherwise: None }, 0, 30),
        record(Act::Delete { before: Some(2) }, 4, 40),
        Record { is_serializable: true, ..read(Some(2), 3, 3, 50) },
        record(Act::Put { value: 3, before: None }, 0, 60),
        record(Act::Put { value: 4, before: None }, 0, 70),
        read(Some(3), 5, 5, 80),
    ];
    (changes, records)
}

/// Whether the judges find something.
fn is_found(breach: impl FnOnce(&mut Vec<Change>, &mut Vec<Record>, &mut Vec<Change>)) -> bool {
    let (mut changes, mut records) = right();
    let mut watched = changes.clone();
    breach(&mut changes, &mut records, &mut watched);
    let judged = catch_unwind(AssertUnwindSafe(|| {
        is_linearizable(&records);
        let truth = Truth::new(&changes);
        truth.agrees_with(&records);
        truth.was_told(&watched);
    }));
    judged.is_err()
}

#[test]
fn a_history_that_is_right_is_taken() {
    assert!(!is_found(|_, _, _| {}));
    assert_eq!(Truth::new(&right().0).end().into_iter().collect::<Vec<_>>(), [(0, 3)]);
    // A watcher need not have been told all.
    assert!(!is_found(|_, _, watched| watched.truncate(2)));
}

#[test]
fn each_breach_is_found() {
    let put = |value: u64| Some(value) as Held;
    type Breach = fn(&mut Vec<Change>, &mut Vec<Record>, &mut Vec<Change>);
    let breaches: [(&str, Breach); 11] = [
        ("a revision is missing", |changes, _, _| changes.retain(|it| it.0 != 3)),
        ("an acknowledged put is another", |changes, _, _| changes[0].2 = Some(4)),
        ("an acknowledged delete is a put", |changes, _, _| changes[2].2 = Some(4)),
        ("a value is put twice", |changes, _, _| changes.push((6, 0, Some(3)))),
        ("a value is put that nobody asked for", |changes, _, _| changes.push((6, 0, Some(9)))),
        ("a delete that nobody asked for", |changes, _, _| changes.push((6, 0, None))),
        ("what was refused happens", |_, records, _| records[2].fate = Fate::Refused),
        ("a stale read", |_, records, _| records[7].act = Act::Read { seen: Some(1) }),
        ("a past state that never was", |_, records, _| {
            records[4].act = Act::Read { seen: Some(3) };
        }),
        ("a revision goes back", |_, records, _| records[7].fate = Fate::Told(3)),
        ("a watcher misses one", |_, _, watched| watched.retain(|it| it.0 != 3)),
    ];
    for (what, breach) in breaches {
        assert!(is_found(breach), "{what}");
    }
    assert!(is_found(|_, _, watched| watched.push((5, 0, put(3)))), "a watcher is told twice");
    assert!(is_found(|_, _, watched| watched.swap(0, 1)), "a watcher is told out of order");
}
