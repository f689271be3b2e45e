//! What must hold, each in a file of its own.

pub(super) mod config;
pub(super) mod lease;
pub(super) mod linear;
pub(super) mod order;
pub(super) mod states;
pub(super) mod truth;
pub(super) mod watch;
