//! The calls of `v3lockpb.Lock`.

use crate::api::method::Goal;
use crate::api::proto::etcdserverpb as pb;
use crate::api::proto::v3lockpb;
use crate::api::recipe::Do;
use crate::api::recipe::ask;
use crate::api::recipe::ask::Queue;
use crate::api::recipe::decode;
use crate::api::recipe::frame;
use crate::api::recipe::read;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::shard::request::Request;
use bytes::Bytes;

/// One call.
#[derive(Debug)]
pub(crate) struct Lock {
    prefix: Bytes,
    /// Our key, once there is a lease for it.
    key: Bytes,
    state: State,
}

/// What a call waits for.
#[derive(Debug)]
enum State {
    /// A lease. ─granted→ `Acquiring`.
    Granting,
    /// Our key is put. ─it is the oldest→ ends; ─it is not→ `Waiting`.
    Acquiring,
    /// Older keys go. ─all are gone→ `Confirming`.
    Waiting(Queue),
    /// Whether our own key is still there. → ends.
    Confirming,
    /// The lock is given back because waiting failed, and this is how the call ends. → ends.
    Failing(Status),
    /// A key is deleted. → ends.
    Unlocking,
}

impl Lock {
    pub(super) fn begin(goal: Goal, message: &[u8]) -> Result<(Self, Vec<Do>), Status> {
        if goal == Goal::Unlock {
            let unlock: v3lockpb::UnlockRequest = read(message)?;
            let lock = Self { prefix: Bytes::new(), key: Bytes::new(), state: State::Unlocking };
            let first = ask::delete(unlock.key)?;
            return Ok((lock, vec![first]));
        }
        let lock: v3lockpb::LockRequest = read(message)?;
        let prefix = ask::prefix_of(&lock.name);
        let mut begun = Self { prefix, key: Bytes::new(), state: State::Granting };
        let first =
            if lock.lease == 0 { vec![ask::grant()?] } else { begun.acquire(lock.lease)? };
        Ok((begun, first))
    }

    fn acquire(&mut self, lease: i64) -> Result<Vec<Do>, Status> {
        self.key = ask::key_of(&self.prefix, lease);
        self.state = State::Acquiring;
        let owner = || ask::range_op(ask::oldest(&self.prefix));
        let put = ask::put_op(self.key.clone(), Bytes::new(), lease);
        let get = ask::range_op(ask::one(self.key.clone()));
        let ask = ask::if_created(self.key.clone(), 0, vec![put, owner()], vec![get, owner()])?;
        Ok(vec![ask])
    }

    pub(super) fn answered(&mut self, answer: Result<&[u8], Status>) -> Result<Vec<Do>, Status> {
        match &mut self.state {
            State::Granting => {
                let granted: pb::LeaseGrantResponse = decode(answer)?;
                self.acquire(granted.id)
            }
            State::Acquiring => self.acquired(&decode(answer)?),
            State::Waiting(queue) => match queue.answered(answer) {
                Ok(next) if next.is_empty() => {
                    self.state = State::Confirming;
                    Ok(vec![ask::range(&ask::one(self.key.clone()))?])
                }
                Ok(next) => Ok(next),
                Err(status) => self.fail(status),
            },
            State::Confirming => match decode::<pb::RangeResponse>(answer) {
                Ok(found) if found.kvs.is_empty() => {
                    Err(Status::fixed(Code::Unknown, "mutex: session is expired"))
                }
                Ok(found) => Ok(self.held(found.header)),
                Err(status) => self.fail(status),
            },
            State::Failing(status) => Err(status.clone()),
            State::Unlocking => {
                let deleted: pb::DeleteRangeResponse = decode(answer)?;
                let response = v3lockpb::UnlockResponse { header: deleted.header };
                Ok(vec![Do::Last(frame(&response))])
            }
        }
    }

    /// Our key is there: it is the oldest, or has to wait.
    fn acquired(&mut self, answer: &pb::TxnResponse) -> Result<Vec<Do>, Status> {
        let created = if answer.succeeded {
            ask::revision_of(answer.header.as_ref())
        } else {
            ask::pairs_of(answer, 0).first().map_or(0, |own| own.create_revision)
        };
        let owner = ask::pairs_of(answer, 1).first();
        if owner.is_none_or(|owner| owner.create_revision == created) {
            return Ok(self.held(answer.header));
        }
        let mut queue = Queue::new(self.prefix.clone(), created);
        let next = queue.look();
        self.state = State::Waiting(queue);
        next
    }

    fn held(&self, header: Option<pb::ResponseHeader>) -> Vec<Do> {
        vec![Do::Last(frame(&v3lockpb::LockResponse { header, key: self.key.clone() }))]
    }

    /// Gives the place in the queue back, then ends.
    fn fail(&mut self, status: Status) -> Result<Vec<Do>, Status> {
        self.state = State::Failing(status);
        Ok(vec![Do::Unwatch, ask::delete(self.key.clone())?])
    }

    pub(super) fn watched(&mut self, message: &pb::WatchResponse) -> Result<Vec<Do>, Status> {
        match &mut self.state {
            State::Waiting(queue) => queue.watched(message),
            State::Granting
            | State::Acquiring
            | State::Confirming
            | State::Failing(_)
            | State::Unlocking => Ok(Vec::new()),
        }
    }

    pub(super) fn given_up(&mut self) -> Option<Request> {
        match self.state {
            State::Waiting(_) | State::Confirming => match ask::delete(self.key.clone()) {
                Ok(Do::Ask(request)) => Some(request),
                Ok(_) | Err(_) => None,
            },
            State::Granting | State::Acquiring | State::Failing(_) | State::Unlocking => None,
        }
    }
}
