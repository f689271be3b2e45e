//! The world around one shard: clients, connections, a clock, a disk, and the driver between them.
//!
//! The driver does what the server's core does, in the same order: what clients send goes through a
//! session to the shard; a turn polls the shard until nothing is left, begins what the log asks
//! for, and hands answers to their sessions. Everything between the turns is the seed's: how many
//! bytes arrive, what the disk has done, how late it is, and what breaks.

use crate::client::{Client, Manner};
use crate::counts::Counts;
use crate::dice::Dice;
use crate::model::Op;
use crate::node::{self, Disks};
use crate::oracle::Oracle;
use crate::planted::Bug;
use crate::swarm::Swarm;
use crate::watches::Watches;
use crate::wire;
use ringd::api::watch::{Hub, WatchRequest};
use ringd::api::{Answers, Piece, Session, Settings, Sink};
use ringd::http2::Limits;
use ringd::shard::request::{Request, RequestId};
use ringd::shard::watch::Told;
use ringd::shard::{Input, Shard};
use ringd::types::Tick;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use driver::Work;

mod driver;
mod ends;
mod leases;
mod replies;
mod watching;

/// Steps that are told when a seed fails.
const TRACE_MAX: usize = 100;
/// One thing that the seed made happen.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the places are read by whoever sees a failure")]
enum Act {
    /// A client asks: which.
    Ask(usize),
    /// Bytes reach the server: on which connection, how many.
    Deliver(usize, usize),
    /// The driver takes its turn.
    Turn,
    /// The shard does what has no hurry.
    Work,
    /// The log, or the store, asks for something of its files.
    Log(&'static str),
    Store(&'static str),
    /// The disk has done the nth of what is in flight.
    Complete(usize),
    /// Bytes reach a client.
    Receive(usize, usize),
    /// It is this late.
    Tick(u64),
    /// Leases are renewed: on which stream, how many.
    Renew(u32, usize),
    /// A client does something about watchers: on which connection and stream.
    Watch(usize, u32),
    /// A client gives up a call.
    GiveUp(usize),
    /// A connection is cut.
    Cut(usize),
    /// The node is asked to stop.
    Stop,
    /// Something of the disk's fails, and the process ends.
    Fail,
    /// The process ends.
    Kill,
    /// The power goes.
    Power,
    /// The node serves, at this revision.
    Serve(i64),
}

/// Both ends of one connection.
struct Link {
    generation: u32,
    session: Session,
    client: Client,
    is_closing: bool,
    /// The server gave it up, as nothing moved for too long.
    is_given_up: bool,
    /// Closed while the node stops: no other takes its place.
    is_over: bool,
}

/// What an answer, or a piece of it, holds when it leaves the driver.
type Outcome = Piece<Vec<u8>>;

/// What a session hands on.
enum Asked {
    Request(Request),
    Watch(WatchRequest),
    /// Nobody waits for the answer any more.
    Forget,
}

/// Keeps what a session hands on until it can be handed to the shard and the hub.
struct Requests<'a> {
    from: RequestId,
    requests: &'a mut Vec<(RequestId, Asked)>,
}

impl Sink for Requests<'_> {
    fn submit(&mut self, stream: u32, request: Request) {
        self.requests.push((RequestId { stream, ..self.from }, Asked::Request(request)));
    }

    fn forget(&mut self, stream: u32) {
        self.requests.push((RequestId { stream, ..self.from }, Asked::Forget));
    }

    fn watch(&mut self, stream: u32, request: WatchRequest) {
        self.requests.push((RequestId { stream, ..self.from }, Asked::Watch(request)));
    }
}

/// Everything.
pub(crate) struct World {
    seed: u64,
    pub(crate) swarm: Swarm,
    pub(crate) dice: Dice,
    /// Apart, so that looking at crashes changes nothing in the run.
    pub(crate) crash_dice: Dice,
    pub(crate) bug: Option<Bug>,
    settings: Rc<Settings>,
    now: u64,
    pub(crate) disks: Disks,
    shard: Box<Shard>,
    /// The directory has served: from now on it is never cleared.
    is_known: bool,
    is_serving: bool,
    is_stopping: bool,
    works: Vec<Work>,
    links: Vec<Link>,
    generation: u32,
    asked: BTreeMap<RequestId, usize>,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    /// Of all outputs.
    hash: u64,
    trace: VecDeque<Act>,
    /// A crash now may leave something else than at the last crash point.
    is_changed: bool,
    held: Option<(RequestId, Outcome)>,
    /// Answers that are not made at once.
    answers: Answers,
    late: Option<crate::disk::Write>,
    renewals: leases::Renewals,
    /// Those who watch, as the server knows them and as their clients do.
    hub: Hub,
    watches: Watches,
    watch_dice: Dice,
    /// The last id that a client chose.
    watch_id: i64,
    late_batch: Option<Told>,
    /// Answers that a bug keeps while it tells those who watch.
    kept: Vec<(RequestId, Outcome)>,
    /// When the process last began to read.
    since: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        crate::tell_of_panic(self.bug.is_some(), |why| self.tell(why));
    }
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(seed));
        let mut swarm = Swarm::new(&mut dice);
        // Of dice of their own, so that what they add leaves the rest of a seed as it was.
        let mut apart = Dice::new(seed);
        swarm.whole_size_max = apart.pick(&[0, 200, 3_000, 1 << 20]);
        swarm.config.lists.ahead_size_max = apart.pick(&[1, 400, 5_000, 64 << 20]);
        swarm.defragments = apart.chance(50);
        swarm.choose_leases(&mut Dice::new(seed.wrapping_mul(3)));
        let mut watch_dice = Dice::new(seed.wrapping_mul(5).wrapping_add(1));
        swarm.choose_watches(&mut watch_dice);
        let settings = Settings {
            message_size_max: swarm.message_size_max,
            request_size_max: swarm.config.request_size_max,
            txn_ops_max: 128,
            whole_size_max: swarm.whole_size_max,
            watch_notify_interval: swarm.watches.notify_interval,
            election_timeout: swarm.config.raft.election_ticks,
            shards: "{}".into(),
            bench: false,
            limits: Limits::default(),
        };
        let disks = Disks::default();
        let shard = node::recover(&swarm.config, &disks, seed, Tick(0)).expect("an empty disk");
        let crash_dice = Dice::new(dice.next());
        let oracle = Oracle::new(swarm.config.request_timeout, swarm.config.lease.ttl_min);
        let mut watches = Watches::default();
        for _ in 0..swarm.watches.count {
            let (wish, start) = swarm.wish(1, &mut watch_dice);
            watches.follow(wish, start);
        }
        Self {
            seed,
            hub: watching::new_hub(&swarm.watches, &mut watch_dice),
            watches,
            watch_dice,
            watch_id: 0,
            late_batch: None,
            kept: Vec::new(),
            swarm,
            dice,
            crash_dice,
            bug,
            answers: Answers::new(&settings),
            settings: Rc::new(settings),
            now: 0,
            disks,
            shard,
            is_known: false,
            is_serving: false,
            is_stopping: false,
            works: Vec::new(),
            links: Vec::new(),
            generation: 0,
            asked: BTreeMap::new(),
            oracle,
            counts: Counts::default(),
            hash: 0xcbf2_9ce4_8422_2325,
            trace: VecDeque::new(),
            is_changed: true,
            held: None,
            late: None,
            renewals: leases::Renewals::default(),
            since: 0,
        }
    }

    /// Lives through all steps, then lets everything come to rest.
    ///
    /// # Errors
    /// What was not as it must be, and how to see it again.
    pub(crate) fn run(mut self) -> Result<(Counts, u64), String> {
        let result = self.live();
        match result {
            Ok(()) => {
                self.counts.answers = self.oracle.answers;
                self.counts.refusals = self.oracle.refusals;
                self.counts.timeouts = self.oracle.timeouts;
                self.counts.watches = self.watches.met;
                Ok((self.counts.clone(), self.hash))
            }
            Err(why) => Err(self.tell(&why)),
        }
    }

    fn tell(&self, why: &str) -> String {
        let acts: Vec<String> = self.trace.iter().map(|act| format!("{act:?}")).collect();
        format!(
            "{why}\n  see it again: SEED={} cargo test --test sim\n  {:?}\n  {:?}\n  the last: {}",
            self.seed,
            self.swarm,
            self.disks,
            acts.join(", ")
        )
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.swarm.steps {
            self.step()?;
        }
        self.come_to_rest()
    }

    fn note(&mut self, act: Act) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(act);
    }

    fn step(&mut self) -> Result<(), String> {
        let speed = self.swarm.disk_speed;
        let opening = if self.is_serving { 1 } else { 4 };
        let rare = |on: bool, weight: u64| if on { weight / opening } else { 0 };
        let weights = [
            200,
            200,
            200,
            speed * 10 * opening,
            200,
            60,
            100,
            rare(self.swarm.cuts, 15),
            rare(self.swarm.impatience, 30),
            rare(self.swarm.stops, 4),
            rare(self.swarm.failures, 4),
            rare(self.swarm.crashes, 8),
            rare(self.swarm.leases > 0, 80),
            rare(self.swarm.pauses, 3),
            rare(self.swarm.watches.count > 0, 120),
        ];
        let mut lot = self.dice.below(weights.iter().sum());
        let nth = weights.iter().position(|&weight| {
            let hit = lot < weight;
            lot = lot.saturating_sub(weight);
            hit
        });
        match nth.expect("the lot is below the sum") {
            0 => self.ask(),
            1 => self.deliver(),
            2 => self.turn(),
            3 => self.complete(),
            4 => self.receive(),
            5 => self.tick(),
            6 => self.work().map(|_| ()),
            7 => {
                self.cut();
                Ok(())
            }
            8 => {
                self.give_up();
                Ok(())
            }
            9 => self.stop(),
            10 => self.fail(),
            11 => self.crash(),
            12 => {
                self.renew();
                Ok(())
            }
            13 => {
                self.now += 100_000 + self.dice.below(300_000);
                self.tick_now();
                Ok(())
            }
            _ => {
                self.watch();
                Ok(())
            }
        }
    }

    fn some_link(&mut self, wanted: impl Fn(&Link) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.links.len()).filter(|&at| wanted(&self.links[at])).collect();
        (!found.is_empty()).then(|| self.dice.pick(&found))
    }

    fn ask(&mut self) -> Result<(), String> {
        let most = self.swarm.pipelined;
        if let Some(at) = self.some_link(|link| link.client.waiting() < most) {
            let op = if self.swarm.leases > 0 && self.dice.chance(self.swarm.leases) {
                self.lease_op()
            } else {
                self.swarm.op(self.oracle.revision(), &mut self.dice)
            };
            self.ask_on(at, op);
        }
        Ok(())
    }

    fn ask_on(&mut self, at: usize, op: Op) {
        self.note(Act::Ask(at));
        self.counts.operations += 1;
        let (path, message) = wire::request(&op);
        let is_oversized = message.len() > self.swarm.message_size_max;
        let deadline = self.swarm.deadline(&mut self.dice);
        let call = self.oracle.sent(op, self.now, deadline, is_oversized);
        let link = &mut self.links[at];
        let from = request_id(at, link.generation, link.client.next_stream());
        self.asked.insert(from, call);
        link.client.call(call, path, &message, deadline, &mut self.dice);
    }

    /// All of `len`, or a part of it.
    fn part(&mut self, len: usize) -> usize {
        if self.dice.chance(60) { len } else { self.dice.index(len) + 1 }
    }

    fn deliver(&mut self) -> Result<(), String> {
        let ready = |link: &Link| {
            !link.client.out.is_empty() && !link.is_closing && !link.session.is_congested()
        };
        if let Some(at) = self.some_link(ready) {
            let n = self.part(self.links[at].client.out.len());
            self.deliver_on(at, n);
        }
        Ok(())
    }

    fn deliver_on(&mut self, at: usize, n: usize) {
        self.note(Act::Deliver(at, n));
        let (now, mut requests) = (Tick(self.now), Vec::new());
        let link = &mut self.links[at];
        let from = request_id(at, link.generation, 0);
        let mut sink = Requests { from, requests: &mut requests };
        let result = link.session.receive(&link.client.out[..n], now, &mut sink);
        link.client.out.drain(..n);
        link.is_closing |= result.is_err();
        self.submit(requests);
    }

    fn submit(&mut self, requests: Vec<(RequestId, Asked)>) {
        for (from, asked) in requests {
            let request = match asked {
                Asked::Request(request) => request,
                Asked::Watch(request) => {
                    self.hub.handle(from, request);
                    continue;
                }
                Asked::Forget => {
                    self.forget(from);
                    continue;
                }
            };
            if let Some(&call) = self.asked.get(&from) {
                self.oracle.submitted(call, self.now);
            }
            self.shard.handle(Input::Request { from, request });
        }
    }

    /// The shard leads and has applied its log: clients may come.
    fn serve(&mut self) -> Result<(), String> {
        let found = self.oracle.check_recovered(&self.shard)?;
        self.oracle.check_history(&self.shard)?;
        self.oracle.restarted(&found, self.since, !self.swarm.config.lease.checkpoints);
        self.note(Act::Serve(found.revision));
        self.watches.check_told(self.oracle.model())?;
        (self.is_known, self.is_serving, self.is_changed) = (true, true, true);
        self.links.clear();
        for at in 0..self.swarm.connections {
            let link = self.new_link();
            assert!(at == self.links.len(), "connections are numbered");
            self.links.push(link);
        }
        Ok(())
    }

    fn new_link(&mut self) -> Link {
        self.generation += 1;
        let manner = Manner { ..self.swarm.manner };
        Link {
            generation: self.generation,
            session: Session::new(&self.settings),
            client: Client::new(manner),
            is_closing: false,
            is_given_up: false,
            is_over: false,
        }
    }

    /// The server closes a connection; the client makes a new one while it can.
    fn close(&mut self, at: usize) {
        if self.is_stopping {
            self.lose(at);
            (self.links[at].is_closing, self.links[at].is_over) = (true, true);
        } else {
            self.connect(at);
        }
    }

    /// A new connection in the place of an old one.
    fn connect(&mut self, at: usize) {
        self.lose(at);
        self.links[at] = self.new_link();
    }

    /// The socket is gone: nobody waits for any answer.
    fn lose(&mut self, at: usize) {
        let mut requests = Vec::new();
        let link = &mut self.links[at];
        self.watches.lose(Some(link.generation));
        let from = request_id(at, link.generation, 0);
        link.session.lost(&mut Requests { from, requests: &mut requests });
        self.submit(requests);
    }

    fn receive(&mut self) -> Result<(), String> {
        if let Some(at) = self.some_link(|link| !link.session.output().is_empty()) {
            let n = self.part(self.links[at].session.output().len());
            self.receive_on(at, n)?;
        }
        Ok(())
    }

    fn receive_on(&mut self, at: usize, n: usize) -> Result<(), String> {
        self.note(Act::Receive(at, n));
        let link = &mut self.links[at];
        let bytes = link.session.output()[..n].to_vec();
        link.session.sent(n);
        let answers = link.client.receive(&bytes)?;
        for answer in &answers {
            self.oracle.answered(answer, self.now)?;
        }
        self.hear(at)?;
        self.mix(&bytes);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        self.now += self.dice.below(self.swarm.tick_max) + 1;
        self.tick_now();
        Ok(())
    }

    fn tick_now(&mut self) {
        self.note(Act::Tick(self.now));
        let now = Tick(self.now);
        self.shard.handle(Input::Tick(now));
        self.tick_watches();
        let mut requests = Vec::new();
        for (at, link) in self.links.iter_mut().enumerate() {
            let from = request_id(at, link.generation, 0);
            let mut sink = Requests { from, requests: &mut requests };
            link.is_given_up |= link.session.tick(now, &mut sink).is_err();
            link.is_closing |= link.is_given_up;
        }
        self.submit(requests);
    }

    fn cut(&mut self) {
        if let Some(at) = self.some_link(|_| true) {
            self.note(Act::Cut(at));
            self.counts.cuts += 1;
            self.connect(at);
        }
    }

    fn give_up(&mut self) {
        if let Some(at) = self.some_link(|link| link.client.waiting() > 0) {
            self.note(Act::GiveUp(at));
            self.links[at].client.give_up(&mut self.dice);
        }
    }

    /// The shard's revision, its time and its seed, for whoever looks at crashes.
    pub(crate) fn now(&self) -> Tick {
        Tick(self.now)
    }

    fn mix(&mut self, bytes: &[u8]) {
        // By eights: this is done for every byte that moves.
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        for &byte in chunks.remainder() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn request_id(at: usize, generation: u32, stream: u32) -> RequestId {
    let connection = u32::try_from(at).expect("connections are few");
    RequestId { core: 0, connection, generation, stream }
}
