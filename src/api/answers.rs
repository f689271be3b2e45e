//! Answers on their way out of one shard: small ones at once, long ones by slices that their
//! connection asks for.
//!
//! A read of keys may be answered with gigabytes. What is made at once is bounded
//! ([`Settings::whole_size_max`]); anything longer is opened as a list of the shard, whose size is
//! known before its first row, so that its message can begin. From then on the connection pulls: it
//! asks for a slice when its client's window and its own output take one, and gets it as a
//! [`Piece`]. So nothing is made that cannot leave, and whoever reads slowly waits alone.
//!
//! A read whose connection has enough to send already is not looked at until that connection
//! pulls; neither is one for which a turn has no time left. Pulls are served in the order they
//! came, and a connection has only so many bytes of them open: that is all the fairness there is.

use crate::api::answer;
use crate::api::call::PREFIX_SIZE;
use crate::api::call::Settings;
use crate::api::kv;
use crate::api::status::Status;
use crate::api::stream::Chunks;
use crate::api::stream::GAP_SIZE;
use crate::api::stream::frame_message;
use crate::shard::Input;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::list::ListHead;
use crate::shard::list::NotNow;
use crate::shard::list::Rows;
use crate::shard::list::Total;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Range;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Bytes of keys and values of an answer that is made in one go. 1 MiB: some hundred
/// microseconds of work, and larger than the pages that most clients ask for.
pub(crate) const WHOLE_SIZE_MAX: usize = 1 << 20;
/// Answers that are not made at a time; one more is refused as too many. What one shard lets
/// wait for a read point by default.
const OPEN_MAX: usize = 65_536;
/// Bytes of requests among them beyond which one more is refused: keys may be as large as requests.
const PARKED_SIZE_MAX: usize = 256 << 20;

/// A piece of an answer on its way from its shard to its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<B> {
    /// Bytes, perhaps none, with more to come: the session asks for it when there is room
    /// ([`Session::pull`](crate::api::Session::pull)).
    Part(B),
    /// The last bytes, or all of them; the call ends well.
    Last(B),
    /// The call ends without bytes, or without further ones.
    End(Status),
}

impl<B> Piece<B> {
    /// The same piece with its bytes held in another way.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Piece<C> {
        match self {
            Self::Part(bytes) => Piece::Part(change(bytes)),
            Self::Last(bytes) => Piece::Last(change(bytes)),
            Self::End(status) => Piece::End(status),
        }
    }
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// The same piece, its bytes borrowed.
    #[must_use]
    pub fn as_slice(&self) -> Piece<&[u8]> {
        match self {
            Self::Part(bytes) => Piece::Part(bytes.as_ref()),
            Self::Last(bytes) => Piece::Last(bytes.as_ref()),
            Self::End(status) => Piece::End(status.clone()),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Part(bytes) | Self::Last(bytes) => bytes.as_ref(),
            Self::End(_) => &[],
        }
    }
}

/// The answers of one shard that are not made yet, or not to their end.
#[derive(Debug)]
pub struct Answers {
    open: BTreeMap<RequestId, Open>,
    /// Bytes of the reads that are not looked at yet.
    parked_size: usize,
    /// Who asked for a slice, in the order of asking.
    pulls: VecDeque<RequestId>,
    /// As [`Settings::whole_size_max`].
    whole_size_max: usize,
    /// Bytes that a stream's messages come near to.
    message_size: usize,
}

/// One of them.
#[derive(Debug)]
struct Open {
    state: State,
    /// Bytes that its connection has asked for and not got; 0 is none.
    pulled: usize,
}

#[derive(Debug)]
enum State {
    /// A read that was not looked at.
    Parked(Range),
    /// The shard measures it.
    Measuring,
    /// One message, its bytes still to come.
    Message { left: u64 },
    /// A message per slice.
    Stream { header: Header, chunks: Chunks },
}

impl Answers {
    /// No answers yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            open: BTreeMap::new(),
            parked_size: 0,
            pulls: VecDeque::new(),
            whole_size_max: settings.whole_size_max,
            message_size: settings.stream_message_size(),
        }
    }

    /// Makes the answer of `ready`, or the first piece of it, in `out`; none if it comes later by
    /// itself.
    ///
    /// `is_now` is false if there is no time or no room for a long one.
    pub fn reply<'a>(
        &mut self,
        shard: &mut Shard,
        to: RequestId,
        ready: Ready,
        is_now: bool,
        out: &'a mut Vec<u8>,
    ) -> Option<Piece<&'a [u8]>> {
        match ready {
            Ready::Result(result) => {
                if !self.open.is_empty() {
                    // A list that could not be opened.
                    self.remove(to);
                }
                Some(answer::result(shard, &result, out))
            }
            Ready::Range(range) if is_now => self.read(shard, to, range, out),
            Ready::Range(range) => Some(self.park(to, range)),
            Ready::List(head) => self.begin(shard, to, head, out),
        }
    }

    /// The connection of `to` has room for about `size` bytes more of its answer.
    pub fn pull(&mut self, to: RequestId, size: usize) {
        if let Some(open) = self.open.get_mut(&to) {
            open.pulled = size.max(1);
            self.pulls.push_back(to);
        }
    }

    /// The shard says that the rows of `to` go on.
    pub fn go_on(&mut self, to: RequestId) {
        if self.open.get(&to).is_some_and(|open| open.pulled > 0) {
            self.pulls.push_back(to);
        }
    }

    /// Nobody waits for the answer of `to` any more; the shard was told, or has to be.
    pub fn forget(&mut self, to: RequestId) {
        self.remove(to);
    }

    /// Whether a slice was asked for that can be tried now.
    #[must_use]
    pub fn has_pulls(&self) -> bool {
        !self.pulls.is_empty()
    }

    /// Serves the slice that was asked for first, in `out`: whose it is, and the piece unless it
    /// comes later by itself. None if nobody asks.
    pub fn serve<'a>(
        &mut self,
        shard: &mut Shard,
        out: &'a mut Vec<u8>,
    ) -> Option<(RequestId, Option<Piece<&'a [u8]>>)> {
        let to = self.pulls.pop_front()?;
        let Some(open) = self.open.get_mut(&to).filter(|open| open.pulled > 0) else {
            return Some((to, None));
        };
        match &mut open.state {
            State::Parked(_) => {
                let Some(State::Parked(range)) = self.remove(to) else {
                    unreachable!("it was just looked at");
                };
                Some((to, self.read(shard, to, range, out)))
            }
            State::Measuring => Some((to, None)),
            State::Message { .. } => Some((to, self.slice(shard, to, out))),
            State::Stream { .. } => Some((to, self.message(shard, to, out))),
        }
    }

    fn remove(&mut self, to: RequestId) -> Option<State> {
        let open = self.open.remove(&to)?;
        if let State::Parked(range) = &open.state {
            self.parked_size -= range.size();
        }
        Some(open.state)
    }

    /// Keeps a read until its connection asks for it.
    fn park(&mut self, to: RequestId, range: Range) -> Piece<&'static [u8]> {
        if self.open.len() >= OPEN_MAX || self.parked_size + range.size() > PARKED_SIZE_MAX {
            return Piece::End(Status::from(&Unavailable::TooManyRequests));
        }
        self.parked_size += range.size();
        self.open.insert(to, Open { state: State::Parked(range), pulled: 0 });
        Piece::Part(&[])
    }

    /// Answers a read at once, or opens it as a list.
    fn read<'a>(
        &mut self,
        shard: &mut Shard,
        to: RequestId,
        range: Range,
        out: &'a mut Vec<u8>,
    ) -> Option<Piece<&'a [u8]>> {
        out.clear();
        out.extend_from_slice(&[0; PREFIX_SIZE]);
        kv::write_header(out, &shard.header());
        let read = shard.read(&range, self.whole_size_max, |row, lease, value| {
            kv::write_row(out, &row, lease, value);
        });
        match read {
            Ok(summary) => {
                kv::write_summary(out, summary.more, summary.count);
                Some(answer::whole(out))
            }
            Err(NotNow::Refused(refusal)) => {
                Some(Piece::End(Status::from(&Failure::Refused(refusal))))
            }
            Err(NotNow::Long) if self.open.len() >= OPEN_MAX => {
                Some(Piece::End(Status::from(&Unavailable::TooManyRequests)))
            }
            Err(NotNow::Long) => {
                self.open.insert(to, Open { state: State::Measuring, pulled: 0 });
                shard.handle(Input::List { to, range, shape: kv::row_len });
                None
            }
        }
    }

    /// A list is open: the beginning of its message, if it is one.
    fn begin<'a>(
        &mut self,
        shard: &mut Shard,
        to: RequestId,
        head: ListHead,
        out: &'a mut Vec<u8>,
    ) -> Option<Piece<&'a [u8]>> {
        out.clear();
        if head.is_stream {
            let chunks = Chunks::new(self.message_size);
            self.open.insert(
                to,
                Open { state: State::Stream { header: head.header, chunks }, pulled: 0 },
            );
            return Some(Piece::Part(out));
        }
        let Some(open) = self.open.get_mut(&to) else {
            // It was forgotten while the shard measured it.
            shard.handle(Input::Forget { to });
            return None;
        };
        out.extend_from_slice(&[0; PREFIX_SIZE]);
        kv::write_header(out, &head.header);
        let Total { count, more } = head.total;
        let around = out.len() - PREFIX_SIZE + kv::summary_len(more, count);
        let size = head.size.saturating_add(u64::try_from(around).expect("usize is 64 bits"));
        let len = u32::try_from(size).ok().filter(|_| size <= answer::MESSAGE_SIZE_MAX);
        let Some(len) = len else {
            self.remove(to);
            shard.handle(Input::Forget { to });
            return Some(Piece::End(answer::too_large(size)));
        };
        out[1..PREFIX_SIZE].copy_from_slice(&len.to_be_bytes());
        *open = Open { state: State::Message { left: head.size }, pulled: 0 };
        Some(Piece::Part(out))
    }

    /// More of a message.
    fn slice<'a>(
        &mut self,
        shard: &mut Shard,
        to: RequestId,
        out: &'a mut Vec<u8>,
    ) -> Option<Piece<&'a [u8]>> {
        let open = self.open.get_mut(&to)?;
        let State::Message { left } = &mut open.state else { return None };
        out.clear();
        let result = shard.rows(to, open.pulled, usize::MAX, |row, lease, value| {
            kv::write_row(out, &row, lease, value);
        });
        let given = u64::try_from(out.len()).expect("usize is 64 bits");
        *left = left.checked_sub(given).expect("a list is as long as it was measured");
        match result {
            Rows::Wait if out.is_empty() => None,
            Rows::Wait | Rows::More => {
                open.pulled = 0;
                Some(Piece::Part(out))
            }
            Rows::Done(total) => {
                assert!(*left == 0, "a list is as long as it was measured");
                kv::write_summary(out, total.more, total.count);
                self.remove(to);
                Some(Piece::Last(out))
            }
            Rows::Lost(failure) => {
                self.remove(to);
                Some(Piece::End(Status::from(&failure)))
            }
        }
    }

    /// The next message of a stream.
    fn message<'a>(
        &mut self,
        shard: &mut Shard,
        to: RequestId,
        out: &'a mut Vec<u8>,
    ) -> Option<Piece<&'a [u8]>> {
        let open = self.open.get_mut(&to)?;
        let State::Stream { header, chunks } = &mut open.state else { return None };
        out.clear();
        out.resize(GAP_SIZE, 0);
        let result = shard.rows(to, open.pulled, chunks.rows_max(), |row, lease, value| {
            kv::write_row(out, &row, lease, value);
        });
        match result {
            Rows::Wait if out.len() == GAP_SIZE => None,
            Rows::More if out.len() == GAP_SIZE => {
                open.pulled = 0;
                Some(Piece::Part(&[]))
            }
            Rows::Wait | Rows::More => {
                open.pulled = 0;
                chunks.sent(out.len() - GAP_SIZE);
                Some(Piece::Part(frame_message(out, None)))
            }
            Rows::Done(total) => {
                let piece = Piece::Last(frame_message(out, Some((header, total))));
                self.open.remove(&to);
                Some(piece)
            }
            Rows::Lost(failure) => {
                self.remove(to);
                Some(Piece::End(Status::from(&failure)))
            }
        }
    }
}
