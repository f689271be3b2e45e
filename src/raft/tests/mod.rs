//! The consensus core against the paper, against chance, and against everything.

mod chaos;
mod world;
