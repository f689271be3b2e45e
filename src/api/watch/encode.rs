//! Events as bytes, once each, and the messages around them.

use crate::api::call::PREFIX_SIZE;
use crate::api::kv;
use crate::api::kv::Pair;
use crate::api::wire;
use crate::shard::request::Header;
use crate::shard::watch::Event;
use crate::shard::watch::Prev;
use crate::types::Revision;
use std::ops::Range;

/// Number of `WatchResponse.events`.
const EVENTS: u32 = 11;
/// `WatchResponse.fragment` when it is set: its tag, and true.
const FRAGMENT: [u8; 2] = [7 << 3, 1];

/// Appends an event as a field of a `WatchResponse`, with the pair before it if asked for.
///
/// # Source
/// The spec, §2.7: a deletion has its key and revision and nothing else, which is what its change
/// has.
pub(super) fn put_event(out: &mut Vec<u8>, event: &Event, with_prev: bool) {
    let change = &event.change;
    let pair = Pair {
        key: &change.key,
        create_revision: change.created.0.cast_unsigned(),
        mod_revision: change.location.main.0.cast_unsigned(),
        version: change.version.cast_unsigned(),
        value: &change.value,
        lease: change.lease.0.cast_unsigned(),
    };
    let prev = match &event.prev {
        Prev::Pair { location, created, version, lease, value } if with_prev => Some(Pair {
            key: &change.key,
            create_revision: created.0.cast_unsigned(),
            mod_revision: location.main.0.cast_unsigned(),
            version: version.cast_unsigned(),
            value,
            lease: lease.0.cast_unsigned(),
        }),
        Prev::Pair { .. } | Prev::None | Prev::Away => None,
    };
    let kind = u64::from(change.version == 0);
    let len = wire::uint_field_len(1, kind)
        + wire::message_field_len(2, pair.len())
        + prev.as_ref().map_or(0, |prev| wire::message_field_len(3, prev.len()));
    wire::put_message_head(out, EVENTS, len);
    wire::put_uint_field(out, 1, kind);
    pair.write(out, 2);
    if let Some(prev) = prev {
        prev.write(out, 3);
    }
}

/// Events encoded once each, when first asked for.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    /// By event: without and with the pair before it; empty until it is asked for.
    places: Vec<[Range<usize>; 2]>,
}

/// Bytes of events that are kept for the next batch's.
const KEPT_MAX: usize = 256 << 10;

impl Encoded {
    /// Begins anew, with so many events.
    pub(super) fn begin(&mut self, count: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
        self.places.clear();
        self.places.resize(count, [0..0, 0..0]);
    }

    /// Where the bytes of an event are, which are made if they are not.
    pub(super) fn place(&mut self, event: &Event, at: usize, with_prev: bool) -> Range<usize> {
        let with_prev = with_prev && matches!(event.prev, Prev::Pair { .. });
        let place = &mut self.places[at][usize::from(with_prev)];
        if place.start == place.end {
            let start = self.bytes.len();
            put_event(&mut self.bytes, event, with_prev);
            *place = start..self.bytes.len();
        }
        place.clone()
    }

    pub(super) fn bytes(&self, place: &Range<usize>) -> &[u8] {
        &self.bytes[place.clone()]
    }
}

/// A header as it stands in a message, for one revision at a time.
#[derive(Debug, Default)]
pub(super) struct Head {
    header: Header,
    bytes: Vec<u8>,
}

impl Head {
    /// The header's field at this revision.
    pub(super) fn at(&mut self, header: Header, revision: Revision) -> &[u8] {
        let header = Header { revision, ..header };
        if self.header != header || self.bytes.is_empty() {
            self.bytes.clear();
            kv::write_header(&mut self.bytes, &header);
            self.header = header;
        }
        &self.bytes
    }
}

/// Appends a gRPC message with these events, whose bytes are `size`.
///
/// # Panics
/// If it is larger than any message may be.
pub(super) fn put_message<'e>(
    out: &mut Vec<u8>,
    head: &[u8],
    (id, fragment): (i64, bool),
    size: usize,
    events: impl Iterator<Item = &'e [u8]>,
) {
    let len = message_len(head, id, fragment, size);
    let prefix = u32::try_from(len).expect("a message is below 4 GiB");
    out.reserve(PREFIX_SIZE + len);
    out.push(0);
    out.extend_from_slice(&prefix.to_be_bytes());
    out.extend_from_slice(head);
    wire::put_uint_field(out, 2, id.cast_unsigned());
    if fragment {
        out.extend_from_slice(&FRAGMENT);
    }
    for event in events {
        out.extend_from_slice(event);
    }
}

/// Bytes of such a message, without its prefix.
pub(super) fn message_len(head: &[u8], id: i64, fragment: bool, size: usize) -> usize {
    let fragment = if fragment { FRAGMENT.len() } else { 0 };
    head.len() + wire::uint_field_len(2, id.cast_unsigned()) + fragment + size
}
