//! Transactions of 1, 10 and 100 puts, of gets, and the kind that Kubernetes makes.

use std::sync::atomic::AtomicBool;

use crate::failure::Failure;
use crate::load::Plan;
use crate::scenario::{Stage, in_order};
use crate::workload::{Order, Shape, Workload};

/// Its name, what is asked, operations in each, connections, in flight on each.
type Case = (&'static str, Workload, u64, usize, u32);

const CASES: [Case; 7] = [
    ("1 put", Workload::Txn, 1, 10, 100),
    ("10 puts", Workload::Txn, 10, 10, 100),
    ("100 puts", Workload::Txn, 100, 10, 10),
    ("10 gets", Workload::TxnGet, 10, 10, 100),
    ("100 gets", Workload::TxnGet, 100, 10, 10),
    ("update", Workload::Update, 1, 10, 100),
    ("update, 1 client", Workload::Update, 1, 1, 1),
];

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    // Updates want twice as many keys as are in flight, and their own.
    let keys = stage.args.scaled(stage.args.few_keys).max(5000);
    let shape = Shape { order: Order::Random, ..in_order(keys) };
    let server = stage.start()?;
    stage.fill(&server, &in_order(keys), keys)?;
    for (index, (case, workload, operations, connections, in_flight)) in (0..).zip(CASES) {
        // Each with its own numbers: an update's keys are those of its seed.
        let shape = Shape { workload, operations, seed: index, ..shape.clone() };
        let plan = Plan { connections, in_flight, ..stage.plan(&server, &shape) };
        let load = match stage.load(&server, &plan, case, &AtomicBool::new(false)) {
            Ok(load) => load,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            // The other kinds may fare better.
            Err(failure) => {
                stage.complain(failure.to_string());
                continue;
            }
        };
        let measured = &load.measured;
        stage.figure(case, "rate /s", measured.rate);
        stage.figure(case, "keys /s", measured.rate * operations as f64);
        stage.figure(case, "p50 us", measured.latency.p50_us);
        stage.figure(case, "p99 us", measured.latency.p99_us);
        stage.figure(case, "CPU us/txn", load.cpu_us);
        stage.figure(case, "CPU us/key", load.cpu_us / operations as f64);
        stage.figure(case, "RSS MiB", load.end.1.rss_mib());
        if workload == Workload::TxnGet && measured.empty_reads > 0 {
            let what = format!("{case}: {} answers were too short", measured.empty_reads);
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}
