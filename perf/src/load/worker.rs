//! One thread of a load: its connections, its slots, its loop over epoll.

use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::clock::{self, Clock, Nanos};
use crate::failure::Failure;
use crate::h2::connection::{Answer, Connection, Outcome};
use crate::load::measure::{Record, Sample, histogram};
use crate::load::{End, Note, Plan, Shared};
use crate::message;
use crate::priority;
use crate::wire::{Received, Wire};
use crate::workload::{Kind, Source, Workload};

/// The longest wait without a look at the clock.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How long answers are waited for after the last request.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a server with requests in flight may say nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Operations that were due and never sent, counted one by one up to here.
const UNSENT_MAX: u64 = 10_000_000;

/// Bytes of an answer that are enough for its header, and for whether compares held.
const ANSWER_HEAD_SIZE: usize = 64;

/// Events taken per turn.
const EVENTS_MAX: usize = 256;

/// A place for one operation in flight.
#[derive(Clone, Copy, Debug)]
struct Slot {
    kind: Kind,
    key: u64,
    /// When the operation was due (open loop) or sent (closed loop).
    due: Nanos,
    /// When the current request of the operation was due or sent.
    since: Nanos,
}

/// A connection with its slots.
#[derive(Debug)]
struct Client {
    wire: Wire,
    slots: Vec<Slot>,
    /// Slots without an operation.
    free: Vec<u32>,
    /// Whether the slots have been opened, that is, the server's settings have come.
    open: bool,
}

/// How far a run has come, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Warming,
    Measuring,
    Draining,
}

/// The operations of an open loop in the order they are due.
#[derive(Debug)]
struct Schedule {
    start: Nanos,
    /// Nanoseconds between two operations of this thread.
    period: f64,
    /// Where this thread's first lies, in nanoseconds after the start.
    shift: f64,
    /// How many have been sent.
    sent: u64,
}

impl Schedule {
    /// When the next operation is due.
    fn next(&self) -> Nanos {
        let offset = self.shift + self.sent as f64 * self.period;
        self.start.plus(Duration::from_secs_f64(offset / 1e9))
    }
}

/// One thread of a load.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    clock: Clock,
    shared: &'a Shared<'a>,
    notes: &'a Sender<Note>,
    poll: OwnedFd,
    clients: Vec<Client>,
    source: Source,
    schedule: Option<Schedule>,
    record: Record,
    phase: Phase,
    /// When measuring begins, and when it ends unless a count ends it.
    begin: Nanos,
    end: Option<Nanos>,
    /// Operations after which measuring ends.
    count: Option<u64>,
    /// Operations that ended well since the start, not yet added to the shared count.
    completed: u64,
    in_flight: u64,
    /// When the last byte came.
    heard: Nanos,
    cpu: Duration,
    /// The client that an open loop tries first.
    turn: usize,
    by_kind: bool,
    message: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// Thread number `thread` with its connected sockets.
    pub(crate) fn create(
        plan: &'a Plan,
        thread: usize,
        sockets: Vec<TcpStream>,
        clock: Clock,
        start: Nanos,
        shared: &'a Shared<'a>,
        notes: &'a Sender<Note>,
    ) -> Result<Self, Failure> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Failure::io("epoll"))?;
        let mut clients = Vec::new();
        for (index, socket) in sockets.into_iter().enumerate() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&poll, &socket, EventData::new_u64(index as u64), flags)
                .map_err(Failure::io("epoll"))?;
            let peer = socket.peer_addr().map_err(Failure::io("see who is connected"))?;
            let mut machine = Connection::new(&peer.to_string());
            if plan.shape.workload == Workload::Update {
                machine.keep(ANSWER_HEAD_SIZE);
            }
            clients.push(Client {
                wire: Wire::new(socket, machine),
                slots: Vec::new(),
                free: Vec::new(),
                open: false,
            });
        }
        let (threads, this) = (plan.threads as u64, thread as u64);
        let begin = start.plus(plan.warm_up);
        let share = |total: u64| total / threads + u64::from(this < total % threads);
        Ok(Self {
            plan,
            clock,
            shared,
            notes,
            poll,
            clients,
            source: Source::new(plan.shape.clone(), this, threads),
            schedule: plan.rate.map(|rate| Schedule {
                start,
                period: 1e9 * threads as f64 / rate,
                shift: 1e9 * this as f64 / rate,
                sent: 0,
            }),
            record: Record::new(),
            phase: Phase::Warming,
            begin,
            end: match plan.end {
                End::After(duration) => Some(begin.plus(duration)),
                End::Count(_) => None,
            },
            count: match plan.end {
                End::After(_) => None,
                End::Count(total) => Some(share(total)),
            },
            completed: 0,
            in_flight: 0,
            heard: start,
            cpu: Duration::ZERO,
            turn: 0,
            by_kind: matches!(
                plan.shape.workload,
                Workload::Mixed | Workload::Pairs | Workload::Soak
            ),
            message: Vec::new(),
        })
    }

    /// Runs to the end of the plan.
    pub(crate) fn run(mut self) -> Result<Record, Failure> {
        // Fine timers are a help to open loops and no condition.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        if self.schedule.is_some() {
            // The same.
            let _ = priority::raise();
        }
        for index in 0..self.clients.len() {
            self.flush(index)?;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut ended = Vec::new();
        loop {
            let now = self.clock.now();
            self.send_due(now)?;
            self.advance(now);
            if self.phase == Phase::Draining && (self.in_flight == 0 || self.is_over(now)) {
                break;
            }
            if self.in_flight > 0 && now.since(self.heard) > clock::nanos(SILENCE_MAX) {
                return Err(Failure::Peer(format!("said nothing for {SILENCE_MAX:?}")));
            }
            let wait = self.wait_time(now);
            events.clear();
            match epoll::wait(&self.poll, spare(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(Failure::io("epoll")(cause)),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).expect("as registered");
                // Events tell of changes only: the end that came along with bytes is not told
                // again, so it must be read up to now.
                let (flags, hung_up) = (event.flags, EventFlags::RDHUP | EventFlags::HUP);
                self.on_event(index, flags.intersects(hung_up), &mut ended)?;
            }
            self.publish();
        }
        self.record.unanswered += self.in_flight;
        self.charge_in_flight();
        Ok(self.record)
    }

    /// Charges an open loop with what was sent and is not answered now that nobody waits for it.
    fn charge_in_flight(&mut self) {
        if self.schedule.is_none() || self.in_flight == 0 {
            return;
        }
        let now = self.clock.now();
        for client in &self.clients {
            let mut waiting = vec![true; client.slots.len()];
            for token in &client.free {
                waiting[usize::try_from(*token).expect("32 bits fit")] = false;
            }
            for (slot, _) in client.slots.iter().zip(waiting).filter(|(_, waiting)| *waiting) {
                if self.counts(slot.due) {
                    self.record.latency.saturating_record(now.since(slot.due));
                    if self.plan.samples {
                        let sample = Sample::of(slot.due, now.since(slot.due), slot.kind);
                        self.record.samples.push(sample);
                    }
                }
            }
        }
    }

    /// Charges an open loop with what was due and could not be sent for want of free slots.
    fn count_unsent(&mut self, now: Nanos) {
        let Some(schedule) = &mut self.schedule else { return };
        let end = self.end.unwrap_or(now);
        while schedule.next() < end && self.record.unanswered < UNSENT_MAX {
            let due = schedule.next();
            schedule.sent += 1;
            if due >= self.begin {
                self.record.latency.saturating_record(now.since(due));
                self.record.unanswered += 1;
                if self.plan.samples {
                    let kind = self.source.draw().0;
                    self.record.samples.push(Sample::of(due, now.since(due), kind));
                }
            }
        }
    }

    /// Whether there is no use in waiting for more answers.
    fn is_over(&self, now: Nanos) -> bool {
        let deadline = self.begin.plus(self.record.elapsed).plus(DRAIN_TIME_MAX);
        now > deadline || self.shared.stop.load(Ordering::Relaxed)
    }

    /// Moves on to the next phase when its time has come.
    fn advance(&mut self, now: Nanos) {
        if self.phase == Phase::Warming && now >= self.begin {
            self.phase = Phase::Measuring;
            if self.schedule.is_none() {
                self.begin = now;
            }
            self.cpu = clock::thread_cpu();
            self.note(Note::Begin);
        }
        let stop = self.shared.stop.load(Ordering::Relaxed);
        if self.phase == Phase::Measuring && self.shared.enough.load(Ordering::Relaxed) {
            self.end = Some(self.end.map_or(now, |end| end.min(now)));
        }
        let over = self.end.is_some_and(|end| now >= end)
            || self.count.is_some_and(|count| self.record.completed >= count);
        if self.phase == Phase::Measuring && (over || stop) {
            self.phase = Phase::Draining;
            self.record.elapsed = Duration::from_nanos(now.since(self.begin));
            self.record.cpu = clock::thread_cpu().saturating_sub(self.cpu);
            self.count_unsent(now);
            self.note(Note::End);
        } else if stop {
            self.phase = Phase::Draining;
        }
    }

    fn note(&mut self, note: Note) {
        self.publish();
        // The watcher is gone only when the run has failed already.
        let _ = self.notes.send(note);
    }

    fn publish(&mut self) {
        self.shared.completed.fetch_add(self.completed, Ordering::Relaxed);
        self.completed = 0;
    }

    fn wait_time(&self, now: Nanos) -> Timespec {
        let mut wait = clock::nanos(WAIT_MAX);
        if self.phase < Phase::Draining {
            let boundary = if self.phase == Phase::Warming { Some(self.begin) } else { self.end };
            wait = boundary.map_or(wait, |boundary| wait.min(boundary.since(now)));
            let idle = self.clients.iter().any(|client| !client.free.is_empty());
            if let (Some(schedule), true) = (&self.schedule, idle) {
                wait = wait.min(schedule.next().since(now));
            }
        }
        let nanos = i64::try_from(wait).expect("below a second");
        Timespec { tv_sec: 0, tv_nsec: nanos }
    }

    /// Sends what an open loop has due, as far as there are free slots.
    fn send_due(&mut self, now: Nanos) -> Result<(), Failure> {
        if self.schedule.is_none() || self.phase == Phase::Draining {
            return Ok(());
        }
        let mut touched = false;
        while let Some(due) = self.schedule.as_ref().map(Schedule::next).filter(|due| *due <= now) {
            let Some((index, token)) = self.free_slot() else { break };
            if let Some(schedule) = &mut self.schedule {
                schedule.sent += 1;
            }
            self.send(index, token, due)?;
            touched = true;
        }
        if touched {
            for index in 0..self.clients.len() {
                self.flush(index)?;
            }
        }
        Ok(())
    }

    /// A free slot, connection after connection.
    fn free_slot(&mut self) -> Option<(usize, u32)> {
        for _ in 0..self.clients.len() {
            let index = self.turn;
            self.turn = (self.turn + 1) % self.clients.len();
            if let Some(token) = self.clients[index].free.pop() {
                return Some((index, token));
            }
        }
        None
    }

    /// Starts a new operation.
    fn send(&mut self, index: usize, token: u32, due: Nanos) -> Result<(), Failure> {
        let (kind, key) = self.source.draw();
        if self.in_flight == 0 {
            self.heard = self.clock.now();
        }
        self.in_flight += 1;
        self.request(index, token, Slot { kind, key, due, since: due })
    }

    fn request(&mut self, index: usize, token: u32, slot: Slot) -> Result<(), Failure> {
        self.source.write(slot.kind, slot.key, &mut self.message);
        let client = &mut self.clients[index];
        client.slots[usize::try_from(token).expect("32 bits fit")] = slot;
        client.wire.machine.request(slot.kind.method(), token, &self.message)
    }

    /// Reads, handles, and sends what a connection has.
    fn on_event(
        &mut self,
        index: usize,
        hung_up: bool,
        ended: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        loop {
            let received = self.clients[index].wire.receive(ended)?;
            if received == Received::Nothing {
                break;
            }
            let now = self.clock.now();
            self.heard = now;
            for answer in ended.drain(..) {
                self.on_answer(index, answer, now)?;
            }
            if !self.clients[index].open {
                self.on_ready(index, now)?;
            }
            if received == Received::Some && !hung_up {
                break;
            }
        }
        self.flush(index)
    }

    /// Opens the slots once the server's settings are known.
    fn on_ready(&mut self, index: usize, now: Nanos) -> Result<(), Failure> {
        let client = &mut self.clients[index];
        if !client.wire.machine.is_ready() {
            return Ok(());
        }
        let (allowed, asked) = (client.wire.machine.streams_max(), self.plan.in_flight);
        if allowed < asked {
            return Err(Failure::Peer(format!(
                "allows {allowed} streams on a connection where {asked} are asked for"
            )));
        }
        client.open = true;
        let unused = Slot { kind: Kind::Put, key: 0, due: now, since: now };
        client.slots = vec![unused; usize::try_from(asked).expect("32 bits fit")];
        if self.schedule.is_some() {
            client.free = (0..asked).rev().collect();
        } else if self.phase != Phase::Draining {
            for token in 0..asked {
                self.send(index, token, now)?;
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, index: usize, answer: Answer, now: Nanos) -> Result<(), Failure> {
        let token = usize::try_from(answer.token).expect("32 bits fit");
        let slot = self.clients[index].slots[token];
        let counted = self.counts(slot.due);
        if answer.outcome == Outcome::Status(0) {
            let paired = slot.kind == Kind::Put && self.source.pairs();
            self.on_success(slot, &answer, now, counted, !paired);
            if paired {
                let next = Slot { kind: Kind::Get, since: now, ..slot };
                return self.request(index, answer.token, next);
            }
        } else {
            if slot.kind == Kind::Update {
                self.source.on_updated(slot.key, None);
            }
            if counted {
                let message = self.clients[index].wire.machine.last_message();
                self.record.on_error(answer.outcome, message);
            }
        }
        self.in_flight -= 1;
        if self.schedule.is_none() && self.phase != Phase::Draining {
            return self.send(index, answer.token, now);
        }
        self.clients[index].free.push(answer.token);
        Ok(())
    }

    /// Whether an operation that was due then, and ends now, is in the measured part.
    ///
    /// An open loop counts what was *due* in it: what a stalled server answers late is the point.
    fn counts(&self, due: Nanos) -> bool {
        match (&self.schedule, self.end) {
            (Some(_), Some(end)) => self.phase > Phase::Warming && due >= self.begin && due < end,
            (Some(_), None) => self.phase > Phase::Warming && due >= self.begin,
            (None, _) => self.phase == Phase::Measuring,
        }
    }

    fn on_success(&mut self, slot: Slot, answer: &Answer, now: Nanos, counted: bool, whole: bool) {
        if slot.kind == Kind::Update {
            self.on_updated(slot.key, &answer.body);
        }
        if whole {
            self.completed += 1;
        }
        if !counted {
            return;
        }
        if self.by_kind {
            let kind = self.record.kinds.entry(slot.kind).or_insert_with(histogram);
            kind.saturating_record(now.since(slot.since));
        }
        let shape = &self.plan.shape;
        let full_size = (shape.value_size + shape.key_size) as u64;
        let wanted = match slot.kind {
            Kind::Get => full_size,
            Kind::TxnGet => full_size * shape.operations,
            Kind::Put | Kind::List | Kind::Delete | Kind::Txn | Kind::Update | Kind::Empty => 0,
        };
        if answer.message_size < wanted {
            self.record.empty_reads += 1;
            if self.source.pairs() {
                let name = "a get missed the put before it".to_owned();
                *self.record.errors.entry(name).or_default() += 1;
            }
        }
        if whole {
            self.record.latency.saturating_record(now.since(slot.due));
            if self.plan.samples {
                self.record.samples.push(Sample::of(slot.due, now.since(slot.due), slot.kind));
            }
            if self.phase == Phase::Measuring {
                self.record.completed += 1;
            }
        }
    }

    /// Nobody else puts the key, so the compare must have held.
    fn on_updated(&mut self, key: u64, answer: &[u8]) {
        let held = message::succeeded(answer);
        self.source.on_updated(key, held.then(|| message::revision(answer)));
        if !held {
            let name = "an update found its key changed".to_owned();
            *self.record.errors.entry(name).or_default() += 1;
        }
    }

    /// Sends what a connection has to send, as far as its socket takes it.
    fn flush(&mut self, index: usize) -> Result<(), Failure> {
        self.clients[index].wire.flush()
    }
}

/// The room for events in `events`.
fn spare(events: &mut Vec<epoll::Event>) -> rustix::buffer::SpareCapacity<'_, epoll::Event> {
    rustix::buffer::spare_capacity(events)
}
