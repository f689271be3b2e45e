//! Many leases that expire together while puts go on: do clients notice, and when is all gone?
//!
//! A lease is granted the seconds that are left until one moment, so that all of them end within a
//! second of it, however long granting them takes. *Quiet* is while all live, *during* from that
//! moment until the last lease and the last key are gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Caller;
use crate::clock::{Clock, Nanos};
use crate::failure::Failure;
use crate::h2::hpack::Method;
use crate::message::{self, Range, lease};
use crate::scenario::{Load, Stage, in_order, level, pause_until};
use crate::server::{Server, Usage};
use crate::talk::batch;
use crate::workload::{Order, Shape, write_key};

/// Every so many leases, one has a key.
const LEASES_PER_KEY: u64 = 2;

/// What the keys of leases begin with: no digit, as other keys do.
const PREFIX: u8 = b'l';

/// How much longer than as many puts the grants, and the puts of their keys, may take.
const GRANT_SLACK: f64 = 2.0;

/// Time before the end in which nothing is measured: it is looked whether all is there.
const MARGIN: Duration = Duration::from_secs(1);

/// The least that *during* lasts, as the leases' last seconds are not the same.
const DURING_MIN: Duration = Duration::from_secs(2);

/// The least that *quiet* lasts.
const QUIET_MIN: Duration = Duration::from_secs(3);

/// How long the leases may take to go.
const EXPIRY_TIME_MAX: Duration = Duration::from_secs(900);

/// How often it is looked whether they are gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Leases that are looked at one by one: a list of all of them would be a load of its own.
const SAMPLE: u64 = 100;

/// How the refusal of a call reads that waited too long for the server: gRPC's Unavailable.
const BUSY: &str = "(status 14)";

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time that one point of the curve stands for.
const CURVE_STEP: Duration = Duration::from_millis(500);

/// When what happened, and what the server had used.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// The last moment of quiet.
    quiet: (Nanos, Usage),
    /// Leases begin to expire.
    expiry: (Nanos, Usage),
    /// All is gone.
    gone: (Nanos, Usage),
    /// All is over.
    end: Nanos,
}

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let leases = stage.args.scaled(stage.args.watch.leases).max(SAMPLE);
    let keys = stage.args.scaled(stage.args.few_keys);
    let shape = Shape { order: Order::Random, ..in_order(keys) };
    let server = stage.start()?;
    let fill = stage.fill(&server, &in_order(keys), keys)?.measured;
    let (clock, args) = (stage.clock, stage.args);
    let calls = leases + leases / LEASES_PER_KEY;
    let granting = Duration::try_from_secs_f64(calls as f64 / fill.rate * GRANT_SLACK)
        .map_err(|cause| Failure::Server(format!("no rate of puts: {cause}")))?;
    let live = granting + args.settle + args.warm_up + args.duration + MARGIN + QUIET_MIN;
    let expiry = clock.now().plus(live);
    grant(stage, &server, leases, expiry)?;
    stage.pause(args.settle)?;
    let quiet_from = clock.now().plus(args.warm_up);
    let quiet_until = Nanos(expiry.0 - Nanos(0).plus(MARGIN).0);
    if quiet_from.plus(QUIET_MIN) > quiet_until {
        return Err(Failure::Server(format!("granting {leases} leases took all of {live:?}")));
    }
    let plan = stage.open_plan(&server, &shape);
    let (enough, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (load, course) = std::thread::scope(|scope| {
        let interrupt = stage.interrupt;
        let (server, enough, over) = (&server, &enough, &over);
        let control = Control { server, clock, leases, interrupt, over };
        let control = scope.spawn(move || {
            let course = control.run(quiet_until, expiry);
            enough.store(true, Ordering::Relaxed);
            course
        });
        let load = stage.load(server, &plan, "puts while leases expire", enough);
        over.store(true, Ordering::Relaxed);
        (load, control.join().expect("no thread panics"))
    });
    figures(stage, &load?, &course?, leases);
    Ok(())
}

fn figures(stage: &mut Stage<'_>, load: &Load, course: &Course, leases: u64) {
    let samples = &load.measured.samples;
    let Course { quiet, expiry, gone, end } = *course;
    let calm = level::between(samples, load.begin.0, quiet.0);
    let busy = level::between(samples, expiry.0, end);
    let seconds = |from: Nanos, to: Nanos| to.since(from) as f64 / 1e9;
    let cpu = |from: Usage, to: Usage| to.cpu.saturating_sub(from.cpu).as_secs_f64();
    let calm_cpu = cpu(load.begin.1, quiet.1) / seconds(load.begin.0, quiet.0).max(1e-9);
    let (took, took_cpu) = (seconds(expiry.0, gone.0), cpu(expiry.1, gone.1));
    stage.figure("puts", "p50 quiet us", calm.p50_us);
    stage.figure("puts", "p50 during us", busy.p50_us);
    stage.figure("puts", "p99 quiet us", calm.p99_us);
    stage.figure("puts", "p99 during us", busy.p99_us);
    stage.figure("puts", "p99, during/quiet", busy.p99_us / calm.p99_us);
    stage.figure("puts", "max during ms", busy.max_us / 1000.0);
    stage.figure("puts", "rate /s", load.measured.rate);
    stage.figure("leases", "count", leases as f64);
    stage.figure("leases", "gone after s", took);
    stage.figure("leases", "per second", leases as f64 / took.max(1e-9));
    let net = (took_cpu - calm_cpu * took) * 1e6;
    stage.figure("leases", "net CPU us/lease", net / leases as f64);
    stage.figure("leases", "RSS quiet MiB", quiet.1.rss_mib());
    stage.figure("leases", "RSS gone MiB", gone.1.rss_mib());
    let curve = level::curve(samples, load.begin.0, CURVE_STEP, |latency| latency.p99_us);
    stage.curve("put p99, us", curve);
}

/// Grants leases `1..=leases`, all until `expiry`, and puts a key with some of them.
fn grant(
    stage: &mut Stage<'_>,
    server: &Server,
    leases: u64,
    expiry: Nanos,
) -> Result<(), Failure> {
    stage.say("grants leases");
    let (clock, address, interrupt) = (stage.clock, server.address, stage.interrupt);
    let begin = clock.now();
    let write = |index: u64, out: &mut Vec<u8>| {
        let seconds = expiry.since(clock.now()).div_ceil(1_000_000_000);
        lease::grant(index + 1, seconds, out);
    };
    let read = |index: u64, answer: &[u8]| {
        let id = lease::lived(answer).id;
        let wrong = || Failure::Wrong(format!("lease {id} was granted for {}", index + 1));
        if id == index + 1 { Ok(()) } else { Err(wrong()) }
    };
    let method = Method::Grant;
    batch::run(address, clock, method, leases, interrupt, write, read)?;
    stage.say("puts keys of leases");
    let write = |index: u64, out: &mut Vec<u8>| {
        out.clear();
        message::bytes(1, &key(index), out);
        message::bytes(2, b"of a lease", out);
        message::number(3, index * LEASES_PER_KEY + 1, out); // PutRequest.lease
    };
    let (method, count) = (Method::Put, leases / LEASES_PER_KEY);
    batch::run(address, clock, method, count, interrupt, write, |_, _| Ok(()))?;
    let calls = leases + count;
    stage.figure("grants", "rate /s", calls as f64 * 1e9 / clock.now().since(begin) as f64);
    Ok(())
}

/// The key of lease number `index * LEASES_PER_KEY + 1`.
fn key(index: u64) -> Vec<u8> {
    let mut key = vec![PREFIX];
    write_key(index, 16, &mut key);
    key
}

/// Looks at the leases while puts go on.
struct Control<'a> {
    server: &'a Server,
    clock: Clock,
    leases: u64,
    interrupt: &'a AtomicBool,
    over: &'a AtomicBool,
}

impl Control<'_> {
    fn run(&self, quiet_until: Nanos, expiry: Nanos) -> Result<Course, Failure> {
        let mut caller = Caller::connect(self.server.address, PATIENCE)?;
        self.pause(quiet_until)?;
        let quiet = (self.clock.now(), self.server.usage());
        // Until the last moment no lease may go: each was granted at least its seconds.
        self.all_there(&mut caller, expiry)?;
        self.pause(expiry)?;
        let begun = (self.clock.now(), self.server.usage());
        let mut sample = self.sample();
        loop {
            let mut left = Vec::new();
            for id in sample {
                if is_there(&mut caller, id)? {
                    left.push(id);
                }
            }
            sample = left;
            if sample.is_empty() && leases(&mut caller)? == 0 && keys(&mut caller)? == 0 {
                break;
            }
            if self.over.load(Ordering::Relaxed) {
                return Err(Failure::Server("the puts ended before the leases".into()));
            }
            let now = self.clock.now();
            if now > expiry.plus(EXPIRY_TIME_MAX) {
                let (leases, keys) = (leases(&mut caller)?, keys(&mut caller)?);
                let what = format!("{leases} leases, {keys} keys after {EXPIRY_TIME_MAX:?}");
                return Err(Failure::Wrong(what));
            }
            self.pause(now.plus(LOOK_INTERVAL))?;
        }
        let gone = (self.clock.now(), self.server.usage());
        self.pause(expiry.plus(DURING_MIN))?;
        Ok(Course { quiet, expiry: begun, gone, end: self.clock.now() })
    }

    /// Whether no lease is gone before `expiry`; the count of keys stands for those that have one.
    /// What is answered later says nothing.
    fn all_there(&self, caller: &mut Caller, expiry: Nanos) -> Result<(), Failure> {
        for id in self.sample() {
            if !is_there(caller, id)? && self.clock.now() < expiry {
                return Err(Failure::Wrong(format!("lease {id} was gone before its time")));
            }
        }
        let (found, wanted) = (keys(caller)?, self.leases / LEASES_PER_KEY);
        if found < wanted && self.clock.now() < expiry {
            let what = format!("{found} of {wanted} keys are there before their leases end");
            return Err(Failure::Wrong(what));
        }
        Ok(())
    }

    /// Some leases, of the first and the last and those between.
    fn sample(&self) -> Vec<u64> {
        (0..SAMPLE).map(|part| 1 + part * (self.leases - 1) / (SAMPLE - 1)).collect()
    }

    fn pause(&self, until: Nanos) -> Result<(), Failure> {
        pause_until(self.clock, until, self.interrupt, self.over)
    }
}

/// Whether a lease is there; a server that is too busy to say so has not let it go yet.
fn is_there(caller: &mut Caller, id: u64) -> Result<bool, Failure> {
    match caller.call(Method::TimeToLive, &lease::time_to_live(id), usize::MAX) {
        Ok(answer) => Ok(lease::is_there(&answer.body)),
        Err(Failure::Refused(why)) if why.contains(BUSY) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// How many leases there are.
fn leases(caller: &mut Caller) -> Result<u64, Failure> {
    let answer = caller.call(Method::Leases, &[], usize::MAX)?;
    Ok(lease::count(&answer.body))
}

/// How many keys of leases there are.
fn keys(caller: &mut Caller) -> Result<u64, Failure> {
    let (key, end) = (vec![PREFIX], vec![PREFIX + 1]);
    let range = Range { key, end, limit: 1, ..Range::default() };
    Ok(caller.list(&range, &mut |_, _| {})?.count)
}
