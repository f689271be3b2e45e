//! Connections between members, as machines.
//!
//! A shard says things to its peers that may be lost, late or doubled: Raft permits it. What a
//! connection owes it is little, then: that what arrives was sent, whole, by the member that it
//! seems to come from; that a peer which is gone is noticed; and that nothing waits in secret. Each
//! member dials the others and speaks on what it dialled ([`Link`]); what it is dialled by it only
//! listens to ([`Inlet`]). So no two connections have to agree which of them to keep, and a member
//! whose own address is wrong still hears.
//!
//! Each side first says who it is ([`mod@format`]), and the one that was dialled decides
//! ([`Roster`]) whether that can be: of this cluster, meant for this member, with as many shards,
//! of a version that goes with ours, and with the memory that it had before. A member whose disk
//! was wiped has forgotten its votes, and must not be heard under its former id.
//!
//! What takes long has a connection of its own, so that it holds up no heartbeat. A queue that is
//! full takes nothing more, and that is counted ([`Counts`]).
//!
//! Nothing here knows what carries the bytes. The driver opens, hands bytes in, takes bytes out and
//! closes; under TLS it does the same with what TLS gives it.

pub mod format;
mod inlet;
mod link;
mod pipe;
mod roster;
#[cfg(test)]
mod tests;

pub use self::format::Card;
pub use self::format::GREETING_SIZE;
pub use self::format::Hello;
pub use self::format::Kind;
pub use self::format::MAGIC;
pub use self::format::Verdict;
pub use self::format::Version;
pub use self::inlet::Inlet;
pub use self::link::Link;
pub use self::link::LinkOutput;
pub use self::pipe::Fault;
pub use self::roster::Roster;
pub use self::roster::explain;

/// What a connection may hold, and how long it waits; times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest payload. Default 129 MiB: the largest message that Raft reads, with
    /// room for what the shard puts around it.
    pub payload_size_max: usize,
    /// Bytes queued on a raft connection beyond which a packet is dropped. Default 32 MiB: twice
    /// what Raft has in flight to one follower. A packet alone may be larger.
    pub raft_queue_size_max: usize,
    /// The same of a bulk connection. Default 16 MiB: a snapshot's pieces come at the pace that
    /// they are taken.
    pub bulk_queue_size_max: usize,
    /// Silence before a ping. Default 1 s.
    pub ping_after: u64,
    /// How long its pong may take once the ping has left. Default 5 s: a peer that stops for so
    /// long has lost its followers or its leader anyway.
    pub silence_max: u64,
    /// How long a connection may take to open. Default 5 s.
    pub connect_max: u64,
    /// How long both greetings may take. Default 5 s.
    pub greeting_max: u64,
    /// Least wait before another attempt, but for jitter. Default 50 ms; it doubles each time.
    pub retry_after_min: u64,
    /// Most wait. Default 2 s: a member that comes back is soon heard.
    pub retry_after_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_size_max: 129 << 20,
            raft_queue_size_max: 32 << 20,
            bulk_queue_size_max: 16 << 20,
            ping_after: 1_000,
            silence_max: 5_000,
            connect_max: 5_000,
            greeting_max: 5_000,
            retry_after_min: 50,
            retry_after_max: 2_000,
        }
    }
}

impl Limits {
    /// Bytes that may be queued on a connection of this kind.
    #[must_use]
    pub fn queue_size_max(&self, kind: Kind) -> usize {
        match kind {
            Kind::Raft => self.raft_queue_size_max,
            Kind::Bulk => self.bulk_queue_size_max,
        }
    }
}

/// What has become of the packets that a link was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were queued.
    pub queued: u64,
    /// Packets that were not, the connection being down.
    pub down: u64,
    /// Packets that were not, the queue being full or the packet too large.
    pub full: u64,
}
