//! A segment on its way to its file: changes go in, and bytes come out in the order of the file.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::ChangeRef;
use super::format::DATA_SIZE_MAX;
use super::format::Identity;
use super::format::PAGE_HEADER_SIZE;
use super::format::PageHeader;
use super::format::SEGMENT_HEADER_SIZE;
use super::format::SegmentHeader;
use super::format::Summary;
use super::format::usize_from;
use super::manifest::Segment;
use super::record::push_block;
use super::segment::Sealed;
use crate::frame::BLOCK_SIZE;
use crate::frame::Seal;
use crate::types::Location;
use crate::types::Revision;

/// Bytes at which a page ends: what a reader checks, and holds, at once.
const PAGE_SIZE: usize = 64 << 10;

/// A segment that is being written.
///
/// # Shape
/// Changes are pushed in the order of their locations; at the latest when [`Self::ready`] is a
/// few writes' worth, bytes are taken with [`Self::fill`]. At the end comes [`Self::finish`], the
/// last bytes are taken, and [`Self::into_sealed`] gives what memory keeps.
#[derive(Debug)]
pub struct Builder {
    seal: Seal,
    block_size: usize,
    page_size: usize,
    sealed: Sealed,
    /// The block that is being filled, and the entries of its records.
    block: Vec<u8>,
    entries: Vec<u8>,
    /// The first record of that block.
    block_first: u32,
    page: Page,
    /// All of the directory but the page that is being filled, and the headers of its pages.
    pages: Vec<Bytes>,
    headers: Vec<u8>,
    directory_size: u64,
    /// What is to be written: bytes not yet taken, in order.
    queue: VecDeque<Bytes>,
    queued: usize,
    offset: u64,
    is_finished: bool,
}

/// A page that is being filled.
#[derive(Debug, Default)]
struct Page {
    /// Room for the header, and the blocks.
    bytes: Vec<u8>,
    block_count: u32,
    record_count: u32,
    main: Revision,
}

/// A block that has been filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Its place among the segment's blocks.
    pub block: u32,
    /// Its bytes, as they will be read from the file.
    pub bytes: Bytes,
}

impl Builder {
    /// A segment of this number, with blocks of about `block_size` bytes. Its header is ready.
    #[must_use]
    pub fn new(identity: Identity, number: u64, block_size: usize) -> Self {
        let summary = Summary {
            data_size: 0,
            directory_size: 0,
            first: Location::default(),
            last: Location::default(),
            record_count: 0,
            block_count: 0,
            directory_crc: 0,
        };
        let (swept, origin) = (Revision(0), identity.origin(number));
        let listed = Segment { number, swept, summary, origin };
        let header = Bytes::from(SegmentHeader { identity, number }.encode());
        Self {
            seal: identity.segment_seal(number),
            block_size,
            page_size: PAGE_SIZE,
            sealed: Sealed::empty(identity, &listed),
            block: Vec::new(),
            entries: Vec::new(),
            block_first: 0,
            page: Page::default(),
            pages: Vec::new(),
            headers: Vec::new(),
            directory_size: 0,
            queued: header.len(),
            queue: VecDeque::from([header]),
            offset: 0,
            is_finished: false,
        }
    }

    /// Ends pages at other sizes, so that small directories have several.
    #[cfg(test)]
    pub(crate) fn with_page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    /// Bytes of records so far.
    #[must_use]
    pub fn data_size(&self) -> usize {
        usize_from(self.sealed.data_end())
    }

    /// How many records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.sealed.record_count()
    }

    /// Whether a segment that has what this one has can have the change too.
    #[must_use]
    pub fn fits(&self, change: &ChangeRef<'_>) -> bool {
        let end = self.data_size() + change.record_size();
        let past = change.location.main.0 - self.sealed.summary().first.main.0;
        end as u64 <= DATA_SIZE_MAX && (self.record_count() == 0 || u32::try_from(past).is_ok())
    }

    /// Adds a change; a block that it filled.
    ///
    /// # Panics
    /// If the change is not possible, not after the one before, or does not [`Self::fits`].
    pub fn push(&mut self, change: &ChangeRef<'_>) -> Option<Filled> {
        assert!(!self.is_finished, "a finished segment takes nothing more");
        assert!(self.fits(change), "a change fits its segment");
        let is_next = self.record_count() == 0 || self.sealed.summary().last < change.location;
        assert!(is_next, "changes come in order");
        let size = change.record_size();
        let is_full = self.block.len() + size > self.block_size;
        let filled = if is_full { self.close_block() } else { None };
        let mut previous = self.sealed.summary().last.main;
        if self.page.bytes.is_empty() {
            self.page.bytes.reserve_exact(self.page_size + self.page_size / 4);
            self.page.bytes.resize(PAGE_HEADER_SIZE, 0);
            self.page.main = change.location.main;
            previous = change.location.main;
        }
        change.encode_entry(previous, &mut self.entries);
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.block_size.max(size));
        }
        change.encode_record(&mut self.block);
        self.sealed.push(change.location, u32::try_from(size).expect("it fits"));
        self.sealed.note_lease(change.lease);
        if change.is_tombstone() {
            self.sealed.note_tombstone();
        }
        filled
    }

    /// Ends the segment; its last block. All of it is ready then, a whole number of blocks.
    ///
    /// # Panics
    /// If it has no records, or was finished before.
    pub fn finish(&mut self) -> Option<Filled> {
        assert!(!self.is_finished, "a segment is finished once");
        assert!(self.record_count() > 0, "a segment has records");
        let filled = self.close_block();
        if self.page.block_count > 0 {
            self.close_page();
        }
        let mut summary = Summary {
            data_size: u64::from(self.sealed.data_end()),
            directory_size: self.directory_size,
            record_count: self.record_count(),
            block_count: self.sealed.block_count(),
            ..*self.sealed.summary()
        };
        summary.directory_crc = summary.directory_crc(self.seal, &self.headers);
        for page in std::mem::take(&mut self.pages) {
            self.enqueue(page);
        }
        let mut tail = vec![0; summary.padding_size()];
        tail.extend_from_slice(&summary.encode_footer(self.seal));
        self.enqueue(tail.into());
        self.sealed.complete(summary);
        self.is_finished = true;
        assert!(self.offset + self.queued as u64 == summary.file_size(), "all of it is ready");
        filled
    }

    /// Bytes that can be taken, in whole blocks.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.queued / BLOCK_SIZE * BLOCK_SIZE
    }

    /// Where in the file the next bytes to be taken go.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes of the file.
    ///
    /// # Panics
    /// Unless `buffer` is whole blocks, and no more than are [`Self::ready`].
    pub fn fill(&mut self, buffer: &mut [u8]) {
        assert!(buffer.len().is_multiple_of(BLOCK_SIZE), "a write is whole blocks");
        assert!(buffer.len() <= self.queued, "bytes are ready");
        let mut filled = 0;
        while filled < buffer.len() {
            let piece = self.queue.front_mut().expect("bytes are ready");
            let size = piece.len().min(buffer.len() - filled);
            buffer[filled..filled + size].copy_from_slice(&piece[..size]);
            filled += size;
            bytes::Buf::advance(piece, size);
            if piece.is_empty() {
                self.queue.pop_front();
            }
        }
        self.queued -= filled;
        self.offset += filled as u64;
    }

    /// What memory keeps of the segment.
    ///
    /// # Panics
    /// Unless it is finished and all of its bytes were taken.
    #[must_use]
    pub fn into_sealed(self) -> Sealed {
        assert!(self.is_finished && self.queued == 0, "the segment is written");
        self.sealed
    }

    /// Ends the block that is being filled, if there is one.
    fn close_block(&mut self) -> Option<Filled> {
        if self.block.is_empty() {
            return None;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.block));
        let size = u32::try_from(bytes.len()).expect("it fits");
        let offset = self.sealed.data_end() - size;
        let at = SEGMENT_HEADER_SIZE as u64 + u64::from(offset);
        let crc = self.seal.checksum_at(at, &[&bytes]);
        let (block, first) = (self.sealed.block_count(), self.block_first);
        self.sealed.push_block(first, offset, crc);
        self.block_first = self.record_count();
        self.page.block_count += 1;
        self.page.record_count += self.block_first - first;
        push_block(&mut self.page.bytes, self.block_first - first, size, crc);
        self.page.bytes.append(&mut self.entries);
        if self.page.bytes.len() >= self.page_size {
            self.close_page();
        }
        self.enqueue(bytes.clone());
        Some(Filled { block, bytes })
    }

    /// Ends the page that is being filled.
    fn close_page(&mut self) {
        let Page { mut bytes, block_count, record_count, main } = std::mem::take(&mut self.page);
        let size =
            u32::try_from(bytes.len() - PAGE_HEADER_SIZE).expect("a page is less than 4 GiB");
        let header = PageHeader { crc: 0, size, block_count, record_count, main };
        header.seal(self.seal, self.directory_size, &mut bytes);
        self.headers.extend_from_slice(&bytes[..PAGE_HEADER_SIZE]);
        self.directory_size += bytes.len() as u64;
        self.pages.push(bytes.into());
    }

    fn enqueue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queued += bytes.len();
            self.queue.push_back(bytes);
        }
    }
}
