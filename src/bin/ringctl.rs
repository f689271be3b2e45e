//! The command-line client and offline tool.

fn main() {}
