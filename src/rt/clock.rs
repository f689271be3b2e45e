//! The one clock.

use crate::types::Tick;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// Where time comes from: the start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock at [`Tick`] 0.
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the start.
    pub(crate) fn now(self) -> Tick {
        Tick(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Time since 1970 in UTC, for people to read; it may jump, so nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the one clock")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
