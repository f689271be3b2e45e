//! Frames on one connection, both ways, and whether the other side is still there.

use crate::peer::Limits;
use crate::peer::format;
use crate::peer::format::FrameKind;
use crate::peer::format::GREETING_SIZE;
use crate::peer::format::HEADER_SIZE;
use crate::peer::format::Hello;
use crate::peer::format::HelloError;
use crate::peer::format::Verdict;
use crate::types::Tick;
use bytes::Bytes;

/// Bytes of a buffer that stay for the next: what a busy turn has.
const KEPT_SIZE: usize = 1 << 20;

/// Bytes of output from which on no pong is queued.
const PONG_QUEUE_MAX: usize = 4 << 10;

/// Why a connection can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The greeting is none of this format.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The answer to our greeting was no welcome.
    #[error("it was refused: {0:?}")]
    Refused(Verdict),
    /// Who answers is not whom we meant.
    #[error("another member answers")]
    Addressee,
    /// It said more than its greeting before it was welcome.
    #[error("it speaks before it is welcome")]
    Early,
    /// A frame's header is none, or not as it was sent.
    #[error("frame {0} has no header")]
    Header(u64),
    /// A frame's payload is larger than may be.
    #[error("frame {number} has {size} bytes")]
    TooLarge {
        /// The frame.
        number: u64,
        /// Its payload.
        size: u32,
    },
    /// A frame is not as it was sent.
    #[error("frame {0} is damaged, lost or doubled")]
    Damaged(u64),
    /// Where it is reached does not read.
    #[error("its addresses do not read")]
    Urls,
    /// A packet came from the side that only listens.
    #[error("a packet came against the direction")]
    Direction,
    /// The greeting took too long.
    #[error("no greeting came in time")]
    NoGreeting,
    /// The other side is silent.
    #[error("nothing was heard for too long")]
    Silent,
    /// The connection took too long to open.
    #[error("it did not open in time")]
    NoConnection,
    /// The other side ended it, or what carried it broke.
    #[error("it was ended")]
    Ended,
}

/// A ping that has no pong yet.
#[derive(Clone, Copy, Debug)]
struct Ping {
    /// Bytes of output up to its end that have not left.
    left: usize,
    /// When it left, or else when something last did.
    since: Tick,
}

/// One connection after it is open: bytes in, payloads out; payloads in, bytes out.
#[derive(Debug)]
pub(super) struct Pipe {
    limits: Limits,
    /// The beginning of what is not whole.
    input: Vec<u8>,
    /// To be sent: the bytes from `start`.
    output: Vec<u8>,
    start: usize,
    frames_in: u64,
    frames_out: u64,
    heard: Tick,
    ping: Option<Ping>,
}

impl Pipe {
    pub(super) fn new(limits: Limits, now: Tick) -> Self {
        Self {
            limits,
            input: Vec::new(),
            output: Vec::new(),
            start: 0,
            frames_in: 0,
            frames_out: 0,
            heard: now,
            ping: None,
        }
    }

    /// Queues a greeting.
    pub(super) fn greet(&mut self, hello: &Hello) {
        self.output.extend_from_slice(&hello.encode());
    }

    /// Takes in the bytes of a greeting; it and how many of `bytes` it took, once it is whole.
    ///
    /// # Errors
    /// As soon as the bytes can not become one.
    pub(super) fn greeting(&mut self, bytes: &[u8]) -> Result<Option<(Hello, usize)>, Fault> {
        let taken = bytes.len().min(GREETING_SIZE - self.input.len());
        self.input.extend_from_slice(&bytes[..taken]);
        let magic = self.input.len().min(format::MAGIC.len());
        if self.input[..magic] != format::MAGIC[..magic] {
            return Err(HelloError::Magic.into());
        }
        let Ok(whole) = <&[u8; GREETING_SIZE]>::try_from(self.input.as_slice()) else {
            return Ok(None);
        };
        let hello = Hello::decode(whole)?;
        self.input.clear();
        Ok(Some((hello, taken)))
    }

    /// Takes in bytes of frames, and hands on each payload that is not the pipe's own business.
    ///
    /// # Errors
    /// The first thing that is not as it should be; nothing after it is looked at.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        now: Tick,
        sink: &mut dyn FnMut(FrameKind, Bytes),
    ) -> Result<(), Fault> {
        if !bytes.is_empty() {
            (self.heard, self.ping) = (now, None);
        }
        while !bytes.is_empty() {
            let Some(header) = self.peek_header(bytes) else {
                self.input.extend_from_slice(bytes);
                return Ok(());
            };
            let number = self.frames_in;
            let (kind, size) = format::read_header(number, &header).ok_or(Fault::Header(number))?;
            let payload_size = usize::try_from(size).expect("usize is 64 bits");
            if payload_size > self.limits.payload_size_max {
                return Err(Fault::TooLarge { number, size });
            }
            let whole = HEADER_SIZE + payload_size;
            let missing = whole - self.input.len();
            if bytes.len() < missing {
                self.input.extend_from_slice(bytes);
                return Ok(());
            }
            let (rest_of_it, after) = bytes.split_at(missing);
            let payload = if self.input.is_empty() {
                Bytes::copy_from_slice(&rest_of_it[HEADER_SIZE..])
            } else {
                let mut whole = std::mem::take(&mut self.input);
                whole.extend_from_slice(rest_of_it);
                Bytes::from(whole).slice(HEADER_SIZE..)
            };
            bytes = after;
            if !format::is_whole(number, &header, &payload) {
                return Err(Fault::Damaged(number));
            }
            self.frames_in += 1;
            match kind {
                FrameKind::Packet | FrameKind::Urls => sink(kind, payload),
                // Who has that much to read hears us without it.
                FrameKind::Ping if self.output().len() > PONG_QUEUE_MAX => {}
                FrameKind::Ping => self.put(FrameKind::Pong, &[]),
                FrameKind::Pong => {}
            }
        }
        Ok(())
    }

    /// The header of the frame that is due, once all of it has come.
    fn peek_header(&self, bytes: &[u8]) -> Option<[u8; HEADER_SIZE]> {
        let mut header = [0; HEADER_SIZE];
        let kept = self.input.len().min(HEADER_SIZE);
        header[..kept].copy_from_slice(&self.input[..kept]);
        header[kept..].copy_from_slice(bytes.get(..HEADER_SIZE - kept)?);
        Some(header)
    }

    /// Queues a frame.
    pub(super) fn put(&mut self, kind: FrameKind, payload: &[u8]) {
        let header = format::header(self.frames_out, kind, payload);
        self.frames_out += 1;
        self.output.extend_from_slice(&header);
        self.output.extend_from_slice(payload);
    }

    /// Bytes to be sent.
    pub(super) fn output(&self) -> &[u8] {
        &self.output[self.start..]
    }

    /// So many of them have left.
    pub(super) fn sent(&mut self, n: usize, now: Tick) {
        self.start += n;
        assert!(self.start <= self.output.len(), "no more left than there was");
        if let Some(ping) = self.ping.as_mut().filter(|ping| ping.left > 0) {
            ping.left = ping.left.saturating_sub(n);
            ping.since = now;
        }
        if self.start == self.output.len() {
            self.start = 0;
            self.output.clear();
            self.output.shrink_to(KEPT_SIZE);
        } else if self.start > KEPT_SIZE && self.start > self.output.len() / 2 {
            self.output.drain(..self.start);
            self.start = 0;
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Fault::Silent`] if the other side has been for too long.
    pub(super) fn tick(&mut self, now: Tick) -> Result<(), Fault> {
        match self.ping {
            Some(ping) if now.since(ping.since) > self.limits.silence_max => Err(Fault::Silent),
            None if now.since(self.heard) > self.limits.ping_after => {
                // What the other side sends to a ping behind a long queue comes late, not never.
                self.put(FrameKind::Ping, &[]);
                self.ping = Some(Ping { left: self.output().len(), since: now });
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes of memory that what is not whole takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.input.capacity()
    }
}
