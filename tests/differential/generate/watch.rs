//! Random messages on watch streams: watchers of every kind, and what becomes of them.

use super::{Generator, Op, prefix_end};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use std::collections::BTreeSet;
use std::fmt;

/// Watch streams at a time.
const STREAMS: usize = 4;
/// Watchers of one stream, above which they are rather canceled.
const WATCHERS_MAX: usize = 10;

/// What is known of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    watchers: BTreeSet<i64>,
    is_half_closed: bool,
}

/// Streams on which nothing was sent.
pub(super) fn streams() -> Vec<Stream> {
    (0..STREAMS).map(|_| Stream::default()).collect()
}

/// What is shown of a message.
pub(super) fn union(request: &WatchRequest) -> &dyn fmt::Debug {
    match &request.request_union {
        Some(RequestUnion::CreateRequest(create)) => create,
        Some(RequestUnion::CancelRequest(cancel)) => cancel,
        Some(RequestUnion::ProgressRequest(progress)) => progress,
        None => &"nothing",
    }
}

impl Generator {
    /// Something on a watch stream, or a look at what came of all.
    pub(super) fn watch(&mut self) -> Op {
        let number = self.dice.index(STREAMS);
        let stream = &self.streams[number];
        let is_full = stream.watchers.len() >= WATCHERS_MAX;
        if stream.is_half_closed && self.dice.chance(40) {
            return Op::GiveUp(number);
        }
        let union = match self.dice.below(100) {
            0..10 => return Op::Settle,
            10 => return Op::GiveUp(number),
            11 if self.dice.chance(50) => return Op::HalfClose(number),
            11..17 => RequestUnion::ProgressRequest(WatchProgressRequest {}),
            17..19 => return Op::Watch(number, WatchRequest { request_union: None }),
            19..50 => self.cancel(number),
            _ if is_full => self.cancel(number),
            _ => RequestUnion::CreateRequest(self.create()),
        };
        Op::Watch(number, WatchRequest { request_union: Some(union) })
    }

    /// Takes in what came of it.
    pub(super) fn learn_watch(&mut self, op: &Op, created: Option<i64>) {
        if let Op::Watch(number, request) = op {
            let watchers = &mut self.streams[*number].watchers;
            watchers.extend(created);
            if let Some(RequestUnion::CancelRequest(cancel)) = &request.request_union {
                watchers.remove(&cancel.watch_id);
            }
        } else if let Op::HalfClose(number) = op {
            self.streams[*number].is_half_closed = true;
        } else if let Op::GiveUp(number) = op {
            self.streams[*number] = Stream::default();
        } else if *op == Op::Restart && !self.streams.is_empty() {
            self.streams = streams();
        }
    }

    /// The end of a watcher that is there, mostly.
    fn cancel(&mut self, number: usize) -> RequestUnion {
        let known: Vec<_> = self.streams[number].watchers.iter().copied().collect();
        let watch_id = if known.is_empty() || self.dice.chance(15) {
            self.dice.pick(&[0, 1, 2, 3, 8, 1000, -1, i64::MAX])
        } else {
            self.dice.pick(&known)
        };
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
    }

    fn create(&mut self) -> WatchCreateRequest {
        let (key, range_end) = self.watched_range();
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.start(),
            progress_notify: self.dice.chance(10),
            filters: self.filters(),
            prev_kv: self.dice.chance(40),
            watch_id: self.watch_id(),
            fragment: self.dice.chance(20),
        }
    }

    /// Often all keys, or many of them.
    fn watched_range(&mut self) -> (Bytes, Bytes) {
        let zero = Bytes::from_static(b"\0");
        let key = self.key();
        match self.dice.below(10) {
            0 => (zero.clone(), zero),
            1 => (Bytes::new(), zero),
            2 => (Bytes::new(), Bytes::new()),
            3 => (key, zero),
            4..6 => {
                let end = prefix_end(&key);
                (key, end)
            }
            _ => {
                let end = self.range_end(&key);
                (key, end)
            }
        }
    }

    /// From now on, as often as not; soon, or from any other revision.
    fn start(&mut self) -> i64 {
        match self.dice.below(20) {
            0..10 => 0,
            10..12 => self.revision + 1 + self.small_number(),
            _ => self.some_revision(100),
        }
    }

    fn filters(&mut self) -> Vec<i32> {
        let all: [&[i32]; 10] =
            [&[], &[], &[], &[], &[], &[0], &[1], &[0, 1], &[1, 1, 7], &[2, -1, i32::MAX]];
        self.dice.pick(&all).to_vec()
    }

    /// The server's choice mostly; else one that others may have, but never that of nobody, by
    /// which one could not tell its answers from those that are about all.
    fn watch_id(&mut self) -> i64 {
        if self.dice.chance(65) {
            return 0;
        }
        self.dice.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 1000, -2, i64::MIN, i64::MAX])
    }
}
