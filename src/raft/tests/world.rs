//! A group of nodes in memory: their disks, the network between them, one clock, and the oracles.
//!
//! Fault model. A packet may be lost, doubled, delayed without bound and overtaken; never altered.
//! A crash loses what was not yet stored: of the stores on their way, a prefix is on the disk, and
//! of the store after it a prefix of its entries. What was stored stays, unaltered.
//!
//! Uses only what the module shows to everyone, so that the script runner can use it as well.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::Body;
use crate::raft::Config;
use crate::raft::ConfigData;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::HardState;
use crate::raft::Input;
use crate::raft::Mark;
use crate::raft::Membership;
use crate::raft::Message;
use crate::raft::Node;
use crate::raft::Output;
use crate::raft::Position;
use crate::raft::Restored;
use crate::raft::Role;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

/// Luck from a seed.
pub(crate) struct Luck(pub(crate) u64);

impl Luck {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index fits")
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    pub(crate) mark: Mark,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(self.mark.last, Entry::position)
    }

    pub(crate) fn append(&mut self, entry: &Entry) {
        let at = usize::try_from(entry.index.0 - self.mark.last.index.0 - 1).expect("it fits");
        assert!(at <= self.entries.len(), "stored entries leave no gap");
        self.entries.truncate(at);
        self.entries.push(entry.clone());
    }

    pub(crate) fn compact(&mut self, last: Position) {
        self.mark.membership = self.membership(last.index);
        self.entries.retain(|entry| entry.index > last.index);
        self.mark.last = last;
    }

    pub(crate) fn membership(&self, index: LogIndex) -> Membership {
        let upto = self.entries.iter().filter(|entry| entry.index <= index);
        let last = upto.filter(|entry| entry.kind == EntryKind::Config).last();
        let decode = |entry: &Entry| read_config(entry).membership;
        last.map_or(self.mark.membership.clone(), decode)
    }

    /// What a node finds: `base` and `applied` are for the caller to choose.
    pub(crate) fn restored(&self, base: LogIndex, applied: LogIndex) -> Restored {
        let at = self.entries.iter().position(|entry| entry.index > base);
        let at = at.unwrap_or(self.entries.len());
        Restored {
            hard_state: self.hard,
            snapshot: self.mark.last,
            base: at.checked_sub(1).map_or(self.mark.last, |at| self.entries[at].position()),
            membership: self.membership(base),
            entries: self.entries[at..].to_vec(),
            applied,
        }
    }
}

/// One node and what belongs to it.
pub(crate) struct Member {
    pub(crate) config: Config,
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    /// Stores and installations on their way to the disk.
    pub(crate) stores: VecDeque<Output>,
    pub(crate) fetches: VecDeque<Output>,
    pub(crate) snapshots: VecDeque<Output>,
    pub(crate) applied: LogIndex,
    committed: LogIndex,
    /// What came out since it was last looked at, in words.
    pub(crate) said: Vec<String>,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

/// The group.
pub(crate) struct World {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) network: Vec<Packet>,
    pub(crate) now: u64,
    pub(crate) luck: Luck,
    /// Pairs that can not hear each other: from, to.
    pub(crate) blocked: Vec<(NodeId, NodeId)>,
    /// Every entry any node has applied.
    pub(crate) chosen: BTreeMap<LogIndex, Entry>,
    pub(crate) leaders: BTreeMap<Term, NodeId>,
    /// The highest index any node has called committed.
    pub(crate) committed: LogIndex,
    /// Open reads: who asked, and what was committed then.
    pub(crate) reads: BTreeMap<u64, (NodeId, LogIndex)>,
    pub(crate) reads_done: u64,
    pub(crate) reads_lost: u64,
    pub(crate) installs: u64,
    pub(crate) fetched: u64,
    /// What lies together on the disk: a fetch does not go past the end of so many entries.
    pub(crate) segment_len: u64,
    next: u64,
}

impl World {
    /// Voters 1 to `voters` and nobody else; `shape` may change each node's configuration.
    pub(crate) fn new(voters: u64, seed: u64, shape: impl Fn(&mut Config)) -> Self {
        let ids: Vec<NodeId> = (1..=voters).map(NodeId).collect();
        let mut world = Self {
            members: BTreeMap::new(),
            network: Vec::new(),
            now: 0,
            luck: Luck(seed),
            blocked: Vec::new(),
            chosen: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: LogIndex(0),
            reads: BTreeMap::new(),
            reads_done: 0,
            reads_lost: 0,
            installs: 0,
            fetched: 0,
            segment_len: u64::MAX,
            next: 0,
        };
        for id in &ids {
            world.join(*id, Membership::new(&ids, &[]), &shape);
        }
        world
    }

    /// Adds a node that believes in this membership, empty if it is yet to be told.
    pub(crate) fn join(&mut self, id: NodeId, membership: Membership, shape: impl Fn(&mut Config)) {
        let mut config = Config::new(id);
        shape(&mut config);
        let mut disk = Disk::default();
        disk.mark.membership = membership;
        let member = Member {
            config,
            node: None,
            disk,
            stores: VecDeque::new(),
            fetches: VecDeque::new(),
            snapshots: VecDeque::new(),
            applied: LogIndex(0),
            committed: LogIndex(0),
            said: Vec::new(),
        };
        self.members.insert(id, member);
        self.restart(id);
    }

    pub(crate) fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("the node exists")
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.members[&id].node.as_ref().expect("the node runs")
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.ids().into_iter().filter(|id| self.members[id].node.is_some()).collect()
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| self.node(*id).role() == Role::Leader;
        self.running().into_iter().filter(leads).max_by_key(|id| self.node(*id).term())
    }

    /// Starts a node from its disk.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let seed = self.luck.next();
        let (choice, other) = (self.luck.next(), self.luck.next());
        let member = self.member(id);
        // The state machine is anywhere between its snapshot and what was known as committed; the
        // entries in memory begin anywhere before that.
        let start = member.disk.mark.last.index.0;
        let applied = start + choice % (member.disk.hard.committed.0.max(start) - start + 1);
        let base = start + other % (applied - start + 1);
        self.restart_from(id, LogIndex(base), LogIndex(applied), seed);
    }

    /// Starts a node from its disk, with the entries after `base` in memory.
    pub(crate) fn restart_from(
        &mut self,
        id: NodeId,
        base: LogIndex,
        applied: LogIndex,
        seed: u64,
    ) {
        let now = Tick(self.now);
        let member = self.member(id);
        let restored = member.disk.restored(base, applied);
        let mut node = Node::new(member.config.clone(), restored, seed);
        node.handle(Input::Tick(now));
        member.node = Some(node);
        member.applied = applied;
        member.committed = LogIndex(0);
        self.drain(id);
    }

    /// Ends a node; of what was on its way to the disk a prefix arrives.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let (keep, part) = (self.luck.next(), self.luck.next());
        let member = self.member(id);
        if member.node.take().is_none() {
            return;
        }
        let keep = keep % (member.stores.len() as u64 + 1);
        for _ in 0..keep {
            member.store();
        }
        if let Some(Output::Store { entries, .. }) = member.stores.front() {
            let part = usize::try_from(part % (entries.len() as u64 + 1)).expect("it fits");
            for entry in &entries[..part] {
                member.disk.append(entry);
            }
        }
        member.stores.clear();
        member.fetches.clear();
        member.snapshots.clear();
        member.said.push("crashed".into());
        self.reads.retain(|_, read| read.0 != id);
    }

    pub(crate) fn handle(&mut self, id: NodeId, input: Input) {
        if let Some(node) = self.member(id).node.as_mut() {
            node.handle(input);
            self.drain(id);
        }
    }

    /// The first store on its way becomes durable; says whether there was one.
    pub(crate) fn store(&mut self, id: NodeId) -> bool {
        let member = self.member(id);
        let Some((ticket, is_install)) = member.store() else { return false };
        if is_install {
            member.applied = member.disk.mark.last.index;
            self.installs += 1;
        }
        self.handle(id, Input::Stored { ticket });
        true
    }

    /// Answers the first fetch; says whether there was one.
    pub(crate) fn fetch(&mut self, id: NodeId) -> bool {
        let segment_len = self.segment_len;
        let member = self.member(id);
        let Some(Output::Fetch { peer, first, last, size_max }) = member.fetches.pop_front() else {
            return false;
        };
        let (mut size, segment) = (0, first.0 / segment_len);
        let fits = |entry: &&Entry| {
            size += entry.size();
            let is_near = entry.index <= last && entry.index.0 / segment_len == segment;
            is_near && (entry.index == first || size <= size_max)
        };
        let from = member.disk.entries.iter().skip_while(|entry| entry.index < first);
        let mut entries: Vec<Entry> = from.take_while(fits).cloned().collect();
        if entries.first().is_some_and(|entry| entry.index != first) {
            entries.clear();
        }
        self.fetched += 1;
        self.handle(id, Input::Fetched { peer, first, entries });
        true
    }

    /// Takes and sends the first snapshot asked for, or fails to; says whether there was one.
    pub(crate) fn snapshot(&mut self, id: NodeId, is_sent: bool) -> bool {
        let member = self.member(id);
        let Some(Output::SendSnapshot { to, term, index_min }) = member.snapshots.pop_front()
        else {
            return false;
        };
        let applied = member.applied;
        assert!(applied >= index_min, "what no longer exists was applied");
        let node = member.node.as_ref().expect("the node runs");
        let mark = node.mark(applied).expect("the last applied entry is known");
        if is_sent {
            let message = Message { term, body: Body::Snapshot { mark } };
            self.network.push(Packet { from: id, to, message });
        }
        let index = is_sent.then_some(applied);
        self.handle(id, Input::SnapshotSent { peer: to, index });
        true
    }

    /// The node forgets entries up to `index`, if they are applied, and durable.
    pub(crate) fn compact(&mut self, id: NodeId, index: LogIndex) {
        let member = self.member(id);
        let Some(node) = member.node.as_ref() else { return };
        let index = index.min(member.applied).min(node.durable()).min(member.disk.last().index);
        let entry = member.disk.entries.iter().find(|entry| entry.index == index);
        if let Some(last) = entry.map(Entry::position) {
            member.disk.compact(last);
            member.disk.hard.committed = member.disk.hard.committed.max(last.index);
            self.handle(id, Input::Compacted { last });
        }
    }

    pub(crate) fn is_blocked(&self, packet: &Packet) -> bool {
        self.blocked.contains(&(packet.from, packet.to))
    }

    pub(crate) fn deliver(&mut self, packet: Packet) {
        if !self.is_blocked(&packet) && self.members.contains_key(&packet.to) {
            let input = Input::Message { from: packet.from, message: packet.message };
            self.handle(packet.to, input);
        }
    }

    /// A command that is like no other.
    pub(crate) fn command(&mut self) -> Bytes {
        self.next += 1;
        Bytes::from(format!("c{}", self.next))
    }

    pub(crate) fn read(&mut self, id: NodeId) -> bool {
        self.next += 1;
        let (context, floor) = (self.next, self.committed);
        let Some(node) = self.member(id).node.as_mut() else { return false };
        let is_asked = node.read(context).is_ok();
        if is_asked {
            self.reads.insert(context, (id, floor));
        }
        self.drain(id);
        is_asked
    }

    pub(crate) fn advance(&mut self, ticks: u64) {
        self.now += ticks;
        for id in self.running() {
            self.handle(id, Input::Tick(Tick(self.now)));
        }
    }

    /// Everything that is on its way arrives, until nothing is.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_still = true;
            for id in self.running() {
                while self.store(id) || self.fetch(id) || self.snapshot(id, true) {
                    is_still = false;
                }
            }
            if !self.network.is_empty() {
                is_still = false;
                let packet = self.network.remove(0);
                self.deliver(packet);
            }
            if is_still {
                return;
            }
        }
        panic!("the group comes to rest");
    }

    /// As [`World::settle`], but nobody hears of entries.
    pub(crate) fn settle_votes(&mut self) {
        let held = |packet: &Packet| matches!(packet.message.body, Body::Append { .. });
        loop {
            let ids = self.running();
            let is_stored = ids.into_iter().filter(|id| self.store(*id)).count() > 0;
            match self.network.iter().position(|packet| !held(packet)) {
                Some(at) => {
                    let packet = self.network.remove(at);
                    self.deliver(packet);
                }
                None if !is_stored => return,
                None => {}
            }
        }
    }

    /// Time passes in small steps, and everything arrives, until `done`; says whether it came.
    pub(crate) fn run_until(&mut self, ticks: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ticks;
        while self.now < end {
            self.settle();
            if done(self) {
                return true;
            }
            self.advance(20);
        }
        false
    }

    /// Does what the node asks, and holds what it says against what may be said.
    pub(crate) fn drain(&mut self, id: NodeId) {
        while let Some(output) = self.member(id).node.as_mut().and_then(Node::poll) {
            self.on_output(id, output);
        }
        self.check(id);
    }

    fn on_output(&mut self, id: NodeId, output: Output) {
        let member = self.members.get_mut(&id).expect("the node exists");
        member.said.push(say(&output));
        match output {
            Output::Store { .. } | Output::InstallSnapshot { .. } => {
                member.stores.push_back(output);
            }
            Output::Fetch { .. } => member.fetches.push_back(output),
            Output::SendSnapshot { .. } => member.snapshots.push_back(output),
            Output::Send { to, message } => {
                member.check_durable(id, to, &message);
                self.network.push(Packet { from: id, to, message });
            }
            Output::Commit { entries } => {
                assert!(!entries.is_empty(), "a commit hands something over");
                for entry in entries {
                    self.apply(id, entry);
                }
            }
            Output::Read { context, index } => {
                assert!(member.applied >= index, "what a read must see was handed over before");
                let (asker, floor) = self.reads.remove(&context).expect("a read is answered once");
                assert_eq!(asker, id, "a read is answered where it was asked");
                assert!(index >= floor, "a read sees what was committed before it");
                self.reads_done += 1;
            }
            Output::ReadLost { context } => {
                self.reads.remove(&context).expect("a read is answered once");
                self.reads_lost += 1;
            }
            Output::Membership { .. } | Output::Role { .. } => {}
        }
    }

    /// State-machine safety (paper §5.4.3): nobody applies another entry at this index.
    fn apply(&mut self, id: NodeId, entry: Entry) {
        let member = self.member(id);
        assert_eq!(entry.index, member.applied.next(), "entries are applied in order, once each");
        member.applied = entry.index;
        let chosen = self.chosen.entry(entry.index).or_insert_with(|| entry.clone());
        assert_eq!(*chosen, entry, "node {id} applies what the others apply");
    }

    fn check(&mut self, id: NodeId) {
        let member = self.members.get_mut(&id).expect("the node exists");
        let Some(node) = member.node.as_ref() else { return };
        assert!(node.committed() >= member.committed, "the commit index never falls");
        member.committed = node.committed();
        self.committed = self.committed.max(node.committed());
        if node.role() == Role::Leader {
            // Election safety (paper §5.2): at most one leader in each term.
            let leader = *self.leaders.entry(node.term()).or_insert(id);
            assert_eq!(leader, id, "term {} has one leader", node.term());
        }
    }
}

impl Member {
    /// The first store on its way is on the disk; says its ticket and whether it is a snapshot.
    fn store(&mut self) -> Option<(crate::raft::Ticket, bool)> {
        match self.stores.pop_front()? {
            Output::Store { ticket, entries, hard_state } => {
                for entry in &entries {
                    self.disk.append(entry);
                }
                self.disk.hard = hard_state.unwrap_or(self.disk.hard);
                Some((ticket, false))
            }
            Output::InstallSnapshot { ticket, mark } => {
                self.disk.entries.clear();
                self.disk.hard.committed = mark.last.index;
                self.disk.mark = mark;
                Some((ticket, true))
            }
            Output::Send { .. }
            | Output::Commit { .. }
            | Output::Read { .. }
            | Output::ReadLost { .. }
            | Output::Fetch { .. }
            | Output::Membership { .. }
            | Output::Role { .. }
            | Output::SendSnapshot { .. } => panic!("only stores are on their way to the disk"),
        }
    }

    /// What rests on durability is durable when it leaves.
    fn check_durable(&self, id: NodeId, to: NodeId, message: &Message) {
        let hard = self.disk.hard;
        match message.body {
            Body::Vote { .. } => {
                let own = hard.term == message.term && hard.vote == Some(id);
                assert!(own || hard.term > message.term, "a candidate's own vote is durable");
            }
            Body::VoteResponse { granted: true } => {
                let own = hard.term == message.term && hard.vote == Some(to);
                assert!(own, "a vote is durable when it is given");
            }
            Body::AppendResponse { matched } => {
                assert!(hard.term >= message.term, "the term is durable");
                assert!(self.disk.last().index >= matched, "acknowledged entries are durable");
            }
            Body::PreVote { .. }
            | Body::PreVoteResponse { .. }
            | Body::VoteResponse { granted: false }
            | Body::Append { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => {}
        }
    }
}

fn read_config(entry: &Entry) -> ConfigData {
    ConfigData::decode(&entry.data).expect("a config entry can be read")
}

/// An output in words, as scripts show it.
pub(crate) fn say(output: &Output) -> String {
    let list = |entries: &[Entry]| {
        let each: Vec<String> = entries.iter().map(say_entry).collect();
        format!("[{}]", each.join(" "))
    };
    match output {
        Output::Store { ticket, entries, hard_state } => {
            let hard = hard_state.map_or(String::new(), |hard| {
                let vote = hard.vote.map_or("none".into(), |vote| vote.to_string());
                format!(" term={} vote={vote} committed={}", hard.term, hard.committed)
            });
            format!("store #{} {}{hard}", ticket.0, list(entries))
        }
        Output::Send { to, message } => format!("send {to} {}", say_message(message)),
        Output::Commit { entries } => format!("commit {}", list(entries)),
        Output::Read { context, index } => format!("read {context} at {index}"),
        Output::ReadLost { context } => format!("read {context} lost"),
        Output::Fetch { peer, first, last, .. } => format!("fetch {first}..={last} for {peer}"),
        Output::Membership { index, membership } => {
            format!("members from {index}: {}", say_membership(membership))
        }
        Output::Role { term, role, leader } => {
            let leader = leader.map_or("none".into(), |leader| leader.to_string());
            format!("role {role:?} term={term} leader={leader}")
        }
        Output::SendSnapshot { to, index_min, .. } => {
            format!("send {to} snapshot from {index_min}")
        }
        Output::InstallSnapshot { ticket, mark } => {
            format!("install #{} {} {}", ticket.0, mark.last, say_membership(&mark.membership))
        }
    }
}

pub(crate) fn say_membership(membership: &Membership) -> String {
    let ids = |list: &[NodeId]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let learners = ids(membership.learners());
    let tail = if learners.is_empty() { learners } else { format!(" learners {learners}") };
    format!("voters {}{tail}", ids(membership.voters()))
}

fn say_entry(entry: &Entry) -> String {
    match entry.kind {
        EntryKind::Normal => {
            format!("{}={}", entry.position(), String::from_utf8_lossy(&entry.data))
        }
        EntryKind::Config => {
            let data = read_config(entry);
            format!("{}=({})", entry.position(), say_membership(&data.membership))
        }
        EntryKind::Empty => format!("{}", entry.position()),
    }
}

pub(crate) fn say_message(message: &Message) -> String {
    let words = match &message.body {
        Body::PreVote { last } => format!("PreVote last={last}"),
        Body::PreVoteResponse { granted } => format!("PreVoteResponse granted={granted}"),
        Body::Vote { last, transfer } => format!("Vote last={last} transfer={transfer}"),
        Body::VoteResponse { granted } => format!("VoteResponse granted={granted}"),
        Body::Append { prev, entries, committed } => {
            let entries: Vec<String> = entries.iter().map(say_entry).collect();
            format!("Append prev={prev} [{}] committed={committed}", entries.join(" "))
        }
        Body::AppendResponse { matched } => format!("AppendResponse matched={matched}"),
        Body::AppendRejected { prev, hint } => format!("AppendRejected prev={prev} hint={hint}"),
        Body::Heartbeat { committed, round } => {
            format!("Heartbeat committed={committed} round={round}")
        }
        Body::HeartbeatResponse { round } => format!("HeartbeatResponse round={round}"),
        Body::Snapshot { mark } => {
            format!("Snapshot {} {}", mark.last, say_membership(&mark.membership))
        }
        Body::TimeoutNow => "TimeoutNow".into(),
        Body::ReadIndex { .. } => "ReadIndex".into(),
        Body::ReadIndexResponse { index, .. } => format!("ReadIndexResponse index={index}"),
    };
    format!("{words} term={}", message.term)
}
