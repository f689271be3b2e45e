//! One put, many watchers: what it costs to tell each of them, and how long that takes.
//!
//! Both loops have the same watchers. By rate, puts are due at fixed times, and each event's delay
//! counts from when its put was sent: a server that answers puts before it tells of them gains
//! nothing. As fast as it can, the next put is sent when the watchers are owed less than a few
//! puts' worth of events.

use std::time::Duration;

use crate::failure::Failure;
use crate::h2::connection::Windows;
use crate::load::Moment;
use crate::scenario::Stage;
use crate::server::{Server, Usage};
use crate::talk::broadcast::{Broadcast, Course, Delivered};
use crate::talk::{Pace, Scope};

/// Bytes in a value.
const VALUE_SIZE: usize = 256;

/// Watchers, what they watch, and what they are told by.
struct Case {
    /// By rate, before any watcher, and as fast as it can.
    names: [&'static str; 3],
    watchers: u64,
    streams: usize,
    connections: usize,
    /// Whether each has a key of its own.
    own_keys: bool,
    /// Puts due per second.
    rate: f64,
    /// Puts that may be owed in the closed loop.
    owed: u64,
}

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let args = &stage.args.watch;
    let one = Case {
        names: ["one key, no watcher", "one key", "one key, fast"],
        watchers: stage.args.scaled(args.watchers),
        streams: 10,
        connections: args.watch_connections,
        own_keys: false,
        rate: args.fanout_rate,
        owed: args.owed_puts,
    };
    let own = Case {
        names: ["own keys, no watcher", "own keys", "own keys, fast"],
        watchers: stage.args.scaled(args.watchers * 10),
        streams: 100,
        connections: args.watch_connections,
        own_keys: true,
        rate: stage.args.rate,
        owed: 1000,
    };
    for case in [one, own] {
        fan_out(stage, &case)?;
    }
    Ok(())
}

fn fan_out(stage: &mut Stage<'_>, case: &Case) -> Result<(), Failure> {
    let server = stage.start()?;
    let keys = if case.own_keys { case.watchers } else { 1 };
    let (clock, interrupt) = (stage.clock, stage.interrupt);
    let mut broadcast = Broadcast::create(server.address, clock, keys, VALUE_SIZE, interrupt)?;
    let [alone_name, rate_name, fast_name] = case.names;
    let pace = Pace::Rate(case.rate);
    let alone = deliver(stage, &server, &mut broadcast, pace, "puts alone")?;
    let alone_us = alone.cpu.as_secs_f64() * 1e6 / alone.told.puts.max(1) as f64;
    stage.figure(alone_name, "puts /s", alone.told.puts as f64 / alone.told.seconds);
    stage.figure(alone_name, "CPU us/put", alone_us);

    stage.say("creates watchers");
    let connections = broadcast.connect(case.connections, Windows::Wide)?;
    let streams = broadcast.open(connections, case.streams)?;
    let scope = |number| Scope::Key(if case.own_keys { number } else { 0 });
    broadcast.watch(streams, (0..case.watchers).map(scope))?;
    let told = deliver(stage, &server, &mut broadcast, pace, "watchers are told")?;
    figures(stage, rate_name, &told);
    let net = told.cpu.as_secs_f64() * 1e6 - alone_us * told.told.puts as f64;
    stage.figure(rate_name, "net of puts us/event", net / told.told.events.max(1) as f64);

    let each = if case.own_keys { 1 } else { case.watchers };
    let pace = Pace::Owed(case.owed * each);
    let told = deliver(stage, &server, &mut broadcast, pace, "as fast as it can")?;
    figures(stage, fast_name, &told);
    Ok(())
}

fn figures(stage: &mut Stage<'_>, case: &str, delivery: &Delivery) {
    let Delivery { told, cpu, after } = delivery;
    let events = told.events.max(1) as f64;
    stage.figure(case, "puts /s", told.puts as f64 / told.seconds);
    stage.figure(case, "events /s", told.events as f64 / told.seconds);
    stage.figure(case, "p50 us", told.latency.p50_us);
    stage.figure(case, "p99 us", told.latency.p99_us);
    stage.figure(case, "max us", told.latency.max_us);
    stage.figure(case, "put p99 us", told.put_latency.p99_us);
    stage.figure(case, "CPU us/event", cpu.as_secs_f64() * 1e6 / events);
    let second = events / cpu.as_secs_f64().max(1e-9);
    stage.figure(case, "events per CPU second", second);
    stage.figure(case, "client us/event", told.client_cpu.as_secs_f64() * 1e6 / events);
    stage.figure(case, "RSS MiB", after.rss_mib());
}

/// A run of a broadcast, and what the server used for it.
pub(super) struct Delivery {
    /// What watchers were told.
    pub(super) told: Delivered,
    /// The server's CPU time in the measured part.
    pub(super) cpu: Duration,
    /// What the server had used at its end.
    pub(super) after: Usage,
}

/// Runs a broadcast for the measured time of this run; what did not go well is written down.
///
/// # Errors
/// When it fails as a whole.
pub(super) fn deliver(
    stage: &mut Stage<'_>,
    server: &Server,
    broadcast: &mut Broadcast<'_>,
    pace: Pace,
    what: &str,
) -> Result<Delivery, Failure> {
    let (clock, subject) = (stage.clock, server.subject());
    let (warm_up, duration) = (stage.args.warm_up, stage.args.duration);
    let course = Course { pace, warm_up, duration };
    let (mut begin, mut end) = (Usage::default(), Usage::default());
    let mut last = (clock.now(), None);
    let result = broadcast.run(&course, &mut |moment, events| {
        match moment {
            Moment::Begin => begin = subject.usage(),
            Moment::End => end = subject.usage(),
            Moment::Progress => {}
        }
        let now = clock.now();
        if now.since(last.0) > 500_000_000 {
            let more = events - last.1.unwrap_or(events);
            let rate = more * 1_000_000_000 / now.since(last.0);
            stage.say(&format!("{what}, {rate} events/s"));
            last = (now, Some(events));
        }
    });
    let told = result.map_err(|failure| server.explain(failure))?;
    for complaint in &told.complaints {
        stage.complain(format!("{what}: {complaint}"));
    }
    Ok(Delivery { told, cpu: end.cpu.saturating_sub(begin.cpu), after: end })
}
