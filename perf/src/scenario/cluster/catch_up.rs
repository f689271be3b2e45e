//! A member comes back after much was written without it: how long until it has all, and what the
//! clients of the others feel meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::cluster::{self, Cluster};
use crate::failure::Failure;
use crate::scenario::cluster::{MEMBERS, fill, load, start};
use crate::scenario::{Stage, in_order, level, pause_until};
use crate::workload::{Order, Shape};

/// How long catching up may take.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Time between two questions how far it is.
const INTERVAL: Duration = Duration::from_millis(50);

/// Time that one point of the curve stands for.
const CURVE_STEP: Duration = Duration::from_millis(500);

/// When what happened.
struct Course {
    resumed: Nanos,
    done: Nanos,
    end: Nanos,
}

pub(in crate::scenario) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let shape = Shape { order: Order::Random, ..in_order(stage.args.scaled(stage.args.few_keys)) };
    let mut group = start(stage)?;
    fill(stage, &group, &shape, shape.keys)?;
    let leader = group.leader(stage.interrupt)?;
    let away = (leader + 1) % MEMBERS;
    group.members[away].kill();
    fill(stage, &group, &shape, stage.args.scaled(stage.args.revisions))?;

    let plan = stage.open_plan(&group.members[leader], &shape);
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let quiet = (clock.now().plus(stage.args.warm_up), stage.args.duration);
    let (enough, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut returning = group.members.remove(away);
    let (load, course) = std::thread::scope(|scope| {
        let (group, returning, enough, over) = (&group, &mut returning, &enough, &over);
        let control = scope.spawn(move || {
            let course = (|| {
                pause_until(clock, quiet.0.plus(quiet.1), interrupt, over)?;
                let target = newest(group)?;
                let resumed = clock.now();
                returning.resume()?;
                let done = caught_up(returning, target, clock, interrupt, over)?;
                pause_until(clock, resumed.plus(quiet.1), interrupt, over)?;
                Ok(Course { resumed, done, end: clock.now() })
            })();
            enough.store(true, Ordering::Relaxed);
            course
        });
        let load = load(stage, group, &plan, "puts while one catches up", enough);
        over.store(true, Ordering::Relaxed);
        (load, control.join().expect("no thread panics"))
    });
    let (load, course): (_, Result<Course, Failure>) = (load?, course);
    let course = course?;
    let samples = &load.measured.samples;
    let calm = level::between(samples, load.begin.0, course.resumed);
    let busy = level::between(samples, course.resumed, course.end);
    stage.figure("member", "caught up s", course.done.since(course.resumed) as f64 / 1e9);
    stage.figure("member", "RSS then MiB", returning.usage().rss_mib());
    stage.figure("puts", "p99 quiet us", calm.p99_us);
    stage.figure("puts", "p99 during us", busy.p99_us);
    stage.figure("puts", "p99, during/quiet", busy.p99_us / calm.p99_us);
    let curve = level::curve(samples, load.begin.0, CURVE_STEP, |latency| latency.p99_us);
    stage.curve("put p99, us", curve);
    Ok(())
}

/// The highest revision that a member has.
fn newest(group: &Cluster) -> Result<u64, Failure> {
    let mut newest = 0;
    for member in &group.members {
        newest = newest.max(cluster::status(member)?.revision);
    }
    Ok(newest)
}

/// Waits until `member` has applied revision `target`.
fn caught_up(
    member: &crate::server::Server,
    target: u64,
    clock: Clock,
    interrupt: &AtomicBool,
    over: &AtomicBool,
) -> Result<Nanos, Failure> {
    let latest = clock.now().plus(TIME_MAX);
    while clock.now() < latest && !over.load(Ordering::Relaxed) {
        if cluster::status(member).is_ok_and(|said| said.revision >= target) {
            return Ok(clock.now());
        }
        pause_until(clock, clock.now().plus(INTERVAL), interrupt, over)?;
    }
    Err(Failure::Server("the member did not catch up".into()))
}
