//! Writes that come faster than the disk takes them.

use super::{Alone, asker, compact, key, put};
use ringd::shard::Ready;
use ringd::shard::request::{Failure, Unavailable};
use ringd::store;

/// Whether the nth was answered well; none if not yet.
fn answered(alone: &mut Alone, nth: usize) -> Option<Result<(), Failure>> {
    match alone.answer(nth)? {
        Ready::Result(result) => Some(result.map(|_| ())),
        ready @ (Ready::Range(_) | Ready::List(_)) => panic!("{ready:?} in place of an answer"),
    }
}

fn small_tail(waiting_size_max: usize) -> Alone {
    Alone::new(|config| {
        config.waiting_size_max = waiting_size_max;
        config.store = store::Config { seal_size: 20_000, tail_size_max: 40_000, ..config.store };
    })
}

/// Asks for so many puts, one after the other, and lets the shard do what it can.
fn flood(alone: &mut Alone, count: usize) {
    for nth in 1..=count {
        alone.ask(nth, put(&key(nth), &[7; 1000]));
        alone.run();
    }
}

/// A tail that the disk had not sealed in time refused every write as too many.
#[test]
fn writes_wait_while_the_tail_is_full() {
    let mut alone = small_tail(1 << 20);
    alone.hold_store(true);
    flood(&mut alone, 200);
    let done = (1..=200).filter_map(|nth| answered(&mut alone, nth)).collect::<Vec<_>>();
    assert!(done.len() >= 30 && done.len() < 60, "{} have their place", done.len());
    assert!(done.iter().all(Result::is_ok));

    // Their order is that in which they came.
    alone.hold_store(false);
    let rest: Vec<_> = alone.replies.iter().map(|(to, _)| *to).collect();
    assert_eq!(rest, (done.len() + 1..=200).map(asker).collect::<Vec<_>>());
    for nth in done.len() + 1..=200 {
        assert_eq!(answered(&mut alone, nth), Some(Ok(())));
    }
    assert_eq!(alone.revision(), 201);
}

/// What waits is bounded, and so is its time; who hears that it is too much knows that nothing was
/// done.
#[test]
fn writes_that_wait_are_bounded_and_end_in_time() {
    let mut alone = small_tail(20_000);
    alone.hold_store(true);
    flood(&mut alone, 100);
    let too_many = Failure::Unavailable(Unavailable::TooManyRequests);
    let (mut done, mut refused) = (0, 0);
    for nth in 1..=100 {
        match answered(&mut alone, nth) {
            Some(Ok(())) => done += 1,
            Some(Err(why)) => {
                assert_eq!(why, too_many);
                refused += 1;
            }
            None => {}
        }
    }
    let held = 100 - done - refused;
    assert!((15..=20).contains(&held), "{done} done, {held} held, {refused} refused");
    alone.pass(6_980);
    assert!(alone.replies.is_empty());
    alone.pass(40);
    assert_eq!(alone.replies.len(), held);
    for nth in 1..=100 {
        assert_ne!(answered(&mut alone, nth), Some(Ok(())));
    }
    alone.hold_store(false);
    assert_eq!(alone.revision(), 1 + i64::try_from(done).expect("small"));
    alone.put([1, 2, 3], 10);
}

/// Forgetting had a rate of its own, and who wrote faster and compacted all the time had the index
/// grow for as long as that went on.
#[test]
fn what_is_compacted_is_forgotten_as_fast_as_changes_come() {
    let mut alone = Alone::new(|_| ());
    let (keys, puts, turns) = (500, 300, 400);
    let known = |alone: &Alone| {
        let mut count = 0;
        alone.shard.keyspace().each(|_, _, _| count += 1);
        count
    };
    let mut most = 0;
    for turn in 0..turns {
        alone.put((0..puts).map(|nth| (turn * puts + nth) % keys), 8);
        if turn % 20 == 19 {
            let revision = alone.revision();
            alone.ask(0, compact(revision));
            most = most.max(known(&alone));
        }
        alone.jump(1);
        alone.replies.clear();
        alone.work();
    }
    assert!(most < 5 * 20 * puts, "{most} changes of {} are known", turns * puts);
}
