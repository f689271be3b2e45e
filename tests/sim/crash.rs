//! Looking at a crash: a copy of the disk loses power or its process, and is recovered.

use crate::disk::Disk;
use crate::node;
use crate::planted::Bug;
use crate::world::World;
use ringd::shard::Shard;

/// Looks taken at one crash point while a crash could leave more than one thing.
const LOOKS: u64 = 2;

/// Recovers from crashes that might happen now, without disturbing the world.
///
/// # Errors
/// What was lost, invented, changed, or refused though nothing was damaged.
pub(crate) fn look(world: &mut World) -> Result<(), String> {
    let looks = if world.disk.is_busy() { LOOKS } else { 1 };
    for _ in 0..looks {
        let mut image = world.disk.clone();
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

fn recover(world: &mut World, image: &Disk) -> Result<Box<Shard>, String> {
    let seed = world.crash_dice.next();
    node::recover(&world.swarm.config, image, seed, world.now())
}

fn check(world: &mut World, shard: &mut Shard, mut image: Disk) -> Result<i64, String> {
    node::open(shard, &mut image)?;
    let past = world.crash_dice.next() >> 1;
    world.oracle.check_recovered(shard, past)
}

/// Flips a bit of what a crash has left.
fn flip(world: &mut World, image: &Disk) -> Result<(), String> {
    let mut image = image.clone();
    let files = image.list();
    let files: Vec<_> = files.into_iter().filter(|file| file.1 > 0).collect();
    if files.is_empty() {
        return Ok(());
    }
    let (name, size) = world.crash_dice.pick(&files);
    let bit = world.crash_dice.below(size * 8);
    image.flip(&name, usize::try_from(bit).expect("64 bits"));
    world.counts.flips += 1;
    match recover(world, &image) {
        Ok(mut shard) => {
            check(world, &mut shard, image)
                .map_err(|why| format!("bit {bit} of {name} flipped: {why}"))?;
        }
        Err(why) => {
            world.counts.flips_refused += 1;
            names(&why, &name).map_err(|what| format!("bit {bit} of {name} flipped: {what}"))?;
        }
    }
    Ok(())
}

/// A refusal names the file and the place in it.
fn names(why: &str, file: &str) -> Result<(), String> {
    let said = why.contains(file) && why.contains("at byte");
    if said { Ok(()) } else { Err(format!("refused without file or place: {why}")) }
}

/// Spoils whole files of a log at rest: each time all is there or the log is refused.
///
/// # Errors
/// What was taken for good, or refused without a name.
pub(crate) fn damage(world: &mut World) -> Result<(), String> {
    let files = world.disk.list();
    let is_segment = |name: &str| name.ends_with(".wal");
    let segments = files.iter().filter(|file| is_segment(&file.0)).count();
    for (nth, (name, size)) in files.iter().filter(|file| is_segment(&file.0)).enumerate() {
        let size = usize::try_from(*size).expect("64 bits");
        let mut missing = world.disk.clone();
        missing.remove(name);
        // The first may hold no entry, and then it is free to go; the last is the one made ready
        // for frames to come. What is named may be what follows the one that is missing.
        let due = match nth {
            _ if nth + 1 == segments => Due::Harmless,
            0 => Due::Either,
            _ => Due::Refused,
        };
        expect(world, missing, ".wal", due)?;
        let cut = world.crash_dice.index(size);
        let mut short = world.disk.clone();
        short.file_mut(name).truncate(cut);
        expect(world, short, name, Due::Refused)?;
        let mut long = world.disk.clone();
        long.file_mut(name).push(0);
        expect(world, long, name, Due::Refused)?;
    }
    let mut foreign = world.disk.clone();
    foreign.create("lost+found.txt", b"not ours".to_vec());
    expect(world, foreign, "lost+found.txt", Due::Refused)?;
    for (name, _) in files.iter().filter(|file| !is_segment(&file.0)) {
        let mut spoilt = world.disk.clone();
        let half = spoilt.file(name).len() / 2;
        spoilt.file_mut(name)[..half].fill(0x5a);
        expect(world, spoilt, name, Due::Harmless)?;
        let mut missing = world.disk.clone();
        missing.remove(name);
        expect(world, missing, name, Due::Harmless)?;
        let mut short = world.disk.clone();
        short.file_mut(name).truncate(half + 1);
        expect(world, short, name, Due::Harmless)?;
    }
    Ok(())
}

/// What must come of a spoilt file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Refused,
    Harmless,
    Either,
}

/// Recovers from what is spoilt, which must be refused by the file's name or else lose nothing.
fn expect(world: &mut World, image: Disk, name: &str, due: Due) -> Result<(), String> {
    world.counts.damages += 1;
    match recover(world, &image) {
        Ok(_) if due == Due::Refused => {
            Err(format!("{name} is spoilt, and taken for good: {image:?}"))
        }
        Ok(mut shard) => check(world, &mut shard, image)
            .map(drop)
            .map_err(|why| format!("{name} is spoilt: {why}")),
        Err(why) if due == Due::Harmless => {
            Err(format!("{name} holds nothing, and is missed: {why}"))
        }
        Err(why) => names(&why, name),
    }
}
