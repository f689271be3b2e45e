//! A store's state goes into the files of another, piece by piece.

use std::collections::BTreeMap;

use super::*;
use crate::frame::BLOCK_SIZE;
use crate::store::Config;
use crate::store::Event;
use crate::store::Lookup;
use crate::store::Offering;
use crate::store::Recovered;
use crate::store::Recovery;
use crate::store::Step as Recovering;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use crate::types::ShardId;

const SHARD: ShardId = ShardId(3);

/// A store and its files.
struct Node {
    store: Store,
    files: BTreeMap<String, Vec<u8>>,
}

fn config() -> Config {
    Config { block_size: 256, write_size: BLOCK_SIZE, ..Config::default() }
}

fn recovered(store_id: u64, files: &BTreeMap<String, Vec<u8>>) -> (Vec<Location>, Recovered) {
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    let mut recovery = Recovery::new(config(), SHARD, store_id, &list);
    let mut told = Vec::new();
    loop {
        match recovery.poll() {
            Recovering::Read { file, offset, size } => {
                let at = usize::try_from(offset).unwrap();
                recovery.handle(&files[&file.to_string()][at..at + size]);
            }
            Recovering::Entries => told.extend(recovery.entries().map(|entry| entry.location)),
            Recovering::Done(recovered) => return (told, *recovered),
            Recovering::Refused(damage) => panic!("{damage}"),
        }
    }
}

fn put(main: i64, value_size: usize) -> Change {
    Change {
        location: Location { main: Revision(main), sub: 0 },
        key: Bytes::from(format!("key-{main}")),
        value: Bytes::from(vec![b'v'; value_size]),
        lease: LeaseId(main % 3),
        created: Revision(main),
        version: 1,
    }
}

impl Node {
    fn new(store_id: u64) -> Self {
        let files = BTreeMap::new();
        let (_, recovered) = recovered(store_id, &files);
        Self { store: Store::new(recovered), files }
    }

    /// Seals these revisions as a segment.
    fn seal(&mut self, revisions: std::ops::Range<i64>, state: &[u8]) {
        revisions.for_each(|main| self.store.push(put(main, 100)));
        self.store.seal(1, state.to_vec());
        self.run();
        assert_eq!(self.store.sealed(), Some(1));
    }

    /// Does the next thing that it asks for; whether there was any.
    fn step(&mut self) -> bool {
        let Some(command) = self.store.poll() else { return false };
        self.perform(command);
        true
    }

    fn perform(&mut self, command: Command) {
        let event = match command {
            Command::Create { file } => {
                self.files.insert(file.to_string(), Vec::new());
                Event::Done
            }
            Command::Write { id, file, offset, size } => {
                let file = self.files.get_mut(&file.to_string()).expect("it was made");
                assert_eq!(file.len() as u64, offset, "in order");
                file.resize(file.len() + size, 0);
                let at = file.len() - size;
                self.store.fill(id, &mut file[at..]);
                Event::Written { id }
            }
            Command::Finish { from, to } => {
                let file = self.files.remove(&from.to_string()).expect("it was made");
                assert!(
                    self.files.insert(to.to_string(), file).is_none(),
                    "it has a name of its own"
                );
                Event::Done
            }
            Command::Replace { bytes } => {
                self.files.insert("manifest".to_owned(), bytes);
                Event::Done
            }
            Command::Remove { file, .. } => {
                assert!(self.files.remove(&file.to_string()).is_some(), "{file} is there");
                Event::Done
            }
            Command::Read { id, file, offset, size } => {
                let at = usize::try_from(offset).unwrap();
                let bytes = Bytes::copy_from_slice(&self.files[&file.to_string()][at..at + size]);
                Event::Read { id, bytes }
            }
        };
        self.store.handle(event).expect("its own files are whole");
    }

    fn run(&mut self) {
        while self.step() {}
    }
}

/// Two sealed segments, which a third has followed by now.
fn sender() -> (Node, Offering) {
    let mut sender = Node::new(0x5e);
    sender.seal(1..40, b"first");
    sender.seal(40..90, b"second");
    let offering = sender.store.offer().expect("something is sealed");
    sender.seal(90..95, b"third");
    (sender, offering)
}

fn receiver() -> Node {
    let mut receiver = Node::new(0x4e);
    receiver.seal(1..10, b"old");
    receiver
}

/// A piece of a part that is not the manifest.
fn piece(sender: &mut Node, offering: &Offering, part: usize, offset: u64) -> Bytes {
    let left = offering.part_size(part).unwrap() - offset;
    let size = usize::try_from(left.min(2 * BLOCK_SIZE as u64)).unwrap();
    let name = sender.store.read_part(offering, part, offset, size);
    sender.run();
    let (read, bytes) = sender.store.part_read().expect("it was read");
    assert_eq!((read, bytes.len()), (name, size));
    bytes
}

/// Hands the receiver what it wants, as `bend` leaves it, until it wants nothing.
fn transfer(
    (sender, offering): (&mut Node, &Offering),
    receiver: &mut Node,
    mut bend: impl FnMut(usize, u64, Vec<u8>) -> Vec<u8>,
) -> Arrival {
    loop {
        receiver.run();
        let Arrival::Wants { segment, offset, size, .. } = receiver.store.arrival() else {
            return receiver.store.arrival();
        };
        assert_eq!(Some(size), offering.part_size(segment + 1));
        let bytes = piece(sender, offering, segment + 1, offset);
        receiver.store.take_piece(bend(segment, offset, bytes.to_vec()).into());
    }
}

fn manifest(offering: &Offering) -> Manifest {
    Manifest::decode(offering.manifest()).expect("it is whole")
}

#[test]
fn what_arrived_is_what_a_restart_finds() {
    let ((mut sender, offering), mut receiver) = (sender(), receiver());
    assert!(receiver.store.receive(manifest(&offering)));
    let (from, to) = ((&mut sender, &offering), &mut receiver);
    assert_eq!(transfer(from, to, |_, _, bytes| bytes), Arrival::Whole);
    // Up to here the old state is what there is.
    let (told, found) = recovered(0x4e, &receiver.files);
    assert_eq!((told.len(), found.state.as_deref()), (9, Some(&b"old"[..])));
    assert_eq!(found.parts.leftovers.len(), 2);
    receiver.store.install();
    assert_eq!(receiver.store.arrival(), Arrival::Installing);
    receiver.run();
    assert_eq!(receiver.store.arrival(), Arrival::Installed);
    // It still serves reads of what was.
    let at = Location { main: Revision(3), sub: 0 };
    assert!(receiver.store.value(at).is_some());

    let (told, found) = recovered(0x4e, &receiver.files);
    let due: Vec<_> = (1..90).map(|main| Location { main: Revision(main), sub: 0 }).collect();
    assert_eq!((told, found.state.as_deref()), (due, Some(&b"second"[..])));
    assert!(found.parts.arrived && found.parts.leftovers.len() == 1, "the old segment goes");
    receiver.store = Store::new(found);
    receiver.run();
    assert_eq!(receiver.files.len(), 3);
    let Some(Lookup::Away(block)) = receiver.store.value(at) else { panic!("it is in a file") };
    receiver.store.fetch(block);
    receiver.run();
    let fetched = receiver.store.fetched().expect("it was read, and is whole");
    assert_eq!(receiver.store.value_in(&fetched, at).unwrap(), vec![b'v'; 100]);
    // What is sealed next is its own, and the log beside it is.
    receiver.seal(90..93, b"own");
    let (told, found) = recovered(0x4e, &receiver.files);
    assert!(told.len() == 92 && !found.parts.arrived);
    let origins = found.parts.segments.iter().map(|it| it.listed().origin.store_id);
    assert_eq!(origins.collect::<Vec<_>>(), [0x5e, 0x5e, 0x4e]);
    // It goes on to others as it came.
    let offering = receiver.store.offer().expect("something is sealed");
    let mut third = Node::new(0x3d);
    assert!(third.store.receive(manifest(&offering)));
    let from = (&mut receiver, &offering);
    assert_eq!(transfer(from, &mut third, |_, _, bytes| bytes), Arrival::Whole);
    receiver.store.withdraw(offering);
    let offering = sender.store.offer().expect("something is sealed");
    sender.store.withdraw(offering);
}

#[test]
fn nothing_is_installed_while_a_seal_writes() {
    let ((mut sender, offering), mut receiver) = (sender(), receiver());
    assert!(receiver.store.receive(manifest(&offering)));
    let (from, to) = ((&mut sender, &offering), &mut receiver);
    assert_eq!(transfer(from, to, |_, _, bytes| bytes), Arrival::Whole);
    (10..40).for_each(|main| receiver.store.push(put(main, 100)));
    receiver.store.seal(1, b"late".to_vec());
    let write = loop {
        let command = receiver.store.poll().expect("it is to be sealed");
        if matches!(command, Command::Write { .. }) {
            break command;
        }
        receiver.perform(command);
    };
    receiver.store.install();
    assert!(receiver.store.poll().is_none(), "its end would come to whoever is recovered next");
    receiver.perform(write);
    receiver.run();
    assert_eq!(receiver.store.arrival(), Arrival::Installed);
    assert_eq!(recovered(0x4e, &receiver.files).1.state.as_deref(), Some(&b"second"[..]));
}

#[test]
fn no_byte_that_is_not_as_it_was_sent_is_believed() {
    let (mut sender, offering) = sender();
    let size = usize::try_from(offering.part_size(1).unwrap()).unwrap();
    for at in (0..size).filter(|at| at % 8 == 0 || (4096..8192).contains(at)) {
        let mut receiver = receiver();
        assert!(receiver.store.receive(manifest(&offering)));
        let bend = |segment: usize, offset: u64, mut bytes: Vec<u8>| {
            let offset = usize::try_from(offset).unwrap();
            if segment == 0 && (offset..offset + bytes.len()).contains(&at) {
                bytes[at - offset] ^= 1 << (at % 8);
            }
            bytes
        };
        let end = transfer((&mut sender, &offering), &mut receiver, bend);
        assert_eq!(end, Arrival::Broken, "byte {at}");
        let damage = receiver.store.arrival_damage().expect("it is known where");
        assert_eq!(damage.file, "0000000000000000.segment", "as it is called where it comes from");
        assert!(damage.offset <= at as u64, "byte {at} is not behind {}", damage.offset);
    }
}

/// Only the receiver saw it, again and again, and could not mend it.
#[test]
fn a_block_that_has_rotted_where_it_comes_from_is_damage_there() {
    let (mut sender, offering) = sender();
    let name = "0000000000000000.segment";
    let file = sender.files.get_mut(name).expect("it is sealed");
    file[BLOCK_SIZE + 700] ^= 1;
    for (first, count, is_seen) in [(0, 2, true), (1, 1, true), (0, 1, false), (2, 1, false)] {
        let offset = first * BLOCK_SIZE as u64;
        sender.store.read_part(&offering, 1, offset, count * BLOCK_SIZE);
        let Some(Command::Read { id, offset, size, .. }) = sender.store.poll() else {
            panic!("it is read")
        };
        let at = usize::try_from(offset).unwrap();
        let bytes = Bytes::copy_from_slice(&sender.files[name][at..at + size]);
        let damage = sender.store.handle(Event::Read { id, bytes }).err();
        assert_eq!(damage.is_some(), is_seen);
        if let Some(damage) = damage {
            assert_eq!((damage.file.as_str(), damage.cause), (name, Cause::Block));
            let first = BLOCK_SIZE as u64;
            assert!((first..=first + 700).contains(&damage.offset), "{damage}");
        }
    }
}

#[test]
fn what_is_given_up_leaves_nothing_at_whatever_step() {
    let (mut sender, offering) = sender();
    let mut waits = 0;
    for steps in 0..60 {
        let mut receiver = receiver();
        let before = receiver.files.clone();
        assert!(receiver.store.receive(manifest(&offering)));
        let mut left = steps;
        while left > 0 {
            if receiver.step() {
                left -= 1;
                continue;
            }
            let Arrival::Wants { segment, offset, .. } = receiver.store.arrival() else { break };
            let bytes = piece(&mut sender, &offering, segment + 1, offset);
            receiver.store.take_piece(bytes);
        }
        // With a command under way, too.
        let command = receiver.store.poll();
        receiver.store.drop_arrival();
        if receiver.store.arrival() == Arrival::Leaving {
            waits += 1;
            assert!(!receiver.store.receive(manifest(&offering)), "the last one is not gone");
        }
        command.into_iter().for_each(|command| receiver.perform(command));
        receiver.run();
        assert_eq!(receiver.store.arrival(), Arrival::None);
        assert_eq!(receiver.files, before, "after {steps}");
        assert!(receiver.store.receive(manifest(&offering)), "there is room for another");
    }
    assert!(waits > 10, "{waits}");
}

#[test]
fn what_there_is_no_room_for_is_given_up_and_leaves_nothing() {
    let (mut sender, offering) = sender();
    let mut lacks = Vec::new();
    for fails in 0..30 {
        let mut receiver = receiver();
        let before = receiver.files.clone();
        assert!(receiver.store.receive(manifest(&offering)));
        let mut left = fails;
        let lack = loop {
            match (receiver.store.poll(), receiver.store.arrival()) {
                (Some(Command::Write { id, .. }), _) if left == 0 => break Some(Lack::Write(id)),
                (Some(Command::Create { .. }), _) if left == 0 => break Some(Lack::Create),
                (Some(command), _) => {
                    let is_of_room =
                        matches!(command, Command::Write { .. } | Command::Create { .. });
                    left -= usize::from(is_of_room);
                    receiver.perform(command);
                }
                (None, Arrival::Wants { segment, offset, .. }) => {
                    let bytes = piece(&mut sender, &offering, segment + 1, offset);
                    receiver.store.take_piece(bytes);
                }
                (None, _) => break None,
            }
        };
        let Some(lack) = lack else { break };
        assert!(receiver.store.lack(lack));
        receiver.run();
        assert_eq!((receiver.store.arrival(), &receiver.files), (Arrival::None, &before));
        assert!(receiver.store.receive(manifest(&offering)), "there is room for another");
        lacks.push(lack);
    }
    let creations = lacks.iter().filter(|lack| **lack == Lack::Create).count();
    assert_eq!(creations, 2, "of each segment");
    assert!(lacks.len() >= 6, "{lacks:?}");
}

#[test]
fn nothing_else_goes_on_without_room() {
    let mut receiver = receiver();
    receiver.store.push(put(100, 100));
    receiver.store.seal(2, b"next".to_vec());
    let Some(command @ Command::Create { .. }) = receiver.store.poll() else { panic!("a file") };
    assert!(!receiver.store.lack(Lack::Create));
    receiver.perform(command);
    let Some(Command::Write { id, .. }) = receiver.store.poll() else { panic!("its bytes") };
    assert!(!receiver.store.lack(Lack::Write(id)));
}

#[test]
fn a_state_stays_as_it_was_offered_until_it_is_given_back() {
    let (mut sender, offering) = sender();
    let before = piece(&mut sender, &offering, 2, 0);
    // All of it dies, and would be cleaned away.
    for main in 1..90 {
        sender.store.forget(Location { main: Revision(main), sub: 0 });
    }
    sender.store.forgotten(Revision(94));
    sender.store.sweep();
    for tick in 1..200 {
        sender.store.tick(crate::types::Tick(tick * 20));
        while sender.store.work(1_000) {}
        sender.run();
    }
    assert_eq!(piece(&mut sender, &offering, 2, 0), before);
    let files = sender.files.len();
    sender.store.withdraw(offering);
    sender.run();
    assert!(sender.files.len() < files, "now they are gone");
}
