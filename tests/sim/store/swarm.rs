//! What one seed of a store's is made of: limits, kinds of work and kinds of faults.

use crate::dice::Dice;
use ringd::store::Config;

/// The choices of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) config: Config,
    pub(crate) steps: u32,
    /// Completions of the disk: fewer make it slow.
    pub(crate) disk_speed: u64,
    /// What is in flight completes in any order.
    pub(crate) reorder: bool,
    pub(crate) crashes: bool,
    pub(crate) failures: bool,
    /// It is started again with other limits.
    retunes: bool,
    /// Of a hundred crash points: those at which a bit is flipped besides.
    pub(crate) flips: u64,
    pub(crate) tick_max: u64,
    /// How often compaction, slices of cleaning and reads are.
    pub(crate) compacts: u64,
    pub(crate) works: u64,
    pub(crate) reads: u64,
    /// Of a hundred chances to seal before the tail wants it: those taken.
    pub(crate) seals: u64,
    /// Of a hundred changes of a live key: those that delete it.
    pub(crate) deletes: u64,
    keys: u64,
    value_size: usize,
    large: u64,
}

impl Swarm {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        Self {
            config: config(dice),
            steps: dice.pick(&[300, 1_000, 3_000]),
            disk_speed: dice.pick(&[5, 15, 40]),
            reorder: dice.chance(60),
            crashes: dice.chance(75),
            failures: dice.chance(40),
            retunes: dice.chance(50),
            flips: dice.pick(&[0, 10, 30]),
            tick_max: dice.pick(&[10, 100, 1_000]),
            compacts: dice.pick(&[0, 40, 80, 120]),
            works: dice.pick(&[100, 300]),
            reads: dice.pick(&[10, 100]),
            seals: dice.pick(&[0, 10, 50]),
            deletes: dice.pick(&[0, 20, 50]),
            keys: dice.pick(&[2, 10, 40]),
            value_size: dice.pick(&[8, 100, 300]),
            large: dice.pick(&[0, 0, 5]),
        }
    }

    /// Other limits, as a changed flag would give.
    pub(crate) fn retune(&mut self, dice: &mut Dice) {
        if self.retunes {
            self.config = config(dice);
        }
    }

    pub(crate) fn key(&self, dice: &mut Dice) -> Vec<u8> {
        format!("key{}", dice.below(self.keys)).into_bytes()
    }

    pub(crate) fn value(&self, dice: &mut Dice) -> Vec<u8> {
        let most = if dice.chance(self.large) { 9_000 } else { self.value_size };
        let size = dice.index(most);
        let mark = dice.next().to_le_bytes();
        mark.iter().copied().cycle().take(size).collect()
    }
}

/// Limits small enough for every boundary to be met.
fn config(dice: &mut Dice) -> Config {
    let seal_size = dice.pick(&[600, 600, 3_000, 20_000]);
    let mut config = Config {
        block_size: dice.pick(&[64, 300, 2_000]),
        seal_size,
        tail_size_max: seal_size * dice.pick(&[2, 20]),
        segment_size: dice.pick(&[1_000, 8_000, 60_000]),
        cache_size: dice.pick(&[0, 2_000, 50_000]),
        reads_max: dice.pick(&[1, 3, 128]),
        write_size: dice.pick(&[4096, 8192, 65_536]),
        clean_rate: dice.pick(&[100, 5_000, 1_000_000]),
        seal_rate: 1,
        clean_read_size: dice.pick(&[4096, 65_536]),
        read_size: dice.pick(&[4096, 65_536]),
    };
    config.seal_rate = config.clean_rate;
    config
}
