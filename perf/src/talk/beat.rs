//! Moments at a fixed rate.

use std::time::Duration;

use crate::clock::Nanos;

/// What is due at a fixed rate, whatever happens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Beat {
    start: Nanos,
    rate: f64,
    /// How many have been taken.
    taken: u64,
}

impl Beat {
    /// `rate` a second from `start` on; the first is due at once.
    pub(crate) fn new(start: Nanos, rate: f64) -> Self {
        Self { start, rate, taken: 0 }
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Nanos {
        // A rate that no time could be computed from has no next.
        let offset = Duration::try_from_secs_f64(self.taken as f64 / self.rate);
        self.start.plus(offset.unwrap_or(Duration::MAX))
    }

    /// Takes the next.
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_far_apart_as_the_rate_says() {
        let mut beat = Beat::new(Nanos(7), 4.0);
        for quarter in 0..9 {
            assert_eq!(beat.next(), Nanos(7 + quarter * 250_000_000));
            beat.take();
        }
        let mut never = Beat::new(Nanos(7), 0.0);
        never.take();
        assert_eq!(never.next(), Nanos(u64::MAX));
    }
}
