//! A group elects, replicates and survives; whoever lags catches up from the others' logs.

use super::world::{World, id, is_done, put, short_log};
use ringd::raft::Body;
use ringd::shard::peer::Packet;
use ringd::shard::request::{RequestId, Unavailable};
use ringd::shard::{Input, Output};
use std::collections::BTreeMap;

#[test]
fn a_group_elects_a_leader_and_applies_what_it_is_asked_everywhere() {
    for count in [1, 3, 5] {
        let mut world = World::new(count, 1, |_| ());
        let leader = world.elect();
        for nth in 0..50 {
            let answer = world.call(leader, put(&format!("k{nth}"), "v"));
            assert_eq!(is_done(&answer), Some(true), "{answer:?}");
        }
        assert_eq!(world.settle().len(), 50);
        for node in &world.nodes {
            assert_eq!(node.peers.len(), count - 1);
        }
    }
}

#[test]
fn a_leader_that_ends_is_followed_by_another_and_comes_back_with_the_same_log() {
    let mut world = World::new(3, 2, |_| ());
    let mut wrote = 0;
    for _ in 0..6 {
        let leader = world.elect();
        for _ in 0..10 {
            wrote += 1;
            let answer = world.call(leader, put(&format!("k{wrote}"), "v"));
            assert_eq!(is_done(&answer), Some(true), "{answer:?}");
        }
        world.crash(leader);
        let next = world.elect();
        assert_ne!(leader, next);
        world.start(leader);
    }
    let rows = world.settle();
    assert_eq!(rows.len(), wrote);
    assert!(rows.iter().all(|row| row.2 == 1));
}

/// Its last connection has ended, and it may doubt the leader for that.
#[test]
fn a_leader_is_heard_at_once_by_whom_it_reaches_again() {
    let mut world = World::new(3, 4, |_| ());
    let leader = world.elect();
    world.settle();
    let peer = id(world.follower());
    let shard = world.nodes[leader].shard.as_mut().expect("it runs");
    while shard.poll().is_some() {}
    shard.handle(Input::PeerUp { peer });
    let is_heartbeat = |output| {
        let Output::Send { to, packet: Packet::Raft(message) } = output else { return false };
        to == peer && matches!(message.body, Body::Heartbeat { .. })
    };
    assert!(std::iter::from_fn(|| shard.poll()).any(is_heartbeat));
}

#[test]
fn whoever_was_away_catches_up_from_the_log_on_disk() {
    let mut world = World::new(3, 3, |config| config.raft.cache_size_max = 1_000);
    let leader = world.elect();
    let away = world.follower();
    world.crash(away);
    for nth in 0..400 {
        world.ask(leader, put(&format!("k{nth}"), &"v".repeat(300)));
        world.step();
    }
    world.bulk = 0;
    world.start(away);
    assert_eq!(world.settle().len(), 400);
    assert!(world.bulk >= 1, "entries came from the log: {}", world.bulk);
}

#[test]
fn entries_that_are_sealed_stay_for_whoever_was_away() {
    let mut world = World::new(3, 4, |config| {
        config.raft.cache_size_max = 1_000;
        config.seal_entries_max = 50;
    });
    let leader = world.elect();
    let away = world.follower();
    world.crash(away);
    for nth in 0..400 {
        world.ask(leader, put(&format!("k{nth}"), &"v".repeat(300)));
        world.step();
    }
    assert_eq!(is_done(&world.call(leader, put("last", "v"))), Some(true));
    // Those who served restart too: what they know of the log's older part is on disk.
    for nth in (0..3).filter(|nth| *nth != away) {
        world.crash(nth);
        world.start(nth);
    }
    world.elect();
    world.start(away);
    assert_eq!(world.settle().len(), 401);
}

#[test]
fn whoever_lags_further_than_the_log_reaches_is_told_of_once_and_nobody_halts() {
    let mut world = World::new(3, 5, short_log);
    let leader = world.elect();
    let away = world.follower();
    world.crash(away);
    for nth in 0..600 {
        world.ask(leader, put(&format!("k{nth}"), &"v".repeat(300)));
        world.step();
    }
    world.start(away);
    world.pass(3_000);
    let leader = world.elect();
    let told = world.nodes[leader].lines.iter().filter(|line| line.contains("lacks entries"));
    assert_eq!(told.count(), 1, "once, and not again and again");
    assert!(is_done(&world.call(leader, put("more", "v"))) == Some(true));
    assert!(world.nodes.iter().all(|node| node.halted.is_none()));
}

#[test]
fn every_member_reads_what_was_acknowledged_before_and_an_isolated_one_only_its_own() {
    let mut world = World::new(3, 6, |_| ());
    let leader = world.elect();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    for nth in 0..20 {
        let value = format!("v{nth}");
        assert_eq!(is_done(&world.call(leader, put("k", &value))), Some(true));
        for reader in [one, leader, other] {
            assert_eq!(world.get(reader, "k", false), Ok(Some(value.clone())));
        }
    }
    world.isolate(one, true);
    assert_eq!(is_done(&world.call(leader, put("k", "new"))), Some(true));
    assert_eq!(world.get(one, "k", true), Ok(Some("v19".to_owned())));
    assert_eq!(world.get(one, "k", false), Err(Unavailable::Timeout.into()));
    world.isolate(one, false);
    assert_eq!(world.get(one, "k", false), Ok(Some("new".to_owned())));
}

/// One run of all faults at once.
fn storm(seed: u64, count: usize) -> (World, BTreeMap<String, RequestId>) {
    let mut world = World::new(count, 100 + seed, |config| {
        config.raft.cache_size_max = if seed.is_multiple_of(2) { 500 } else { 1 << 20 };
        config.seal_entries_max = if seed % 4 < 2 { 30 } else { 1 << 18 };
        config.store.seal_size = 4_096;
    });
    (world.loss, world.doubled) = (seed % 5 * 2, seed % 7);
    (world.delay_max, world.disk_speed) = (1 + seed % 4 * 10, 20 + seed % 3 * 40);
    let mut asked = BTreeMap::new();
    for round in 0..1_500 {
        world.step();
        let nth = world.dice.index(count);
        match world.dice.below(60) {
            0 if world.nodes[nth].shard.is_some() => {
                let running = world.nodes.iter().filter(|it| it.shard.is_some()).count();
                if running > count / 2 + 1 {
                    world.crash(nth);
                }
            }
            1 | 2 if world.nodes[nth].shard.is_none() => world.start(nth),
            3 => {
                let other = world.dice.index(count);
                if other != nth {
                    let is_cut = world.cut.len() < count && world.dice.chance(50);
                    world.cut(nth, other, is_cut);
                }
            }
            4..=30 if world.nodes[nth].shard.is_some() => {
                let key = format!("k{round}");
                let value = "v".repeat(world.dice.index(200));
                asked.insert(key.clone(), world.ask(nth, put(&key, &value)));
            }
            _ => {}
        }
    }
    (world, asked)
}

/// All of it at once: nodes that end, connections that break, packets that are lost.
#[test]
fn what_was_acknowledged_survives_whatever_the_network_and_the_disks_do() {
    let (mut elections, mut done, mut unknown) = (0, 0, 0);
    for seed in 0..crate::number("GROUP_SEEDS").unwrap_or(12) {
        let count = if seed % 3 == 0 { 5 } else { 3 };
        let (mut world, asked) = storm(seed, count);
        (world.loss, world.doubled, world.delay_max) = (0, 0, 2);
        world.cut.clear();
        for nth in 0..count {
            if world.nodes[nth].shard.is_none() {
                world.start(nth);
            }
        }
        world.pass(8_000);
        let rows = world.settle();
        elections += world.nodes[0].lines.len();
        assert!(rows.iter().all(|row| row.2 == 1), "nothing is applied twice");
        let found: BTreeMap<_, _> = rows.into_iter().map(|row| (row.0, row.1)).collect();
        for (key, of) in asked {
            let Some(answer) = world.answer(of) else { continue };
            match is_done(&answer) {
                Some(is_done) => {
                    assert_eq!(found.contains_key(&key), is_done, "{seed}: {key} {answer:?}");
                    done += usize::from(is_done);
                }
                None => unknown += 1,
            }
        }
    }
    crate::say(&format!("group: {elections} changes of role, {done} done, {unknown} unknown"));
    assert!(elections > 20 && done > 1_000, "{elections} {done}");
}

/// A member whose disk had time for its log and not for its store held all that was not sealed in
/// memory, without bound: who leads does not wait for one of three.
#[test]
fn a_member_that_seals_slowly_takes_no_more_than_it_can_hold() {
    let (tail, window) = (64 << 10, 16 << 10);
    let mut world = World::new(3, 5, |config| {
        config.raft.inflight_size_max = window;
        config.raft.append_size_max = 4 << 10;
        config.store.seal_size = 16 << 10;
        config.store.tail_size_max = tail;
        config.store.write_size = 4 << 10;
    });
    let leader = world.elect();
    let slow = world.follower();
    world.slow_store = Some((slow, 3));
    let mut most = 0;
    for nth in 0..2_000 {
        world.ask(leader, put(&format!("k{nth}"), &"v".repeat(300)));
        world.step();
        let shard = world.nodes[slow].shard.as_ref().expect("it runs");
        most = most.max(shard.unsealed_size());
    }
    assert!(most >= tail, "it is too slow: {most}");
    assert!(most < tail + 4 * window, "it holds {most} bytes");
    assert_eq!(world.leader(), Some(leader), "and it is heard all the time");
    world.slow_store = None;
    assert_eq!(world.settle().len(), 2_000);
}
