//! Several whole shards of one group, over disks that take their time and a network that loses.
//!
//! # The fault model
//!
//! May happen: a packet is lost, late, doubled, overtaken; two nodes do not hear each other for a
//! while; a process ends, or the power goes, at any time, with writes of the log under way.
//!
//! Whom a node does not know it can not call, until it was called; who was removed is not heard.
//!
//! What is told of every run: nodes that have applied the same entry have the same state, and what
//! was acknowledged is there, once.

use crate::dice::Dice;
use crate::node::{self, Disks};
use crate::store::node as store_node;
use crate::swarm;
use ringd::mvcc::{KeyRange, RangeQuery};
use ringd::shard::command::Command;
use ringd::shard::peer::Packet;
use ringd::shard::recover::Recovery;
use ringd::shard::request::{
    Body, Failure, Member, Range, Request, RequestId, Response, Unavailable,
};
use ringd::shard::snapshot::parcel::Parcel;
use ringd::shard::watch::{Ask, Told};
use ringd::shard::{Config, Input, Output, Ready, Shard};
use ringd::store;
use ringd::types::{LogIndex, NodeId, Tick};
use ringd::wal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Rounds that a group may take for what should take a few.
const ROUNDS_MAX: usize = 20_000;

/// A packet on its way.
struct Flying {
    due: u64,
    from: usize,
    to: NodeId,
    bytes: bytes::Bytes,
}

/// A write of the log under way.
struct Work {
    id: u64,
    write: u64,
}

/// What pieces of snapshots go over, one after the other.
#[derive(Default)]
pub(crate) struct Line {
    /// Milliseconds that each takes.
    pub(crate) slow: u64,
    free: u64,
    /// Those that were sent, and how many were sent again.
    pieces: BTreeSet<(u64, u32, u64)>,
    pub(crate) again: usize,
}

impl Line {
    /// How many milliseconds later a packet leaves.
    fn take(&mut self, packet: &Packet, now: u64) -> u64 {
        let Packet::Snapshot(Parcel::Piece { snapshot, part, offset, .. }) = packet else {
            return 0;
        };
        self.again += usize::from(!self.pieces.insert((*snapshot, *part, *offset)));
        self.free = self.free.max(now) + self.slow;
        self.free - now
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) disks: Disks,
    pub(crate) shard: Option<Box<Shard>>,
    works: Vec<Work>,
    /// What the store has asked of a slow disk.
    slow_works: VecDeque<store::Command>,
    /// The lines for the log.
    pub(crate) lines: Vec<String>,
    pub(crate) peers: Vec<(NodeId, Vec<String>)>,
    /// Who has spoken to it without being known.
    guests: BTreeSet<NodeId>,
    pub(crate) halted: Option<String>,
}

/// Whether it is a list's, whose end may be told after.
fn is_head(ready: Ready) -> bool {
    matches!(ready, Ready::List(_))
}

/// What became of a request.
pub(crate) type Answer = Result<Response, Failure>;

/// All nodes and what is between them.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    flying: Vec<Flying>,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    /// Of a hundred packets: those that are lost, and those that come twice.
    pub(crate) loss: u64,
    pub(crate) doubled: u64,
    /// Milliseconds that a packet takes at most.
    pub(crate) delay_max: u64,
    /// Of a hundred rounds: those in which a disk does something.
    pub(crate) disk_speed: u64,
    /// Whose store's disk does something in but so many of a hundred rounds; all others do it at
    /// once.
    pub(crate) slow_store: Option<(usize, u64)>,
    /// On whose store's disk there is no room for more.
    pub(crate) no_room: Option<usize>,
    /// Bytes of entries that one message has at most.
    pub(crate) append_size_max: usize,
    /// How many founded the group: every replica's state begins with them.
    founders: usize,
    /// Nodes that do not hear each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    asked: u32,
    answers: BTreeMap<RequestId, Ready>,
    /// By entry: the revision and the leases of whoever has applied it.
    states: BTreeMap<LogIndex, (i64, usize)>,
    /// Packets that went by, by kind.
    pub(crate) bulk: usize,
    pub(crate) line: Line,
    /// Each piece comes with another byte in it.
    pub(crate) is_garbled: bool,
    /// What whose watchers were told.
    pub(crate) told: Vec<(usize, Told)>,
    /// Whose machine stops in the midst of what its files are asked next but so many.
    pub(crate) fall: Option<(usize, u64)>,
    /// How often a node went on from a snapshot.
    pub(crate) moved: usize,
}

pub(crate) fn id(nth: usize) -> NodeId {
    NodeId(0x51 + u64::try_from(nth).expect("small"))
}

pub(crate) fn member(nth: usize) -> Member {
    Member {
        id: id(nth),
        name: format!("n{nth}"),
        peer_urls: vec![format!("http://n{nth}:2380")],
        client_urls: Vec::new(),
        learner: false,
    }
}

/// The log's number of a node, drawn once.
fn log_id(nth: usize) -> u64 {
    node::LOG_ID + u64::try_from(nth).expect("small")
}

/// Another shard is recovered from the files of one that moves, and succeeds it.
fn go_on(
    shard: &mut Box<Shard>,
    (config, disks, log_id): (&Config, &Disks, u64),
    seed: u64,
    now: Tick,
) {
    let next = node::recover_with(config, disks, log_id, (seed, now), Recovery::in_slices);
    let next = next.unwrap_or_else(|why| panic!("it does not go on from a snapshot: {why}"));
    let last = std::mem::replace(shard, next);
    drop(shard.succeed(*last));
}

/// Begins what a node asks of its files, which is never done.
fn begin(shard: &mut Shard, disks: &mut Disks, output: Output) {
    match output {
        Output::Wal(wal::Command::Write { id, file, offset, size }) => {
            let mut buffer = vec![0xee; size];
            shard.fill(id, &mut buffer);
            disks.log.begin(&file.to_string(), offset, buffer);
        }
        Output::Store(store::Command::Write { id, file, offset, size }) => {
            let mut buffer = vec![0xee; size];
            shard.fill_store(id, &mut buffer);
            disks.store.begin(&file.to_string(), offset, buffer);
        }
        Output::Wal(wal::Command::Read { .. }) | Output::Store(store::Command::Read { .. }) => {}
        Output::Wal(command) => disks.log.begin_change(node::change(command)),
        Output::Store(command) => disks.store.begin_change(store_node::change(command), None),
        Output::Reply { .. }
        | Output::Rows { .. }
        | Output::Watch(_)
        | Output::Send { .. }
        | Output::Peers(_)
        | Output::Role(_)
        | Output::Reopen
        | Output::Halt(_) => unreachable!("it is not about files"),
    }
}

/// What a command lacks on a disk that is full.
fn lack(command: &store::Command) -> Option<store::Lack> {
    match command {
        store::Command::Write { id, .. } => Some(store::Lack::Write(*id)),
        store::Command::Create { .. } => Some(store::Lack::Create),
        store::Command::Finish { .. }
        | store::Command::Replace { .. }
        | store::Command::Remove { .. }
        | store::Command::Read { .. } => None,
    }
}

/// Does what a store asks for at once, or keeps it for later where there is a list for that.
fn do_of_store(
    shard: &mut Shard,
    disks: &mut Disks,
    command: store::Command,
    (is_full, slow_works): (bool, Option<&mut VecDeque<store::Command>>),
) {
    if let Some(lack) = lack(&command).filter(|_| is_full) {
        return shard.handle(Input::NoRoom { lack, why: format!("no room: {command:?}") });
    }
    if let Some(slow_works) = slow_works {
        return slow_works.push_back(command);
    }
    let event = node::perform_store(shard, &mut disks.store, command);
    shard.handle(Input::Store(event.expect("what is asked for is there")));
}

/// Little is kept of the log: whoever is away for some hundred entries finds it gone.
pub(crate) fn short_log(config: &mut Config) {
    config.raft.cache_size_max = 1_000;
    config.seal_entries_max = 50;
    config.catchup_entries = 20;
    config.wal.segment_size = 64 << 10;
    config.wal.frame_size_max = 32 << 10;
    config.request_size_max = 10_000;
}

/// A put that can be told from all others.
pub(crate) fn put(key: &str, value: &str) -> Request {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    let put = Command::Put {
        key,
        value,
        lease: 0,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    Request::Write(put.encode())
}

impl World {
    /// A group of so many that has not begun; `change` sets limits.
    pub(crate) fn new(count: usize, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            flying: Vec::new(),
            now: 0,
            dice: Dice::new(seed),
            loss: 0,
            doubled: 0,
            delay_max: 2,
            disk_speed: 50,
            slow_store: None,
            no_room: None,
            append_size_max: 1 << 20,
            founders: count,
            cut: BTreeSet::new(),
            asked: 0,
            answers: BTreeMap::new(),
            states: BTreeMap::new(),
            bulk: 0,
            line: Line::default(),
            is_garbled: false,
            told: Vec::new(),
            fall: None,
            moved: 0,
        };
        for nth in 0..count {
            world.add((0..count).map(member).collect(), nth, &change);
        }
        for nth in 0..count {
            world.start(nth);
        }
        world
    }

    /// One more node, with these to begin with.
    pub(crate) fn add(&mut self, members: Vec<Member>, nth: usize, change: impl Fn(&mut Config)) {
        let mut config = swarm::config(&mut Dice::new(1));
        config.wal.segment_size = 1 << 20;
        config.wal.frame_size_max = 1 << 19;
        config.wal.pending_size_max = 4 << 20;
        config.request_size_max = 100 << 10;
        (config.waiting_max, config.waiting_size_max) = (5_000, 16 << 20);
        config.store = store::Config::default();
        config.catchup_entries = 5_000;
        config.raft = ringd::raft::Config::new(id(nth));
        config.raft.append_size_max = self.append_size_max;
        config.members = members;
        config.founders = (0..self.founders).map(id).collect();
        (config.name, config.client_urls) =
            (format!("n{nth}"), vec![format!("http://n{nth}:2379")]);
        change(&mut config);
        self.nodes.push(Node {
            config,
            disks: Disks::default(),
            shard: None,
            works: Vec::new(),
            slow_works: VecDeque::new(),
            lines: Vec::new(),
            peers: Vec::new(),
            guests: BTreeSet::new(),
            halted: None,
        });
    }

    /// The node's process begins.
    pub(crate) fn start(&mut self, nth: usize) {
        self.start_with(nth, |recovery| recovery);
    }

    /// The node's process begins and is to go on without the others.
    pub(crate) fn start_alone(&mut self, nth: usize) {
        self.start_with(nth, Recovery::alone);
    }

    fn start_with(&mut self, nth: usize, change: impl FnOnce(Recovery) -> Recovery) {
        let chances = (self.dice.next(), Tick(self.now));
        let node = &mut self.nodes[nth];
        node.disks.sync_names();
        let shard = node::recover_with(&node.config, &node.disks, log_id(nth), chances, change);
        node.shard = Some(shard.unwrap_or_else(|why| panic!("node {nth}: {why}")));
        node.halted = None;
        self.run(nth);
    }

    /// The node's process ends, or its machine.
    pub(crate) fn crash(&mut self, nth: usize) {
        let power = self.dice.chance(50);
        let (node, dice) = (&mut self.nodes[nth], &mut self.dice);
        node.shard = None;
        node.works.clear();
        node.slow_works.clear();
        node.guests.clear();
        if power {
            node.disks.lose_power(&mut |below| dice.below(below));
        } else {
            node.disks.lose_process(&mut |below| dice.below(below));
        }
        for other in 0..self.nodes.len() {
            self.lose_connection(other, nth);
        }
    }

    /// What `nth` said to `peer` may not have arrived, and it hears of that.
    fn lose_connection(&mut self, nth: usize, peer: usize) {
        let peer = self.nodes[peer].config.raft.id;
        if let Some(shard) = &mut self.nodes[nth].shard {
            shard.handle(Input::PeerLost { peer });
        }
    }

    /// Neither hears the other any more, or again.
    pub(crate) fn cut(&mut self, one: usize, other: usize, is_cut: bool) {
        for pair in [(one, other), (other, one)] {
            if is_cut {
                self.cut.insert(pair);
                self.lose_connection(pair.0, pair.1);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    /// The node hears nobody any more, or everybody again.
    pub(crate) fn isolate(&mut self, nth: usize, is_cut: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != nth) {
            self.cut(nth, other, is_cut);
        }
    }

    /// Does all that a node asks for; what its log writes takes a while.
    fn run(&mut self, nth: usize) {
        let Self { nodes, flying, now, dice, fall, slow_store, no_room, .. } = self;
        let node = &mut nodes[nth];
        let Some(shard) = &mut node.shard else { return };
        while let Some(output) = shard.poll() {
            let is_of_files = matches!(output, Output::Wal(_) | Output::Store(_));
            if let Some((_, left)) = fall.as_mut().filter(|it| it.0 == nth && is_of_files) {
                if *left == 0 {
                    begin(shard, &mut node.disks, output);
                    *fall = None;
                    return self.crash(nth);
                }
                *left -= 1;
            }
            match output {
                Output::Wal(wal::Command::Write { id, file, offset, size }) => {
                    let mut buffer = vec![0xee; size];
                    shard.fill(id, &mut buffer);
                    let write = node.disks.log.begin(&file.to_string(), offset, buffer);
                    node.works.push(Work { id, write });
                }
                Output::Wal(command) => {
                    let event = node::perform(shard, &mut node.disks.log, command);
                    shard.handle(Input::Wal(event));
                }
                Output::Store(command) => {
                    let slow = slow_store.filter(|it| it.0 == nth).map(|_| &mut node.slow_works);
                    do_of_store(shard, &mut node.disks, command, (*no_room == Some(nth), slow));
                    // Time may pass before it is asked what to do.
                    shard.handle(Input::Tick(Tick(*now)));
                }
                Output::Reply { to, ready } => {
                    let before = self.answers.insert(to, ready);
                    assert!(before.is_none_or(is_head), "{to:?} is answered twice");
                }
                Output::Send { to, .. }
                    if !node.guests.contains(&to) && node.peers.iter().all(|peer| peer.0 != to) => {
                }
                Output::Send { to, packet } => {
                    self.bulk += usize::from(packet.is_bulk());
                    let after = self.line.take(&packet, *now);
                    let is_doubled = dice.chance(self.doubled);
                    for _ in 0..=usize::from(is_doubled) {
                        if !dice.chance(self.loss) {
                            let due = *now + after + 1 + dice.below(self.delay_max);
                            flying.push(Flying { due, from: nth, to, bytes: packet.encode() });
                        }
                    }
                }
                Output::Peers(peers) => node.peers = peers,
                Output::Rows { .. } => {}
                Output::Watch(told) => self.told.push((nth, told)),
                Output::Reopen => {
                    assert!(node.works.is_empty() && !node.disks.log.is_changing());
                    let (seed, now) = (dice.next(), Tick(*now));
                    go_on(shard, (&node.config, &node.disks, log_id(nth)), seed, now);
                    self.moved += 1;
                }
                Output::Role(line) => node.lines.push(line),
                Output::Halt(why) => node.halted = Some(why),
            }
        }
        let revision = shard.keyspace().revision().0;
        let state = (revision, shard.lessor().len());
        let known = *self.states.entry(shard.applied()).or_insert(state);
        assert_eq!(known, state, "node {nth} at entry {}", shard.applied());
        if node.halted.is_some() {
            node.shard = None;
        }
    }

    /// Packets on their way from a node.
    pub(crate) fn under_way_from(&self, nth: usize) -> usize {
        self.flying.iter().filter(|packet| packet.from == nth).count()
    }

    /// A packet arrives, unless the connection that it came by is refused.
    fn arrive(&mut self, to: usize, packet: Flying) {
        let from = self.nodes[packet.from].config.raft.id;
        let node = &mut self.nodes[to];
        let Some(shard) = &mut node.shard else { return };
        if !node.peers.iter().any(|peer| peer.0 == from) {
            if shard.has_removed(from) {
                let (from, packet) = (node.config.raft.id, (packet.from, Packet::Removed));
                if let Some(shard) = &mut self.nodes[packet.0].shard {
                    shard.handle(Input::Packet { from, packet: packet.1 });
                }
                return;
            }
            node.guests.insert(from);
        }
        let mut packet = Packet::decode(packet.bytes).expect("its own bytes");
        if let Packet::Snapshot(Parcel::Piece { bytes, .. }) = &mut packet
            && self.is_garbled
        {
            let mut other = bytes.to_vec();
            other[0] ^= 1;
            *bytes = other.into();
        }
        shard.handle(Input::Packet { from, packet });
    }

    /// A millisecond or more passes: disks and packets arrive, and everybody goes on.
    pub(crate) fn step(&mut self) {
        self.now += 1 + self.dice.below(3);
        let due: Vec<Flying> = self.flying.extract_if(.., |it| it.due <= self.now).collect();
        for packet in due {
            let Some(to) = self.nth(packet.to) else { continue };
            if self.cut.contains(&(packet.from, to)) {
                continue;
            }
            self.arrive(to, packet);
        }
        for nth in 0..self.nodes.len() {
            let node = &mut self.nodes[nth];
            let Some(shard) = &mut node.shard else { continue };
            if !node.works.is_empty() && self.dice.chance(self.disk_speed) {
                let work = node.works.remove(self.dice.index(node.works.len()));
                node.disks.log.complete(work.write);
                shard.handle(Input::Wal(wal::Event::Written { id: work.id }));
            }
            if self.slow_store.is_none_or(|slow| slow.0 != nth || self.dice.chance(slow.1))
                && let Some(command) = node.slow_works.pop_front()
            {
                let event = node::perform_store(shard, &mut node.disks.store, command);
                shard.handle(Input::Store(event.expect("what is asked for is there")));
            }
            shard.handle(Input::Tick(Tick(self.now)));
            self.run(nth);
            if let Some(shard) = &mut self.nodes[nth].shard {
                shard.work();
            }
            self.run(nth);
        }
    }

    /// Steps until it is so.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if is_so(self) {
                return;
            }
            self.step();
        }
        let lines = self.nodes.iter().map(|node| (node.lines.last(), &node.halted));
        panic!("{what} never comes: {:?}", lines.collect::<Vec<_>>());
    }

    /// Steps for so many milliseconds.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.step();
        }
    }

    /// Who leads and is known to by a majority.
    pub(crate) fn leader(&self) -> Option<usize> {
        let running = self.nodes.iter().filter_map(|node| node.shard.as_ref());
        let here = self.nodes.iter().filter(|node| node.halted.is_none()).count();
        let majority = here / 2 + 1;
        let leads = |nth: &usize| {
            let id = self.nodes[*nth].config.raft.id;
            let ready = running.clone().filter(|it| it.is_ready() && it.leader() == Some(id));
            let own = self.nodes[*nth].shard.as_ref();
            own.is_some_and(|shard| shard.is_leader()) && ready.count() >= majority
        };
        (0..self.nodes.len()).find(leads)
    }

    /// A node that is to join, as one of these says that it may.
    pub(crate) fn join(&mut self, told: &Member, all: &[Member]) -> usize {
        let nth = self.nodes.len();
        self.add(all.to_vec(), nth, |config| {
            config.raft.id = told.id;
            config.joins = true;
        });
        self.start(nth);
        nth
    }

    /// The node that has this id.
    pub(crate) fn nth(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.config.raft.id == id)
    }

    /// What a node knows of a member.
    pub(crate) fn row(&self, nth: usize, id: NodeId) -> Option<Member> {
        let shard = self.nodes[nth].shard.as_ref()?;
        shard.members().iter().find(|member| member.id == id).cloned()
    }

    /// How many vote, as a node knows.
    pub(crate) fn voters(&self, nth: usize) -> usize {
        let shard = self.nodes[nth].shard.as_ref().expect("it runs");
        shard.membership().voters().len()
    }

    /// Waits for a leader.
    pub(crate) fn elect(&mut self) -> usize {
        self.until("a leader", |world| world.leader().is_some());
        self.leader().expect("it was just there")
    }

    /// Somebody that does not lead.
    pub(crate) fn follower(&mut self) -> usize {
        let leader = self.elect();
        (leader + 1) % self.nodes.len()
    }

    /// Asks a node; the answer comes later, if ever.
    pub(crate) fn ask(&mut self, nth: usize, request: Request) -> RequestId {
        self.asked += 1;
        let connection = u32::try_from(nth).expect("small");
        let from = RequestId { core: 0, connection, generation: 0, stream: self.asked };
        if let Some(shard) = &mut self.nodes[nth].shard {
            shard.handle(Input::Request { from, request });
            self.run(nth);
        }
        from
    }

    /// A core of a node asks for its watchers.
    pub(crate) fn watch(&mut self, nth: usize, ask: Ask) {
        self.nodes[nth].shard.as_mut().expect("it runs").handle(Input::Watch(ask));
        self.run(nth);
    }

    /// What a request was answered with, if it was.
    pub(crate) fn answer(&self, of: RequestId) -> Option<Answer> {
        match self.answers.get(&of)? {
            Ready::Result(result) => Some(result.clone()),
            Ready::Range(_) | Ready::List(_) => panic!("a read of keys"),
        }
    }

    /// What came for a request last.
    pub(crate) fn ready(&self, of: RequestId) -> &Ready {
        &self.answers[&of]
    }

    /// Asks a node for all its keys, as a list, of which nobody takes a row.
    pub(crate) fn list(&mut self, nth: usize) -> RequestId {
        self.asked += 1;
        let connection = u32::try_from(nth).expect("small");
        let to = RequestId { core: 0, connection, generation: 0, stream: self.asked };
        let query = RangeQuery::new(KeyRange::From(b"\0"));
        let range = Range::new(b"\0", b"\0", &query, true);
        let shard = self.nodes[nth].shard.as_mut().expect("it runs");
        shard.handle(Input::List { to, range, shape: |_| 1 });
        self.run(nth);
        to
    }

    pub(crate) fn is_answered(&self, of: RequestId) -> bool {
        self.answers.contains_key(&of)
    }

    /// Asks a node and waits for the answer.
    pub(crate) fn call(&mut self, nth: usize, request: Request) -> Answer {
        let of = self.ask(nth, request);
        self.until("an answer", |world| world.is_answered(of));
        self.answer(of).expect("it was just there")
    }

    /// The value of a key, read from a node; what stands in the way of it otherwise.
    pub(crate) fn get(
        &mut self,
        nth: usize,
        key: &str,
        serializable: bool,
    ) -> Result<Option<String>, Failure> {
        let key = key.as_bytes();
        let query = RangeQuery::new(KeyRange::One(key));
        let of = self.ask(nth, Request::Range(Range::new(key, &[], &query, serializable)));
        self.until("a read", |world| world.is_answered(of));
        match &self.answers[&of] {
            Ready::Range(range) => {
                let (mut found, range) = (None, range.clone());
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let Node { shard: Some(shard), disks, .. } = &mut self.nodes[nth] else {
                    panic!("it runs");
                };
                let read = shard.read(&range, usize::MAX, |_, _, value| found = Some(text(value)));
                if read.is_err() {
                    // It is on disk.
                    let rows = node::rows(shard, disks, 0).unwrap_or_else(|why| panic!("{why}"));
                    found = rows.iter().find(|row| row.key == key).map(|row| text(&row.value));
                }
                Ok(found)
            }
            Ready::Result(Err(failure)) => Err(failure.clone()),
            Ready::Result(Ok(_)) | Ready::List(_) => panic!("no read of keys"),
        }
    }

    /// Waits until all that run have applied the same, and checks that they hold the same.
    pub(crate) fn settle(&mut self) -> Vec<(String, String, i64)> {
        self.until("one state", |world| {
            let applied: BTreeSet<LogIndex> =
                world.nodes.iter().filter_map(|it| Some(it.shard.as_ref()?.applied())).collect();
            applied.len() == 1 && world.leader().is_some()
        });
        let mut all: Option<Vec<_>> = None;
        for nth in 0..self.nodes.len() {
            let Node { shard: Some(shard), disks, .. } = &mut self.nodes[nth] else { continue };
            let rows = node::rows(shard, disks, 0).unwrap_or_else(|why| panic!("{why}"));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let rows = rows.iter().map(|it| (text(&it.key), text(&it.value), it.version));
            let rows: Vec<_> = rows.collect();
            assert_eq!(*all.get_or_insert_with(|| rows.clone()), rows, "node {nth}");
        }
        all.expect("somebody runs")
    }
}

/// Whether an answer says that a write took place; none if it may have.
pub(crate) fn is_done(answer: &Answer) -> Option<bool> {
    match answer {
        Ok(Response { body: Body::Put { .. }, .. }) => Some(true),
        Ok(_) => panic!("{answer:?} for a put"),
        Err(Failure::Unavailable(
            Unavailable::TooManyRequests
            | Unavailable::TooLarge
            | Unavailable::NoLeader
            | Unavailable::Stopped,
        )) => Some(false),
        Err(_) => None,
    }
}
