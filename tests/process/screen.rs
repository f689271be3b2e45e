//! What the server says while it starts and ends, and where it takes its settings from.
