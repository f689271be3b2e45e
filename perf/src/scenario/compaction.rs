//! Puts at a fixed rate, quiet, and while a compaction runs: who waits for whom?
//!
//! The load goes on all the time. A physical compaction is asked for in the middle; *during* is
//! from there to its answer, but at least as long as the quiet part, for what a server puts off
//! until later costs its clients all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Caller;
use crate::clock::{Clock, Nanos};
use crate::failure::Failure;
use crate::message::Range;
use crate::scenario::{Stage, in_order, level, pause_until};
use crate::server::{Server, Usage};
use crate::workload::Order;

/// How long a compaction may take.
const COMPACTION_TIME_MAX: Duration = Duration::from_secs(1800);

/// Time that one point of the curve stands for.
const CURVE_STEP: Duration = Duration::from_millis(500);

/// Fewer operations than this have no 99th percentile to speak of.
const COUNT_MIN: u64 = 500;

/// When what happened.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// The compaction was asked for; what the server had used.
    asked: (Nanos, Usage),
    /// It was answered.
    done: Nanos,
    /// All is over.
    end: (Nanos, Usage),
}

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let shape = crate::workload::Shape {
        order: Order::Random,
        ..in_order(stage.args.scaled(stage.args.few_keys))
    };
    let server = stage.start()?;
    stage.fill(&server, &shape, stage.args.scaled(stage.args.revisions))?;
    let plan = stage.open_plan(&server, &shape);
    let (enough, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let clock = stage.clock;
    let quiet = (clock.now().plus(stage.args.warm_up), stage.args.duration);
    let (load, course) = std::thread::scope(|scope| {
        let interrupt = stage.interrupt;
        let (server, enough, over) = (&server, &enough, &over);
        let control = scope.spawn(move || {
            let course = control(server, clock, quiet, interrupt, over);
            enough.store(true, Ordering::Relaxed);
            course
        });
        let load = stage.load(server, &plan, "puts while it compacts", enough);
        over.store(true, Ordering::Relaxed);
        (load, control.join().expect("no thread panics"))
    });
    let (load, course) = (load?, course?);
    let samples = &load.measured.samples;
    let (begin, asked) = (load.begin, course.asked);
    let calm = level::between(samples, begin.0, asked.0);
    let busy = level::between(samples, asked.0, course.end.0);
    let call = level::between(samples, asked.0, course.done);
    let each = |from: Usage, to: Usage, count: u64| {
        to.cpu.saturating_sub(from.cpu).as_secs_f64() * 1e6 / count.max(1) as f64
    };
    stage.figure("puts", "p50 quiet us", calm.p50_us);
    stage.figure("puts", "p50 during us", busy.p50_us);
    stage.figure("puts", "p99 quiet us", calm.p99_us);
    stage.figure("puts", "p99 during us", busy.p99_us);
    stage.figure("puts", "p99, during/quiet", busy.p99_us / calm.p99_us);
    if call.count >= COUNT_MIN {
        stage.figure("puts", "p99 until answered us", call.p99_us);
    }
    stage.figure("puts", "compaction s", course.done.since(asked.0) as f64 / 1e9);
    stage.figure("puts", "rate /s", load.measured.rate);
    stage.figure("puts", "CPU quiet us/put", each(begin.1, asked.1, calm.count));
    stage.figure("puts", "CPU during us/put", each(asked.1, course.end.1, busy.count));
    stage.figure("puts", "RSS MiB", load.end.1.rss_mib());
    let curve = level::curve(samples, begin.0, CURVE_STEP, |latency| latency.p99_us);
    stage.curve("put p99, us", curve);
    Ok(())
}

/// Lets the load run quietly, compacts, and lets it run on.
fn control(
    server: &Server,
    clock: Clock,
    (begin, quiet): (Nanos, Duration),
    interrupt: &AtomicBool,
    over: &AtomicBool,
) -> Result<Course, Failure> {
    let mut caller = Caller::connect(server.address, COMPACTION_TIME_MAX)?;
    let first = caller.revision()?;
    pause_until(clock, begin.plus(quiet), interrupt, over)?;
    let revision = caller.revision()?;
    let asked = (clock.now(), server.usage());
    caller.compact(revision, true)?;
    let done = clock.now();
    pause_until(clock, asked.0.plus(quiet), interrupt, over)?;
    let end = (clock.now(), server.usage());
    let old = Range { key: vec![0], limit: 1, revision: first, ..Range::default() };
    match caller.list(&old, &mut |_, _| {}) {
        Err(Failure::Refused(why)) if why.contains("has been compacted") => {}
        other => return Err(Failure::Wrong(format!("a read of what is compacted: {other:?}"))),
    }
    Ok(Course { asked, done, end })
}
