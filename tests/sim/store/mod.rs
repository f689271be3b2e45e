//! A store over a faulty disk.

#[allow(dead_code, reason = "its users follow")]
pub(crate) mod disk;
