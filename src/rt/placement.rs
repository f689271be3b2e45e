//! Which core a new connection goes to, how much is on its way between cores, and what every core
//! is to know of a shard.
//!
//! A request that arrives where its shard lives makes no hop, so a connection goes to its shard's
//! core while that has room; then to the core with the most of it. With few clients a hop costs
//! more than it saves; with many it is the front end that has to spread, and how busy a core is
//! shows only after they have all come. So the home core also takes only so many more than others.

use crate::types::ShardId;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Share of its time, in thousandths, from which on a core counts as full.
const FULL_PERMILLE: u32 = 850;
/// Connections that a shard's own core takes however busy it was a moment ago: with so few, what
/// made it busy has most likely left, and a lone client's hop is a third of its latency.
const HOME_FEW: u32 = 16;
/// Connections that a shard's own core takes beyond those of the core with the fewest: about as
/// many busy ones as fill a core.
const HOME_LEAD: u32 = 256;
/// Bytes of answers on their way to one core from which on no more reads are answered for it: what
/// it takes in within some 10 ms.
const ANSWERS_SIZE_MAX: usize = 64 << 20;

/// How busy each core is; told by the cores, read by the main thread.
#[derive(Debug)]
pub(crate) struct Placement {
    cores: Vec<Load>,
    shards: Vec<Known>,
}

/// What is known of a shard; told by its core, read by all.
#[derive(Debug, Default)]
struct Known {
    has_leader: AtomicBool,
    is_learner: AtomicBool,
}

#[derive(Debug, Default)]
struct Load {
    connections: AtomicU32,
    busy_permille: AtomicU32,
    /// Bytes on their way to it.
    answers: AtomicUsize,
}

impl Placement {
    pub(crate) fn new(cores: usize, shards: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Load::default()).collect(),
            shards: (0..shards).map(|_| Known::default()).collect(),
        }
    }

    fn known(&self, shard: ShardId) -> &Known {
        &self.shards[usize::try_from(shard.0).expect("usize is 64 bits")]
    }

    /// Whether a shard knows a leader.
    pub(crate) fn has_leader(&self, shard: ShardId) -> bool {
        self.known(shard).has_leader.load(Relaxed)
    }

    /// Whether a shard's replica here has no vote.
    pub(crate) fn is_learner(&self, shard: ShardId) -> bool {
        self.known(shard).is_learner.load(Relaxed)
    }

    /// What is known of a shard now.
    pub(crate) fn learn(&self, shard: ShardId, has_leader: bool, is_learner: bool) {
        let known = self.known(shard);
        for (flag, is_set) in [(&known.has_leader, has_leader), (&known.is_learner, is_learner)] {
            // Every core reads them for each call: they are written only to change.
            if flag.load(Relaxed) != is_set {
                flag.store(is_set, Relaxed);
            }
        }
    }

    fn load(&self, core: u32) -> &Load {
        &self.cores[usize::try_from(core).expect("usize is 64 bits")]
    }

    /// The core for a connection to a shard that lives on `home`, counted there; none if every core
    /// has `most` already.
    pub(crate) fn choose(&self, home: u32, most: u32) -> Option<u32> {
        let connections = |core: u32| self.load(core).connections.load(Relaxed);
        let busy = |core: u32| self.load(core).busy_permille.load(Relaxed);
        let count = u32::try_from(self.cores.len()).expect("CPUs are few");
        let fewest = (0..count).map(connections).min().unwrap_or(0);
        let is_home = connections(home) < most.min(fewest.saturating_add(HOME_LEAD));
        let is_calm = busy(home) < FULL_PERMILLE || connections(home) < HOME_FEW;
        let chosen = if is_home && is_calm {
            home
        } else {
            // Beyond its lead the home core is passed over, however idle it is.
            (0..count)
                .filter(|core| connections(*core) < most)
                .min_by_key(|core| (*core == home && !is_home, busy(*core), connections(*core)))?
        };
        self.load(chosen).connections.fetch_add(1, Relaxed);
        Some(chosen)
    }

    /// A connection of this core has ended.
    pub(crate) fn ended(&self, core: u32) {
        self.load(core).connections.fetch_sub(1, Relaxed);
    }

    /// How much of its time a core has lately worked, in thousandths.
    pub(crate) fn set_busy(&self, core: u32, permille: u32) {
        self.load(core).busy_permille.store(permille, Relaxed);
    }

    /// Whether answers may be made for a core.
    pub(crate) fn takes_answers(&self, core: u32) -> bool {
        self.load(core).answers.load(Relaxed) < ANSWERS_SIZE_MAX
    }

    /// So many bytes of answers go to a core.
    pub(crate) fn answers_leave(&self, core: u32, size: usize) {
        self.load(core).answers.fetch_add(size, Relaxed);
    }

    /// So many have come to it.
    pub(crate) fn answers_arrive(&self, core: u32, size: usize) {
        self.load(core).answers.fetch_sub(size, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_with_its_shard_until_that_core_is_full() {
        let placement = Placement::new(2, 1);
        let most = HOME_FEW + 2;
        placement.set_busy(0, 900);
        // So few that it can not be they who make it busy.
        assert!((0..HOME_FEW).all(|_| placement.choose(0, most) == Some(0)));
        assert_eq!(placement.choose(0, most), Some(1));
        placement.set_busy(0, 100);
        assert_eq!(placement.choose(0, most), Some(0));
        assert_eq!(placement.choose(0, most), Some(0));
        assert!((1..most).all(|_| placement.choose(0, most) == Some(1)));
        assert_eq!(placement.choose(0, most), None);
        placement.ended(0);
        assert_eq!(placement.choose(0, most), Some(0));
    }

    #[test]
    fn many_connections_spread_however_idle_their_home_is() {
        let placement = Placement::new(3, 1);
        placement.set_busy(1, 500);
        placement.set_busy(2, 400);
        let chosen = |count: u32| {
            (0..count).map(|_| placement.choose(1, 10_000).expect("room")).collect::<Vec<_>>()
        };
        assert!(chosen(HOME_LEAD).iter().all(|core| *core == 1));
        // The others catch up in turn, and the lead stays.
        let mut counts = [0; 3];
        for core in chosen(3 * 100) {
            counts[usize::try_from(core).expect("small")] += 1;
        }
        assert_eq!(counts, [300, 0, 0], "core 0 is idle, so it takes them");
        placement.set_busy(0, 450);
        let last = chosen(1);
        assert_eq!(last, [2]);
        placement.ended(2);
        assert_eq!(placement.choose(1, HOME_LEAD), Some(2));
        assert_eq!(Placement::new(1, 1).choose(0, 1), Some(0));
    }

    #[test]
    fn a_lone_core_takes_all() {
        let placement = Placement::new(1, 1);
        assert!((0..2 * HOME_LEAD).all(|_| placement.choose(0, 10_000) == Some(0)));
    }

    #[test]
    fn answers_on_their_way_are_bounded() {
        let placement = Placement::new(2, 1);
        placement.answers_leave(1, ANSWERS_SIZE_MAX);
        assert!(!placement.takes_answers(1) && placement.takes_answers(0));
        placement.answers_arrive(1, 1);
        assert!(placement.takes_answers(1));
    }
}
