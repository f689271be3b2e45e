//! Leases kept alive over streams: what one keep-alive costs.

use crate::failure::Failure;
use crate::h2::hpack::Method;
use crate::load::Moment;
use crate::message::lease;
use crate::scenario::Stage;
use crate::server::{Server, Usage};
use crate::talk::{batch, keeper};
use crate::versus::{clients, require};

/// The seconds that each lease is granted: none expires meanwhile.
const SECONDS: u64 = 3600;

/// Its name, connections, streams on all of them together, in flight on each, and whether by rate.
type Case = (&'static str, usize, usize, usize, bool);

const CASES: [Case; 4] = [
    ("100 streams x 10", 10, 100, 10, false),
    ("100 streams x 1", 10, 100, 1, false),
    ("100 streams, by rate", 10, 100, 100, true),
    ("1 stream x 1", 1, 1, 1, false),
];

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    require(&stage.args.watch.benchmark, "benchmark")?;
    let leases = stage.args.scaled(stage.args.watch.kept_leases).max(100);
    let server = stage.start()?;
    grant(stage, &server, leases)?;
    stage.pause(stage.args.settle)?;
    for case in CASES {
        keep(stage, &server, leases, case)?;
    }
    benchmark(stage, &server)
}

/// Grants leases `1..=leases`.
fn grant(stage: &mut Stage<'_>, server: &Server, leases: u64) -> Result<(), Failure> {
    stage.say("grants leases");
    let (clock, before) = (stage.clock, server.usage());
    let start = clock.now();
    let interrupt = stage.interrupt;
    let write = |index, out: &mut Vec<u8>| lease::grant(index + 1, SECONDS, out);
    let read = |index, answer: &[u8]| {
        let granted = lease::lived(answer);
        if granted == (lease::Lived { id: index + 1, seconds: SECONDS }) {
            Ok(())
        } else {
            Err(Failure::Wrong(format!("lease {} was granted as {granted:?}", index + 1)))
        }
    };
    let method = Method::Grant;
    batch::run(server.address, clock, method, leases, interrupt, write, read)?;
    let cpu = server.usage().cpu.saturating_sub(before.cpu);
    let seconds = clock.now().since(start) as f64 / 1e9;
    stage.figure("grants", "rate /s", leases as f64 / seconds);
    stage.figure("grants", "CPU us/grant", cpu.as_secs_f64() * 1e6 / leases as f64);
    Ok(())
}

fn keep(
    stage: &mut Stage<'_>,
    server: &Server,
    leases: u64,
    (case, connections, streams, in_flight, by_rate): Case,
) -> Result<(), Failure> {
    let plan = keeper::Plan {
        address: server.address,
        connections,
        streams,
        in_flight,
        leases,
        seconds: SECONDS,
        rate: by_rate.then_some(stage.args.rate),
        warm_up: stage.args.warm_up,
        duration: stage.args.duration,
    };
    let subject = server.subject();
    let (mut begin, mut end) = (Usage::default(), Usage::default());
    stage.say(case);
    let result = keeper::run(&plan, stage.clock, stage.interrupt, &mut |moment, _| match moment {
        Moment::Begin => begin = subject.usage(),
        Moment::End => end = subject.usage(),
        Moment::Progress => {}
    });
    let kept = result.map_err(|failure| server.explain(failure))?;
    for complaint in &kept.complaints {
        stage.complain(format!("{case}: {complaint}"));
    }
    let count = kept.count.max(1) as f64;
    let cpu = end.cpu.saturating_sub(begin.cpu);
    stage.figure(case, "rate /s", kept.count as f64 / kept.seconds);
    stage.figure(case, "p50 us", kept.latency.p50_us);
    stage.figure(case, "p99 us", kept.latency.p99_us);
    stage.figure(case, "CPU us/keep-alive", cpu.as_secs_f64() * 1e6 / count);
    stage.figure(case, "per CPU second", count / cpu.as_secs_f64().max(1e-9));
    stage.figure(case, "client us/keep-alive", kept.client_cpu.as_secs_f64() * 1e6 / count);
    stage.figure(case, "RSS MiB", end.rss_mib());
    Ok(())
}

/// The same by etcd's `benchmark`, which opens a stream for each keep-alive.
fn benchmark(stage: &mut Stage<'_>, server: &Server) -> Result<(), Failure> {
    const CASE: &str = "benchmark, 100 clients";
    stage.say(CASE);
    let total = stage.args.scaled(stage.args.watch.benchmark_total);
    let line = format!(
        "--precise --endpoints {} --conns 10 --clients 100 lease-keepalive --total {total}",
        server.address
    );
    let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let (program, dir) = (&stage.args.watch.benchmark, &stage.args.data);
    let before = server.usage();
    let said = clients::benchmark(program, &arguments, dir, stage.interrupt)?;
    let cpu = server.usage().cpu.saturating_sub(before.cpu);
    if said.errors > 0 {
        stage.complain(format!("{CASE}: {} errors", said.errors));
    }
    stage.figure(CASE, "rate /s", said.rate);
    stage.figure(CASE, "p50 us", said.p50_us.unwrap_or(0.0));
    stage.figure(CASE, "p99 us", said.p99_us.unwrap_or(0.0));
    stage.figure(CASE, "CPU us/keep-alive", cpu.as_secs_f64() * 1e6 / total as f64);
    Ok(())
}
