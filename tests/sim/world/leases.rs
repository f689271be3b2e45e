//! Leases: who renews them, and when they end.

use super::{Act, World};
use crate::model::Op;
use crate::planted::Bug;
use ringd::shard::request::{Body, Failure, Request, RequestId, Response, Unavailable};
use ringd::shard::{Input, Ready};
use ringd::types::LeaseId;
use std::collections::{BTreeMap, VecDeque};

/// The connection of those who renew: they speak to the shard itself.
const RENEWER: u32 = u32::MAX - 1;
/// Streams of renewals at a time.
const STREAMS: usize = 3;
/// Rounds in which every lease ends once nobody renews any.
const ENDING_ROUNDS_MAX: usize = 1_000;

/// A renewal that was asked for.
#[derive(Debug)]
struct Asked {
    id: i64,
    at: u64,
    /// The shard's revision then, and how many writes were told of.
    revision: i64,
    told_at: usize,
}

/// The renewals that wait for their answers, and the ids that were drawn.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    waiting: BTreeMap<RequestId, VecDeque<Asked>>,
    /// The last stream that was begun; each is begun once.
    last_stream: u32,
    last_id: i64,
}

impl Renewals {
    /// Whether an answer is one of a renewal.
    pub(super) fn owns(to: RequestId) -> bool {
        to.connection == RENEWER
    }

    /// The process has ended: nobody waits for anything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
    }

    /// One of the streams, which is begun if there are not as many yet.
    fn stream(&mut self, nth: usize) -> RequestId {
        if let Some(to) = self.waiting.keys().nth(nth) {
            return *to;
        }
        self.last_stream += 1;
        let stream = self.last_stream;
        let to = RequestId { core: 0, connection: RENEWER, generation: 0, stream };
        self.waiting.insert(to, VecDeque::new());
        to
    }
}

impl World {
    /// What a client asks about leases next.
    pub(super) fn lease_op(&mut self) -> Op {
        self.renewals.last_id += 1;
        let id = self.renewals.last_id;
        let fresh = if self.dice.chance(30) { -id } else { id };
        self.swarm.lease_op(self.oracle.known_leases(), fresh, &mut self.dice)
    }

    /// Somebody renews some leases by one stream.
    pub(super) fn renew(&mut self) {
        if !self.is_serving {
            return;
        }
        let known: Vec<i64> = self.oracle.known_leases().keys().copied().collect();
        let nth = self.dice.index(STREAMS);
        let from = self.renewals.stream(nth);
        let count = self.dice.index(3) + 1;
        self.note(Act::Renew(from.stream, count));
        if self.dice.chance(5) {
            return self.end_stream(from);
        }
        for _ in 0..count {
            let is_unknown = known.is_empty() || self.dice.chance(10);
            let id = if is_unknown { i64::MIN } else { self.dice.pick(&known) };
            let (revision, told_at) = (self.shard.header().revision.0, self.oracle.told_at());
            if !is_unknown && self.has(Bug::ForgottenRenewal, 50) {
                let ttl = self.oracle.known_leases()[&id];
                self.oracle.leases.lives(id, self.now, ttl);
                continue;
            }
            let asked = Asked { id, at: self.now, revision, told_at };
            self.renewals.waiting.get_mut(&from).expect("it was begun").push_back(asked);
            let request = Request::LeaseKeepAlive { id: LeaseId(id) };
            self.shard.handle(Input::Request { from, request });
        }
    }

    /// A stream is over: what still comes on it is of no account.
    fn end_stream(&mut self, to: RequestId) {
        self.renewals.waiting.remove(&to);
        self.shard.handle(Input::Forget { to });
    }

    /// A renewal is answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(super) fn renewed(&mut self, to: RequestId, ready: Ready) -> Result<(), String> {
        self.mix(format!("{ready:?}").as_bytes());
        self.is_changed = true;
        let Some(waiting) = self.renewals.waiting.get_mut(&to) else { return Ok(()) };
        let Some(asked) = waiting.pop_front() else {
            return Err(format!("{ready:?} for {to:?}, who asked for no more"));
        };
        let wrong = |what: &str| Err(format!("{asked:?} is answered {ready:?}: {what}"));
        match &ready {
            Ready::Result(Ok(Response { header, body: Body::LeaseKeepAlive { id, ttl } })) => {
                if id.0 != asked.id {
                    return wrong("out of order");
                }
                if header.revision.0 != asked.revision {
                    return wrong("the revision is not of the time of asking");
                }
                if *ttl > 0 {
                    self.oracle.leases.lives(asked.id, asked.at, *ttl);
                    self.counts.renewals += 1;
                }
                self.oracle.check_renewal(asked.id, *ttl, asked.told_at)
            }
            Ready::Result(Err(Failure::Unavailable(Unavailable::Timeout)))
                if self.now >= asked.at + self.swarm.config.request_timeout =>
            {
                self.end_stream(to);
                Ok(())
            }
            Ready::Result(Err(Failure::Unavailable(
                Unavailable::TooManyRequests | Unavailable::Stopped,
            ))) => {
                self.end_stream(to);
                Ok(())
            }
            Ready::Result(_) | Ready::Range(_) | Ready::List(_) => wrong("no such answer"),
        }
    }

    /// Nobody renews any lease: each ends, with its keys.
    pub(super) fn let_leases_end(&mut self) -> Result<(), String> {
        let longest = self.oracle.known_leases().values().copied().max().unwrap_or(0);
        self.now += u64::try_from(longest + 10).expect("a lease lasts") * 1000;
        self.tick_now();
        for _ in 0..ENDING_ROUNDS_MAX {
            if self.shard.lessor().is_empty() && self.renewals.is_empty() {
                return Ok(());
            }
            self.quiet_round()?;
        }
        Err(format!("leases do not end: {:?}", self.shard.lessor()))
    }
}
