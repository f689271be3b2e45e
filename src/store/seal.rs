//! Sealing: from the frozen tail to a segment that the manifest lists.
//!
//! ```text
//!   seal ──► the tail's changes go into a file, as fast as it is written
//!        ──► the file is finished ──► the manifest names it, with the owner's state ──► sealed
//! ```
//!
//! The log's writes wait for those of a seal, so these are small and one at a time, at a rate. It
//! is *pressed* once so much has come meanwhile that the next seal is near; then the disk is the
//! limit.
//!
//! The frozen tail serves reads until the manifest is durable. A tail without changes has no file,
//! and only the manifest is replaced.

use super::FileId;
use super::machine::Job;
use super::machine::Store;
use super::output::Context;
use super::output::Maker;
use super::record::ChangeRef;
use super::tail::Place;

/// A seal is pressed once the next tail has grown to one part in this many.
const PRESSED_SHARE: usize = 4;
/// Most milliseconds that sealing writes for at once after a rest.
const BURST: u64 = 40;

/// A tail on its way to its segment.
#[derive(Debug)]
pub(super) struct Sealing {
    token: u64,
    pub(super) state: Vec<u8>,
    pub(super) maker: Maker,
    /// Where in the frozen tail the changes begin that the maker does not have yet.
    next: Place,
    is_fed: bool,
    /// Bytes that may be written now.
    allowance: i64,
}

impl Store {
    /// The tail is large enough to be sealed.
    #[must_use]
    pub fn wants_seal(&self) -> bool {
        self.sealing.is_none() && self.tail.size() >= self.config.seal_size
    }

    /// What no segment has is as large as it may be: push as little as possible.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.unsealed_size() >= self.config.tail_size_max
    }

    /// A seal was asked for, and its token was not taken yet.
    #[must_use]
    pub fn is_sealing(&self) -> bool {
        self.sealing.is_some() || self.is_sealed()
    }

    /// Makes everything that was pushed so far durable, and with it `state`, which a restart is
    /// told of. [`Self::sealed`] gives `token` back then.
    ///
    /// # Panics
    /// If one is under way, or `state` is empty.
    pub fn seal(&mut self, token: u64, state: Vec<u8>) {
        assert!(!self.is_sealing(), "one seal at a time");
        assert!(!state.is_empty(), "an owner has a state");
        self.frozen = std::mem::take(&mut self.tail);
        let is_fed = self.frozen.is_empty();
        let next = Place::default();
        let maker = Maker::of_new();
        self.sealing = Some(Sealing { token, state, maker, next, is_fed, allowance: 0 });
        self.tick_seal(BURST);
    }

    /// So many milliseconds have passed.
    pub(super) fn tick_seal(&mut self, past: u64) {
        let Some(sealing) = &mut self.sealing else { return };
        let bytes = |time: u64| i64::try_from(time.saturating_mul(self.config.seal_rate));
        let (gained, most) = (bytes(past.min(BURST)), bytes(BURST));
        let gained = sealing.allowance.saturating_add(gained.unwrap_or(i64::MAX));
        sealing.allowance = gained.min(most.unwrap_or(i64::MAX));
    }

    /// The next write, if one is due.
    pub(super) fn next_seal_write(&mut self) -> Option<(FileId, u64, Vec<u8>)> {
        let is_grown = self.tail.size() >= self.config.seal_size / PRESSED_SHARE;
        let is_pressed = is_grown || self.is_full();
        let is_due = self.sealing.as_ref()?.allowance > 0 && !self.is_writing(Job::Seal);
        let size = match (is_pressed, is_due) {
            (true, _) => self.config.write_size,
            (false, true) => self.config.write_size_gentle(),
            (false, false) => return None,
        };
        self.feed(size);
        let sealing = self.sealing.as_mut()?;
        let write = sealing.maker.next_write(size)?;
        let written = i64::try_from(write.2.len()).expect("64 bits");
        sealing.allowance = sealing.allowance.saturating_sub(written);
        Some(write)
    }

    /// Gives the maker as many changes as a write of so many bytes takes.
    fn feed(&mut self, size: usize) {
        let Some(sealing) = self.sealing.as_mut().filter(|sealing| !sealing.is_fed) else {
            return;
        };
        let mut context = Context {
            config: &self.config,
            identity: self.identity,
            number_next: &mut self.number_next,
            shelf: &mut self.shelf,
            cache: &mut self.cache,
        };
        while sealing.maker.ready() < size {
            let mut after = sealing.next;
            let Some(change) = self.frozen.next(&mut after) else {
                sealing.maker.end(&mut context);
                sealing.is_fed = true;
                return;
            };
            let change = ChangeRef::from(change);
            if !sealing.maker.takes(&change, usize::MAX, &mut context) {
                return;
            }
            sealing.maker.push(&change, true, &mut context);
            sealing.next = after;
        }
    }

    /// All changes are in finished files.
    pub(super) fn is_seal_ready(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.is_fed && sealing.maker.is_between())
    }

    /// The manifest names the segment: its token.
    pub(super) fn on_sealed(&mut self) -> u64 {
        let sealing = self.sealing.take().expect("it was ready");
        let end = self.shelf.len();
        self.shelf.put(end..end, sealing.maker.made());
        self.spent.push(std::mem::take(&mut self.frozen));
        self.cleaner.on_change();
        sealing.token
    }
}
