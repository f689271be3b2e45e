//! How long nobody is served when the leader dies.
//!
//! A probe writes one small value after the other; what does not answer at once is left, and the
//! next member is asked. What counts is the longest time between two writes that succeeded.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{self, Clock, Nanos};
use crate::failure::Failure;
use crate::h2::hpack::Method;
use crate::message;
use crate::scenario::cluster::{Roamer, start};
use crate::scenario::{NEVER, Stage, pause_until};

/// Leaders that are killed in one round.
const KILLS: u32 = 3;

/// How long the probe waits for one answer: far less than an election takes.
const PATIENCE: Duration = Duration::from_millis(200);

/// Time between two writes.
const INTERVAL: Duration = Duration::from_millis(2);

/// How long after a kill a write must succeed.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(60);

/// Quiet time before each kill.
const QUIET: Duration = Duration::from_secs(4);

pub(in crate::scenario) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let mut group = start(stage)?;
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let (addresses, probe, over) = (group.addresses(), Probe::default(), AtomicBool::new(false));
    let mut gaps = Vec::new();
    let result = std::thread::scope(|scope| {
        let (probe, over) = (&probe, &over);
        scope.spawn(move || probe.run(&addresses, clock, over));
        let mut kills = || -> Result<(), Failure> {
            for kill in 1..=KILLS {
                stage.say(&format!("kills leader {kill} of {KILLS}"));
                stage.pause(QUIET)?;
                let leader = group.leader(interrupt)?;
                probe.longest.store(0, Ordering::Relaxed);
                let killed = clock.now();
                group.members[leader].kill();
                probe.await_success(clock, killed, interrupt)?;
                gaps.push(probe.longest.load(Ordering::Relaxed));
                group.members[leader].resume()?;
                group.members[leader].await_start(interrupt)?;
            }
            Ok(())
        };
        let result = kills();
        over.store(true, Ordering::Relaxed);
        result
    });
    result?;
    for gap in gaps {
        stage.figure("probe", "longest gap ms", gap as f64 / 1e6);
    }
    Ok(())
}

/// What the probe has seen.
#[derive(Debug, Default)]
struct Probe {
    /// When the last write succeeded, in nanoseconds on the clock.
    last: AtomicU64,
    /// The longest time between two that did, since this was last set to zero.
    longest: AtomicU64,
}

impl Probe {
    fn run(&self, addresses: &[SocketAddr], clock: Clock, over: &AtomicBool) {
        let mut put = Vec::new();
        message::bytes(1, b"probe", &mut put);
        message::bytes(2, b"alive", &mut put);
        let mut client = Roamer::new(addresses, PATIENCE);
        self.last.store(clock.now().0, Ordering::Relaxed);
        while !over.load(Ordering::Relaxed) {
            if client.reach() && client.call(Method::Put, &put) {
                self.succeeded(clock.now());
            }
            clock::pause(INTERVAL);
        }
    }

    fn succeeded(&self, now: Nanos) {
        let before = self.last.swap(now.0, Ordering::Relaxed);
        self.longest.fetch_max(now.0.saturating_sub(before), Ordering::Relaxed);
    }

    /// Waits for a write that ended well enough after `killed` to have begun after it.
    fn await_success(
        &self,
        clock: Clock,
        killed: Nanos,
        interrupt: &AtomicBool,
    ) -> Result<(), Failure> {
        let since = killed.plus(PATIENCE * 2);
        while self.last.load(Ordering::Relaxed) < since.0 {
            if clock.now() > killed.plus(RECOVERY_TIME_MAX) {
                return Err(Failure::Server("nobody writes after the leader's death".into()));
            }
            pause_until(clock, clock.now().plus(INTERVAL), interrupt, &NEVER)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_kept() {
        let probe = Probe::default();
        for at in [5, 7, 30, 31] {
            probe.succeeded(Nanos(at));
        }
        assert_eq!(probe.longest.load(Ordering::Relaxed), 23);
    }
}
