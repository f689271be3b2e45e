//! etcd's API: calls become shard inputs, replies become answers. Protobuf stops here.

pub mod proto;
