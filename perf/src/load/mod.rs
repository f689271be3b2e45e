//! The load generator: many requests in flight over few connections, and what became of them.
//!
//! *Closed loop:* every slot (connections × in flight) sends its next request when its last is
//! answered. *Open loop* (`--rate`): requests are due at fixed times whatever the server does, and
//! latency counts from the time a request was due, so a stall is charged to every request that
//! it kept waiting.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::load::measure::{Measured, Record};
use crate::load::worker::Worker;
use crate::wire;
use crate::workload::{Shape, Workload};

pub(crate) mod command;
pub(crate) mod measure;
pub(crate) mod worker;

/// How often the watcher looks at progress and at interruption.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// When a run is over.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum End {
    /// After this long, the warm-up not counted.
    After(Duration),
    /// After this many operations, those of the warm-up not counted.
    Count(u64),
}

/// One run, fully decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server, or the members of a cluster: each next connection is to the next of them.
    pub(crate) addresses: Vec<SocketAddr>,
    /// How many connections.
    pub(crate) connections: usize,
    /// How many requests each connection may have in flight.
    pub(crate) in_flight: u32,
    /// How many threads share the connections; at most one per connection.
    pub(crate) threads: usize,
    /// Operations per second of an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    /// When it is over.
    pub(crate) end: End,
    /// Time before measuring starts.
    pub(crate) warm_up: Duration,
    /// What is asked.
    pub(crate) shape: Shape,
    /// Whether each single operation is recorded, and not only their distribution.
    pub(crate) samples: bool,
}

/// A moment of a run that its observer is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// The warm-up is over.
    Begin,
    /// Some time has passed.
    Progress,
    /// The measured part is over.
    End,
}

/// What threads tell the watcher.
#[derive(Debug)]
pub(crate) enum Note {
    /// This thread's warm-up is over.
    Begin,
    /// This thread's measured part is over.
    End,
    /// This thread is through, with its record or with what went wrong.
    Done(Box<Result<Record, Failure>>),
}

/// What threads and watcher share.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    /// Operations ended well since the start.
    pub(crate) completed: AtomicU64,
    /// Set when all should stop.
    pub(crate) stop: AtomicBool,
    /// Set by whoever started the run when it has seen enough: the measured part ends well.
    pub(crate) enough: &'a AtomicBool,
}

/// Called at each moment with the operations completed since the start.
pub(crate) type Observer<'a> = dyn FnMut(Moment, u64) + 'a;

/// Runs `plan`; `interrupt` ends it early.
///
/// # Errors
/// When the server cannot be reached or breaks the protocol. Refused operations are not errors
/// of the run; they are counted in the result.
pub(crate) fn run(
    plan: &Plan,
    interrupt: &AtomicBool,
    observe: &mut Observer<'_>,
) -> Result<Measured, Failure> {
    run_until(plan, Clock::start(), &AtomicBool::new(false), interrupt, observe)
}

/// Runs `plan`, whose times are told on `clock`, to its end or until there is `enough`.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn run_until(
    plan: &Plan,
    clock: Clock,
    enough: &AtomicBool,
    interrupt: &AtomicBool,
    observe: &mut Observer<'_>,
) -> Result<Measured, Failure> {
    check(plan)?;
    let mut sockets: Vec<Vec<TcpStream>> = (0..plan.threads).map(|_| Vec::new()).collect();
    for index in 0..plan.connections {
        let address = plan.addresses[index % plan.addresses.len()];
        sockets[index % plan.threads].push(wire::connect(address)?);
    }
    let (completed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Shared { completed, stop, enough };
    let start = clock.now();
    std::thread::scope(|scope| {
        let (notes, inbox) = channel();
        for (thread, sockets) in sockets.into_iter().enumerate() {
            let notes: Sender<Note> = notes.clone();
            let shared = &shared;
            scope.spawn(move || {
                let result = Worker::create(plan, thread, sockets, clock, start, shared, &notes)
                    .and_then(Worker::run);
                // The watcher is gone only when the run has failed already.
                let _ = notes.send(Note::Done(Box::new(result)));
            });
        }
        watch(plan, &shared, &inbox, interrupt, observe)
    })
}

fn check(plan: &Plan) -> Result<(), Failure> {
    let refuse = |what: &str| Err(Failure::Usage(what.to_owned()));
    if plan.addresses.is_empty() {
        return refuse("there is at least one server");
    }
    if plan.connections == 0 || plan.in_flight == 0 || plan.shape.keys == 0 {
        return refuse("connections, in-flight and keys are at least 1");
    }
    if plan.threads == 0 || plan.threads > plan.connections {
        return refuse("threads are at least 1 and at most one per connection");
    }
    if plan.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return refuse("the rate is above zero");
    }
    if plan.shape.key_size == 0 {
        return refuse("a key has at least one byte");
    }
    let (shape, slots) = (&plan.shape, plan.connections as u64 * u64::from(plan.in_flight));
    if shape.operations == 0 || shape.operations > shape.keys {
        return refuse("a transaction has at least one operation, each on a key of its own");
    }
    if shape.workload == Workload::Update && shape.keys / 2 < slots + plan.threads as u64 {
        return refuse("updates want at least twice as many keys as there are in flight");
    }
    Ok(())
}

/// Passes the moments on and gathers the records.
fn watch(
    plan: &Plan,
    shared: &Shared<'_>,
    inbox: &Receiver<Note>,
    interrupt: &AtomicBool,
    observe: &mut Observer<'_>,
) -> Result<Measured, Failure> {
    let (mut begun, mut ended, mut done) = (0, 0, 0);
    let mut total: Option<Record> = None;
    let mut failure = None;
    while done < plan.threads {
        let note = clock::wait(inbox, LOOK_INTERVAL);
        if interrupt.load(Ordering::Relaxed) && failure.is_none() {
            failure = Some(Failure::Interrupted);
            shared.stop.store(true, Ordering::Relaxed);
        }
        let completed = shared.completed.load(Ordering::Relaxed);
        match note {
            None => observe(Moment::Progress, completed),
            Some(Note::Begin) => {
                begun += 1;
                if begun == 1 {
                    observe(Moment::Begin, completed);
                }
            }
            Some(Note::End) => {
                ended += 1;
                if ended == plan.threads {
                    observe(Moment::End, completed);
                }
            }
            Some(Note::Done(result)) => {
                done += 1;
                match *result {
                    Ok(record) => match &mut total {
                        Some(total) => total.add(&record),
                        None => total = Some(record),
                    },
                    Err(cause) => {
                        shared.stop.store(true, Ordering::Relaxed);
                        failure.get_or_insert(cause);
                    }
                }
            }
        }
    }
    match (failure, total) {
        (Some(failure), _) => Err(failure),
        (None, Some(record)) => Ok(record.measured()),
        (None, None) => unreachable!("there is at least one thread"),
    }
}

#[cfg(test)]
mod tests;
