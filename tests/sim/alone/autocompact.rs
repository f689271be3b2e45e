//! History that is forgotten without anyone asking, as time passes.

use super::Alone;
use ringd::config::AutoCompaction;
use std::time::Duration;

const MINUTE: u64 = 60_000;

/// The revision last compacted.
fn floor(alone: &Alone) -> Option<i64> {
    alone.shard.keyspace().compacted().map(|floor| floor.0)
}

fn shard(what: AutoCompaction) -> Alone {
    Alone::new(|config| config.auto_compaction = what)
}

#[test]
fn all_but_so_many_revisions_are_forgotten_every_five_minutes() {
    let mut alone = shard(AutoCompaction::Revision(10));
    alone.put(0..30, 10);
    alone.jump(5 * MINUTE - 1);
    assert_eq!(floor(&alone), None);
    alone.jump(1);
    assert_eq!((alone.revision(), floor(&alone)), (31, Some(21)));
    // Nothing has changed since.
    alone.jump(5 * MINUTE);
    assert_eq!(floor(&alone), Some(21));
    alone.put(0..5, 10);
    alone.jump(5 * MINUTE);
    assert_eq!(floor(&alone), Some(26));

    // Who starts anew waits as long.
    alone.put(0..5, 10);
    alone.restart();
    alone.jump(4 * MINUTE);
    assert_eq!(floor(&alone), Some(26));
    alone.jump(MINUTE);
    assert_eq!(floor(&alone), Some(31));
}

#[test]
fn fewer_revisions_than_are_to_stay_all_stay() {
    let mut alone = shard(AutoCompaction::Revision(31));
    alone.put(0..30, 10);
    alone.jump(20 * MINUTE);
    assert_eq!((alone.revision(), floor(&alone)), (31, None));
    alone.put([0], 10);
    alone.jump(5 * MINUTE);
    assert_eq!(floor(&alone), Some(1));
}

#[test]
fn what_is_older_than_a_period_is_forgotten() {
    let mut alone = shard(AutoCompaction::Periodic(Duration::from_secs(600)));
    let mut floors = Vec::new();
    for minute in 1..=35 {
        alone.jump(MINUTE);
        if floors.last().is_none_or(|(_, last)| *last != floor(&alone)) {
            floors.push((minute, floor(&alone)));
        }
        // Of the end of minute n is revision n.
        alone.put([0], 10);
    }
    assert_eq!(floors, [(1, None), (10, Some(1)), (20, Some(9)), (30, Some(19))]);
}

#[test]
fn nothing_is_forgotten_by_itself_unless_that_was_asked_for() {
    let mut alone = shard(AutoCompaction::Off);
    alone.put(0..30, 10);
    alone.jump(1_000 * MINUTE);
    assert_eq!(floor(&alone), None);
}
