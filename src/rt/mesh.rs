//! What cores and the main thread tell each other.
//!
//! All that one turn of a core has for another leaves as one message; while the other is behind,
//! it gathers on.

use crate::api::Piece;
use crate::rt::placement::Placement;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::watch::Ask;
use crate::shard::watch::Told;
use crate::types::ShardId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one core, or the main thread, tells another.
pub(crate) enum Message {
    /// A connection to take over, and the shard its listener belongs to.
    Connection(socket2::Socket, ShardId),
    /// A connection to the peer port, and what it has said.
    Peer(socket2::Socket, Vec<u8>),
    /// The node is known to its directory: peers may be called and heard.
    Meet,
    /// What one turn of a core had for this one.
    Post(Post),
    /// Take in nothing new, answer what is open, then report.
    Stop,
}

/// What one core has for another, each kind in order; to be read from the first to the last.
#[derive(Default)]
pub(crate) struct Post {
    /// Requests for shards that live there.
    pub(crate) requests: Vec<(ShardId, RequestId, Request)>,
    /// Pieces of answers for connections there, and the shards they come from.
    pub(crate) pieces: Vec<(ShardId, RequestId, Piece<Bytes>)>,
    /// Bytes more of an answer that a connection has room for.
    pub(crate) pulls: Vec<(ShardId, RequestId, usize)>,
    /// Answers that nobody waits for any more.
    pub(crate) forgets: Vec<(ShardId, RequestId)>,
    /// What watchers ask of shards that live there.
    pub(crate) asks: Vec<(ShardId, Ask)>,
    /// What shards tell the watchers there.
    pub(crate) told: Vec<(ShardId, Told)>,
}

impl Post {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.pieces.is_empty()
            && self.pulls.is_empty()
            && self.forgets.is_empty()
            && self.asks.is_empty()
            && self.told.is_empty()
    }
}

/// What a core tells the main thread.
pub(crate) enum Report {
    /// A shard has a log that a restart would find.
    Opened,
    /// A shard serves: there is a leader, it has applied its whole log, and the list of members
    /// says where its clients find it.
    Ready,
    /// The node must not go on.
    Failed(String),
    /// Every connection of this core is closed and its shards rest, but for what connections of
    /// other cores may still ask of them.
    Stopped,
}

/// What joins a core to the others and to the main thread.
pub(crate) struct Mesh {
    /// By shard: the core it lives on.
    pub(crate) homes: Vec<u32>,
    /// By core: its inbox.
    pub(crate) peers: Vec<flume::Sender<Message>>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) reports: flume::Sender<Report>,
    /// Requests that may gather for one core; beyond it they are refused as too many.
    pub(crate) messages_max: usize,
}

impl Mesh {
    /// The core that a shard lives on.
    pub(crate) fn home(&self, shard: ShardId) -> u32 {
        self.homes[usize::try_from(shard.0).expect("usize is 64 bits")]
    }

    /// Sends each core what has gathered for it.
    pub(crate) fn send(&self, gathered: &mut BTreeMap<u32, Post>) {
        for (core, post) in gathered.iter_mut().filter(|(_, post)| !post.is_empty()) {
            let peer = &self.peers[usize::try_from(*core).expect("usize is 64 bits")];
            if peer.is_full() {
                continue;
            }
            // Another core may have been quicker. One that is gone has nobody left who waits.
            if let Err(flume::TrySendError::Full(Message::Post(back))) =
                peer.try_send(Message::Post(std::mem::take(post)))
            {
                *post = back;
            }
        }
    }
}
