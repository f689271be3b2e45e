//! Load and comparison, across processes: how fast the server is, and against whom.
//!
//! `load` asks a running server, `versus` starts ringd and etcd in turn and compares them,
//! `scenario` does so over longer courses of events, `profile` shows where ringd's time goes,
//! `empty` measures its front end alone.

mod client;
mod clock;
mod cluster;
mod disk;
mod empty;
mod failure;
mod gauge;
mod h2;
mod load;
mod message;
mod priority;
mod profile;
mod scenario;
mod server;
mod talk;
mod versus;
mod wire;
mod workload;

use std::io::Write as _;
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
    /// Start ringd and etcd in turn, give both the same loads, and compare
    Versus(Box<versus::VersusArgs>),
    /// Play what a store lives through against ringd and etcd in turn, and compare
    Scenario(Box<scenario::ScenarioArgs>),
    /// Start ringd, load it, and show where its time goes
    Profile(Box<profile::ProfileArgs>),
    /// Start ringd and load its empty handler: the cost of the front end alone
    Empty(Box<empty::EmptyArgs>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interrupt = Arc::new(AtomicBool::new(false));
    server::clean_up_on_panic();
    match run(&arguments.command, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do when standard error is gone, too.
            let _ = writeln!(std::io::stderr(), "ringd-perf: {failure}");
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
        Command::Versus(arguments) => versus::main(arguments, interrupt),
        Command::Scenario(arguments) => scenario::main(arguments, interrupt),
        Command::Profile(arguments) => profile::main(arguments, interrupt),
        Command::Empty(arguments) => empty::main(arguments, interrupt),
    }
}
