//! The side of a connection that was dialled: it listens.

use crate::peer::Limits;
use crate::peer::format;
use crate::peer::format::Card;
use crate::peer::format::FrameKind;
use crate::peer::format::Hello;
use crate::peer::format::HelloError;
use crate::peer::format::Kind;
use crate::peer::format::Verdict;
use crate::peer::pipe::Fault;
use crate::peer::pipe::Pipe;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;

/// A connection that a member has dialled to this one.
///
/// ```text
/// Greeting ─its greeting is whole─► Asked ─answer─► Open
///     │                               │               │
///     └───────────────────────────────┴───────────────┴─► a fault, or no welcome: over
/// ```
///
/// After a fault its owner sends what [`Self::output`] still has, and closes.
#[derive(Debug)]
pub struct Inlet {
    limits: Limits,
    pipe: Pipe,
    state: State,
    /// Where the member says that it is reached, until it is asked for.
    urls: Option<Vec<String>>,
    began: Tick,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Greeting,
    Asked(Hello),
    Open(Hello),
    Over,
}

impl Inlet {
    /// A connection that has just come.
    #[must_use]
    pub fn new(limits: Limits, now: Tick) -> Self {
        let (pipe, state) = (Pipe::new(limits, now), State::Greeting);
        Self { limits, pipe, state, urls: None, began: now }
    }

    /// Takes in bytes, and hands on each packet.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Tick,
        sink: &mut dyn FnMut(Bytes),
    ) -> Result<(), Fault> {
        let result = match self.state {
            State::Greeting => self.greeted(bytes),
            State::Asked(_) if bytes.is_empty() => Ok(()),
            State::Asked(_) => Err(Fault::Early),
            State::Open(_) => self.heard(bytes, now, sink),
            State::Over => Err(Fault::Ended),
        };
        if result.is_err() {
            self.state = State::Over;
        }
        result
    }

    fn heard(&mut self, bytes: &[u8], now: Tick, sink: &mut dyn FnMut(Bytes)) -> Result<(), Fault> {
        let mut said = None;
        self.pipe.receive(bytes, now, &mut |kind, payload| match kind {
            FrameKind::Urls => said = Some(format::read_urls(&payload)),
            FrameKind::Packet | FrameKind::Ping | FrameKind::Pong => sink(payload),
        })?;
        if let Some(urls) = said {
            self.urls = Some(urls.ok_or(Fault::Urls)?);
        }
        Ok(())
    }

    /// Where the member is reached, if it has just said so.
    pub fn take_urls(&mut self) -> Option<Vec<String>> {
        self.urls.take()
    }

    fn greeted(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some((hello, taken)) = self.pipe.greeting(bytes)? else {
            return Ok(());
        };
        if taken < bytes.len() {
            return Err(Fault::Early);
        }
        self.state = State::Asked(hello);
        Ok(())
    }

    /// The greeting that waits for an answer.
    #[must_use]
    pub fn asked(&self) -> Option<&Hello> {
        match &self.state {
            State::Asked(hello) => Some(hello),
            State::Greeting | State::Open(_) | State::Over => None,
        }
    }

    /// The member that is heard on it, and what it is for.
    #[must_use]
    pub fn peer(&self) -> Option<(NodeId, Kind)> {
        match &self.state {
            State::Open(hello) => Some((hello.card.node, hello.kind)),
            State::Greeting | State::Asked(_) | State::Over => None,
        }
    }

    /// Answers the greeting; anything but a welcome is the connection's end.
    ///
    /// # Panics
    /// If none waits for an answer.
    pub fn answer(&mut self, card: Card, verdict: Verdict) {
        let hello = *self.asked().expect("a greeting waits for an answer");
        let answer = Hello { card, to: hello.card.node, kind: hello.kind, verdict };
        self.pipe.greet(&answer);
        let is_welcome = verdict == Verdict::Welcome;
        self.state = if is_welcome { State::Open(hello) } else { State::Over };
    }

    /// Answers, as far as one can, a greeting of a format that is not known here.
    pub fn answer_fault(&mut self, card: Card, fault: Fault) {
        if matches!(fault, Fault::Hello(HelloError::Format(_))) {
            let (to, kind, verdict) = (NodeId(0), Kind::Raft, Verdict::Format);
            self.pipe.greet(&Hello { card, to, kind, verdict });
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn tick(&mut self, now: Tick) -> Result<(), Fault> {
        let result = match self.state {
            State::Greeting | State::Asked(_)
                if now.since(self.began) > self.limits.greeting_max =>
            {
                Err(Fault::NoGreeting)
            }
            State::Greeting | State::Asked(_) => Ok(()),
            State::Open(_) => self.pipe.tick(now),
            State::Over => Err(Fault::Ended),
        };
        if result.is_err() {
            self.state = State::Over;
        }
        result
    }

    /// Bytes to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.pipe.output()
    }

    /// So many of them have left.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn sent(&mut self, n: usize, now: Tick) {
        self.pipe.sent(n, now);
    }

    /// Bytes of memory that what is not whole takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pipe.held()
    }
}
