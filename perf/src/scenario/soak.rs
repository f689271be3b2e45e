//! A mix of everything for long, with compactions: whatever is used must stay level.

use crate::disk;
use crate::failure::Failure;
use crate::load::{End, Plan};
use crate::scenario::churn::{compact_by_itself, with_compactions};
use crate::scenario::{Stage, in_order, level};
use crate::workload::{Order, Shape, Workload};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let keys = stage.args.scaled(stage.args.few_keys);
    compact_by_itself(stage);
    let server = stage.start()?;
    stage.fill(&server, &in_order(keys), keys)?;
    let shape = Shape { workload: Workload::Soak, order: Order::Random, ..in_order(keys) };
    let end = End::After(stage.args.soak_time);
    let plan = Plan { end, ..stage.open_plan(&server, &shape) };
    let (data, clock) = (stage.args.data.clone(), stage.clock);
    let run = || with_compactions(stage, &server, &plan, "is soaked");
    let (ended, writes) = disk::beside(&data, clock, run)?;
    let (load, gauges) = ended?;
    let measured = &load.measured;
    stage.figure("all", "rate /s", measured.rate);
    stage.figure("all", "p50 us", measured.latency.p50_us);
    stage.figure("all", "p99 us", measured.latency.p99_us);
    stage.figure("all", "p99.9 us", measured.latency.p99_9_us);
    stage.figure("all", "CPU us/op", load.cpu_us);
    for (kind, latency) in &measured.kinds {
        stage.figure(kind, "p50 us", latency.p50_us);
        stage.figure(kind, "p99 us", latency.p99_us);
        stage.figure(kind, "p99.9 us", latency.p99_9_us);
    }
    let window = stage.args.window;
    let p99_9 = level::curve(&measured.samples, load.begin.0, window, |l| l.p99_9_us);
    stage.drift("all", "p99.9 drift %", &p99_9);
    stage.curve("p99.9, us", p99_9);
    let disk = level::curve(&writes, load.begin.0, window, |l| l.p99_us);
    stage.drift("disk beside", "p99 drift %", &disk);
    stage.curve("disk p99 beside, us", disk);
    stage.usage_curves("all", load.begin.0, load.begin.0, &gauges);
    Ok(())
}
