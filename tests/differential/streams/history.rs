//! What is known to have happened, and what a watcher must have been told of it.

use bytes::Bytes;
use ringd::api::proto::etcdserverpb::WatchCreateRequest;
use ringd::api::proto::etcdserverpb::watch_create_request::FilterType;
use ringd::api::proto::mvccpb::Event;
use ringd::api::proto::mvccpb::event::EventType;

/// A change of a key.
#[derive(Clone, Debug)]
struct Change {
    revision: i64,
    is_put: bool,
    key: Bytes,
}

impl Change {
    fn of(event: &Event) -> Self {
        let kv = event.kv.clone().unwrap_or_default();
        let is_put = event.r#type == EventType::Put as i32;
        Self { revision: kv.mod_revision, is_put, key: kv.key }
    }
}

/// Every change of every key, in order.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Vec<Change>,
    /// The revision that the store has reached.
    latest: i64,
}

impl History {
    /// Takes note of a revision that the store has reached.
    pub(super) fn reach(&mut self, revision: i64) {
        self.latest = self.latest.max(revision);
    }

    /// The revision that the store is known to have reached.
    pub(super) fn latest(&self) -> i64 {
        self.latest.max(1)
    }

    /// Adds what was told of everything.
    pub(super) fn extend(&mut self, events: &[Event]) {
        self.changes.extend(events.iter().map(Change::of));
        self.reach(self.revision());
    }

    /// The revision of the last change, 0 if there is none.
    pub(super) fn revision(&self) -> i64 {
        self.changes.last().map_or(0, |change| change.revision)
    }

    /// Where the changes of a revision and all later ones begin.
    fn position(&self, revision: i64) -> usize {
        self.changes.partition_point(|change| change.revision < revision)
    }
}

/// A watcher that was created, as both servers must see it.
#[derive(Debug)]
pub(super) struct Watcher {
    key: Bytes,
    range_end: Bytes,
    takes_puts: bool,
    takes_deletes: bool,
    /// The first revision that it may be told of.
    start: i64,
    /// The revision that it was asked to begin at, 0 for none.
    asked: i64,
    /// The store's revision when it was created.
    created: i64,
    /// It may be sent a response in parts.
    pub(super) may_be_split: bool,
    /// It is sent how far it is when nothing happens.
    pub(super) is_notified: bool,
    /// It is known to have caught up; etcd takes a while, and a compaction may come before.
    pub(super) is_synced: bool,
    /// Its id is the server's choice.
    pub(super) is_assigned: bool,
    /// It began below what was compacted, and so is canceled.
    pub(super) is_compacted: bool,
    /// It was not yet told so.
    pub(super) awaits_end: bool,
    /// The client has canceled it.
    pub(super) is_canceled: bool,
    /// It was canceled while events may have been under way.
    pub(super) is_cut: bool,
    /// Changes of the history that are settled, and the events that these were; none at first.
    settled: Option<(usize, usize)>,
}

impl Watcher {
    /// One that was created at a revision of the store, and of what was compacted.
    pub(super) fn new(request: &WatchCreateRequest, created: i64, floor: i64) -> Self {
        let filtered = |filter: FilterType| request.filters.contains(&i32::from(filter));
        let start = match request.start_revision {
            0 => created + 1,
            start => start,
        };
        let least = Bytes::from_static(b"\0");
        Self {
            key: if request.key.is_empty() { least } else { request.key.clone() },
            range_end: request.range_end.clone(),
            takes_puts: !filtered(FilterType::Noput),
            takes_deletes: !filtered(FilterType::Nodelete),
            start,
            asked: request.start_revision,
            created,
            may_be_split: request.fragment,
            is_notified: request.progress_notify,
            is_synced: start > created,
            is_assigned: request.watch_id == 0,
            is_compacted: start <= created && start < floor,
            awaits_end: start <= created && start < floor,
            is_canceled: false,
            is_cut: false,
            settled: None,
        }
    }

    fn wants(&self, change: &Change) -> bool {
        let (key, end) = (&change.key, &self.range_end);
        let within = match end.as_ref() {
            b"" => *key == self.key,
            b"\0" => *key >= self.key,
            _ => *key >= self.key && key < end,
        };
        within && if change.is_put { self.takes_puts } else { self.takes_deletes }
    }

    /// True if it is to be told of a change.
    pub(super) fn is_to_know(&self, event: &Event) -> bool {
        let change = Change::of(event);
        change.revision >= self.start && self.wants(&change)
    }

    /// How many events it must have been sent once it knows all up to a revision.
    pub(super) fn count_at(&self, history: &History, revision: i64) -> usize {
        let (from, count) = self.settled.unwrap_or_default();
        if self.is_compacted || self.is_canceled {
            return count;
        }
        let from = from.max(history.position(self.start));
        let end = history.position(revision.saturating_add(1)).max(from);
        count + history.changes[from..end].iter().filter(|change| self.wants(change)).count()
    }

    /// Takes note that it knows all.
    pub(super) fn settle(&mut self, history: &History) {
        let count = self.count_at(history, i64::MAX);
        self.settled = Some((history.changes.len(), count));
        self.is_synced |= count > 0;
        self.awaits_end = false;
    }

    /// True if a compaction may come before it has caught up, and then end it.
    pub(super) fn is_at_risk(&self, floor: i64) -> bool {
        !self.is_synced && !self.is_compacted && self.start < floor
    }

    /// True if nothing is under way to it.
    pub(super) fn is_settled(&self, history: &History) -> bool {
        self.settled.is_some() && history.revision().max(1) >= history.latest()
    }

    /// True if it must know all up to `revision` once it was told that it does: it was there
    /// before, and not yet canceled.
    pub(super) fn is_bound_at(&self, revision: i64) -> bool {
        self.created < revision && !self.is_compacted && !self.is_canceled
    }

    /// True if it was asked to begin at a revision after this one.
    pub(super) fn is_ahead_of(&self, revision: i64) -> bool {
        self.asked > revision
    }
}
