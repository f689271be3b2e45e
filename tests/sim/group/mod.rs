//! Groups of three and five whole shards, and such as grow and shrink.

mod alone;
mod members;
mod replicate;
mod serve;
mod snapshots;
mod spread;
mod world;
