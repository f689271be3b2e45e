//! Random gets from more values than the cache may hold, beside what the disk itself can do.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::client::Caller;
use crate::disk;
use crate::failure::Failure;
use crate::gauge;
use crate::load::{End, Plan};
use crate::scenario::{Stage, in_order, restart};
use crate::server::Server;
use crate::workload::{Order, Shape, Workload};

/// Keys whose values are compared, before and after.
const LOOKS: u64 = 1000;

/// How long one of those calls may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its name, connections, in flight on each.
type Case = (&'static str, usize, u32);

/// The share of all keys that is read before anything is judged: caches fill, and what they take is
/// no rise.
const WARM_UP_SHARE: u64 = 10;

const CASES: [Case; 2] = [("gets 1", 1, 1), ("gets 32", 4, 8)];

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let value = stage.args.large_value;
    let keys = (stage.args.scaled(stage.args.large_bytes) / value.max(1)).max(1);
    let value_size = usize::try_from(value).expect("64 bits fit");
    let shape = Shape { value_size, keyed: true, order: Order::Shuffled, ..in_order(keys) };
    if let Some(size) = stage.args.cache_bytes.as_ref().filter(|_| stage.recipe.name == "ringd") {
        stage.recipe.flags.push(format!("--cache-bytes={size}"));
    }
    let server = stage.start()?;
    let (clock, subject) = (stage.clock, server.subject());
    let (begin, mut filled) = (clock.now(), clock.now());
    let (result, gauges) = gauge::during(&subject, clock, stage.args.look, || {
        let fill = stage.fill(&server, &shape, keys)?;
        stage.figure("fill", "rate /s", fill.measured.rate);
        stage.figure("fill", "p99 us", fill.measured.latency.p99_us);
        stage.figure("fill", "CPU us/op", fill.cpu_us);
        stage.figure("fill", "RSS MiB", fill.end.1.rss_mib());
        compare_values(stage, &server, &shape)?;
        fill_cache(stage, &server, &shape, keys)?;
        filled = clock.now();
        for case in CASES {
            gets(stage, &server, &shape, case)?;
        }
        compare_values(stage, &server, &shape)
    });
    result?;
    stage.usage_curves("whole", begin, filled, &gauges);
    Ok(())
}

/// Random gets of as many keys as fill the cache.
fn fill_cache(
    stage: &mut Stage<'_>,
    server: &Server,
    shape: &Shape,
    keys: u64,
) -> Result<(), Failure> {
    let shape = Shape { workload: Workload::Get, order: Order::Random, ..shape.clone() };
    let (_, connections, in_flight) = CASES[1];
    let end = End::Count((keys / WARM_UP_SHARE).max(1));
    let plan = Plan { connections, in_flight, end, ..stage.plan(server, &shape) };
    stage.load(server, &plan, "fills its cache", &AtomicBool::new(false)).map(|_| ())
}

/// One load of gets, right after the disk was asked for as many reads at a time, and the server for
/// one value that it holds in memory: a get of any other takes both, one after the other.
fn gets(
    stage: &mut Stage<'_>,
    server: &Server,
    shape: &Shape,
    (case, connections, in_flight): Case,
) -> Result<(), Failure> {
    stage.say("the disk's own reads");
    let threads = connections as u64 * u64::from(in_flight);
    let disk = disk::reads(&server.data_dir(), threads, stage.args.duration)?;
    let shape = Shape { workload: Workload::Get, order: Order::Random, ..shape.clone() };
    let held = Shape { keys: 1, operations: 1, ..shape.clone() };
    let plan = Plan { connections, in_flight, ..stage.plan(server, &held) };
    let hot = stage.load(server, &plan, "one value", &AtomicBool::new(false))?.measured.latency;
    let plan = Plan { shape, ..plan };
    let load = stage.load(server, &plan, case, &AtomicBool::new(false))?;
    if load.measured.empty_reads > 0 {
        return Err(Failure::Wrong(format!("{} keys are gone", load.measured.empty_reads)));
    }
    let latency = load.measured.latency;
    stage.figure(case, "rate /s", load.measured.rate);
    stage.figure(case, "p50 us", latency.p50_us);
    stage.figure(case, "p99 us", latency.p99_us);
    stage.figure(case, "disk p50 us", disk.p50_us);
    stage.figure(case, "disk p99 us", disk.p99_us);
    stage.figure(case, "p50 from memory us", hot.p50_us);
    stage.figure(case, "p99 from memory us", hot.p99_us);
    stage.figure(case, "p99, of memory's and disk's", latency.p99_us / (hot.p99_us + disk.p99_us));
    stage.figure(case, "CPU us/op", load.cpu_us);
    stage.figure(case, "RSS MiB", load.end.1.rss_mib());
    Ok(())
}

fn compare_values(stage: &Stage<'_>, server: &Server, shape: &Shape) -> Result<(), Failure> {
    stage.say("compares values");
    let mut caller = Caller::connect(server.address, PATIENCE)?;
    restart::look_at_some(&mut caller, shape, LOOKS)
}
