//! Looking at a crash: a copy of the disk loses power or its process, and is recovered.

use crate::node::{self, Disks};
use crate::planted::Bug;
use crate::store::node as store_node;
use crate::world::World;
use ringd::shard::Shard;

/// Looks taken at one crash point while a crash could leave more than one thing.
const LOOKS: u64 = 2;

/// Recovers from crashes that might happen now, without disturbing the world.
///
/// # Errors
/// What was lost, invented, changed, or refused though nothing was damaged.
pub(crate) fn look(world: &mut World) -> Result<(), String> {
    let looks = if world.disks.is_busy() { LOOKS } else { 1 };
    for _ in 0..looks {
        let mut image = world.disks.clone();
        let dice = &mut world.crash_dice;
        let choose = &mut |below| dice.below(below);
        if choose(4) == 0 {
            image.lose_process(choose);
        } else {
            image.lose_power(choose);
        }
        if world.bug != Some(Bug::UnsyncedNames) {
            image.sync_names();
        }
        world.counts.crash_points += 1;
        if world.crash_dice.chance(world.swarm.flips) {
            flip(world, &image)?;
        }
        let mut shard =
            recover(world, &image).map_err(|why| format!("a crash is refused as damage: {why}"))?;
        check(world, &mut shard, image)?;
    }
    Ok(())
}

fn recover(world: &mut World, image: &Disks) -> Result<Box<Shard>, String> {
    let seed = world.crash_dice.next();
    node::recover(&world.swarm.config, image, seed, world.now())
}

fn check(world: &mut World, shard: &mut Shard, mut image: Disks) -> Result<(), String> {
    node::open(shard, &mut image)?;
    let told = node::size_allocated(shard, &mut image)?.max(1);
    let found: u64 = image.list().iter().map(|file| file.1).sum();
    if told != found.max(1) {
        return Err(format!("{told} bytes are said to be on disk, {found} are: {image:?}"));
    }
    let past = world.crash_dice.next() >> 1;
    world.oracle.check_values(shard, &mut image, past)
}

/// Flips a bit of what a crash has left.
fn flip(world: &mut World, image: &Disks) -> Result<(), String> {
    let mut image = image.clone();
    let files = image.list();
    let files: Vec<_> = files.into_iter().filter(|file| file.1 > 0).collect();
    if files.is_empty() {
        return Ok(());
    }
    let (name, size) = world.crash_dice.pick(&files);
    let bit = world.crash_dice.below(size * 8);
    image.flip(&name, bit);
    world.counts.flips += 1;
    let result = recover(world, &image).and_then(|mut shard| check(world, &mut shard, image));
    let Err(why) = result else { return Ok(()) };
    world.counts.flips_refused += 1;
    names(&why, &name).map_err(|what| format!("bit {bit} of {name} flipped: {what}"))
}

/// A refusal names the file and the place in it.
fn names(why: &str, file: &str) -> Result<(), String> {
    let said = why.contains(file) && why.contains("at byte");
    if said { Ok(()) } else { Err(format!("refused without file or place: {why}")) }
}

/// Spoils whole files at rest: each time all is there or the shard is refused.
///
/// # Errors
/// What was taken for good, or refused without a name.
pub(crate) fn damage(world: &mut World) -> Result<(), String> {
    damage_log(world)?;
    damage_store(world)
}

fn damage_log(world: &mut World) -> Result<(), String> {
    let files = world.disks.log.list();
    let is_segment = |name: &str| name.ends_with(".wal");
    let segments = files.iter().filter(|file| is_segment(&file.0)).count();
    for (nth, (name, size)) in files.iter().filter(|file| is_segment(&file.0)).enumerate() {
        let size = usize::try_from(*size).expect("64 bits");
        let mut missing = world.disks.clone();
        missing.log.remove(name);
        // The first may hold no entry that the store does not have, and then it is free to go; the
        // last is the one made ready for frames to come. What is named may be what follows the one
        // that is missing.
        let due = match nth {
            _ if nth + 1 == segments => Due::Harmless,
            0 if world.disks.store.list().is_empty() => Due::Partial,
            0 => Due::Either,
            _ => Due::Refused,
        };
        expect(world, missing, ".wal", due)?;
        let cut = world.crash_dice.index(size);
        let mut short = world.disks.clone();
        short.log.file_mut(name).truncate(cut);
        expect(world, short, name, Due::Refused)?;
        let mut long = world.disks.clone();
        long.log.file_mut(name).push(0);
        expect(world, long, name, Due::Refused)?;
    }
    let mut foreign = world.disks.clone();
    foreign.log.create("lost+found.txt", b"not ours".to_vec());
    expect(world, foreign, "lost+found.txt", Due::Refused)?;
    for (name, _) in files.iter().filter(|file| !is_segment(&file.0)) {
        let mut spoilt = world.disks.clone();
        let half = spoilt.log.file(name).len() / 2;
        spoilt.log.file_mut(name)[..half].fill(0x5a);
        expect(world, spoilt, name, Due::Harmless)?;
        let mut missing = world.disks.clone();
        missing.log.remove(name);
        expect(world, missing, name, Due::Harmless)?;
        let mut short = world.disks.clone();
        short.log.file_mut(name).truncate(half + 1);
        expect(world, short, name, Due::Harmless)?;
    }
    Ok(())
}

fn damage_store(world: &mut World) -> Result<(), String> {
    for (name, size) in world.disks.store.list() {
        let mut missing = world.disks.clone();
        missing.store.take(&name);
        if name != "manifest" && !store_node::is_segment(&name) {
            // It is being made.
            expect(world, missing, &name, Due::Harmless)?;
            continue;
        }
        // Without a segment, a manifest holds nothing but how far the store had come.
        let is_alone = world.disks.store.list().len() == 1;
        expect(world, missing, &name, if is_alone { Due::Either } else { Due::Refused })?;
        let mut short = world.disks.clone();
        let cut = usize::try_from(world.crash_dice.below(size)).expect("64 bits");
        short.store.file_mut(&name).truncate(cut);
        expect(world, short, &name, Due::Refused)?;
        let mut long = world.disks.clone();
        long.store.file_mut(&name).push(0);
        expect(world, long, &name, Due::Refused)?;
    }
    // The log says how far the store has come: a store that is gone is not taken for a new one.
    let mut gone = world.disks.clone();
    gone.store = crate::store::disk::Disk::default();
    if let Ok(mut shard) = recover(world, &gone) {
        check(world, &mut shard, gone).map_err(|why| format!("the store is gone: {why}"))?;
    }
    Ok(())
}

/// What must come of a spoilt file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Refused,
    Harmless,
    /// Refused or harmless.
    Partial,
    /// As much as can be known without what is missing.
    Either,
}

/// Recovers from what is spoilt, which must be refused by the file's name or else lose nothing.
fn expect(world: &mut World, image: Disks, name: &str, due: Due) -> Result<(), String> {
    world.counts.damages += 1;
    match recover(world, &image) {
        Ok(_) if due == Due::Refused => {
            Err(format!("{name} is spoilt, and taken for good: {image:?}"))
        }
        Ok(mut shard) => match check(world, &mut shard, image) {
            // It looks like a log that had let the entries go when it last said how far it was.
            Err(why) if due == Due::Either && why.starts_with("lost") => Ok(()),
            result => result.map_err(|why| format!("{name} is spoilt: {why}")),
        },
        Err(why) if due == Due::Harmless => {
            Err(format!("{name} holds nothing, and is missed: {why}"))
        }
        // Log and store together tell that something is not there, but not what.
        Err(why) if due == Due::Either && why.contains("put back the files") => Ok(()),
        Err(why) => names(&why, name),
    }
}
