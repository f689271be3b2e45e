//! The server: a command line, and what it asks for.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringd::rt::run(std::env::args_os().skip(1), std::env::vars_os())
}
