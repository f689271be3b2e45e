//! The puts of a broadcast: at a fixed rate, or as fast as their events come.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::clock::Nanos;
use crate::failure::Failure;
use crate::h2::connection::{Answer, Outcome};
use crate::h2::hpack::Method;
use crate::load::measure::histogram;
use crate::message;
use crate::talk::beat::Beat;
use crate::talk::ledger::{self, Ledger, VALUE_SIZE_MIN};
use crate::talk::wires::Wires;
use crate::workload::{Random, write_key};

/// Bytes in a key.
pub(crate) const KEY_SIZE: usize = 32;

/// Puts in flight on each of the writer's connections.
const IN_FLIGHT: u32 = 100;

/// Puts that were due and never sent, counted one by one up to here.
const UNSENT_MAX: u64 = 1_000_000;

/// When puts are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pace {
    /// So many are due per second, whatever the server does.
    Rate(f64),
    /// As long as listeners are owed fewer events than this.
    Owed(u64),
}

/// The part of a run that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Its beginning.
    pub(crate) begin: Nanos,
    /// Its end, which is not in it.
    pub(crate) end: Nanos,
}

impl Span {
    /// Whether a moment is in it.
    pub(crate) fn has(self, moment: Nanos) -> bool {
        (self.begin..self.end).contains(&moment)
    }
}

/// What became of the puts of one run.
#[derive(Debug)]
pub(crate) struct Puts {
    /// From when each was due (by rate) or sent to its answer.
    pub(crate) latency: Histogram<u64>,
    /// Answered well, in the measured part.
    pub(crate) count: u64,
    /// Not answered well, by how, and the server's words; in all of the run.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Due in the measured part and never sent.
    pub(crate) unsent: u64,
}

/// The writer of a broadcast.
#[derive(Debug)]
pub(crate) struct Writer {
    wires: Range<usize>,
    /// When the put in each slot was due or sent: slots of one connection after the other.
    slots: Vec<Nanos>,
    /// Slots without a put, the longest free first.
    free: VecDeque<u32>,
    /// Whether each of the connections has something to send.
    touched: Vec<bool>,
    keys: u64,
    value_size: usize,
    random: Random,
    message: Vec<u8>,
    pace: Pace,
    /// When puts by rate are due.
    beat: Option<Beat>,
    span: Span,
    puts: Puts,
}

impl Writer {
    /// A writer of random keys in `0..keys` over connections that are ready.
    pub(crate) fn new(wires: Range<usize>, keys: u64, value_size: usize) -> Self {
        let count = u32::try_from(wires.len()).expect("few connections") * IN_FLIGHT;
        let span = Span { begin: Nanos(0), end: Nanos(0) };
        Self {
            slots: vec![Nanos(0); usize::try_from(count).expect("32 bits fit")],
            free: (0..count).collect(),
            touched: vec![false; wires.len()],
            wires,
            keys,
            value_size: value_size.max(VALUE_SIZE_MIN),
            random: Random::new(17),
            message: Vec::new(),
            pace: Pace::Owed(0),
            beat: None,
            span,
            puts: Puts::new(),
        }
    }

    /// Whether a connection is the writer's.
    pub(crate) fn owns(&self, wire: usize) -> bool {
        self.wires.contains(&wire)
    }

    /// Begins a run.
    pub(crate) fn begin(&mut self, pace: Pace, start: Nanos, span: Span) {
        (self.pace, self.span) = (pace, span);
        self.beat = match pace {
            Pace::Rate(rate) => Some(Beat::new(start, rate)),
            Pace::Owed(_) => None,
        };
        self.puts = Puts::new();
    }

    /// Puts without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// When it has to send next, if that is known and there is room.
    pub(crate) fn wakes(&self) -> Option<Nanos> {
        self.beat.filter(|_| !self.free.is_empty()).map(|beat| beat.next())
    }

    /// Sends all that is to be sent now.
    ///
    /// # Errors
    /// When a connection ended.
    pub(crate) fn send(
        &mut self,
        now: Nanos,
        clock_now: impl Fn() -> Nanos,
        ledger: &mut Ledger,
        wires: &mut Wires,
    ) -> Result<(), Failure> {
        while !self.free.is_empty() {
            let due = match (self.pace, &mut self.beat) {
                (_, Some(beat)) if beat.next() <= now => {
                    let due = beat.next();
                    beat.take();
                    due
                }
                (Pace::Owed(most), None) if ledger.owed() < most => now,
                _ => break,
            };
            self.put(due, clock_now(), ledger, wires)?;
        }
        for (index, touched) in self.wires.clone().zip(&mut self.touched) {
            if std::mem::take(touched) {
                wires.flush(index)?;
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        due: Nanos,
        now: Nanos,
        ledger: &mut Ledger,
        wires: &mut Wires,
    ) -> Result<(), Failure> {
        let key = self.random.below(self.keys);
        let slot = self.free.pop_front().expect("there is a free slot");
        self.message.clear();
        let (size, random) = (self.value_size, &mut self.random);
        let mut name = Vec::with_capacity(KEY_SIZE);
        write_key(key, KEY_SIZE, &mut name);
        message::bytes(1, &name, &mut self.message);
        message::nested(2, &mut self.message, |out| {
            let start = out.len();
            ledger::write_value(now, ledger.next(), key, out);
            while out.len() - start < size {
                let rest = size - (out.len() - start);
                out.extend_from_slice(&random.next().to_le_bytes()[..rest.min(8)]);
            }
        });
        self.slots[usize::try_from(slot).expect("32 bits fit")] = due;
        let at = usize::try_from(slot / IN_FLIGHT).expect("32 bits fit");
        wires.machine(self.wires.start + at).request(Method::Put, slot, &self.message)?;
        self.touched[at] = true;
        ledger.on_sent(key);
        Ok(())
    }

    /// Takes note of answers.
    pub(crate) fn on_answers(
        &mut self,
        ended: &mut Vec<Answer>,
        now: Nanos,
        last_message: Option<&str>,
    ) {
        for answer in ended.drain(..) {
            let due = self.slots[usize::try_from(answer.token).expect("32 bits fit")];
            self.free.push_back(answer.token);
            if answer.outcome != Outcome::Status(0) {
                let text = last_message.unwrap_or_default();
                let name = format!("{:?} {text}", answer.outcome);
                *self.puts.errors.entry(name).or_default() += 1;
                continue;
            }
            if self.span.has(due) {
                self.puts.latency.saturating_record(now.since(due));
            }
            if self.span.has(now) {
                self.puts.count += 1;
            }
        }
    }

    /// Ends a run: what became of its puts, those charged that were due and could not be sent.
    pub(crate) fn end(&mut self, now: Nanos) -> Puts {
        while let Some(beat) = &mut self.beat {
            let due = beat.next();
            if due >= self.span.end || self.puts.unsent == UNSENT_MAX {
                break;
            }
            beat.take();
            if due >= self.span.begin {
                self.puts.latency.saturating_record(now.since(due));
                self.puts.unsent += 1;
            }
        }
        std::mem::replace(&mut self.puts, Puts::new())
    }
}

impl Puts {
    fn new() -> Self {
        Self { latency: histogram(), count: 0, errors: BTreeMap::new(), unsent: 0 }
    }
}
