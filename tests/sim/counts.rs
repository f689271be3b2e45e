//! What was met on the way.

use crate::watches::Met;

/// What one run, or many, have come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Crashes looked at: a copy of the disk was recovered and held against the model.
    pub(crate) crash_points: u64,
    /// Of those, the ones at which a bit was flipped besides.
    pub(crate) flips: u64,
    /// Flipped bits that were refused, by file and place; the others lay where nothing was.
    pub(crate) flips_refused: u64,
    /// Files at rest that were removed, cut, lengthened or spoilt.
    pub(crate) damages: u64,
    /// Ends of the process or the power after which the world went on.
    pub(crate) restarts: u64,
    /// Of those, the ones that began with a failed operation of the disk.
    pub(crate) failures: u64,
    /// Of those, the ones that were asked for.
    pub(crate) stops: u64,
    /// Connections cut.
    pub(crate) cuts: u64,
    /// Calls that clients began.
    pub(crate) operations: u64,
    /// Answers that clients read to their end.
    pub(crate) answers: u64,
    /// Of those, the ones that say that nothing was done.
    pub(crate) refusals: u64,
    /// Of those, the ones that say that it took too long.
    pub(crate) timeouts: u64,
    /// Segments of the log begun.
    pub(crate) segments: u64,
    /// Segments of the store finished, by sealing and by cleaning.
    pub(crate) sealed: u64,
    /// Manifests written.
    pub(crate) manifests: u64,
    /// Files of the store removed.
    pub(crate) removals: u64,
    /// Blocks read.
    pub(crate) fetches: u64,
    /// Leases renewed.
    pub(crate) renewals: u64,
    /// Leases that have ended, some of them more than once.
    pub(crate) ended: u64,
    /// Those who watched.
    pub(crate) watches: Met,
}

impl Counts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.crash_points += other.crash_points;
        self.flips += other.flips;
        self.flips_refused += other.flips_refused;
        self.damages += other.damages;
        self.restarts += other.restarts;
        self.failures += other.failures;
        self.stops += other.stops;
        self.cuts += other.cuts;
        self.operations += other.operations;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.timeouts += other.timeouts;
        self.segments += other.segments;
        self.sealed += other.sealed;
        self.manifests += other.manifests;
        self.removals += other.removals;
        self.fetches += other.fetches;
        self.renewals += other.renewals;
        self.ended += other.ended;
        self.watches.add(&other.watches);
    }
}
