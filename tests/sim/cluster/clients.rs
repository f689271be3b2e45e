//! Clients: they ask, watch and keep leases alive, give up, and go to another node.

use super::call::{MemberOp, Op, Told};
use super::net::{Arrival, Place};
use super::oracle::order::Call;
use super::oracle::watch::{Heard, Watcher};
use super::world::{Event, Line, World};
use crate::client::{self, End};
use pb::LeaseKeepAliveRequest;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::types::NodeId;
use std::collections::BTreeMap;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// What a client does.
#[derive(Debug)]
pub(super) enum Role {
    /// It asks.
    Caller,
    /// It watches, on a stream if there is one.
    Watcher(Box<Watcher>, Option<u32>),
    /// It keeps leases alive: which one, since when, on which stream.
    Keeper(Option<(i64, u64, u32)>),
    /// It changes who belongs to the group, and who leads.
    Operator,
}

/// One client.
pub(super) struct Client {
    pub(super) role: Role,
    /// The node that it speaks to, and how.
    pub(super) node: usize,
    pub(super) conn: Option<u64>,
    pub(super) machine: client::Client,
    /// Since when its oldest request waits.
    pub(super) since: u64,
    /// What it knows of keys.
    known: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Client {
    pub(super) fn new(role: Role, machine: client::Client) -> Self {
        Self { role, node: 0, conn: None, machine, since: 0, known: BTreeMap::new() }
    }
}

/// The keys that no lease ever has.
pub(super) fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|nth| format!("k{nth}").into_bytes()).collect()
}

impl World {
    pub(super) fn begin_clients(&mut self) {
        let keys = keys(self.swarm.keys);
        let mut roles: Vec<Role> = (0..self.swarm.clients).map(|_| Role::Caller).collect();
        for _ in 0..self.swarm.watchers {
            let key = self.dice.chance(50).then(|| self.dice.pick(&keys));
            let watcher = Watcher::new(key, self.dice.chance(50), 1);
            roles.push(Role::Watcher(Box::new(watcher), None));
        }
        if self.swarm.leases > 0 {
            roles.push(Role::Keeper(None));
        }
        if self.swarm.faults.moves > 0 {
            roles.push(Role::Operator);
        }
        for role in roles {
            let machine = client::Client::new(self.swarm.manner);
            self.clients.push(Client::new(role, machine));
            let after = self.dice.below(500);
            self.after(after, Event::Think(self.clients.len() - 1));
        }
    }

    /// A client does something.
    pub(super) fn think(&mut self, nth: usize) {
        let most = match self.clients[nth].role {
            Role::Caller => self.swarm.think_max,
            Role::Watcher(..) | Role::Keeper(_) => 300,
            Role::Operator => self.swarm.faults.moves,
        };
        let after = 1 + self.dice.below(most);
        self.after(after, Event::Think(nth));
        if self.clients[nth].conn.is_none() && !self.connect(nth) {
            return;
        }
        let is_late = self.clients[nth].machine.waiting() > 0
            && self.now > self.clients[nth].since + self.swarm.patience;
        if is_late {
            return self.leave(nth);
        }
        match self.clients[nth].role {
            Role::Caller if self.is_quiet => {}
            Role::Caller => {
                if self.clients[nth].machine.waiting() < self.swarm.pipelined {
                    let op = self.some_op(nth);
                    self.ask(nth, op);
                }
            }
            Role::Watcher(..) => self.watch(nth),
            Role::Keeper(_) if self.is_quiet => {}
            Role::Keeper(_) => self.keep(nth),
            Role::Operator if self.is_quiet || self.clients[nth].machine.waiting() > 0 => {}
            Role::Operator => self.operate(nth),
        }
        self.flush_client(nth);
    }

    /// A client goes to some node that serves; whether it is there.
    fn connect(&mut self, nth: usize) -> bool {
        let serves = |at: &usize| {
            let process = self.nodes[*at].process.as_ref();
            let is_open = process.is_some_and(|it| it.is_ready && it.stopping.is_none());
            let (here, there) = (Place::Client(nth), Place::Node(*at));
            is_open && !self.net.is_blocked(here, there) && !self.net.is_blocked(there, here)
        };
        let serving: Vec<usize> = (0..self.nodes.len()).filter(serves).collect();
        if serving.is_empty() {
            return false;
        }
        let at = self.dice.pick(&serving);
        self.join(nth, at);
        true
    }

    /// A client goes to this node.
    pub(super) fn join(&mut self, nth: usize, at: usize) {
        let conn = self.net.open(Place::Client(nth), Place::Node(at));
        self.process(at).accept(conn);
        let client = &mut self.clients[nth];
        (client.node, client.conn) = (at, Some(conn));
        client.machine = client::Client::new(self.swarm.manner);
    }

    /// A client goes away, without waiting for what it asked.
    pub(super) fn leave(&mut self, nth: usize) {
        if let Some(conn) = self.clients[nth].conn {
            self.close(conn, Place::Client(nth));
            self.lose(nth);
        }
    }

    /// A client's connection is gone: what it waited for it will not know.
    fn lose(&mut self, nth: usize) {
        let client = &mut self.clients[nth];
        client.conn = None;
        for call in client.machine.calls() {
            self.calls[call].told = Some(Told::Unknown);
            self.counts.unknown += 1;
        }
        client.machine = client::Client::new(self.swarm.manner);
        match &mut client.role {
            Role::Watcher(_, stream) => *stream = None,
            Role::Keeper(kept) => *kept = None,
            Role::Caller | Role::Operator => {}
        }
    }

    /// A client asks.
    pub(super) fn ask(&mut self, nth: usize, op: Op) {
        let (path, message) = op.encode();
        let call = self.calls.len();
        let Self { clients, dice, .. } = self;
        let client = &mut clients[nth];
        if client.machine.waiting() == 0 {
            client.since = self.now;
        }
        let deadline = dice.chance(3).then(|| 1 + dice.below(2_000));
        client.machine.call(call, path, &message, deadline, dice);
        let node = client.node;
        self.remark(Line::Asks(nth, node, call));
        self.count += 1;
        self.calls.push(Call {
            op,
            node,
            asked: self.count,
            answered: None,
            at: self.now,
            known: self.order.known,
            told: None,
        });
        self.counts.calls += 1;
    }

    /// Sends what a client has to say.
    pub(super) fn flush_client(&mut self, nth: usize) {
        let Self { clients, net, dice, now, .. } = self;
        let client = &mut clients[nth];
        let Some(conn) = client.conn else { return };
        let n = net.room(conn, 0).min(client.machine.out.len());
        if n > 0 {
            let bytes: Vec<u8> = client.machine.out.drain(..n).collect();
            let dues = net.send(conn, 0, &bytes, *now, dice);
            let dues: Vec<_> = dues.into_iter().map(|due| (due, conn, 0)).collect();
            self.expect(&dues);
        }
    }

    pub(super) fn arrive_at_client(
        &mut self,
        nth: usize,
        conn: u64,
        arrival: &Arrival,
    ) -> Result<(), String> {
        if self.clients[nth].conn != Some(conn) {
            return Ok(());
        }
        match arrival {
            Arrival::Ended => self.lose(nth),
            Arrival::Bytes(bytes) => {
                for answer in self.clients[nth].machine.receive(bytes)? {
                    self.answered(nth, answer.call, &answer.end)?;
                }
                self.hear(nth)?;
                self.flush_client(nth);
            }
            Arrival::Later(_) | Arrival::Nothing => {}
        }
        Ok(())
    }

    /// A client reads an answer.
    fn answered(&mut self, nth: usize, at: usize, end: &End) -> Result<(), String> {
        self.count += 1;
        let call = &mut self.calls[at];
        let told = call.op.told(end)?;
        call.answered = Some(self.count);
        call.told = Some(told.clone());
        self.clients[nth].since = self.now;
        let call = call.clone();
        self.remark(Line::Told(nth, at));
        self.order.look(&call, &self.truth)?;
        match told {
            Told::Unknown => self.counts.unknown += 1,
            Told::Refused(_) => self.counts.refused += 1,
            Told::Put { .. }
            | Told::Delete { .. }
            | Told::Rows { .. }
            | Told::Swap { .. }
            | Told::Both { .. }
            | Told::Hash { .. }
            | Told::Members(_)
            | Told::Added(..)
            | Told::Done { .. } => {
                self.counts.done += 1;
                self.counts.compactions += u64::from(matches!(call.op, Op::Compact { .. }));
            }
        }
        self.learn(nth, &call.op, &told);
        match (&call.op, told) {
            (_, Told::Hash { revision, floor, hash }) => {
                self.states.look_at_hash((revision, floor, hash))
            }
            (Op::Grant { id, ttl }, Told::Done { .. }) => {
                let born = self.states.last;
                self.leases.granted(*id, *ttl, call.at, born);
                Ok(())
            }
            (Op::Member(MemberOp::Remove { id }), Told::Members(_)) => {
                self.configs.told(NodeId(*id), false);
                Ok(())
            }
            (_, Told::Added(member, _)) => {
                self.configs.told(NodeId(member.id), true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A client keeps what it was told of a key.
    fn learn(&mut self, nth: usize, op: &Op, told: &Told) {
        let known = &mut self.clients[nth].known;
        let value = |pair: Option<&ringd::api::proto::mvccpb::KeyValue>| {
            pair.map(|pair| pair.value.to_vec())
        };
        match (op, told) {
            (Op::Put { key, value, .. }, Told::Put { .. })
            | (Op::Swap { key, value, .. }, Told::Swap { succeeded: true, .. }) => {
                known.insert(key.clone(), Some(value.clone()));
            }
            (Op::Swap { key, .. }, Told::Swap { found, .. }) => {
                known.insert(key.clone(), value(found.as_ref()));
            }
            (Op::Get { key, .. }, Told::Rows { rows, .. }) => {
                known.insert(key.clone(), value(rows.first()));
            }
            (Op::Delete { key }, Told::Delete { .. }) => {
                known.insert(key.clone(), None);
            }
            _ => {}
        }
    }

    /// What a client asks next.
    fn some_op(&mut self, nth: usize) -> Op {
        let (mark, known) = (self.calls.len(), self.order.known);
        let only_reads = self.is_duel_of_readers();
        let Self { swarm, dice, clients, leases, .. } = self;
        let key = dice.pick(&keys(swarm.keys));
        let mut value = |of: &str| {
            let size = dice.index(swarm.value_size);
            let mut value = format!("{mark}{of}:").into_bytes();
            value.resize(value.len() + size, b'.');
            value
        };
        let (one, two) = (value(""), value("b"));
        if dice.chance(swarm.leases) && !only_reads {
            let live = leases.live();
            let id = 1_000 + i64::try_from(mark).expect("few");
            return match dice.below(5) {
                0 | 1 => Op::Grant { id, ttl: dice.pick(&[1, 2, 4]) },
                2 if !live.is_empty() => {
                    let id = dice.pick(&live);
                    leases.revoke(id);
                    Op::Revoke { id }
                }
                _ if live.is_empty() => Op::Grant { id, ttl: 2 },
                _ => {
                    let key = format!("l{}", dice.below(4)).into_bytes();
                    Op::Put { key, value: one, lease: dice.pick(&live) }
                }
            };
        }
        let before = |dice: &mut crate::dice::Dice| {
            (known - i64::try_from(dice.below(12)).expect("few")).max(1)
        };
        if dice.chance(swarm.compacts) && !only_reads {
            return Op::Compact { revision: before(dice) };
        }
        if dice.chance(swarm.upkeep) {
            return dice.pick(&[Op::Hash, Op::Hash, Op::Defragment, Op::Member(MemberOp::List)]);
        }
        if dice.chance(swarm.reads) || only_reads {
            let serializable = dice.chance(swarm.serializable);
            return match dice.below(6) {
                0 => Op::All { revision: 0, serializable },
                1 => Op::All { revision: before(dice), serializable },
                _ => Op::Get { key, serializable },
            };
        }
        if dice.chance(swarm.txns) {
            if swarm.keys > 1 && dice.chance(30) {
                let all = keys(swarm.keys);
                let at = dice.index(all.len() - 1);
                let keys = [all[at].clone(), all[at + 1].clone()];
                return Op::Both { keys, values: [one, two] };
            }
            let expect = clients[nth].known.get(&key).cloned().flatten();
            return Op::Swap { key, expect, value: one };
        }
        if dice.chance(swarm.deletes) {
            return Op::Delete { key };
        }
        Op::Put { key, value: one, lease: 0 }
    }

    /// Whoever watches asks for it, or how far it is; now and then it goes elsewhere.
    fn watch(&mut self, nth: usize) {
        let is_moving = !self.is_quiet && self.dice.chance(4);
        if is_moving {
            return self.leave(nth);
        }
        let Self { clients, dice, .. } = self;
        let Client { role: Role::Watcher(watcher, stream), machine, .. } = &mut clients[nth] else {
            unreachable!("it watches")
        };
        match stream {
            None => {
                let opened = machine.open(WATCH, dice);
                machine.send(opened, &watcher.ask(), dice);
                *stream = Some(opened);
            }
            Some(stream) if self.is_quiet || dice.chance(20) => {
                machine.send(*stream, &Watcher::ask_progress(), dice);
            }
            Some(_) => {}
        }
    }

    /// Whoever keeps leases asks that one may live on.
    fn keep(&mut self, nth: usize) {
        let live = self.leases.live();
        let Self { clients, dice, .. } = self;
        let Client { role: Role::Keeper(kept), machine, .. } = &mut clients[nth] else {
            unreachable!("it keeps leases")
        };
        if let Some((_, since, _)) = kept {
            if self.now > *since + self.swarm.patience {
                self.leave(nth);
            }
            return;
        }
        if !live.is_empty() {
            let id = dice.pick(&live);
            let stream = machine.open(KEEP_ALIVE, dice);
            machine.send(stream, &LeaseKeepAliveRequest { id }.encode_to_vec(), dice);
            *kept = Some((id, self.now, stream));
        }
    }

    /// A client reads what came on its streams.
    fn hear(&mut self, nth: usize) -> Result<(), String> {
        for (stream, heard) in self.clients[nth].machine.take_heard() {
            let client = &mut self.clients[nth];
            match (&mut client.role, heard) {
                (Role::Watcher(watcher, own), client::Heard::Message(bytes)) => {
                    match watcher.hear(&bytes, &self.truth)? {
                        Heard::On(revision) => self.order.known = self.order.known.max(revision),
                        Heard::Over => {
                            client.machine.abandon(stream);
                            *own = None;
                        }
                    }
                }
                // A learner refuses streams, as long as it is one: others do not.
                (Role::Watcher(..) | Role::Keeper(_), client::Heard::Over(_)) => {
                    self.leave(nth);
                    return Ok(());
                }
                (Role::Keeper(kept), client::Heard::Message(bytes)) => {
                    let told = pb::LeaseKeepAliveResponse::decode(&bytes[..]);
                    let told = told.map_err(|error| error.to_string())?;
                    if let Some((id, since, _)) = kept.take()
                        && told.ttl > 0
                    {
                        self.leases.renewed(id, since);
                    }
                    client.machine.abandon(stream);
                }
                (Role::Caller | Role::Operator, heard) => {
                    return Err(format!("client {nth} hears {heard:?} and has no stream"));
                }
            }
        }
        Ok(())
    }
}
