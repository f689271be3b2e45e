//! Watchers: each is told every change of its keys once, in order, all of a revision at once, by
//! whatever node it asks; and of progress only when it has all up to there.

use super::truth::{Change, Truth};
use pb::watch_request::RequestUnion;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb::{Event, KeyValue};

/// Somebody who watches one key, or all of them for none.
#[derive(Clone, Debug)]
pub(in super::super) struct Watcher {
    pub(in super::super) key: Option<Vec<u8>>,
    prev_kv: bool,
    /// The first revision that it was not told of.
    pub(in super::super) next: i64,
    /// What it was told last of who tells.
    is_created: bool,
    pub(in super::super) events: u64,
    pub(in super::super) progress: u64,
    pub(in super::super) compacted: u64,
}

/// What a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Heard {
    /// It goes on; the revision that it is of.
    On(i64),
    /// It is canceled: what comes next is asked for anew.
    Over,
}

impl Watcher {
    pub(in super::super) fn new(key: Option<Vec<u8>>, prev_kv: bool, next: i64) -> Self {
        let (events, progress, compacted) = (0, 0, 0);
        Self { key, prev_kv, next, is_created: false, events, progress, compacted }
    }

    /// What it asks on a new stream.
    pub(in super::super) fn ask(&mut self) -> Vec<u8> {
        self.is_created = false;
        let end = if self.key.is_none() { vec![0] } else { Vec::new() };
        let create = pb::WatchCreateRequest {
            key: self.key.clone().unwrap_or_else(|| vec![0]).into(),
            range_end: end.into(),
            start_revision: self.next,
            progress_notify: true,
            prev_kv: self.prev_kv,
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        pb::WatchRequest { request_union }.encode_to_vec()
    }

    /// What asks how far it is.
    pub(in super::super) fn ask_progress() -> Vec<u8> {
        let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        pb::WatchRequest { request_union: Some(progress) }.encode_to_vec()
    }

    fn sees(&self, change: &Change) -> bool {
        self.key.as_ref().is_none_or(|key| *key == change.key)
    }

    /// The changes that it lacks up to a revision.
    fn lacks(&self, until: i64, truth: &Truth) -> Vec<Change> {
        let revisions = self.next..=until.min(truth.last());
        let all = revisions.flat_map(|revision| truth.at(revision));
        all.filter(|change| self.sees(change)).cloned().collect()
    }

    /// Whether it has all that there is.
    pub(in super::super) fn has_all(&self, truth: &Truth) -> bool {
        self.is_created && self.lacks(truth.last(), truth).is_empty()
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// Why it may not be.
    pub(in super::super) fn hear(&mut self, bytes: &[u8], truth: &Truth) -> Result<Heard, String> {
        let it = pb::WatchResponse::decode(bytes).map_err(|error| error.to_string())?;
        let revision = it.header.map_or(0, |header| header.revision);
        let fail = |why: &str| Err(format!("{why}: {self:?} is told {it:?}"));
        if revision > truth.last() {
            return fail("a watcher is told of a revision that nobody has applied");
        }
        if it.canceled {
            // What it asks for is compacted; it goes on where it can.
            if it.compact_revision < self.next {
                return fail("a watcher is canceled");
            }
            self.next = it.compact_revision;
            self.compacted += 1;
            return Ok(Heard::Over);
        }
        if it.created == self.is_created {
            return fail("a watcher is created twice, or not at first");
        }
        if it.created {
            self.is_created = true;
            return Ok(Heard::On(0));
        }
        let Some(last) = it.events.last() else {
            if !self.lacks(revision, truth).is_empty() {
                return fail("a watcher is told of progress beyond what it lacks");
            }
            self.next = self.next.max(revision + 1);
            self.progress += 1;
            return Ok(Heard::On(revision));
        };
        let last = last.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let due = self.lacks(last, truth);
        let is_right = due.len() == it.events.len()
            && due.iter().zip(&it.events).all(|(due, event)| self.is_of(event, due, truth));
        if !is_right || last > revision {
            return fail(&format!("a watcher lacks {due:?}"));
        }
        self.next = last + 1;
        self.events += it.events.len() as u64;
        Ok(Heard::On(last))
    }

    /// Whether an event tells of a change.
    fn is_of(&self, event: &Event, change: &Change, truth: &Truth) -> bool {
        let Some(kv) = &event.kv else { return false };
        let is_right = if change.is_deletion() {
            let due = KeyValue {
                key: change.key.clone().into(),
                mod_revision: change.pair.mod_revision,
                ..Default::default()
            };
            event.r#type == 1 && *kv == due
        } else {
            event.r#type == 0 && *kv == change.pair
        };
        let before = truth.state(&change.key, change.pair.mod_revision - 1);
        // The pair before may be compacted by now.
        let prev = event.prev_kv.as_ref();
        is_right && (prev.is_none() || (self.prev_kv && prev == before))
    }
}
