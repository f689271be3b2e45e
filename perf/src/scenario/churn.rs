//! A key space overwritten many times over while history is compacted: does the disk fill up, and
//! do clients wait for the cleaning?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Caller;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::gauge;
use crate::load::{End, Plan};
use crate::scenario::{Load, Stage, in_order, level, pause_until};
use crate::server::Server;
use crate::workload::{Order, Shape, Workload};

/// What a server that compacts by itself keeps. By count of revisions it would do so every five
/// minutes, and what is written in that time decides how large it gets.
const AUTO_RETENTION: &str = "--auto-compaction-retention=20s";

/// How long a compaction's answer may take; these do not wait for the physical part.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let value = stage.args.large_value;
    let value_size = usize::try_from(value).expect("64 bits fit");
    let keys = (stage.args.scaled(stage.args.churn_bytes) / value.max(1)).max(1);
    let shape = Shape { value_size, order: Order::Shuffled, ..in_order(keys) };
    compact_by_itself(stage);
    let server = stage.start()?;
    stage.fill(&server, &shape, keys)?;
    let shape = Shape { order: Order::Random, workload: Workload::Put, ..shape };
    let end = End::Count(keys * stage.args.churn_times);
    let plan = Plan { end, ..stage.open_plan(&server, &shape) };
    let (load, gauges) = with_compactions(stage, &server, &plan, "overwrites")?;
    let latency = load.measured.latency;
    stage.figure("puts", "rate /s", load.measured.rate);
    stage.figure("puts", "p50 us", latency.p50_us);
    stage.figure("puts", "p99 us", latency.p99_us);
    stage.figure("puts", "p99.9 us", latency.p99_9_us);
    stage.figure("puts", "max ms", latency.max_us / 1000.0);
    stage.figure("puts", "CPU us/op", load.cpu_us);
    let samples = &load.measured.samples;
    let p99 = level::curve(samples, load.begin.0, stage.args.window, |l| l.p99_us);
    stage.drift("puts", "p99 drift %", &p99);
    stage.curve("put p99, us", p99);
    let middle = load.begin.0.0.midpoint(load.end.0.0);
    let late = gauges.iter().filter(|gauge| gauge.at.0 >= middle).map(|gauge| gauge.disk);
    let alive = keys * (value + shape.key_size as u64);
    let most = late.max().unwrap_or(0);
    stage.figure("puts", "alive MiB", alive as f64 / 1_048_576.0);
    stage.figure("puts", "disk/alive, late", most as f64 / alive as f64);
    stage.usage_curves("puts", load.begin.0, load.begin.0, &gauges);
    sizes(stage, &server)
}

/// Makes the server compact by itself, if this run asks for that.
pub(super) fn compact_by_itself(stage: &mut Stage<'_>) {
    if stage.args.auto_compaction {
        let flags = ["--auto-compaction-mode=periodic", AUTO_RETENTION];
        stage.recipe.flags.extend(flags.map(str::to_owned));
    }
}

/// Runs an open loop, looks at the server meanwhile, and compacts regularly unless the server does.
pub(super) fn with_compactions(
    stage: &mut Stage<'_>,
    server: &Server,
    plan: &Plan,
    what: &str,
) -> Result<(Load, Vec<gauge::Gauge>), Failure> {
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let (enough, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let every = stage.args.compact_every;
    let (by_tool, retention) = (!stage.args.auto_compaction, stage.args.retention);
    let ((load, compactions), gauges) =
        gauge::during(&server.subject(), clock, stage.args.look, || {
            std::thread::scope(|scope| {
                let (enough, over) = (&enough, &over);
                let compactor = scope.spawn(move || {
                    if !by_tool {
                        return Ok(0);
                    }
                    let result = compact(server, clock, every, retention, interrupt, over);
                    // Without compactions the rest of the load shows nothing.
                    enough.store(result.is_err(), Ordering::Relaxed);
                    result
                });
                let load = stage.load(server, plan, what, enough);
                over.store(true, Ordering::Relaxed);
                (load, compactor.join().expect("no thread panics"))
            })
        });
    let (load, compactions) = (load?, compactions?);
    if by_tool {
        stage.figure("compactions", "count", f64::from(compactions));
    }
    Ok((load, gauges))
}

/// Compacts every so often, all but the last revisions; says how often.
fn compact(
    server: &Server,
    clock: Clock,
    every: Duration,
    retention: u64,
    interrupt: &AtomicBool,
    over: &AtomicBool,
) -> Result<u32, Failure> {
    let mut caller = Caller::connect(server.address, PATIENCE)?;
    let mut count = 0;
    loop {
        pause_until(clock, clock.now().plus(every), interrupt, over)?;
        if over.load(Ordering::Relaxed) {
            return Ok(count);
        }
        let revision = caller.revision()?.saturating_sub(retention);
        if revision > 0 {
            caller.compact(revision, false)?;
            count += 1;
        }
    }
}

/// What the server itself says of its sizes at the end.
fn sizes(stage: &mut Stage<'_>, server: &Server) -> Result<(), Failure> {
    let sizes = Caller::connect(server.address, PATIENCE)?.status()?;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    stage.figure("status", "dbSize MiB", mib(sizes.allocated));
    stage.figure("status", "dbSizeInUse MiB", mib(sizes.in_use));
    stage.figure("status", "disk MiB", mib(server.subject().disk_use()));
    Ok(())
}
