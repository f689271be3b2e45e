//! etcd's API: calls become shard inputs, replies become answers. Protobuf stops here.
//!
//! A [`Session`] is one client's connection as a machine. It sniffs what the client speaks, routes
//! its calls, checks them as far as one can without the keyspace, and turns answers into bytes. Hot
//! calls are read and written by hand (`wire`, `kv`); every other message is prost's.

mod answer;
mod answers;
mod call;
mod cluster;
mod health;
mod http1;
mod kv;
mod lease;
mod method;
mod partial;
mod peer_pages;
mod plain;
pub mod proto;
mod pulls;
mod recipe;
mod recipes;
mod session;
pub mod status;
mod stream;
mod txn;
pub mod watch;
mod wire;

pub use answers::Answers;
pub use answers::Piece;
pub use call::Settings;
pub use call::Sink;
pub use peer_pages::About;
pub use peer_pages::PeerPages;
pub use session::Closing;
pub use session::Session;
