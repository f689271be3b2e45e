//! The shell: executors, sockets, files, the one clock. It awaits and decides nothing.

mod ask;
mod clock;
mod core;
mod disk;
mod event;
mod identity;
mod launch;
mod listen;
mod log;
mod machine;
mod memory;
mod mesh;
mod notify;
mod placement;
mod recover;
mod resolve;
mod server;
mod signals;

pub use launch::run;
