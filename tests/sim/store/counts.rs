//! What was met on the way.

/// What one run of a store, or many, have come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Crashes looked at.
    pub(crate) crash_points: u64,
    /// Of those, the ones at which a bit was flipped besides.
    pub(crate) flips: u64,
    /// Flipped bits that were refused, by file and place.
    pub(crate) refused: u64,
    /// Files at rest that were removed, cut, lengthened or swapped.
    pub(crate) damages: u64,
    /// Ends of the process or the power after which the world went on.
    pub(crate) restarts: u64,
    /// Of those, the ones that began with a failed operation.
    pub(crate) failures: u64,
    /// Revisions made.
    pub(crate) operations: u64,
    /// Seals that became durable.
    pub(crate) seals: u64,
    /// Floors at which everything dead was told.
    pub(crate) floors: u64,
    /// Segments finished, by sealing and by cleaning.
    pub(crate) segments: u64,
    /// Manifests written.
    pub(crate) manifests: u64,
    /// Of those, the ones that list what was cleaned, while things still broke.
    pub(crate) cleanings: u64,
    /// Files removed, while things still broke.
    pub(crate) removals: u64,
    /// Values read that were dead by the time they were.
    pub(crate) late: u64,
    /// Blocks read.
    pub(crate) reads: u64,
    /// Values that came with them.
    pub(crate) fetched: u64,
}

impl Counts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.crash_points += other.crash_points;
        self.flips += other.flips;
        self.refused += other.refused;
        self.damages += other.damages;
        self.restarts += other.restarts;
        self.failures += other.failures;
        self.operations += other.operations;
        self.seals += other.seals;
        self.floors += other.floors;
        self.segments += other.segments;
        self.manifests += other.manifests;
        self.cleanings += other.cleanings;
        self.removals += other.removals;
        self.late += other.late;
        self.reads += other.reads;
        self.fetched += other.fetched;
    }
}
