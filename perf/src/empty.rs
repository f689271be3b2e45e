//! `ringd-perf empty`: ringd's front end alone, by its hidden method that decodes a put and
//! answers at once. What this costs is the floor under every other figure.

use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::disk;
use crate::failure::Failure;
use crate::load::command::print;
use crate::server::Server;
use crate::versus::BenchArgs;
use crate::versus::cases::{CASES, Tool};
use crate::versus::machine;
use crate::versus::report;
use crate::versus::result::{Sample, Summary};
use crate::workload::Workload;

/// The flags of a run against the empty handler.
#[derive(Args, Clone, Debug)]
pub(crate) struct EmptyArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Programs that make the load, separated by commas: lean, h2load
    #[arg(long, value_delimiter = ',', value_enum, default_value = "lean")]
    client: Vec<Tool>,
    /// How often it is repeated, on the same server
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Measures the empty handler.
///
/// # Errors
/// When ringd or the load fails.
pub(crate) fn main(args: &EmptyArgs, interrupt: &AtomicBool) -> Result<(), Failure> {
    let recipe = args.bench.ringd();
    let flush = disk::probe(&args.bench.data)?;
    let server = Server::start(&recipe, interrupt)?;
    let mut samples = Vec::new();
    for round in 1..=args.rounds {
        for case in CASES.into_iter().filter(|case| case.workload == Workload::Empty) {
            for tool in args.client.iter().filter(|tool| case.suits(**tool)) {
                let sample = args.bench.measure(&server, case, *tool, interrupt)?;
                samples.push(Sample { server: recipe.name.to_owned(), round, ..sample });
            }
        }
    }
    let machine = machine::describe(&[recipe], &args.bench.data);
    print(&report::terminal(&Summary::of(machine, args.rounds, samples, vec![flush])))
}
