//! What clients ask of a stream of watchers, and what they are told beside events.

use crate::api::call::PREFIX_SIZE;
use crate::api::call::set_prefix;
use crate::api::proto::etcdserverpb as pb;
use crate::api::status;
use crate::api::status::Status;
use crate::mvcc::KeyRange;
use crate::shard::request::Header;
use bytes::Bytes;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use prost::Message;

/// The id in the answer to a creation that failed.
pub(super) const CREATE_REFUSED: i64 = -1;
/// The id that stands for all watchers of a stream.
pub(super) const ALL: i64 = -1;

/// Why a watcher is refused, as etcd says it.
pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRequest {
    /// A new watcher.
    Create(Create),
    /// No more of one.
    Cancel {
        /// Which.
        id: i64,
    },
    /// How far all watchers of the stream are.
    Progress,
    /// Nothing that is known; etcd passes over it.
    Nothing,
}

/// A watcher as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    key: Bytes,
    range_end: Bytes,
    /// The first revision wanted; 0 is the next.
    pub(super) start: i64,
    /// The id wanted; 0 is any.
    pub(super) id: i64,
    pub(super) prev_kv: bool,
    pub(super) puts: bool,
    pub(super) deletes: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
}

impl WatchRequest {
    /// The request in `message`.
    ///
    /// # Errors
    /// It is none: the stream ends.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Status> {
        let message = pb::WatchRequest::decode(message).map_err(|_| status::MALFORMED_OF_STREAM)?;
        Ok(match message.request_union {
            Some(RequestUnion::CreateRequest(create)) => Self::Create(Create::from(create)),
            Some(RequestUnion::CancelRequest(cancel)) => Self::Cancel { id: cancel.watch_id },
            Some(RequestUnion::ProgressRequest(_)) => Self::Progress,
            None => Self::Nothing,
        })
    }

    /// Bytes that it holds while it waits.
    pub(super) fn size(&self) -> usize {
        let held = match self {
            Self::Create(create) => create.key.len() + create.range_end.len(),
            Self::Cancel { .. } | Self::Progress | Self::Nothing => 0,
        };
        held + size_of::<Self>()
    }
}

impl From<pb::WatchCreateRequest> for Create {
    fn from(create: pb::WatchCreateRequest) -> Self {
        // An empty key is the smallest of all.
        let key = if create.key.is_empty() { Bytes::from_static(b"\0") } else { create.key };
        let drops = |filter: FilterType| create.filters.contains(&i32::from(filter));
        Self {
            key,
            range_end: create.range_end,
            start: create.start_revision,
            id: create.watch_id,
            prev_kv: create.prev_kv,
            puts: !drops(FilterType::Noput),
            deletes: !drops(FilterType::Nodelete),
            fragment: create.fragment,
            progress_notify: create.progress_notify,
        }
    }
}

impl Create {
    /// The keys that it sees.
    pub(super) fn range(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }

    /// Checks what needs no other watcher.
    ///
    /// # Errors
    /// What its client is told.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self.range() {
            _ if self.start < 0 => Err(COMPACTED),
            KeyRange::Span { start, end } if start >= end => Err(EMPTY_RANGE),
            KeyRange::One(_) | KeyRange::Span { .. } | KeyRange::From(_) => Ok(()),
        }
    }
}

/// A message without events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control<'a> {
    pub(super) header: Header,
    pub(super) id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) reason: &'a str,
}

impl Control<'_> {
    /// A message that says nothing yet.
    pub(super) fn new(header: Header, id: i64) -> Self {
        Self { header, id, created: false, canceled: false, compact_revision: 0, reason: "" }
    }

    /// All up to the header's revision has been sent.
    pub(super) fn progress(header: Header, id: i64) -> Self {
        Self::new(header, id)
    }

    /// Appends it as a gRPC message.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let message = pb::WatchResponse {
            header: Some(crate::api::answer::header(&self.header)),
            watch_id: self.id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.reason.to_owned(),
            ..pb::WatchResponse::default()
        };
        let start = out.len();
        out.resize(start + PREFIX_SIZE, 0);
        message.encode(out).expect("a vector takes every message");
        set_prefix(&mut out[start..]);
    }
}
