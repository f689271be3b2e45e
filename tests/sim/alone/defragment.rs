//! Room that is given back because somebody asks for it.

use super::{Alone, all, asker};
use ringd::shard::request::{Body, Failure, Request, Response, Status, Unavailable};
use ringd::shard::{Input, Ready};
use ringd::store;

/// A shard of many segments that cleaning by itself is in no hurry with.
fn alone() -> Alone {
    Alone::new(|config| {
        config.store = store::Config {
            seal_size: 100_000,
            segment_size: 200_000,
            clean_rate: 1,
            ..config.store
        };
    })
}

/// Puts whose sixth part is garbage once the rest is compacted: too little for cleaning by itself.
fn fill(alone: &mut Alone) {
    alone.put(0..600, 2_000);
    alone.pass(100);
    alone.put((0..600).step_by(5), 2_000);
    alone.pass(100);
}

/// Bytes in files of the store, and bytes that are alive.
fn sizes(alone: &mut Alone) -> (u64, u64) {
    alone.ask(90, Request::Status);
    alone.run();
    let Some(Ready::Result(Ok(Response { body: Body::Status(status), .. }))) = alone.answer(90)
    else {
        panic!("no status")
    };
    let Status { size_allocated, size_in_use, .. } = status;
    let files = alone.store_size();
    (files, size_in_use - (size_allocated - files).min(size_in_use))
}

/// Whether it was answered, with nothing in it.
fn is_done(alone: &mut Alone, nth: usize) -> bool {
    match alone.answer(nth) {
        None => false,
        Some(Ready::Result(Ok(Response { body: Body::Defragment, .. }))) => true,
        Some(ready) => panic!("{ready:?}"),
    }
}

#[test]
fn all_that_is_compacted_is_given_back_before_it_is_answered() {
    let mut alone = alone();
    fill(&mut alone);
    let before = alone.store_size();
    // Asked for in the turn of the compaction: that is not even sealed yet.
    let revision = alone.revision();
    alone.ask(1, super::compact(revision));
    alone.ask(2, Request::Defragment);
    alone.run();
    assert!(!is_done(&mut alone, 2));
    assert!(matches!(alone.answer(1), Some(Ready::Result(Ok(_)))));
    let mut rounds = 0;
    while !is_done(&mut alone, 2) {
        rounds += 1;
        assert!(rounds < 10_000, "it is never done");
        alone.pass(20);
        alone.work();
    }
    let after = alone.store_size();
    // 120 records of 600 and 120 are dead; a directory and a footer go with each segment.
    assert!(after * 100 < before * 90, "{before} bytes before, {after} after");
    alone.list(3, all(|_| {}));
    assert_eq!(alone.head(3).map(|head| head.rows), Some(600));
    // Once more there is nothing to do.
    alone.shard.handle(Input::Forget { to: asker(3) });
    alone.ask(4, Request::Defragment);
    alone.work_until(10, |alone| !alone.replies.is_empty());
    assert!(is_done(&mut alone, 4));
    assert_eq!(alone.store_size(), after);
}

/// Those who ask while one is under way share the next, which has what was compacted since.
#[test]
fn who_asks_meanwhile_shares_the_next() {
    let mut alone = alone();
    fill(&mut alone);
    alone.compact();
    alone.ask(1, Request::Defragment);
    alone.pass(20);
    alone.hold_store(true);
    alone.work_until(20, |_| false);
    for nth in 2..=64 {
        alone.ask(nth, Request::Defragment);
    }
    alone.ask(65, Request::Defragment);
    alone.run();
    let too_many = Failure::Unavailable(Unavailable::TooManyRequests);
    assert!(matches!(alone.answer(65), Some(Ready::Result(Err(why))) if why == too_many));
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
    alone.hold_store(false);
    let mut answered = Vec::new();
    for _ in 0..10_000 {
        alone.pass(20);
        alone.work();
        answered.extend((1..=64).filter(|&nth| is_done(&mut alone, nth)));
        if answered.len() == 64 {
            break;
        }
    }
    assert_eq!(answered, (1..=64).collect::<Vec<_>>());
}

/// A read that pins what is compacted keeps it, and keeps nobody waiting who asks for the room.
#[test]
fn what_is_pinned_is_not_waited_for() {
    let mut alone = alone();
    fill(&mut alone);
    alone.list(1, all(|_| {}));
    assert!(alone.head(1).is_some());
    alone.put((0..600).step_by(2), 2_000);
    let revision = alone.revision();
    alone.ask(2, super::compact(revision));
    alone.ask(3, Request::Defragment);
    alone.run();
    for _ in 0..1_000 {
        alone.pass(20);
        alone.work();
    }
    assert!(is_done(&mut alone, 3));
    let (_, keys) = alone.pull(1, 1 << 30);
    assert_eq!(keys.len(), 600);
}

/// Given up, it is no longer hurried with; what was begun ends well.
#[test]
fn one_that_nobody_waits_for_is_given_up() {
    let mut alone = alone();
    fill(&mut alone);
    alone.compact();
    let before = alone.store_size();
    alone.ask(1, Request::Defragment);
    alone.pass(20);
    alone.hold_store(true);
    alone.work();
    alone.shard.handle(Input::Forget { to: asker(1) });
    alone.hold_store(false);
    for _ in 0..1_000 {
        alone.pass(20);
        alone.work();
    }
    assert!(alone.replies.is_empty());
    let given_up = alone.store_size();
    assert!(given_up * 100 > before * 90, "{before} bytes before, {given_up} after");
    let (files, alive) = sizes(&mut alone);
    assert!(alive < files, "{alive} of {files} are alive");
    alone.ask(2, Request::Defragment);
    for _ in 0..1_000 {
        alone.pass(20);
        alone.work();
    }
    assert!(is_done(&mut alone, 2));
    assert!(alone.store_size() * 100 < before * 90);
}
