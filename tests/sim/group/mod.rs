//! Groups of three and five whole shards.

mod replicate;
mod serve;
mod world;
