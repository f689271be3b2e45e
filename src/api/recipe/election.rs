//! The calls of `v3electionpb.Election`.

use crate::api::method::Goal;
use crate::api::proto::etcdserverpb as pb;
use crate::api::proto::mvccpb;
use crate::api::proto::v3electionpb;
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

/// Why a leader's call is refused: it leads no more.
const NOT_LEADER: Status = Status::fixed(Code::Unknown, "election: not leader");
const NO_LEADER: Status = Status::fixed(Code::Unknown, "election: no leader");
const NO_LEADER_FIELD: Status = Status::fixed(Code::Unknown, "\"leader\" field must be provided");

/// One call.
#[derive(Debug)]
pub(crate) struct Election {
    name: Bytes,
    prefix: Bytes,
    value: Bytes,
    /// The key of who calls, the revision that created it, and its lease.
    key: Bytes,
    created: i64,
    lease: i64,
    /// At the campaign's first answer.
    header: Option<pb::ResponseHeader>,
    /// The watcher's id: what comes for an earlier one means nothing.
    watch: i64,
    state: State,
}

/// What a call waits for.
#[derive(Debug)]
enum State {
    /// A lease, with which it goes on like this. ─granted→ that.
    Granting(Goal),
    /// Our key is put. ─it is there→ `Waiting`; ─with another value→ `Changing`.
    Campaigning,
    /// Our key gets this value. ─it has→ `Waiting`.
    Changing,
    /// Older keys go. → ends.
    Waiting(Queue),
    /// Our key is given back because something failed, and this is how the call ends. → ends.
    Failing(Status),
    /// → ends.
    Proclaiming,
    /// → ends.
    Resigning,
    /// The oldest key is read. → ends.
    Asking,
    /// The oldest key is read. ─there is one→ `Following`; ─there is none→ `Awaiting`.
    Looking,
    /// A first key comes. ─it came→ `Following`.
    Awaiting,
    /// The leader's key changes. ─it goes→ `Looking`.
    Following,
}

impl Election {
    pub(super) fn begin(goal: Goal, message: &[u8]) -> Result<(Self, Vec<Do>), Status> {
        let mut election = Self {
            name: Bytes::new(),
            prefix: Bytes::new(),
            value: Bytes::new(),
            key: Bytes::new(),
            created: 0,
            lease: 0,
            header: None,
            watch: 0,
            state: State::Granting(goal),
        };
        let leader = match goal {
            Goal::Campaign => {
                let campaign: v3electionpb::CampaignRequest = read(message)?;
                (election.name, election.value) = (campaign.name, campaign.value);
                election.lease = campaign.lease;
                None
            }
            Goal::Proclaim => {
                let proclaim: v3electionpb::ProclaimRequest = read(message)?;
                election.value = proclaim.value;
                Some(proclaim.leader.ok_or(NO_LEADER_FIELD)?)
            }
            Goal::Resign => {
                let resign: v3electionpb::ResignRequest = read(message)?;
                Some(resign.leader.ok_or(NO_LEADER_FIELD)?)
            }
            Goal::Lock | Goal::Unlock | Goal::Leader | Goal::Observe => {
                let leader: v3electionpb::LeaderRequest = read(message)?;
                (election.name, election.lease) = (leader.name, -1);
                None
            }
        };
        if let Some(leader) = leader {
            (election.name, election.key) = (leader.name, leader.key);
            (election.created, election.lease) = (leader.rev, leader.lease);
        }
        election.prefix = ask::prefix_of(&election.name);
        let first = if election.lease == 0 { vec![ask::grant()?] } else { election.go_on(goal)? };
        Ok((election, first))
    }

    /// There is a lease.
    fn go_on(&mut self, goal: Goal) -> Result<Vec<Do>, Status> {
        let next = match goal {
            Goal::Campaign => {
                self.state = State::Campaigning;
                self.key = ask::key_of(&self.prefix, self.lease);
                let put = ask::put_op(self.key.clone(), self.value.clone(), self.lease);
                let get = ask::range_op(ask::one(self.key.clone()));
                ask::if_created(self.key.clone(), 0, vec![put], vec![get])?
            }
            Goal::Proclaim => {
                self.state = State::Proclaiming;
                self.change()?
            }
            Goal::Resign => {
                self.state = State::Resigning;
                self.resign()?
            }
            Goal::Leader => {
                self.state = State::Asking;
                ask::range(&ask::oldest(&self.prefix))?
            }
            Goal::Lock | Goal::Unlock | Goal::Observe => return self.look(),
        };
        Ok(vec![next])
    }

    /// Gives our key its new value, if it is ours.
    fn change(&self) -> Result<Do, Status> {
        let put = ask::put_op(self.key.clone(), self.value.clone(), self.lease);
        ask::if_created(self.key.clone(), self.created, vec![put], Vec::new())
    }

    /// Deletes our key, if it is ours.
    fn resign(&self) -> Result<Do, Status> {
        let delete = ask::delete_op(self.key.clone());
        ask::if_created(self.key.clone(), self.created, vec![delete], Vec::new())
    }

    /// Looks who leads, to follow it.
    fn look(&mut self) -> Result<Vec<Do>, Status> {
        self.state = State::Looking;
        ask::range(&ask::oldest(&self.prefix)).map(|ask| vec![ask])
    }

    /// Waits until those before us are gone.
    fn wait(&mut self) -> Result<Vec<Do>, Status> {
        let mut queue = Queue::new(self.prefix.clone(), self.created);
        let next = queue.look();
        self.state = State::Waiting(queue);
        next
    }

    pub(super) fn answered(&mut self, answer: Result<&[u8], Status>) -> Result<Vec<Do>, Status> {
        match &mut self.state {
            State::Granting(goal) => {
                let goal = *goal;
                let granted: pb::LeaseGrantResponse = decode(answer)?;
                self.lease = granted.id;
                self.go_on(goal)
            }
            State::Campaigning => self.campaigned(&decode(answer)?),
            State::Changing => match decode::<pb::TxnResponse>(answer) {
                Ok(changed) if changed.succeeded => self.wait(),
                Ok(_) => self.fail(NOT_LEADER),
                Err(status) => self.fail(status),
            },
            State::Waiting(queue) => match queue.answered(answer)? {
                next if next.is_empty() => Ok(vec![Do::Last(self.won())]),
                next => Ok(next),
            },
            State::Failing(status) => Err(status.clone()),
            State::Proclaiming => {
                let changed: pb::TxnResponse = decode(answer)?;
                if !changed.succeeded {
                    return Err(NOT_LEADER);
                }
                let response = v3electionpb::ProclaimResponse { header: changed.header };
                Ok(vec![Do::Last(frame(&response))])
            }
            State::Resigning => {
                let resigned: pb::TxnResponse = decode(answer)?;
                let response = v3electionpb::ResignResponse { header: resigned.header };
                Ok(vec![Do::Last(frame(&response))])
            }
            State::Asking => {
                let found: pb::RangeResponse = decode(answer)?;
                let leader = found.kvs.first().cloned().ok_or(NO_LEADER)?;
                Ok(vec![Do::Last(leads(found.header, leader))])
            }
            State::Looking => self.looked(&decode(answer)?),
            State::Awaiting | State::Following => Ok(Vec::new()),
        }
    }

    fn campaigned(&mut self, answer: &pb::TxnResponse) -> Result<Vec<Do>, Status> {
        self.header = answer.header;
        self.created = ask::revision_of(answer.header.as_ref());
        if let Some(own) = ask::pairs_of(answer, 0).first().filter(|_| !answer.succeeded) {
            self.created = own.create_revision;
            if own.value != self.value {
                self.state = State::Changing;
                return Ok(vec![self.change()?]);
            }
        }
        self.wait()
    }

    fn fail(&mut self, status: Status) -> Result<Vec<Do>, Status> {
        self.state = State::Failing(status);
        Ok(vec![Do::Unwatch, self.resign()?])
    }

    fn won(&self) -> Vec<u8> {
        let leader = v3electionpb::LeaderKey {
            name: self.name.clone(),
            key: self.key.clone(),
            rev: self.created,
            lease: self.lease,
        };
        frame(&v3electionpb::CampaignResponse { header: self.header, leader: Some(leader) })
    }

    /// Who leads was read, to be followed.
    fn looked(&mut self, found: &pb::RangeResponse) -> Result<Vec<Do>, Status> {
        let Some(leader) = found.kvs.first() else {
            self.state = State::Awaiting;
            self.watch += 1;
            let start = ask::revision_of(found.header.as_ref());
            let end = ask::end_of(&self.prefix);
            let create = ask::watch_of(self.prefix.clone(), end, start, self.watch);
            return Ok(vec![Do::Watch(create)]);
        };
        Ok(self.follow(found.header, leader))
    }

    /// Tells of a leader, and follows it from the header's revision on.
    fn follow(&mut self, header: Option<pb::ResponseHeader>, leader: &mvccpb::KeyValue) -> Vec<Do> {
        self.state = State::Following;
        self.watch += 1;
        let start = ask::revision_of(header.as_ref()) + 1;
        let create = ask::watch_of(leader.key.clone(), Bytes::new(), start, self.watch);
        vec![Do::Send(leads(header, leader.clone())), Do::Watch(create)]
    }

    pub(super) fn watched(&mut self, message: &pb::WatchResponse) -> Result<Vec<Do>, Status> {
        if let State::Waiting(queue) = &mut self.state {
            return queue.watched(message);
        }
        if message.watch_id != self.watch {
            return Ok(Vec::new());
        }
        let mut next = Vec::new();
        let is_over = match self.state {
            State::Awaiting => {
                let put = message.events.iter().find(|event| !ask::is_delete(event));
                if let Some(kv) = put.and_then(|put| put.kv.as_ref()) {
                    let header = at(message.header, kv.mod_revision);
                    let mut next = vec![Do::Unwatch];
                    next.extend(self.follow(header, kv));
                    return Ok(next);
                }
                message.canceled
            }
            State::Following => {
                let mut is_gone = message.canceled;
                for event in &message.events {
                    let Some(kv) = event.kv.as_ref() else { continue };
                    if ask::is_delete(event) {
                        is_gone = true;
                        break;
                    }
                    let header = at(message.header, kv.mod_revision);
                    next.push(Do::Send(leads(header, kv.clone())));
                }
                is_gone
            }
            State::Granting(_)
            | State::Campaigning
            | State::Changing
            | State::Waiting(_)
            | State::Failing(_)
            | State::Proclaiming
            | State::Resigning
            | State::Asking
            | State::Looking => false,
        };
        if is_over {
            next.push(Do::Unwatch);
            next.extend(self.look()?);
        }
        Ok(next)
    }

    pub(super) fn given_up(&mut self) -> Option<Request> {
        let waits = matches!(self.state, State::Waiting(_) | State::Changing);
        match self.resign() {
            Ok(Do::Ask(request)) if waits => Some(request),
            Ok(_) | Err(_) => None,
        }
    }
}

/// A header at a revision.
fn at(header: Option<pb::ResponseHeader>, revision: i64) -> Option<pb::ResponseHeader> {
    header.map(|header| pb::ResponseHeader { revision, ..header })
}

fn leads(header: Option<pb::ResponseHeader>, kv: mvccpb::KeyValue) -> Vec<u8> {
    frame(&v3electionpb::LeaderResponse { header, kv: Some(kv) })
}
