//! The messages of a `RangeStream`: how many rows each has, and its bytes.

use crate::api::call::PREFIX_SIZE;
use crate::api::kv;
use crate::api::wire;
use crate::shard::list::ListHead;

/// Rows of the first message, as etcd's.
const ROWS_FIRST: usize = 10;

/// How many rows the next message of a stream has.
///
/// # Source
/// The spec, §2.2: ten rows; twice as many after a message below half of `--max-request-bytes`,
/// half as many after one above twice that, never none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunks {
    rows: usize,
    /// Bytes that a message comes near to.
    size: usize,
}

impl Chunks {
    /// The first of messages that come near to `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { rows: ROWS_FIRST, size }
    }

    /// The most rows of the next message.
    pub(crate) fn rows_max(&self) -> usize {
        self.rows
    }

    /// A message had so many bytes.
    pub(crate) fn sent(&mut self, size: usize) {
        if size < self.size / 2 {
            self.rows = self.rows.saturating_mul(2);
        } else if size > self.size.saturating_mul(2) {
            self.rows = (self.rows / 2).max(1);
        }
    }
}

/// Bytes left free before a message's rows for all that comes before them: gRPC's prefix, the
/// head of the one field, and the header.
pub(crate) const GAP_SIZE: usize = 64;

/// Makes a whole gRPC message of rows that stand in `out` after [`GAP_SIZE`] free bytes; with
/// `last`, what only the last message says.
pub(crate) fn frame_message<'a>(out: &'a mut Vec<u8>, last: Option<&ListHead>) -> &'a [u8] {
    let mut header = Vec::new();
    if let Some(head) = last {
        kv::write_header(&mut header, &head.header);
        kv::write_summary(out, head.more, head.count);
    }
    let len = header.len() + out.len() - GAP_SIZE;
    let mut front = vec![0; PREFIX_SIZE];
    wire::put_message_head(&mut front, 1, len);
    let message = front.len() - PREFIX_SIZE + len;
    let message = u32::try_from(message).expect("a slice is small");
    front[1..PREFIX_SIZE].copy_from_slice(&message.to_be_bytes());
    front.extend_from_slice(&header);
    let start = GAP_SIZE.checked_sub(front.len()).expect("the gap takes all that comes before");
    out[start..GAP_SIZE].copy_from_slice(&front);
    &out[start..]
}
