//! Watch streams of both servers, message by message the same, and what comes of them compared.
//!
//! The order across watchers, what is sent together and when is each server's own affair. So a
//! watcher of everything, on a stream of its own, is waited for until it has told the revision that
//! the store is at: it names every change, and with that how many events each other watcher must be
//! sent. When these have come, what both servers sent is the same for each watcher, event by event.
//! On each side alone it must hold besides that a revision comes in its turn and in one response or
//! its parts, and that nobody is said to know what was not sent.

mod alone;
mod history;
mod side;

pub(crate) use alone::{Alone, Change, Everything};

use crate::compare::same;
use crate::support::call::Client;
use bytes::Bytes;
use history::{History, Watcher};
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use ringd::api::proto::mvccpb::Event;
use side::{Side, Told, message};
use std::collections::BTreeMap;

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// The id of the watcher of everything.
const ALL: i64 = 0;

/// All streams.
#[derive(Debug)]
pub(crate) struct Streams {
    to_ours: Client,
    to_theirs: Client,
    twins: BTreeMap<usize, Twin>,
    /// The stream with the watcher of everything, once there are others.
    everything: Option<Twin>,
    history: History,
    floor: i64,
}

/// A stream of each.
#[derive(Debug)]
struct Twin {
    ours: Side,
    theirs: Side,
    watchers: BTreeMap<i64, Watcher>,
    /// Ids of watchers that were canceled while something may have been under way to them: etcd
    /// sends that to whoever has the id next.
    burnt: Vec<i64>,
    is_half_closed: bool,
}

impl Streams {
    /// None as yet.
    pub(crate) fn new(to_ours: &Client, to_theirs: &Client) -> Self {
        Self {
            to_ours: to_ours.clone(),
            to_theirs: to_theirs.clone(),
            twins: BTreeMap::new(),
            everything: None,
            history: History::default(),
            floor: 0,
        }
    }

    /// Goes on with other connections, and without the streams of the old.
    pub(crate) fn reconnect(&mut self, to_ours: &Client, to_theirs: &Client) {
        self.twins.clear();
        self.everything = None;
        (self.to_ours, self.to_theirs) = (to_ours.clone(), to_theirs.clone());
    }

    /// Takes note of the revision that the store is at.
    pub(crate) fn learn(&mut self, revision: i64) {
        self.history.reach(revision);
    }

    /// Takes note of a revision that was compacted.
    pub(crate) fn learn_floor(&mut self, floor: i64) {
        self.floor = self.floor.max(floor);
    }

    /// Sends a message on both streams of a number, which are opened if they are not, and compares
    /// what is answered to it; gives the id of a watcher that was created.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn send(
        &mut self,
        number: usize,
        ours: &WatchRequest,
        theirs: &WatchRequest,
    ) -> Result<Option<i64>, String> {
        self.open(number).await?;
        if self.twins[&number].is_half_closed {
            return Ok(None);
        }
        if self.must_settle(number, theirs) {
            self.settle().await?;
        }
        let twin = self.twins.get_mut(&number).expect("it was opened");
        match &theirs.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                twin.create(create, ours, theirs, self.floor).await
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                twin.cancel(cancel, ours, theirs, &self.history).await.map(|()| None)
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                twin.progress(ours, theirs, self.history.latest()).await.map(|()| None)
            }
            None => twin.send(ours, theirs).map(|()| None),
        }
    }

    async fn open(&mut self, number: usize) -> Result<(), String> {
        if self.everything.is_none() {
            let start = (self.history.revision() + 1).max(self.floor);
            self.everything = Some(everything(&self.to_ours, &self.to_theirs, start).await?);
        }
        if !self.twins.contains_key(&number) {
            let twin = Twin::open(&self.to_ours, &self.to_theirs).await?;
            self.twins.insert(number, twin);
        }
        Ok(())
    }

    /// True if what is under way could make both servers answer differently.
    fn must_settle(&self, number: usize, request: &WatchRequest) -> bool {
        let watchers = &self.twins[&number].watchers;
        match &request.request_union {
            Some(RequestUnion::CreateRequest(_)) => watchers.values().any(|it| it.is_canceled),
            Some(RequestUnion::CancelRequest(cancel)) => watchers
                .get(&cancel.watch_id)
                .is_some_and(|it| !it.is_assigned || it.awaits_end || it.is_canceled),
            Some(RequestUnion::ProgressRequest(_)) => true,
            None => false,
        }
    }

    /// Says on both streams that nothing more will be sent; events still come.
    ///
    /// # Errors
    ///
    /// If a server has ended its stream.
    pub(crate) fn half_close(&mut self, number: usize) -> Result<(), String> {
        match self.twins.get_mut(&number) {
            Some(twin) if !twin.is_half_closed => {
                twin.is_half_closed = true;
                both(twin.ours.end(), twin.theirs.end()).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Gives both streams up.
    pub(crate) fn give_up(&mut self, number: usize) {
        self.twins.remove(&number);
    }

    /// Responses that ours, and theirs, sent as a part of a larger one.
    pub(crate) fn parts(&self) -> (usize, usize) {
        let count = |side: fn(&Twin) -> &Side| self.twins.values().map(|it| side(it).parts).sum();
        (count(|twin| &twin.ours), count(|twin| &twin.theirs))
    }

    /// Sees to it that a compaction is the same to all watchers of both.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn prepare(&mut self, floor: i64) -> Result<(), String> {
        self.settle().await?;
        let mut hopeless = Vec::new();
        for (number, twin) in &mut self.twins {
            if !twin.prepare(floor, &self.history).await? {
                hopeless.push(*number);
            }
        }
        hopeless.into_iter().for_each(|number| self.give_up(number));
        Ok(())
    }

    /// Waits until watchers of these streams and ids were told that they know all up to where the
    /// store is, without an event.
    ///
    /// # Errors
    ///
    /// What differs, or was not told.
    pub(crate) async fn notified(&mut self, wanted: &[(usize, i64)]) -> Result<(), String> {
        self.settle().await?;
        for (number, id) in wanted {
            let is_done = |told: &BTreeMap<i64, Told>| match told.get(id) {
                Some(told) if told.notified >= self.history.latest() => Ok(()),
                other => Err(format!("watcher {id} is not said to be there: {other:?}")),
            };
            let twin = self.twins.get_mut(number).ok_or("no such stream")?;
            twin.until(&self.history, is_done).await?;
        }
        Ok(())
    }

    /// Waits until all that has happened was told, and compares it.
    ///
    /// # Errors
    ///
    /// What differs, or was not told.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        let Some(everything) = &mut self.everything else { return Ok(()) };
        let events = everything.all_until(&self.history).await;
        self.history.extend(&events.map_err(|why| format!("a watcher of everything: {why}"))?);
        for (number, twin) in &mut self.twins {
            let outcome = twin.settle(&self.history).await;
            outcome.map_err(|why| format!("stream {number}: {why}"))?;
        }
        Ok(())
    }
}

/// A stream with a watcher of everything from a revision on.
async fn everything(to_ours: &Client, to_theirs: &Client, start: i64) -> Result<Twin, String> {
    let mut twin = Twin::open(to_ours, to_theirs).await?;
    let zero = Bytes::from_static(b"\0");
    let create = WatchCreateRequest {
        key: zero.clone(),
        range_end: zero,
        start_revision: start,
        ..WatchCreateRequest::default()
    };
    let request = message(RequestUnion::CreateRequest(create.clone()));
    match twin.create(&create, &request, &request, 0).await? {
        Some(ALL) => Ok(twin),
        other => Err(format!("the first watcher of a stream is {other:?}")),
    }
}

impl Twin {
    async fn open(to_ours: &Client, to_theirs: &Client) -> Result<Self, String> {
        let (ours, theirs) = tokio::join!(to_ours.open(PATH), to_theirs.open(PATH));
        let (ours, theirs) = both(ours, theirs)?;
        Ok(Self {
            ours: Side::new(ours),
            theirs: Side::new(theirs),
            watchers: BTreeMap::new(),
            burnt: Vec::new(),
            is_half_closed: false,
        })
    }

    fn send(&mut self, ours: &WatchRequest, theirs: &WatchRequest) -> Result<(), String> {
        both(self.ours.send(ours), self.theirs.send(theirs)).map(drop)
    }

    /// Sends a message to which both answer with what `is_it`; gives that, if it is the same.
    async fn ask(
        &mut self,
        ours: &WatchRequest,
        theirs: &WatchRequest,
        is_it: impl Fn(&WatchResponse) -> bool,
    ) -> Result<WatchResponse, String> {
        self.send(ours, theirs)?;
        let (ours, theirs) = tokio::join!(self.ours.answer(&is_it), self.theirs.answer(&is_it));
        let (ours, theirs) = both(ours, theirs)?;
        same("answers", &ours, &theirs).map(|()| theirs)
    }

    async fn create(
        &mut self,
        create: &WatchCreateRequest,
        ours: &WatchRequest,
        theirs: &WatchRequest,
        floor: i64,
    ) -> Result<Option<i64>, String> {
        if self.burnt.contains(&create.watch_id) {
            return Ok(None);
        }
        let answer = self.ask(ours, theirs, |response| response.created).await?;
        let id = answer.watch_id;
        if answer.canceled {
            return Ok(None);
        }
        both(self.ours.is_new(id), self.theirs.is_new(id))?;
        let created = answer.header.as_ref().map_or(0, |header| header.revision);
        match self.watchers.insert(id, Watcher::new(create, created, floor)) {
            Some(_) => Err(format!("id {id} is given twice")),
            None => Ok(Some(id)),
        }
    }

    async fn cancel(
        &mut self,
        cancel: &WatchCancelRequest,
        ours: &WatchRequest,
        theirs: &WatchRequest,
        history: &History,
    ) -> Result<(), String> {
        let id = cancel.watch_id;
        if !self.watchers.contains_key(&id) {
            return self.send(ours, theirs);
        }
        let is_it = |answer: &WatchResponse| answer.canceled && answer.watch_id == id;
        let answer = self.ask(ours, theirs, is_it).await?;
        self.ours.keep(answer.clone());
        self.theirs.keep(answer);
        let watcher = self.watchers.get_mut(&id).expect("it was there");
        watcher.is_canceled = true;
        if !watcher.is_settled(history) {
            watcher.is_cut = true;
            self.burnt.push(id);
        }
        Ok(())
    }

    /// Asks how far all watchers are; whether that is answered depends on them.
    async fn progress(
        &mut self,
        ours: &WatchRequest,
        theirs: &WatchRequest,
        revision: i64,
    ) -> Result<(), String> {
        if !self.tells_progress(revision) {
            return self.send(ours, theirs);
        }
        let (ours, theirs) = (self.ours.progress(revision), self.theirs.progress(revision));
        let (ours, theirs) = tokio::join!(ours, theirs);
        both(ours, theirs)?;
        self.watchers.values_mut().for_each(|watcher| watcher.is_synced = true);
        Ok(())
    }

    /// True if progress is told on this stream, once all of its watchers have caught up.
    fn tells_progress(&self, revision: i64) -> bool {
        let waits = |watcher: &Watcher| watcher.is_compacted || watcher.is_ahead_of(revision);
        !self.is_half_closed && !self.watchers.is_empty() && !self.watchers.values().any(waits)
    }

    /// Sees that no watcher may be catching up when what it needs is compacted: those of which one
    /// cannot know are canceled. False if that cannot be, either.
    async fn prepare(&mut self, floor: i64, history: &History) -> Result<bool, String> {
        let revision = history.latest();
        let is_at_risk = |it: &Watcher| it.is_at_risk(floor);
        if self.watchers.values().any(is_at_risk) && self.tells_progress(revision) {
            let progress = message(RequestUnion::ProgressRequest(WatchProgressRequest {}));
            self.progress(&progress, &progress, revision).await?;
        }
        let ids: Vec<_> =
            self.watchers.iter().filter(|(_, it)| is_at_risk(it)).map(|(id, _)| *id).collect();
        if self.is_half_closed {
            return Ok(ids.is_empty());
        }
        for watch_id in ids {
            let cancel = WatchCancelRequest { watch_id };
            let request = message(RequestUnion::CancelRequest(cancel));
            self.cancel(&cancel, &request, &request, history).await?;
        }
        self.settle(history).await.map(|()| true)
    }

    /// What the watcher of everything was told since the last time, up to where the store is.
    async fn all_until(&mut self, history: &History) -> Result<Vec<Event>, String> {
        let revision = history.latest();
        let is_done = |told: &BTreeMap<i64, Told>| {
            let told = told.get(&ALL).map_or(0, |told| told.revision);
            let known = told.max(history.revision()).max(1);
            let missing = || format!("it knows {known}, and not {revision}");
            if known >= revision { Ok(()) } else { Err(missing()) }
        };
        self.until(history, is_done).await?;
        let (ours, theirs) = (self.ours.take(ALL), self.theirs.take(ALL));
        same_events(&ours.events, &theirs.events)?;
        Ok(theirs.events)
    }

    async fn until(
        &mut self,
        history: &History,
        is_done: impl Fn(&BTreeMap<i64, Told>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (ours, theirs) = tokio::join!(
            self.ours.until(&self.watchers, history, &is_done),
            self.theirs.until(&self.watchers, history, &is_done)
        );
        both(ours, theirs).map(drop)
    }

    async fn settle(&mut self, history: &History) -> Result<(), String> {
        let mut wanted = BTreeMap::new();
        for (id, watcher) in &self.watchers {
            let count = if watcher.is_cut { 0 } else { watcher.count_at(history, i64::MAX) };
            wanted.insert(*id, (count, usize::from(watcher.awaits_end)));
        }
        let is_done = |told: &BTreeMap<i64, Told>| {
            wanted.iter().try_for_each(|(id, wanted)| {
                let told = told.get(id).map_or((0, 0), |told| (told.count, told.ends.len()));
                let missing = || format!("watcher {id} was told {told:?}, not {wanted:?}");
                if told.0 >= wanted.0 && told.1 >= wanted.1 { Ok(()) } else { Err(missing()) }
            })
        };
        self.until(history, is_done).await?;
        for (id, watcher) in &mut self.watchers {
            let (ours, theirs) = (self.ours.take(*id), self.theirs.take(*id));
            let wanted = (!watcher.is_cut).then_some(wanted[id].0);
            let outcome = same_told(ours, theirs, wanted);
            outcome.map_err(|why| format!("watcher {id}: {why}, {watcher:?}"))?;
            watcher.settle(history);
            if watcher.is_canceled {
                self.ours.forget(*id);
                self.theirs.forget(*id);
            }
        }
        self.watchers.retain(|_, watcher| !watcher.is_canceled);
        Ok(())
    }
}

/// That a watcher was told the same by both, and so many events in all; any number, if it was
/// canceled meanwhile.
fn same_told(mut ours: Told, mut theirs: Told, wanted: Option<usize>) -> Result<(), String> {
    same("ends", &ours.ends, &theirs.ends)?;
    let Some(wanted) = wanted else {
        // While it cancels a watcher, etcd has already forgotten that it wants previous pairs.
        let count = ours.events.len().min(theirs.events.len());
        for told in [&mut ours, &mut theirs] {
            told.events.truncate(count);
            told.events.iter_mut().for_each(|event| event.prev_kv = None);
        }
        return same_events(&ours.events, &theirs.events);
    };
    same_events(&ours.events, &theirs.events)?;
    if ours.is_partial || theirs.is_partial {
        return Err("a part was sent, and no other follows".to_owned());
    }
    same("counts of events and of what there was to tell", &theirs.count, &wanted)
}

fn same_events(ours: &[Event], theirs: &[Event]) -> Result<(), String> {
    let count = ours.len().max(theirs.len());
    match (0..count).find(|at| ours.get(*at) != theirs.get(*at)) {
        Some(at) => same(&format!("events {at} of {count}"), &ours.get(at), &theirs.get(at)),
        None => Ok(()),
    }
}

/// What went well on both sides.
fn both<A, B>(ours: Result<A, String>, theirs: Result<B, String>) -> Result<(A, B), String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (Err(ours), Ok(_)) => Err(format!("ours: {ours}")),
        (Ok(_), Err(theirs)) => Err(format!("theirs: {theirs}")),
        (Err(ours), Err(theirs)) => Err(format!("ours: {ours}\n  theirs: {theirs}")),
    }
}
