//! What the keyspace means: the index of generations and tombstones, apply and range.
