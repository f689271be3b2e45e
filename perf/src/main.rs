//! Load and comparison, across processes: how fast the server is, and against whom.
//!
//! `load` asks a running server, `versus` starts ringd and etcd in turn and compares them,
//! `profile` shows where ringd's time goes, `empty` measures its front end alone.

mod clock;
mod failure;
mod h2;
mod load;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Measures ringd, alone and beside etcd.
#[derive(Debug, Parser)]
#[command(name = "ringd-perf", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a running server for a while and say how it answered
    Load(load::command::LoadArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interrupt = Arc::new(AtomicBool::new(false));
    match run(&arguments.command, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ringd-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, interrupt: &Arc<AtomicBool>) -> Result<(), Failure> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(interrupt))
            .map_err(Failure::io("register a signal"))?;
    }
    match command {
        Command::Load(arguments) => load::command::main(arguments, interrupt),
    }
}
