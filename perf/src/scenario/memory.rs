//! What an idle watcher, an idle stream and an idle connection take of the server's memory.

use std::time::Duration;

use crate::failure::Failure;
use crate::h2::connection::Windows;
use crate::scenario::Stage;
use crate::scenario::fanout::deliver;
use crate::server::{Server, Usage};
use crate::talk::broadcast::Broadcast;
use crate::talk::{Pace, Scope};

/// Bytes in a value.
const VALUE_SIZE: usize = 64;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let args = &stage.args.watch;
    let count = |number| usize::try_from(stage.args.scaled(number)).expect("64 bits fit");
    let connections = count(args.idle_connections);
    let streams = count(args.idle_streams).max(connections);
    let watchers = stage.args.scaled(args.idle_watchers).max(streams as u64);
    allow_descriptors();
    let server = stage.start()?;
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let mut broadcast = Broadcast::create(server.address, clock, watchers, VALUE_SIZE, interrupt)?;
    // Some puts, so that what these need is there before.
    deliver(stage, &server, &mut broadcast, Pace::Rate(stage.args.rate), "puts")?;
    let mut before = settled(stage, &server)?;

    stage.say("opens connections");
    let own = broadcast.connect(connections, Windows::Wide)?;
    before = grown(stage, &server, "connections", connections as u64, before)?;
    stage.say("opens streams");
    let opened = broadcast.open(own, streams)?;
    before = grown(stage, &server, "streams", streams as u64, before)?;
    stage.say("creates watchers");
    broadcast.watch(opened.clone(), (0..watchers).map(Scope::Key))?;
    before = grown(stage, &server, "watchers, own keys", watchers, before)?;
    broadcast.watch(opened, (0..watchers).map(|_| Scope::Key(0)))?;
    let after = grown(stage, &server, "watchers, one key", watchers, before)?;

    stage.say("idles");
    let idle = stage.args.duration;
    stage.pause(idle)?;
    let cpu = server.usage().cpu.saturating_sub(after.cpu);
    stage.figure("all idle", "CPU ms/s", cpu.as_secs_f64() * 1e3 / idle.as_secs_f64());
    // Whether they are all there: puts to random keys must find their watchers.
    let told = deliver(stage, &server, &mut broadcast, Pace::Rate(stage.args.rate), "are told")?;
    stage.figure("all idle", "then told p99 us", told.told.latency.p99_us);
    stage.figure("all idle", "then RSS MiB", told.after.rss_mib());
    Ok(())
}

/// What the server uses when it has had time to tidy up.
fn settled(stage: &Stage<'_>, server: &Server) -> Result<Usage, Failure> {
    stage.pause(stage.args.settle.max(Duration::from_millis(100)))?;
    Ok(server.usage())
}

/// How much memory that is no file's came with `count` more of something.
fn grown(
    stage: &mut Stage<'_>,
    server: &Server,
    case: &str,
    count: u64,
    before: Usage,
) -> Result<Usage, Failure> {
    let after = settled(stage, server)?;
    let mib = |usage: Usage| usage.anonymous_kib as f64 / 1024.0;
    stage.figure(case, "count", count as f64);
    stage.figure(case, "memory before MiB", mib(before));
    stage.figure(case, "memory MiB", mib(after));
    stage.figure(case, "bytes each", (mib(after) - mib(before)) * 1_048_576.0 / count as f64);
    Ok(after)
}

/// Lets this process, and the servers that it starts, open as many files as it may.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where that is not allowed, connecting fails and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
