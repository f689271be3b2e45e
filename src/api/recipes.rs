//! The locks and elections of one connection: each asks the shard on a stream of its own, which no
//! client can name, as clients' have odd numbers.

use crate::api::answers::Piece;
use crate::api::call::PREFIX_SIZE;
use crate::api::proto::etcdserverpb as pb;
use crate::api::recipe::Do;
use crate::api::recipe::Recipe;
use crate::api::status;
use crate::api::status::Status;
use crate::shard::request::Request;
use prost::Message;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Bytes of an answer that are taken at a time: there is always room.
pub(crate) const ROOM: usize = 64 << 10;
/// Streams of our own are even and below this, as any stream.
const OWN_MAX: u32 = 1 << 31;

/// Whether a stream is one of our own.
pub(crate) fn is_own(stream: u32) -> bool {
    stream.is_multiple_of(2)
}

/// The calls of one connection that are made of others.
#[derive(Debug, Default)]
pub(crate) struct Recipes {
    /// By the stream of our own.
    running: BTreeMap<u32, Running>,
    /// The stream of our own by the client's.
    by_call: BTreeMap<u32, u32>,
    /// The last stream of our own.
    last: u32,
    /// What is to be done, for which stream of our own.
    todo: VecDeque<(u32, Do)>,
}

#[derive(Debug)]
struct Running {
    recipe: Recipe,
    /// The client's stream.
    call: u32,
    /// Of an answer that comes by slices.
    partial: Vec<u8>,
}

impl Recipes {
    /// A client's call begins.
    pub(crate) fn begin(&mut self, call: u32, recipe: Recipe, first: Vec<Do>) {
        let mut own = self.last;
        loop {
            own = if own + 2 < OWN_MAX { own + 2 } else { 2 };
            if !self.running.contains_key(&own) {
                break;
            }
        }
        self.last = own;
        self.running.insert(own, Running { recipe, call, partial: Vec::new() });
        self.by_call.insert(call, own);
        self.plan(own, first);
    }

    fn plan(&mut self, own: u32, todo: Vec<Do>) {
        self.todo.extend(todo.into_iter().map(|next| (own, next)));
    }

    /// Whether there is something to be done.
    pub(crate) fn has_todo(&self) -> bool {
        !self.todo.is_empty()
    }

    /// The next thing to do: on which stream of our own, for which of the client's, and what. A
    /// call that ends with it is over.
    pub(crate) fn next(&mut self) -> Option<(u32, u32, Do)> {
        while let Some((own, next)) = self.todo.pop_front() {
            let Some(running) = self.running.get(&own) else { continue };
            let call = running.call;
            if matches!(next, Do::Last(_) | Do::End(_)) {
                self.remove(own);
            }
            return Some((own, call, next));
        }
        None
    }

    fn remove(&mut self, own: u32) -> Option<Recipe> {
        let running = self.running.remove(&own)?;
        self.by_call.remove(&running.call);
        Some(running.recipe)
    }

    /// The client's calls that are not over.
    pub(crate) fn calls(&self) -> Vec<u32> {
        self.by_call.keys().copied().collect()
    }

    /// Whether the call of a stream of our own is not over.
    pub(crate) fn has(&self, own: u32) -> bool {
        self.running.contains_key(&own)
    }

    /// Nobody waits for a client's call any more: the stream of our own, and what is to be asked of
    /// the shard on it.
    pub(crate) fn give_up(&mut self, call: u32) -> Option<(u32, Option<Request>)> {
        let own = self.by_call.get(&call).copied()?;
        let mut recipe = self.remove(own)?;
        Some((own, recipe.given_up()))
    }

    /// An answer to what was asked, or a piece of one; whether more of it is wanted.
    pub(crate) fn answered(&mut self, own: u32, piece: Piece<&[u8]>) -> bool {
        let Some(running) = self.running.get_mut(&own) else { return false };
        let bytes = match piece {
            Piece::Part(bytes) => {
                running.partial.extend_from_slice(bytes);
                return true;
            }
            Piece::Last(bytes) => {
                running.partial.extend_from_slice(bytes);
                Ok(std::mem::take(&mut running.partial))
            }
            Piece::End(status) => {
                running.partial.clear();
                Err(status)
            }
        };
        let answer = match &bytes {
            Ok(bytes) => bytes.get(PREFIX_SIZE..).ok_or(status::MALFORMED),
            Err(status) => Err(status.clone()),
        };
        let next = running.recipe.answered(answer);
        self.plan(own, next);
        false
    }

    /// Messages of what is watched; false if nobody wants them.
    pub(crate) fn watched(&mut self, own: u32, mut messages: &[u8]) -> bool {
        while let Some((prefix, rest)) = messages.split_first_chunk::<PREFIX_SIZE>() {
            let Some(running) = self.running.get_mut(&own) else { return false };
            let [_, a, b, c, d] = *prefix;
            let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("64 bits");
            let (message, rest) = rest.split_at_checked(len).expect("messages are whole");
            messages = rest;
            let next = match pb::WatchResponse::decode(message) {
                Ok(message) => running.recipe.watched(&message),
                Err(_) => running.recipe.answered(Err(status::MALFORMED)),
            };
            self.plan(own, next);
        }
        self.running.contains_key(&own)
    }

    /// What was asked or watched has ended with a status.
    pub(crate) fn failed(&mut self, own: u32, status: &Status) {
        self.answered(own, Piece::End(status.clone()));
    }
}
