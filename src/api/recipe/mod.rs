//! Locks and elections: calls that are made of others.
//!
//! A lock is a key under its name that its holder's lease keeps alive, and its holder is whose key
//! is the oldest there. An election is the same, with a value. Each call of either service is a
//! machine here that asks the shard like a client would, one request at a time, and watches keys
//! go: a [`Recipe`] says what to do next, its connection's session does it, and tells what came of
//! it.
//!
//! **Invariant:** a recipe has one request or one watcher under way, or has ended.
//!
//! # Source
//! etcd: `server/etcdserver/api/{v3lock,v3election}` over `client/v3/concurrency`; keys, order of
//! requests and errors are theirs. Their errors lose their codes on the way, and so do ours.

mod ask;
mod election;
mod lock;
#[cfg(test)]
mod tests;

use crate::api::call::PREFIX_SIZE;
use crate::api::call::set_prefix;
use crate::api::method::Goal;
use crate::api::proto::etcdserverpb as pb;
use crate::api::status;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::api::watch::WatchRequest;
use crate::shard::request::Request;
use prost::Message;

/// One thing for a session to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Ask the shard; [`Recipe::answered`] takes what it says.
    Ask(Request),
    /// Ask the hub; [`Recipe::watched`] takes what it says.
    Watch(WatchRequest),
    /// Forget what was watched.
    Unwatch,
    /// Send this message, and more may come.
    Send(Vec<u8>),
    /// Send this message, and end well.
    Last(Vec<u8>),
    /// End with this status.
    End(Status),
}

/// A call of one of the two services.
#[derive(Debug)]
pub(crate) enum Recipe {
    /// Of `Lock`.
    Lock(lock::Lock),
    /// Of `Election`.
    Election(election::Election),
}

impl Recipe {
    /// The call with this message, and what to do first.
    ///
    /// # Errors
    /// How it ends at once.
    pub(crate) fn begin(goal: Goal, message: &[u8]) -> Result<(Self, Vec<Do>), Status> {
        let begun = match goal {
            Goal::Lock | Goal::Unlock => {
                lock::Lock::begin(goal, message).map(|(lock, first)| (Self::Lock(lock), first))
            }
            Goal::Campaign | Goal::Proclaim | Goal::Leader | Goal::Observe | Goal::Resign => {
                election::Election::begin(goal, message)
                    .map(|(election, first)| (Self::Election(election), first))
            }
        };
        begun.map_err(without_code)
    }

    /// The shard has answered: a message, or a failure. What to do next.
    pub(crate) fn answered(&mut self, answer: Result<&[u8], Status>) -> Vec<Do> {
        let result = match self {
            Self::Lock(lock) => lock.answered(answer),
            Self::Election(election) => election.answered(answer),
        };
        result.unwrap_or_else(|status| vec![Do::Unwatch, Do::End(without_code(status))])
    }

    /// A watcher's message has come. What to do next.
    pub(crate) fn watched(&mut self, message: &pb::WatchResponse) -> Vec<Do> {
        let result = match self {
            Self::Lock(lock) => lock.watched(message),
            Self::Election(election) => election.watched(message),
        };
        result.unwrap_or_else(|status| vec![Do::Unwatch, Do::End(without_code(status))])
    }

    /// Nobody waits for it any more: what is to be asked of the shard, whose answer nobody takes.
    pub(crate) fn given_up(&mut self) -> Option<Request> {
        match self {
            Self::Lock(lock) => lock.given_up(),
            Self::Election(election) => election.given_up(),
        }
    }
}

/// A failure as it leaves etcd's in-process client: with its text and no code.
fn without_code(status: Status) -> Status {
    if status.code == Code::Internal {
        return status;
    }
    Status { code: Code::Unknown, ..status }
}

/// What the shard answered, as the message it is.
///
/// # Errors
/// It failed, and so does the call.
fn decode<M: Message + Default>(answer: Result<&[u8], Status>) -> Result<M, Status> {
    M::decode(answer?).map_err(|_| status::MALFORMED)
}

/// A request's message.
///
/// # Errors
/// It is none.
fn read<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|_| status::MALFORMED)
}

/// A gRPC message of this.
fn frame(message: &impl Message) -> Vec<u8> {
    let mut out = vec![0; PREFIX_SIZE];
    message.encode(&mut out).expect("a vector takes every message");
    set_prefix(&mut out);
    out
}
