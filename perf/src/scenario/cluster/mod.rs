//! Three members on one machine and one disk.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::client::Caller;
use crate::cluster::{self, Cluster};
use crate::failure::Failure;
use crate::h2::hpack::Method;
use crate::load::Plan;
use crate::scenario::{Load, Stage, in_order};
use crate::workload::{Order, Shape, Workload};

pub(super) mod catch_up;
pub(super) mod failover;
pub(super) mod kills;

/// Members of a cluster.
const MEMBERS: usize = 3;

/// One load: what it is called, what it asks, whom, connections, requests in flight on each.
struct Case {
    name: &'static str,
    workload: Workload,
    is_spread: bool,
    clients: (usize, u32),
}

const CASES: [Case; 5] = [
    Case { name: "puts 1", workload: Workload::Put, is_spread: false, clients: (1, 1) },
    Case { name: "puts 10 x 10", workload: Workload::Put, is_spread: false, clients: (10, 10) },
    Case { name: "puts 100 x 10", workload: Workload::Put, is_spread: false, clients: (100, 10) },
    Case { name: "puts, spread", workload: Workload::Put, is_spread: true, clients: (12, 80) },
    Case { name: "gets, spread", workload: Workload::Get, is_spread: true, clients: (12, 80) },
];

/// Puts and gets, at the leader or at all members alike.
pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let shape = Shape { order: Order::Random, ..in_order(stage.args.scaled(stage.args.few_keys)) };
    let group = start(stage)?;
    fill(stage, &group, &shape, shape.keys)?;
    for case in CASES {
        let leader = group.leader(stage.interrupt)?;
        let addresses =
            if case.is_spread { group.addresses() } else { vec![group.members[leader].address] };
        let shape = Shape { workload: case.workload, ..shape.clone() };
        let (connections, in_flight) = case.clients;
        let base = stage.plan(&group.members[leader], &shape);
        let plan = Plan { addresses, connections, in_flight, ..base };
        let load = load(stage, &group, &plan, case.name, &AtomicBool::new(false))?;
        let latency = load.measured.latency;
        stage.figure(case.name, "rate /s", load.measured.rate);
        stage.figure(case.name, "p50 us", latency.p50_us);
        stage.figure(case.name, "p99 us", latency.p99_us);
        stage.figure(case.name, "CPU us/op, all members", load.cpu_us);
        stage.figure(case.name, "RSS MiB, all members", load.end.1.rss_mib());
    }
    Ok(())
}

fn start(stage: &Stage<'_>) -> Result<Cluster, Failure> {
    stage.say("starts");
    Cluster::start(&stage.recipe, MEMBERS, stage.interrupt)
}

/// Runs a load; what it costs is what all members use together.
fn load(
    stage: &mut Stage<'_>,
    group: &Cluster,
    plan: &Plan,
    what: &str,
    enough: &AtomicBool,
) -> Result<Load, Failure> {
    let subjects = group.subjects();
    let usage = || cluster::usage(&subjects);
    stage.load_on(&usage, &|failure| group.explain(failure), plan, what, enough)
}

/// Puts `count` keys at the leader.
fn fill(stage: &mut Stage<'_>, group: &Cluster, shape: &Shape, count: u64) -> Result<(), Failure> {
    let leader = group.leader(stage.interrupt)?;
    stage.fill(&group.members[leader], shape, count).map(|_| ())
}

/// A client of all members: when one does not answer, it goes to the next.
#[derive(Debug)]
struct Roamer<'a> {
    addresses: &'a [SocketAddr],
    patience: Duration,
    turn: usize,
    caller: Option<Caller>,
}

impl<'a> Roamer<'a> {
    fn new(addresses: &'a [SocketAddr], patience: Duration) -> Self {
        Self { addresses, patience, turn: 0, caller: None }
    }

    /// Makes sure that there is a connection, to the next member if there was none; whether there
    /// is.
    fn reach(&mut self) -> bool {
        if self.caller.is_none() {
            self.turn += 1;
            let address = self.addresses[self.turn % self.addresses.len()];
            self.caller = Caller::connect(address, self.patience).ok();
        }
        self.caller.is_some()
    }

    /// Calls over the connection, which ends if that fails; whether it was answered well.
    fn call(&mut self, method: Method, message: &[u8]) -> bool {
        let is_done = self.caller.as_mut().is_some_and(|it| it.call(method, message, 0).is_ok());
        if !is_done {
            self.caller = None;
        }
        is_done
    }
}
