//! Load and comparison, across processes.

fn main() {}
