//! One member of three goes on without the others, and they come back.

use super::members::{add, grow, list};
use super::world::{World, id, is_done, put};
use ringd::shard::request::Request;
use ringd::types::Term;
use std::collections::BTreeSet;

/// Keys that are put before the others go.
const KEYS: usize = 40;

/// A group that has done something, and of which nobody runs; of every second seed, with most of it
/// sealed.
fn group_that_is_gone(seed: u64) -> World {
    let mut world = World::new(3, seed, |config| {
        config.strict_reconfig_check = false;
        if seed.is_multiple_of(2) {
            (config.seal_entries_max, config.catchup_entries) = (10, 5);
        }
    });
    world.elect();
    world.pass(1_000);
    for nth in 0..KEYS {
        let answer = world.call(nth % 3, put(&format!("k{nth}"), "v"));
        assert_eq!(is_done(&answer), Some(true));
    }
    world.settle();
    stop(&mut world);
    world
}

fn stop(world: &mut World) {
    for nth in 0..world.nodes.len() {
        if world.nodes[nth].shard.is_some() {
            world.crash(nth);
        }
    }
}

/// Whether a node leads, and in which term.
fn leads(world: &World, nth: usize) -> Option<Term> {
    let shard = world.nodes[nth].shard.as_ref()?;
    (shard.is_leader() && shard.is_ready()).then(|| shard.header().term)
}

fn start_alone(world: &mut World, nth: usize) {
    world.start_alone(nth);
    world.until("it leads alone", |world| leads(world, nth).is_some());
    is_alone(world, nth);
}

/// All that was acknowledged is there, and nobody else.
fn is_alone(world: &mut World, nth: usize) {
    let found = list(world, nth);
    assert_eq!(found.len(), 1, "{found:?}");
    let own = world.nodes[nth].config.raft.id;
    assert_eq!((found[0].id, found[0].name.clone()), (own, format!("n{nth}")));
    assert!(!found[0].learner && world.voters(nth) == 1);
    has_all(world, nth);
}

fn has_all(world: &mut World, nth: usize) {
    for key in 0..KEYS {
        assert_eq!(world.get(nth, &format!("k{key}"), false), Ok(Some("v".to_owned())), "{key}");
    }
}

/// These end, and say why.
fn are_told(world: &mut World, these: &[usize]) {
    world.until("their end", |world| these.iter().all(|nth| world.nodes[*nth].halted.is_some()));
    for nth in these {
        let why = world.nodes[*nth].halted.clone().expect("it just was");
        assert!(why.contains("permanently removed"), "{why}");
    }
}

#[test]
fn a_member_goes_on_alone_with_all_that_was_acknowledged_and_the_others_are_told() {
    for seed in 500..506 {
        let mut world = group_that_is_gone(seed);
        let left = usize::try_from(seed % 3).unwrap();
        let others: Vec<_> = (0..3).filter(|nth| *nth != left).collect();
        start_alone(&mut world, left);
        assert_eq!(is_done(&world.call(left, put("more", "v"))), Some(true));
        // The next starts are as any other, told so or not.
        for is_told in [false, true] {
            world.crash(left);
            let last = world.nodes[left].lines.len();
            if is_told {
                world.start_alone(left)
            } else {
                world.start(left)
            }
            world.until("it leads", |world| leads(world, left).is_some());
            is_alone(&mut world, left);
            let said = &world.nodes[left].lines[last..];
            assert!(!said.iter().any(|line| line.contains("going on alone")), "{said:?}");
        }
        let term = leads(&world, left);
        for nth in &others {
            world.start(*nth);
        }
        are_told(&mut world, &others);
        world.pass(5_000);
        assert_eq!(leads(&world, left), term, "nobody disturbs it");
        assert_eq!(world.get(left, "more", false), Ok(Some("v".to_owned())));
        is_alone(&mut world, left);
    }
}

#[test]
fn one_that_goes_on_alone_grows_again_and_all_know_who_was_left() {
    for seed in 510..514 {
        let mut world = group_that_is_gone(seed);
        start_alone(&mut world, 1);
        world.pass(6_000);
        let second = grow(&mut world, 1, false);
        world.until("a seat", |world| world.voters(second) == 2 && world.voters(1) == 2);
        has_all(&mut world, second);
        // Both begin again with those who were left around.
        for nth in [1, second] {
            world.crash(nth);
        }
        for nth in [0, 2, 1, second] {
            world.start(nth);
        }
        are_told(&mut world, &[0, 2]);
        world.elect();
        assert_eq!(is_done(&world.call(second, put("more", "v"))), Some(true));
        for nth in [1, second] {
            has_all(&mut world, nth);
            assert_eq!(list(&mut world, nth).len(), 2);
        }
        world.settle();
    }
}

/// The machine stops at every step of it: told so again, it gets there.
#[test]
fn one_whose_machine_stops_at_any_step_goes_on_alone_when_it_is_told_so_again() {
    for seed in 520..524 {
        let mut world = group_that_is_gone(seed);
        let mut falls = 0;
        loop {
            world.fall = Some((2, falls));
            world.start_alone(2);
            world.until("it falls, or it leads", |world| {
                world.nodes[2].shard.is_none() || leads(world, 2).is_some()
            });
            if world.nodes[2].shard.is_some() {
                break;
            }
            falls += 1;
            assert!(falls < 1_000, "it comes further each time");
        }
        assert!(falls > 2, "there are steps: {falls}");
        world.fall = None;
        is_alone(&mut world, 2);
    }
}

/// The machine stops at a step of it, and nobody tells it again: it is alone, or as it was.
#[test]
fn a_step_that_is_not_done_leaves_a_member_as_it_was() {
    for seed in [530, 531] {
        let mut seen = BTreeSet::new();
        for step in 0.. {
            let mut world = group_that_is_gone(seed);
            world.fall = Some((2, step));
            world.start_alone(2);
            world.until("it falls, or it leads", |world| {
                world.nodes[2].shard.is_none() || leads(world, 2).is_some()
            });
            if world.nodes[2].shard.is_some() {
                assert!(step > 2, "there are steps: {step}");
                break;
            }
            world.start(2);
            world.pass(5_000);
            let is_left = leads(&world, 2).is_some();
            seen.insert(is_left);
            world.start(0);
            world.start(1);
            if is_left {
                are_told(&mut world, &[0, 1]);
                is_alone(&mut world, 2);
            } else {
                world.elect();
                world.settle();
                for nth in 0..3 {
                    has_all(&mut world, nth);
                    assert_eq!(list(&mut world, nth).len(), 3);
                }
            }
        }
        assert_eq!(seen.len(), 2, "there is a step that counts");
    }
}

/// A leader answers when a majority has a write; who was part of it may not know that yet.
#[test]
fn what_was_acknowledged_is_kept_by_one_that_does_not_know_that_it_was() {
    let mut unknown = 0;
    for seed in 540..550 {
        let mut world = World::new(3, seed, |_| ());
        world.elect();
        world.pass(1_000);
        let leader = world.elect();
        let (left, away) = ((leader + 1) % 3, (leader + 2) % 3);
        world.isolate(away, true);
        assert_eq!(is_done(&world.call(leader, put("k", "v"))), Some(true));
        let applied = |nth: usize| world.nodes[nth].shard.as_ref().unwrap().applied();
        unknown += usize::from(applied(left) < applied(leader));
        stop(&mut world);
        world.start_alone(left);
        world.until("it leads alone", |world| leads(world, left).is_some());
        assert_eq!(world.get(left, "k", false), Ok(Some("v".to_owned())), "seed {seed}");
    }
    assert!(unknown > 0, "the case is met");
}

/// etcd cuts these.
#[test]
fn what_only_one_has_stays_with_the_one() {
    let mut world = World::new(3, 551, |_| ());
    let leader = world.elect();
    world.isolate(leader, true);
    let asked = world.ask(leader, put("k", "v"));
    world.pass(200);
    assert!(!world.is_answered(asked));
    stop(&mut world);
    world.start_alone(leader);
    world.until("it leads alone", |world| leads(world, leader).is_some());
    assert_eq!(world.get(leader, "k", false), Ok(Some("v".to_owned())));
}

#[test]
fn a_learner_that_goes_on_alone_has_a_vote() {
    let mut world = World::new(3, 552, |_| ());
    let leader = world.elect();
    world.pass(6_000);
    assert_eq!(is_done(&world.call(leader, put("k", "v"))), Some(true));
    let (told, all) = add(&mut world, leader, true);
    let learner = world.join(&told, &all);
    world.until("a name", |world| {
        world.row(learner, told.id).is_some_and(|row| !row.name.is_empty())
    });
    stop(&mut world);
    world.start_alone(learner);
    world.until("it leads alone", |world| leads(world, learner).is_some());
    assert_eq!(is_done(&world.call(learner, put("l", "v"))), Some(true));
    let found = list(&mut world, learner);
    assert!(found.len() == 1 && !found[0].learner, "{found:?}");
}

/// It may not even know of one that came later, and was elected by those who were left. That one
/// can not make itself its leader.
#[test]
fn one_that_goes_on_alone_hears_nobody_that_it_does_not_know() {
    for seed in 560..564 {
        let mut world = World::new(3, seed, |config| config.strict_reconfig_check = false);
        world.elect();
        world.pass(1_000);
        world.settle();
        world.crash(0);
        let by = world.elect();
        let stranger = grow(&mut world, by, false);
        world.until("a seat", |world| world.voters(stranger) == 4);
        stop(&mut world);
        world.start_alone(0);
        world.until("it leads alone", |world| leads(world, 0).is_some());
        if seed.is_multiple_of(2) {
            world.pass(6_000);
            let second = grow(&mut world, 0, false);
            world.until("a seat", |world| world.voters(0) == 2 && world.voters(second) == 2);
        }
        let left = [1, 2, stranger];
        left.iter().for_each(|nth| world.cut(0, *nth, true));
        left.iter().for_each(|nth| world.start(*nth));
        let leader = |world: &World| left.iter().copied().find(|nth| leads(world, *nth).is_some());
        world.until("they elect one", |world| leader(world).is_some());
        let target = world.nodes[stranger].config.raft.id;
        let by = leader(&world).unwrap();
        assert!(world.call(by, Request::MoveLeader { target }).is_ok());
        world.until("it leads", |world| leads(world, stranger).is_some());
        let (term, last) = (leads(&world, 0).expect("it leads on"), leads(&world, stranger));
        assert!(Some(term) > last);
        left.iter().for_each(|nth| world.cut(0, *nth, false));
        world.pass(10_000);
        assert_eq!(leads(&world, 0), Some(term), "it is not disturbed");
        // It begins again with the stranger around, which leads those that were left.
        world.crash(0);
        world.start(0);
        let new: Vec<_> = (0..world.nodes.len()).filter(|nth| !left.contains(nth)).collect();
        world.until("one of the new ones leads", |world| {
            new.iter().any(|nth| leads(world, *nth).is_some())
        });
        world.pass(5_000);
        let found = list(&mut world, 0);
        assert_eq!(found.len(), new.len(), "{found:?}");
        assert!(found.iter().any(|member| member.id == id(0)), "{found:?}");
        assert!(leads(&world, stranger) == last && list(&mut world, stranger).len() == 4);
    }
}
