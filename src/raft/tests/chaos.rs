//! Random schedules: whatever happens in whatever order, after every step the promises hold, and
//! once the faults stop the group gets on with its work.
//!
//! Each seed disables some faults and operations altogether, so that some runs are hard in one way
//! only. `SEED=n` runs one seed again and prints the last things that happened; `SEEDS=n` runs the
//! first n.

use std::collections::VecDeque;

use bytes::Bytes;

use super::world::Luck;
use super::world::World;
use crate::raft::Input;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::Role;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Tick;

/// Things that happen, and how often beside each other when they are enabled at all.
const EVENTS: [(&str, u64); 19] = [
    ("deliver", 450),
    ("store", 180),
    ("tick", 100),
    ("propose", 80),
    ("read", 40),
    ("fetch", 40),
    ("snapshot", 40),
    ("drop", 25),
    ("double", 20),
    ("compact", 10),
    ("crash", 4),
    ("restart", 10),
    ("partition", 3),
    ("change", 4),
    ("transfer", 3),
    ("campaign", 3),
    ("hang up", 8),
    ("reach", 4),
    ("fail to reach", 4),
];

/// Those that every run needs.
const ALWAYS: [&str; 8] =
    ["deliver", "store", "tick", "propose", "fetch", "snapshot", "restart", "read"];

struct Chaos {
    world: World,
    enabled: Vec<(&'static str, u64)>,
    recent: VecDeque<String>,
}

fn chaos(voters: u64, seed: u64) -> Chaos {
    let mut luck = Luck(seed);
    let lease = luck.percent(25);
    let small = luck.percent(60);
    let (pre_vote, check_quorum) = (luck.percent(80), lease || luck.percent(80));
    let stores_inflight_max = 1 + luck.index(4);
    let enabled: Vec<_> =
        EVENTS.into_iter().filter(|event| ALWAYS.contains(&event.0) || luck.percent(65)).collect();
    let shape = move |config: &mut crate::raft::Config| {
        config.leader_lease = lease;
        config.pre_vote = pre_vote;
        config.check_quorum = check_quorum;
        config.stores_inflight_max = stores_inflight_max;
        if small {
            config.append_size_max = 200;
            config.inflight_count_max = 3;
            config.inflight_size_max = 500;
            config.proposals_size_max = 2000;
            config.cache_size_max = 300;
            config.reads_max = 8;
        }
    };
    let mut world = World::new(voters, seed, shape);
    world.segment_len = [u64::MAX, 1, 3, 10][luck.index(4)];
    // Nodes that may be added later; they know nobody yet.
    for id in voters + 1..=voters + 2 {
        world.join(NodeId(id), Membership::default(), shape);
    }
    Chaos { world, enabled, recent: VecDeque::new() }
}

impl Chaos {
    fn step(&mut self) {
        let total: u64 = self.enabled.iter().map(|event| event.1).sum();
        let mut at = self.world.luck.below(total);
        let mut events = self.enabled.iter();
        let event = events.find(|event| {
            let is_it = at < event.1;
            at = at.saturating_sub(event.1);
            is_it
        });
        let event = event.expect("the weights add up").0;
        let ids = self.world.ids();
        let id = ids[self.world.luck.index(ids.len())];
        if self.recent.len() >= 100 {
            self.recent.pop_front();
        }
        self.recent.push_back(format!("{event} {id}"));
        self.happen(event, id);
        self.note();
        check_logs(&self.world);
    }

    fn note(&mut self) {
        for (id, member) in &mut self.world.members {
            for said in member.said.drain(..) {
                self.recent.push_back(format!("    {id}: {said}"));
            }
        }
        let excess = self.recent.len().saturating_sub(150);
        self.recent.drain(..excess);
    }

    fn happen(&mut self, event: &str, id: NodeId) {
        let world = &mut self.world;
        let is_running = world.members[&id].node.is_some();
        match event {
            "deliver" | "drop" | "double" if !world.network.is_empty() => {
                let at = world.luck.index(world.network.len());
                let packet = world.network[at].clone();
                self.recent.push_back(format!("    {packet:?}"));
                if event != "double" {
                    world.network.remove(at);
                }
                if event != "drop" {
                    world.deliver(packet);
                }
                while world.network.len() > 200 {
                    let at = world.luck.index(world.network.len());
                    world.network.remove(at);
                }
            }
            "store" => {
                world.store(id);
            }
            "tick" => {
                let ticks = 1 + world.luck.below(60);
                if world.members[&id].config.leader_lease || world.luck.percent(50) {
                    world.advance(ticks);
                } else {
                    world.now += ticks;
                    world.handle(id, Input::Tick(Tick(world.now)));
                }
            }
            "propose" if is_running => {
                // Mostly where it can succeed.
                let id = if world.luck.percent(80) { world.leader().unwrap_or(id) } else { id };
                let count = 1 + world.luck.below(4);
                for _ in 0..count {
                    let command = world.command();
                    let _ = world.member(id).node.as_mut().unwrap().propose(command);
                }
                world.drain(id);
            }
            "read" => {
                world.read(id);
            }
            "fetch" => {
                world.fetch(id);
            }
            "snapshot" => {
                let is_sent = world.luck.percent(70);
                world.snapshot(id, is_sent);
            }
            "compact" => {
                let start = world.members[&id].disk.mark.last.index.0;
                let index = LogIndex(start + world.luck.below(30));
                world.compact(id, index);
            }
            "crash" => world.crash(id),
            "restart" if !is_running => world.restart(id),
            "partition" => self.partition(),
            "change" => self.change(id),
            "transfer" => {
                if let Some(leader) = world.leader() {
                    let _ = world.member(leader).node.as_mut().unwrap().transfer(id);
                    world.drain(leader);
                }
            }
            "campaign" => world.handle(id, Input::Campaign),
            _ => self.connect(event, id),
        }
    }

    /// Something is heard of a connection.
    fn connect(&mut self, event: &str, id: NodeId) {
        let world = &mut self.world;
        let peer = some(world);
        let leader = world.leader().unwrap_or(id);
        match event {
            "reach" => world.handle(leader, Input::Reachable { peer }),
            "fail to reach" => world.handle(leader, Input::Unreachable { peer }),
            "hang up" if world.members[&id].node.is_some() => {
                // Mostly it is who leads.
                let led_by = world.node(id).leader().filter(|_| world.luck.percent(70));
                world.handle(id, Input::HungUp { peer: led_by.unwrap_or(peer) });
            }
            _ => {}
        }
    }

    fn partition(&mut self) {
        let world = &mut self.world;
        world.blocked.clear();
        if world.luck.percent(40) {
            return;
        }
        let ids = world.ids();
        let one_way = world.luck.percent(30);
        let side: Vec<bool> = ids.iter().map(|_| world.luck.percent(40)).collect();
        for (from, a) in ids.iter().zip(&side) {
            for (to, b) in ids.iter().zip(&side) {
                if a != b && (*a || !one_way) {
                    world.blocked.push((*from, *to));
                }
            }
        }
    }

    fn change(&mut self, id: NodeId) {
        let world = &mut self.world;
        let Some(leader) = world.leader() else { return };
        let change = match world.luck.below(4) {
            0 => MembershipChange::AddVoter(id),
            1 => MembershipChange::AddLearner(id),
            2 => MembershipChange::Promote(id),
            _ => MembershipChange::Remove(id),
        };
        let node = world.member(leader).node.as_mut().unwrap();
        let _ = node.propose_change(change, Bytes::new());
        world.drain(leader);
    }

    /// The faults stop; the group must elect, commit, catch everyone up and answer reads.
    fn recover(&mut self) {
        self.recent.push_back("the faults stop".into());
        let world = &mut self.world;
        world.blocked.clear();
        for id in world.ids() {
            if world.members[&id].node.is_none() {
                world.restart(id);
            }
        }
        let is_led = world.run_until(60_000, |world| {
            world.leader().is_some_and(|leader| {
                let node = world.node(leader);
                node.committed() == node.last().index && node.membership().is_voter(leader)
            })
        });
        assert!(is_led, "a leader is elected once the faults stop");
        let leader = world.leader().unwrap();
        let command = world.command();
        world.member(leader).node.as_mut().unwrap().transfer(leader).unwrap();
        let accepted = world.run_until(10_000, |_| true);
        assert!(accepted, "the group comes to rest");
        let leader = world.leader().unwrap();
        let mut index = world.member(leader).node.as_mut().unwrap().propose(command);
        for _ in 0..200 {
            if index.is_ok() {
                break;
            }
            world.advance(100);
            world.settle();
            if let Some(leader) = world.leader() {
                let command = world.command();
                index = world.member(leader).node.as_mut().unwrap().propose(command);
            }
        }
        let index = index.expect("a proposal is taken once the faults stop");
        let is_everywhere = world.run_until(60_000, |world| {
            world.leader().is_some_and(|leader| {
                let members = world.node(leader).membership().members();
                members.into_iter().all(|id| world.members[&id].applied >= index)
            })
        });
        assert!(is_everywhere, "everyone catches up once the faults stop");
        let members: Vec<NodeId> = {
            let leader = world.leader().unwrap();
            world.node(leader).membership().members().collect()
        };
        let is_read = (0..50).any(|_| {
            // Earlier questions that were lost are given up in time, and make room.
            world.advance(100);
            world.settle();
            let before = world.reads_done;
            let asked = members.iter().filter(|id| world.read(**id)).count() as u64;
            world.run_until(300, |world| world.reads_done >= before + asked)
                && asked == members.len() as u64
        });
        assert!(is_read, "every member reads once the faults stop");
    }
}

/// Any node.
fn some(world: &mut World) -> NodeId {
    let ids = world.ids();
    ids[world.luck.index(ids.len())]
}

/// Log matching (paper §5.3) and leader completeness (§5.4) over what the nodes hold in memory.
fn check_logs(world: &World) {
    // An earlier leader that has not heard of it may lack what a later one committed.
    let newest = world.leaders.last_key_value().map(|(_, id)| *id);
    let is_latest =
        |node: &crate::raft::Node| world.leaders.keys().all(|term| *term <= node.term());
    for id in world.running() {
        let node = world.node(id);
        let log = &node.log;
        let first = log.base().0.max(log.committed().0.saturating_sub(20));
        for index in (first + 1..=log.committed().0).map(LogIndex) {
            let chosen = world.chosen.get(&index).map(|entry| entry.term);
            let own = log.term(index);
            let agree = chosen.is_none() || own.is_none() || chosen == own;
            assert!(agree, "node {id} holds at {index} what was chosen");
        }
        if node.role() == Role::Leader && newest == Some(id) && is_latest(node) {
            assert!(log.last().index >= world.committed, "a leader has all that was committed");
            for (index, entry) in world.chosen.iter().rev().take(20) {
                let term = log.term(*index);
                let agree = term.is_none() || term == Some(entry.term);
                assert!(agree, "leader {id} has the committed entry at {index}");
            }
        }
        for other in world.running().into_iter().filter(|other| *other > id) {
            check_matching(world, id, other);
        }
    }
}

/// Where two logs hold an entry of the same index and term, they are alike from there back.
fn check_matching(world: &World, one: NodeId, other: NodeId) {
    let (a, b) = (&world.node(one).log, &world.node(other).log);
    let first = a.base().max(b.base());
    let last = a.last().index.min(b.last().index);
    let alike = |index: u64| a.term(LogIndex(index)) == b.term(LogIndex(index));
    let Some(top) = (first.0 + 1..=last.0).rev().find(|index| alike(*index)) else { return };
    if top > first.0 {
        let range =
            |log: &crate::raft::log::Log| log.slice(first.next(), LogIndex(top), usize::MAX);
        assert_eq!(range(a), range(b), "logs {one} and {other} agree up to {top}");
    }
}

/// Prints what happened last, should the test end in a panic.
struct Teller<'a>(&'a mut Chaos, u64, u64);

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note();
            for line in &self.0.recent {
                eprintln!("{line}");
            }
            for id in self.0.world.running() {
                let node = self.0.world.node(id);
                let log = &node.log;
                eprintln!(
                    "{id}: {:?} term={} leader={:?} last={} base={} snapshot={} committed={} {:?}",
                    node.role(),
                    node.term(),
                    node.leader(),
                    log.last(),
                    log.base(),
                    log.snapshot(),
                    log.committed(),
                    node.membership(),
                );
                for peer in node.progress() {
                    eprintln!("    {peer:?}");
                }
            }
            eprintln!("a group of {}: SEED={} reproduces this", self.1, self.2);
        }
    }
}

fn run(voters: u64, seed: u64, steps: u64) -> World {
    let mut chaos = chaos(voters, seed);
    let teller = Teller(&mut chaos, voters, seed);
    for _ in 0..steps {
        teller.0.step();
    }
    teller.0.recover();
    drop(teller);
    chaos.world
}

#[expect(clippy::disallowed_methods, reason = "a test may be told which seed to run")]
fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(count)).collect(),
    }
}

/// Runs the seeds, and sees to it that between them what is to be tested did happen.
fn run_all(voters: u64, count: u64, steps: u64) {
    let (mut chosen, mut reads, mut installs, mut fetched, mut terms) = (0, 0, 0, 0, 0);
    let seeds = seeds(count);
    for seed in &seeds {
        let world = run(voters, *seed, steps);
        chosen += world.chosen.len();
        reads += world.reads_done;
        installs += world.installs;
        fetched += world.fetched;
        terms += world.leaders.len();
    }
    if seeds.len() > 1 {
        assert!(chosen > seeds.len() * 20, "entries were committed: {chosen}");
        assert!(reads > 0, "reads were answered");
        assert!(terms > seeds.len(), "leaders changed: {terms}");
        assert!(voters == 1 || installs > 0, "snapshots were installed");
        assert!(voters == 1 || fetched > 0, "old entries were fetched");
    }
}

#[test]
fn a_group_of_one_keeps_its_promises_under_random_schedules() {
    run_all(1, 30, 1000);
}

#[test]
fn a_group_of_three_keeps_its_promises_under_random_schedules() {
    run_all(3, 25, 3000);
}

#[test]
fn a_group_of_five_keeps_its_promises_under_random_schedules() {
    run_all(5, 12, 3000);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let summary = |world: World| (world.now, world.chosen, world.leaders, world.reads_done);
    assert_eq!(summary(run(3, 7, 1000)), summary(run(3, 7, 1000)));
}
