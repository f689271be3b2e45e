//! The real binary as a process: killed under load, started twice, asked to end, misused.
//!
//! `SEED` and `ROUNDS` choose another run of the killings and how many there are.

mod belongings;
mod flags;
mod floods;
mod hostile;
mod kill;
mod life;
mod lists;
mod load;
mod screen;
mod shards;
mod store;
#[path = "../support/mod.rs"]
mod support;
