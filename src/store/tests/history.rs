//! Random histories: nothing that is alive is lost or altered, and nothing dead comes alive.

use super::world::Luck;
use super::world::World;
use crate::store::Config;
use crate::types::Location;
use crate::types::Revision;

/// Limits so small that everything happens all the time.
fn tiny(luck: &mut Luck) -> Config {
    let config = Config {
        block_size: 64 + luck.index(400),
        seal_size: 2000,
        tail_size_max: 1 << 20,
        segment_size: 1000 + luck.index(20_000),
        cache_size: luck.index(6000),
        reads_max: 1 + luck.index(8),
        write_size: 4096 * (1 + luck.index(2)),
        clean_rate: 1 + luck.below(2000),
        seal_rate: 1 + luck.below(2000),
        clean_read_size: 100 + luck.index(4000),
        ..Config::default()
    };
    config.check();
    config
}

fn change(world: &mut World, keys: u64, deletes: u64) {
    let count = if world.luck.one_in(4) { 1 + world.luck.below(6) } else { 1 };
    let mut changes = Vec::new();
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..count {
        let key = world.luck.below(keys);
        if !used.insert(key) {
            continue;
        }
        let size = match world.luck.below(20) {
            0 => world.luck.index(3000),
            _ => world.luck.index(60),
        };
        let is_put = !world.luck.one_in(deletes);
        let value = is_put.then(|| vec![u8::try_from(world.luck.below(256)).unwrap(); size]);
        changes.push((format!("key-{key}").into_bytes(), value));
    }
    world.change(&changes);
}

fn step(world: &mut World, keys: u64, deletes: u64) {
    match world.luck.below(40) {
        0..=13 => change(world, keys, deletes),
        14 => world.seal(),
        15 => {
            let back = world.luck.below(20).cast_signed();
            let floor = Revision((world.revision.0 - back).max(1));
            world.compact(floor);
        }
        16..=17 => {
            let count = world.luck.index(50);
            world.forget(count);
        }
        18 => {
            let past = world.luck.below(100);
            world.tick(past);
        }
        19..=23 => {
            let budget = world.luck.index(60);
            world.store.work(budget);
        }
        24..=26 => world.read_any(),
        27 if world.pins.len() < 3 => world.pin(),
        28..=29 if !world.pins.is_empty() => {
            let index = world.luck.index(world.pins.len());
            world.unpin(index);
        }
        30 if world.luck.one_in(8) => world.restart(),
        31 if world.luck.one_in(8) => {
            let main = Revision(world.luck.below(world.revision.0.cast_unsigned()).cast_signed());
            let sub = u32::try_from(world.luck.below(3)).unwrap();
            world.scan_all(Location { main, sub });
        }
        32 => world.check_dead(),
        33..=34 => world.poll(),
        _ => {
            world.poll();
            world.complete();
        }
    }
}

fn run(seed: u64) -> World {
    let mut luck = Luck::new(seed);
    let config = tiny(&mut luck);
    let mut world = World::new(seed, config);
    let keys = 1 + luck.below(60);
    let deletes = 2 + luck.below(10);
    for _ in 0..1500 {
        step(&mut world, keys, deletes);
    }
    while !world.pins.is_empty() {
        world.unpin(0);
    }
    world.settle();
    world.seal();
    world.settle();
    world.forget(usize::MAX);
    world.forget(usize::MAX);
    world.clean();
    world.check_disk();
    world.read_all();
    world.scan_all(Location::default());
    world.settle();
    world.restart();
    world.settle();
    world.check_disk();
    world
}

#[test]
fn any_history_is_kept() {
    let (mut commands, mut restarts, mut cleanings, mut fetches) = (0, 0, 0, 0);
    for seed in 1..=100 {
        let caught = std::panic::catch_unwind(|| run(seed));
        let Ok(world) = caught else { panic!("seed {seed}") };
        commands += world.commands;
        restarts += world.restarts;
        cleanings += world.cleanings;
        fetches += world.fetches;
    }
    assert!(commands > 10_000 && restarts > 200 && cleanings > 200 && fetches > 1000);
}

#[test]
fn the_same_seed_is_the_same_history() {
    let (one, two) = (run(7), run(7));
    assert_eq!(one.disk.files, two.disk.files);
    assert_eq!((one.commands, one.fetches), (two.commands, two.fetches));
}

#[test]
fn a_tombstone_outlasts_a_put_that_was_copied_before_both_died() {
    let config = Config { block_size: 64, clean_rate: 1 << 20, ..Config::default() };
    let mut world = World::new(1, config);
    world.put("key", vec![1; 10]);
    for _ in 0..20 {
        world.put("garbage", vec![2; 50]);
    }
    let before = world.revision;
    world.delete("key");
    world.put("last", vec![3; 10]);
    let seal = |world: &mut World, floor: Revision| {
        world.compact(floor);
        world.seal();
        while world.store.is_sealing() || world.durable.floor < floor {
            world.poll();
            assert!(world.complete(), "a seal goes on");
        }
        world.forget(usize::MAX);
    };
    seal(&mut world, before);
    // Until the put has been copied, and no more.
    while world.store.cleaner.maker().is_none_or(|maker| maker.is_between()) {
        world.tick(1);
        world.store.work(1);
        world.poll();
        world.complete();
    }
    world.put("other", vec![]);
    let floor = world.revision;
    seal(&mut world, floor);
    assert!(world.index.last(b"key").is_none(), "both are dead");
    world.settle();
    assert!(world.cleanings > 0, "the segment was written anew");
    world.restart();
    assert_eq!((world.index.locations().len(), world.records()), (3, 5));
}
