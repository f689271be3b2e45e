//! A message that comes in by pieces.

use crate::api::call::PREFIX_SIZE;
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
        let size_max = PARTIAL_SIZE_MAX.max(settings.message_size_max);
        if others + size > size_max {
            return false;
        }
        self.bytes.extend_from_slice(data);
        // As much as it will need: a vector that grows by itself takes up to twice that.
        let due = size_due(&self.bytes, settings);
        if let Some(more) = due.checked_sub(size).filter(|_| others + due <= size_max) {
            self.bytes.reserve_exact(more);
        }
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

/// Bytes that a message has with its prefix, which these begin with; none while that is cut, or if
/// it is more than is taken.
fn size_due(bytes: &[u8], settings: &Settings) -> usize {
    let Some([_, a, b, c, d]) = bytes.first_chunk::<PREFIX_SIZE>() else { return 0 };
    let len = u32::from_be_bytes([*a, *b, *c, *d]);
    let len = usize::try_from(len).expect("usize is 64 bits");
    if len > settings.message_size_max { 0 } else { PREFIX_SIZE + len }
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

    /// Puts of 1.5 MiB whose pieces came in turn counted 2 MiB each, and some of forty at once were
    /// refused.
    #[test]
    fn a_message_in_pieces_takes_what_its_prefix_says() {
        let settings = Settings::new(&Config::default());
        let kept = Rc::default();
        let whole = [&[0, 0, 0x18, 0, 0][..], &vec![7; 3 << 19]].concat();
        let mut calls: Vec<_> = (0..40).map(|_| Partial::new(&kept)).collect();
        for piece in whole.chunks(1 << 14) {
            assert!(calls.iter_mut().all(|call| call.extend(piece, &settings)));
            assert_eq!(kept.get(), calls.len() * whole.len());
        }
        assert!(calls.iter().all(|call| call.bytes == whole));
    }

    #[test]
    fn a_prefix_that_promises_more_than_is_taken_reserves_nothing() {
        let settings = Settings::new(&Config::default());
        for prefix in [[0; 4].as_slice(), &[0, 0xff, 0xff, 0xff, 0xff]] {
            let mut partial = Partial::new(&Rc::default());
            assert!(partial.extend(prefix, &settings));
            assert!(partial.bytes.capacity() < 100);
        }
    }
}
