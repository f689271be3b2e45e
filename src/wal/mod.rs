//! The write-ahead log: Raft's state as bytes on disk.
