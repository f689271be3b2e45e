//! Hashes over history that nobody waits for any more.

use super::{Alone, asker};
use ringd::shard::request::{Body, Request, Response};
use ringd::shard::{Input, Ready};
use ringd::store;

fn hash_of(ready: Option<Ready>) -> Option<u32> {
    match ready? {
        Ready::Result(Ok(Response { body: Body::HashKv { hash, .. }, .. })) => Some(hash),
        ready @ (Ready::Result(_) | Ready::Range(_) | Ready::List(_)) => {
            panic!("{ready:?} in place of a hash")
        }
    }
}

/// A hash whose client was gone went on to its end, and kept the next one waiting.
#[test]
fn a_hash_that_nobody_waits_for_is_given_up() {
    let mut alone = Alone::new(|config| {
        config.store = store::Config { seal_size: 100_000, cache_size: 0, ..config.store };
    });
    alone.put(0..6_000, 100);
    alone.pass(1_000);
    for nth in 1..=4 {
        alone.ask(nth, Request::HashKv { revision: 0 });
    }
    // The first waits for a block, and the others for the first.
    alone.hold_store(true);
    alone.work();
    for nth in [1, 2, 4] {
        alone.shard.handle(Input::Forget { to: asker(nth) });
    }
    alone.run();
    alone.hold_store(false);
    alone.work_until(10_000, |alone| !alone.replies.is_empty());
    let hash = hash_of(alone.answer(3)).expect("the third is answered");
    for _ in 0..100 {
        alone.work();
    }
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);

    // Given up while it waits for a block, with none behind it.
    alone.ask(1, Request::HashKv { revision: 0 });
    alone.hold_store(true);
    alone.work();
    alone.shard.handle(Input::Forget { to: asker(1) });
    alone.hold_store(false);
    assert!(alone.shard.is_idle(), "nobody waits");

    alone.ask(5, Request::HashKv { revision: 0 });
    alone.work_until(10_000, |alone| !alone.replies.is_empty());
    assert_eq!(hash_of(alone.answer(5)), Some(hash));
    // What they pinned can be forgotten.
    alone.compact();
    assert_eq!(alone.shard.keyspace().oldest_pin(), None);
}
