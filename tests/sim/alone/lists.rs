//! Lists: what one slice of them may do, and what all of them may hold.

use super::{Alone, all, asker, key};
use ringd::shard::list::{Rows, Total};
use ringd::shard::request::Request;

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
