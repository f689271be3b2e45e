//! The side of a connection that dials: it speaks, and dials again.

use crate::peer::Counts;
use crate::peer::Limits;
use crate::peer::format;
use crate::peer::format::Card;
use crate::peer::format::FrameKind;
use crate::peer::format::HEADER_SIZE;
use crate::peer::format::Hello;
use crate::peer::format::Kind;
use crate::peer::format::Verdict;
use crate::peer::pipe::Fault;
use crate::peer::pipe::Pipe;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::VecDeque;

/// Something that the owner of a link is to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutput {
    /// Open a connection: to the peer's first address at attempt 0, to the next at the next.
    Connect {
        /// Which attempt it is; what becomes of an earlier one is of no account.
        attempt: u64,
    },
    /// Close the connection of this attempt, open or on its way.
    Close {
        /// The attempt.
        attempt: u64,
    },
    /// The peer hears.
    Up,
    /// The peer heard and hears no more: what was sent last may not have arrived.
    Lost(Fault),
    /// The peer does not hear us; said once until it does or another reason comes.
    Refused {
        /// Why.
        verdict: Verdict,
        /// Who says so.
        by: Card,
    },
}

/// What this member tells one other on one kind of connection.
///
/// ```text
///          wanted          Connect                connected            welcome
///   Rest ─────────► Waiting ─────► Dialling ────────────────► Greeting ───────► Up
///                      ▲               │ failed                   │ refused      │ lost
///                      └───────────────┴──────────────────────────┴──────────────┘
/// ```
///
/// The wait doubles with each attempt that led to nothing, within bounds and with jitter, so that
/// members do not call in step. A raft link is always wanted; a bulk link when it has something to
/// say, which waits in its queue meanwhile.
#[derive(Debug)]
pub struct Link {
    card: Card,
    to: NodeId,
    kind: Kind,
    limits: Limits,
    /// Feeds the jitter.
    seed: u64,
    state: State,
    attempt: u64,
    /// Attempts in a row that led to nothing.
    failures: u32,
    /// Packets that wait for a bulk link to come up, and their size.
    waiting: VecDeque<Bytes>,
    waiting_size: usize,
    /// What the peer is told first: where this member is reached.
    urls: Vec<u8>,
    /// The last reason that was told.
    told: Option<Verdict>,
    outputs: VecDeque<LinkOutput>,
    counts: Counts,
}

#[derive(Debug)]
enum State {
    Rest,
    Waiting { until: Tick },
    Dialling { since: Tick },
    Greeting { pipe: Pipe, since: Tick },
    Up(Pipe),
}

impl Link {
    /// A link that is to be made; `seed` feeds the jitter.
    #[must_use]
    pub fn new(card: Card, to: NodeId, kind: Kind, limits: Limits, seed: u64, now: Tick) -> Self {
        let state = match kind {
            Kind::Raft => State::Waiting { until: now },
            Kind::Bulk => State::Rest,
        };
        Self {
            card,
            to,
            kind,
            limits,
            seed,
            state,
            attempt: 0,
            failures: 0,
            waiting: VecDeque::new(),
            waiting_size: 0,
            urls: Vec::new(),
            told: None,
            outputs: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The same, that tells the peer where this member is reached.
    #[must_use]
    pub fn with_urls(self, urls: &[String]) -> Self {
        Self { urls: format::urls_payload(urls), ..self }
    }

    /// The next thing to do or to know.
    pub fn poll(&mut self) -> Option<LinkOutput> {
        self.outputs.pop_front()
    }

    /// Queues a packet; false if it is dropped, which is counted.
    pub fn send(&mut self, payload: Bytes, now: Tick) -> bool {
        let size = HEADER_SIZE + payload.len();
        let queued = match &self.state {
            State::Up(pipe) => pipe.output().len(),
            State::Rest
            | State::Waiting { .. }
            | State::Dialling { .. }
            | State::Greeting { .. } => self.waiting_size,
        };
        let is_full = queued > 0 && queued + size > self.limits.queue_size_max(self.kind);
        if is_full || payload.len() > self.limits.payload_size_max {
            self.counts.full += 1;
            return false;
        }
        match &mut self.state {
            State::Up(pipe) => pipe.put(FrameKind::Packet, &payload),
            State::Rest
            | State::Waiting { .. }
            | State::Dialling { .. }
            | State::Greeting { .. } => {
                if self.kind == Kind::Raft {
                    self.counts.down += 1;
                    return false;
                }
                if matches!(self.state, State::Rest) {
                    self.state = State::Waiting { until: now };
                }
                self.waiting_size += size;
                self.waiting.push_back(payload);
            }
        }
        self.counts.queued += 1;
        true
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Tick) {
        let fault = match &mut self.state {
            State::Rest => None,
            State::Waiting { until } if now < *until => None,
            State::Waiting { .. } => {
                self.state = State::Dialling { since: now };
                self.outputs.push_back(LinkOutput::Connect { attempt: self.attempt });
                None
            }
            State::Dialling { since } if now.since(*since) > self.limits.connect_max => {
                Some(Fault::NoConnection)
            }
            State::Greeting { since, .. } if now.since(*since) > self.limits.greeting_max => {
                Some(Fault::NoGreeting)
            }
            State::Dialling { .. } | State::Greeting { .. } => None,
            State::Up(pipe) => pipe.tick(now).err(),
        };
        if let Some(fault) = fault {
            self.over(fault, now);
        }
    }

    /// The peer was heard otherwise: if it is to be dialled again, then now.
    pub fn hasten(&mut self, now: Tick) {
        if let State::Waiting { until } = &mut self.state {
            *until = now;
        }
    }

    /// The connection that [`LinkOutput::Connect`] asked for is open; false if nobody wants it any
    /// more.
    pub fn connected(&mut self, attempt: u64, now: Tick) -> bool {
        if attempt != self.attempt || !matches!(self.state, State::Dialling { .. }) {
            return false;
        }
        let mut pipe = Pipe::new(self.limits, now);
        let (card, to, kind) = (self.card, self.to, self.kind);
        pipe.greet(&Hello { card, to, kind, verdict: Verdict::Welcome });
        self.state = State::Greeting { pipe, since: now };
        true
    }

    /// The connection could not be opened, or it has ended.
    pub fn failed(&mut self, attempt: u64, now: Tick) {
        let is_on = !matches!(self.state, State::Rest | State::Waiting { .. });
        if attempt == self.attempt && is_on {
            self.over(Fault::Ended, now);
        }
    }

    /// Takes in what the peer sends.
    pub fn receive(&mut self, attempt: u64, bytes: &[u8], now: Tick) {
        if attempt != self.attempt {
            return;
        }
        if let Err(fault) = self.take(bytes, now) {
            self.over(fault, now);
        }
    }

    fn take(&mut self, mut bytes: &[u8], now: Tick) -> Result<(), Fault> {
        if let State::Greeting { pipe, .. } = &mut self.state {
            let Some((hello, taken)) = pipe.greeting(bytes)? else {
                return Ok(());
            };
            bytes = &bytes[taken..];
            self.answered(&hello, now)?;
        }
        let State::Up(pipe) = &mut self.state else {
            return Ok(());
        };
        let mut is_against = false;
        pipe.receive(bytes, now, &mut |_, _| is_against = true)?;
        if is_against { Err(Fault::Direction) } else { Ok(()) }
    }

    /// The peer has answered our greeting.
    fn answered(&mut self, hello: &Hello, now: Tick) -> Result<(), Fault> {
        let verdict = hello.verdict;
        if verdict != Verdict::Welcome {
            if self.told.replace(verdict) != Some(verdict) {
                self.outputs.push_back(LinkOutput::Refused { verdict, by: hello.card });
            }
            return Err(Fault::Refused(verdict));
        }
        let (own, other) = (&self.card, &hello.card);
        if (other.node, other.cluster, other.shard) != (self.to, own.cluster, own.shard) {
            return Err(Fault::Addressee);
        }
        let mut pipe = Pipe::new(self.limits, now);
        if let State::Greeting { pipe: greeting, .. } =
            std::mem::replace(&mut self.state, State::Rest)
        {
            pipe = greeting;
        }
        if !self.urls.is_empty() {
            pipe.put(FrameKind::Urls, &self.urls);
        }
        for payload in self.waiting.drain(..) {
            pipe.put(FrameKind::Packet, &payload);
        }
        self.waiting_size = 0;
        self.state = State::Up(pipe);
        (self.failures, self.told) = (0, None);
        self.outputs.push_back(LinkOutput::Up);
        Ok(())
    }

    /// The attempt led to nothing, or the connection is over.
    fn over(&mut self, fault: Fault, now: Tick) {
        self.outputs.push_back(LinkOutput::Close { attempt: self.attempt });
        let was_up = matches!(self.state, State::Up(_));
        if was_up {
            self.outputs.push_back(LinkOutput::Lost(fault));
        }
        let is_wanted = self.kind == Kind::Raft || !self.waiting.is_empty();
        let until = Tick(now.0 + self.pause());
        self.state = if is_wanted { State::Waiting { until } } else { State::Rest };
        self.failures = self.failures.saturating_add(1);
        self.attempt += 1;
    }

    /// Milliseconds until the next attempt: between half of it and all of it.
    fn pause(&mut self) -> u64 {
        let Limits { retry_after_min, retry_after_max, .. } = self.limits;
        let doubled = retry_after_min.saturating_mul(1 << self.failures.min(20));
        let pause = doubled.min(retry_after_max).max(1);
        pause - self.draw() % (pause / 2 + 1)
    }

    /// 64 bits by lot.
    ///
    /// # Source
    /// Sebastiano Vigna's splitmix64.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes to be sent on the connection of the present attempt.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        match &self.state {
            State::Greeting { pipe, .. } | State::Up(pipe) => pipe.output(),
            State::Rest | State::Waiting { .. } | State::Dialling { .. } => &[],
        }
    }

    /// So many of them have left.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn sent(&mut self, n: usize, now: Tick) {
        if let State::Greeting { pipe, .. } | State::Up(pipe) = &mut self.state {
            pipe.sent(n, now);
        }
    }

    /// Whether the peer hears.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Which attempt is under way.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Who is spoken to, and for what.
    #[must_use]
    pub fn peer(&self) -> (NodeId, Kind) {
        (self.to, self.kind)
    }

    /// What has become of its packets.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
