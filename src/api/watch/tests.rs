use super::*;
use crate::api::proto::etcdserverpb as pb;
use crate::api::proto::mvccpb;
use crate::shard::watch::Batch;
use crate::shard::watch::Event;
use crate::shard::watch::Prev;
use crate::types::Change;
use crate::types::ClusterId;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::NodeId;
use crate::types::Term;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use std::sync::Arc;

const KEYS: [&[u8]; 5] = [b"a", b"b", b"ba", b"c", b"d"];

fn header(revision: i64) -> Header {
    let revision = Revision(revision);
    Header { cluster: ClusterId(7), member: NodeId(8), revision, term: Term(2) }
}

fn manner() -> Manner {
    Manner { core: 3, seed: 5, fragment_size: 120, backlog_max: BACKLOG_MAX, notify_interval: 1000 }
}

/// A client's end of every stream.
#[derive(Default)]
struct Clients {
    messages: BTreeMap<RequestId, Vec<pb::WatchResponse>>,
    /// Bytes that wait, by stream.
    queued: BTreeMap<RequestId, usize>,
    wanted: BTreeSet<RequestId>,
    ended: BTreeSet<RequestId>,
    /// Nobody reads these.
    stalled: BTreeSet<RequestId>,
}

impl Streams for Clients {
    fn push(&mut self, to: RequestId, mut messages: &[u8]) -> Option<usize> {
        if self.ended.contains(&to) {
            return None;
        }
        if self.stalled.contains(&to) {
            *self.queued.entry(to).or_default() += messages.len();
        }
        while let Some((prefix, rest)) = messages.split_first_chunk::<5>() {
            let len = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
            let (message, rest) = rest.split_at(usize::try_from(len).expect("small"));
            let message = pb::WatchResponse::decode(message).expect("a message");
            self.messages.entry(to).or_default().push(message);
            messages = rest;
        }
        assert!(messages.is_empty(), "messages are whole");
        Some(self.queued.get(&to).copied().unwrap_or(0))
    }

    fn queued(&mut self, to: RequestId) -> Option<usize> {
        let waiting = self.queued.get(&to).copied().unwrap_or(0);
        (!self.ended.contains(&to)).then_some(waiting)
    }

    fn want_room(&mut self, to: RequestId, wanted: bool) {
        if wanted {
            self.wanted.insert(to);
        } else {
            self.wanted.remove(&to);
        }
    }

    fn end(&mut self, to: RequestId, _status: &Status) {
        self.ended.insert(to);
    }
}

/// A shard that keeps all it ever was.
struct History {
    revision: i64,
    floor: i64,
    events: Vec<Event>,
    live: BTreeMap<&'static [u8], Event>,
    subscribed: bool,
    /// What it will tell, in order.
    told: VecDeque<Told>,
}

impl History {
    fn new() -> Self {
        Self {
            revision: 1,
            floor: -1,
            events: Vec::new(),
            live: BTreeMap::new(),
            subscribed: false,
            told: VecDeque::new(),
        }
    }

    /// One revision: each key is put, or deleted if it is there.
    fn write(&mut self, changes: &[(usize, bool)], value: usize, is_away: bool) {
        let main = Revision(self.revision + 1);
        let mut batch = Vec::new();
        for &(key, is_put) in changes {
            let key = KEYS[key];
            let before = self.live.get(key).map(|event| event.change.clone());
            let location = Location { main, sub: u32::try_from(batch.len()).expect("few") };
            if !is_put && before.is_none() || batch.iter().any(|it: &Event| it.change.key == key) {
                continue;
            }
            let version = if is_put { before.as_ref().map_or(1, |it| it.version + 1) } else { 0 };
            let created = match (&before, is_put) {
                (_, false) => Revision(0),
                (Some(before), true) => before.created,
                (None, true) => main,
            };
            let change = Change {
                location,
                key: Bytes::from_static(key),
                value: if is_put { Bytes::from(vec![7; value]) } else { Bytes::new() },
                lease: LeaseId(if is_put { 9 } else { 0 }),
                created,
                version,
            };
            let prev = before.map_or(Prev::None, |it| Prev::Pair {
                location: it.location,
                created: it.created,
                version: it.version,
                lease: it.lease,
                value: it.value,
            });
            batch.push(Event { change, prev });
        }
        if batch.is_empty() {
            return;
        }
        self.revision += 1;
        for event in &batch {
            let key = KEYS.iter().find(|key| **key == event.change.key).expect("one of ours");
            if event.change.version == 0 {
                self.live.remove(*key);
            } else {
                self.live.insert(key, event.clone());
            }
        }
        self.events.extend(batch.iter().cloned());
        if is_away {
            for event in batch.iter_mut().filter(|event| event.prev != Prev::None) {
                event.prev = Prev::Away;
            }
        }
        if self.subscribed {
            let batch = Arc::new(Batch { header: header(self.revision), events: batch });
            self.told.push_back(Told::Events { cores: vec![3], batch });
        }
    }

    /// Several revisions without a word, and then where that has led to.
    fn go_on(&mut self, changes: &[(usize, bool)], count: usize) {
        let was_subscribed = std::mem::replace(&mut self.subscribed, false);
        (0..count).for_each(|_| self.write(changes, 3, false));
        self.subscribed = was_subscribed;
        if was_subscribed {
            let header = header(self.revision);
            self.told.push_back(Told::Moved { cores: vec![3], header });
        }
    }

    fn ask(&mut self, ask: Ask, lot: usize) {
        match ask {
            Ask::Subscribe { from, .. } => {
                self.subscribed = true;
                self.told.push_back(Told::Subscribed { to: from, header: header(self.revision) });
            }
            Ask::Unsubscribe { .. } => self.subscribed = false,
            Ask::Forget { .. } => {}
            Ask::Replay { from, .. } if lot.is_multiple_of(7) => {
                self.told.push_back(Told::Replayed { to: from, slice: Slice::Busy });
            }
            Ask::Replay { from, past } => {
                let header = header(self.revision);
                let slice = if past.from.0 < self.floor {
                    Slice::Compacted { header, floor: Revision(self.floor) }
                } else {
                    let until = past.from.0 - 1 + i64::try_from(lot % 5).expect("small");
                    let until = until.min(self.revision);
                    let events = self.seen(&past, until);
                    Slice::Events { header, events, until: Revision(until) }
                };
                self.told.push_back(Told::Replayed { to: from, slice });
            }
        }
    }

    fn seen(&self, past: &Past, until: i64) -> Vec<Event> {
        let wanted = |event: &&Event| {
            let change = &event.change;
            let main = change.location.main;
            let is_kind = if change.version == 0 { past.deletes } else { past.puts };
            main >= past.from && main.0 <= until && past.range().contains(&change.key) && is_kind
        };
        self.events.iter().filter(wanted).cloned().collect()
    }
}

/// What a client knows of one of its watchers.
struct Known {
    create: Create,
    /// The first revision that it may see; none while it is not created.
    from: Option<i64>,
    at: i64,
    events: Vec<mvccpb::Event>,
    is_cut: bool,
    over: bool,
}

struct World {
    hub: Hub,
    history: History,
    clients: Clients,
    known: BTreeMap<(RequestId, i64), Known>,
    next_id: i64,
    now: u64,
}

fn stream(n: usize) -> RequestId {
    let stream = u32::try_from(n).expect("small");
    RequestId { core: 3, connection: stream / 2, generation: 1, stream }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(usize, bool)>, usize, bool),
    /// So many changes that nobody is told of, and then where that has led to.
    Move(Vec<(usize, bool)>, usize),
    Create {
        stream: usize,
        key: usize,
        end: usize,
        start: i64,
        flags: u8,
    },
    Cancel(usize),
    Progress(usize),
    /// The hub's questions reach the shard.
    Ask(usize),
    /// So many of the shard's answers reach the hub.
    Tell(usize),
    Stall(usize),
    Read(usize),
    Compact(i64),
    Forget(usize),
    Tick(u64),
}

fn a_step() -> impl Strategy<Value = Step> {
    let changes = vec((0..KEYS.len(), any::<bool>()), 1..4);
    prop_oneof![
        6 => (changes, prop_oneof![4 => Just(3_usize), 1 => Just(70_000)], any::<bool>())
            .prop_map(|(changes, value, away)| Step::Write(changes, value, away)),
        1 => (vec((0..KEYS.len(), any::<bool>()), 1..4), 0..4_usize)
            .prop_map(|(changes, count)| Step::Move(changes, count)),
        3 => (0..4_usize, 0..KEYS.len(), 0..7_usize, -6..6_i64, any::<u8>()).prop_map(
            |(stream, key, end, start, flags)| Step::Create { stream, key, end, start, flags }
        ),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0..4_usize).prop_map(Step::Progress),
        5 => any::<usize>().prop_map(Step::Ask),
        5 => (0..4_usize).prop_map(Step::Tell),
        1 => (0..4_usize).prop_map(Step::Stall),
        4 => (0..4_usize).prop_map(Step::Read),
        1 => (0..5_i64).prop_map(Step::Compact),
        1 => (0..12_usize).prop_map(Step::Forget),
        1 => (0..800_u64).prop_map(Step::Tick),
    ]
}

impl World {
    fn new() -> Self {
        Self {
            hub: Hub::new(manner()),
            history: History::new(),
            clients: Clients::default(),
            known: BTreeMap::new(),
            next_id: 1,
            now: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(changes, value, away) => self.history.write(changes, *value, *away),
            Step::Move(changes, count) => self.history.go_on(changes, *count),
            Step::Create { stream: at, key, end, start, flags } => {
                self.create(stream(*at), KEYS[*key], *end, *start, *flags);
            }
            Step::Cancel(nth) => {
                if let Some((at, id)) = self.known.keys().nth(nth % self.known.len().max(1)) {
                    self.hub.handle(*at, WatchRequest::Cancel { id: *id });
                }
            }
            Step::Progress(at) => self.hub.handle(stream(*at), WatchRequest::Progress),
            Step::Ask(lot) => self.ask(*lot),
            Step::Tell(count) => self.tell(*count),
            Step::Stall(at) => {
                self.clients.stalled.insert(stream(*at));
            }
            Step::Read(at) => self.read(stream(*at)),
            Step::Compact(back) => {
                let floor = self.history.revision - back;
                self.history.floor = self.history.floor.max(floor);
            }
            Step::Forget(at) if *at < 4 => {
                let at = stream(*at);
                self.check();
                self.hub.forget(at);
                self.known.retain(|(stream, _), _| *stream != at);
                self.clients.messages.remove(&at);
                self.clients.queued.remove(&at);
                self.clients.wanted.remove(&at);
            }
            Step::Forget(_) => {}
            Step::Tick(ms) => {
                self.now += ms;
                self.hub.tick(Tick(self.now), &mut self.clients);
            }
        }
    }

    fn create(&mut self, at: RequestId, key: &'static [u8], end: usize, start: i64, flags: u8) {
        let range_end: &[u8] = match end {
            0 | 1 => b"",
            2 => b"\0",
            n => KEYS.get(n - 2).copied().unwrap_or(b"z"),
        };
        let start = if start < 0 { self.history.revision + start.max(-5) + 3 } else { 0 };
        let create = Create::from(pb::WatchCreateRequest {
            key: Bytes::from_static(key),
            range_end: Bytes::copy_from_slice(range_end),
            start_revision: start.max(0),
            progress_notify: flags & 1 > 0,
            filters: match flags >> 1 & 3 {
                1 => vec![0],
                2 => vec![1],
                _ => vec![],
            },
            prev_kv: flags & 8 > 0,
            watch_id: self.next_id,
            fragment: flags & 16 > 0,
        });
        if create.check().is_ok() {
            let known = Known {
                create: create.clone(),
                from: None,
                at: 0,
                events: Vec::new(),
                is_cut: false,
                over: false,
            };
            self.known.insert((at, self.next_id), known);
        }
        self.next_id += 1;
        self.hub.handle(at, WatchRequest::Create(create));
    }

    fn ask(&mut self, lot: usize) {
        let mut lot = lot;
        while let Some(ask) = self.hub.poll() {
            self.history.ask(ask, lot);
            lot = lot.wrapping_mul(31).wrapping_add(7);
        }
    }

    fn tell(&mut self, count: usize) {
        for _ in 0..count {
            let Some(told) = self.history.told.pop_front() else { break };
            self.hub.told(told, &mut self.clients);
            self.check();
        }
    }

    fn read(&mut self, at: RequestId) {
        self.clients.stalled.remove(&at);
        self.clients.queued.remove(&at);
        if self.clients.wanted.remove(&at) {
            self.hub.pulled(at, 10_000);
        }
    }

    /// Takes in what the clients got, and holds it against all that was written.
    fn check(&mut self) {
        for (at, messages) in std::mem::take(&mut self.clients.messages) {
            for message in messages {
                self.take(at, &message);
            }
        }
    }

    fn take(&mut self, at: RequestId, message: &pb::WatchResponse) {
        let revision = message.header.as_ref().expect("a header").revision;
        if message.watch_id == -1 {
            if !message.created {
                self.progress(at, revision, None);
            }
            return;
        }
        let Some(known) = self.known.get_mut(&(at, message.watch_id)) else {
            return assert!(message.canceled && message.events.is_empty(), "{message:?}");
        };
        if message.created {
            let start = known.create.start;
            known.from = Some(if start == 0 { revision + 1 } else { start });
            known.at = known.from.expect("just set") - 1;
            return assert!(!message.canceled);
        }
        let is_cancel = message.canceled && message.compact_revision == 0;
        assert!(known.from.is_some() && (!known.over || is_cancel), "created first, cancel last");
        if message.canceled {
            known.over = true;
            if message.compact_revision != 0 {
                assert!(known.at < self.history.floor && revision == 0, "it was in time");
            } else {
                self.known.remove(&(at, message.watch_id));
            }
            return;
        }
        if message.events.is_empty() {
            return self.progress(at, revision, Some(message.watch_id));
        }
        let first = message.events[0].kv.as_ref().expect("a pair").mod_revision;
        let last = message.events.last().expect("some").kv.as_ref().expect("a pair").mod_revision;
        assert!(revision >= last, "the header is a lower bound");
        assert!(first > known.at || known.is_cut && first == known.at, "a revision is in one");
        assert!(!message.fragment || known.create.fragment, "only who asked gets fragments");
        (known.is_cut, known.at) = (message.fragment, last);
        known.events.extend(message.events.iter().cloned());
        self.check_events(at, message.watch_id);
    }

    /// All up to `revision` has been sent, it is said.
    fn progress(&mut self, at: RequestId, revision: i64, id: Option<i64>) {
        let mut own: Vec<i64> = self.known.keys().filter(|it| it.0 == at).map(|it| it.1).collect();
        own.retain(|it| id.is_none_or(|id| id == *it));
        for id in own {
            let known = &self.known[&(at, id)];
            let Some(from) = known.from else { continue };
            let due = self.due(known, revision);
            assert_eq!(known.events.len(), due.len(), "progress to {revision} runs ahead");
            assert!(known.create.start == 0 || revision >= from || due.is_empty());
        }
    }

    /// What a watcher is to have been given up to a revision.
    fn due(&self, known: &Known, until: i64) -> Vec<mvccpb::Event> {
        let from = Revision(known.from.unwrap_or(i64::MAX));
        let mut past = Past::of(known.create.range(), from, 0);
        (past.puts, past.deletes) = (known.create.puts, known.create.deletes);
        let events = self.history.seen(&past, until);
        let mut bytes = Vec::new();
        events.iter().for_each(|it| encode::put_event(&mut bytes, it, known.create.prev_kv));
        pb::WatchResponse::decode(&bytes[..]).expect("events").events
    }

    fn check_events(&self, at: RequestId, id: i64) {
        let known = &self.known[&(at, id)];
        let due = self.due(known, self.history.revision);
        assert!(due.starts_with(&known.events), "{:?}\n{due:?}", known.events);
    }

    /// Everybody reads on; in the end nobody lacks anything.
    fn come_to_rest(&mut self) {
        for lot in 0..1000 {
            self.ask(lot);
            self.tell(100);
            (0..4).for_each(|at| self.read(stream(at)));
            self.now += 1;
            self.hub.tick(Tick(self.now), &mut self.clients);
        }
        self.check();
        for (at, id) in self.known.keys() {
            let known = &self.known[&(*at, *id)];
            if !known.over {
                let due = self.due(known, self.history.revision);
                assert_eq!(known.events.len(), due.len(), "{at:?} {id} lacks something");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_is_given_all_that_it_sees_once_and_in_order(steps in vec(a_step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.come_to_rest();
        for at in 0..4 {
            world.hub.forget(stream(at));
        }
        world.ask(1);
        prop_assert!(world.hub.is_empty() && !world.history.subscribed);
        prop_assert!(world.hub.reading.is_empty() && world.hub.watchers.is_empty());
    }
}

/// A hub with a shard that answers at once.
fn ask_and_tell(world: &mut World) {
    world.ask(1);
    world.tell(100);
}

#[test]
fn ids_are_given_from_zero_up_and_those_in_use_are_passed_over() {
    let mut world = World::new();
    let create = |watch_id, key: &'static [u8], range_end: &'static [u8]| {
        let (key, range_end) = (Bytes::from_static(key), Bytes::from_static(range_end));
        let message = pb::WatchCreateRequest { key, range_end, watch_id, ..Default::default() };
        WatchRequest::Create(Create::from(message))
    };
    let asked = [
        (create(0, b"a", b""), Ok(0)),
        (create(1, b"a", b""), Ok(1)),
        (create(0, b"a", b""), Ok(2)),
        (create(1, b"a", b""), Err(message::DUPLICATE_ID)),
        (create(-5, b"", b""), Ok(-5)),
        (create(7, b"b", b"a"), Err("mvcc: watcher range is empty")),
        (create(7, b"b", b"b"), Err("mvcc: watcher range is empty")),
        (create(0, b"b", b"\0"), Ok(3)),
    ];
    let at = stream(1);
    for (request, _) in &asked {
        world.hub.handle(at, request.clone());
    }
    world.ask(1);
    let told = world.history.told.pop_front().expect("the subscription");
    world.hub.told(told, &mut world.clients);
    for (message, (_, due)) in world.clients.messages[&at].iter().zip(&asked) {
        let reason = message.cancel_reason.as_str();
        assert!(message.created && message.canceled == due.is_err(), "{message:?}");
        assert_eq!((message.watch_id, reason), (due.unwrap_or(-1), due.err().unwrap_or("")));
    }
    assert_eq!(world.clients.messages[&at].len(), asked.len());
}

#[test]
fn a_stream_that_is_not_read_holds_a_bounded_number_of_bytes() {
    let mut world = World::new();
    for at in [0, 1] {
        world.create(stream(at), b"a", 0, 0, 0);
    }
    ask_and_tell(&mut world);
    world.clients.stalled.insert(stream(0));
    for _ in 0..1000 {
        world.history.write(&[(0, true)], 1000, false);
        ask_and_tell(&mut world);
    }
    let held = world.clients.queued[&stream(0)];
    assert!(held <= BACKLOG_MAX + 2000, "{held} bytes");
    let of = |world: &World, at| {
        let known = world.known.iter().find(|(key, _)| key.0 == stream(at)).expect("a watcher").1;
        known.events.len()
    };
    assert_eq!(of(&world, 1), 1000, "the other one has all");
    assert!(of(&world, 0) < 100);
    world.come_to_rest();
    assert_eq!(of(&world, 0), 1000);
}

/// What waited on a stream when it was last sent to was taken for what waits there: a client that
/// had read all was told of no progress until the next change.
#[test]
fn whoever_has_read_all_is_told_of_progress_without_a_further_change() {
    let mut world = World::new();
    let at = stream(0);
    world.create(at, b"a", 0, 0, 1);
    ask_and_tell(&mut world);
    world.clients.stalled.insert(at);
    world.history.write(&[(0, true)], BACKLOG_MAX + 1, false);
    ask_and_tell(&mut world);
    let progress = |world: &mut World| {
        world.clients.messages.clear();
        ask_for_progress(world, at);
        world.now += 2_000;
        world.hub.tick(Tick(world.now), &mut world.clients);
        world.now += 2_000;
        world.hub.tick(Tick(world.now), &mut world.clients);
        world.clients.messages.get(&at).map_or(0, Vec::len)
    };
    assert_eq!(progress(&mut world), 0, "it takes no more");
    world.read(at);
    assert_eq!(progress(&mut world), 3, "when it asks, and twice after silence");
}

/// A client asks how far all is; what it is told is left to be looked at.
fn ask_for_progress(world: &mut World, at: RequestId) {
    world.hub.handle(at, WatchRequest::Progress);
    world.ask(1);
    let told = world.history.told.pop_front().expect("the subscription");
    world.hub.told(told, &mut world.clients);
}

/// A watcher from a revision to come that fell behind was taken, once it had caught up, for one
/// whose revision was still to come.
#[test]
fn a_watcher_from_the_future_that_has_caught_up_is_told_of_progress() {
    let mut world = World::new();
    let at = stream(0);
    world.create(at, b"a", 0, -2, 0);
    ask_and_tell(&mut world);
    world.hub.handle(at, WatchRequest::Progress);
    ask_and_tell(&mut world);
    world.clients.stalled.insert(at);
    for _ in 0..2 {
        world.history.write(&[(0, true)], BACKLOG_MAX + 1, false);
        ask_and_tell(&mut world);
    }
    world.come_to_rest();
    ask_for_progress(&mut world, at);
    assert_eq!(world.clients.messages.get(&at).map_or(0, Vec::len), 1, "all has been told");
    world.check();
}

/// Each stream that ended went through all that was asked: as many steps as there were streams, for
/// each of them.
#[test]
fn a_stream_that_ends_does_not_look_through_what_all_ask() {
    const COUNT: usize = 1_000;
    let mut world = World::new();
    for at in 0..COUNT {
        world.create(stream(at), b"a", 0, 0, 0);
    }
    (1..COUNT).for_each(|at| world.hub.forget(stream(at)));
    let untouched = |(_, request): &&(_, _)| matches!(request, WatchRequest::Create(_));
    assert_eq!(world.hub.inbox.iter().filter(untouched).count(), COUNT);
    assert_eq!(world.hub.asking.len(), 1);
    // A stream of our own may be used again at once.
    world.create(stream(1), b"b", 0, 0, 0);
    world.ask(1);
    let told = world.history.told.pop_front().expect("the subscription");
    world.hub.told(told, &mut world.clients);
    let made: Vec<_> = world.clients.messages.keys().copied().collect();
    assert_eq!((made, world.hub.len()), (vec![stream(0), stream(1)], 2));
    assert_eq!(world.clients.messages[&stream(1)].len(), 1, "what it asked before is passed over");
    assert!(world.hub.asking.is_empty() && world.hub.inbox_size == 0);
}

/// To cancel a watcher that was behind went through all that were, on its stream.
#[test]
fn a_watcher_that_is_behind_is_not_looked_for_when_it_is_cancelled() {
    const COUNT: usize = 1_000;
    let mut world = World::new();
    let at = stream(0);
    world.history.write(&[(0, true)], 3, false);
    for _ in 0..COUNT {
        world.create(at, b"a", 0, -3, 0);
    }
    ask_and_tell(&mut world);
    let cancel = |world: &mut World, count: usize| {
        let ids: Vec<_> = world.known.keys().take(count).map(|(_, id)| *id).collect();
        for id in ids {
            world.hub.handle(at, WatchRequest::Cancel { id });
        }
        ask_and_tell(world);
        let stream = world.hub.streams.iter().next().expect("the stream").1;
        (stream.behind.len(), world.known.len(), world.clients.wanted.contains(&at))
    };
    assert_eq!(cancel(&mut world, COUNT / 2), (COUNT, COUNT / 2, true), "they keep their places");
    assert_eq!(cancel(&mut world, 1), (COUNT / 2 - 1, COUNT / 2 - 1, true), "half at most");
    assert_eq!(cancel(&mut world, COUNT / 4 - 1), (COUNT / 2 - 1, COUNT / 4, true));
    // The next that are left read on, and their slices never come.
    world.read(at);
    while world.hub.poll().is_some() {}
    assert_eq!(world.hub.reading.len(), READS_MAX);
    assert_eq!(cancel(&mut world, COUNT), (0, 0, false));
    assert!(world.hub.slots.is_empty() && world.hub.reading.is_empty());
}

/// Room was asked for a stream whose only watcher that was behind had been cancelled: nobody read
/// with it, and it was never given back.
#[test]
fn no_room_is_asked_for_a_stream_of_which_none_is_behind_any_more() {
    let mut world = World::new();
    let at = stream(0);
    world.history.write(&[(0, true)], 3, false);
    for is_cancelled in [false, true] {
        world.create(at, b"a", 0, -3, 0);
        ask_and_tell(&mut world);
        world.read(at);
        // The shard has no time.
        world.ask(7);
        world.tell(100);
        assert_eq!(world.hub.busy.len(), 1);
        if is_cancelled {
            let id = world.known.keys().next().expect("the watcher").1;
            world.hub.handle(at, WatchRequest::Cancel { id });
            ask_and_tell(&mut world);
        }
        world.now += 1;
        world.hub.tick(Tick(world.now), &mut world.clients);
        assert_eq!(world.clients.wanted.contains(&at), !is_cancelled);
        world.come_to_rest();
        world.hub.forget(at);
        world.known.clear();
    }
}

/// All that a batch had for all watchers was looked for at once: as many items as it had changes,
/// for each watcher.
#[test]
fn a_batch_that_many_see_is_given_out_in_parts() {
    let mut world = World::new();
    let (watchers, parts) = (1_000, 3);
    (0..watchers).for_each(|_| world.create(stream(0), b"a", 0, 0, 0));
    ask_and_tell(&mut world);
    world.check();
    let count = parts * deliver::MATCHES_MAX / watchers;
    (0..count).for_each(|_| world.history.write(&[(0, true), (1, true)], 3, false));
    let mut events = Vec::new();
    for told in std::mem::take(&mut world.history.told) {
        let Told::Events { batch, .. } = told else { panic!("{told:?}") };
        events.extend(batch.events.iter().cloned());
    }
    let batch = Arc::new(Batch { header: header(world.history.revision), events });
    world.hub.told(Told::Events { cores: vec![3], batch }, &mut world.clients);
    assert_eq!(world.clients.messages[&stream(0)].len(), parts * watchers);
    world.check();
    assert!(world.known.values().all(|known| known.events.len() == count));
}
