//! Every member serves: what needs the leader is handed to it.

use super::world::{Answer, World, id, is_done, put};
use ringd::shard::command::{Command, Head, Op, Txn, with_origin};
use ringd::shard::origin::Origin;
use ringd::shard::peer::{Packet, Why};
use ringd::shard::request::{Body, Failure, LeaseRefusal, Request, Response, Unavailable};
use ringd::shard::{Input, Output};
use ringd::types::{LeaseId, NodeId};

fn body(answer: Answer) -> Body {
    answer.unwrap_or_else(|failure| panic!("{failure:?}")).body
}

fn time_to_live(answer: Answer) -> (i64, i64, Vec<bytes::Bytes>) {
    let Body::LeaseTimeToLive { ttl, granted, keys, .. } = body(answer) else {
        panic!("no time to live");
    };
    (ttl, granted, keys)
}

#[test]
fn a_follower_answers_writes_once_they_are_applied_there() {
    let mut world = World::new(3, 11, |_| ());
    let follower = world.follower();
    for nth in 0..30 {
        let (key, value) = (format!("k{}", nth % 7), format!("v{nth}"));
        let answer = world.call(follower, put(&key, &value)).expect("it is done");
        assert_eq!(answer.header.member, id(follower));
        assert_eq!(
            answer.header.revision,
            world.nodes[follower].shard.as_ref().unwrap().keyspace().revision()
        );
        assert_eq!(world.get(follower, &key, true), Ok(Some(value)));
    }
    let rows = world.settle();
    assert_eq!(rows.iter().map(|row| row.2).sum::<i64>(), 30, "each counts once");
}

/// A write was handed over, and a lease asked about, only when something else happened afterwards.
#[test]
fn what_is_for_the_leader_leaves_in_the_same_turn() {
    let mut world = World::new(3, 21, |_| ());
    let follower = world.follower();
    world.pass(1_000);
    for request in [put("k", "v"), Request::LeaseKeepAlive { id: LeaseId(1) }] {
        let before = world.under_way_from(follower);
        world.ask(follower, request);
        assert_eq!(world.under_way_from(follower), before + 1);
    }
}

/// What came from a member was believed to be what a member lets through: one that wrote a key
/// twice ended every member that applied it, again at each start.
#[test]
fn a_transaction_that_no_member_lets_through_is_refused_where_it_arrives() {
    let mut world = World::new(3, 22, |_| ());
    let leader = world.elect();
    let follower = world.follower();
    assert_eq!(is_done(&world.call(follower, put("k", "v"))), Some(true));
    world.pass(1_000);
    let delete = Op::DeleteRange { key: b"k", range_end: b"", prev_kv: false };
    let keep = |value| Op::Put {
        key: b"k",
        value,
        lease: 0,
        prev_kv: false,
        ignore_value: true,
        ignore_lease: false,
    };
    for (nth, ops) in (1..).zip([&[delete, keep(b"")][..], &[keep(b""); 2], &[keep(b"v")]]) {
        let end = u32::try_from(ops.len()).expect("small");
        let heads = [Head { compares: 0, success: end, failure: end }];
        let command = Command::Txn(Txn { heads: &heads, compares: &[], ops }).encode();
        let origin = Origin { node: id(follower), life: u32::MAX, number: nth };
        let packet = Packet::Forward { attempt: nth, data: with_origin(&command, origin) };
        let shard = world.nodes[leader].shard.as_mut().expect("it runs");
        let applied = shard.applied();
        shard.handle(Input::Packet { from: id(follower), packet });
        let Some(Output::Send { to, packet }) = shard.poll() else { panic!("it says nothing") };
        let refused = Packet::Refused { origin, attempt: nth, why: Why::Never };
        assert_eq!((to, packet), (id(follower), refused));
        world.pass(1_000);
        let shard = world.nodes[leader].shard.as_ref().expect("it runs");
        assert_eq!(shard.applied(), applied, "it is in no log");
    }
}

#[test]
fn refusals_of_the_state_come_back_to_who_asked() {
    let mut world = World::new(3, 12, |_| ());
    let follower = world.follower();
    let compact = Command::Compact { revision: 99, physical: false }.encode();
    let refused = world.call(follower, Request::Write(compact)).expect_err("it is to come");
    assert!(matches!(refused, Failure::Refused(_)), "{refused:?}");
    let revoke = Request::LeaseRevoke { id: LeaseId(5) };
    assert_eq!(world.call(follower, revoke), Err(LeaseRefusal::NotFound.into()));
}

#[test]
fn what_is_lost_on_the_way_is_handed_over_again_and_counts_once() {
    for seed in 0..6 {
        let mut world = World::new(3, 200 + seed, |_| ());
        let follower = world.follower();
        (world.loss, world.doubled, world.delay_max) = (15, 15, 30);
        let asked: Vec<_> = (0..60)
            .map(|nth| {
                world.step();
                world.ask(follower, put(&format!("k{nth}"), "v"))
            })
            .collect();
        world.pass(8_000);
        let answers: Vec<_> = asked.iter().map(|of| world.answer(*of).expect("in time")).collect();
        let done = answers.iter().filter(|answer| is_done(answer) == Some(true)).count();
        assert!(done >= 30, "{done}");
        let rows = world.settle();
        assert!(rows.len() >= done && rows.iter().all(|row| row.2 == 1));
    }
}

/// Refused changes leave gaps among the numbers that are applied. Of those only so many are told
/// apart: the number of a write that was lost on its way was given up, and it was never answered.
#[test]
fn a_write_that_hundreds_overtake_is_done() {
    let mut world = World::new(3, 19, |_| ());
    let follower = world.follower();
    world.pass(1_000);
    assert_eq!(is_done(&world.call(follower, put("first", "v"))), Some(true));
    (world.loss, world.delay_max) = (100, 1);
    let of = world.ask(follower, put("lost", "v"));
    world.loss = 0;
    for nth in 0..300 {
        let nobody = NodeId(999);
        world.ask(follower, Request::MemberRemove { id: nobody });
        world.ask(follower, put(&format!("k{nth}"), "v"));
    }
    world.until("an answer", |world| world.is_answered(of));
    assert_eq!(is_done(&world.answer(of).unwrap()), Some(true));
    assert_eq!(world.settle().len(), 302);
}

/// A write that was held while nobody led got its number after a change that came later, and was
/// told that it was late only when that was.
#[test]
fn what_was_held_first_is_late_first() {
    let mut world = World::new(3, 20, |_| ());
    let leader = world.elect();
    let follower = world.follower();
    world.isolate(follower, true);
    world.until("it stands", |world| {
        world.nodes[follower].shard.as_ref().is_some_and(|it| it.leader().is_none())
    });
    let first = world.ask(follower, put("k", "v"));
    world.pass(3_000);
    let second = world.ask(follower, Request::MemberRemove { id: NodeId(999) });
    // It hears the leader, which does not hear it.
    world.isolate(follower, false);
    world.cut.insert((follower, leader));
    world.until("an answer", |world| world.is_answered(first));
    assert!(!world.is_answered(second));
    world.until("an answer", |world| world.is_answered(second));
}

#[test]
fn a_write_goes_on_to_the_next_leader_when_the_first_fails() {
    let mut world = World::new(3, 13, |_| ());
    let leader = world.elect();
    let follower = world.follower();
    world.isolate(leader, true);
    let of = world.ask(follower, put("k", "v"));
    world.until("another leader", |world| world.leader().is_some_and(|it| it != leader));
    world.until("an answer", |world| world.is_answered(of));
    assert_eq!(is_done(&world.answer(of).unwrap()), Some(true));
    world.isolate(leader, false);
    assert_eq!(world.settle(), [("k".to_owned(), "v".to_owned(), 1)]);
}

#[test]
fn who_is_alone_says_that_there_is_no_leader_and_what_it_does_not_know() {
    let mut world = World::new(3, 14, |_| ());
    let follower = world.follower();
    world.pass(3_000);
    let before = world.ask(follower, put("before", "v"));
    world.isolate(follower, true);
    world.until("it stands", |world| {
        world.nodes[follower].shard.as_ref().is_some_and(|it| it.leader().is_none())
    });
    let after = world.call(follower, put("after", "v"));
    assert_eq!(after, Err(Unavailable::NoLeader.into()), "nothing of it was handed over");
    world.until("an answer", |world| world.is_answered(before));
    let before = world.answer(before).unwrap();
    assert_eq!(before, Err(Unavailable::Timeout.into()), "it may have arrived");
    let asks = [
        Request::LeaseKeepAlive { id: LeaseId(1) },
        Request::LeaseTimeToLive { id: LeaseId(1), keys: false },
    ];
    for ask in asks {
        assert_eq!(world.call(follower, ask), Err(Unavailable::NoLeader.into()));
    }
    let Body::Status(status) = body(world.call(follower, Request::Status)) else { panic!() };
    assert_eq!(status.leader, None);
    world.isolate(follower, false);
    let rows = world.settle();
    assert!(rows.iter().all(|row| row.0 != "after"), "{rows:?}");
}

#[test]
fn a_write_that_the_last_leader_may_have_taken_is_told_so() {
    let mut world = World::new(3, 15, |_| ());
    let leader = world.elect();
    world.pass(3_000);
    world.isolate(leader, true);
    let of = world.ask(leader, put("k", "v"));
    world.until("an answer", |world| world.is_answered(of));
    let answer = world.answer(of).unwrap();
    assert_eq!(answer, Err(Unavailable::Timeout.into()), "no leader is known there");
    world.isolate(leader, false);
    let leader = world.elect();
    world.pass(3_000);
    // It goes on leading, and its own disk stands still: nobody else can tell.
    for other in (0..3).filter(|other| *other != leader) {
        world.crash(other);
    }
    let of = world.ask(leader, put("l", "v"));
    for other in (0..3).filter(|other| *other != leader) {
        world.pass(10);
        world.start(other);
    }
    world.until("an answer", |world| world.is_answered(of));
    world.settle();
}

#[test]
fn a_leader_has_what_followers_ask_of_leases() {
    let mut world = World::new(3, 16, |_| ());
    let follower = world.follower();
    let grant = Request::LeaseGrant { id: LeaseId(0), ttl: 10 };
    let Body::LeaseGrant { id, ttl: 10 } = body(world.call(follower, grant)) else { panic!() };
    let keep = Request::LeaseKeepAlive { id };
    let time = Request::LeaseTimeToLive { id, keys: true };
    let put = Command::Put {
        key: b"k",
        value: b"v",
        lease: id.0,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    body(world.call(follower, Request::Write(put.encode())));
    for _ in 0..8 {
        world.pass(3_000);
        let Ok(Response { header, body }) = world.call(follower, keep.clone()) else { panic!() };
        assert_eq!(
            (header.member, body),
            (super::world::id(follower), Body::LeaseKeepAlive { id, ttl: 10 })
        );
    }
    world.pass(2_500);
    let (left, granted, keys) = time_to_live(world.call(follower, time.clone()));
    assert!((6..=8).contains(&left) && granted == 10, "{left} of {granted}");
    assert_eq!(keys, [&b"k"[..]]);
    world.pass(12_000);
    assert_eq!(world.get(follower, "k", false), Ok(None), "it has ended");
    assert_eq!(body(world.call(follower, keep)), Body::LeaseKeepAlive { id, ttl: 0 });
    let gone = Body::LeaseTimeToLive { id, ttl: -1, granted: 0, keys: Vec::new() };
    assert_eq!(body(world.call(follower, time)), gone);
}

#[test]
fn a_new_leader_extends_leases_and_never_shortens_them() {
    let mut world = World::new(3, 17, |_| ());
    let mut leader = world.elect();
    let grant = Request::LeaseGrant { id: LeaseId(7), ttl: 6 };
    body(world.call(leader, grant));
    // It is never renewed, and each new leader gives it all its time again.
    for _ in 0..5 {
        world.pass(4_000);
        world.crash(leader);
        let next = world.elect();
        world.start(leader);
        leader = next;
        let time = Request::LeaseTimeToLive { id: LeaseId(7), keys: false };
        let (left, granted, _) = time_to_live(world.call(leader, time));
        assert!(left >= 5 && granted == 6, "{left} of {granted}");
    }
    // A follower's renewal, answered by one leader, holds under the next.
    let follower = world.follower();
    assert_eq!(
        body(world.call(follower, Request::LeaseKeepAlive { id: LeaseId(7) })),
        Body::LeaseKeepAlive { id: LeaseId(7), ttl: 6 }
    );
    world.crash(leader);
    world.pass(5_900);
    let leases = body(world.call(follower, Request::LeaseLeases));
    assert_eq!(leases, Body::LeaseLeases { leases: vec![LeaseId(7)] });
    world.start(leader);
    world.pass(9_000);
    let leases = body(world.call(follower, Request::LeaseLeases));
    assert_eq!(leases, Body::LeaseLeases { leases: vec![] });
}

#[test]
fn questions_of_one_stream_are_answered_in_their_order_through_a_change_of_leaders() {
    let mut world = World::new(3, 18, |_| ());
    let leader = world.elect();
    let follower = world.follower();
    for lease in 1..=20 {
        body(world.call(leader, Request::LeaseGrant { id: LeaseId(lease), ttl: 60 }));
    }
    world.crash(leader);
    let asked: Vec<_> = (1..=20)
        .map(|lease| world.ask(follower, Request::LeaseKeepAlive { id: LeaseId(lease) }))
        .collect();
    world.until("answers", |world| asked.iter().all(|of| world.is_answered(*of)));
    for (of, lease) in asked.iter().zip(1..) {
        let answer = world.answer(*of).unwrap();
        assert_eq!(body(answer), Body::LeaseKeepAlive { id: LeaseId(lease), ttl: 60 });
    }
}
