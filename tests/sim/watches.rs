//! What watchers may be told: every response is held against the list of all that happened.
//!
//! A *follower* wants to know all changes of some keys, and goes on after whatever befalls it: its
//! connection is cut, the node ends, its watcher is canceled. Each time it asks from the revision
//! after the last that it knows. A *watcher* is one such asking, on one stream.

use crate::model::{Event, Keys, Model};
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb;
use std::collections::{BTreeMap, VecDeque};

/// Why a watcher is refused.
pub(crate) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
pub(crate) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A connection's generation, and a stream of it.
pub(crate) type StreamKey = (u32, u32);

/// What a follower wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) keys: Keys,
    pub(crate) prev_kv: bool,
    pub(crate) puts: bool,
    pub(crate) deletes: bool,
    pub(crate) fragment: bool,
    pub(crate) notify: bool,
}

/// What was met on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    /// Watchers that were created, and those that were refused or canceled.
    pub(crate) created: u64,
    pub(crate) refused: u64,
    pub(crate) canceled: u64,
    /// Of those created, the ones that went on from where another had ended.
    pub(crate) resumed: u64,
    /// Watchers whose past was compacted.
    pub(crate) compacted: u64,
    /// Events told, those of them with the pair before, and responses that were not whole.
    pub(crate) events: u64,
    pub(crate) prevs: u64,
    pub(crate) fragments: u64,
    /// Reports of progress, of one watcher or of all.
    pub(crate) progress: u64,
}

impl Met {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.refused += other.refused;
        self.canceled += other.canceled;
        self.resumed += other.resumed;
        self.compacted += other.compacted;
        self.events += other.events;
        self.prevs += other.prevs;
        self.fragments += other.fragments;
        self.progress += other.progress;
    }
}

/// One who follows some keys, over all its watchers.
#[derive(Debug)]
struct Follower {
    wish: Wish,
    /// The first revision that it wants; 0 is whatever comes next.
    start: i64,
    /// All that it was told.
    told: Vec<mvccpb::Event>,
    /// Where its watcher is.
    at: Option<StreamKey>,
}

/// A watcher that was created.
#[derive(Debug)]
struct Watcher {
    follower: usize,
    wish: Wish,
    /// The first revision that it wants, if that was to come.
    early: i64,
    /// It knows all up to here.
    at: i64,
    /// The highest revision that a header of its own had.
    header: i64,
    /// The events of a response that is not whole yet.
    parts: Vec<mvccpb::Event>,
    /// It was asked to be canceled.
    is_leaving: bool,
    /// Its past was compacted: it is told nothing any more.
    is_over: bool,
}

/// What is due for a creation that was asked for.
#[derive(Debug)]
enum Pending {
    /// A watcher, of an id if its client chose one, from the start that its follower has; the
    /// revision that anybody knew of when it was sent.
    Watcher {
        follower: usize,
        id: Option<i64>,
        told: i64,
    },
    Refused(&'static str),
}

/// One stream of watchers.
#[derive(Debug, Default)]
struct Stream {
    pending: VecDeque<Pending>,
    watchers: BTreeMap<i64, Watcher>,
    /// The last report of all watchers' progress.
    progress: i64,
}

/// Everyone who watches.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    followers: Vec<Follower>,
    streams: BTreeMap<StreamKey, Stream>,
    pub(crate) met: Met,
}

impl Watches {
    /// One more who follows: its number.
    pub(crate) fn follow(&mut self, wish: Wish, start: i64) -> usize {
        self.followers.push(Follower { wish, start, told: Vec::new(), at: None });
        self.followers.len() - 1
    }

    /// A follower wants something else from now on.
    pub(crate) fn change(&mut self, follower: usize, wish: Wish, start: i64) {
        let follower = &mut self.followers[follower];
        assert!(follower.at.is_none(), "it follows nothing");
        (follower.wish, follower.start) = (wish, start);
    }

    /// Those who have no watcher.
    pub(crate) fn idle(&self) -> Vec<usize> {
        let is_idle = |nth: &usize| self.followers[*nth].at.is_none();
        (0..self.followers.len()).filter(is_idle).collect()
    }

    /// A client asks for a follower's watcher: what it sends.
    pub(crate) fn ask(
        &mut self,
        follower: usize,
        at: StreamKey,
        id: Option<i64>,
        told: i64,
    ) -> pb::WatchCreateRequest {
        let one = &mut self.followers[follower];
        one.at = Some(at);
        let wish = &one.wish;
        let drops = [(0, !wish.puts), (1, !wish.deletes)];
        let request = pb::WatchCreateRequest {
            key: wish.keys.key.clone().into(),
            range_end: wish.keys.end.clone().into(),
            start_revision: one.start,
            progress_notify: wish.notify,
            filters: drops.iter().filter(|(_, drops)| *drops).map(|(kind, _)| *kind).collect(),
            prev_kv: wish.prev_kv,
            watch_id: id.unwrap_or(0),
            fragment: wish.fragment,
        };
        let pending = Pending::Watcher { follower, id, told };
        self.streams.entry(at).or_default().pending.push_back(pending);
        request
    }

    /// A client asks for a watcher that is to be refused.
    pub(crate) fn ask_in_vain(&mut self, at: StreamKey, why: &'static str) {
        self.streams.entry(at).or_default().pending.push_back(Pending::Refused(why));
    }

    /// The watchers of a stream that were not asked to go.
    pub(crate) fn ids(&self, at: StreamKey) -> Vec<i64> {
        let Some(stream) = self.streams.get(&at) else { return Vec::new() };
        let stays = stream.watchers.iter().filter(|(_, watcher)| !watcher.is_leaving);
        stays.map(|(id, _)| *id).collect()
    }

    /// A client asks for a watcher to be canceled.
    pub(crate) fn cancel(&mut self, at: StreamKey, id: i64) {
        let stream = self.streams.get_mut(&at).expect("it has the watcher");
        stream.watchers.get_mut(&id).expect("one of its own").is_leaving = true;
    }

    /// A stream is over: whoever watched on it goes on elsewhere.
    pub(crate) fn end(&mut self, at: StreamKey) {
        let Some(stream) = self.streams.remove(&at) else { return };
        for watcher in stream.watchers.values().filter(|watcher| !watcher.is_over) {
            self.followers[watcher.follower].start = watcher.at + 1;
        }
        for follower in self.followers.iter_mut().filter(|it| it.at == Some(at)) {
            follower.at = None;
        }
    }

    /// The streams of one connection are over, or of all.
    pub(crate) fn lose(&mut self, generation: Option<u32>) {
        let is_lost = |at: &&StreamKey| generation.is_none_or(|it| it == at.0);
        let lost: Vec<StreamKey> = self.streams.keys().filter(is_lost).copied().collect();
        lost.into_iter().for_each(|at| self.end(at));
    }

    /// A client has read a response.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn hear(
        &mut self,
        at: StreamKey,
        bytes: &[u8],
        model: &Model,
    ) -> Result<(), String> {
        let response = pb::WatchResponse::decode(bytes).map_err(|error| error.to_string())?;
        let stream = self.streams.get_mut(&at).ok_or("a response where nobody watches")?;
        let heard = Hearing { stream, followers: &mut self.followers, met: &mut self.met, model };
        heard.take(&response).map_err(|why| {
            let mut head = response.clone();
            let events = std::mem::take(&mut head.events);
            let at_revision = |event: &mvccpb::Event| event.kv.as_ref().map(|kv| kv.mod_revision);
            let revisions: Vec<_> = events.iter().map(at_revision).collect();
            format!("watch {at:?}: {why}; {head:?} with events at {revisions:?}")
        })
    }

    /// What was told to anyone has still happened.
    ///
    /// # Errors
    /// What was taken back.
    pub(crate) fn check_told(&self, model: &Model) -> Result<(), String> {
        for told in self.followers.iter().flat_map(|follower| &follower.told) {
            let kv = told.kv.as_ref().expect("held against the model before");
            let mut events = model.events().iter();
            let event = events.find(|it| (it.revision, &it.key[..]) == (kv.mod_revision, &kv.key));
            if event.is_none_or(|event| due_pair(model, event) != *kv) {
                return Err(format!("a watcher was told what never happened: {kv:?}"));
            }
        }
        Ok(())
    }

    /// What somebody still lacks, once all is at rest.
    pub(crate) fn lacks(&self, model: &Model) -> Option<String> {
        if let Some(nth) = self.followers.iter().position(|follower| follower.at.is_none()) {
            return Some(format!("follower {nth} has no watcher"));
        }
        let now = model.revision();
        for (at, stream) in &self.streams {
            if !stream.pending.is_empty() {
                return Some(format!("{at:?} waits for {:?}", stream.pending));
            }
            for (id, watcher) in &stream.watchers {
                let has_all = due(model, &watcher.wish, watcher.at, now).next().is_none();
                if watcher.is_leaving || !(watcher.is_over || has_all) {
                    return Some(format!("{id} of {at:?} is at {} of {now}", watcher.at));
                }
            }
        }
        None
    }

    /// The streams of which all watchers are as far as can be, at rest, and which so must answer
    /// that all is told.
    pub(crate) fn answers_progress(&self, now: i64) -> Vec<StreamKey> {
        let is_live = |watcher: &Watcher| !watcher.is_over && watcher.early <= now;
        let all =
            |stream: &Stream| !stream.watchers.is_empty() && stream.watchers.values().all(is_live);
        let found = self.streams.iter().filter(|(_, stream)| all(stream));
        found.map(|(at, _)| *at).collect()
    }

    /// The revision of a stream's last report of progress.
    pub(crate) fn progress(&self, at: StreamKey) -> i64 {
        self.streams.get(&at).map_or(0, |stream| stream.progress)
    }
}

/// A response on its way to one stream's watchers.
struct Hearing<'a> {
    stream: &'a mut Stream,
    followers: &'a mut Vec<Follower>,
    met: &'a mut Met,
    model: &'a Model,
}

impl Hearing<'_> {
    fn take(self, response: &pb::WatchResponse) -> Result<(), String> {
        let header = response.header.as_ref().ok_or("no header")?;
        let (revision, id) = (header.revision, response.watch_id);
        if revision > self.model.revision() {
            return Err(format!("nobody has made more than {}", self.model.revision()));
        }
        if response.fragment && response.events.is_empty() {
            return Err("a fragment of nothing".to_owned());
        }
        if response.created {
            return self.created(response, revision);
        }
        if id == -1 {
            return self.progress_of_all(response, revision);
        }
        let known = self.stream.watchers.get_mut(&id);
        let watcher = known.ok_or("it is not created, or it is canceled")?;
        if response.canceled {
            return self.canceled(response, revision);
        }
        if watcher.is_over {
            return Err("it was told that its past is compacted".to_owned());
        }
        if revision < watcher.header {
            return Err(format!("the header was at {} before", watcher.header));
        }
        watcher.header = revision;
        if response.events.is_empty() {
            if !watcher.wish.notify {
                return Err("it did not ask for progress".to_owned());
            }
            self.met.progress += 1;
            return progress(watcher, revision, self.model);
        }
        self.events(response, revision)
    }

    fn created(self, response: &pb::WatchResponse, revision: i64) -> Result<(), String> {
        let pending = self.stream.pending.pop_front().ok_or("nobody asked for it")?;
        if !response.events.is_empty() || response.compact_revision != 0 {
            return Err("a creation with more than that".to_owned());
        }
        let (follower, id, told) = match pending {
            Pending::Watcher { follower, id, told } => (follower, id, told),
            Pending::Refused(why) => {
                let is_told = response.canceled && response.cancel_reason == why;
                self.met.refused += 1;
                let is_due = is_told && response.watch_id == -1;
                return if is_due { Ok(()) } else { Err(format!("due is {why:?}")) };
            }
        };
        let own = response.watch_id;
        if response.canceled || self.stream.watchers.contains_key(&own) {
            return Err("a watcher is due, of an id of its own".to_owned());
        }
        if id.is_some_and(|id| id != own) || own < 0 {
            return Err(format!("due is the id {id:?}"));
        }
        if revision < told {
            return Err(format!("{told} was told before"));
        }
        let one = &self.followers[follower];
        self.met.created += 1;
        self.met.resumed += u64::from(!one.told.is_empty());
        let from = if one.start == 0 { revision + 1 } else { one.start };
        let watcher = Watcher {
            follower,
            wish: one.wish.clone(),
            early: if one.start > revision { one.start } else { 0 },
            at: from - 1,
            header: revision,
            parts: Vec::new(),
            is_leaving: false,
            is_over: false,
        };
        self.stream.watchers.insert(own, watcher);
        Ok(())
    }

    fn canceled(self, response: &pb::WatchResponse, revision: i64) -> Result<(), String> {
        let id = response.watch_id;
        let watcher = self.stream.watchers.get_mut(&id).expect("looked for");
        if !response.events.is_empty() {
            return Err("a cancel with events".to_owned());
        }
        let floor = response.compact_revision;
        let follower = &mut self.followers[watcher.follower];
        if floor != 0 {
            if watcher.is_over || watcher.at + 1 >= floor || floor > self.model.floor() {
                let at = watcher.at;
                return Err(format!("all to {at} was told, the floor {}", self.model.floor()));
            }
            if revision != 0 {
                return Err("a header with a revision".to_owned());
            }
            self.met.compacted += 1;
            watcher.is_over = true;
            (follower.at, follower.start) = (None, floor);
            return Ok(());
        }
        if !watcher.is_leaving {
            return Err("nobody canceled it".to_owned());
        }
        self.met.canceled += 1;
        if !watcher.is_over {
            (follower.at, follower.start) = (None, watcher.at + 1);
        }
        self.stream.watchers.remove(&id);
        Ok(())
    }

    fn progress_of_all(self, response: &pb::WatchResponse, revision: i64) -> Result<(), String> {
        if response.canceled || !response.events.is_empty() {
            return Err("more than progress".to_owned());
        }
        self.met.progress += 1;
        self.stream.progress = revision;
        let (mut watchers, model) = (self.stream.watchers.values_mut(), self.model);
        watchers.try_for_each(|watcher| match watcher.is_over {
            true => Err("progress of one that is over".to_owned()),
            false => progress(watcher, revision, model),
        })
    }

    fn events(self, response: &pb::WatchResponse, revision: i64) -> Result<(), String> {
        let watcher = self.stream.watchers.get_mut(&response.watch_id).expect("looked for");
        if response.fragment && !watcher.wish.fragment {
            return Err("it did not ask for fragments".to_owned());
        }
        self.met.fragments += u64::from(response.fragment);
        watcher.parts.extend(response.events.iter().cloned());
        if response.fragment {
            return Ok(());
        }
        let told = std::mem::take(&mut watcher.parts);
        let last = told.last().and_then(|event| event.kv.as_ref()).ok_or("an event of nothing")?;
        let last = last.mod_revision;
        if revision < last {
            return Err("the header is behind its events".to_owned());
        }
        let due: Vec<&Event> = due(self.model, &watcher.wish, watcher.at, last).collect();
        if due.len() != told.len() {
            let due: Vec<i64> = due.iter().map(|event| event.revision).collect();
            return Err(format!("after {}, due are {due:?}", watcher.at));
        }
        for (event, told) in due.into_iter().zip(&told) {
            check_event(self.model, &watcher.wish, event, told)?;
            self.met.prevs += u64::from(told.prev_kv.is_some());
        }
        self.met.events += u64::try_from(told.len()).expect("64 bits");
        watcher.at = last;
        self.followers[watcher.follower].told.extend(told);
        Ok(())
    }
}

/// A watcher is told that it knows all up to `revision`.
fn progress(watcher: &mut Watcher, revision: i64, model: &Model) -> Result<(), String> {
    if !watcher.parts.is_empty() || revision < watcher.at {
        return Err(format!("progress of one that is at {}", watcher.at));
    }
    if let Some(event) = due(model, &watcher.wish, watcher.at, revision).next() {
        let (at, missing) = (watcher.at, event.revision);
        return Err(format!("progress of one that is at {at}, and lacks {missing}"));
    }
    watcher.at = revision;
    Ok(())
}

/// What is to be told after one revision, up to another.
fn due<'m>(
    model: &'m Model,
    wish: &'m Wish,
    after: i64,
    until: i64,
) -> impl Iterator<Item = &'m Event> {
    model.events().iter().filter(move |event| {
        let is_kind = if event.value.is_some() { wish.puts } else { wish.deletes };
        let is_in_time = event.revision > after && event.revision <= until;
        is_in_time && is_kind && wish.keys.contains(&event.key)
    })
}

/// The pair that an event shows.
fn due_pair(model: &Model, event: &Event) -> mvccpb::KeyValue {
    if event.value.is_some() {
        let rows = model.rows(&Keys::one(&event.key), event.revision);
        return rows.first().expect("it was put").pair();
    }
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(&event.key),
        mod_revision: event.revision,
        ..mvccpb::KeyValue::default()
    }
}

fn check_event(
    model: &Model,
    wish: &Wish,
    event: &Event,
    told: &mvccpb::Event,
) -> Result<(), String> {
    let due = due_pair(model, event);
    if told.kv.as_ref() != Some(&due) || told.r#type != i32::from(event.value.is_none()) {
        return Err(format!("told {told:?}, due {due:?}"));
    }
    let before = event.revision - 1;
    let rows = model.rows(&Keys::one(&event.key), before);
    let prev = rows.first().filter(|_| wish.prev_kv).map(|row| row.pair());
    let is_forgotten = told.prev_kv.is_none() && before < model.floor();
    if told.prev_kv != prev && !is_forgotten {
        return Err(format!("told {told:?}, due before it {prev:?}"));
    }
    Ok(())
}
