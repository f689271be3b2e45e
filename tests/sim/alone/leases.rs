//! Leases: granted, attached, renewed, ended, and found again.
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else it is, the test has failed")]

use super::{Alone, all, asker, key};
use ringd::lease;
use ringd::mvcc::Refusal;
use ringd::shard::command::Command;
use ringd::shard::request::{Body, Failure, Header, LeaseRefusal, Request, Response};
use ringd::shard::{Input, Ready};
use ringd::types::LeaseId;

/// Milliseconds that the clock may be behind, by the configuration.
const SLACK: u64 = 100;
/// Milliseconds between two looks for what has ended.
const LOOK: u64 = 500;

impl Alone {
    /// Asks and waits for the answer.
    fn tell(&mut self, request: Request) -> Result<Response, Failure> {
        self.ask(7, request);
        self.run();
        match self.answer(7).expect("it is answered at once") {
            Ready::Result(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn body(&mut self, request: Request) -> Body {
        self.tell(request).expect("it is taken").body
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<(i64, i64), Failure> {
        match self.tell(Request::LeaseGrant { id: LeaseId(id), ttl })?.body {
            Body::LeaseGrant { id, ttl } => Ok((id.0, ttl)),
            other => panic!("{other:?}"),
        }
    }

    fn revoke(&mut self, id: i64) -> Result<Header, Failure> {
        Ok(self.tell(Request::LeaseRevoke { id: LeaseId(id) })?.header)
    }

    /// Puts a key on a lease.
    fn hang(&mut self, number: usize, lease: i64) -> Result<Response, Failure> {
        self.tell(Request::Write(put(&key(number), lease).encode()))
    }

    /// Seconds that are left of a lease, those that it was granted, and its keys by number.
    fn time_to_live(&mut self, id: i64) -> (i64, i64, Vec<Vec<u8>>) {
        match self.body(Request::LeaseTimeToLive { id: LeaseId(id), keys: true }) {
            Body::LeaseTimeToLive { ttl, granted, keys, .. } => {
                (ttl, granted, keys.iter().map(|key| key.to_vec()).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks to renew a lease, without looking at what comes of it.
    fn renew(&mut self, nth: usize, id: i64) {
        self.ask(nth, Request::LeaseKeepAlive { id: LeaseId(id) });
        self.run();
    }

    /// What a renewal was answered, if it was: whose, for how long, and at which revision.
    fn renewed(&mut self, nth: usize) -> Option<(i64, i64, i64)> {
        match self.answer(nth)? {
            Ready::Result(Ok(Response { header, body: Body::LeaseKeepAlive { id, ttl } })) => {
                Some((id.0, ttl, header.revision.0))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, and what is due be done.
    fn live(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.pass(20);
            self.work();
        }
    }

    fn leases(&mut self) -> Vec<i64> {
        match self.body(Request::LeaseLeases) {
            Body::LeaseLeases { leases } => leases.iter().map(|id| id.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Every live key.
    fn keys(&mut self) -> usize {
        let mut keys = 0;
        let summary =
            self.shard.read(&all(|query| query.keys_only = true), usize::MAX, |_, _, _| {
                keys += 1;
            });
        assert!(summary.is_ok());
        keys
    }
}

fn put(key: &[u8], lease: i64) -> Command<'_> {
    let (value, prev_kv) = (b"value", false);
    Command::Put { key, value, lease, prev_kv, ignore_value: false, ignore_lease: false }
}

fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(key).collect()
}

#[test]
fn a_lease_is_granted_in_etcds_bounds() {
    let mut alone = Alone::new(|_| ());
    let (id, ttl) = alone.grant(0, -5).expect("an id of its own choice");
    assert!(id > 0 && ttl == 2);
    assert_ne!(alone.grant(0, 60).expect("another").0, id);
    assert_eq!(alone.grant(-7, 60), Ok((-7, 60)));
    assert_eq!(alone.grant(-7, 60), Err(LeaseRefusal::Exists.into()));
    assert_eq!(alone.grant(8, lease::TTL_MAX), Ok((8, lease::TTL_MAX)));
    assert_eq!(alone.grant(-7, lease::TTL_MAX + 1), Err(LeaseRefusal::TtlTooLarge.into()));
    assert_eq!(alone.revoke(9), Err(LeaseRefusal::NotFound.into()));
    assert_eq!(alone.hang(1, 9), Err(Refusal::LeaseNotFound.into()));
    assert_eq!(alone.time_to_live(9), (-1, 0, vec![]));
    assert_eq!(alone.leases().len(), 4);
    assert_eq!(alone.revision(), 1, "a grant is no revision");
}

#[test]
fn so_many_leases_and_no_more() {
    let mut alone = Alone::new(|config| config.lease.count_max = 2);
    assert!(alone.grant(1, 60).is_ok() && alone.grant(2, 60).is_ok());
    let refusal = alone.grant(3, 60).expect_err("it is one too many");
    assert_eq!(refusal.to_string(), "etcdserver: too many requests");
    assert!(alone.revoke(1).is_ok() && alone.grant(3, 60).is_ok());
}

#[test]
fn keys_move_from_lease_to_lease_and_vanish_with_theirs_in_one_revision() {
    let mut alone = Alone::new(|_| ());
    assert!(alone.grant(1, 60).is_ok() && alone.grant(2, 60).is_ok());
    for number in [5, 1, 4, 2, 3] {
        alone.hang(number, 1).expect("the lease is there");
    }
    alone.hang(2, 2).expect("it moves");
    alone.hang(3, 0).expect("it hangs on none");
    let stay = Command::Put {
        key: &key(4),
        value: b"other",
        lease: 0,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: true,
    };
    alone.body(Request::Write(stay.encode()));
    let gone = Command::DeleteRange { key: &key(5), range_end: b"", prev_kv: false };
    alone.body(Request::Write(gone.encode()));
    assert_eq!(alone.time_to_live(1).2, keys([1, 4]));
    assert_eq!(alone.time_to_live(2).2, keys([2]));
    let before = alone.revision();
    assert_eq!(alone.revoke(1).expect("it is there").revision.0, before + 1);
    assert_eq!(alone.keys(), 2);
    assert_eq!(alone.hang(1, 1), Err(Refusal::LeaseNotFound.into()));
    assert!(alone.hang(2, 0).is_ok() && alone.grant(1, 60).is_ok());
    let before = alone.revision();
    assert_eq!(alone.revoke(2).expect("it is there").revision.0, before, "it has no keys");
    assert_eq!((alone.time_to_live(1).2, alone.keys()), (vec![], 2));
}

#[test]
fn leases_and_their_keys_come_back() {
    let mut alone = Alone::new(|config| config.store.seal_size = 2_000);
    // More than a start attaches in one slice.
    let keys = 3_000;
    for lease in 1..=20 {
        assert!(alone.grant(lease * 3, 100 + lease).is_ok());
    }
    for number in 0..keys {
        let lease = i64::try_from(number % 21).expect("small") * 3;
        alone.hang(number, lease).expect("the lease is there");
    }
    for number in (0..keys).step_by(7) {
        alone.hang(number, 0).expect("it hangs on none");
    }
    alone.revoke(9).expect("it is there");
    alone.pass(90_000);
    let ids = alone.leases();
    let told: Vec<_> = ids.iter().map(|id| alone.time_to_live(*id)).collect();
    assert!(told.iter().all(|(left, granted, _)| granted - left >= 90));
    for round in 0..3 {
        alone.restart();
        assert_eq!(alone.leases(), ids);
        for (id, (_, granted, hung)) in ids.iter().zip(&told) {
            let (left, again, found) = alone.time_to_live(*id);
            assert_eq!((again, &found), (*granted, hung), "lease {id}");
            // All its time, and an election timeout.
            assert_eq!(left, granted + 1);
        }
        if round == 1 {
            // From here on all of it is in the store.
            alone.compact();
        }
    }
    let before = alone.revision();
    for id in ids {
        alone.revoke(id).expect("it is there");
    }
    // Two of them have no keys left.
    assert_eq!(alone.revision(), before + 17);
}

#[test]
fn entries_that_leave_nothing_let_the_log_go() {
    let mut alone = Alone::new(|config| {
        config.wal.segment_size = 64 << 10;
        config.wal.frame_size_max = 16 << 10;
        config.request_size_max = 5_000;
        config.seal_entries_max = 50;
    });
    assert!(alone.grant(-1, 5_000).is_ok());
    for id in 1..1_000 {
        assert!(alone.grant(id, 60).is_ok() && alone.revoke(id).is_ok());
        assert!(alone.log_size() < 1 << 20, "2,000 entries of 4 KiB are more");
    }
    alone.restart();
    assert_eq!((alone.leases(), alone.revision()), (vec![-1], 1));
}

#[test]
fn a_lease_ends_after_its_time_and_not_before() {
    let mut alone = Alone::new(|_| ());
    assert!(alone.grant(1, 5).is_ok() && alone.grant(2, 600).is_ok());
    for number in [3, 1, 2] {
        alone.hang(number, 1).expect("the lease is there");
    }
    alone.hang(9, 2).expect("the lease is there");
    alone.live(3_000);
    assert_eq!(alone.time_to_live(1).0, 2);
    alone.renew(1, 1);
    assert_eq!(alone.renewed(1), Some((1, 5, alone.revision())));
    alone.live(4_980);
    assert_eq!((alone.time_to_live(1).0, alone.keys()), (0, 4));
    let before = alone.revision();
    alone.live(SLACK + LOOK + 40);
    assert_eq!((alone.leases(), alone.keys(), alone.revision()), (vec![2], 1, before + 1));
    // A pause of an hour ends the other, whatever the clock did meanwhile.
    alone.jump(3_600_000);
    alone.live(LOOK + 40);
    assert_eq!((alone.leases(), alone.keys()), (vec![], 0));
}

#[test]
fn a_renewal_that_comes_too_late_waits_until_the_lease_is_gone() {
    let mut alone = Alone::new(|_| ());
    assert!(alone.grant(1, 5).is_ok() && alone.grant(2, 600).is_ok());
    alone.hang(1, 1).expect("the lease is there");
    let before = alone.revision();
    alone.jump(5_000 + SLACK);
    for id in [1, 2, 3] {
        alone.renew(3, id);
    }
    alone.renew(4, 2);
    assert_eq!(alone.renewed(4), Some((2, 600, before)), "another stream does not wait");
    assert_eq!(alone.renewed(3), None, "the first waits, and with it those behind it");
    alone.live(LOOK + 40);
    // Its revision is that of the time of asking.
    assert_eq!(alone.renewed(3), Some((1, 0, before)));
    assert_eq!(alone.renewed(3), Some((2, 600, before)));
    assert_eq!(alone.renewed(3), Some((3, 0, before)));
    assert_eq!(alone.revision(), before + 1);
    assert!(alone.shard.is_idle());
}

#[test]
fn a_stream_that_nobody_waits_for_is_forgotten() {
    let mut alone = Alone::new(|_| ());
    assert!(alone.grant(1, 5).is_ok());
    alone.jump(5_000 + SLACK);
    alone.renew(3, 1);
    assert!(!alone.shard.is_idle());
    alone.shard.handle(Input::Forget { to: asker(3) });
    assert!(alone.shard.is_idle());
    alone.live(LOOK + 40);
    assert_eq!(alone.renewed(3), None);
}

#[test]
fn a_hundred_thousand_leases_that_end_at_once_hold_nobody_up() {
    const COUNT: i64 = 100_000;
    let mut alone = Alone::new(|config| config.waiting_max = 200_000);
    for id in 1..=COUNT {
        alone.ask(0, Request::LeaseGrant { id: LeaseId(id), ttl: 20 });
    }
    alone.run();
    for id in 1..=COUNT {
        let number = usize::try_from(id).expect("small");
        alone.ask(0, Request::Write(put(&key(number), id).encode()));
    }
    alone.run();
    alone.replies.clear();
    assert_eq!(alone.shard.lessor().len(), 100_000);
    alone.jump(30_000);
    // Each slice and each turn is short, a put comes through between any two of them, and after 40
    // milliseconds' worth of them there are sixteen a millisecond.
    let (mut slices, mut ticks, mut revision) = (0, 0, alone.revision());
    while !alone.shard.lessor().is_empty() {
        alone.shard.work();
        let named = alone.shard.ended().len();
        assert!(named <= 128, "{named}, {slices}");
        if named == 0 {
            alone.jump(20);
            ticks += 1;
        }
        alone.hang(0, 0).expect("a put");
        let now = alone.revision();
        assert_eq!(now - revision, i64::try_from(named).expect("small") + 1);
        (slices, revision) = (slices + usize::from(named > 0), now);
    }
    assert_eq!((slices, ticks, alone.keys()), (782, 99_360_u64.div_ceil(320), 1));
}

#[test]
fn no_more_is_proposed_than_may_be_under_way() {
    let mut alone = Alone::new(|config| config.waiting_max = 200_000);
    for id in 1..=5_000 {
        alone.ask(0, Request::LeaseGrant { id: LeaseId(id), ttl: 20 });
    }
    alone.run();
    let mut named = 0;
    // The disk does nothing meanwhile.
    for later in 0..20 {
        alone.shard.handle(Input::Tick(ringd::types::Tick(30_000 + later * 20)));
        while alone.shard.work() || !alone.shard.ended().is_empty() {
            named += alone.shard.ended().len();
        }
    }
    assert_eq!(named, 2_048);
    alone.jump(31_000);
    for _ in 0..20 {
        alone.jump(20);
        alone.work_until(20, |alone| alone.shard.lessor().is_empty());
    }
    assert!(alone.shard.lessor().is_empty());
}

#[test]
fn a_checkpoint_outlives_a_restart_and_a_renewal_takes_it_back() {
    let mut alone = Alone::new(|config| config.lease.checkpoints = true);
    assert!(alone.grant(1, 1_000).is_ok() && alone.grant(2, 300).is_ok());
    alone.live(290_000);
    alone.renew(3, 2);
    assert_eq!(alone.renewed(3).map(|it| it.1), Some(300));
    alone.live(15_000);
    alone.restart();
    // The first had used up 300 s by its checkpoint, the other is too short for one.
    assert_eq!((alone.time_to_live(1).0, alone.time_to_live(2).0), (701, 301));
    alone.renew(3, 1);
    assert_eq!(alone.renewed(3), Some((1, 1_000, 1)), "once that is logged");
    alone.restart();
    assert_eq!(alone.time_to_live(1).0, 1_001);
    // Without the gate nothing is written down.
    let mut alone = Alone::new(|_| ());
    assert!(alone.grant(1, 1_000).is_ok());
    alone.live(310_000);
    alone.restart();
    assert_eq!(alone.time_to_live(1).0, 1_001);
}

/// All answers were made at once, each with all that it names, before the first left.
#[test]
fn lists_of_leases_and_of_keys_are_made_a_slice_at_a_time() {
    const COUNT: usize = 3_000;
    let mut alone = Alone::new(|_| ());
    for id in 1..=100 {
        assert_eq!(alone.grant(id, 600), Ok((id, 600)));
    }
    (0..20).for_each(|number| drop(alone.hang(number, 1).expect("it is there")));
    for request in [Request::LeaseLeases, Request::LeaseTimeToLive { id: LeaseId(1), keys: true }] {
        alone.work();
        (0..COUNT).for_each(|nth| alone.ask(nth, request.clone()));
        alone.run();
        let slice = alone.replies.len();
        assert!(slice > COUNT / 3 && slice < COUNT / 2, "{slice} at once");
        alone.work();
        assert_eq!(alone.replies.len(), 2 * slice);
        alone.shard.handle(Input::Forget { to: asker(COUNT - 1) });
        assert!(!alone.shard.is_idle());
        alone.work();
        assert_eq!(alone.replies.len(), COUNT - 1);
        assert!(alone.shard.is_idle());
        alone.replies.clear();
    }
}

/// A renewal that waited behind an entry for the disk counted from when time was last told, which
/// is long over if the process stood still meanwhile.
#[test]
fn a_renewal_counts_from_the_time_that_is_told_after_the_disk_has_answered() {
    let mut alone = Alone::new(|config| {
        (config.store.cache_size, config.store.block_size) = (0, 300);
    });
    alone.put(0..1_000, 250);
    alone.compact();
    alone.grant(1, 15).expect("it is taken");
    alone.hold_store(true);
    let (key, value, lease, prev_kv) = (&key(0)[..], &[][..], 0, false);
    let keep = Command::Put { key, value, lease, prev_kv, ignore_value: true, ignore_lease: true };
    alone.ask(1, Request::Write(keep.encode()));
    alone.run();
    alone.renew(2, 1);
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
    for command in std::mem::take(&mut alone.held) {
        alone.perform(command);
    }
    alone.holds_store = false;
    alone.jump(4_000);
    assert!(alone.renewed(2).is_some());
    assert_eq!(alone.time_to_live(1).0, 15);
}
