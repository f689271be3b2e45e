//! Snapshots: the sealed state of a leader, for a member that lags further than its log reaches.
//!
//! The leader pins its last sealed state and offers it; the member pulls it, piece by piece, into
//! files of its own ([`parcel`]). Both go on serving: the leader reads so many bytes a millisecond
//! and no more, and keeps its log from the state on for as long; the member answers from the state
//! that it has. When all has come and was read back, Raft is told, and judges whether it is still
//! of use.
//!
//! Then the member *moves*: nothing of it writes any more, but for one manifest in the place of
//! another. From the moment that this one is durable, a restart finds the new state; so the shard
//! is recovered from its files, as a restart does it, while the old one still answers what needs no
//! log. The new one takes over whoever waits (`succeed.rs`).
//!
//! # Every step of the way
//!
//! | a crash | leaves | and the next start |
//! |--------------------------|----------------------|------------------------------------------|
//! | before the manifest is durable | the old state and new files | removes those files |
//! | after | the new state, the old log | finds that the state has *arrived*, see below |
//! | after the log began anew | both | goes on from them |
//!
//! Where the log does not hold the last entry of a state that has arrived, it begins anew behind
//! it.
//!
//! A log that does hold the state's last entry is kept, as all that this member has told others to
//! have is in it.
//!
//! **Invariant:** term and vote are never lost: they are in the log, which goes on.
//!
//! **Invariant:** nothing that this member has acknowledged is let go for a snapshot, but entries
//! that differ from committed ones.

pub mod parcel;
mod receive;
mod send;
mod succeed;

pub(super) use self::receive::Receipt;
pub(super) use self::send::Sends;

use crate::shard::Config;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::snapshot::parcel::PIECE_SIZE_MAX;
use crate::store;
use crate::store::Arrival;
use crate::wal;

/// What snapshots may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Snapshots that are sent at a time, 2 by default: the minority of five that may be away.
    pub sends_max: usize,
    /// Bytes a millisecond that all of them together read and send, 32 KiB by default: 32 MB/s, an
    /// eighth of what a modest disk gives.
    pub rate: u64,
    /// Bytes that are pulled at a time, 256 KiB by default: a fraction of a millisecond of a
    /// network, and whole blocks.
    pub piece_size: usize,
    /// Bytes that a receiver has pulled and not written, 1 MiB by default: what is on its way over
    /// a network of 30 ms at full rate.
    pub window: usize,
    /// Milliseconds after which a receiver that pulls nothing is given up, 30 s by default. What
    /// was pinned for it costs disk space. So long waits also one that does not take what it got.
    pub patience: u64,
    /// Bytes of disk space that may be kept from being free for a receiver, 1 GiB by default, or
    /// twice what it is sent if that is more. One that takes the state more slowly than it changes
    /// would have the sender's disk fill up.
    pub kept_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sends_max: 2,
            rate: 32 << 10,
            piece_size: 256 << 10,
            window: 1 << 20,
            patience: 30_000,
            kept_max: 1 << 30,
        }
    }
}

impl Limits {
    /// Asserts that the limits fit together.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self) {
        assert!(self.sends_max > 0 && self.rate > 0, "snapshots are sent");
        assert!(self.piece_size.is_multiple_of(store::WRITE_UNIT), "a piece is whole blocks");
        assert!((1..=PIECE_SIZE_MAX).contains(&self.piece_size), "a piece is at most 1 MiB");
        assert!(self.piece_size <= self.window, "a piece is pulled at least");
    }
}

/// Whether this replica makes room for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moving {
    /// It does not. ─a snapshot is to be installed→ `Writing`.
    #[default]
    No,
    /// The last that it writes is on its way. ─all is durable→ `Waiting`.
    Writing,
    /// Whoever drives it recovers the other one.
    Waiting,
}

impl Shard {
    /// What it is, and its log's number: what another needs to be recovered from the same files.
    #[must_use]
    pub fn identity(&self) -> (&Config, u64) {
        (&self.config, self.wal.identity().log_id)
    }

    /// Whether this replica makes room for another one: nothing of it writes any more.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.moving != Moving::No
    }

    /// The snapshot that has come takes the place of everything here.
    pub(super) fn move_on(&mut self) {
        assert!(self.moving == Moving::No, "a replica moves once");
        self.store.install();
        self.moving = Moving::Writing;
    }

    /// As [`Shard::poll`], of a replica that moves: reads go on.
    pub(super) fn poll_moving(&mut self) -> Option<Output> {
        if let Some(command) = self.store.poll() {
            return Some(Output::Store(command));
        }
        let is_over = self.store.arrival() == Arrival::Installed && self.wal.is_at_rest();
        if self.moving == Moving::Writing && is_over {
            self.moving = Moving::Waiting;
            return Some(Output::Reopen);
        }
        None
    }

    /// What the driver has done of the log's, for a replica that moves: nothing rests on it.
    pub(super) fn on_wal_moving(&mut self, event: wal::Event) {
        self.wal.handle(event);
        while self.wal.durable().is_some() {}
        while self.wal.fetched().is_some() {}
    }

    /// The same of the store's.
    pub(super) fn on_store_moving(&mut self, event: store::Event) {
        if let Err(damage) = self.store.handle(event) {
            return self.halt(damage.to_string());
        }
        self.hand_out_blocks();
    }
}
