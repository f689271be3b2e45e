//! A message that comes in by pieces.

use crate::api::call::Settings;
use std::cell::Cell;
use std::rc::Rc;

/// Bytes that messages of one connection may take while they come in by pieces. 64 MiB: forty of
/// etcd's largest at once. The windows do not bound this, for a window that waits for whole
/// messages never opens again once halves have filled it. Where one message may be larger, as much
/// as it. The call that would need more is answered `etcdserver: too many requests`.
const PARTIAL_SIZE_MAX: usize = 64 << 20;

/// A message that comes in by pieces; what it takes is counted while it is kept.
#[derive(Debug)]
pub(crate) struct Partial {
    /// What has come of it.
    pub(crate) bytes: Vec<u8>,
    /// Over all calls of the connection.
    kept: Rc<Cell<usize>>,
}

impl Partial {
    /// Nothing of it yet; `kept` counts over all calls of the connection.
    pub(crate) fn new(kept: &Rc<Cell<usize>>) -> Self {
        Self { bytes: Vec::new(), kept: kept.clone() }
    }

    /// Takes in a piece; false, and nothing taken, if all calls together would keep too much.
    pub(crate) fn extend(&mut self, data: &[u8], settings: &Settings) -> bool {
        let before = self.bytes.capacity();
        let others = self.kept.get() - before;
        let size = self.bytes.len() + data.len();
        if others + size > PARTIAL_SIZE_MAX.max(settings.message_size_max) {
            return false;
        }
        self.bytes.extend_from_slice(data);
        self.kept.set(others + self.bytes.capacity());
        true
    }

    /// The first `n` bytes have had their use.
    pub(crate) fn drop_first(&mut self, n: usize) {
        self.bytes.drain(..n);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.kept.set(self.kept.get() - self.bytes.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn messages_in_pieces_are_counted_while_they_are_kept() {
        let settings = Settings::new(&Config::default());
        let kept = Rc::default();
        let (mut one, mut other) = (Partial::new(&kept), Partial::new(&kept));
        let piece = vec![0; 1 << 20];
        let taken = (0..1000).take_while(|_| one.extend(&piece, &settings)).count();
        assert_eq!(taken, PARTIAL_SIZE_MAX >> 20);
        assert!(kept.get() >= PARTIAL_SIZE_MAX && !other.extend(&piece, &settings));
        drop(one);
        assert_eq!(kept.get(), 0);
        assert!(other.extend(&piece, &settings));
        drop(other);
        assert_eq!(kept.get(), 0);
    }
}
