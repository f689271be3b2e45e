//! A watcher that does not read: do the others wait for it, and who keeps what it does not take?
//!
//! It stalls in both ways there are. It may read the connection and give its stream no window, or
//! not read at all, so that the socket fills up. Either time puts go on as before, a healthy
//! watcher of the same keys must still be told everything, and so must the stalled one when it
//! reads again.

use std::ops::Range;

use crate::failure::Failure;
use crate::gauge::{self, Gauge};
use crate::h2::connection::Windows;
use crate::scenario::fanout::{Delivery, deliver};
use crate::scenario::{Stage, in_order, whole};
use crate::server::Server;
use crate::talk::broadcast::Broadcast;
use crate::talk::{Pace, Scope};
use crate::workload::{Order, Shape};

/// Keys that are put.
const KEYS: u64 = 1000;

/// How much more than one part puts is put before.
const FILL: f64 = 3.0;

/// Its name, the windows it begins with, and whether the connection is left unread.
type Case = (&'static str, Windows, bool);

const CASES: [Case; 2] =
    [("no window", Windows::Withheld, false), ("unread socket", Windows::Wide, true)];

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let value_size = usize::try_from(stage.args.watch.stalled_value).expect("64 bits fit");
    let server = stage.start()?;
    // More than one part puts, so that memory grows no more for reasons of its own.
    let count =
        whole(FILL * stage.args.rate * stage.args.duration.as_secs_f64()).unwrap_or(0).max(1);
    let shape = Shape { value_size, order: Order::Random, ..in_order(KEYS) };
    stage.fill(&server, &shape, count)?;
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let mut broadcast = Broadcast::create(server.address, clock, KEYS, value_size, interrupt)?;
    watch_all(&mut broadcast, Windows::Wide)?;
    for case in CASES {
        stall(stage, &server, &mut broadcast, case, value_size)?;
    }
    Ok(())
}

/// A watcher of all keys on a connection of its own.
fn watch_all(broadcast: &mut Broadcast<'_>, windows: Windows) -> Result<Range<usize>, Failure> {
    let connections = broadcast.connect(1, windows)?;
    let streams = broadcast.open(connections.clone(), 1)?;
    broadcast.watch(streams, std::iter::once(Scope::All))?;
    Ok(connections)
}

fn stall(
    stage: &mut Stage<'_>,
    server: &Server,
    broadcast: &mut Broadcast<'_>,
    (case, windows, unread): Case,
    value_size: usize,
) -> Result<(), Failure> {
    const MIB: f64 = 1_048_576.0;
    let (quiet, quiet_gauges) = part(stage, server, broadcast, "all watchers read")?;
    let stalled = watch_all(broadcast, windows)?;
    broadcast.stall(stalled.clone(), unread)?;
    let (busy, gauges) = part(stage, server, broadcast, "one watcher is stalled")?;
    let lacks = broadcast.missing(&stalled) as f64 * value_size as f64 / MIB;
    if lacks == 0.0 {
        stage.complain(format!("{case}: the watcher never stalled: put more"));
    }
    stage.say("the stalled watcher reads again");
    let resumed = broadcast.resume(stalled.clone());
    let (took, complaints) = resumed.map_err(|failure| server.explain(failure))?;
    for complaint in complaints {
        stage.complain(format!("{case}, reading again: {complaint}"));
    }
    broadcast.close(stalled);
    let (before, after) = (quiet.told.put_latency, busy.told.put_latency);
    stage.figure(case, "p99 quiet us", before.p99_us);
    stage.figure(case, "p99 stalled us", after.p99_us);
    stage.figure(case, "p99, stalled/quiet", after.p99_us / before.p99_us);
    stage.figure(case, "told p99 quiet us", quiet.told.latency.p99_us);
    stage.figure(case, "told p99 us", busy.told.latency.p99_us);
    let each = |part: &Delivery| part.cpu.as_secs_f64() * 1e6 / part.told.puts.max(1) as f64;
    stage.figure(case, "CPU quiet us/put", each(&quiet));
    stage.figure(case, "CPU us/put", each(&busy));
    stage.figure(case, "kept from it MiB", lacks);
    stage.figure(case, "RSS growth quiet MiB", growth(&quiet_gauges));
    stage.figure(case, "RSS growth MiB", growth(&gauges));
    stage.figure(case, "RSS growth, stalled-quiet MiB", growth(&gauges) - growth(&quiet_gauges));
    stage.figure(case, "caught up s", took.as_secs_f64());
    Ok(())
}

/// Puts for the measured time of this run, with looks at the server.
fn part(
    stage: &mut Stage<'_>,
    server: &Server,
    broadcast: &mut Broadcast<'_>,
    what: &str,
) -> Result<(Delivery, Vec<Gauge>), Failure> {
    let (clock, look) = (stage.clock, stage.args.look);
    let pace = Pace::Rate(stage.args.rate);
    let (delivery, gauges) = gauge::during(&server.subject(), clock, look, || {
        deliver(stage, server, broadcast, pace, what)
    });
    Ok((delivery?, gauges))
}

/// How much more memory that is no file's there was at most than at first, in MiB.
fn growth(gauges: &[Gauge]) -> f64 {
    let sizes = || gauges.iter().map(|gauge| gauge.usage.anonymous_kib);
    let (first, most) = (sizes().next().unwrap_or(0), sizes().max().unwrap_or(0));
    most.saturating_sub(first) as f64 / 1024.0
}
