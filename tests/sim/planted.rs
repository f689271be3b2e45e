//! Bugs planted in the driver and the disk, to show that the oracle would find them.

use crate::disk::Change;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The driver reports a write as durable when it has only begun.
    EarlyWritten,
    /// The disk drops one sector of a write that it has completed.
    LostSector,
    /// The disk completes a write and with it an earlier one, which it has lost.
    EarlierLost,
    /// The disk writes elsewhere than asked.
    Misdirected,
    /// Two answers are swapped.
    SwappedReplies,
    /// An answer is sent again in the place of another.
    StaleReply,
    /// An answer goes to the next call of its connection.
    OtherStream,
    /// A write of the last process lands after the next one has begun to read.
    LateWrite,
    /// What recovery has read is not made durable before others rest on it.
    UnsyncedReads,
    /// Names that the last process has left are not made durable before others rest on them.
    UnsyncedNames,
    /// A segment has its name before its header is durable.
    NameBeforeHeader,
    /// A piece of a long answer is left out.
    LostPiece,
    /// A segment of the store is not synced before it has its name.
    UnsyncedSegment,
    /// The name of a manifest is not synced.
    UnsyncedManifest,
    /// A manifest is reported as durable and never written.
    LostManifest,
    /// A read of the store brings other bytes than asked for.
    Misread,
    /// A lease is said to be renewed, and is not.
    ForgottenRenewal,
    /// An event is not told.
    LostEvent,
    /// Events are told twice.
    RepeatedBatch,
    /// Events are told in another order.
    SwappedEvents,
    /// Events are told after what came later, the present revision among it.
    LateBatch,
    /// An event of the past is not told.
    LostPast,
    /// Events are told while the writes that they rest on are still on their way to the disk.
    EarlyEvents,
}

/// Each, and the seeds within which it is found.
pub(crate) const BUGS: [(Bug, u64); 23] = [
    (Bug::EarlyWritten, 20),
    (Bug::LostSector, 20),
    (Bug::EarlierLost, 40),
    (Bug::Misdirected, 20),
    (Bug::SwappedReplies, 20),
    (Bug::StaleReply, 20),
    (Bug::OtherStream, 20),
    (Bug::LateWrite, 400),
    (Bug::UnsyncedReads, 200),
    (Bug::UnsyncedNames, 600),
    (Bug::NameBeforeHeader, 60),
    (Bug::LostPiece, 20),
    (Bug::UnsyncedSegment, 20),
    (Bug::UnsyncedManifest, 20),
    (Bug::LostManifest, 20),
    (Bug::Misread, 20),
    (Bug::ForgottenRenewal, 20),
    (Bug::LostEvent, 40),
    (Bug::RepeatedBatch, 40),
    (Bug::SwappedEvents, 40),
    (Bug::LateBatch, 20),
    (Bug::LostPast, 20),
    (Bug::EarlyEvents, 20),
];

/// A segment's making without the order that makes it safe.
pub(crate) fn name_first(change: Change) -> Change {
    match change {
        Change::Activate { from, to, header } => Change::NameFirst { from, to, header },
        Change::Create { .. }
        | Change::NameFirst { .. }
        | Change::Rename { .. }
        | Change::Remove { .. }
        | Change::Sync { .. } => change,
    }
}
