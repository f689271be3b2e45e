//! What breaks, and what operators do.

use super::call::{MemberOp, Op, Told};
use super::net::Place;
use super::process::Broken;
use super::world::{Event, World};
use ringd::shard::request::Member;
use ringd::types::NodeId;

/// Members that a group has at most, and nodes that a run has.
const MEMBERS_MAX: usize = 6;
const NODES_MAX: usize = 10;

/// A kind of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Crash,
    Pause,
    Part,
    Cut,
    Still,
    Flip,
    Slow,
    Full,
    /// What comes next of the order that shows one planted bug.
    Duel,
}

/// All kinds.
const FAULTS: [Fault; 9] = [
    Fault::Crash,
    Fault::Pause,
    Fault::Part,
    Fault::Cut,
    Fault::Still,
    Fault::Flip,
    Fault::Slow,
    Fault::Full,
    Fault::Duel,
];

impl World {
    /// Milliseconds between two of a kind, on average; 0 is never.
    fn interval(&self, fault: Fault) -> u64 {
        let faults = &self.swarm.faults;
        match fault {
            Fault::Crash => faults.crash,
            Fault::Pause => faults.pause,
            Fault::Part => faults.part,
            Fault::Cut => faults.cut,
            Fault::Still => faults.still,
            Fault::Flip => faults.flip,
            Fault::Slow => faults.slow,
            Fault::Full => faults.full,
            Fault::Duel => faults.duel,
        }
    }

    pub(super) fn begin_faults(&mut self) {
        FAULTS.into_iter().for_each(|fault| self.plan(fault));
    }

    fn plan(&mut self, fault: Fault) {
        let interval = self.interval(fault);
        if interval > 0 {
            let after = 1 + self.dice.below(2 * interval);
            self.after(after, Event::Break(fault));
        }
    }

    /// Some node whose process runs.
    fn some_node(&mut self) -> Option<usize> {
        let is_up = |nth: &usize| self.nodes[*nth].process.is_some();
        let up: Vec<usize> = (0..self.nodes.len()).filter(is_up).collect();
        let leader = up.iter().copied().find(|nth| self.leads(*nth));
        if leader.is_some() && self.dice.chance(30) {
            return leader;
        }
        (!up.is_empty()).then(|| self.dice.pick(&up))
    }

    pub(super) fn leads(&self, nth: usize) -> bool {
        self.nodes[nth].process.as_ref().is_some_and(|it| it.shard.is_leader())
    }

    pub(super) fn break_something(&mut self, fault: Fault) {
        if self.is_quiet {
            return;
        }
        self.plan(fault);
        let now = self.now;
        match fault {
            Fault::Crash => {
                let power = self.dice.chance(50);
                if let Some(nth) = self.some_node() {
                    if self.dice.chance(15) {
                        self.stop(nth);
                    } else {
                        self.crash(nth, power);
                    }
                }
            }
            Fault::Pause => {
                let pause = self.dice.pick(&[100, 800, 3_000]);
                if let Some(nth) = self.some_node() {
                    let until = now + 1 + self.dice.below(pause);
                    let node = &mut self.nodes[nth];
                    node.paused_until = node.paused_until.max(until);
                    self.counts.pauses += 1;
                }
            }
            Fault::Part => self.part(),
            Fault::Duel => self.go_on_with_duel(),
            Fault::Cut => {
                let all = self.net.all();
                if !all.is_empty() {
                    let conn = self.dice.pick(&all);
                    self.cut(conn);
                    self.counts.cuts += 1;
                }
            }
            Fault::Still => {
                let all = self.net.all();
                if !all.is_empty() {
                    let (conn, side) = (self.dice.pick(&all), self.dice.index(2));
                    let most = self.dice.pick(&[300, 3_000, 20_000]);
                    let until = now + self.dice.below(most);
                    self.net.still(conn, side, until);
                    self.counts.stills += 1;
                }
            }
            Fault::Flip => self.flip(),
            Fault::Slow => {
                if let Some(nth) = self.some_node() {
                    self.nodes[nth].slow_until = now + 100 + self.dice.below(3_000);
                    self.counts.slows += 1;
                }
            }
            Fault::Full => {
                let broken =
                    self.dice.pick(&[Broken::Full, Broken::Unreadable, Broken::Unwritable]);
                if let Some(nth) = self.some_node() {
                    let until = now + 100 + self.dice.below(1_500);
                    self.nodes[nth].broken = Some((broken, until));
                }
            }
        }
    }

    /// A bit flips between two members: what clients read has no checksum of ours.
    fn flip(&mut self) {
        let is_peers = |conn: &u64| {
            let ends = self.net.ends(*conn);
            ends.is_some_and(|it| it.iter().all(|place| matches!(place, Place::Node(_))))
        };
        let conns: Vec<u64> = self.net.all().into_iter().filter(is_peers).collect();
        if !conns.is_empty() {
            let conn = self.dice.pick(&conns);
            self.counts.flips += u64::from(self.net.flip(conn, &mut self.dice));
        }
    }

    /// Some nodes do not reach some others for a while, in one direction or in both.
    fn part(&mut self) {
        let count = self.nodes.len();
        let is_one_way = self.dice.chance(35);
        let kind = self.dice.below(6);
        let leader = (0..count).find(|nth| self.leads(*nth));
        let alone = match leader {
            Some(leader) if self.dice.chance(50) => leader,
            _ => self.dice.index(count),
        };
        let side: Vec<bool> = (0..count)
            .map(|nth| if kind < 4 { nth == alone } else { self.dice.chance(50) })
            .collect();
        // Or two that do not reach each other, and reach all others.
        let other = (kind < 2).then(|| self.dice.index(count));
        let is_parted = |from: usize, to: usize| {
            let is_meant = other.is_none_or(|other| from == other || to == other);
            is_meant && side[from] != side[to] && (side[from] || !is_one_way)
        };
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let parted = all.filter(|(from, to)| is_parted(*from, *to));
        let mut pairs: Vec<_> =
            parted.map(|(from, to)| (Place::Node(from), Place::Node(to))).collect();
        if self.dice.chance(15) {
            for nth in 0..self.clients.len() {
                pairs.push((Place::Node(alone), Place::Client(nth)));
            }
        }
        for (from, to) in &pairs {
            self.net.block(*from, *to, true);
        }
        self.counts.parts += 1;
        self.counts.one_way += u64::from(is_one_way);
        let lasts = self.dice.pick(&[200, 1_000, 4_000]);
        let after = 50 + self.dice.below(lasts);
        self.after(after, Event::Heal(pairs));
    }

    /// An operator moves leadership, or changes who belongs to the group.
    pub(super) fn operate(&mut self, nth: usize) {
        if !self.swarm.members || self.dice.chance(50) {
            let up: Vec<usize> = (0..self.nodes.len()).filter(|at| self.leads(*at)).collect();
            let Some(leader) = up.first().copied() else { return };
            if self.clients[nth].node != leader {
                return self.leave(nth);
            }
            let target = self.dice.index(self.nodes.len());
            let target = self.nodes[target].id.0;
            self.counts.moves += 1;
            return self.ask(nth, Op::Member(MemberOp::MoveLeader { target }));
        }
        // Operators know whom they have added, and what has become of it.
        let up = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let Some(newest) = up.max_by_key(|it| it.shard.applied()) else { return };
        let members = newest.shard.members().to_vec();
        let voters = newest.shard.membership().voters().len();
        let missing = members.iter().find(|member| self.nth(member.id).is_none());
        if let Some(member) = missing {
            let at = self.add(member.id, members.clone(), true);
            self.counts.joined += 1;
            return self.after(0, Event::Start(at));
        }
        let is_gone = |id: NodeId| self.nth(id).is_some_and(|at| self.nodes[at].is_removed);
        if let Some(member) = members.iter().find(|member| is_gone(member.id)) {
            let id = member.id;
            self.removals.insert(id);
            return self.ask(nth, Op::Member(MemberOp::Remove { id: id.0 }));
        }
        let learners: Vec<u64> =
            members.iter().filter(|member| member.learner).map(|member| member.id.0).collect();
        let some = self.dice.pick(&members).id;
        match self.dice.below(4) {
            0 if !learners.is_empty() => {
                let id = self.dice.pick(&learners);
                self.ask(nth, Op::Member(MemberOp::Promote { id }));
            }
            0 | 1 if members.len() < MEMBERS_MAX && self.nodes.len() < NODES_MAX => {
                let (url, learner) = (super::peers::url(self.nodes.len()), self.dice.chance(40));
                self.ask(nth, Op::Member(MemberOp::Add { url, learner }));
            }
            2 if members.len() > 2 => {
                self.removals.insert(some);
                self.ask(nth, Op::Member(MemberOp::Remove { id: some.0 }));
            }
            // Who was added with a vote has none before it has caught up.
            _ if voters > 2 && learners.is_empty() && !self.is_one_leaving(&members) => {
                self.wipe(some);
            }
            _ => {}
        }
    }

    /// Whether one of these was asked to be removed, and may yet be. Who has the entry counts
    /// without it: were another of three wiped then, nobody could be elected any more.
    fn is_one_leaving(&self, members: &[Member]) -> bool {
        self.calls.iter().any(|call| {
            let Op::Member(MemberOp::Remove { id }) = call.op else { return false };
            let is_there = members.iter().any(|member| member.id.0 == id);
            is_there && !matches!(call.told, Some(Told::Refused(_)))
        })
    }

    /// A node loses all that it had, and never comes back: another takes its place.
    fn wipe(&mut self, id: NodeId) {
        if let Some(nth) = self.nth(id)
            && self.nodes[nth].process.is_some()
        {
            self.crash(nth, true);
            let node = &mut self.nodes[nth];
            node.is_removed = true;
            node.disks = crate::node::Disks::default();
            self.counts.wipes += 1;
        }
    }
}
