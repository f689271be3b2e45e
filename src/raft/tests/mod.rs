//! The consensus core against the paper, against chance, and against everything.

mod bytes;
mod chaos;
mod claims;
mod explore;
mod group;
mod limits;
mod model;
mod reads;
mod world;
