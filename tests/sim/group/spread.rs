//! Who comes to lead, and when.

use super::world::{World, id, is_done, put};
use ringd::shard::Input;

/// A group whose second member is to lead.
fn inclined(seed: u64) -> World {
    World::new(3, seed, |config| config.leader_turn = Some(4))
}

#[test]
fn a_leader_hands_over_to_the_one_that_is_to_lead_once_all_is_calm() {
    for seed in 0..4 {
        let mut world = inclined(400 + seed);
        let first = world.elect();
        world.pass(8_000);
        assert_eq!(world.leader(), Some(first), "not so soon after an election");
        world.until("the second", |world| world.leader() == Some(1));
        assert_eq!(is_done(&world.call(first, put("k", "v"))), Some(true));
        world.pass(90_000);
        assert_eq!(world.leader(), Some(1), "it stays");
    }
}

#[test]
fn who_is_to_lead_and_is_away_is_waited_for() {
    let mut world = inclined(410);
    world.elect();
    world.crash(1);
    let other = world.elect();
    world.pass(30_000);
    assert_eq!(world.leader(), Some(other));
    world.start(1);
    world.pass(5_000);
    assert_eq!(world.leader(), Some(other), "it has just come");
    world.until("the second", |world| world.leader() == Some(1));
}

#[test]
fn without_a_turn_whoever_leads_goes_on() {
    let mut world = World::new(3, 411, |_| ());
    let leader = world.elect();
    world.pass(60_000);
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn the_first_election_comes_sooner_where_two_others_are_there() {
    for (is_hasty, most) in [(true, 1_500), (false, 5_000)] {
        let mut world = World::new(3, 412, |config| config.election_tick_advance = is_hasty);
        for nth in 0..3 {
            for other in (0..3).filter(|other| *other != nth) {
                let shard = world.nodes[nth].shard.as_mut().expect("it runs");
                shard.handle(Input::PeerUp { peer: id(other) });
            }
        }
        world.elect();
        assert!(world.now < most, "{}", world.now);
        assert!(is_hasty || world.now >= 1_000, "nobody waits for less: {}", world.now);
    }
}

#[test]
fn one_other_is_no_reason_to_hurry_and_after_a_while_two_are_none() {
    let mut world = World::new(3, 413, |_| ());
    for nth in 0..3 {
        let shard = world.nodes[nth].shard.as_mut().expect("it runs");
        shard.handle(Input::PeerUp { peer: id((nth + 1) % 3) });
        shard.handle(Input::PeerUp { peer: id((nth + 1) % 3) });
    }
    world.pass(900);
    assert_eq!(world.leader(), None);
    assert!(world.nodes.iter().all(|node| node.lines.is_empty()), "nobody stood");
}
