//! `ringd-perf scenario`: what a store lives through, with ringd and with etcd in turn.
//!
//! `versus` asks one thing for a few seconds. A scenario has a course: data is put, something is
//! done to the server, and what clients see and what the server uses is followed meanwhile. Each
//! round starts each server on a fresh directory; who goes first changes every round.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::clock::{self, Clock, Nanos};
use crate::disk;
use crate::failure::Failure;
use crate::gauge::Gauge;
use crate::load::command::{duration, print};
use crate::load::measure::Measured;
use crate::load::{self, End, Moment, Plan};
use crate::scenario::args::WatchArgs;
use crate::scenario::figures::{Book, Complaint, Curve, Figure, Summary};
use crate::server::{Recipe, Server, Usage};
use crate::versus::machine;
use crate::workload::{Order, Shape, Workload};

mod args;
mod churn;
mod cluster;
mod compaction;
mod expiry;
mod fanout;
pub(crate) mod figures;
mod keepalive;
mod large;
mod level;
mod lines;
mod list;
mod memory;
mod paging;
mod report;
mod restart;
mod soak;
mod stalled;
mod targets;
mod txns;

/// Connections of loads, and requests in flight on each.
const CLIENTS: (usize, u32) = (10, 100);

/// The longest an open loop may go on; its scenario ends it.
const LOAD_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often a scenario that waits looks whether it should.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A course of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Scenario {
    /// Puts at a fixed rate, quiet, and while a compaction runs
    Compaction,
    /// Kill -9 with many keys, and start again
    Restart,
    /// One long list, in one answer and as a stream
    List,
    /// All keys, page after page
    Paging,
    /// Transactions of 1, 10 and 100 operations, and Kubernetes' kind
    Txns,
    /// One put told to many watchers, and many keys watched
    Fanout,
    /// Puts while one watcher does not read
    Stalled,
    /// Leases kept alive over streams
    Keepalive,
    /// Puts while many leases expire together
    LeasesExpire,
    /// Memory of idle connections, streams and watchers
    WatchMemory,
    /// Random gets from more values than the cache may hold
    Large,
    /// A key space overwritten many times over, with compactions
    Churn,
    /// A mix of everything, for long
    Soak,
    /// Puts and gets with three members
    Cluster,
    /// Kill -9 of the leader of three: how long nobody is served
    Failover,
    /// Puts while one of three members catches up
    CatchUp,
    /// A mix of everything, for long, while leaders of three members are killed
    ClusterSoak,
}

impl Scenario {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compaction => "compaction",
            Self::Restart => "restart",
            Self::List => "list",
            Self::Paging => "paging",
            Self::Txns => "txns",
            Self::Fanout => "fanout",
            Self::Stalled => "stalled",
            Self::Keepalive => "keepalive",
            Self::LeasesExpire => "leases-expire",
            Self::WatchMemory => "watch-memory",
            Self::Large => "large",
            Self::Churn => "churn",
            Self::Soak => "soak",
            Self::Cluster => "cluster",
            Self::Failover => "failover",
            Self::CatchUp => "catch-up",
            Self::ClusterSoak => "cluster-soak",
        }
    }

    /// Whether it is run once, whatever the rounds, and only when named.
    fn is_long(self) -> bool {
        matches!(self, Self::Large | Self::Churn | Self::Soak | Self::ClusterSoak)
    }

    /// Whether several members are started; those are run only when named.
    fn is_of_cluster(self) -> bool {
        matches!(self, Self::Cluster | Self::Failover | Self::CatchUp | Self::ClusterSoak)
    }

    fn play(self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        match self {
            Self::Compaction => compaction::play(stage),
            Self::Restart => restart::play(stage),
            Self::List => list::play(stage),
            Self::Paging => paging::play(stage),
            Self::Txns => txns::play(stage),
            Self::Fanout => fanout::play(stage),
            Self::Stalled => stalled::play(stage),
            Self::Keepalive => keepalive::play(stage),
            Self::LeasesExpire => expiry::play(stage),
            Self::WatchMemory => memory::play(stage),
            Self::Large => large::play(stage),
            Self::Churn => churn::play(stage),
            Self::Soak => soak::play(stage),
            Self::Cluster => cluster::play(stage),
            Self::Failover => cluster::failover::play(stage),
            Self::CatchUp => cluster::catch_up::play(stage),
            Self::ClusterSoak => cluster::kills::play(stage),
        }
    }
}

/// The flags of scenarios.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScenarioArgs {
    /// Which of them (default: those before `large`, which, churn and the soaks are run once)
    #[arg(value_enum)]
    names: Vec<Scenario>,
    /// The ringd program
    #[arg(long, default_value = "target/release/ringd")]
    ringd: PathBuf,
    /// A further flag for ringd (may be repeated)
    #[arg(long, allow_hyphen_values = true)]
    ringd_flag: Vec<String>,
    /// The etcd program
    #[arg(long, default_value = "target/peers/bin/etcd")]
    etcd: PathBuf,
    /// A further flag for etcd (may be repeated)
    #[arg(long, allow_hyphen_values = true)]
    etcd_flag: Vec<String>,
    /// Only these servers, separated by commas: ringd, etcd
    #[arg(long, value_delimiter = ',', default_value = "ringd,etcd")]
    server: Vec<String>,
    /// Where data directories are made, and removed afterwards
    #[arg(long, default_value = "target/perf-data")]
    data: PathBuf,
    /// How often everything but the long ones is repeated
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// A factor on all numbers of keys, revisions and bytes: 0.02 for a try
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Measured time of one closed loop, and of the quiet part of a compaction
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Time before measuring starts, in each load
    #[arg(long, default_value = "2s", value_parser = duration)]
    warm_up: Duration,
    /// Time without load after keys were put
    #[arg(long, default_value = "3s", value_parser = duration)]
    settle: Duration,
    /// Puts due per second where they are paced, operations in soak, keep-alives
    #[arg(long, default_value_t = 3000.0)]
    rate: f64,
    /// Revisions to compact
    #[arg(long, default_value_t = 1_000_000)]
    revisions: u64,
    /// Keys in restart and paging
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Keys in compaction, list, txns, leases-expire and soak
    #[arg(long, default_value_t = 100_000)]
    few_keys: u64,
    /// Restart also with the server's files dropped from the page cache
    #[arg(long)]
    cold: bool,
    /// Lists asked for, one after the other
    #[arg(long, default_value_t = 10)]
    lists: u32,
    /// Keys in one page
    #[arg(long, default_value_t = 500)]
    page_size: u64,
    /// Bytes of values in large, such as 20GiB
    #[arg(long, default_value = "256MiB", value_parser = bytes)]
    large_bytes: u64,
    /// Passed on to ringd in large: what its cache may hold
    #[arg(long)]
    cache_bytes: Option<String>,
    /// Bytes of the key space in churn
    #[arg(long, default_value = "64MiB", value_parser = bytes)]
    churn_bytes: u64,
    /// How often that is overwritten
    #[arg(long, default_value_t = 10)]
    churn_times: u64,
    /// Bytes in a value of large and churn
    #[arg(long, default_value = "4KiB", value_parser = bytes)]
    large_value: u64,
    /// Time between compactions in churn and soak
    #[arg(long, default_value = "5s", value_parser = duration)]
    compact_every: Duration,
    /// Revisions that a compaction leaves
    #[arg(long, default_value_t = 1000)]
    retention: u64,
    /// Let the servers compact by themselves (--auto-compaction-mode=revision), in churn and soak
    #[arg(long)]
    auto_compaction: bool,
    /// How long soak goes on
    #[arg(long, default_value = "1m", value_parser = duration)]
    soak_time: Duration,
    /// Time that one point of a curve of latencies stands for, in churn and soak
    #[arg(long, default_value = "5s", value_parser = duration)]
    window: Duration,
    /// Time between two looks at a server's memory and disk use
    #[arg(long, default_value = "1s", value_parser = duration)]
    look: Duration,
    #[command(flatten)]
    watch: WatchArgs,
    /// Write scenarios.md, scenarios.json and charts to this folder, such as perf/report
    #[arg(long)]
    report: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

impl ScenarioArgs {
    fn scenarios(&self) -> Vec<Scenario> {
        if !self.names.is_empty() {
            return self.names.clone();
        }
        Scenario::value_variants()
            .iter()
            .copied()
            .filter(|s| !s.is_long() && !s.is_of_cluster())
            .collect()
    }

    /// The servers, with flags that both need for as much data as these scenarios put.
    fn recipes(&self) -> Result<Vec<Recipe>, Failure> {
        let make = |name: &String| -> Result<Recipe, Failure> {
            let (name, program, own) = match name.as_str() {
                "ringd" => ("ringd", &self.ringd, &self.ringd_flag),
                "etcd" => ("etcd", &self.etcd, &self.etcd_flag),
                other => return Err(Failure::Usage(format!("{other} is neither ringd nor etcd"))),
            };
            crate::versus::require(program, name)?;
            let mut flags = vec![format!("--quota-backend-bytes={}", 256_u64 << 30)];
            flags.extend(own.iter().cloned());
            Ok(Recipe { name, program: program.clone(), flags, base: self.data.clone() })
        };
        self.server.iter().map(make).collect()
    }

    /// A number of keys, revisions or bytes at the scale of this run.
    fn scaled(&self, number: u64) -> u64 {
        whole(number as f64 * self.scale).unwrap_or(number).max(1)
    }
}

/// A number without its fraction; none if it can be no size.
fn whole(number: f64) -> Option<u64> {
    // Far below 2^53 for any size that fits on a disk.
    Duration::try_from_secs_f64(number).ok().map(|d| d.as_secs())
}

/// Reads `20GiB`, `512MiB`, `4KiB` or a number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(format!("{unit:?} is not one of B, KiB, MiB, GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{number:?} is not a whole number"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too much".to_owned())
}

/// Plays scenarios and reports.
///
/// # Errors
/// When a server cannot be started, or a scenario did not come to its end. What was measured until
/// then is reported first. A missed target is no error.
pub(crate) fn main(args: &ScenarioArgs, interrupt: &AtomicBool) -> Result<(), Failure> {
    let recipes = args.recipes()?;
    if args.rounds == 0 || recipes.is_empty() {
        return Err(Failure::Usage("there is at least one round, and one server".into()));
    }
    fs::create_dir_all(&args.data)
        .map_err(Failure::io(format!("create {}", args.data.display())))?;
    let scenarios = args.scenarios();
    let rounds = |scenario: Scenario| if scenario.is_long() { 1 } else { args.rounds };
    let runs: u64 = scenarios.iter().map(|s| u64::from(rounds(*s)) * recipes.len() as u64).sum();
    let bar = if args.quiet { ProgressBar::hidden() } else { progress_bar(runs) };
    let mut book = Book::default();
    for scenario in scenarios {
        for round in 1..=rounds(scenario) {
            let mut order: Vec<_> = recipes.iter().collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for recipe in order {
                book.flushes.push(disk::probe(&args.data)?);
                let recipe = recipe.clone();
                let (clock, bar, book) = (Clock::start(), &bar, &mut book);
                let mut stage =
                    Stage { args, recipe, scenario, round, clock, book, bar, interrupt };
                match scenario.play(&mut stage) {
                    Ok(()) => {}
                    Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                    Err(failure) => stage.complain(failure.to_string()),
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let summary = Summary::of(machine::describe(&recipes, &args.data), book);
    if let Some(dir) = &args.report {
        report::write(&summary, dir)?;
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&summary).expect("plain data") + "\n"))?;
    } else {
        print(&report::terminal(&summary))?;
    }
    match summary.book.complaints.len() {
        0 => Ok(()),
        count => Err(Failure::Server(format!("{count} things did not go well, see above"))),
    }
}

fn progress_bar(runs: u64) -> ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed} {msg}")
        .expect("the template is valid");
    ProgressBar::new(runs).with_style(style)
}

/// What a load found, and what the server used for it.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What the clients saw.
    pub(crate) measured: Measured,
    /// The server's CPU time per operation, in microseconds.
    pub(crate) cpu_us: f64,
    /// When measuring began, on the stage's clock, and what the server had used until then.
    pub(crate) begin: (Nanos, Usage),
    /// The same of its end.
    pub(crate) end: (Nanos, Usage),
}

/// One scenario, one server, one round: what it is played with.
pub(crate) struct Stage<'a> {
    args: &'a ScenarioArgs,
    recipe: Recipe,
    scenario: Scenario,
    round: u32,
    /// The one clock of this run: samples, looks and events are told on it.
    clock: Clock,
    book: &'a mut Book,
    bar: &'a ProgressBar,
    interrupt: &'a AtomicBool,
}

impl Stage<'_> {
    /// Starts the server on a fresh directory.
    fn start(&self) -> Result<Server, Failure> {
        self.say("starts");
        Server::start(&self.recipe, self.interrupt)
    }

    /// Tells the terminal what goes on.
    fn say(&self, what: &str) {
        self.bar.set_message(format!("{} {}: {what}", self.scenario.name(), self.recipe.name));
        self.bar.tick();
    }

    /// Writes a number down.
    fn figure(&mut self, case: &str, name: &'static str, value: f64) {
        let (scenario, server, round) = (self.scenario.name(), self.recipe.name, self.round);
        let case = case.to_owned();
        self.book.figures.push(Figure { scenario, case, name, server, round, value });
    }

    /// Writes a number over time down.
    fn curve(&mut self, name: &'static str, points: Vec<(f64, f64)>) {
        let (scenario, server, round) = (self.scenario.name(), self.recipe.name, self.round);
        self.book.curves.push(Curve { scenario, name, server, round, points });
    }

    /// Writes down what did not go well.
    fn complain(&mut self, what: String) {
        let (scenario, server) = (self.scenario.name(), self.recipe.name);
        self.book.complaints.push(Complaint { scenario, server, what });
    }

    /// A closed loop of `shape` that goes on for the measured time of this run.
    fn plan(&self, server: &Server, shape: &Shape) -> Plan {
        Plan {
            addresses: vec![server.address],
            connections: CLIENTS.0,
            in_flight: CLIENTS.1,
            threads: 1,
            rate: None,
            end: End::After(self.args.duration),
            warm_up: self.args.warm_up,
            shape: shape.clone(),
            samples: false,
        }
    }

    /// An open loop at the rate of this run, until its starter has seen enough.
    fn open_plan(&self, server: &Server, shape: &Shape) -> Plan {
        let (rate, end) = (Some(self.args.rate), End::After(LOAD_TIME_MAX));
        Plan { rate, end, samples: true, ..self.plan(server, shape) }
    }

    /// Runs `plan` to its end, or until there is `enough`.
    ///
    /// # Errors
    /// When it fails as a whole, or no operation ended well. Single ones that did not are written
    /// down.
    fn load(
        &mut self,
        server: &Server,
        plan: &Plan,
        what: &str,
        enough: &AtomicBool,
    ) -> Result<Load, Failure> {
        let subject = server.subject();
        let usage = || subject.usage();
        self.load_on(&usage, &|failure| server.explain(failure), plan, what, enough)
    }

    /// The same against whatever `usage` accounts for, and `explain` knows the last words of.
    fn load_on(
        &mut self,
        usage: &dyn Fn() -> Usage,
        explain: &dyn Fn(Failure) -> Failure,
        plan: &Plan,
        what: &str,
        enough: &AtomicBool,
    ) -> Result<Load, Failure> {
        let clock = self.clock;
        let (mut begin, mut end, mut last) = (None, None, (clock.now(), 0));
        let result = load::run_until(plan, clock, enough, self.interrupt, &mut |moment, done| {
            match moment {
                Moment::Begin => begin = Some((clock.now(), usage(), done)),
                Moment::End => end = Some((clock.now(), usage(), done)),
                Moment::Progress => {}
            }
            let now = clock.now();
            if now.since(last.0) > 500_000_000 {
                let rate = (done - last.1) * 1_000_000_000 / now.since(last.0);
                let from = begin.as_ref().map_or(now, |begin| begin.0);
                let part = part(plan.end, now.since(from), done);
                self.say(&format!("{what}{part}, {done} done, {rate}/s"));
                last = (now, done);
            }
        });
        let measured = result.map_err(explain)?;
        let (begin, end) = begin.zip(end).ok_or(Failure::Interrupted)?;
        if measured.error_count() > 0 {
            let text = measured.last_message.clone().unwrap_or_default();
            let (errors, unanswered) = (&measured.errors, measured.unanswered);
            let complaint = format!("{what}: {errors:?}, {unanswered} unanswered {text}");
            if measured.operations == 0 {
                return Err(Failure::Server(complaint));
            }
            self.complain(complaint);
        }
        let cpu = end.1.cpu.saturating_sub(begin.1.cpu);
        let cpu_us = cpu.as_secs_f64() * 1e6 / (end.2 - begin.2).max(1) as f64;
        Ok(Load { measured, cpu_us, begin: (begin.0, begin.1), end: (end.0, end.1) })
    }

    /// Puts `count` keys of `shape`, then waits for the server to settle.
    ///
    /// # Errors
    /// When a single one fails.
    fn fill(&mut self, server: &Server, shape: &Shape, count: u64) -> Result<Load, Failure> {
        let shape = Shape { workload: Workload::Put, ..shape.clone() };
        let (end, warm_up) = (End::Count(count), Duration::ZERO);
        let plan = Plan { end, warm_up, ..self.plan(server, &shape) };
        let load = self.load(server, &plan, "puts keys", &AtomicBool::new(false))?;
        if load.measured.error_count() > 0 {
            return Err(Failure::Server("some of the first puts failed".into()));
        }
        self.say("settles");
        self.pause(self.args.settle)?;
        Ok(load)
    }

    /// Waits.
    ///
    /// # Errors
    /// When interrupted.
    fn pause(&self, duration: Duration) -> Result<(), Failure> {
        pause_until(self.clock, self.clock.now().plus(duration), self.interrupt, &NEVER)
    }

    /// Curves of what the server used, from `begin` on; and, as figures of `case`, the most of each
    /// and how it drifted from `work` on.
    fn usage_curves(&mut self, case: &str, begin: Nanos, work: Nanos, gauges: &[Gauge]) {
        const MIB: f64 = 1_048_576.0;
        let curve = |pick: &dyn Fn(&Gauge) -> f64| -> Vec<(f64, f64)> {
            let late = gauges.iter().filter(|gauge| gauge.at >= begin);
            late.map(|gauge| (gauge.at.since(begin) as f64 / 1e9, pick(gauge))).collect()
        };
        let rss = curve(&|gauge| gauge.usage.rss_mib());
        let disk = curve(&|gauge| gauge.disk as f64 / MIB);
        let descriptors = curve(&|gauge| gauge.descriptors as f64);
        let most = |points: &[(f64, f64)]| points.iter().map(|point| point.1).fold(0.0, f64::max);
        self.figure(case, "RSS max MiB", most(&rss));
        self.figure(case, "disk max MiB", most(&disk));
        for (name, points) in
            [("RSS drift %", &rss), ("disk drift %", &disk), ("descriptors drift %", &descriptors)]
        {
            let from = work.since(begin) as f64 / 1e9;
            self.drift(case, name, &points[points.partition_point(|point| point.0 < from)..]);
        }
        self.curve("RSS, MiB", rss);
        self.curve("disk use, MiB", disk);
        self.curve("descriptors", descriptors);
    }

    /// How much a number rose, as a figure; nothing when it was looked at too seldom to tell.
    fn drift(&mut self, case: &str, name: &'static str, points: &[(f64, f64)]) {
        if let Some(drift) = level::drift_percent(points) {
            self.figure(case, name, drift);
        }
    }
}

/// How far a load has come, where its end is known.
fn part(end: End, nanos: u64, done: u64) -> String {
    let (now, all) = match end {
        End::After(LOAD_TIME_MAX) => return String::new(),
        End::After(duration) => (nanos, clock::nanos(duration)),
        End::Count(count) => (done, count),
    };
    format!(" {:.0} %", (now as f64 / all.max(1) as f64 * 100.0).min(100.0))
}

/// What is never over.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Waits until `moment`, or until `over`.
///
/// # Errors
/// When interrupted.
fn pause_until(
    clock: Clock,
    moment: Nanos,
    interrupt: &AtomicBool,
    over: &AtomicBool,
) -> Result<(), Failure> {
    while clock.now() < moment && !over.load(Ordering::Relaxed) {
        if interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        let rest = Duration::from_nanos(moment.since(clock.now()));
        clock::pause(rest.min(LOOK_INTERVAL));
    }
    Ok(())
}

/// Keys one after the other, as lists and pages want them.
fn in_order(keys: u64) -> Shape {
    Shape { keys, order: Order::Sequential, ..Shape::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(bytes("20GiB"), Ok(20 << 30));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("4KiB"), Ok(4096));
        assert_eq!(bytes("7"), Ok(7));
        for wrong in ["7GB", "MiB", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_load_says_how_far_it_is_where_its_end_is_known() {
        assert_eq!(part(End::Count(200), 7, 50), " 25 %");
        assert_eq!(part(End::After(Duration::from_secs(4)), 3_000_000_000, 50), " 75 %");
        assert_eq!(part(End::After(LOAD_TIME_MAX), 3_000_000_000, 50), "");
    }

    #[test]
    fn a_pause_ends_when_it_is_over() {
        let (clock, no, yes) = (Clock::start(), AtomicBool::new(false), AtomicBool::new(true));
        let late = Nanos(u64::MAX);
        assert!(pause_until(clock, late, &no, &yes).is_ok());
        assert!(pause_until(clock, Nanos(0), &no, &no).is_ok());
        assert!(matches!(pause_until(clock, late, &yes, &no), Err(Failure::Interrupted)));
    }
}
