//! What a shard is told, and what it says.
//!
//! `Shard` and `Config` are those of [`shard`](crate::shard).

use crate::shard::list::ListHead;
use crate::shard::list::RowShape;
use crate::shard::peer::Packet;
use crate::shard::request::Failure;
use crate::shard::request::Range;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::watch::Ask;
use crate::shard::watch::Told;
use crate::store;
use crate::types::NodeId;
use crate::types::Tick;
use crate::wal;

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A client asks.
    Request {
        /// Where the answer goes.
        from: RequestId,
        /// What it asks.
        request: Request,
    },
    /// The log's files: what the driver has done of what [`Output::Wal`] asked.
    Wal(wal::Event),
    /// The store's files: what the driver has done of what [`Output::Store`] asked.
    Store(store::Event),
    /// The store's files: there was no room on the disk for what [`Output::Store`] asked.
    NoRoom {
        /// For what.
        lack: store::Lack,
        /// How the driver says it.
        why: String,
    },
    /// A [`Ready::Range`] that can not be answered at once is to be answered in slices;
    /// [`Ready::List`] follows, or how it failed.
    List {
        /// Where it goes.
        to: RequestId,
        /// What is read.
        range: Range,
        /// Bytes that a row takes on the wire.
        shape: fn(&RowShape) -> usize,
    },
    /// Nobody waits for this answer any more.
    Forget {
        /// Where it would have gone.
        to: RequestId,
    },
    /// A core asks for its watchers.
    Watch(Ask),
    /// Another shard of the group has said something.
    Packet {
        /// Who.
        from: NodeId,
        /// What.
        packet: Packet,
    },
    /// A peer can be spoken to.
    PeerUp {
        /// The peer.
        peer: NodeId,
    },
    /// The connection to a peer broke: what was sent to it may not have arrived.
    PeerLost {
        /// The peer.
        peer: NodeId,
    },
    /// A peer ended the connection on which it speaks to this node, after all that it said there.
    PeerEnded {
        /// The peer.
        peer: NodeId,
    },
    /// It is now this late; every `Config::raft` heartbeat at least.
    Tick(Tick),
    /// Nothing more is taken in: requests that wait for a place in the log are refused.
    Stop,
}

/// One thing to do; every output is already safe to do.
#[derive(Debug)]
pub enum Output {
    /// The log's files; in the order given for one file.
    Wal(wal::Command),
    /// The store's files; in the order given for one file, and never before the log's.
    Store(store::Command),
    /// An answer is ready: ask `Shard` for what it needs, now or later; later sees no less.
    Reply {
        /// Where it goes.
        to: RequestId,
        /// What it is.
        ready: Ready,
    },
    /// A list that had to wait can go on: `Shard::rows` is worth asking again.
    Rows {
        /// Where it goes.
        to: RequestId,
    },
    /// Cores are told something for their watchers.
    Watch(Told),
    /// Another shard of the group is to be told something; it may be lost, late, doubled, out of
    /// order.
    Send {
        /// Who.
        to: NodeId,
        /// What.
        packet: Packet,
    },
    /// Who the others of the group are, and the URLs where they are reached: at the start, and
    /// whenever that changes.
    Peers(Vec<(NodeId, Vec<String>)>),
    /// A line for the log: what this replica is in which term, or what somebody should know.
    Role(String),
    /// A snapshot is in place of everything in this shard's files: recover another from them, and
    /// let it `Shard::succeed` this one, which still serves reads until then. Nothing of this one
    /// writes any more, and no write of its is under way.
    Reopen,
    /// Go on no further: what must not be guessed at was found.
    Halt(String),
}

/// An answer that may leave.
#[derive(Debug)]
pub enum Ready {
    /// It is here.
    Result(Result<Response, Failure>),
    /// Its read point is reached: `Shard::read` gives its rows where they lie, or says that it
    /// must be asked for by [`Input::List`].
    Range(Range),
    /// A list is measured and open: `Shard::rows` gives its rows until it says that they are
    /// done, or until [`Input::Forget`].
    List(ListHead),
}
