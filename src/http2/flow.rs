//! Windows of flow control (RFC 9113 §5.2, §6.9) and counters of rates.

use crate::types::Tick;

/// The largest a window may ever be.
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// A window's size before anybody says otherwise.
pub(super) const WINDOW_INITIAL: u32 = 65_535;

/// What a peer may still send us.
///
/// Bytes move from `available` to the owner when they come, to `released` when the owner has used
/// them, and back to `available`, with a WINDOW_UPDATE, when these are half of all.
/// `available + released <= size`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveWindow {
    size: u32,
    available: u32,
    released: u32,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> Self {
        Self { size, available: size, released: 0 }
    }

    /// Takes `n` bytes that came; false if the peer had no right to send them.
    #[must_use]
    pub(super) fn take(&mut self, n: u32) -> bool {
        let Some(available) = self.available.checked_sub(n) else { return false };
        self.available = available;
        true
    }

    /// Bytes that came and were not given back.
    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.size - self.available - self.released
    }

    /// Gives back `n` bytes that were used; returns what a WINDOW_UPDATE must announce now.
    pub(super) fn release(&mut self, n: u32) -> Option<u32> {
        self.released += n;
        assert!(self.available + self.released <= self.size, "only what came is given back");
        if self.released < self.size / 2 {
            return None;
        }
        self.available += self.released;
        Some(std::mem::take(&mut self.released))
    }
}

/// Events of one kind in the present window of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    start: Tick,
    count: u32,
}

impl Rate {
    /// Counts one; false if that is one too many.
    #[must_use]
    pub(super) fn hit(&mut self, now: Tick, window_ms: u64, count_max: u32) -> bool {
        if now.since(self.start) >= window_ms {
            (self.start, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= count_max
    }

    /// Takes back up to `n`, for useful work has been done meanwhile.
    pub(super) fn forgive(&mut self, n: u32) {
        self.count = self.count.saturating_sub(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reopens_when_half_of_it_was_used() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.take(60));
        assert!(!window.take(41));
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(1), Some(50));
        assert!(window.take(90));
    }

    #[test]
    fn a_rate_starts_anew_in_each_window() {
        let mut rate = Rate::default();
        assert!(rate.hit(Tick(5), 10, 2) && rate.hit(Tick(6), 10, 2));
        assert!(!rate.hit(Tick(9), 10, 2));
        assert!(rate.hit(Tick(10), 10, 2));
    }
}
