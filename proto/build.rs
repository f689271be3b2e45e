//! Compiles our text of etcd's messages.

fn main() {}
