//! ringd: a drop-in etcd v3 server, thread-per-core on io_uring.
//!
//! In layer order, from the ground up:
//!
//! - [`types`]: the domain's quantities;
//! - [`config`]: every knob and limit, from the command line, the environment and a file;
//! - [`frame`]: the only code that decides "these bytes are whole";
//! - [`identity`]: the file that says who a member is;
//! - [`raft`], [`mvcc`], [`lease`]: consensus, what the keyspace means, and when keys end, as pure
//!   machines;
//! - [`wal`]: Raft's state as bytes;
//! - [`store`]: revisions as bytes;
//! - [`shard`]: all of these as one machine, a whole keyspace replica;
//! - [`peer`]: connections between members as machines;
//! - [`http2`]: one client connection as a machine;
//! - [`api`]: etcd's calls and messages;
//! - [`rt`]: the shell around it all.
//! - [`inspect`]: any file of ours, printed for a person.

pub mod api;
pub mod config;
pub mod frame;
pub mod http2;
pub mod identity;
pub mod inspect;
pub mod lease;
pub mod mvcc;
pub mod peer;
pub mod raft;
pub mod rt;
pub mod shard;
pub mod store;
pub mod types;
pub mod wal;
