//! Bugs planted around a store, to show that they would be found.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A segment is not synced before it has its name.
    UnsyncedSegment,
    /// A segment's name is not synced.
    UnsyncedName,
    /// A manifest's name is not synced.
    UnsyncedManifest,
    /// A manifest is written over the last one.
    ManifestInPlace,
    /// Names that the last process has left are not made durable before others rest on them.
    UnsyncedNames,
    /// The log is let go when a seal begins.
    EarlyRelease,
    /// Changes are forgotten before the floor that makes them dead is durable.
    EarlyForget,
    /// A pin is given back before what it keeps was read.
    EarlyUnpin,
    /// Cleaning takes something for dead that is alive.
    DropLive,
    /// Cleaning drops a tombstone while an older put is still in a file.
    DropTombstone,
    /// A read brings other bytes than asked for.
    Misread,
}

/// Each, and the seeds within which it is found.
pub(crate) const BUGS: [(Bug, u64); 11] = [
    (Bug::UnsyncedSegment, 20),
    (Bug::UnsyncedName, 20),
    (Bug::UnsyncedManifest, 20),
    (Bug::ManifestInPlace, 20),
    (Bug::UnsyncedNames, 200),
    (Bug::EarlyRelease, 20),
    (Bug::EarlyForget, 20),
    (Bug::EarlyUnpin, 100),
    (Bug::DropLive, 20),
    (Bug::DropTombstone, 50),
    (Bug::Misread, 20),
];
