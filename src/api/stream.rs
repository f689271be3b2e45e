//! The messages of a `RangeStream`: how many rows each has, and its bytes.

use crate::api::call::PREFIX_SIZE;
use crate::api::kv;
use crate::api::wire;
use crate::shard::list::Total;
use crate::shard::request::Header;

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
pub(crate) fn frame_message<'a>(out: &'a mut Vec<u8>, last: Option<(&Header, Total)>) -> &'a [u8] {
    let mut header = Vec::new();
    if let Some((head, total)) = last {
        kv::write_header(&mut header, head);
        kv::write_summary(out, total.more, total.count);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::etcdserverpb as pb;
    use crate::types::ClusterId;
    use crate::types::NodeId;
    use crate::types::Revision;
    use crate::types::Term;
    use prost::Message;

    #[test]
    fn messages_have_twice_the_rows_while_they_are_small_and_half_when_they_are_large() {
        let mut chunks = Chunks::new(1000);
        let mut rows = |size| {
            let rows = chunks.rows_max();
            chunks.sent(size);
            rows
        };
        assert_eq!([499, 0, 500, 2000, 2001].map(&mut rows), [10, 20, 40, 40, 40]);
        assert_eq!([9000; 6].map(&mut rows), [20, 10, 5, 2, 1, 1]);
        assert_eq!([0; 3].map(&mut rows), [1, 2, 4]);
    }

    #[test]
    fn a_message_is_framed_around_its_rows_whatever_their_size() {
        let header = Header {
            cluster: ClusterId(u64::MAX),
            member: NodeId(u64::MAX),
            revision: Revision(i64::MAX),
            term: Term(u64::MAX),
        };
        let total = Total { count: i64::MAX, more: true };
        for size in [0, 1, 100, 127, 128, 20_000, 3 << 20] {
            for last in [None, Some((&header, total))] {
                let pair = a_pair(size);
                let mut out = vec![0xee; GAP_SIZE];
                let row = pb::RangeResponse { kvs: vec![pair], ..pb::RangeResponse::default() };
                row.encode(&mut out).expect("a vector takes every message");
                let framed = frame_message(&mut out, last);
                let (prefix, message) = framed.split_at(PREFIX_SIZE);
                let len = u32::try_from(message.len()).expect("small").to_be_bytes();
                assert_eq!(prefix, [&[0], &len[..]].concat());
                let part = pb::RangeStreamResponse::decode(message).expect("a message");
                let mut due = row;
                if last.is_some() {
                    (due.more, due.count) = (true, i64::MAX);
                    due.header = Some(pb::ResponseHeader {
                        cluster_id: u64::MAX,
                        member_id: u64::MAX,
                        revision: i64::MAX,
                        raft_term: u64::MAX,
                    });
                }
                assert!(part.range_response == Some(due), "{size} bytes, {last:?}");
            }
        }
    }

    fn a_pair(size: usize) -> crate::api::proto::mvccpb::KeyValue {
        let (key, value) = (b"key".as_slice().into(), vec![7; size].into());
        crate::api::proto::mvccpb::KeyValue { key, value, version: 1, ..Default::default() }
    }
}
