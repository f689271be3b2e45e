//! Looking at a crash of a store: a copy of the disk loses power or its process, and is recovered.

use crate::store::disk::Disk;
use crate::store::index::{Index, Past};
use crate::store::node::{self, Node};
use crate::store::planted::Bug;
use crate::store::world::World;
use bytes::Bytes;

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
            image.lose_process(choose)
        } else {
            image.lose_power(choose)
        }
        image.sync_names();
        world.counts.crash_points += 1;
        if world.crash_dice.chance(world.swarm.flips) {
            flip(world, &image)?;
        }
        let node =
            recover(world, &image).map_err(|why| format!("a crash is refused as damage: {why}"))?;
        check(world, node, image)?;
    }
    Ok(())
}

fn recover(world: &mut World, image: &Disk) -> Result<Node, String> {
    if world.bug != Some(Bug::DropTombstone) {
        return node::recover(&world.swarm.config, image, |_, _, _| true);
    }
    // As if cleaning had dropped a dead tombstone while an older put of the key is still there.
    let floor = node::recover(&world.swarm.config, image, |_, _, _| true)?.state.floor;
    let keeps = |index: &Index, key: &Bytes, past: Past| {
        past.version > 0 || past.location.main.0 >= floor || index.live(key).is_none()
    };
    node::recover(&world.swarm.config, image, keeps)
}

/// Holds a recovered store against everything that was done.
fn check(world: &mut World, mut node: Node, mut image: Disk) -> Result<(), String> {
    let state = node.state;
    if state.applied < world.released || state.applied > world.log.len() {
        let due = (world.released, world.log.len());
        return Err(format!("lost or invented: {} entries of {due:?}", state.applied));
    }
    let truth = world.truth(state.applied);
    let floor = truth.floor;
    if floor != state.floor {
        return Err(format!("{floor} was compacted, {} is found", state.floor));
    }
    let (due, found) = (&truth.seen, node.index.seen(floor));
    if *due != found {
        let missing = due.iter().find(|past| !found.contains(past));
        let invented = found.iter().find(|past| !due.contains(past));
        return Err(format!("at {floor}: missing {missing:?}, invented {invented:?}"));
    }
    let locations = found.iter().map(|(_, past)| past.location);
    let part = world.crash_dice.pick(&[0, 0, 10, 100]);
    let dice = &mut world.crash_dice;
    let chosen = locations.filter(|_| part > 0 && dice.chance(part));
    node::check_all(&mut node.store, &mut image, chosen.map(|at| &truth.changes[&at]))?;
    for (name, _) in image.list() {
        if name != "manifest" && !node::is_segment(&name) {
            return Err(format!("{name} is left over"));
        }
    }
    let (used, told) = (image.size(), node.store.size_allocated());
    if used == told { Ok(()) } else { Err(format!("{used} bytes on disk, {told} told")) }
}

/// Flips a bit of what a crash has left.
fn flip(world: &mut World, image: &Disk) -> Result<(), String> {
    let mut image = image.clone();
    let files: Vec<_> = image.list().into_iter().filter(|file| file.1 > 0).collect();
    if files.is_empty() {
        return Ok(());
    }
    let (name, size) = world.crash_dice.pick(&files);
    let bit = world.crash_dice.below(size * 8);
    image.flip(&name, bit);
    world.counts.flips += 1;
    is_found(world, image, &name).map_err(|why| format!("bit {bit} of {name} flipped: {why}"))
}

/// Recovers from what is spoilt: all is there, or it is refused by name and place.
fn is_found(world: &mut World, image: Disk, name: &str) -> Result<(), String> {
    let result = recover(world, &image).and_then(|node| check(world, node, image));
    let Err(why) = result else { return Ok(()) };
    world.counts.refused += 1;
    let is_named = why.contains(name) && why.contains("at byte");
    if is_named { Ok(()) } else { Err(format!("without file or place: {why}")) }
}

/// Spoils whole files of a store at rest: each time all is there or the store is refused.
///
/// # Errors
/// What was taken for good, or refused without a name.
pub(crate) fn damage(world: &mut World) -> Result<(), String> {
    let files = world.disk.list();
    for (name, size) in &files {
        let mut missing = world.disk.clone();
        missing.take(name);
        let only = files.len() == 1;
        expect(world, missing, name, only)?;
        let mut short = world.disk.clone();
        let cut = usize::try_from(world.crash_dice.below(*size)).expect("64 bits");
        short.file_mut(name).truncate(cut);
        expect(world, short, name, false)?;
        let mut long = world.disk.clone();
        long.file_mut(name).push(0);
        expect(world, long, name, false)?;
    }
    let segments: Vec<_> = files.iter().filter(|file| node::is_segment(&file.0)).collect();
    if let [one, .., two] = segments[..] {
        let mut swapped = world.disk.clone();
        let bytes = swapped.file(&one.0).to_vec();
        *swapped.file_mut(&one.0) = swapped.file(&two.0).to_vec();
        *swapped.file_mut(&two.0) = bytes;
        expect(world, swapped, ".segment", false)?;
    }
    let mut foreign = world.disk.clone();
    foreign.put("lost+found.txt", b"not ours".to_vec());
    expect(world, foreign, "lost+found.txt", false)
}

/// What is spoilt must be refused by the file's name, unless it `may` be as good as new.
fn expect(world: &mut World, image: Disk, name: &str, may: bool) -> Result<(), String> {
    world.counts.damages += 1;
    match recover(world, &image) {
        Ok(_) if may => Ok(()),
        Ok(_) => Err(format!("{name} is spoilt, and taken for good: {image:?}")),
        Err(why) if why.contains(name) && why.contains("at byte") => Ok(()),
        Err(why) => Err(format!("{name} is spoilt, refused without file or place: {why}")),
    }
}
