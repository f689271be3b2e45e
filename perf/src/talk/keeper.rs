//! Keep-alives of leases over streams, answers in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{self, Clock, Nanos};
use crate::failure::Failure;
use crate::h2::connection::{Connection, Windows};
use crate::h2::hpack::Method;
use crate::load::Moment;
use crate::load::measure::{Latency, histogram};
use crate::message::lease::{self, Lived};
use crate::talk::beat::Beat;
use crate::talk::wires::{Brought, Wires};

/// How long a server with keep-alives in flight may say nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long the last answers are waited for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest wait, and how often an observer is told of progress.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Keep-alives, fully decided.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Connections.
    pub(crate) connections: usize,
    /// Streams on all of them together.
    pub(crate) streams: usize,
    /// Keep-alives in flight on each stream.
    pub(crate) in_flight: usize,
    /// The leases are `1..=leases`; each stream has its own of them.
    pub(crate) leases: u64,
    /// The seconds that each was granted.
    pub(crate) seconds: u64,
    /// Keep-alives due per second; if none, each is sent when one is answered.
    pub(crate) rate: Option<f64>,
    /// Time before measuring starts.
    pub(crate) warm_up: Duration,
    /// Measured time.
    pub(crate) duration: Duration,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Kept {
    /// Keep-alives answered in the measured part.
    pub(crate) count: u64,
    /// Its length.
    pub(crate) seconds: f64,
    /// From when each was due or sent to its answer.
    pub(crate) latency: Latency,
    /// This client's CPU time in the measured part.
    pub(crate) client_cpu: Duration,
    /// What did not go well.
    pub(crate) complaints: Vec<String>,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    wire: usize,
    /// Its number on the connection.
    number: u32,
    /// Its first lease; the others are as many apart as there are streams.
    first: u64,
    /// The lease to keep alive next.
    next: u64,
    /// Leases without an answer, and since when.
    waiting: VecDeque<(u64, Nanos)>,
}

/// All streams, apart from the connections.
#[derive(Debug)]
struct Streams {
    plan: Plan,
    streams: Vec<Stream>,
    /// Whether answered keep-alives are followed by others.
    goes_on: bool,
    in_flight: usize,
    /// Answered so far.
    count: u64,
    measuring: bool,
    latency: Histogram<u64>,
    /// Answers about another lease than was due.
    disordered: u64,
    /// Answers that say a lease has another time to live than granted: zero if it is gone.
    gone: u64,
    message: Vec<u8>,
}

/// Keeps leases alive as `plan` says; `observe` is called at each moment with the answers so far.
///
/// # Errors
/// When the server ends a stream, or says nothing for long.
pub(crate) fn run(
    plan: &Plan,
    clock: Clock,
    interrupt: &AtomicBool,
    observe: &mut dyn FnMut(Moment, u64),
) -> Result<Kept, Failure> {
    let mut wires = Wires::create(plan.address, clock)?;
    let own = wires.connect(plan.connections, Windows::Wide, interrupt)?;
    let mut streams = Vec::new();
    for (index, wire) in (0..plan.streams).zip(own.cycle()) {
        let token = u32::try_from(index).expect("streams are few");
        let number = wires.machine(wire).open(Method::KeepAlive, token)?;
        let (first, waiting) = (index as u64 + 1, VecDeque::new());
        streams.push(Stream { wire, number, first, next: first, waiting });
    }
    let state = Streams {
        plan: *plan,
        streams,
        goes_on: true,
        in_flight: 0,
        count: 0,
        measuring: false,
        latency: histogram(),
        disordered: 0,
        gone: 0,
        message: Vec::new(),
    };
    // Fine timers are a help and no condition.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1000));
    Keeper { clock, interrupt, wires, beat: None, turn: 0, state }.run(observe)
}

struct Keeper<'a> {
    clock: Clock,
    interrupt: &'a AtomicBool,
    wires: Wires,
    beat: Option<Beat>,
    /// The stream that is tried first.
    turn: usize,
    state: Streams,
}

impl Keeper<'_> {
    fn run(mut self, observe: &mut dyn FnMut(Moment, u64)) -> Result<Kept, Failure> {
        let plan = self.state.plan;
        let start = self.clock.now();
        self.beat = plan.rate.map(|rate| Beat::new(start, rate));
        let begin = start.plus(plan.warm_up);
        if self.beat.is_none() {
            self.fill()?;
        }
        self.keep_until(begin, observe)?;
        self.state.measuring = true;
        let (before, begun, cpu) = (self.state.count, self.clock.now(), clock::thread_cpu());
        observe(Moment::Begin, before);
        self.keep_until(begin.plus(plan.duration), observe)?;
        let (count, ended) = (self.state.count - before, self.clock.now());
        let client_cpu = clock::thread_cpu().saturating_sub(cpu);
        observe(Moment::End, self.state.count);
        self.state.goes_on = false;
        let deadline = ended.plus(DRAIN_TIME_MAX);
        while self.state.in_flight > 0 && self.clock.now() < deadline {
            self.wait(LOOK_INTERVAL)?;
        }
        Ok(Kept {
            count,
            seconds: ended.since(begun) as f64 / 1e9,
            latency: Latency::of(&self.state.latency),
            client_cpu,
            complaints: self.state.complaints(),
        })
    }

    /// Fills all streams, for answers to call for the next.
    fn fill(&mut self) -> Result<(), Failure> {
        for index in 0..self.state.streams.len() {
            let wire = self.state.streams[index].wire;
            for _ in 0..self.state.plan.in_flight {
                let now = self.clock.now();
                self.state.send(index, now, self.wires.machine(wire));
            }
            self.wires.flush(wire)?;
        }
        Ok(())
    }

    fn keep_until(
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
            let has_room = self.send_due(now)?;
            if now.since(shown) > clock::nanos(LOOK_INTERVAL) {
                observe(Moment::Progress, self.state.count);
                shown = now;
            }
            let due = self.beat.filter(|_| has_room).map_or(moment, |beat| beat.next());
            let wait = Duration::from_nanos(due.min(moment).since(self.clock.now()));
            self.wait(wait.min(LOOK_INTERVAL))?;
        }
    }

    /// Sends what is due by rate; whether there was room for all of it.
    fn send_due(&mut self, now: Nanos) -> Result<bool, Failure> {
        let Some(mut beat) = self.beat else { return Ok(true) };
        while beat.next() <= now {
            let (count, most) = (self.state.streams.len(), self.state.plan.in_flight);
            let found = (0..count)
                .map(|step| (self.turn + step) % count)
                .find(|index| self.state.streams[*index].waiting.len() < most);
            let Some(index) = found else { break };
            self.turn = (index + 1) % count;
            let wire = self.state.streams[index].wire;
            self.state.send(index, beat.next(), self.wires.machine(wire));
            self.wires.flush(wire)?;
            beat.take();
        }
        self.beat = Some(beat);
        Ok(beat.next() > now)
    }

    fn wait(&mut self, wait: Duration) -> Result<(), Failure> {
        let state = &mut self.state;
        self.wires.turn(wait, self.interrupt, |brought| state.on_brought(brought))?;
        let silence = self.clock.now().since(self.wires.heard_at());
        if self.state.in_flight > 0 && silence > clock::nanos(SILENCE_MAX) {
            return Err(Failure::Peer(format!("said nothing for {SILENCE_MAX:?}")));
        }
        Ok(())
    }
}

impl Streams {
    /// Keeps the stream's next lease alive.
    fn send(&mut self, index: usize, since: Nanos, machine: &mut Connection) {
        let stream = &mut self.streams[index];
        let id = stream.next;
        stream.next += self.plan.streams as u64;
        if stream.next > self.plan.leases {
            stream.next = stream.first;
        }
        lease::keep_alive(id, &mut self.message);
        machine.say(stream.number, &self.message);
        stream.waiting.push_back((id, since));
        self.in_flight += 1;
    }

    fn on_brought(&mut self, brought: Brought<'_>) -> Result<(), Failure> {
        let Brought { now, machine, heard, ended, .. } = brought;
        if let Some(answer) = ended.first() {
            let (how, text) = (answer.outcome, machine.last_message().unwrap_or_default());
            return Err(Failure::Refused(format!("to keep leases alive: {how:?} {text}")));
        }
        for (token, message) in heard.messages() {
            let index = usize::try_from(token).expect("32 bits fit");
            self.on_answer(index, lease::lived(message), now);
            if self.goes_on && self.plan.rate.is_none() {
                self.send(index, now, machine);
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, index: usize, lived: Lived, now: Nanos) {
        let Some((id, since)) = self.streams[index].waiting.pop_front() else {
            self.disordered += 1;
            return;
        };
        self.in_flight -= 1;
        self.count += 1;
        self.disordered += u64::from(lived.id != id);
        self.gone += u64::from(lived.seconds != self.plan.seconds);
        if self.measuring {
            self.latency.saturating_record(now.since(since));
        }
    }

    fn complaints(&self) -> Vec<String> {
        let counts = [
            (self.disordered, "answers are about other leases than were due"),
            (self.gone, "answers have another time to live than was granted"),
            (self.in_flight as u64, "keep-alives had no answer"),
        ];
        let found = counts.into_iter().filter(|(count, _)| *count > 0);
        found.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(count: usize, leases: u64) -> (Streams, Connection) {
        let plan = Plan {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            connections: 1,
            streams: count,
            in_flight: 4,
            leases,
            seconds: 60,
            rate: None,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
        };
        let stream = |index: u64| Stream {
            wire: 0,
            number: 1,
            first: index + 1,
            next: index + 1,
            waiting: VecDeque::new(),
        };
        let state = Streams {
            plan,
            streams: (0..count as u64).map(stream).collect(),
            goes_on: true,
            in_flight: 0,
            count: 0,
            measuring: true,
            latency: histogram(),
            disordered: 0,
            gone: 0,
            message: Vec::new(),
        };
        (state, Connection::new("a"))
    }

    #[test]
    fn each_stream_goes_through_its_own_leases() {
        let (mut state, mut machine) = streams(3, 7);
        for index in [0, 1, 2, 0, 1, 2, 0, 0, 1] {
            state.send(index, Nanos(0), &mut machine);
        }
        let ids = |index: usize| {
            let waiting = state.streams[index].waiting.iter();
            waiting.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        assert_eq!((ids(0), ids(1), ids(2)), (vec![1, 4, 7, 1], vec![2, 5, 2], vec![3, 6]));
    }

    #[test]
    fn answers_are_held_against_what_was_asked() {
        let alive = |id| Lived { id, seconds: 60 };
        let (mut state, mut machine) = streams(1, 3);
        for _ in 0..3 {
            state.send(0, Nanos(0), &mut machine);
        }
        state.on_answer(0, alive(1), Nanos(5000));
        state.on_answer(0, alive(2), Nanos(5000));
        assert_eq!(state.complaints(), ["1 keep-alives had no answer"]);
        state.on_answer(0, alive(3), Nanos(5000));
        assert_eq!((state.count, state.latency.len(), state.complaints().len()), (3, 3, 0));
        for wrong in [alive(2), Lived { id: 1, seconds: 0 }] {
            let (mut state, mut machine) = streams(1, 3);
            state.send(0, Nanos(0), &mut machine);
            state.on_answer(0, wrong, Nanos(5000));
            assert_eq!(state.complaints().len(), 1, "{wrong:?}");
        }
        let (mut state, _) = streams(1, 3);
        state.on_answer(0, alive(1), Nanos(5000));
        assert_eq!(state.complaints(), ["1 answers are about other leases than were due"]);
    }
}
