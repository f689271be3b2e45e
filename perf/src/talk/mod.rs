//! Calls that go on: watches with a writer beside them, and keep-alives of leases.
//!
//! All of it runs in one thread, the one that asks: what it costs is told as *client CPU*, and a
//! second thread would only take the server's place on a small machine. Times are those of one
//! clock, so that when a put was sent can be compared with when its event came.

pub(crate) mod batch;
mod beat;
pub(crate) mod broadcast;
pub(crate) mod keeper;
mod ledger;
mod wires;
mod writer;

pub(crate) use ledger::Scope;
pub(crate) use writer::Pace;
