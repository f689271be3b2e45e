//! A writer and its watchers: what each is told, when, and at what price.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{self, Clock, Nanos};
use crate::failure::Failure;
use crate::h2::connection::{Outcome, Windows};
use crate::h2::hpack::Method;
use crate::load::Moment;
use crate::load::measure::{Latency, histogram};
use crate::message::watch::{self, Said};
use crate::talk::ledger::{Ledger, Scope};
use crate::talk::wires::{Brought, Wires};
use crate::talk::writer::{KEY_SIZE, Pace, Span, Writer};
use crate::workload::write_key;

/// The writer's connections.
const WRITER_CONNECTIONS: usize = 10;

/// How long the server may take to create watchers, and to tell them what was put to the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server that owes something may say nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest wait, and how often an observer is told of progress.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Watchers that are asked for before the first of them are there.
const UNCREATED_MAX: usize = 10_000;

/// One run of a broadcast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Course {
    /// When puts are sent.
    pub(crate) pace: Pace,
    /// Time before measuring starts.
    pub(crate) warm_up: Duration,
    /// Measured time.
    pub(crate) duration: Duration,
}

/// What a run found.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Delivered {
    /// Events that came in the measured part.
    pub(crate) events: u64,
    /// Puts answered in the measured part.
    pub(crate) puts: u64,
    /// Its length.
    pub(crate) seconds: f64,
    /// From the sending of a put to the arrival of its event, for puts sent in the measured part.
    pub(crate) latency: Latency,
    /// From when a put was due to its answer.
    pub(crate) put_latency: Latency,
    /// This client's CPU time in the measured part.
    pub(crate) client_cpu: Duration,
    /// What did not go well.
    pub(crate) complaints: Vec<String>,
}

/// A watch stream, with its watchers by number.
#[derive(Debug)]
struct Stream {
    wire: usize,
    /// Its number on the connection.
    number: u32,
    /// What is watched: those created first, in the order they were asked for.
    asked: Vec<Scope>,
    /// The ledger's number of each that was created.
    created: Vec<usize>,
}

/// What is told, apart from the connections it comes by.
#[derive(Debug)]
struct Account {
    ledger: Ledger,
    streams: Vec<Stream>,
    writer: Writer,
    span: Span,
    latency: Histogram<u64>,
    /// Watchers asked for that are not there yet.
    uncreated: usize,
}

/// A writer and its watchers.
#[derive(Debug)]
pub(crate) struct Broadcast<'a> {
    clock: Clock,
    interrupt: &'a AtomicBool,
    wires: Wires,
    account: Account,
}

impl<'a> Broadcast<'a> {
    /// A writer of random keys in `0..keys`, and no watchers yet.
    ///
    /// Nobody else changes the store from here on. If single keys are to be watched, the store has
    /// none of them.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub(crate) fn create(
        address: SocketAddr,
        clock: Clock,
        keys: u64,
        value_size: usize,
        interrupt: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let mut wires = Wires::create(address, clock)?;
        wires.connect(WRITER_CONNECTIONS, Windows::Wide, interrupt)?;
        Ok(Self::over(wires, clock, keys, value_size, interrupt))
    }

    /// The same over connections that are there; the first of them are the writer's.
    fn over(
        wires: Wires,
        clock: Clock,
        keys: u64,
        value_size: usize,
        interrupt: &'a AtomicBool,
    ) -> Self {
        let account = Account {
            ledger: Ledger::new(keys),
            streams: Vec::new(),
            writer: Writer::new(0..WRITER_CONNECTIONS, keys, value_size),
            span: Span { begin: Nanos(0), end: Nanos(0) },
            latency: histogram(),
            uncreated: 0,
        };
        Self { clock, interrupt, wires, account }
    }

    /// Opens further connections.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(crate) fn connect(
        &mut self,
        count: usize,
        windows: Windows,
    ) -> Result<Range<usize>, Failure> {
        self.wires.connect(count, windows, self.interrupt)
    }

    /// Opens `count` watch streams, shared among `connections`.
    ///
    /// # Errors
    /// When the server allows fewer.
    pub(crate) fn open(
        &mut self,
        connections: Range<usize>,
        count: usize,
    ) -> Result<Range<usize>, Failure> {
        let start = self.account.streams.len();
        let each = count.div_ceil(connections.len().max(1));
        for (wire, index) in connections.clone().cycle().zip(start..start + count) {
            let machine = self.wires.machine(wire);
            let allowed = machine.streams_max();
            if usize::try_from(allowed).is_ok_and(|allowed| allowed < each) {
                return Err(Failure::Peer(format!(
                    "allows {allowed} streams on a connection where {each} are asked for"
                )));
            }
            let token = u32::try_from(index).expect("streams are few");
            let number = machine.open(Method::Watch, token)?;
            let (asked, created) = (Vec::new(), Vec::new());
            self.account.streams.push(Stream { wire, number, asked, created });
        }
        for wire in connections {
            self.wires.flush(wire)?;
        }
        Ok(start..start + count)
    }

    /// Creates watchers, shared among `streams`, and waits until they are there.
    ///
    /// # Errors
    /// When the server refuses one, or takes too long.
    pub(crate) fn watch(
        &mut self,
        streams: Range<usize>,
        scopes: impl Iterator<Item = Scope>,
    ) -> Result<(), Failure> {
        assert!(self.account.writer.in_flight() == 0, "nothing is put meanwhile");
        let deadline = self.clock.now().plus(PATIENCE);
        let mut message = Vec::new();
        for (stream, scope) in streams.cycle().zip(scopes) {
            let (mut key, mut end): (Vec<u8>, &[u8]) = (Vec::new(), &[]);
            match scope {
                Scope::Key(number) => write_key(number, KEY_SIZE, &mut key),
                Scope::All => (key, end) = (vec![0], &[0]),
            }
            watch::creation(&key, end, &mut message);
            let stream = &mut self.account.streams[stream];
            stream.asked.push(scope);
            self.wires.machine(stream.wire).say(stream.number, &message);
            self.wires.flush(stream.wire)?;
            self.account.uncreated += 1;
            while self.account.uncreated > UNCREATED_MAX {
                self.await_created(deadline)?;
            }
        }
        while self.account.uncreated > 0 {
            self.await_created(deadline)?;
        }
        Ok(())
    }

    fn await_created(&mut self, deadline: Nanos) -> Result<(), Failure> {
        if self.clock.now() > deadline {
            let what = format!("did not create watchers within {PATIENCE:?}");
            return Err(Failure::Peer(what));
        }
        self.turn(LOOK_INTERVAL)
    }

    fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        let account = &mut self.account;
        self.wires.turn(wait, self.interrupt, |brought| account.on_brought(brought))
    }

    /// Reads nothing more of what some connections' watchers are told: at all if `unread`, else as
    /// far as windows go, which were withheld from the start.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn stall(&mut self, connections: Range<usize>, unread: bool) -> Result<(), Failure> {
        for watcher in self.watchers(&connections) {
            self.account.ledger.stall(watcher);
        }
        for wire in connections.filter(|_| unread) {
            self.wires.leave_unread(wire)?;
        }
        Ok(())
    }

    /// Reads on, and waits until these connections' watchers have been told all; says how long it
    /// took, and what did not go well.
    ///
    /// # Errors
    /// When the server ends a connection, or says nothing for long.
    pub(crate) fn resume(
        &mut self,
        connections: Range<usize>,
    ) -> Result<(Duration, Vec<String>), Failure> {
        let start = self.clock.now();
        self.wires.listen();
        for watcher in self.watchers(&connections) {
            self.account.ledger.resume(watcher);
        }
        for wire in connections {
            self.wires.read_again(wire)?;
            self.wires.machine(wire).give_windows();
            self.wires.flush(wire)?;
        }
        self.drain(start)?;
        let took = Duration::from_nanos(self.clock.now().since(start));
        Ok((took, self.account.ledger.complaints()))
    }

    /// Closes connections; what their watchers lack is nobody's loss.
    pub(crate) fn close(&mut self, connections: Range<usize>) {
        for watcher in self.watchers(&connections) {
            self.account.ledger.forget(watcher);
        }
        for wire in connections {
            self.wires.close(wire);
        }
    }

    /// The watchers that are told by some connections.
    fn watchers(&self, connections: &Range<usize>) -> Vec<usize> {
        let streams = self.account.streams.iter();
        let theirs = streams.filter(|stream| connections.contains(&stream.wire));
        theirs.flat_map(|stream| stream.created.iter().copied()).collect()
    }

    /// Events that some connections' watchers have not had.
    pub(crate) fn missing(&self, connections: &Range<usize>) -> u64 {
        let watchers = self.watchers(connections);
        watchers.into_iter().map(|watcher| self.account.ledger.missing(watcher)).sum()
    }

    /// Puts, and waits until all that listen have been told of all of it.
    ///
    /// `observe` is called at each moment with the events that came since the first run.
    ///
    /// # Errors
    /// When a connection ends, or the server says nothing for long.
    pub(crate) fn run(
        &mut self,
        course: &Course,
        observe: &mut dyn FnMut(Moment, u64),
    ) -> Result<Delivered, Failure> {
        let start = self.clock.now();
        let begin = start.plus(course.warm_up);
        // Fine timers are a help and no condition.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        self.wires.listen();
        let span = Span { begin, end: begin.plus(course.duration) };
        self.account.begin(course.pace, start, span);
        self.put_until(span.begin, observe)?;
        let (before, cpu) = (self.account.ledger.settled(), clock::thread_cpu());
        observe(Moment::Begin, before);
        let begun = self.clock.now();
        self.put_until(span.end, observe)?;
        let (events, ended) = (self.account.ledger.settled(), self.clock.now());
        let client_cpu = clock::thread_cpu().saturating_sub(cpu);
        observe(Moment::End, events);
        self.send_rest(span)?;
        self.drain(self.clock.now())?;
        let unanswered = self.account.writer.in_flight();
        let puts = self.account.writer.end(self.clock.now());
        let mut complaints = self.account.ledger.complaints();
        complaints.extend(puts.errors.iter().map(|(name, count)| format!("{count} puts: {name}")));
        if unanswered > 0 || puts.unsent > 0 {
            let unsent = puts.unsent;
            complaints.push(format!("{unanswered} puts had no answer, {unsent} were never sent"));
        }
        Ok(Delivered {
            events: events - before,
            puts: puts.count,
            seconds: ended.since(begun) as f64 / 1e9,
            latency: Latency::of(&self.account.latency),
            put_latency: Latency::of(&puts.latency),
            client_cpu,
            complaints,
        })
    }

    /// Puts and is told until then.
    fn put_until(
        &mut self,
        moment: Nanos,
        observe: &mut dyn FnMut(Moment, u64),
    ) -> Result<(), Failure> {
        let mut shown = self.clock.now();
        loop {
            let now = self.clock.now();
            if now >= moment {
                return Ok(());
            }
            let Account { writer, ledger, .. } = &mut self.account;
            let clock = self.clock;
            writer.send(now, || clock.now(), ledger, &mut self.wires)?;
            self.check_silence(now)?;
            if now.since(shown) > clock::nanos(LOOK_INTERVAL) {
                observe(Moment::Progress, self.account.ledger.settled());
                shown = now;
            }
            let due = self.account.writer.wakes().unwrap_or(moment).min(moment);
            let wait = Duration::from_nanos(due.since(self.clock.now()));
            self.turn(wait.min(LOOK_INTERVAL))?;
        }
    }

    /// Sends what was due by rate just before the end.
    fn send_rest(&mut self, span: Span) -> Result<(), Failure> {
        let last = Nanos(span.end.0.saturating_sub(1));
        let Account { writer, ledger, .. } = &mut self.account;
        let clock = self.clock;
        if writer.wakes().is_some_and(|due| due <= last) {
            writer.send(last, || clock.now(), ledger, &mut self.wires)?;
        }
        Ok(())
    }

    /// Waits until all puts are answered and all listeners told, at most so long from `start` on.
    fn drain(&mut self, start: Nanos) -> Result<(), Failure> {
        loop {
            let account = &self.account;
            let quiet = account.writer.in_flight() == 0 && account.ledger.owed() == 0;
            let now = self.clock.now();
            if quiet || now.since(start) > clock::nanos(PATIENCE) {
                return Ok(());
            }
            self.check_silence(now)?;
            self.turn(LOOK_INTERVAL)?;
        }
    }

    fn check_silence(&self, now: Nanos) -> Result<(), Failure> {
        let account = &self.account;
        let waits = account.writer.in_flight() > 0 || account.ledger.owed() > 0;
        if waits && now.since(self.wires.heard_at()) > clock::nanos(SILENCE_MAX) {
            let owed = account.ledger.owed();
            return Err(Failure::Peer(format!(
                "said nothing for {SILENCE_MAX:?} and owes {owed} events"
            )));
        }
        Ok(())
    }
}

impl Account {
    fn begin(&mut self, pace: Pace, start: Nanos, span: Span) {
        self.writer.begin(pace, start, span);
        self.span = span;
        self.latency.reset();
    }

    fn on_brought(&mut self, brought: Brought<'_>) -> Result<(), Failure> {
        let Brought { index, now, machine, heard, ended } = brought;
        if self.writer.owns(index) {
            self.writer.on_answers(ended, now, machine.last_message());
        }
        if let Some(answer) = ended.first() {
            let text = machine.last_message().unwrap_or_default();
            let how = match answer.outcome {
                Outcome::Status(status) => format!("status {status}"),
                Outcome::Reset(code) => format!("a reset, error {code}"),
            };
            return Err(Failure::Refused(format!("to go on with a watch: {how} {text}")));
        }
        for (token, message) in heard.messages() {
            self.on_said(usize::try_from(token).expect("32 bits fit"), message, now)?;
        }
        Ok(())
    }

    fn on_said(&mut self, stream: usize, message: &[u8], now: Nanos) -> Result<(), Failure> {
        let said = Said::read(message)?;
        let stream = &mut self.streams[stream];
        if said.canceled {
            let reason = String::from_utf8_lossy(said.reason);
            return Err(Failure::Refused(format!("watcher {}: {reason}", said.watch)));
        }
        let number = usize::try_from(said.watch).ok();
        if said.created {
            let scope = stream.asked.get(stream.created.len()).copied();
            let Some(scope) = scope.filter(|_| number == Some(stream.created.len())) else {
                return Err(Failure::Wrong(format!("watcher {} was not asked for", said.watch)));
            };
            stream.created.push(self.ledger.watch(scope, said.revision));
            self.uncreated -= 1;
            return Ok(());
        }
        let watcher = number.and_then(|number| stream.created.get(number)).copied();
        let Some(watcher) = watcher else {
            return Err(Failure::Wrong(format!("watcher {} does not exist", said.watch)));
        };
        for event in said.events() {
            let event = event?;
            if event.revision > said.revision {
                let (event, said) = (event.revision, said.revision);
                let what = format!("an event of revision {event} in a message of {said}");
                return Err(Failure::Wrong(what));
            }
            let sent = self.ledger.on_event(watcher, &event);
            if let Some(sent) = sent.filter(|sent| self.span.has(*sent)) {
                self.latency.saturating_record(now.since(sent));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
