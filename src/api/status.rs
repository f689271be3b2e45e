//! How a call ends: gRPC's codes, the exact texts clients match on, and their bytes as trailers.

use crate::mvcc::Refusal;
use crate::shard::request::Failure;
use crate::shard::request::LeaseRefusal;
use crate::shard::request::MemberRefusal;
use crate::shard::request::Unavailable;
use std::borrow::Cow;

/// gRPC's status codes, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The caller gave up.
    Canceled = 1,
    /// No better code; etcd's own for two of its errors.
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// The caller's time ran out.
    DeadlineExceeded = 4,
    /// The thing asked for is not there.
    NotFound = 5,
    /// A limit was met.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// A revision outside what is kept.
    OutOfRange = 11,
    /// Not built.
    Unimplemented = 12,
    /// The bytes do not make sense.
    Internal = 13,
    /// Try again; the outcome may be unknown.
    Unavailable = 14,
}

impl Code {
    /// The code's number as `grpc-status` carries it.
    pub(crate) fn digits(self) -> &'static [u8] {
        match self {
            Self::Ok => b"0",
            Self::Canceled => b"1",
            Self::Unknown => b"2",
            Self::InvalidArgument => b"3",
            Self::DeadlineExceeded => b"4",
            Self::NotFound => b"5",
            Self::ResourceExhausted => b"8",
            Self::FailedPrecondition => b"9",
            Self::OutOfRange => b"11",
            Self::Unimplemented => b"12",
            Self::Internal => b"13",
            Self::Unavailable => b"14",
        }
    }
}

/// The end of a call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its code.
    pub code: Code,
    /// What a person reads and a client compares.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A status with a text known at build time.
    #[must_use]
    pub const fn fixed(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    /// A status with a text made for the occasion.
    #[must_use]
    pub fn made(code: Code, message: String) -> Self {
        Self { code, message: Cow::Owned(message) }
    }
}

/// What grpc-go answers when a request's bytes are no protobuf message.
pub const MALFORMED: Status = Status::fixed(
    Code::Internal,
    "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
);

/// What grpc-go answers when a request to a call that streams is no protobuf message.
pub const MALFORMED_OF_STREAM: Status = Status::fixed(
    Code::Internal,
    "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data",
);

impl From<&Failure> for Status {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::from(refusal),
            Failure::Lease(refusal) => Self::from(refusal),
            Failure::Member(refusal) => Self::from(refusal),
            Failure::Unavailable(unavailable) => Self::from(unavailable),
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::Compacted | Refusal::FutureRevision => Code::OutOfRange,
            Refusal::EmptyKey
            | Refusal::KeyNotFound
            | Refusal::ValueProvided
            | Refusal::LeaseProvided
            | Refusal::InvalidSortOption
            | Refusal::TooManyOps
            | Refusal::DuplicateKey => Code::InvalidArgument,
            Refusal::LeaseNotFound => Code::NotFound,
        };
        Self::made(code, refusal.to_string())
    }
}

impl From<&LeaseRefusal> for Status {
    fn from(refusal: &LeaseRefusal) -> Self {
        let code = match refusal {
            LeaseRefusal::NotFound => Code::NotFound,
            LeaseRefusal::Exists => Code::FailedPrecondition,
            LeaseRefusal::TtlTooLarge => Code::OutOfRange,
        };
        Self::made(code, refusal.to_string())
    }
}

impl From<&MemberRefusal> for Status {
    fn from(refusal: &MemberRefusal) -> Self {
        let code = match refusal {
            // etcd's server gives this error no code of its own (spec §1.10, wire quirks).
            MemberRefusal::NotEnoughStarted => Code::Unknown,
            MemberRefusal::BadUrls => Code::InvalidArgument,
            MemberRefusal::NotFound => Code::NotFound,
            MemberRefusal::Unhealthy => Code::Unavailable,
            MemberRefusal::Exists
            | MemberRefusal::PeerUrlExists
            | MemberRefusal::NotLearner
            | MemberRefusal::LearnerNotReady
            | MemberRefusal::TooManyLearners => Code::FailedPrecondition,
        };
        Self::made(code, refusal.to_string())
    }
}

impl From<&Unavailable> for Status {
    fn from(unavailable: &Unavailable) -> Self {
        let code = match unavailable {
            // etcd's server gives this error no code of its own (spec §1.10, wire quirks).
            Unavailable::TooManyRequests | Unavailable::TransferTimeout => Code::Unknown,
            Unavailable::TooLarge => Code::InvalidArgument,
            Unavailable::Timeout
            | Unavailable::TimeoutLeaderFailed
            | Unavailable::TimeoutConnectionLost
            | Unavailable::NoLeader
            | Unavailable::LeaderChanged
            | Unavailable::Stopped => Code::Unavailable,
            Unavailable::Learner | Unavailable::NotLeader | Unavailable::BadTransferee => {
                Code::FailedPrecondition
            }
            Unavailable::SortTooLarge => Code::ResourceExhausted,
        };
        Self::made(code, unavailable.to_string())
    }
}

/// Bytes of what a client sent that it is told back. 256: names and times are shorter, so that only
/// nonsense is cut, which a client may send by one index and have repeated for each call.
const ECHO_SIZE_MAX: usize = 256;

/// What a client sent, as text to tell it back in a message; cut if it is long.
pub(crate) fn echo(sent: &[u8]) -> String {
    // A few bytes more, so that a character which is cut does not count as a broken one.
    let sent = &sent[..sent.len().min(ECHO_SIZE_MAX + 3)];
    let mut text = String::from_utf8_lossy(sent).into_owned();
    text.truncate(text.floor_char_boundary(ECHO_SIZE_MAX));
    text
}

/// A message as gRPC puts it into a header: everything outside printable ASCII, and `%`, by percent
/// and two hex digits.
#[must_use]
pub fn percent_encoded(message: &str) -> Cow<'_, [u8]> {
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return Cow::Borrowed(message.as_bytes());
    }
    let hex = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(message.len() * 2);
    for byte in message.bytes() {
        if plain(byte) {
            out.push(byte);
        } else {
            out.extend([b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_as_grpc_does() {
        assert_eq!(&*percent_encoded("etcdserver: no"), b"etcdserver: no");
        assert_eq!(&*percent_encoded("50% é\n"), b"50%25 %C3%A9%0A");
    }

    #[test]
    fn what_is_told_back_is_cut_at_a_character() {
        let long = |text: &str, count: usize| text.repeat(count).into_bytes();
        assert_eq!(echo(b"a/b\xff"), "a/b\u{fffd}");
        assert_eq!(echo(&long("a", 256)), "a".repeat(256));
        assert_eq!(echo(&long("a", 5000)), "a".repeat(256));
        assert_eq!(echo(&long("é", 5000)), "é".repeat(128));
        assert_eq!(echo(&long("€", 5000)), "€".repeat(85));
        assert_eq!(echo(&long("😀", 5000)), "😀".repeat(64));
        assert_eq!(echo(&[b"abc".to_vec(), long("😀", 5000)].concat()), {
            format!("abc{}", "😀".repeat(63))
        });
        assert_eq!(echo(&[0xff; 5000]), "\u{fffd}".repeat(85));
    }
}
