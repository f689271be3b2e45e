//! Lists: what one slice of them may do, and what all of them may hold.

use super::{Alone, all, asker, key, within};
use ringd::mvcc::{RangeQuery, SortOrder, SortTarget};
use ringd::shard::list::{Limits, Rows, Total};
use ringd::shard::request::{Failure, Request, Unavailable};
use ringd::shard::{Input, Ready};
use ringd::store;
use std::collections::BTreeMap;

/// Keys of the tests of slices: five times what one slice looks at.
const KEYS: usize = 20_000;
/// Keys that one slice looks at, and a leaf more.
const SLICE: usize = 4_300;

/// Where all keys had changed since the revision read, all of them were counted in the turn that
/// opened the list, however many there were.
#[test]
fn a_range_at_an_old_revision_is_counted_in_slices() {
    let mut alone = Alone::new(|_| {});
    alone.put(0..KEYS, 10);
    let then = alone.revision();
    alone.put(0..KEYS, 10);
    alone.list(1, all(|query| (query.revision, query.limit) = (then, 3)));
    let slices = alone.work_until(100, |alone| !alone.replies.is_empty());
    // Two of the steps are done when it is opened, and one measures.
    assert!(slices + 1 >= KEYS / SLICE, "counted in {slices} slices");
    let head = alone.head(1).expect("it is measured");
    assert_eq!(head.total, Total { count: 20_000, more: true });
    let (rows, keys) = alone.pull(1, 1 << 20);
    assert_eq!((rows, keys), (Rows::Done(head.total), (0..3).map(key).collect()));
}

/// A stream gives rows at once, and its end says how many keys there are: that is counted between.
#[test]
fn a_stream_at_an_old_revision_is_counted_while_it_is_given() {
    let mut alone = Alone::new(|_| {});
    alone.put(0..KEYS, 10);
    let then = alone.revision();
    alone.put(0..KEYS, 10);
    alone.ask(1, Request::RangeStream(all(|query| (query.revision, query.limit) = (then, 3))));
    alone.run();
    assert!(alone.head(1).is_some_and(|head| head.is_stream));
    let (rows, keys) = alone.pull(1, 1 << 20);
    assert_eq!((rows, keys), (Rows::Wait, (0..3).map(key).collect()));
    let slices = alone.work_until(100, |alone| !alone.told.is_empty());
    assert!(slices + 2 >= KEYS / SLICE, "counted in {slices} slices");
    assert_eq!(alone.told, [asker(1)]);
    let total = Total { count: 20_000, more: true };
    assert_eq!(alone.pull(1, 1 << 20), (Rows::Done(total), Vec::new()));
}

/// The rows of a stream that gives them all are counted as they leave.
#[test]
fn a_stream_of_everything_counts_its_rows() {
    let mut alone = Alone::new(|_| {});
    alone.put(0..1000, 10);
    alone.ask(1, Request::RangeStream(all(|_| {})));
    alone.run();
    assert!(alone.head(1).is_some_and(|head| head.is_stream));
    let mut given = 0;
    loop {
        let (rows, keys) = alone.pull(1, 2_000);
        given += keys.len();
        match rows {
            Rows::More => {}
            Rows::Done(total) => {
                assert_eq!((given, total), (1000, Total { count: 1000, more: false }));
                break;
            }
            Rows::Wait | Rows::Lost(_) => panic!("{rows:?} after {given}"),
        }
    }
}

/// One pull went through all keys that gave no row, until one did.
#[test]
fn a_pull_looks_at_so_many_keys_and_no_more() {
    let mut alone = Alone::new(|_| {});
    alone.put(0..KEYS, 10);
    let last = alone.revision();
    alone.list(1, all(|query| query.min_mod_revision = last));
    alone.work_until(100, |alone| !alone.replies.is_empty());
    let head = alone.head(1).expect("it is measured");
    assert_eq!((head.rows, head.total.count), (1, 20_000));
    let mut empty = 0;
    let keys = loop {
        match alone.pull(1, 1 << 20) {
            (Rows::More, keys) if keys.is_empty() => empty += 1,
            (Rows::Done(_) | Rows::More, keys) => break keys,
            (rows, _) => panic!("{rows:?}"),
        }
    };
    assert_eq!(keys, [key(KEYS - 1)]);
    assert!(empty + 1 >= KEYS / SLICE, "found by {empty} pulls before");
}

/// A shard whose values are all on the disk: nothing is kept of what was read.
fn cold(keys: usize, size: usize, limits: Limits) -> Alone {
    let mut alone = Alone::new(|config| {
        config.lists = limits;
        config.store = store::Config { seal_size: 100_000, cache_size: 0, ..config.store };
    });
    alone.put(0..keys, size);
    alone.compact();
    alone
}

/// Every list held up to a mebibyte of rows that were fetched for it, however many lists there were
/// and however long their owners stayed away.
#[test]
fn all_lists_together_hold_so_many_rows_ahead() {
    const LISTS: usize = 40;
    let most = 200_000;
    let mut alone = cold(300, 9_000, Limits { ahead_size_max: most, ..Limits::default() });
    for nth in 1..=LISTS {
        alone.list(nth, all(|_| {}));
        alone.work_until(100, |alone| !alone.replies.is_empty());
        assert_eq!(alone.head(nth).map(|head| head.rows), Some(300));
    }
    // One row is as large as 9,200 bytes, and what was asked takes some hundred.
    let bound = most + 9_200 + LISTS * 300;
    let mut given = vec![Vec::new(); LISTS + 1];
    let mut open: Vec<usize> = (1..=LISTS).collect();
    let mut rounds = 0;
    while !open.is_empty() {
        rounds += 1;
        assert!(rounds < 10_000, "{} lists do not end", open.len());
        open.retain(|&nth| {
            let (rows, keys) = alone.pull(nth, 30_000);
            given[nth].extend(keys);
            let held = alone.shard.lists_size();
            assert!(held <= bound, "{held} bytes are held");
            !matches!(rows, Rows::Done(_))
        });
        alone.work();
    }
    let due: Vec<_> = (0..300).map(key).collect();
    assert!(given[1..].iter().all(|keys| *keys == due));
    assert_eq!(alone.shard.lists_size(), 0);
}

/// Who is slow to take rows keeps none from who is not.
#[test]
fn rows_that_nobody_takes_are_given_back() {
    let limits = Limits { ahead_size_max: 100_000, ..Limits::default() };
    let mut alone = cold(200, 9_000, limits);
    for nth in [1, 2] {
        alone.list(nth, all(|_| {}));
        alone.work_until(100, |alone| !alone.replies.is_empty());
        assert!(alone.head(nth).is_some());
    }
    let mut slow = Vec::new();
    while slow.is_empty() {
        // As many as there are: the next is on its way, and nobody comes for it.
        slow = alone.pull(1, 1 << 20).1;
    }
    let mut quick = Vec::new();
    for _ in 0..1_000 {
        let (rows, keys) = alone.pull(2, 20_000);
        quick.extend(keys);
        if matches!(rows, Rows::Done(_)) {
            break;
        }
        alone.work();
    }
    assert_eq!(quick.len(), 200);
    for _ in 0..1_000 {
        let (rows, keys) = alone.pull(1, 20_000);
        slow.extend(keys);
        if matches!(rows, Rows::Done(_)) {
            break;
        }
    }
    assert_eq!(slow, (0..200).map(key).collect::<Vec<_>>());
}

/// Sorted lists held every key of their range, without a bound over all of them.
#[test]
fn what_is_gathered_to_be_sorted_is_bounded() {
    let limits = Limits { sort_size_max: 1_000_000, ..Limits::default() };
    let mut alone = Alone::new(|config| config.lists = limits);
    alone.put(0..KEYS, 10);
    let by_change = |query: &mut RangeQuery<'_>| {
        (query.target, query.order) = (SortTarget::Mod, SortOrder::Descend);
    };
    alone.list(1, all(by_change));
    alone.work_until(100, |alone| !alone.replies.is_empty());
    let refused = Failure::Unavailable(Unavailable::SortTooLarge);
    assert!(matches!(alone.answer(1), Some(Ready::Result(Err(why))) if why == refused));
    assert_eq!(alone.shard.lists_size(), 0);

    // Two thirds of what all may hold, twice.
    alone.list(1, within(&key(0), &key(9_000), by_change));
    alone.work_until(100, |alone| !alone.replies.is_empty());
    assert_eq!(alone.head(1).map(|head| head.rows), Some(9_000));
    alone.list(2, within(&key(0), &key(9_000), by_change));
    alone.work_until(100, |alone| !alone.replies.is_empty());
    let refused = Failure::Unavailable(Unavailable::TooManyRequests);
    assert!(matches!(alone.answer(2), Some(Ready::Result(Err(why))) if why == refused));

    // With a limit no more is held than it gives.
    alone.shard.handle(Input::Forget { to: asker(1) });
    alone.list(
        3,
        all(|query| {
            by_change(query);
            query.limit = 5;
        }),
    );
    alone.work_until(100, |alone| !alone.replies.is_empty());
    let head = alone.head(3).expect("it is measured");
    assert_eq!(head.total, Total { count: 20_000, more: true });
    let (rows, keys) = alone.pull(3, 1 << 20);
    assert_eq!(rows, Rows::Done(head.total));
    assert_eq!(keys, (KEYS - 5..KEYS).rev().map(key).collect::<Vec<_>>());
}

/// All rows were sorted in one go once the last was gathered.
#[test]
fn rows_are_sorted_in_slices() {
    let mut alone = Alone::new(|_| {});
    // Of another order than their keys', and some of them twice: versions 1 and 2.
    let scattered = |number: usize| number * 7_919 % KEYS;
    alone.put((0..KEYS).map(scattered), 10);
    alone.put((0..KEYS).step_by(3), 10);
    for (nth, target, order, limit) in [
        (1, SortTarget::Mod, SortOrder::Ascend, 0),
        (2, SortTarget::Mod, SortOrder::Descend, 9_000),
        (3, SortTarget::Version, SortOrder::Descend, 0),
        (4, SortTarget::Create, SortOrder::Ascend, 700),
    ] {
        alone.list(
            nth,
            all(|query| {
                (query.target, query.order, query.limit) = (target, order, limit);
            }),
        );
        let slices = alone.work_until(1_000, |alone| !alone.replies.is_empty());
        // Each is counted, gathered, and where most are kept merged and measured.
        let passes = if limit == 700 { 2 } else { 4 };
        assert!(slices + 2 >= passes * KEYS / SLICE, "{target:?} sorted in {slices} slices");
        let total = alone.head(nth).expect("it is measured").total;
        let (rows, keys) = alone.pull(nth, 1 << 30);
        assert_eq!(rows, Rows::Done(total));
        let mut due: Vec<_> = (0..KEYS).collect();
        let changed: BTreeMap<usize, usize> = (0..KEYS)
            .map(|at| (scattered(at), at))
            .chain((0..KEYS).step_by(3).map(|number| (number, KEYS + number)))
            .collect();
        let created: BTreeMap<usize, usize> = (0..KEYS).map(|at| (scattered(at), at)).collect();
        due.sort_by_key(|number| match target {
            SortTarget::Mod => changed[number],
            SortTarget::Create => created[number],
            SortTarget::Version => 1 + usize::from(number % 3 == 0),
            SortTarget::Key | SortTarget::Value => unreachable!("not asked for"),
        });
        if order == SortOrder::Descend {
            // Ties stay in the order of keys.
            due.reverse();
            if target == SortTarget::Version {
                due = (0..KEYS).collect();
                due.sort_by_key(|number| usize::from(number % 3 != 0));
            }
        }
        let most = if limit == 0 { KEYS } else { usize::try_from(limit).expect("small") };
        assert_eq!(keys, due.into_iter().take(most).map(key).collect::<Vec<_>>());
    }
}
