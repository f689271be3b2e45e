//! When to compact without being asked: a machine that is told the time and the revision.
//!
//! It runs on every replica, so that a new leader knows what the revision was a while ago; only a
//! leader's compacts.
//!
//! # Source
//! etcd: `server/etcdserver/api/v3compactor`.

use crate::config::AutoCompaction;
use crate::types::Revision;
use crate::types::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// Milliseconds between two compactions that keep a number of revisions, as in etcd.
const REVISION_INTERVAL: u64 = 5 * 60 * 1000;
/// Most milliseconds between two compactions that keep a period.
const PERIODIC_INTERVAL_MAX: u64 = 60 * 60 * 1000;
/// The revision is noted so many times in each such interval.
const SAMPLES: u64 = 10;
/// Most revisions noted at a time: a period of five weeks. Of a longer one the older notes would
/// cost more memory than anybody means to spend; it is taken for five weeks.
const SAMPLES_MAX: u64 = 24 * 7 * 5 * SAMPLES;

/// Compacts by itself, when it is time.
#[derive(Debug)]
pub struct AutoCompact {
    rule: Rule,
    /// When to look again.
    next: Tick,
    /// What was asked for and not yet answered.
    asked: Option<Revision>,
    /// What was last compacted from here.
    last: Revision,
}

#[derive(Debug)]
enum Rule {
    Off,
    Revision {
        /// How many revisions stay.
        kept: u64,
    },
    Periodic(Periodic),
}

/// Keeps what is younger than a period.
#[derive(Debug)]
struct Periodic {
    /// Milliseconds between two notes.
    interval: u64,
    /// Notes that make the period: the first is one period old.
    notes_max: usize,
    notes: VecDeque<Revision>,
    /// When a compaction last succeeded, or it all began.
    since: Tick,
    /// Milliseconds from then to the next: the whole period first, the longest interval later.
    wait: u64,
    /// What `wait` becomes.
    wait_later: u64,
}

impl AutoCompact {
    /// One that begins now.
    #[must_use]
    pub fn new(what: AutoCompaction, now: Tick, revision: Revision) -> Self {
        let (rule, interval) = match what {
            AutoCompaction::Off => (Rule::Off, 0),
            AutoCompaction::Revision(kept) => (Rule::Revision { kept }, REVISION_INTERVAL),
            AutoCompaction::Periodic(period) => {
                let periodic = Periodic::new(period, now, revision);
                let interval = periodic.interval;
                (Rule::Periodic(periodic), interval)
            }
        };
        Self { rule, next: after(now, interval), asked: None, last: Revision(0) }
    }

    /// It is now this late, and the keyspace has come this far: the revision to compact, if any.
    ///
    /// Nothing more is asked for until [`Self::answered`].
    pub fn tick(&mut self, now: Tick, revision: Revision, is_leader: bool) -> Option<Revision> {
        if now < self.next {
            return None;
        }
        let may = is_leader && self.asked.is_none();
        let due = match &mut self.rule {
            Rule::Off => return None,
            Rule::Revision { kept } => {
                self.next = after(now, REVISION_INTERVAL);
                let kept = i64::try_from(*kept).unwrap_or(i64::MAX);
                may.then(|| Revision(revision.0.saturating_sub(kept)))
            }
            Rule::Periodic(periodic) => {
                self.next = after(now, periodic.interval);
                let due = periodic.due(now, self.last).filter(|_| may);
                if due.is_some() {
                    periodic.wait = periodic.wait_later;
                }
                periodic.note(revision);
                due
            }
        };
        self.asked = due.filter(|due| due.0 > 0 && *due != self.last);
        self.asked
    }

    /// What was asked for has an answer: `done`, be it that it was compacted already, or to be
    /// asked for again.
    pub fn answered(&mut self, now: Tick, done: bool) {
        let asked = self.asked.take().filter(|_| done);
        let Some(asked) = asked else {
            return;
        };
        self.last = asked;
        if let Rule::Periodic(periodic) = &mut self.rule {
            periodic.since = now;
        }
    }
}

impl Periodic {
    fn new(period: Duration, now: Tick, revision: Revision) -> Self {
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        let wait_later = period.min(PERIODIC_INTERVAL_MAX);
        let interval = (wait_later / SAMPLES).max(1);
        let period = period.min(SAMPLES_MAX * interval);
        let notes_max = usize::try_from(period / interval + 1).expect("bounded just above");
        Self {
            interval,
            notes_max,
            notes: VecDeque::from([revision]),
            since: now,
            wait: period,
            wait_later,
        }
    }

    /// The oldest note, if it is time and it is not what was compacted last.
    fn due(&self, now: Tick, last: Revision) -> Option<Revision> {
        let oldest = *self.notes.front().expect("one is noted in the beginning");
        (now.since(self.since) >= self.wait && oldest != last).then_some(oldest)
    }

    fn note(&mut self, revision: Revision) {
        self.notes.push_back(revision);
        if self.notes.len() > self.notes_max {
            self.notes.pop_front();
        }
    }
}

fn after(now: Tick, interval: u64) -> Tick {
    Tick(now.0.saturating_add(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// What a leader whose every compaction succeeds asks for until `end`, if there is a
    /// change a second: when, and which.
    fn run(what: AutoCompaction, end: u64) -> Vec<(u64, i64)> {
        let mut machine = AutoCompact::new(what, Tick(0), Revision(1));
        let mut asked = Vec::new();
        for second in 1..=end / 1000 {
            let (now, revision) = (Tick(second * 1000), Revision(second.cast_signed() + 1));
            if let Some(revision) = machine.tick(now, revision, true) {
                asked.push((second, revision.0));
                machine.answered(now, true);
            }
        }
        asked
    }

    #[test]
    fn a_short_period_is_its_own_interval() {
        // A real etcd was seen to ask for the same: a tenth more than the period, after the first.
        let what = AutoCompaction::Periodic(Duration::from_secs(10));
        let machine = AutoCompact::new(what, Tick(0), Revision(7));
        assert!(matches!(machine.rule, Rule::Periodic(Periodic { interval: 1000, .. })));
        assert_eq!(run(what, 45_000), [(10, 1), (20, 10), (30, 20), (40, 30)]);
    }

    #[test]
    fn a_long_period_is_waited_for_and_then_every_hour_counts() {
        let what = AutoCompaction::Periodic(Duration::from_secs(3 * 3600));
        let due = [(3, 0), (4, 54), (5, 114), (6, 174)];
        let due = due.map(|(hour, minute)| (hour * 3600, minute * 60 + 1));
        assert_eq!(run(what, 6 * 60 * MINUTE), due);
    }

    #[test]
    fn a_number_of_revisions_is_looked_at_every_five_minutes() {
        let due = [(300, 101), (600, 401), (900, 701)];
        assert_eq!(run(AutoCompaction::Revision(200), 15 * MINUTE), due);
        assert_eq!(run(AutoCompaction::Revision(1000), 15 * MINUTE), []);
        assert_eq!(run(AutoCompaction::Off, 15 * MINUTE), []);
    }

    #[test]
    fn a_follower_takes_notes_and_asks_for_nothing() {
        let what = AutoCompaction::Periodic(Duration::from_secs(10));
        let mut machine = AutoCompact::new(what, Tick(0), Revision(1));
        for second in 1..100 {
            let (now, revision) = (Tick(second * 1000), Revision(second.cast_signed()));
            assert_eq!(machine.tick(now, revision, false), None);
        }
        assert_eq!(machine.tick(Tick(100_000), Revision(100), true), Some(Revision(89)));
    }

    #[test]
    fn what_failed_is_asked_for_again_and_what_rests_is_left_alone() {
        let what = AutoCompaction::Periodic(Duration::from_secs(10));
        let mut machine = AutoCompact::new(what, Tick(0), Revision(5));
        for second in 1..10 {
            assert_eq!(machine.tick(Tick(second * 1000), Revision(5), true), None);
        }
        assert_eq!(machine.tick(Tick(10_000), Revision(5), true), Some(Revision(5)));
        assert_eq!(machine.tick(Tick(11_000), Revision(5), true), None, "one at a time");
        machine.answered(Tick(11_500), false);
        assert_eq!(machine.tick(Tick(12_000), Revision(5), true), Some(Revision(5)));
        machine.answered(Tick(12_000), true);
        for second in 13..100 {
            assert_eq!(machine.tick(Tick(second * 1000), Revision(5), true), None);
        }
    }

    #[test]
    fn the_longest_period_takes_bounded_notes() {
        let what = AutoCompaction::Periodic(Duration::MAX);
        let machine = AutoCompact::new(what, Tick(0), Revision(5));
        let Rule::Periodic(periodic) = machine.rule else { panic!("a period was asked for") };
        assert_eq!(periodic.notes_max, 8401);
    }
}
