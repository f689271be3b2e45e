//! Nodes, the network between them, their clients, and the order in which everything happens.
//!
//! There is one agenda. Whatever takes time is on it: bytes that arrive, disks that are done,
//! clocks that tick, clients that think, and all that breaks. What is due at the same time happens
//! in the order in which it was put there; so one number, the seed, says all.

use super::clients::Client;
use super::counts::Counts;
use super::duel::Duel;
use super::net::{Net, Place};
use super::oracle::config::Config as Configs;
use super::oracle::lease::Leases;
use super::oracle::order::{Call, Order};
use super::oracle::states::States;
use super::oracle::truth::Truth;
use super::planted::{Acks, Bug, Offers};
use super::process::Node;
use super::swarm::Swarm;
use crate::dice::Dice;
use crate::node::Disks;
use ringd::api::Settings;
use ringd::http2::Limits;
use ringd::peer::Kind;
use ringd::shard::peer::Packet;
use ringd::shard::request::Member;
use ringd::types::{LogIndex, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// What is told when a seed fails.
const TRACE_MAX: usize = 60;
/// Milliseconds between two ticks of a node, as the server's.
pub(super) const TICK: u64 = 20;

/// Something that is due; what belongs to a process names its node and which of its lives.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A node's process begins.
    Start(usize),
    Tick(usize, u64),
    Turn(usize, u64),
    /// Something of its disks is done.
    Done(usize, u64, u64),
    /// A node calls another one: to whom, for what, at which attempt.
    Dial(usize, u64, (NodeId, Kind, u64)),
    /// It got no answer.
    DialFailed(usize, u64, (NodeId, Kind, u64)),
    /// A packet that was held back leaves.
    Send(usize, u64, NodeId, Box<Packet>),
    /// Bytes, or the end, may have come from this side of a connection.
    Arrive(u64, usize),
    /// A client does something.
    Think(usize),
    /// Something breaks.
    Break(super::faults::Fault),
    /// What was parted comes together.
    Heal(Vec<(Place, Place)>),
}

/// A line of what is told when a seed fails.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Event(Event),
    /// A client asks: which, whom, which call.
    Asks(usize, usize, usize),
    /// It is told what became of a call.
    Told(usize, usize),
    Quiet,
}

/// All of it.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) swarm: Swarm,
    pub(super) dice: Dice,
    pub(super) bug: Option<Bug>,
    pub(super) bug_dice: Dice,
    pub(super) now: u64,
    /// Counts all that happens.
    pub(super) count: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) net: Net,
    pub(super) clients: Vec<Client>,
    pub(super) settings: Rc<Settings>,
    pub(super) founders: Vec<NodeId>,
    /// Nothing breaks any more.
    pub(super) is_quiet: bool,
    pub(super) calls: Vec<Call>,
    pub(super) truth: Truth,
    pub(super) order: Order,
    pub(super) states: States,
    pub(super) configs: Configs,
    pub(super) leases: Leases,
    /// Members that somebody has asked to remove.
    pub(super) removals: BTreeSet<NodeId>,
    pub(super) counts: Counts,
    pub(super) hash: u64,
    /// What a bug keeps of what followers have said.
    pub(super) acks: Acks,
    /// What it keeps of snapshots.
    pub(super) offers: Offers,
    pub(super) duel: Duel,
    trace: VecDeque<(u64, Line)>,
}

/// The id of a founder.
fn id(nth: usize) -> NodeId {
    NodeId(0x51 + u64::try_from(nth).expect("few"))
}

fn member(nth: usize) -> Member {
    Member {
        id: id(nth),
        name: format!("n{nth}"),
        peer_urls: vec![super::peers::url(nth)],
        client_urls: Vec::new(),
        learner: false,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        crate::tell_of_panic(self.bug.is_some(), |why| self.tell(why));
    }
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7));
        let mut swarm = Swarm::new(&mut dice);
        if let Some(bug) = bug {
            bug.tune(&mut swarm);
        }
        let settings = Settings {
            message_size_max: swarm.config.request_size_max + 1_000,
            request_size_max: swarm.config.request_size_max,
            txn_ops_max: 128,
            whole_size_max: swarm.whole_size_max,
            watch_notify_interval: 500,
            shards: "{}".into(),
            bench: false,
            election_timeout: swarm.config.raft.election_ticks,
            limits: Limits::default(),
        };
        let mut world = Self {
            seed,
            net: Net::new(swarm.pace),
            bug,
            bug_dice: Dice::new(seed),
            now: 1,
            count: 0,
            agenda: BTreeMap::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            settings: Rc::new(settings),
            founders: (0..swarm.nodes).map(id).collect(),
            is_quiet: false,
            calls: Vec::new(),
            truth: Truth::default(),
            order: Order { known: 1 },
            states: States::default(),
            configs: Configs::default(),
            leases: Leases::default(),
            removals: BTreeSet::new(),
            counts: Counts::default(),
            hash: 0xcbf2_9ce4_8422_2325,
            acks: Acks::default(),
            offers: Offers::default(),
            duel: Duel::default(),
            trace: VecDeque::new(),
            dice,
            swarm,
        };
        let count = world.swarm.nodes;
        for nth in 0..count {
            world.add(id(nth), (0..count).map(member).collect(), false);
            let after = world.dice.below(200);
            world.after(after, Event::Start(nth));
        }
        world.begin_clients();
        world.begin_faults();
        world
    }

    /// One more node, with these members to begin with.
    pub(super) fn add(&mut self, id: NodeId, members: Vec<Member>, joins: bool) -> usize {
        let nth = self.nodes.len();
        let mut config = self.swarm.config.clone();
        config.raft.id = id;
        config.members = members;
        config.founders.clone_from(&self.founders);
        config.joins = joins;
        (config.name, config.client_urls) =
            (format!("n{nth}"), vec![format!("http://n{nth}:2379")]);
        let log_id = self.dice.next() | 1;
        let rate = self.swarm.rate(&mut self.dice);
        self.counts.drifts += u64::from(rate != 1000);
        self.nodes.push(Node {
            id,
            config,
            disks: Disks::default(),
            log_id,
            joined: if joins { self.states.last } else { LogIndex(0) },
            is_known: false,
            process: None,
            life: 0,
            rate,
            skew: 0,
            paused_until: 0,
            slow_until: 0,
            broken: None,
            is_removed: false,
            orphans: Vec::new(),
            lines: VecDeque::new(),
        });
        nth
    }

    /// Puts something on the agenda, so many milliseconds from now.
    pub(super) fn after(&mut self, after: u64, event: Event) {
        self.count += 1;
        self.agenda.insert((self.now + after, self.count), event);
    }

    /// Lives through it all.
    ///
    /// # Errors
    /// What was not as it must be, and how to see it again.
    pub(super) fn run(mut self) -> Result<(Counts, u64), String> {
        match self.live() {
            Ok(()) => {
                self.counts.sum_up(&self.configs, &self.leases, &self.clients, self.now);
                Ok((self.counts.clone(), self.hash))
            }
            Err(why) => Err(self.tell(&why)),
        }
    }

    fn tell(&self, why: &str) -> String {
        let trace = self.trace.iter().map(|(at, line)| format!("{at}: {}", self.tell_line(line)));
        let trace: Vec<String> = trace.collect();
        let nodes = self.nodes.iter().enumerate().map(|(nth, node)| node.tell(nth));
        let nodes: Vec<String> = nodes.collect();
        let of = self.bug.map_or_else(String::new, |bug| format!(" with {bug:?}"));
        format!(
            "{why}\n  see it again{of}: SEED={} cargo test --test sim cluster\n  {:?}\n  {}\n  the \
             last:\n    {}",
            self.seed,
            self.swarm,
            nodes.join("\n  "),
            trace.join("\n    ")
        )
    }

    fn tell_line(&self, line: &Line) -> String {
        match line {
            Line::Event(event) => format!("{event:?}"),
            Line::Asks(client, node, call) => {
                let op = &self.calls[*call].op;
                format!("client {client} asks node {node} call {call}, {op:?}")
            }
            Line::Told(client, call) => {
                let told = &self.calls[*call].told;
                format!("client {client} is told of call {call}, {told:?}")
            }
            Line::Quiet => "nothing breaks any more".to_owned(),
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.until(self.swarm.span)?;
        self.come_to_rest()
    }

    /// Lets everything happen that is due until then.
    pub(super) fn until(&mut self, end: u64) -> Result<(), String> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= end
        {
            let ((due, _), event) = entry.remove_entry();
            self.now = self.now.max(due);
            self.count += 1;
            self.note(&event);
            self.happen(event)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        if !matches!(event, Event::Tick(..) | Event::Turn(..)) {
            self.remark(Line::Event(event.clone()));
        }
    }

    /// Keeps a line of what happens.
    pub(super) fn remark(&mut self, line: Line) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now, line));
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Start(nth) => return self.start(nth),
            Event::Arrive(conn, side) => return self.arrive(conn, side),
            Event::Think(nth) => self.think(nth),
            Event::Break(fault) => self.break_something(fault),
            Event::Heal(pairs) => {
                pairs.into_iter().for_each(|(from, to)| self.net.block(from, to, false));
            }
            Event::Tick(nth, life)
            | Event::Turn(nth, life)
            | Event::Done(nth, life, _)
            | Event::Dial(nth, life, _)
            | Event::DialFailed(nth, life, _)
            | Event::Send(nth, life, ..) => {
                let node = &self.nodes[nth];
                if node.life != life || node.process.is_none() {
                    return Ok(());
                }
                if node.paused_until > self.now {
                    // Of all that has happened meanwhile, it may learn the time last.
                    let is_tick = matches!(event, Event::Tick(..));
                    let later = if is_tick { self.dice.below(6) } else { 0 };
                    self.after(node.paused_until - self.now + later, event);
                    return Ok(());
                }
                return self.happen_at(nth, event);
            }
        }
        Ok(())
    }

    fn happen_at(&mut self, nth: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Tick(..) => self.tick(nth),
            Event::Turn(..) => return self.turn(nth),
            Event::Done(_, _, work) => return self.done(nth, work),
            Event::Dial(_, _, to) => self.dial(nth, to),
            Event::DialFailed(_, _, to) => self.dialled(nth, to, None),
            Event::Send(_, _, to, packet) => self.say(nth, to, &packet),
            Event::Start(_)
            | Event::Arrive(..)
            | Event::Think(_)
            | Event::Break(_)
            | Event::Heal(_) => unreachable!("it belongs to no process"),
        }
        Ok(())
    }

    /// Whether this bug is planted, and strikes now: so many times of a hundred.
    pub(super) fn has(&mut self, bug: Bug, percent: u64) -> bool {
        self.bug == Some(bug) && self.bug_dice.chance(percent)
    }

    pub(super) fn mix(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        for &byte in chunks.remainder() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The number of the node that has this id.
    pub(super) fn nth(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }
}
