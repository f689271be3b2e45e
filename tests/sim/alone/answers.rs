//! Answers that are made but for something they wait for.

use super::{Alone, all, asker, key, put};
use ringd::shard::command::Command;
use ringd::shard::request::{Failure, Request, Unavailable};
use ringd::shard::{Input, Ready};

/// Compactions that had been applied and waited to be done were counted by nothing, and those whose
/// client was gone stayed.
#[test]
fn compactions_that_wait_to_be_done_are_counted_and_given_up() {
    let mut alone = Alone::new(|config| config.waiting_max = 3);
    alone.put([0], 10);
    // It pins its revision, so that nothing can be forgotten.
    alone.list(9, all(|_| {}));
    assert!(alone.head(9).is_some());
    for nth in 1..=3 {
        alone.put([nth], 10);
        let revision = alone.revision();
        alone.ask(nth, Request::Write(Command::Compact { revision, physical: true }.encode()));
        alone.run();
    }
    alone.pass(1_000);
    alone.work_until(100, |_| false);
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
    alone.ask(4, put(&key(4), b"value"));
    alone.run();
    let too_many = Failure::Unavailable(Unavailable::TooManyRequests);
    assert!(matches!(alone.answer(4), Some(Ready::Result(Err(why))) if why == too_many));
    for nth in [1, 3] {
        alone.shard.handle(Input::Forget { to: asker(nth) });
    }
    alone.put([5, 6], 10);
    alone.shard.handle(Input::Forget { to: asker(9) });
    alone.pass(1_000);
    alone.work_until(1_000, |alone| !alone.replies.is_empty());
    alone.work_until(100, |_| false);
    assert!(matches!(alone.answer(2), Some(Ready::Result(Ok(_)))));
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
}
