//! What is told as it is applied: every change, once, whatever the number of those who watch.
//!
//! While a core is subscribed, a change is noted here at the moment it is made, with what was
//! before it if some core wants that and it is in memory. What is noted leaves in batches of whole
//! revisions: when the last committed entry is applied, and between two entries when much has
//! gathered. While no core is, a change costs one look at an empty list.

use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::watch::Asker;
use crate::shard::watch::Batch;
use crate::shard::watch::Event;
use crate::shard::watch::Told;
use std::sync::Arc;

/// Changes after which a batch leaves, at the next whole revision: enough that its price is shared,
/// few enough that the cores which deliver it begin early.
const BATCH_EVENTS_MAX: usize = 1024;
/// Bytes of keys and values after which a batch leaves, for the same reasons.
const BATCH_SIZE_MAX: usize = 1 << 20;

/// Who is told, and what it was not told yet.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// The cores that have subscribed, in order, and whether each wants what was before.
    cores: Vec<(u32, bool)>,
    wants_prev: bool,
    /// In order; none between two inputs.
    events: Vec<Event>,
    /// Bytes of their keys and values.
    size: usize,
}

impl Feed {
    /// Whether anybody is told.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        !self.cores.is_empty()
    }

    /// Whether anybody is told what was before a change.
    pub(super) fn wants_prev(&self) -> bool {
        self.wants_prev
    }

    /// Notes a change that was made.
    pub(super) fn note(&mut self, event: Event) {
        self.size += event.size();
        self.events.push(event);
    }

    /// Whether so much is noted that it is to leave.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS_MAX || self.size >= BATCH_SIZE_MAX
    }

    /// The cores that are told, in order, and whether each wants what was before.
    pub(super) fn cores(&self) -> impl Iterator<Item = (u32, bool)> + '_ {
        self.cores.iter().copied()
    }

    pub(super) fn subscribe(&mut self, core: u32, prev_kv: bool) {
        match self.cores.binary_search_by_key(&core, |(core, _)| *core) {
            Ok(at) => self.cores[at].1 |= prev_kv,
            Err(at) => self.cores.insert(at, (core, prev_kv)),
        }
        self.wants_prev |= prev_kv;
    }

    fn unsubscribe(&mut self, core: u32) {
        self.cores.retain(|(other, _)| *other != core);
        self.wants_prev = self.cores.iter().any(|(_, prev_kv)| *prev_kv);
    }
}

impl Shard {
    pub(super) fn subscribe(&mut self, from: Asker, prev_kv: bool) {
        self.feed.subscribe(from.core, prev_kv);
        self.tell(Told::Subscribed { to: from, header: self.header() });
    }

    pub(super) fn unsubscribe(&mut self, core: u32) {
        self.feed.unsubscribe(core);
    }

    /// What was noted leaves.
    ///
    /// # Panics
    /// Unless the last change that was made is the last that was noted.
    pub(super) fn tell_events(&mut self) {
        let events = std::mem::take(&mut self.feed.events);
        let Some(last) = events.last() else { return };
        let header = self.header();
        assert!(last.change.location.main == header.revision, "every change was noted");
        self.feed.size = 0;
        let cores = self.feed.cores.iter().map(|(core, _)| *core).collect();
        let batch = Arc::new(Batch { header, events });
        self.outputs.push_back(Output::Watch(Told::Events { cores, batch }));
    }

    /// Tells one core what it asked for.
    ///
    /// # Panics
    /// If something that was applied was not told yet: the answer would be ahead of it.
    pub(super) fn tell(&mut self, told: Told) {
        assert!(self.feed.events.is_empty(), "what is applied was told before");
        self.outputs.push_back(Output::Watch(told));
    }
}
