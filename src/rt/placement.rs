//! Which core a new connection goes to.
//!
//! A request that arrives where its shard lives makes no hop, so a connection goes to its shard's
//! core while that has room; then to the core with the most of it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Share of its time, in thousandths, from which on a core counts as full.
const FULL_PERMILLE: u32 = 850;

/// How busy each core is; told by the cores, read by the main thread.
#[derive(Debug)]
pub(crate) struct Placement {
    cores: Vec<Load>,
}

#[derive(Debug, Default)]
struct Load {
    connections: AtomicU32,
    busy_permille: AtomicU32,
}

impl Placement {
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| Load::default()).collect() }
    }

    fn load(&self, core: u32) -> &Load {
        &self.cores[usize::try_from(core).expect("usize is 64 bits")]
    }

    /// The core for a connection to a shard that lives on `home`, counted there; none if every core
    /// has `most` already.
    pub(crate) fn choose(&self, home: u32, most: u32) -> Option<u32> {
        let room = |core: u32| self.load(core).connections.load(Relaxed) < most;
        let busy = |core: u32| self.load(core).busy_permille.load(Relaxed);
        let count = u32::try_from(self.cores.len()).expect("CPUs are few");
        let chosen = if room(home) && busy(home) < FULL_PERMILLE {
            home
        } else {
            (0..count)
                .filter(|core| room(*core))
                .min_by_key(|core| (busy(*core), self.load(*core).connections.load(Relaxed)))?
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_with_its_shard_until_that_core_is_full() {
        let placement = Placement::new(2);
        assert_eq!(placement.choose(0, 3), Some(0));
        placement.set_busy(0, 900);
        assert_eq!(placement.choose(0, 3), Some(1));
        placement.set_busy(0, 100);
        assert_eq!(placement.choose(0, 3), Some(0));
        assert_eq!(placement.choose(0, 3), Some(0));
        assert_eq!(placement.choose(0, 3), Some(1));
        assert_eq!(placement.choose(0, 3), Some(1));
        assert_eq!(placement.choose(0, 3), None);
        placement.ended(0);
        assert_eq!(placement.choose(0, 3), Some(0));
    }
}
