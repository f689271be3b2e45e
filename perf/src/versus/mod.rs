//! `ringd-perf versus`: the same loads against ringd and etcd, in turn, on the same disk.
//!
//! One server runs at a time, on a fresh directory; who goes first changes every round. Each
//! figure in the end is the median over the rounds. A server's CPU time is its process's own
//! account over the measured interval, divided by the operations completed in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use crate::disk::{self, Flush};
use crate::failure::Failure;
use crate::load::command::{duration, print};
use crate::load::{self, End, Moment, Plan};
use crate::server::{Recipe, Server};
use crate::versus::cases::{CASES, Case, Tool};
use crate::versus::clients::Call;
use crate::versus::result::{Sample, Summary};
use crate::workload::{Order, Shape, Workload};

pub(crate) mod cases;
pub(crate) mod chart;
pub(crate) mod clients;
pub(crate) mod machine;
pub(crate) mod report;
pub(crate) mod result;

/// How a server under test is started and loaded; shared by all that start one.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// The ringd program
    #[arg(long, default_value = "target/release/ringd")]
    pub(crate) ringd: PathBuf,
    /// A further flag for ringd (may be repeated)
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) ringd_flag: Vec<String>,
    /// Where data directories are made, and removed afterwards
    #[arg(long, default_value = "target/perf-data")]
    pub(crate) data: PathBuf,
    /// Measured time of one lean run
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Time before measuring starts, in each lean run
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Number of different keys
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// Keys put before anything is measured; gets ask for these
    #[arg(long, default_value_t = 100_000)]
    pub(crate) prefill: u64,
    /// Bytes in a key
    #[arg(long, default_value_t = 32)]
    pub(crate) key_size: usize,
    /// Bytes in a value
    #[arg(long, default_value_t = 256)]
    pub(crate) value_size: usize,
    /// Requests of one run of another program; a tenth of it with one client, tenfold for `empty`
    #[arg(long, default_value_t = 100_000)]
    pub(crate) total: u64,
    /// etcd's `benchmark` program
    #[arg(long, default_value = "target/peers/bin/benchmark")]
    pub(crate) benchmark: PathBuf,
    /// The `h2load` program
    #[arg(long, default_value = "h2load")]
    pub(crate) h2load: PathBuf,
    /// No progress on the terminal
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl BenchArgs {
    /// How ringd is started: its empty handler is open, and costs nothing while nobody asks.
    pub(crate) fn ringd(&self) -> Recipe {
        let flags = ["--bench-method".to_owned()].into_iter().chain(self.ringd_flag.clone());
        Recipe {
            name: "ringd",
            program: self.ringd.clone(),
            flags: flags.collect(),
            base: self.data.clone(),
        }
    }

    /// Keys and values of `workload`.
    pub(crate) fn shape(&self, workload: Workload) -> Shape {
        let reads = workload == Workload::Get;
        Shape {
            workload,
            keys: if reads && self.prefill > 0 { self.prefill } else { self.keys },
            key_size: self.key_size,
            value_size: self.value_size,
            ..Shape::default()
        }
    }

    /// Requests of one run of another program: enough that the server's CPU time, which is
    /// counted in steps of 10 ms, is exact to a few percent.
    fn total_of(&self, case: Case) -> u64 {
        match (case.workload, case.clients()) {
            (Workload::Empty, _) => self.total * 10,
            (_, 1) => (self.total / 10).max(1),
            (_, _) => self.total,
        }
    }

    /// Puts the first keys, in order.
    pub(crate) fn fill(&self, server: &Server, interrupt: &AtomicBool) -> Result<(), Failure> {
        if self.prefill == 0 {
            return Ok(());
        }
        let plan = Plan {
            addresses: vec![server.address],
            connections: 10,
            in_flight: 100,
            threads: 1,
            rate: None,
            end: End::Count(self.prefill),
            warm_up: Duration::ZERO,
            shape: Shape { order: Order::Sequential, ..self.shape(Workload::Put) },
            samples: false,
        };
        let measured = load::run(&plan, interrupt, &mut |_, _| {})
            .map_err(|failure| server.explain(failure))?;
        match measured.error_count() {
            0 => Ok(()),
            count => Err(Failure::Server(format!("{count} of the first puts failed"))),
        }
    }

    /// The lean generator's run of `case`.
    pub(crate) fn plan(&self, server: &Server, case: Case) -> Plan {
        Plan {
            addresses: vec![server.address],
            connections: case.connections,
            in_flight: case.in_flight,
            threads: 1,
            rate: None,
            end: End::After(self.duration),
            warm_up: self.warm_up,
            shape: self.shape(case.workload),
            samples: false,
        }
    }

    /// Runs `case` once, and accounts for the server.
    ///
    /// # Errors
    /// When the load fails as a whole; single errors are counted in the sample.
    pub(crate) fn measure(
        &self,
        server: &Server,
        case: Case,
        tool: Tool,
        interrupt: &AtomicBool,
    ) -> Result<Sample, Failure> {
        let result = match tool {
            Tool::Lean => self.measure_lean(server, case, interrupt),
            Tool::Benchmark => self.measure_with(&self.benchmark, tool, server, case, interrupt),
            Tool::H2load => self.measure_with(&self.h2load, tool, server, case, interrupt),
        };
        result.map_err(|failure| server.explain(failure))
    }

    fn measure_lean(
        &self,
        server: &Server,
        case: Case,
        interrupt: &AtomicBool,
    ) -> Result<Sample, Failure> {
        let plan = self.plan(server, case);
        let (mut begin, mut end) = (None, None);
        let measured = load::run(&plan, interrupt, &mut |moment, completed| match moment {
            Moment::Begin => begin = Some((server.usage(), completed)),
            Moment::Progress => {}
            Moment::End => end = Some((server.usage(), completed)),
        })?;
        let (begin, end) = begin.zip(end).ok_or(Failure::Interrupted)?;
        let cpu = end.0.cpu.saturating_sub(begin.0.cpu);
        // All keys that a get asks for were put before.
        let lost = case.workload == Workload::Get && self.prefill > 0;
        let lost = if lost { measured.empty_reads } else { 0 };
        Ok(Sample {
            operations: measured.operations,
            rate: measured.rate,
            p50_us: Some(measured.latency.p50_us),
            p99_us: Some(measured.latency.p99_us),
            mean_us: measured.latency.mean_us,
            server_cpu_us: per_operation(cpu, end.1 - begin.1),
            client_cpu_us: Some(measured.client_cpu_us),
            rss_mib: end.0.rss_kib as f64 / 1024.0,
            errors: measured.error_count() + lost,
            ..Sample::of(case, Tool::Lean)
        })
    }

    fn measure_with(
        &self,
        program: &PathBuf,
        tool: Tool,
        server: &Server,
        case: Case,
        interrupt: &AtomicBool,
    ) -> Result<Sample, Failure> {
        let shape = self.shape(case.workload);
        let total = self.total_of(case);
        let (address, dir) = (server.address, &self.data);
        let call = Call { tool, program, case, shape: &shape, address, total, dir };
        let begin = server.usage();
        let said = call.run(interrupt)?;
        let end = server.usage();
        Ok(Sample {
            operations: total,
            rate: said.rate,
            p50_us: said.p50_us,
            p99_us: said.p99_us,
            mean_us: said.mean_us,
            server_cpu_us: per_operation(end.cpu.saturating_sub(begin.cpu), total),
            client_cpu_us: None,
            rss_mib: end.rss_kib as f64 / 1024.0,
            errors: said.errors,
            ..Sample::of(case, tool)
        })
    }
}

fn per_operation(cpu: Duration, operations: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / operations.max(1) as f64
}

/// The flags of a comparison.
#[derive(Args, Clone, Debug)]
pub(crate) struct VersusArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// The etcd program
    #[arg(long, default_value = "target/peers/bin/etcd")]
    etcd: PathBuf,
    /// A further flag for etcd (may be repeated)
    #[arg(long, allow_hyphen_values = true)]
    etcd_flag: Vec<String>,
    /// How often everything is repeated
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Workloads, separated by commas (default: all)
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Programs that make the load, separated by commas
    #[arg(long, value_delimiter = ',', value_enum, default_value = "lean,benchmark")]
    client: Vec<Tool>,
    /// Write report.md, report.json and charts to this folder, such as perf/report
    #[arg(long)]
    report: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What is run: a case with a tool, in this order.
type Job = (Case, Tool);

impl VersusArgs {
    fn jobs(&self) -> Result<Vec<Job>, Failure> {
        for name in &self.workload {
            if CASES.iter().all(|case| case.name != name) {
                let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                return Err(Failure::Usage(format!("{name} is none of {}", names.join(", "))));
            }
        }
        let wanted =
            |case: &Case| self.workload.is_empty() || self.workload.iter().any(|n| n == case.name);
        let mut jobs = Vec::new();
        for tool in &self.client {
            let cases = CASES.into_iter().filter(|case| case.suits(*tool) && wanted(case));
            jobs.extend(cases.map(|case| (case, *tool)));
        }
        if jobs.is_empty() {
            return Err(Failure::Usage("none of these clients can make these loads".into()));
        }
        Ok(jobs)
    }

    fn etcd(&self) -> Recipe {
        Recipe {
            name: "etcd",
            program: self.etcd.clone(),
            flags: self.etcd_flag.clone(),
            base: self.bench.data.clone(),
        }
    }
}

/// Compares and reports.
///
/// # Errors
/// When a server or client cannot be run. A missed target is no error.
pub(crate) fn main(args: &VersusArgs, interrupt: &AtomicBool) -> Result<(), Failure> {
    let jobs = args.jobs()?;
    let recipes = [args.bench.ringd(), args.etcd()];
    if args.rounds == 0 {
        return Err(Failure::Usage("there is at least one round".into()));
    }
    for recipe in &recipes {
        require(&recipe.program, recipe.name)?;
    }
    if args.client.contains(&Tool::Benchmark) {
        require(&args.bench.benchmark, "benchmark")?;
    }
    let data = &args.bench.data;
    fs::create_dir_all(data).map_err(Failure::io(format!("create {}", data.display())))?;
    let total = u64::from(args.rounds) * (jobs.len() as u64) * 2;
    let bar = if args.bench.quiet { ProgressBar::hidden() } else { progress_bar(total) };
    let mut samples = Vec::new();
    let mut flushes = Vec::new();
    for round in 0..args.rounds {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for recipe in order.map(|index| &recipes[index]) {
            let mut now = run_round(args, recipe, &jobs, &bar, interrupt)?;
            for sample in &mut now.1 {
                sample.round = round + 1;
            }
            flushes.push(now.0);
            samples.append(&mut now.1);
        }
    }
    bar.finish_and_clear();
    let summary = Summary::of(machine::describe(&recipes, data), args.rounds, samples, flushes);
    if let Some(dir) = &args.report {
        report::write(&summary, dir)?;
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&summary).expect("plain data") + "\n"))
    } else {
        print(&report::terminal(&summary))
    }
}

fn progress_bar(total: u64) -> ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")
        .expect("the template is valid");
    ProgressBar::new(total).with_style(style)
}

/// Fails when `program` is a path and nothing is there.
pub(crate) fn require(program: &Path, name: &str) -> Result<(), Failure> {
    if program.components().count() > 1 && !program.exists() {
        return Err(Failure::Usage(format!(
            "{name} is not at {}: give its path with --{name}",
            program.display()
        )));
    }
    Ok(())
}

/// All jobs once against one server.
fn run_round(
    args: &VersusArgs,
    recipe: &Recipe,
    jobs: &[Job],
    bar: &ProgressBar,
    interrupt: &AtomicBool,
) -> Result<(Flush, Vec<Sample>), Failure> {
    bar.set_message(format!("{}: disk, start, first keys", recipe.name));
    bar.tick();
    let flush = disk::probe(&args.bench.data)?;
    let server = Server::start(recipe, interrupt)?;
    args.bench.fill(&server, interrupt)?;
    let mut samples = Vec::new();
    for (case, tool) in jobs {
        bar.inc(1);
        if recipe.name == "etcd" && !case.has_rival() {
            continue;
        }
        bar.set_message(format!("{}: {} by {}", recipe.name, case.name, tool.name()));
        let sample = args.bench.measure(&server, *case, *tool, interrupt)?;
        samples.push(Sample { server: recipe.name.to_owned(), ..sample });
    }
    Ok((flush, samples))
}
