//! Watchers: the hub between them and the shard, and what their clients do.

use super::{Act, Link, World};
use crate::client::{End, Heard};
use crate::dice::Dice;
use crate::planted::Bug;
use crate::swarm::Watching;
use crate::watches::{COMPACTED, DUPLICATE_ID, EMPTY_RANGE, StreamKey};
use pb::watch_request::RequestUnion;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::status::Status;
use ringd::api::watch::{Hub, Manner, Streams};
use ringd::shard::Input;
use ringd::shard::request::RequestId;
use ringd::shard::watch::{Batch, Slice, Told};
use ringd::types::Tick;
use std::sync::Arc;

const PATH: &str = "/etcdserverpb.Watch/Watch";
const STOPPED: &str = "etcdserver: server stopped";
/// Streams of watchers that one connection has at most.
const STREAMS_MAX: usize = 3;
/// The ids that clients choose are from here on; those that the server chooses are below.
const OWN_IDS: i64 = 1_000_000;
/// Rounds in which whoever watches must have got all, and know that it has.
const ROUNDS_MAX: usize = 2_000;

/// A hub whose watchers are on connections to this process.
pub(super) fn new_hub(how: &Watching, dice: &mut Dice) -> Hub {
    Hub::new(Manner {
        core: 0,
        seed: dice.next(),
        fragment_size: how.fragment_size,
        backlog_max: how.backlog_max,
        notify_interval: how.notify_interval,
    })
}

/// The streams of all connections.
struct Out<'a>(&'a mut [Link]);

impl Out<'_> {
    fn find(&mut self, to: RequestId) -> Option<&mut Link> {
        let at = usize::try_from(to.connection).expect("64 bits");
        self.0.get_mut(at).filter(|link| link.generation == to.generation)
    }
}

impl Streams for Out<'_> {
    fn push(&mut self, to: RequestId, messages: &[u8]) -> Option<usize> {
        self.find(to)?.session.push(to.stream, messages)
    }

    fn queued(&mut self, to: RequestId) -> Option<usize> {
        self.find(to)?.session.queued(to.stream)
    }

    fn want_room(&mut self, to: RequestId, wanted: bool) {
        if let Some(link) = self.find(to) {
            link.session.want_room(to.stream, wanted);
        }
    }

    fn end(&mut self, to: RequestId, status: &Status) {
        if let Some(link) = self.find(to) {
            link.session.finish(to.stream, status);
        }
    }
}

impl World {
    /// Those who watch ask the shard.
    pub(super) fn ask_watched(&mut self) {
        while let Some(ask) = self.hub.poll() {
            self.shard.handle(Input::Watch(ask));
        }
    }

    /// Time passes for those who watch.
    pub(super) fn tick_watches(&mut self) {
        self.hub.tick(Tick(self.now), &mut Out(&mut self.links));
    }

    /// The shard tells those who watch; from now on somebody may know of it.
    pub(super) fn hand_out(&mut self, told: Told) {
        self.is_changed = true;
        match &told {
            Told::Events { batch, .. } => self.oracle.heard_at(batch.header.revision.0, None),
            Told::Subscribed { header, .. } | Told::Moved { header, .. } => {
                self.oracle.heard_at(header.revision.0, None);
            }
            Told::Replayed { slice: Slice::Events { header, .. }, .. } => {
                self.oracle.heard_at(header.revision.0, None);
            }
            Told::Replayed { slice: Slice::Compacted { header, floor }, .. } => {
                self.oracle.heard_at(header.revision.0, Some(floor.0));
            }
            Told::Replayed { slice: Slice::Busy, .. } => {}
        }
        for told in self.spoil(told) {
            self.hub.told(told, &mut Out(&mut self.links));
        }
    }

    /// What the hub is told, which is what the shard tells unless a bug is planted.
    fn spoil(&mut self, told: Told) -> Vec<Told> {
        let with = |batch: Batch| Told::Events { cores: vec![0], batch: Arc::new(batch) };
        match told {
            Told::Events { batch, .. } if self.has(Bug::LostEvent, 10) => {
                let mut batch = Batch::clone(&batch);
                batch.events.pop();
                vec![with(batch)]
            }
            Told::Events { batch, .. }
                if batch.events.len() > 1 && self.has(Bug::SwappedEvents, 50) =>
            {
                let mut batch = Batch::clone(&batch);
                batch.events.reverse();
                vec![with(batch)]
            }
            Told::Events { .. } if self.has(Bug::RepeatedBatch, 10) => vec![told.clone(), told],
            Told::Events { .. } if self.late_batch.is_none() && self.has(Bug::LateBatch, 30) => {
                self.late_batch = Some(told);
                Vec::new()
            }
            Told::Replayed { to, slice: Slice::Events { header, mut events, until } }
                if self.has(Bug::LostPast, 30) =>
            {
                events.pop();
                vec![Told::Replayed { to, slice: Slice::Events { header, events, until } }]
            }
            told @ (Told::Subscribed { .. }
            | Told::Events { .. }
            | Told::Moved { .. }
            | Told::Replayed { .. }) => {
                [Some(told), self.late_batch.take()].into_iter().flatten().collect()
            }
        }
    }

    /// Somebody does something about watchers.
    pub(super) fn watch(&mut self) {
        if !self.is_serving {
            return;
        }
        let streams = self.streams();
        let dice = &mut self.watch_dice;
        let lot = dice.below(100);
        let some = |dice: &mut Dice| (!streams.is_empty()).then(|| dice.pick(&streams));
        let idle = self.watches.idle();
        if lot < 45 {
            if !idle.is_empty() {
                let follower = dice.pick(&idle);
                if dice.chance(15) {
                    self.change_wish(follower);
                }
                self.begin_watcher(follower);
            }
            return;
        }
        let Some((at, stream, is_read)) = some(dice) else { return };
        self.note(Act::Watch(at, stream));
        let key = (self.links[at].generation, stream);
        let ids = self.watches.ids(key);
        let dice = &mut self.watch_dice;
        match lot {
            45..65 => self.send_watch(
                at,
                stream,
                RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
            ),
            65..75 if !ids.is_empty() => {
                let watch_id = dice.pick(&ids);
                self.watches.cancel(key, watch_id);
                let cancel = pb::WatchCancelRequest { watch_id };
                self.send_watch(at, stream, RequestUnion::CancelRequest(cancel));
            }
            75..78 => {
                let cancel = pb::WatchCancelRequest { watch_id: OWN_IDS - 1 };
                self.send_watch(at, stream, RequestUnion::CancelRequest(cancel));
            }
            78..83 => self.ask_in_vain(at, stream, &ids),
            83..86 => {
                self.links[at].client.abandon(stream);
                self.watches.end(key);
            }
            _ => {
                let stalls = is_read && self.swarm.watches.stalls;
                self.links[at].client.stall(stream, stalls);
            }
        }
    }

    /// Every stream of watchers: its connection, its number, and whether it is read.
    fn streams(&self) -> Vec<(usize, u32, bool)> {
        let links = self.links.iter().enumerate();
        let open = links.filter(|(_, link)| !link.is_closing);
        open.flat_map(|(at, link)| link.client.streams().map(move |it| (at, it.0, it.1))).collect()
    }

    /// A follower wants something else.
    fn change_wish(&mut self, follower: usize) {
        let revision = self.oracle.revision();
        let (wish, start) = self.swarm.wish(revision, &mut self.watch_dice);
        self.watches.change(follower, wish, start);
    }

    /// A follower asks for its watcher, on some stream.
    fn begin_watcher(&mut self, follower: usize) {
        let open = (0..self.links.len()).filter(|&at| !self.links[at].is_closing);
        let open: Vec<usize> = open.collect();
        if open.is_empty() {
            return;
        }
        let at = self.watch_dice.pick(&open);
        self.note(Act::Watch(at, 0));
        let dice = &mut self.watch_dice;
        let link = &mut self.links[at];
        let streams: Vec<u32> = link.client.streams().map(|stream| stream.0).collect();
        let is_new = streams.is_empty() || (streams.len() < STREAMS_MAX && dice.chance(30));
        let stream = if is_new { link.client.open(PATH, dice) } else { dice.pick(&streams) };
        self.watch_id += 1;
        let id = dice.chance(50).then_some(OWN_IDS + self.watch_id);
        let told = self.oracle.told();
        let create = self.watches.ask(follower, (link.generation, stream), id, told);
        self.send_watch(at, stream, RequestUnion::CreateRequest(create));
    }

    /// A client asks for a watcher that no server gives.
    fn ask_in_vain(&mut self, at: usize, stream: u32, ids: &[i64]) {
        let key = bytes::Bytes::from_static(b"key1");
        let mut create = pb::WatchCreateRequest { key, ..pb::WatchCreateRequest::default() };
        let why = match self.watch_dice.below(3) {
            0 if ids.iter().any(|id| *id != 0) => {
                create.watch_id = *ids.iter().find(|id| **id != 0).expect("there is one");
                DUPLICATE_ID
            }
            1 => {
                create.start_revision = -1;
                COMPACTED
            }
            _ => {
                create.range_end = bytes::Bytes::from_static(b"key0");
                EMPTY_RANGE
            }
        };
        self.watches.ask_in_vain((self.links[at].generation, stream), why);
        self.send_watch(at, stream, RequestUnion::CreateRequest(create));
    }

    fn send_watch(&mut self, at: usize, stream: u32, request: RequestUnion) {
        let message = pb::WatchRequest { request_union: Some(request) }.encode_to_vec();
        self.links[at].client.send(stream, &message, &mut self.watch_dice);
    }

    /// A client has read what came on its streams of watchers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn hear(&mut self, at: usize) -> Result<(), String> {
        let link = &mut self.links[at];
        for (stream, heard) in link.client.take_heard() {
            let key = (link.generation, stream);
            match heard {
                Heard::Message(bytes) => self.watches.hear(key, &bytes, self.oracle.model())?,
                Heard::Over(End::Reset) => self.watches.end(key),
                Heard::Over(End::Status(14, text)) if text == STOPPED && self.is_stopping => {
                    self.watches.end(key);
                }
                Heard::Over(end) => return Err(format!("watch {key:?} ended: {end:?}")),
            }
        }
        Ok(())
    }

    /// Everyone reads what comes, and whoever has no watcher asks for one.
    pub(super) fn watch_quietly(&mut self) {
        for (at, stream, _) in self.streams() {
            self.links[at].client.stall(stream, false);
        }
        if self.is_serving && !self.is_stopping {
            for follower in self.watches.idle() {
                self.begin_watcher(follower);
            }
        }
    }

    /// Nothing breaks any more: whoever watches gets all, and is told so if it asks.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn let_watchers_catch_up(&mut self) -> Result<(), String> {
        let mut rounds = 0;
        while let Some(lack) = self.watches.lacks(self.oracle.model()) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("watchers do not catch up: {lack}"));
            }
            self.quiet_round()?;
        }
        let now = self.oracle.revision();
        let answers = self.watches.answers_progress(now);
        let is_told = |world: &Self, key: &StreamKey| world.watches.progress(*key) == now;
        while let Some(key) = answers.iter().find(|key| !is_told(self, key)) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("watch {key:?} is not told of progress to {now}"));
            }
            for (at, stream, _) in self.streams() {
                let key = (self.links[at].generation, stream);
                if answers.contains(&key) && !is_told(self, &key) {
                    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    self.send_watch(at, stream, request);
                }
            }
            self.quiet_round()?;
        }
        Ok(())
    }
}
