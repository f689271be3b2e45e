//! Orders of events that luck alone seldom makes, made on purpose.
//!
//! One is figure 8 of the Raft paper: two leaders in turn, each cut off with what nobody else has.
//! The other one is a leader with a lease, which is cut off from one member for long, and from all
//! when that one stands for election. Nobody writes meanwhile, or that one would lack what it needs
//! to be voted for.

use super::net::Place;
use super::process::Work;
use super::world::World;
use ringd::types::{LogIndex, Term};

/// Milliseconds that a step may take.
const PATIENCE: u64 = 4_000;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Somebody leads, and will be cut off.
    #[default]
    Led,
    /// It is cut off, and another one is to lead, which goes down with its first entry.
    CutOff,
    /// The first leads again, and what it had is to come to the third.
    Again,
    /// It did, and both went down; the second may lead.
    Down,
    /// It has a lease; once all have what it has, it will be cut off from one other.
    Even,
    /// It does not reach one other, and will reach nobody once that one stands.
    CutInPart,
}

/// The whole of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Duel {
    step: Step,
    since: u64,
    first: usize,
    /// What anybody had applied when the first was to lead again.
    applied: LogIndex,
    /// Who does not start again yet.
    pub(super) held: Option<usize>,
}

impl World {
    /// The next step, if it may be made.
    pub(super) fn go_on_with_duel(&mut self) {
        let now = self.now;
        if now > self.duel.since + PATIENCE {
            self.net.heal();
            self.duel = Duel { since: now, ..Duel::default() };
        }
        let first = self.duel.first;
        let leader = (0..self.nodes.len()).rev().find(|nth| self.has_led(*nth));
        let next = match self.duel.step {
            Step::Led if self.nodes[0].config.raft.leader_lease => leader.map(|leader| {
                self.duel.first = leader;
                Step::Even
            }),
            Step::Even => self.is_even().then(|| {
                self.block_both(first, (first + 1) % self.nodes.len(), true);
                Step::CutInPart
            }),
            Step::CutInPart => {
                let other = (first + 1) % self.nodes.len();
                (self.term(other) > self.term(first)).then(|| {
                    self.cut_off(first, true);
                    Step::Down
                })
            }
            Step::Led => leader.map(|leader| {
                self.duel.first = leader;
                self.cut_off(leader, true);
                Step::CutOff
            }),
            Step::CutOff => {
                let second = (0..self.nodes.len()).find(|nth| *nth != first && self.leads(*nth));
                if let Some(second) = second {
                    // What it says from now on, nobody hears.
                    self.cut_off(second, true);
                }
                second.filter(|second| self.has_logged(*second)).map(|second| {
                    self.crash(second, true);
                    self.duel.held = Some(second);
                    self.duel.applied = self.states.last;
                    let third = self.third();
                    self.block_both(first, third, false);
                    Step::Again
                })
            }
            Step::Again => {
                let third = self.third();
                let has_come = self.leads(first) && self.applied(third) > self.duel.applied;
                has_come.then(|| {
                    self.crash(third, true);
                    self.crash(first, true);
                    let second = self.duel.held.expect("it was held");
                    self.cut_off(second, false);
                    self.duel.held = Some(first);
                    Step::Down
                })
            }
            Step::Down => None,
        };
        if let Some(next) = next {
            (self.duel.step, self.duel.since) = (next, now);
        }
    }

    /// Whether nobody is to write for now.
    pub(super) fn is_duel_of_readers(&self) -> bool {
        matches!(self.duel.step, Step::Even | Step::CutInPart)
    }

    /// Whether the first leads, and all have applied what anybody has.
    fn is_even(&self) -> bool {
        let all = (0..self.nodes.len()).all(|nth| self.applied(nth) == self.states.last);
        all && self.has_led(self.duel.first)
    }

    /// Who is neither the first nor held.
    fn third(&self) -> usize {
        let others = [Some(self.duel.first), self.duel.held];
        (0..self.nodes.len()).find(|nth| !others.contains(&Some(*nth))).expect("there are three")
    }

    fn applied(&self, nth: usize) -> LogIndex {
        self.nodes[nth].process.as_ref().map_or(LogIndex(u64::MAX), |it| it.shard.applied())
    }

    fn term(&self, nth: usize) -> Term {
        let process = self.nodes[nth].process.as_ref();
        process.map_or(Term(0), |it| it.shard.header().term)
    }

    /// Whether it leads and has applied an entry of its own term: all that is of earlier ones is
    /// committed.
    fn has_led(&self, nth: usize) -> bool {
        self.nodes[nth].process.as_ref().is_some_and(|it| it.has_led)
    }

    /// Whether it leads, and the entry that this began with is on its disk.
    fn has_logged(&self, nth: usize) -> bool {
        let process = self.nodes[nth].process.as_ref();
        process.is_some_and(|it| {
            let has_begun = it.looked.2 && it.looked.1 == it.shard.header().term;
            has_begun && !it.works.values().any(|work| matches!(work, Work::Log { .. }))
        })
    }

    /// A node and all others do not reach each other, or do again.
    fn cut_off(&mut self, nth: usize, is_cut: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != nth) {
            self.block_both(nth, other, is_cut);
        }
    }

    fn block_both(&mut self, one: usize, other: usize, is_cut: bool) {
        self.net.block(Place::Node(one), Place::Node(other), is_cut);
        self.net.block(Place::Node(other), Place::Node(one), is_cut);
    }
}
