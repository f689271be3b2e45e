//! Whoever lags further than the log reaches gets the state of another, whatever happens meanwhile.

use super::world::{Answer, World, put, short_log};
use ringd::shard::command::Command;
use ringd::shard::request::{Body, Failure, Request, Unavailable};
use ringd::shard::watch::{Ask, Asker, Event, Past, Slice, Told};
use ringd::shard::{Config, Ready};
use ringd::types::Revision;
use std::collections::BTreeMap;

/// Little is kept of the log, and the store's segments and what is sent of them are small.
fn small(config: &mut Config) {
    short_log(config);
    config.store.seal_size = 16 << 10;
    config.store.segment_size = 64 << 10;
    config.store.block_size = 1 << 10;
    config.store.write_size = 8 << 10;
    config.snapshots.piece_size = 4 << 10;
    config.snapshots.window = 16 << 10;
    config.snapshots.rate = 1 << 10;
}

fn body(answer: Answer) -> Body {
    answer.unwrap_or_else(|failure| panic!("{failure:?}")).body
}

/// Puts, overwrites and deletes, and compacts on the way.
fn write(world: &mut World, nth: usize, from: usize, count: usize) {
    for step in from..from + count {
        let key = format!("k{:03}", step * 7 % 300);
        let request = match step % 9 {
            4 => Request::Write(
                Command::DeleteRange { key: key.as_bytes(), range_end: &[], prev_kv: false }
                    .encode(),
            ),
            _ => put(&key, &format!("{step}-{}", "v".repeat(200))),
        };
        world.ask(nth, request);
        world.step();
        if step % 150 == 149 {
            let shard = world.nodes[nth].shard.as_ref().expect("it runs");
            let revision = shard.keyspace().revision().0 - 40;
            let compact = Command::Compact { revision, physical: false };
            world.ask(nth, Request::Write(compact.encode()));
        }
    }
}

/// The hash of all history at the present revision, of each node; they have applied the same.
fn hashes(world: &mut World) -> Vec<(u32, Option<Revision>, Revision)> {
    let count = world.nodes.len();
    let shard = world.nodes[0].shard.as_ref().expect("it runs");
    let revision = shard.keyspace().revision().0;
    let hash = |nth| {
        let body = body(world.call(nth, Request::HashKv { revision }));
        let Body::HashKv { hash, compacted, revision } = body else { panic!("{body:?}") };
        (hash, compacted, revision)
    };
    (0..count).map(hash).collect()
}

/// All have one state, tombstones and history included.
fn one_state(world: &mut World) {
    world.settle();
    let hashes = hashes(world);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    assert!(world.nodes.iter().all(|node| node.halted.is_none()));
}

/// A group of which one is away until the others' logs have let go what it lacks.
fn group_and_straggler(seed: u64, change: impl Fn(&mut Config)) -> (World, usize) {
    let mut world = World::new(3, seed, |config| {
        small(config);
        change(config);
    });
    let leader = world.elect();
    let away = world.follower();
    write(&mut world, leader, 0, 30);
    world.settle();
    world.crash(away);
    let leader = world.elect();
    write(&mut world, leader, 30, 900);
    (world, away)
}

fn said(world: &World, nth: usize, what: &str) -> usize {
    world.nodes[nth].lines.iter().filter(|line| line.contains(what)).count()
}

#[test]
fn whoever_lags_further_than_the_log_reaches_gets_a_snapshot() {
    let (mut world, away) = group_and_straggler(301, |_| ());
    let leader = world.elect();
    world.start(away);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state(&mut world);
    assert_eq!(said(&world, leader, "lacks entries"), 1, "once, and not again and again");
    assert_eq!(said(&world, away, "is received"), 1);
    // It goes on as any other: it votes, it leads, and it restarts from what it has.
    world.crash(leader);
    let next = world.elect();
    write(&mut world, next, 2_000, 60);
    world.start(leader);
    one_state(&mut world);
    world.crash(away);
    world.start(away);
    write(&mut world, next, 3_000, 20);
    one_state(&mut world);
}

/// Every crash of the receiver's machine, from the first file it makes to the last step: it comes
/// back as it was, or as it is to be.
#[test]
fn a_receiver_whose_machine_stops_at_any_step_gets_there_all_the_same() {
    let (mut world, away) = group_and_straggler(302, |_| ());
    let mut falls = 0;
    // Who falls when all is in place, and has yet to go on from there, is there at its next start.
    let is_there = |world: &World| {
        let applied = |nth: usize| world.nodes[nth].shard.as_ref().map(|shard| shard.applied());
        world.moved == 1 || applied(away) == (0..3).filter_map(applied).max()
    };
    while !is_there(&world) {
        world.fall = Some((away, falls));
        world.start(away);
        world.until("it falls, or it is there", |world| {
            world.nodes[away].shard.is_none() || is_there(world)
        });
        falls += 1;
        assert!(falls < 1_000, "it comes further each time");
    }
    assert!(falls > 40, "there are many steps: {falls}");
    if world.nodes[away].shard.is_none() {
        world.start(away);
    }
    world.fall = None;
    one_state(&mut world);
}

/// Every crash around the step that counts, and after it: the same run again and again, up to a
/// later step each time.
#[test]
fn a_receiver_whose_machine_stops_around_the_installation_has_either_state() {
    let begin = || {
        let (mut world, away) = group_and_straggler(303, |_| ());
        world.fall = Some((away, u64::MAX));
        (world, away)
    };
    let (mut world, away) = begin();
    world.start(away);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    let steps = u64::MAX - world.fall.expect("it does not fall").1;
    let (mut again, mut after) = (0, 0);
    for step in steps - 4..steps + 8 {
        let (mut world, away) = begin();
        world.fall = Some((away, step));
        world.start(away);
        for _ in 0..500 {
            world.step();
        }
        if world.fall.is_some() {
            // So much it does not do once it is there.
            break;
        }
        after = step - (steps - 4);
        let had_moved = world.moved;
        world.start(away);
        one_state(&mut world);
        again += world.moved - had_moved;
        world.crash(away);
        world.start(away);
        one_state(&mut world);
    }
    assert!((1..=6).contains(&again) && after > 4, "the manifest decides: {again}, {after}");
}

#[test]
fn a_sender_whose_machine_stops_is_followed_by_another() {
    let (mut world, away) = group_and_straggler(304, |_| ());
    let mut falls = 0;
    world.start(away);
    while world.moved == 0 {
        let leader = world.elect();
        assert_ne!(leader, away, "it has too little to lead");
        world.fall = Some((leader, falls * 3));
        world.until("it falls, or it is done", |world| {
            world.nodes[leader].shard.is_none() || world.moved == 1
        });
        world.fall = None;
        if world.nodes[leader].shard.is_none() {
            world.start(leader);
        }
        falls += 1;
        assert!(falls < 200, "it comes further each time");
    }
    assert!(falls > 3, "{falls}");
    one_state(&mut world);
}

#[test]
fn pieces_that_are_lost_late_or_doubled_are_pulled_again() {
    for seed in 0..4 {
        let (mut world, away) = group_and_straggler(310 + seed, |_| ());
        (world.loss, world.doubled, world.delay_max) = (10, 10, 30);
        world.start(away);
        for _ in 0..2_000 {
            world.pass(40);
            if world.moved > 0 {
                break;
            }
            // The connection breaks, and comes back.
            let leader = world.leader().unwrap_or(away);
            let other = world.dice.index(3);
            if other != leader {
                world.cut(leader, other, true);
                world.pass(20);
                world.cut(leader, other, false);
            }
        }
        assert!(world.moved > 0, "{seed}");
        (world.loss, world.doubled, world.delay_max) = (0, 0, 2);
        one_state(&mut world);
    }
}

/// What was on its way was asked for again and again, and filled the line.
#[test]
fn over_a_slow_line_each_piece_goes_once() {
    let (mut world, away) = group_and_straggler(323, |_| ());
    world.line.slow = world.nodes[away].config.raft.election_ticks / 5;
    world.start(away);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    assert_eq!(world.line.again, 0);
    world.line.slow = 0;
    one_state(&mut world);
}

/// What comes other than it was sent was sent again and again, as fast as could be.
#[test]
fn a_state_that_is_not_taken_is_offered_again_after_a_while() {
    let (mut world, away) = group_and_straggler(324, |config| config.snapshots.patience = 3_000);
    let leader = world.elect();
    world.is_garbled = true;
    world.start(away);
    world.pass(2_000);
    assert_eq!(said(&world, away, "is not taken"), 1);
    assert_eq!(said(&world, leader, "was not taken"), 1);
    world.is_garbled = false;
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state(&mut world);
}

/// It ended, and again after each start.
#[test]
fn a_receiver_without_room_goes_on_and_gets_the_state_once_there_is_some() {
    let (mut world, away) = group_and_straggler(327, |config| config.snapshots.patience = 3_000);
    world.no_room = Some(away);
    world.start(away);
    world.pass(2_000);
    assert_eq!(said(&world, away, "there is no room for it"), 1);
    assert!(world.nodes[away].halted.is_none() && world.moved == 0);
    let files = world.nodes[away].disks.store.list();
    assert!(files.iter().all(|(name, _)| !name.ends_with(".new")), "{files:?}");
    world.no_room = None;
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state(&mut world);
}

#[test]
fn a_member_without_room_for_what_it_seals_ends_and_goes_on_once_there_is_some() {
    let mut world = World::new(3, 328, small);
    let leader = world.elect();
    let full = world.follower();
    world.no_room = Some(full);
    write(&mut world, leader, 0, 200);
    let why = world.nodes[full].halted.clone().expect("it has ended");
    assert!(why.contains("no room: Create"), "{why}");
    world.no_room = None;
    world.crash(full);
    world.start(full);
    one_state(&mut world);
}

/// A state of which a block had rotted was sent for ever, and was never taken.
#[test]
fn whoever_sends_what_has_rotted_says_so_and_ends_and_another_sends() {
    let (mut world, away) = group_and_straggler(326, |_| ());
    let leader = world.elect();
    let files = world.nodes[leader].disks.store.list();
    let first = files.iter().find(|(name, _)| name.ends_with(".segment")).expect("it has sealed");
    world.nodes[leader].disks.flip(&first.0, 8 * (4096 + 100));
    world.start(away);
    world.until("it ends", |world| world.nodes[leader].halted.is_some());
    let why = world.nodes[leader].halted.as_ref().expect("it has ended");
    assert!(why.contains(&first.0) && why.contains("at byte 4096"), "{why}");
    world.until("another sends it", |world| world.moved == 1);
    world.settle();
}

/// The log of whoever sends grew for as long as somebody received.
#[test]
fn a_receiver_that_is_slower_than_the_changes_is_given_up() {
    let slow = |config: &mut Config| {
        (config.snapshots.rate, config.snapshots.kept_max) = (50, 128 << 10);
        config.snapshots.patience = 3_000;
    };
    let (mut world, away) = group_and_straggler(325, slow);
    let leader = world.elect();
    world.start(away);
    write(&mut world, leader, 5_000, 600);
    assert_eq!(said(&world, leader, "is given up"), 1);
    let log = world.nodes[leader].disks.log.list().len();
    assert!(log < 10, "what was kept is free again: {log}");
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state(&mut world);
}

#[test]
fn another_leader_sends_another_snapshot() {
    let (mut world, away) = group_and_straggler(320, |_| ());
    let leader = world.elect();
    world.start(away);
    world.until("some of it has come", |world| said(world, away, "is received") == 1);
    world.pass(40);
    assert_eq!(world.moved, 0, "not all of it");
    world.isolate(leader, true);
    world.until("it is received anew", |world| said(world, away, "is received") == 2);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    world.isolate(leader, false);
    one_state(&mut world);
}

/// It is fed from the log once it has the state, however much is written meanwhile.
#[test]
fn what_is_written_while_a_snapshot_is_sent_stays_in_the_log() {
    let (mut world, away) = group_and_straggler(321, |config| config.snapshots.rate = 200);
    let leader = world.elect();
    world.start(away);
    write(&mut world, leader, 5_000, 600);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state(&mut world);
    assert_eq!((world.moved, said(&world, leader, "lacks entries")), (1, 1));
    // And then it is let go.
    write(&mut world, leader, 9_000, 300);
    world.crash(away);
    write(&mut world, leader, 9_300, 600);
    world.start(away);
    world.until("it goes on from another snapshot", |world| world.moved == 2);
    one_state(&mut world);
}

#[test]
fn who_joins_after_the_log_was_let_go_gets_a_snapshot() {
    let mut world = World::new(1, 322, small);
    let leader = world.elect();
    write(&mut world, leader, 0, 900);
    world.settle();
    let add = Request::MemberAdd { peer_urls: vec!["http://n1:2380".into()], learner: true };
    let Body::MemberAdd { member: told, members: all } = body(world.call(leader, add)) else {
        panic!("no member")
    };
    let joined = world.join(&told, &all);
    world.until("it goes on from a snapshot", |world| world.moved == 1);
    one_state_of_learner(&mut world, joined);
    world.crash(joined);
    world.start(joined);
    write(&mut world, leader, 2_000, 20);
    one_state_of_learner(&mut world, joined);
}

/// A learner answers no hashes, and the same rows.
fn one_state_of_learner(world: &mut World, learner: usize) {
    world.settle();
    assert!(world.nodes[learner].halted.is_none());
}

/// What a core is told of all changes, as it would ask for them.
#[derive(Default)]
struct Watcher {
    /// Place and key of each change.
    events: Vec<(i64, u32, Vec<u8>)>,
    seen: i64,
    read: usize,
    token: u64,
    /// What is between is asked for: what comes meanwhile is part of the answer.
    is_behind: bool,
    is_compacted: bool,
    moves: usize,
}

impl Watcher {
    fn subscribe(&mut self, world: &mut World, nth: usize) {
        let from = Asker { core: 9, token: 0 };
        world.watch(nth, Ask::Subscribe { from, prev_kv: false });
    }

    /// Takes in what this node told since, and asks for what is between.
    fn look(&mut self, world: &mut World, nth: usize) {
        while self.read < world.told.len() {
            let (node, told) = world.told[self.read].clone();
            self.read += 1;
            if node != nth {
                continue;
            }
            match told {
                Told::Subscribed { header, .. } => self.seen = header.revision.0,
                Told::Events { .. } if self.is_behind => {}
                Told::Events { batch, .. } => {
                    assert!(batch.events[0].change.location.main.0 > self.seen, "no repeat");
                    self.take(&batch.events);
                    self.seen = batch.header.revision.0;
                }
                Told::Moved { header, .. } => {
                    assert!(header.revision.0 >= self.seen, "never back");
                    self.moves += 1;
                    if header.revision.0 > self.seen {
                        self.ask(world, nth);
                    }
                }
                Told::Replayed { slice: Slice::Events { events, until, .. }, .. } => {
                    self.take(&events);
                    self.seen = until.0;
                    self.is_behind = false;
                }
                Told::Replayed { slice: Slice::Compacted { floor, .. }, .. } => {
                    assert!(floor.0 > self.seen);
                    self.is_compacted = true;
                }
                Told::Replayed { slice: Slice::Busy, .. } => self.ask(world, nth),
            }
        }
    }

    fn ask(&mut self, world: &mut World, nth: usize) {
        self.token += 1;
        self.is_behind = true;
        let from = Asker { core: 9, token: self.token };
        let past = Past::new(b"\0", b"\0", Revision(self.seen + 1), 1 << 20);
        world.watch(nth, Ask::Replay { from, past });
    }

    fn take(&mut self, events: &[Event]) {
        self.events.extend(events.iter().map(|event| {
            let change = &event.change;
            (change.location.main.0, change.location.sub, change.key.to_vec())
        }));
    }
}

/// Those who watch on a member that goes on from a snapshot lack nothing and get nothing twice; who
/// reads there reads the old state until then, and who waits for the present gets it.
#[test]
fn a_member_serves_while_it_receives_and_its_watchers_go_on() {
    for is_compacted in [false, true] {
        let mut world = World::new(3, 330, small);
        let leader = world.elect();
        let away = world.follower();
        write(&mut world, leader, 0, 30);
        world.settle();
        let (mut all, mut own) = (Watcher::default(), Watcher::default());
        all.subscribe(&mut world, leader);
        own.subscribe(&mut world, away);
        assert!(world.call(leader, put("old", "1")).is_ok());
        world.settle();
        own.look(&mut world, away);
        world.isolate(away, true);
        for step in 0..700 {
            world.ask(leader, put(&format!("n{}", step % 50), &"v".repeat(300)));
            world.step();
        }
        assert!(world.call(leader, put("old", "2")).is_ok());
        if is_compacted {
            let shard = world.nodes[leader].shard.as_ref().expect("it runs");
            let revision = shard.keyspace().revision().0;
            let compact = Command::Compact { revision, physical: false }.encode();
            world.call(leader, Request::Write(compact)).expect("it is to be compacted");
            for _ in 0..60 {
                assert!(world.call(leader, put("more", "v")).is_ok());
            }
        }
        let lines = world.nodes[away].lines.len();
        world.isolate(away, false);
        world.until("it is received", |world| {
            let lines = &world.nodes[away].lines[lines..];
            lines.iter().any(|line| line.contains("is received"))
        });
        assert_eq!(world.get(away, "old", true), Ok(Some("1".to_owned())));
        let write = world.ask(away, put("through", "it"));
        assert_eq!(world.get(away, "old", false), Ok(Some("2".to_owned())));
        assert!(world.moved == 1, "that was the new state");
        world.until("an answer", |world| world.is_answered(write));
        one_state(&mut world);
        for _ in 0..20 {
            world.step();
            own.look(&mut world, away);
            all.look(&mut world, leader);
        }
        assert_eq!((own.moves, own.is_compacted), (1, is_compacted));
        if is_compacted {
            let first = own.events.iter().position(|event| !all.events.contains(event));
            assert_eq!(first, None, "what it was told is true");
        } else {
            assert!(own.events == all.events, "a gap or a repeat");
        }
    }
}

fn is_timeout(ready: &Ready) -> bool {
    matches!(ready, Ready::Result(Err(Failure::Unavailable(Unavailable::Timeout))))
}

/// They were told that what they read is compacted.
#[test]
fn whoever_reads_much_while_a_snapshot_comes_reads_anew_or_is_told_to() {
    let mut world = World::new(3, 331, small);
    let leader = world.elect();
    let away = world.follower();
    for nth in 0..12_000 {
        world.ask(leader, put(&format!("m{nth:05}"), "v"));
        if nth % 500 == 0 {
            world.pass(20);
        }
    }
    world.settle();
    world.isolate(away, true);
    write(&mut world, leader, 0, 700);
    world.isolate(away, false);
    let revision = |world: &World| world.nodes[away].shard.as_ref().unwrap().keyspace().revision();
    let (old, moved, mut lists) = (revision(&world), world.moved, Vec::new());
    while world.moved == moved {
        assert!(lists.len() < 4_000 && revision(&world) == old);
        lists.push(world.list(away));
        world.step();
    }
    world.until("all answers", |world| lists.iter().all(|of| world.is_answered(*of)));
    let (mut anew, mut told) = (0, 0);
    for of in lists {
        let ready = world.ready(of);
        let is_anew = matches!(ready, Ready::List(head) if head.header.revision > old);
        let is_told = is_timeout(ready);
        assert!(is_anew || is_told, "{ready:?}");
        (anew, told) = (anew + usize::from(is_anew), told + usize::from(is_told));
    }
    assert!(anew > 0 && told > 0, "{anew} and {told}");
}

/// Who waited for a compaction to be done was answered when the state came, with all of it to do.
#[test]
fn whoever_waits_for_a_compaction_while_a_snapshot_comes_waits_until_it_is_done() {
    let mut world = World::new(3, 332, small);
    let leader = world.elect();
    let away = world.follower();
    for nth in 0..300 {
        world.ask(leader, put(&format!("live{nth}"), &"v".repeat(300)));
        world.ask(leader, put(&format!("hot{}", nth % 3), "v"));
        world.step();
    }
    world.settle();
    let list = world.list(away);
    world.until("a list", |world| world.is_answered(list));
    assert!(world.call(leader, put("more", "v")).is_ok());
    let keyspace = |world: &World, nth: usize| {
        let shard = world.nodes[nth].shard.as_ref().expect("it runs");
        let mut old = BTreeMap::<Vec<u8>, usize>::new();
        let revision = shard.keyspace().revision();
        shard.keyspace().each(|key, at, _| {
            *old.entry(key.to_vec()).or_default() += usize::from(at.main.0 <= 500);
        });
        (revision.0, old.into_values().max())
    };
    let (revision, most) = keyspace(&world, leader);
    assert!(revision > 500 && most > Some(50));
    let compact = Command::Compact { revision, physical: true };
    let compact = world.ask(away, Request::Write(compact.encode()));
    world.pass(500);
    assert!(!world.is_answered(compact), "the list stands in its way");
    world.isolate(away, true);
    write(&mut world, leader, 0, 700);
    world.isolate(away, false);
    world.until("an answer", |world| world.is_answered(compact));
    assert!(world.moved == 1 && world.answer(compact).is_some_and(|it| it.is_ok()));
    assert!(keyspace(&world, away).1 <= Some(1), "it is not done");
    one_state(&mut world);
}

/// Whatever happens: what was acknowledged is there in the end, and all have one state.
#[test]
fn chaos_around_snapshots_loses_nothing() {
    for seed in [400, 401] {
        assert!(chaos(seed) > 0);
    }
}

fn chaos(seed: u64) -> usize {
    let mut world = World::new(3, seed, |config| {
        small(config);
        config.snapshots.rate = 4 << 10;
        config.snapshots.patience = 1_000;
        config.catchup_entries = seed % 3 * 10;
        config.seal_entries_max = 10 + seed % 5 * 20;
    });
    let (mut asked, mut due) = (Vec::new(), Vec::new());
    let (mut count, mut away) = (0, None);
    for _ in 0..250 {
        let span = 5 + world.dice.below(120);
        world.pass(span);
        let nth = world.dice.index(3);
        let down = world.nodes.iter().position(|node| node.shard.is_none());
        match world.dice.below(12) {
            0 if down.is_none() => world.crash(nth),
            0..=2 => down.into_iter().for_each(|nth| world.start(nth)),
            3 if away.is_none() => {
                away = Some(nth);
                world.isolate(nth, true);
            }
            3..=5 => away.take().into_iter().for_each(|nth| world.isolate(nth, false)),
            6 => world.disk_speed = [3, 20, 50, 100][world.dice.index(4)],
            7 => {
                if let Some(shard) = &world.nodes[nth].shard {
                    let revision = shard.keyspace().revision().0;
                    let compact = Command::Compact { revision, physical: false };
                    world.ask(nth, Request::Write(compact.encode()));
                }
            }
            _ => {
                let to = world.leader().unwrap_or(nth);
                for _ in 0..world.dice.below(80) {
                    count += 1;
                    let key = format!("c{count}");
                    let of = world.ask(to, put(&key, &"v".repeat(50)));
                    asked.push((of, key));
                    world.ask(to, put(&format!("k{}", count % 7), &"w".repeat(300)));
                    world.step();
                }
            }
        }
        assert!(world.nodes.iter().all(|node| node.halted.is_none()), "seed {seed}");
        let done: Vec<_> = asked.extract_if(.., |(of, _)| world.is_answered(*of)).collect();
        due.extend(
            done.into_iter().filter(|(of, _)| world.answer(*of).is_some_and(|it| it.is_ok())),
        );
    }
    world.disk_speed = 50;
    (0..3).for_each(|nth| world.isolate(nth, false));
    for nth in 0..3 {
        if world.nodes[nth].shard.is_none() {
            world.start(nth);
        }
    }
    // Nothing that was asked takes place after that.
    let patience = world.nodes[0].config.request_timeout;
    world.pass(2 * patience);
    let leader = world.elect();
    world.ask(leader, put("last", "one"));
    one_state(&mut world);
    let rows = world.settle();
    for (_, key) in due {
        assert!(rows.iter().any(|row| row.0 == key), "seed {seed}: {key} is lost");
    }
    world.moved
}
