//! The watchers of one core on one shard: which of them sees what, and when it is sent.
//!
//! A hub subscribes to its shard once and is told every batch of changes. It finds out who sees
//! each, encodes a change once however many they are, and hands each stream all that it gets of a
//! batch in one piece. Every watcher is in one of two states that matter: *live*, it has been given
//! all that the hub was told; or *behind*, from a revision on. A watcher falls behind when its
//! stream takes no more, or when the pair before a change is not in memory. Whoever is behind reads
//! the past from the shard, in slices, each asked for when its stream has sent all it had: so a
//! slow client holds little memory and holds nobody up, and none is dropped for being slow.
//!
//! What clients ask (create, cancel, progress) is answered at a revision of the shard's own, in the
//! order asked: the questions wait until the shard has told it, which on its own core is the same
//! turn.
//!
//! **Invariant:** a live watcher has been given every change that it sees up to [`Hub::seen`]; one
//! that is behind every change before the revision it is behind from; and neither any change twice.
//!
//! **Invariant:** all of a revision that a watcher sees is in one message, unless it asked for
//! fragments.
//!
//! # Source
//! etcd: `server/etcdserver/api/v3rpc/watch.go`, `server/storage/mvcc/watchable_store.go`. There a
//! watcher that is behind is looked after by a loop over all of them, every 100 ms.

mod deliver;
mod encode;
mod message;
#[cfg(test)]
mod tests;

pub use self::message::Create;
pub use self::message::WatchRequest;

use self::message::CREATE_REFUSED;
use self::message::Control;
use crate::api::status::Status;
use crate::mvcc::Watchers;
use crate::shard::request::Header;
use crate::shard::request::RequestId;
use crate::shard::watch::Ask;
use crate::shard::watch::Asker;
use crate::shard::watch::Past;
use crate::shard::watch::Slice;
use crate::shard::watch::Told;
use crate::types::Revision;
use crate::types::Tick;
use slab::Slab;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

/// [`Manner::backlog_max`] of a server. 64 KiB: a window's worth of a client that reads; a slow
/// stream costs so much and a batch.
pub const BACKLOG_MAX: usize = 64 << 10;
/// Slices of the past asked for at a time for one stream: many small ones take one turn.
const READS_MAX: usize = 16;
/// Bytes of the smallest slice asked for.
const READ_SIZE_MIN: usize = 4 << 10;
/// Questions that may wait for the shard. 65,536: a core's clients that all come back at once; the
/// stream of one more ends.
const INBOX_MAX: usize = 1 << 16;
/// Bytes of the same, with the same end. 64 MiB: forty of etcd's largest.
const INBOX_SIZE_MAX: usize = 64 << 20;

/// What a hub sends to.
pub trait Streams {
    /// Sends whole messages on a stream: how many bytes wait there afterwards; none if it is gone.
    fn push(&mut self, to: RequestId, messages: &[u8]) -> Option<usize>;

    /// How many bytes wait on a stream now; none if it is gone.
    fn queued(&mut self, to: RequestId) -> Option<usize>;

    /// Whether the hub wants to be told, by [`Hub::pulled`], when nothing waits on a stream and its
    /// client takes more.
    fn want_room(&mut self, to: RequestId, wanted: bool);

    /// Ends a stream.
    fn end(&mut self, to: RequestId, status: &Status);
}

/// What a hub is told once.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The core it is on.
    pub core: u32,
    /// Feeds what no client may foresee.
    pub seed: u64,
    /// Bytes of a message from which it is cut, for whoever asked for that: `--max-request-bytes`
    /// and half a MiB.
    pub fragment_size: usize,
    /// Bytes that may wait on a stream for its window, beyond which its watchers fall behind:
    /// [`BACKLOG_MAX`].
    pub backlog_max: usize,
    /// Milliseconds of silence after which a watcher that asked for it is told how far all is
    /// (`--watch-progress-notify-interval`).
    pub notify_interval: u64,
}

/// How far a watcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It gets what comes. ─its stream takes no more→ `Behind`.
    Live,
    /// In its stream's queue. ─its stream has room→ `Reading`; ─it is cancelled→ `Gone`.
    Behind,
    /// A slice of the past is under way. ─the present is reached→ `Live`; ─not yet→ `Behind`;
    /// ─what it needs is compacted→ `Over`.
    Reading,
    /// It gets nothing any more, and its id stays taken until its client cancels it.
    Over,
    /// Cancelled while it was behind: nothing is left of it but its place in the queue.
    Gone,
}

/// One watcher.
#[derive(Debug)]
struct Watcher {
    /// Its stream's slot.
    stream: u32,
    id: i64,
    /// The first revision that it was not given; no earlier one is for it. Not moved while it is
    /// live.
    next: Revision,
    state: State,
    prev_kv: bool,
    puts: bool,
    deletes: bool,
    fragment: bool,
    notify: bool,
    /// It asked for a revision that is still to come, for all it has met.
    is_early: bool,
    /// It got nothing since its stream was last looked at for progress.
    is_quiet: bool,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    at: RequestId,
    /// Its watchers' slots by their ids.
    ids: BTreeMap<i64, u32>,
    next_id: i64,
    /// Bytes that waited on it when it was last sent to, or looked at.
    backlog: usize,
    /// Its watchers that are behind, in turn, and those that were cancelled there: half at most.
    behind: VecDeque<u32>,
    /// Slices under way.
    reads: usize,
    /// How many in the queue were cancelled.
    gone: u32,
    /// Watchers that want to be told of progress.
    notified: u32,
    /// When they are to be told next.
    notify_at: Tick,
}

/// The watchers of one core on one shard.
#[derive(Debug)]
pub struct Hub {
    manner: Manner,
    watchers: Watchers,
    slots: Slab<Watcher>,
    streams: Slab<Stream>,
    by_id: BTreeMap<RequestId, u32>,
    /// What was told last, at its revision.
    seen: Header,
    /// Questions that wait for the shard, in order, and bytes of them.
    inbox: VecDeque<(RequestId, WatchRequest)>,
    inbox_size: usize,
    /// How many have left the inbox: the number of its first.
    inbox_first: u64,
    /// The first and the last number that a stream has there; those before are of one that is gone.
    asking: BTreeMap<RequestId, (u64, u64)>,
    /// How many of them the subscription under way answers, and its token.
    asked: Option<(usize, u64)>,
    is_subscribed: bool,
    /// Some watcher has asked for the pairs before changes.
    wants_prev: bool,
    /// Whose slices are under way, and their tokens, whose lower halves are these slots.
    reading: BTreeMap<u32, u64>,
    asks: VecDeque<Ask>,
    /// Streams that end because too much waits.
    refused: Vec<RequestId>,
    /// Streams that were found gone.
    lost: Vec<RequestId>,
    /// When which stream is to be told of progress.
    notifying: BTreeSet<(Tick, u32)>,
    /// Streams whose slice the shard had no time for.
    busy: BTreeSet<u32>,
    token: u64,
    now: Tick,
    deliver: deliver::Scratch,
}

impl Hub {
    /// No watchers yet.
    #[must_use]
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            watchers: Watchers::new(manner.seed),
            slots: Slab::new(),
            streams: Slab::new(),
            by_id: BTreeMap::new(),
            seen: Header::default(),
            inbox: VecDeque::new(),
            inbox_size: 0,
            inbox_first: 0,
            asking: BTreeMap::new(),
            asked: None,
            is_subscribed: false,
            wants_prev: false,
            reading: BTreeMap::new(),
            asks: VecDeque::new(),
            refused: Vec::new(),
            lost: Vec::new(),
            notifying: BTreeSet::new(),
            busy: BTreeSet::new(),
            token: 0,
            now: Tick::default(),
            deliver: deliver::Scratch::default(),
        }
    }

    /// How many watchers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nobody watches and nobody asks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.inbox.is_empty() && self.asks.is_empty()
    }

    /// The revision up to which live watchers have been given all.
    #[must_use]
    pub fn seen(&self) -> Revision {
        self.seen.revision
    }

    /// A client asks, on a stream of `Watch`.
    pub fn handle(&mut self, from: RequestId, request: WatchRequest) {
        let size = self.inbox_size + request.size();
        if self.inbox.len() >= INBOX_MAX || size > INBOX_SIZE_MAX {
            self.refused.push(from);
            return;
        }
        if let WatchRequest::Create(create) = &request {
            self.wants_prev |= create.prev_kv;
        }
        let number = self.inbox_first + u64::try_from(self.inbox.len()).expect("it is bounded");
        self.asking.entry(from).or_insert((number, number)).1 = number;
        self.inbox_size = size;
        self.inbox.push_back((from, request));
    }

    /// The next question, and whether it is still to be answered.
    fn next_question(&mut self) -> (RequestId, Option<WatchRequest>) {
        let (from, request) = self.inbox.pop_front().expect("so many were counted");
        let number = self.inbox_first;
        self.inbox_first += 1;
        self.inbox_size -= request.size();
        let asked = self.asking.get(&from).copied().filter(|(first, _)| *first <= number);
        if asked.is_some_and(|(_, last)| last == number) {
            self.asking.remove(&from);
        }
        (from, asked.map(|_| request))
    }

    /// A stream is gone, and nobody waits for what is on its way to it.
    pub fn forget(&mut self, at: RequestId) {
        // What it asked before stays where it is, to be passed over: to look for it among all that
        // is asked would take as long as there are streams that end.
        self.asking.remove(&at);
        let Some(slot) = self.by_id.remove(&at) else { return };
        let stream = self.streams.remove(index(slot));
        self.notifying.remove(&(stream.notify_at, slot));
        for watcher in stream.behind {
            if self.slots[index(watcher)].state == State::Gone {
                self.slots.remove(index(watcher));
            }
        }
        for watcher in stream.ids.into_values() {
            self.drop_watcher(watcher);
        }
        self.busy.remove(&slot);
        if self.streams.is_empty() && self.is_subscribed && self.inbox.is_empty() {
            self.is_subscribed = false;
            self.wants_prev = false;
            self.asks.push_back(Ask::Unsubscribe { core: self.manner.core });
        }
    }

    fn drop_watcher(&mut self, slot: u32) {
        let state = self.slots.remove(index(slot)).state;
        if state != State::Over {
            self.watchers.remove(slot);
        }
        if state == State::Reading {
            let token = self.reading.remove(&slot).expect("a slice is under way");
            self.asks.push_back(Ask::Forget { from: Asker { core: self.manner.core, token } });
        }
    }

    /// What to ask of the shard next; to be asked until there is nothing.
    pub fn poll(&mut self) -> Option<Ask> {
        if self.asked.is_none() && !self.inbox.is_empty() {
            let from = self.asker();
            self.asked = Some((self.inbox.len(), from.token));
            self.is_subscribed = true;
            self.asks.push_back(Ask::Subscribe { from, prev_kv: self.wants_prev });
        }
        self.asks.pop_front()
    }

    fn asker(&mut self) -> Asker {
        self.token += 1;
        Asker { core: self.manner.core, token: self.token }
    }

    /// The shard has told something.
    pub fn told(&mut self, told: Told, streams: &mut impl Streams) {
        match told {
            Told::Events { batch, .. } => self.publish(&batch, streams),
            Told::Subscribed { to, header } => self.subscribed(to, header, streams),
            Told::Moved { header, .. } => self.moved(header, streams),
            Told::Replayed { to, slice } => self.replayed(to, slice, streams),
        }
        self.forget_lost();
    }

    /// Sends messages on a stream.
    fn push(&mut self, slot: usize, messages: &[u8], streams: &mut impl Streams) {
        let stream = &mut self.streams[slot];
        stream.backlog = streams.push(stream.at, messages).unwrap_or_else(|| {
            self.lost.push(stream.at);
            usize::MAX
        });
    }

    /// Whether so much waits on a stream that it takes no more. What has left since it was last
    /// sent to is looked for only then.
    fn is_full(&mut self, slot: usize, streams: &mut impl Streams) -> bool {
        let stream = &mut self.streams[slot];
        if stream.backlog > self.manner.backlog_max {
            stream.backlog = streams.queued(stream.at).unwrap_or(usize::MAX);
        }
        stream.backlog > self.manner.backlog_max
    }

    fn forget_lost(&mut self) {
        while let Some(at) = self.lost.pop() {
            self.forget(at);
        }
    }

    /// Time passes: who is to be told of progress is told, what the shard had no time for is asked
    /// again, and streams that asked for too much end.
    pub fn tick(&mut self, now: Tick, streams: &mut impl Streams) {
        self.now = now;
        for at in std::mem::take(&mut self.refused) {
            streams.end(at, &Status::from(&crate::shard::request::Unavailable::TooManyRequests));
            self.forget(at);
        }
        for slot in std::mem::take(&mut self.busy) {
            self.go_on(slot, streams);
        }
        while let Some(&(due, slot)) = self.notifying.first()
            && due <= now
        {
            self.notifying.pop_first();
            self.notify(slot, streams);
        }
        self.forget_lost();
    }

    /// Tells the watchers of a stream how far all is, those that got nothing of late.
    fn notify(&mut self, slot: u32, streams: &mut impl Streams) {
        let due = self.notify_due(slot);
        let stream = &mut self.streams[index(slot)];
        stream.notify_at = due;
        if stream.notified > 0 {
            self.notifying.insert((due, slot));
        }
        let mut out = Vec::new();
        for watcher in stream.ids.values() {
            let watcher = &mut self.slots[index(*watcher)];
            let was_quiet = std::mem::replace(&mut watcher.is_quiet, true);
            if watcher.notify && was_quiet && watcher.is_at(self.seen.revision) {
                Control::progress(self.seen, watcher.id).put(&mut out);
            }
        }
        if !out.is_empty() && !self.is_full(index(slot), streams) {
            self.push(index(slot), &out, streams);
        }
    }

    /// When a stream is to be looked at for progress next: after the interval and up to a tenth
    /// more, so that not all clients are told at once.
    fn notify_due(&self, slot: u32) -> Tick {
        let interval = self.manner.notify_interval;
        let lot =
            self.manner.seed.wrapping_add(u64::from(slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let jitter = (lot >> 32) % (interval / 10).max(1);
        Tick(self.now.0.saturating_add(interval).saturating_add(jitter))
    }

    /// The shard's present revision is known, and so the questions can be answered.
    fn subscribed(&mut self, to: Asker, header: Header, streams: &mut impl Streams) {
        let Some((count, _)) = self.asked.take_if(|(_, token)| *token == to.token) else { return };
        self.seen = header;
        for _ in 0..count {
            let (from, request) = self.next_question();
            match request {
                Some(WatchRequest::Create(create)) => self.create(from, &create, streams),
                Some(WatchRequest::Cancel { id }) => self.cancel(from, id, streams),
                Some(WatchRequest::Progress) => self.progress(from, streams),
                Some(WatchRequest::Nothing) | None => {}
            }
        }
        if self.streams.is_empty() && self.inbox.is_empty() {
            self.is_subscribed = false;
            self.wants_prev = false;
            self.asks.push_back(Ask::Unsubscribe { core: self.manner.core });
        }
    }

    /// The present is a later one, and nothing was told of what is between: who was given all
    /// before is behind from there.
    fn moved(&mut self, header: Header, streams: &mut impl Streams) {
        let first = Revision(self.seen.revision.0 + 1);
        self.seen = header;
        let mut behind = BTreeSet::new();
        for (at, watcher) in &mut self.slots {
            let next = watcher.next.max(first);
            if watcher.state == State::Live && next <= header.revision {
                (watcher.next, watcher.state) = (next, State::Behind);
                self.streams[index(watcher.stream)].behind.push_back(slot(at));
                behind.insert(watcher.stream);
            }
        }
        for stream in behind {
            self.go_on(stream, streams);
        }
    }

    fn stream_of(&mut self, at: RequestId) -> u32 {
        if let Some(slot) = self.by_id.get(&at) {
            return *slot;
        }
        let stream = Stream {
            at,
            ids: BTreeMap::new(),
            next_id: 0,
            backlog: 0,
            behind: VecDeque::new(),
            reads: 0,
            gone: 0,
            notified: 0,
            notify_at: Tick::default(),
        };
        let slot = slot(self.streams.insert(stream));
        self.by_id.insert(at, slot);
        self.streams[index(slot)].notify_at = self.notify_due(slot);
        slot
    }

    fn send(&mut self, slot: u32, control: &Control<'_>, streams: &mut impl Streams) {
        let mut out = Vec::new();
        control.put(&mut out);
        self.push(index(slot), &out, streams);
    }

    fn create(&mut self, from: RequestId, create: &Create, streams: &mut impl Streams) {
        let slot = self.stream_of(from);
        let id = match self.id_for(slot, create) {
            Ok(id) => id,
            Err(reason) => {
                let control = Control {
                    created: true,
                    canceled: true,
                    reason,
                    ..Control::new(self.seen, CREATE_REFUSED)
                };
                return self.send(slot, &control, streams);
            }
        };
        let present = self.seen.revision;
        let start = Revision(create.start);
        let is_live = create.start == 0 || start > present;
        let next = if create.start == 0 { Revision(present.0 + 1) } else { start };
        let watcher = self::slot(self.slots.insert(Watcher {
            stream: slot,
            id,
            next,
            state: if is_live { State::Live } else { State::Behind },
            prev_kv: create.prev_kv,
            puts: create.puts,
            deletes: create.deletes,
            fragment: create.fragment,
            notify: create.progress_notify,
            is_early: start > present,
            is_quiet: true,
        }));
        self.watchers.insert(watcher, create.range());
        let stream = &mut self.streams[index(slot)];
        stream.ids.insert(id, watcher);
        if create.progress_notify {
            stream.notified += 1;
            self.notifying.insert((stream.notify_at, slot));
        }
        if !is_live {
            stream.behind.push_back(watcher);
        }
        let wants_room = !is_live && stream.behind.len() == 1 && stream.reads == 0;
        self.send(slot, &Control { created: true, ..Control::new(self.seen, id) }, streams);
        if wants_room {
            streams.want_room(from, true);
        }
    }

    /// The id of a new watcher, or why there is none.
    fn id_for(&mut self, slot: u32, create: &Create) -> Result<i64, &'static str> {
        create.check()?;
        let stream = &mut self.streams[index(slot)];
        if create.id != 0 {
            let is_taken = stream.ids.contains_key(&create.id);
            return if is_taken { Err(message::DUPLICATE_ID) } else { Ok(create.id) };
        }
        while stream.ids.contains_key(&stream.next_id) {
            stream.next_id = stream.next_id.wrapping_add(1);
        }
        let id = stream.next_id;
        stream.next_id = id.wrapping_add(1);
        Ok(id)
    }

    fn cancel(&mut self, from: RequestId, id: i64, streams: &mut impl Streams) {
        let Some(slot) = self.by_id.get(&from).copied() else { return };
        let stream = &mut self.streams[index(slot)];
        let Some(watcher) = stream.ids.remove(&id) else { return };
        let gone = &self.slots[index(watcher)];
        stream.notified -= u32::from(gone.notify);
        match gone.state {
            State::Live | State::Over => self.drop_watcher(watcher),
            State::Reading => {
                stream.reads -= 1;
                self.drop_watcher(watcher);
            }
            State::Behind => {
                // To look for it in the queue would take as long as there are watchers in it.
                self.slots[index(watcher)].state = State::Gone;
                self.watchers.remove(watcher);
                stream.gone += 1;
                self.sweep(slot);
            }
            State::Gone => unreachable!("it has no id"),
        }
        self.send(slot, &Control { canceled: true, ..Control::new(self.seen, id) }, streams);
        self.go_on(slot, streams);
    }

    /// Takes those who were cancelled out of a stream's queue, once they are more than half of it.
    fn sweep(&mut self, slot: u32) {
        let stream = &mut self.streams[index(slot)];
        if 2 * index(stream.gone) <= stream.behind.len() {
            return;
        }
        stream.gone = 0;
        let slots = &mut self.slots;
        stream.behind.retain(|watcher| {
            let is_gone = slots[index(*watcher)].state == State::Gone;
            if is_gone {
                slots.remove(index(*watcher));
            }
            !is_gone
        });
    }

    /// Answers how far a stream's watchers are, if they are all as far as can be; etcd is silent
    /// otherwise, too.
    fn progress(&mut self, from: RequestId, streams: &mut impl Streams) {
        let Some(slot) = self.by_id.get(&from).copied() else { return };
        let stream = &self.streams[index(slot)];
        let seen = self.seen.revision;
        let mut watchers = stream.ids.values().map(|watcher| &self.slots[index(*watcher)]);
        let are_there = !stream.ids.is_empty() && watchers.all(|watcher| watcher.is_at(seen));
        if are_there && !self.is_full(index(slot), streams) {
            self.send(slot, &Control::progress(self.seen, message::ALL), streams);
        }
    }

    /// Nothing waits on a stream, and its client takes about `size` bytes; whether it is one of
    /// this hub's.
    pub fn pulled(&mut self, at: RequestId, size: usize) -> bool {
        let Some(slot) = self.by_id.get(&at).copied() else { return false };
        let stream = &mut self.streams[index(slot)];
        stream.backlog = 0;
        let count = (stream.behind.len() - index(stream.gone)).min(READS_MAX);
        for _ in 0..count {
            if self.streams[index(slot)].reads >= READS_MAX {
                break;
            }
            let watcher = self.next_behind(slot);
            self.read(watcher, (size / count).max(READ_SIZE_MIN));
        }
        self.sweep(slot);
        true
    }

    /// Takes the next watcher out of a stream's queue, in which there is one that is not gone.
    fn next_behind(&mut self, slot: u32) -> u32 {
        let stream = &mut self.streams[index(slot)];
        loop {
            let watcher = stream.behind.pop_front().expect("it was counted");
            if self.slots[index(watcher)].state != State::Gone {
                return watcher;
            }
            self.slots.remove(index(watcher));
            stream.gone -= 1;
        }
    }

    /// Asks for the past of a watcher.
    fn read(&mut self, slot: u32, size_max: usize) {
        let Asker { core, token } = self.asker();
        let from = Asker { core, token: (token << 32) | u64::from(slot) };
        let watcher = &mut self.slots[index(slot)];
        watcher.state = State::Reading;
        self.streams[index(watcher.stream)].reads += 1;
        let range = self.watchers.range(slot).expect("who is behind is known");
        let mut past = Past::of(range, watcher.next, size_max);
        past.prev_kv = watcher.prev_kv;
        past.puts = watcher.puts;
        past.deletes = watcher.deletes;
        self.reading.insert(slot, from.token);
        self.asks.push_back(Ask::Replay { from, past });
    }

    /// A slice of the past has come.
    fn replayed(&mut self, to: Asker, slice: Slice, streams: &mut impl Streams) {
        let slot = u32::try_from(to.token & u64::from(u32::MAX)).expect("half of it");
        if self.reading.get(&slot) != Some(&to.token) {
            return;
        }
        self.reading.remove(&slot);
        let watcher = &mut self.slots[index(slot)];
        let at = watcher.stream;
        let stream = &mut self.streams[index(at)];
        stream.reads -= 1;
        match slice {
            Slice::Events { events, until, .. } => {
                watcher.next = Revision(until.0 + 1);
                if until >= self.seen.revision {
                    watcher.state = State::Live;
                } else {
                    watcher.state = State::Behind;
                    stream.behind.push_back(slot);
                }
                self.give_past(slot, &events, streams);
            }
            Slice::Compacted { floor, .. } => {
                watcher.state = State::Over;
                self.watchers.remove(slot);
                let header = Header { revision: Revision(0), ..self.seen };
                let id = watcher.id;
                let compact_revision = floor.0;
                let control =
                    Control { canceled: true, compact_revision, ..Control::new(header, id) };
                self.send(at, &control, streams);
            }
            Slice::Busy => {
                watcher.state = State::Behind;
                stream.behind.push_front(slot);
                if stream.reads == 0 {
                    self.busy.insert(at);
                }
                return;
            }
        }
        self.go_on(at, streams);
    }

    /// Asks for room for what is still behind on a stream, once no slice is under way.
    fn go_on(&mut self, slot: u32, streams: &mut impl Streams) {
        let stream = &self.streams[index(slot)];
        if stream.reads == 0 && !self.busy.contains(&slot) {
            streams.want_room(stream.at, !stream.behind.is_empty());
        }
    }
}

impl Watcher {
    /// Whether it has been given all up to `revision`, and that is not before what it asked for.
    fn is_at(&self, revision: Revision) -> bool {
        self.state == State::Live && !(self.is_early && revision < self.next)
    }
}

/// A slot's place in its slab.
fn index(slot: u32) -> usize {
    usize::try_from(slot).expect("usize has 64 bits")
}

/// A place in a slab as a slot.
fn slot(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 are in memory")
}
