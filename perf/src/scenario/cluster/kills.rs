//! A mix of everything for long, while leaders are killed and started again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{self, Clock, Nanos};
use crate::cluster::{self, Cluster};
use crate::failure::Failure;
use crate::gauge::Gauge;
use crate::scenario::churn::compact_by_itself;
use crate::scenario::cluster::{Roamer, fill, start};
use crate::scenario::{Stage, in_order};
use crate::workload::{Order, Shape, Source, Workload};

/// Clients, each with one request at a time.
const CLIENTS: u64 = 8;

/// How long one of them waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two deaths of leaders.
const KILL_INTERVAL: Duration = Duration::from_secs(20);

/// How long a killed one stays away.
const AWAY: Duration = Duration::from_secs(5);

/// Time without load at the end, after which all members must be alike.
const REST: Duration = Duration::from_secs(5);

/// What the clients have seen together.
#[derive(Debug, Default)]
struct Count {
    answered: AtomicU64,
    failed: AtomicU64,
}

pub(in crate::scenario) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    compact_by_itself(stage);
    let shape = Shape {
        order: Order::Random,
        workload: Workload::Soak,
        ..in_order(stage.args.scaled(stage.args.few_keys))
    };
    let mut group = start(stage)?;
    fill(stage, &group, &shape, shape.keys)?;
    let (clock, begin) = (stage.clock, stage.clock.now());
    let (count, over, addresses) = (Count::default(), AtomicBool::new(false), group.addresses());
    let mut gauges = Vec::new();
    let kills = std::thread::scope(|scope| {
        for thread in 0..CLIENTS {
            let (count, over, addresses, shape) = (&count, &over, &addresses, shape.clone());
            scope
                .spawn(move || client(Source::new(shape, thread, CLIENTS), addresses, count, over));
        }
        let end = begin.plus(stage.args.soak_time);
        let kills = kill_leaders(stage, &mut group, clock, end, &mut gauges);
        over.store(true, Ordering::Relaxed);
        kills
    })?;
    let seconds = clock.now().since(begin) as f64 / 1e9;
    let answered = count.answered.load(Ordering::Relaxed) as f64;
    stage.figure("all", "kills", f64::from(kills));
    stage.figure("all", "rate /s", answered / seconds);
    stage.figure("all", "failed", count.failed.load(Ordering::Relaxed) as f64);
    stage.usage_curves("all", begin, begin, &gauges);
    stage.pause(REST)?;
    compare(&group)
}

/// Kills leaders until `end`, starts each again, and looks at all members meanwhile.
fn kill_leaders(
    stage: &Stage<'_>,
    group: &mut Cluster,
    clock: Clock,
    end: Nanos,
    gauges: &mut Vec<Gauge>,
) -> Result<u32, Failure> {
    let mut kills = 0;
    let watch = |group: &Cluster, duration: Duration, gauges: &mut Vec<Gauge>| {
        let until = clock.now().plus(duration);
        while clock.now() < until {
            stage.pause(stage.args.look)?;
            gauges.extend(cluster::look(&group.subjects(), clock));
        }
        Ok::<(), Failure>(())
    };
    while clock.now() < end {
        watch(group, KILL_INTERVAL, gauges)?;
        let leader = group.leader(stage.interrupt)?;
        stage.say(&format!("kills member {leader}, the {kills}th leader"));
        group.members[leader].kill();
        // What is killed uses nothing, and would count as that.
        stage.pause(AWAY)?;
        group.members[leader].resume()?;
        group.members[leader].await_start(stage.interrupt)?;
        kills += 1;
    }
    watch(group, KILL_INTERVAL, gauges)?;
    Ok(kills)
}

/// One client: another member whenever one does not answer.
fn client(mut source: Source, addresses: &[SocketAddr], count: &Count, over: &AtomicBool) {
    let (mut client, mut message) = (Roamer::new(addresses, PATIENCE), Vec::new());
    while !over.load(Ordering::Relaxed) {
        if !client.reach() {
            clock::pause(Duration::from_millis(50));
            continue;
        }
        let (kind, key) = source.draw();
        source.write(kind, key, &mut message);
        let is_done = client.call(kind.method(), &message);
        (if is_done { &count.answered } else { &count.failed }).fetch_add(1, Ordering::Relaxed);
    }
}

/// All members have the same revision once nobody writes.
fn compare(group: &Cluster) -> Result<(), Failure> {
    let revisions = group.members.iter().map(|member| Ok(cluster::status(member)?.revision));
    let revisions = revisions.collect::<Result<Vec<_>, Failure>>()?;
    if revisions.iter().all(|revision| *revision == revisions[0]) {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("the members are at revisions {revisions:?}")))
    }
}
