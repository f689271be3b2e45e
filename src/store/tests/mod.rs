//! The store over a disk in memory, against a map of all changes.

mod history;
mod model;
mod space;
mod world;
