//! What leaves: the segments of the last sealed state for a peer, as their files are, part by part.
//!
//! The receiver checks every byte. What it finds it can say, but not mend: so the blocks of what is
//! read here are checked here too, and one that has rotted is this store's damage.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Command;
use super::Damage;
use super::FileId;
use super::machine::Store;
use super::manifest::Manifest;
use super::read::Purpose;
use super::shelf::Pin;

/// A sealed state that stays as it is until it is given back.
#[derive(Debug)]
pub struct Offering {
    pin: Pin,
    /// The manifest, as a file would have it.
    manifest: Bytes,
    /// Place, number and bytes of each segment that it lists.
    files: Vec<(u32, u64, u64)>,
}

impl Offering {
    /// Bytes of part 0, which is the manifest.
    #[must_use]
    pub fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// How many parts there are: the manifest, and then the segments in its order.
    #[must_use]
    pub fn part_count(&self) -> usize {
        self.files.len() + 1
    }

    /// Bytes of a part; none if there is no such part.
    #[must_use]
    pub fn part_size(&self, part: usize) -> Option<u64> {
        match part.checked_sub(1) {
            None => Some(self.manifest.len() as u64),
            Some(segment) => self.files.get(segment).map(|file| file.2),
        }
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.len() as u64 + self.files.iter().map(|file| file.2).sum::<u64>()
    }
}

/// A read that was asked for.
#[derive(Debug)]
struct Asked {
    name: u64,
    place: u32,
    file: FileId,
    offset: u64,
    size: usize,
}

/// Reads of parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    asked: VecDeque<Asked>,
    /// The store's names of reads under way, the owner's, and where each begins.
    flight: Vec<(u64, u64, u64)>,
    done: VecDeque<(u64, Bytes)>,
    name_last: u64,
}

impl Store {
    /// The last sealed state, which stays as it is; none if there is none, or another is being
    /// made.
    ///
    /// # Cost
    /// A copy of the owner's state.
    pub fn offer(&mut self) -> Option<Offering> {
        if self.listed.sequence == 0
            || self.listed.state.is_empty()
            || self.is_replacing()
            || self.is_replaced()
            || self.is_sealed()
        {
            return None;
        }
        let places: Vec<u32> = self.shelf.places().collect();
        let listed = places.iter().map(|&place| self.shelf.get(place).sealed.listed());
        let manifest = Manifest {
            identity: self.identity,
            sequence: self.listed.sequence,
            number_next: self.number_next,
            segments: listed.collect(),
            state: self.listed.state.clone(),
            arrived: false,
        };
        let files = places.iter().zip(&manifest.segments);
        let files = files.map(|(&place, it)| (place, it.number, it.summary.file_size())).collect();
        Some(Offering { pin: self.pin(), manifest: manifest.encode().into(), files })
    }

    /// An offering is given back.
    pub fn withdraw(&mut self, offering: Offering) {
        self.unpin(offering.pin);
    }

    /// Asks for bytes of a segment of an offering; the name under which [`Self::part_read`] brings
    /// them.
    ///
    /// # Panics
    /// If they are none of part `part`, or that is the manifest.
    pub fn read_part(&mut self, offering: &Offering, part: usize, offset: u64, size: usize) -> u64 {
        let (place, number, file_size) = offering.files[part - 1];
        assert!(size > 0 && offset + size as u64 <= file_size, "bytes of the part");
        self.outgoing.name_last += 1;
        let name = self.outgoing.name_last;
        self.shelf.read_begins(place);
        let file = FileId::Segment(number);
        self.outgoing.asked.push_back(Asked { name, place, file, offset, size });
        name
    }

    /// The next part that has come. What of its blocks is cut at either end was not checked, nor
    /// what is no block: the receiver does that.
    pub fn part_read(&mut self) -> Option<(u64, Bytes)> {
        self.outgoing.done.pop_front()
    }

    /// The next read of a part.
    pub(super) fn next_part(&mut self) -> Option<Command> {
        if !self.reads.has_room(self.config.reads_max) {
            return None;
        }
        let Asked { name, place, file, offset, size } = self.outgoing.asked.pop_front()?;
        let id = self.reads.begin(Purpose::Part(place));
        self.outgoing.flight.push((id, name, offset));
        Some(Command::Read { id, file, offset, size })
    }

    /// It is here.
    pub(super) fn on_part(&mut self, id: u64, place: u32, bytes: Bytes) -> Result<(), Damage> {
        let at = self.outgoing.flight.iter().position(|flight| flight.0 == id);
        let (_, name, offset) = self.outgoing.flight.remove(at.expect("the read was asked for"));
        self.shelf.get(place).sealed.check_within(offset, &bytes)?;
        self.shelf.read_ends(place);
        self.outgoing.done.push_back((name, bytes));
        Ok(())
    }
}
