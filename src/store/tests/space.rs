//! How much room is taken, on disk and in memory, as changes go on without end.

use super::world::World;
use crate::store::Config;
use crate::types::Revision;

/// Of this, some are being written, and some are being replaced.
const SEGMENT_SIZE: u64 = 64 << 10;

fn small() -> Config {
    Config {
        block_size: 512,
        seal_size: 16 << 10,
        tail_size_max: 1 << 20,
        segment_size: 64 << 10,
        cache_size: 16 << 10,
        write_size: 8 << 10,
        clean_rate: 16,
        clean_read_size: 4 << 10,
        ..Config::default()
    }
}

/// Goes on for a while: what is pushed is sealed, compacted and cleaned along the way. The most
/// bytes that the disk held in the second half.
fn churn(world: &mut World, rounds: u64, mut change: impl FnMut(&mut World, u64)) -> u64 {
    let mut most = 0;
    for round in 0..rounds {
        for _ in 0..20 {
            change(world, round);
        }
        if world.store.wants_seal() {
            let floor = Revision((world.revision.0 - 50).max(1));
            world.compact(floor);
            world.seal();
        }
        world.forget(usize::MAX);
        world.tick(5);
        for _ in 0..30 {
            world.poll();
            world.complete();
            world.store.work(100);
        }
        assert!(!world.store.is_full(), "the disk keeps up");
        if round > rounds / 2 {
            most = most.max(world.disk.size());
        }
    }
    most
}

/// What is alive, as records and directories have it.
fn live(world: &World) -> u64 {
    let known = world.index.locations();
    known
        .iter()
        .map(|at| 40 + 2 * world.all[at].key.len() as u64 + world.all[at].value.len() as u64)
        .sum()
}

#[test]
fn overwriting_without_end_takes_less_than_three_times_what_is_alive() {
    let mut world = World::new(1, small());
    let most = churn(&mut world, 3000, |world, _| {
        let key = world.luck.below(500);
        world.put(&format!("key-{key:08}"), vec![1; 200]);
    });
    let live = live(&world);
    assert!(most < 3 * live + 4 * SEGMENT_SIZE, "{most} bytes for {live}");
}

#[test]
fn a_few_hot_keys_among_many_cold_ones_take_no_more() {
    let mut world = World::new(2, small());
    for key in 0..2000 {
        world.put(&format!("cold-{key:08}"), vec![2; 200]);
    }
    let most = churn(&mut world, 3000, |world, _| {
        let key = if world.luck.one_in(50) { world.luck.below(2000) } else { world.luck.below(5) };
        let name = if key < 5 { "hot" } else { "cold" };
        world.put(&format!("{name}-{key:08}"), vec![1; 200]);
    });
    let live = live(&world);
    assert!(most < 3 * live + 4 * SEGMENT_SIZE, "{most} bytes for {live}");
}

#[test]
fn keys_that_come_and_go_leave_nothing_behind() {
    let mut world = World::new(3, small());
    for key in 0..200 {
        world.put(&format!("stays-{key:08}"), vec![2; 200]);
    }
    let most = churn(&mut world, 3000, |world, round| {
        let key = world.luck.below(100);
        if world.luck.one_in(20) {
            world.put(&format!("stays-{key:08}"), vec![3; 200]);
        }
        world.put(&format!("goes-{round}-{key:08}"), vec![]);
        world.delete(&format!("goes-{round}-{key:08}"));
    });
    let live = live(&world);
    assert!(most < 3 * live + 4 * SEGMENT_SIZE, "{most} bytes for {live}");
}

#[test]
fn small_seals_do_not_pile_up() {
    let mut world = World::new(4, small());
    for round in 0..400 {
        for _ in 0..3 {
            world.put(&format!("key-{round:08}"), vec![1; 20]);
        }
        world.compact(Revision(world.revision.0 - 1));
        world.seal();
        world.settle();
        world.forget(usize::MAX);
        world.tick(100);
        world.settle();
    }
    world.clean();
    assert!(world.disk.files.len() < 40, "{} files", world.disk.files.len());
    world.check_disk();
}

/// Five segments and their tombstones, all dead as soon as that is forgotten.
fn doomed() -> World {
    let mut world = World::new(5, small());
    for key in 0..1000 {
        world.put(&format!("key-{key:08}"), vec![1; 100]);
        if key % 200 == 199 {
            world.seal();
            world.settle();
        }
    }
    for key in 0..1000 {
        world.delete(&format!("key-{key:08}"));
    }
    world.put("one", vec![]);
    world.compact(world.revision);
    world.seal();
    world.settle();
    world
}

#[test]
fn everything_deleted_and_compacted_leaves_an_empty_disk() {
    let mut world = doomed();
    world.forget(usize::MAX);
    world.clean();
    world.check_disk();
    assert!(world.disk.size() <= 4 * 4096, "{:?}", world.disk.list());
    assert!(world.store.size_in_use() <= world.store.size_allocated());
}

/// All files of a large compaction went at once, and every write waited for the disk to be told.
#[test]
fn files_go_one_by_one_unless_somebody_waits_for_it() {
    for is_awaited in [false, true] {
        let mut world = doomed();
        world.forget(usize::MAX);
        world.tick(100);
        world.settle();
        let sizes = [world.disk.size(), world.store.shelf.retired_size()];
        assert!(sizes[1] > 60 << 10, "what waits is {} of {} bytes", sizes[1], sizes[0]);
        if is_awaited {
            world.store.sweep();
            world.settle();
        }
        world.tick(1);
        world.settle();
        let left = world.store.shelf.retired_size();
        assert_eq!(left == 0, is_awaited, "{left} bytes wait");
    }
}

/// What was mostly dead was written anew over and over while the rest of it died.
#[test]
fn what_is_dying_is_not_copied_for_a_while() {
    let mut world = doomed();
    let made = world.store.number_next;
    world.forget(1750);
    world.tick(1000);
    world.settle();
    assert_eq!(world.store.number_next, made);
    for _ in 0..200 {
        world.tick(200);
        world.forget(1);
        world.settle();
    }
    assert_ne!(world.store.number_next, made, "but not forever");
}

/// A turn gave the memory of 512 changes back, however many had come in it: under load, all that
/// was ever sealed stayed until the load was over.
#[test]
fn memory_of_what_is_sealed_is_given_back_as_fast_as_changes_come() {
    let config = Config { seal_size: 400 << 10, tail_size_max: 64 << 20, ..small() };
    let mut world = World::new(11, config);
    let mut most = 0;
    for round in 0..40 {
        for key in 0..3_000 {
            world.put(&format!("key{key}"), vec![0x61; 10]);
        }
        most = most.max(world.store.tail.size());
        if world.store.wants_seal() {
            world.seal();
        }
        for _ in 0..30 {
            world.poll();
            world.complete();
        }
        world.store.work(1);
        let spent: usize = world.store.spent.iter().map(crate::store::tail::Tail::size).sum();
        assert!(spent <= most, "round {round}: {spent} bytes, of tails of {most}");
    }
}

/// Whatever was asked for went first, so that nothing was cleaned, or sent, while that went on.
#[test]
fn cleaning_has_its_turn_while_more_is_asked_for_than_is_read_at_a_time() {
    let mut world = World::new(6, Config { reads_max: 32, cache_size: 0, ..small() });
    for key in 0..1000 {
        world.put(&format!("key-{key:08}"), vec![1; 200]);
    }
    for key in (0..1000).step_by(2) {
        world.put(&format!("key-{key:08}"), vec![2; 200]);
    }
    world.compact(world.revision);
    world.seal();
    world.settle();
    world.forget(usize::MAX);
    world.store.sweep();
    let before = world.records();
    for round in 0..10_000 {
        for _ in 0..40 {
            world.read_any();
        }
        world.poll();
        assert!(world.complete(), "there is always something to do");
        world.tick(1);
        world.store.work(100);
        if world.records() < before {
            assert!(round > 40, "it takes its time");
            return;
        }
    }
    panic!("nothing is cleaned");
}

/// All of a tail was written at once, and the log's writes waited behind it: with 3,000 puts a
/// second each of them took milliseconds, for a twentieth of a second.
#[test]
fn a_seal_leaves_the_disk_to_others_until_it_is_pressed() {
    let config =
        Config { seal_size: 256 << 10, write_size: 32 << 10, seal_rate: 1 << 10, ..small() };
    let mut world = World::new(3, config);
    let fill = |world: &mut World, count: u64| {
        (0..count).for_each(|key| world.put(&format!("key{key:05}"), vec![7; 500]));
    };
    fill(&mut world, 400);
    world.seal();
    let mut ticks = 0;
    while world.store.is_sealing() {
        world.poll();
        assert!(world.writes().all(|size| size <= 8 << 10), "pieces are small");
        assert!(world.writes().count() <= 1, "and one at a time");
        if !world.complete() {
            world.tick(20);
            ticks += 1;
        }
    }
    assert!(ticks >= 200_000 / 20 / 1024 - 5, "a kibibyte a millisecond, not {ticks} ticks");
    fill(&mut world, 400);
    world.seal();
    fill(&mut world, 200);
    while world.store.is_sealing() {
        world.poll();
        assert!(world.complete(), "no time has to pass once the next tail grows");
    }
    fill(&mut world, 2_400);
    assert!(world.store.is_full());
    world.seal();
    while world.store.is_sealing() {
        world.poll();
        assert!(!world.store.is_full() || world.complete(), "nor while others wait for room");
        world.tick(1);
    }
}
