//! The one clock of this crate: monotonic time, and what the CPUs have spent on us.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the clock was made; never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// The distance from `earlier` to here, zero when it lies ahead.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment plus `duration`.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A duration in nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A monotonic clock that starts at zero; copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time on this clock.
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub(crate) fn now(&self) -> Nanos {
        Nanos(nanos(Instant::now().duration_since(self.0)))
    }
}

/// CPU time (user and system) of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

fn cpu(id: ClockId) -> Duration {
    let spent = clock_gettime(id);
    Duration::new(
        u64::try_from(spent.tv_sec).expect("CPU time is not negative"),
        u32::try_from(spent.tv_nsec).expect("nanoseconds are below a thousand million"),
    )
}

/// Waits for a message, at most `duration`; `None` when that passed or all senders are gone.
pub(crate) fn wait<T>(messages: &Receiver<T>, duration: Duration) -> Option<T> {
    match messages.recv_timeout(duration) {
        Ok(message) => Some(message),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            pause(duration);
            None
        }
    }
}

/// Waits for `duration`; false as soon as all senders are gone.
pub(crate) fn passes<T>(messages: &Receiver<T>, duration: Duration) -> bool {
    !matches!(messages.recv_timeout(duration), Err(RecvTimeoutError::Disconnected))
}

/// Sleeps for `duration`.
#[expect(clippy::disallowed_methods, reason = "waiting for another process to change")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The calendar day, as `YYYY-MM-DD` in UTC, for the head of a report.
#[expect(clippy::disallowed_methods, reason = "the one clock")]
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The civil date of a day counted from 1970-01-01.
fn date(day: u64) -> String {
    let (mut year, mut rest) = (1970, day);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_780), "2026-11-23");
    }
}
