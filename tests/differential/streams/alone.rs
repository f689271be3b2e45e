//! A watch stream of one server, held against what was done to that server: for times when no two
//! servers do the same, as much is under way at once.

use super::history::{History, Watcher};
use super::side::{Side, Told, message};
use super::{PATH, same_events};
use crate::support::call::Client;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchResponse};
use ringd::api::proto::mvccpb::event::EventType;
use ringd::api::proto::mvccpb::{Event, KeyValue};
use std::collections::BTreeMap;

/// A stream, and what was asked on it.
#[derive(Debug)]
pub(crate) struct Alone {
    side: Side,
    watchers: BTreeMap<i64, (Watcher, WatchCreateRequest)>,
}

/// A key's new value, or that it was deleted.
pub(crate) type Change = (Bytes, Option<Bytes>);

/// All that has happened on a server.
#[derive(Debug)]
pub(crate) struct Everything {
    events: Vec<Event>,
    history: History,
}

impl Alone {
    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(crate) async fn open(client: &Client) -> Result<Self, String> {
        Ok(Self { side: Side::new(client.open(PATH).await?), watchers: BTreeMap::new() })
    }

    /// Creates a watcher that begins at a revision of the client's choice; gives its id.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub(crate) async fn create(&mut self, create: &WatchCreateRequest) -> Result<i64, String> {
        assert_ne!(create.start_revision, 0, "it must be known where it begins");
        self.side.send(&message(RequestUnion::CreateRequest(create.clone())))?;
        let answer = self.side.answer(|answer| answer.created).await?;
        let id = answer.watch_id;
        if answer.canceled {
            return Err(format!("{create:?}: {answer:?}"));
        }
        self.side.is_new(id)?;
        let created = answer.header.as_ref().map_or(0, |header| header.revision);
        // Whether what it needs is compacted is seen by its end.
        let watcher = Watcher::new(create, created, 0);
        match self.watchers.insert(id, (watcher, create.clone())) {
            Some(_) => Err(format!("id {id} is given twice")),
            None => Ok(id),
        }
    }

    /// Cancels a watcher, whatever is under way to it.
    ///
    /// # Errors
    ///
    /// If the stream has ended.
    pub(crate) async fn cancel(&mut self, watch_id: i64) -> Result<(), String> {
        let cancel = WatchCancelRequest { watch_id };
        self.side.send(&message(RequestUnion::CancelRequest(cancel)))?;
        let is_it = |answer: &WatchResponse| {
            answer.canceled && answer.watch_id == watch_id && answer.compact_revision == 0
        };
        let answer = self.side.answer(is_it).await?;
        self.side.keep(answer);
        let (watcher, _) = self.watchers.get_mut(&watch_id).ok_or("no such watcher")?;
        (watcher.is_canceled, watcher.is_cut) = (true, true);
        Ok(())
    }

    /// Asks how far all watchers are; the answer, if there is one, is judged at the end.
    ///
    /// # Errors
    ///
    /// If the stream has ended.
    pub(crate) fn ask_progress(&mut self) -> Result<(), String> {
        self.side.ask_progress()
    }

    /// Waits until all watchers were told all, and sees that it is what happened.
    ///
    /// # Errors
    ///
    /// What was not told, or is wrong.
    pub(crate) async fn judge(mut self, all: &Everything) -> Result<(), String> {
        let (mut watchers, mut asked) = (BTreeMap::new(), BTreeMap::new());
        for (id, (watcher, create)) in self.watchers {
            watchers.insert(id, watcher);
            asked.insert(id, create);
        }
        let history = &all.history;
        let wanted: BTreeMap<i64, usize> =
            watchers.iter().map(|(id, it)| (*id, it.count_at(history, i64::MAX))).collect();
        let is_done = |told: &BTreeMap<i64, Told>| {
            wanted.iter().try_for_each(|(id, wanted)| match told.get(id) {
                Some(told) if told.count >= *wanted || !told.ends.is_empty() => Ok(()),
                _ if watchers[id].is_cut || *wanted == 0 => Ok(()),
                other => Err(format!("watcher {id} was told {:?}", other.map(|it| it.count))),
            })
        };
        self.side.until(&watchers, history, is_done).await?;
        for (id, watcher) in &watchers {
            let outcome = all.judge(self.side.take(*id), watcher, &asked[id]);
            outcome.map_err(|why| format!("watcher {id}: {why}, {watcher:?}"))?;
        }
        Ok(())
    }
}

impl Everything {
    /// What comes of changes by revision.
    pub(crate) fn new(changes: BTreeMap<i64, Vec<Change>>) -> Self {
        let mut events = Vec::new();
        let mut live: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        let all = changes.into_iter().flat_map(|(revision, changes)| {
            changes.into_iter().map(move |change| (revision, change))
        });
        for (mod_revision, (key, value)) in all {
            let gone = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
            let before = live.remove(&key);
            let Some(value) = value else {
                let r#type = EventType::Delete.into();
                events.push(Event { r#type, kv: Some(gone), prev_kv: before });
                continue;
            };
            let create_revision = before.as_ref().map_or(mod_revision, |kv| kv.create_revision);
            let version = before.as_ref().map_or(1, |kv| kv.version + 1);
            let kv = KeyValue { create_revision, version, value, ..gone };
            live.insert(key, kv.clone());
            let r#type = EventType::Put.into();
            events.push(Event { r#type, kv: Some(kv), prev_kv: before });
        }
        let mut history = History::default();
        history.extend(&events);
        Self { events, history }
    }

    /// That a watcher was told what there was to tell: all of it, or up to its end.
    fn judge(
        &self,
        mut told: Told,
        watcher: &Watcher,
        create: &WatchCreateRequest,
    ) -> Result<(), String> {
        let mut wanted: Vec<_> =
            self.events.iter().filter(|event| watcher.is_to_know(event)).cloned().collect();
        let next = create.start_revision.max(told.revision + 1);
        match told.ends.first().map(|end| end.compact_revision) {
            None => {}
            Some(floor) if floor != 0 && next >= floor => {
                return Err(format!("ended by the compaction of {floor}, being at {next}"));
            }
            Some(_) => wanted.truncate(told.events.len()),
        }
        if !told.ends.is_empty() || !create.prev_kv {
            // What was before may be compacted by its end, or not be looked for any more.
            let is_asked = create.prev_kv;
            told.events.iter_mut().filter(|_| is_asked).for_each(|event| event.prev_kv = None);
            wanted.iter_mut().for_each(|event| event.prev_kv = None);
        }
        same_events(&told.events, &wanted)
    }
}
