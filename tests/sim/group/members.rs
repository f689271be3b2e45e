//! Members come, change and go.

use super::world::{Answer, World, id, is_done, put};
use ringd::shard::Input;
use ringd::shard::request::{Body, Failure, Member, MemberRefusal, Request, Unavailable};
use ringd::types::NodeId;
use std::collections::BTreeSet;

pub(super) fn list(world: &mut World, nth: usize) -> Vec<Member> {
    match world.call(nth, Request::MemberList { linearizable: true }) {
        Ok(response) if response.header.revision.0 == 0 => members(Ok(response)),
        other => panic!("{other:?}"),
    }
}

pub(super) fn members(answer: Answer) -> Vec<Member> {
    let Ok(Body::MemberList(members)) = answer.as_ref().map(|it| &it.body) else {
        panic!("{answer:?}")
    };
    members.clone()
}

fn refusal(answer: Answer) -> MemberRefusal {
    let Err(Failure::Member(refusal)) = answer else { panic!("{answer:?}") };
    refusal
}

/// Asks for one more member: it, and all.
pub(super) fn add(world: &mut World, nth: usize, learner: bool) -> (Member, Vec<Member>) {
    let peer_urls = vec![format!("http://more{}:2380", world.nodes.len())];
    let answer = world.call(nth, Request::MemberAdd { peer_urls, learner });
    let Ok(Body::MemberAdd { member, members }) = answer.as_ref().map(|it| &it.body) else {
        panic!("{answer:?}")
    };
    (member.clone(), members.clone())
}

/// Adds a member, starts it and waits until it serves and has its vote, or has none.
pub(super) fn grow(world: &mut World, by: usize, learner: bool) -> usize {
    let (member, all) = add(world, by, learner);
    assert!(member.name.is_empty() && member.learner == learner);
    let nth = world.join(&member, &all);
    let name = format!("n{nth}");
    world.until("a name", |world| {
        let row = world.row(nth, member.id);
        row.is_some_and(|row| row.name == name && row.learner == learner)
    });
    nth
}

/// A member of several groups is to be the same one in all of them.
#[test]
fn who_is_added_alike_gets_the_same_id_in_every_group_and_another_one_each_time() {
    let ids = [41, 42].map(|seed| {
        let mut world = World::new(3, seed, |config| config.strict_reconfig_check = false);
        let mut ids = Vec::new();
        for _ in 0..3 {
            let by = world.follower();
            let (added, _) = add(&mut world, by, true);
            // Who is asked may not know yet who was there before.
            let by = world.follower();
            members(world.call(by, Request::MemberRemove { id: added.id }));
            ids.push(added.id);
        }
        ids
    });
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].iter().collect::<BTreeSet<_>>().len() == 3, "{ids:?}");
}

#[test]
fn each_member_says_its_name_and_where_clients_reach_it() {
    let mut world = World::new(3, 31, |_| ());
    world.elect();
    world.until("names", |world| {
        (0..3).all(|nth| (0..3).all(|of| !world.row(nth, id(of)).unwrap().client_urls.is_empty()))
    });
    let found = list(&mut world, 1);
    assert_eq!(found.len(), 3);
    for (nth, member) in found.iter().enumerate() {
        assert_eq!(member.client_urls, [format!("http://n{nth}:2379")]);
    }
    for nth in 0..3 {
        world.crash(nth);
        world.start(nth);
    }
    world.elect();
    assert_eq!(list(&mut world, 2), found, "they outlive restarts");
}

/// What a member had in its log and could not know to be committed did not count before it had a
/// leader: one that had lost its log was not told that it had been up, and voted a second time.
#[test]
fn who_begins_knows_by_its_log_who_has_been_up() {
    let is_named =
        |world: &World, of| world.row(0, id(of)).is_some_and(|row| !row.client_urls.is_empty());
    for comes in [false, true] {
        let mut world = World::new(3, 43, |_| ());
        world.isolate(2, true);
        world.until("two names", |world| is_named(world, 0) && is_named(world, 1));
        if comes {
            world.isolate(2, false);
            world.until("its name", |world| is_named(world, 2));
            world.pass(1_000);
        }
        (0..3).for_each(|nth| world.crash(nth));
        world.start(0);
        world.pass(5_000);
        assert!(!is_named(&world, 2), "that is not applied");
        let shard = world.nodes[0].shard.as_ref().expect("it runs");
        let due = (0..if comes { 3 } else { 2 }).map(id);
        assert_eq!(shard.been_up().collect::<BTreeSet<_>>(), due.collect());
    }
}

#[test]
fn a_group_of_one_grows_to_three_and_shrinks_to_two_of_which_the_first_is_none() {
    let mut world = World::new(1, 32, |_| ());
    let first = world.elect();
    world.pass(6_000);
    assert_eq!(is_done(&world.call(first, put("k", "v"))), Some(true));
    let second = grow(&mut world, first, false);
    world.until("a seat", |world| world.voters(first) == 2);
    world.pass(6_000);
    let third = grow(&mut world, second, false);
    world.until("a seat", |world| world.voters(first) == 3);
    for nth in [first, second, third] {
        assert_eq!(world.nodes[nth].peers.len(), 2, "{:?}", world.nodes[nth].peers);
        assert_eq!(world.get(nth, "k", false), Ok(Some("v".to_owned())));
        assert_eq!(list(&mut world, nth).len(), 3);
    }
    world.settle();
    // Any one of them may end now.
    world.crash(third);
    world.elect();
    assert_eq!(is_done(&world.call(second, put("l", "v"))), Some(true));
    world.start(third);
    world.pass(6_000);
    let gone = world.nodes[first].config.raft.id;
    let left = members(world.call(second, Request::MemberRemove { id: gone }));
    assert!(left.len() == 2 && left.iter().all(|member| member.id != gone));
    world.until("its end", |world| world.nodes[first].halted.is_some());
    let why = world.nodes[first].halted.clone().unwrap();
    assert!(why.contains("permanently removed"), "{why}");
    world.elect();
    assert_eq!(is_done(&world.call(third, put("m", "v"))), Some(true));
    assert_eq!(world.settle().len(), 3);
    world.pass(12_000);
    assert_eq!(world.nodes[second].peers.len(), 1, "it is forgotten by and by");
    let unknown = Request::MemberRemove { id: gone };
    assert_eq!(refusal(world.call(third, unknown)), MemberRefusal::NotFound);
}

/// The leader counts it out as soon as the entry is in its log; the answer waits for its commit.
#[test]
fn who_is_asked_for_its_own_removal_answers_before_it_ends() {
    for (seed, nth) in (400..404).flat_map(|seed| (0..3).map(move |nth| (seed, nth))) {
        let mut world = World::new(3, seed, |config| config.strict_reconfig_check = false);
        world.elect();
        world.pass(1_000);
        let left = members(world.call(nth, Request::MemberRemove { id: id(nth) }));
        assert!(left.len() == 2 && left.iter().all(|member| member.id != id(nth)));
        world.until("its end", |world| world.nodes[nth].halted.is_some());
    }
}

/// Replaces the first members of a group by as many others, while one is away.
fn replace_all_but(world: &mut World, away: usize) -> Vec<usize> {
    let mut new = Vec::new();
    for (old, nth) in (0..3).filter(|nth| *nth != away).zip(0..) {
        let by = world.elect();
        let next = grow(world, by, false);
        world.until("a seat", |world| world.voters(next) == 4);
        let by = world.elect();
        let gone = Request::MemberRemove { id: id(old) };
        assert_eq!(members(world.call(by, gone)).len(), 3, "the {nth}th goes");
        world.until("its end", |world| world.nodes[old].halted.is_some());
        new.push(next);
    }
    new
}

/// It knew none of those who were there by then, did not hear them, and called only those who were
/// gone.
#[test]
fn one_that_was_away_while_all_others_were_replaced_follows_again() {
    let mut world = World::new(3, 37, |config| config.strict_reconfig_check = false);
    world.elect();
    world.pass(1_000);
    let away = 2;
    world.crash(away);
    let new = replace_all_but(&mut world, away);
    world.pass(12_000);
    assert_eq!(is_done(&world.call(new[0], put("k", "v"))), Some(true));
    world.start(away);
    world.until("the key", |world| {
        let shard = |nth: usize| world.nodes[nth].shard.as_ref().unwrap();
        shard(away).applied() == shard(new[0]).applied()
    });
    assert_eq!(world.get(away, "k", false), Ok(Some("v".to_owned())));
    world.settle();
    world.pass(12_000);
    assert_eq!(world.nodes[away].peers.len(), 2, "those who have left are forgotten");
}

/// Whoever joins applies the log from its first entry. It took members that it had been told of for
/// removed ones when it came to an entry from before their time, and told them so; they ended.
#[test]
fn one_that_joins_keeps_to_its_leader_through_all_that_was_before() {
    let mut world = World::new(3, 38, |config| config.strict_reconfig_check = false);
    world.elect();
    world.pass(1_000);
    let new = replace_all_but(&mut world, 2);
    world.append_size_max = 100;
    for nth in new.iter().copied().chain([2]) {
        world.nodes[nth].config.raft.append_size_max = 100;
        world.crash(nth);
        world.start(nth);
        world.elect();
    }
    world.pass(6_000);
    // Whoever leads is none of those who founded the group.
    let target = world.nodes[new[0]].config.raft.id;
    let leader = world.elect();
    assert!(world.call(leader, Request::MoveLeader { target }).is_ok());
    world.until("it leads", |world| world.leader() == Some(new[0]));
    let last = grow(&mut world, new[0], false);
    world.until("a seat", |world| world.voters(last) == 4);
    assert!(new.iter().chain([&2, &last]).all(|nth| world.nodes[*nth].halted.is_none()));
    world.settle();
}

#[test]
fn one_that_was_removed_while_it_was_away_is_told_so_long_after() {
    let mut world = World::new(3, 39, |config| config.strict_reconfig_check = false);
    world.elect();
    world.pass(1_000);
    world.crash(2);
    let leader = world.elect();
    assert_eq!(members(world.call(leader, Request::MemberRemove { id: id(2) })).len(), 2);
    world.pass(15_000);
    assert_eq!(world.nodes[leader].peers.len(), 1, "nobody calls it any more");
    for _ in 0..2 {
        world.start(2);
        world.until("its end", |world| world.nodes[2].halted.is_some());
        let why = world.nodes[2].halted.take().unwrap();
        assert!(why.contains("permanently removed"), "{why}");
        world.crash(2);
    }
    assert_eq!(is_done(&world.call(leader, put("k", "v"))), Some(true));
}

#[test]
fn a_learner_follows_and_is_promoted_when_it_is_in_step() {
    let mut world = World::new(3, 33, |_| ());
    let leader = world.elect();
    world.pass(6_000);
    for nth in 0..200 {
        world.ask(leader, put(&format!("k{nth}"), "v"));
    }
    let follower = world.follower();
    let (told, all) = add(&mut world, follower, true);
    assert_eq!(all.len(), 4);
    let second = Request::MemberAdd { peer_urls: vec!["http://x:1".to_owned()], learner: true };
    assert_eq!(refusal(world.call(follower, second)), MemberRefusal::TooManyLearners);
    let promote = Request::MemberPromote { id: told.id };
    assert_eq!(refusal(world.call(follower, promote.clone())), MemberRefusal::LearnerNotReady);
    let learner = world.join(&told, &all);
    world.until("a name", |world| {
        world.row(learner, told.id).is_some_and(|row| !row.name.is_empty())
    });
    assert_eq!(world.voters(leader), 3);
    // Its clients may not ask it for this; the node itself may, to tell how it is.
    assert_eq!(world.get(learner, "k7", false), Ok(Some("v".to_owned())));
    assert_eq!(world.get(learner, "k7", true), Ok(Some("v".to_owned())));
    let status = world.call(learner, Request::Status).expect("it tells").body;
    assert!(matches!(status, Body::Status(status) if status.learner && status.leader.is_some()));
    let voter = Request::MemberPromote { id: id(leader) };
    assert_eq!(refusal(world.call(follower, voter)), MemberRefusal::NotLearner);
    let moved = world.call(leader, Request::MoveLeader { target: told.id });
    assert_eq!(moved, Err(Unavailable::BadTransferee.into()));
    let all = members(world.call(follower, promote));
    assert!(all.iter().all(|member| !member.learner));
    assert_eq!(world.voters(leader), 4);
    world.until("a vote", |world| world.row(learner, told.id).is_some_and(|row| !row.learner));
    assert_eq!(is_done(&world.call(learner, put("k", "w"))), Some(true));
}

#[test]
fn a_learner_that_has_caught_up_is_promoted_unasked_where_that_is_wanted() {
    for is_wanted in [true, false] {
        let mut world = World::new(3, 40, |config| config.learner_auto_promote = is_wanted);
        let leader = world.elect();
        world.pass(6_000);
        let (told, all) = add(&mut world, leader, true);
        world.pass(3_000);
        assert_eq!(world.voters(leader), 3, "it has not begun");
        let learner = world.join(&told, &all);
        world.until("a name", |world| {
            world.row(learner, told.id).is_some_and(|row| !row.name.is_empty())
        });
        world.pass(5_000);
        assert_eq!(world.row(learner, told.id).unwrap().learner, !is_wanted);
        assert_eq!(world.voters(leader), if is_wanted { 4 } else { 3 });
    }
}

#[test]
fn urls_change_and_the_transport_is_told() {
    let mut world = World::new(3, 34, |_| ());
    let follower = world.follower();
    let leader = world.leader().unwrap();
    let update = |of: usize, url: &str| Request::MemberUpdate {
        id: id(of),
        peer_urls: vec![url.to_owned()],
    };
    let all = members(world.call(follower, update(follower, "http://moved:1")));
    let row = all.iter().find(|member| member.id == id(follower)).unwrap();
    assert_eq!(row.peer_urls, ["http://moved:1"]);
    let told = world.nodes[leader].peers.iter().find(|peer| peer.0 == id(follower)).unwrap();
    assert_eq!(told.1, ["http://moved:1"]);
    let taken = world.call(leader, update(leader, "http://moved:1"));
    assert_eq!(refusal(taken), MemberRefusal::PeerUrlExists);
    let peer_urls = vec!["http://moved:1".to_owned()];
    world.pass(6_000);
    let taken = world.call(leader, Request::MemberAdd { peer_urls, learner: false });
    assert_eq!(refusal(taken), MemberRefusal::PeerUrlExists);
    assert_eq!(refusal(world.call(leader, update(77, "http://x:1"))), MemberRefusal::NotFound);
}

#[test]
fn changes_that_would_cost_the_majority_are_refused() {
    let mut world = World::new(3, 35, |_| ());
    let leader = world.elect();
    world.pass(2_000);
    let down = world.follower();
    let other = (0..3).find(|nth| *nth != leader && *nth != down).unwrap();
    let new = Request::MemberAdd { peer_urls: vec!["http://x:1".to_owned()], learner: false };
    world.crash(down);
    world.pass(50);
    assert_eq!(refusal(world.call(leader, new.clone())), MemberRefusal::Unhealthy);
    world.start(down);
    world.pass(3_000);
    assert_eq!(refusal(world.call(leader, new.clone())), MemberRefusal::Unhealthy, "too early");
    world.pass(6_000);
    world.crash(down);
    world.pass(6_000);
    assert_eq!(refusal(world.call(leader, new.clone())), MemberRefusal::Unhealthy);
    let remove = |of: usize| Request::MemberRemove { id: id(of) };
    assert_eq!(refusal(world.call(leader, remove(other))), MemberRefusal::Unhealthy);
    let left = members(world.call(leader, remove(down)));
    assert_eq!(left.len(), 2, "who is down is no part of the majority");
    // It hears of it when it is back.
    world.start(down);
    world.until("its end", |world| world.nodes[down].halted.is_some());
    let left = members(world.call(leader, remove(other)));
    assert_eq!(left.len(), 1);
    let last = world.call(leader, remove(leader));
    assert_eq!(refusal(last), MemberRefusal::NotEnoughStarted, "somebody has to stay");
    assert_eq!(is_done(&world.call(leader, put("k", "v"))), Some(true));
    // One that was added and never comes is no reason to stand still, and another none to wait.
    add(&mut world, leader, false);
    assert_eq!(is_done(&world.call(leader, put("k", "w"))), Some(true));
    assert_eq!(refusal(world.call(leader, new)), MemberRefusal::NotEnoughStarted);
}

/// A place that is taken was looked at first, and etcd's answer was another. Without a leader the
/// answer was that there was none, whatever the change.
#[test]
fn a_change_with_several_faults_is_refused_for_that_of_the_group() {
    let mut world = World::new(3, 41, |_| ());
    let leader = world.elect();
    world.pass(6_000);
    let peer_urls = world.row(leader, id(leader)).unwrap().peer_urls;
    let taken = Request::MemberAdd { peer_urls, learner: true };
    assert_eq!(refusal(world.call(leader, taken.clone())), MemberRefusal::PeerUrlExists);
    let unknown = Request::MemberPromote { id: NodeId(77) };
    assert_eq!(refusal(world.call(leader, unknown)), MemberRefusal::NotFound);
    let down = world.follower();
    world.crash(down);
    world.pass(50);
    assert_eq!(refusal(world.call(leader, taken.clone())), MemberRefusal::Unhealthy);
    world.crash(leader);
    let left = (0..3).find(|nth| *nth != leader && *nth != down).unwrap();
    world.until("no leader", |world| {
        world.nodes[left].shard.as_ref().is_some_and(|shard| shard.leader().is_none())
    });
    assert_eq!(refusal(world.call(left, taken)), MemberRefusal::Unhealthy);
    let remove = Request::MemberRemove { id: id(down) };
    assert_eq!(refusal(world.call(left, remove)), MemberRefusal::Unhealthy);
    let update = Request::MemberUpdate { id: id(left), peer_urls: vec!["http://x:1".to_owned()] };
    assert_eq!(world.call(left, update), Err(Unavailable::NoLeader.into()));
}

#[test]
fn a_change_whose_answer_is_lost_takes_place_once() {
    for seed in 0..6 {
        let mut world = World::new(3, 300 + seed, |config| config.strict_reconfig_check = false);
        let follower = world.follower();
        (world.loss, world.doubled, world.delay_max) = (20, 20, 20);
        let peer_urls = vec!["http://x:1".to_owned()];
        let of = world.ask(follower, Request::MemberAdd { peer_urls, learner: true });
        world.pass(100 * seed);
        let leader = world.leader();
        if let Some(leader) = leader.filter(|leader| *leader != follower) {
            world.crash(leader);
            world.pass(50);
            world.start(leader);
        }
        world.until("an answer", |world| world.is_answered(of));
        (world.loss, world.doubled) = (0, 0);
        world.elect();
        let found = list(&mut world, follower);
        match world.answer(of).unwrap() {
            Ok(_) => assert_eq!(found.len(), 4),
            Err(_) => assert!(found.len() <= 4),
        }
    }
}

#[test]
fn leadership_moves_when_it_is_asked_for_and_when_a_leader_stops() {
    let mut world = World::new(3, 36, |_| ());
    let leader = world.elect();
    let next = world.follower();
    let to_next = Request::MoveLeader { target: id(next) };
    assert_eq!(world.call(next, to_next.clone()), Err(Unavailable::NotLeader.into()));
    let nobody = Request::MoveLeader { target: NodeId(999) };
    assert_eq!(world.call(leader, nobody), Err(Unavailable::BadTransferee.into()));
    let own = Request::MoveLeader { target: id(leader) };
    assert!(matches!(world.call(leader, own).map(|it| it.body), Ok(Body::MoveLeader)));
    assert!(matches!(world.call(leader, to_next).map(|it| it.body), Ok(Body::MoveLeader)));
    assert_eq!(world.elect(), next);
    world.isolate(leader, true);
    let to_deaf = Request::MoveLeader { target: id(leader) };
    assert_eq!(world.call(next, to_deaf), Err(Unavailable::TransferTimeout.into()));
    world.isolate(leader, false);
    let leader = world.elect();
    world.pass(500);
    let began = world.now;
    world.nodes[leader].shard.as_mut().unwrap().handle(Input::Stop);
    assert!(!world.nodes[leader].shard.as_ref().unwrap().is_idle(), "it waits to be relieved");
    world.until("another", |world| world.leader().is_some_and(|it| it != leader));
    assert!(world.now - began < 500, "nobody had to miss it: {}", world.now - began);
    assert!(world.nodes[leader].shard.as_ref().unwrap().is_idle());
    // Nobody takes over: it does not wait for ever.
    let leader = world.elect();
    for other in (0..3).filter(|other| *other != leader) {
        world.crash(other);
    }
    world.nodes[leader].shard.as_mut().unwrap().handle(Input::Stop);
    world.until("its rest", |world| world.nodes[leader].shard.as_ref().unwrap().is_idle());
}
