//! Who comes to lead, and when.

use super::world::{World, id};
use ringd::shard::Input;

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
