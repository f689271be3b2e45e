//! The driver of a process: its turns, its disks and its connections, as the server's core has
//! them.

use super::net::{Arrival, Place};
use super::peers::Act;
use super::planted::Bug;
use super::process::{Out, Process, Work};
use super::world::{Event, TICK, World};
use crate::node;
use crate::store::node as store_node;
use bytes::Bytes;
use ringd::peer::Kind;
use ringd::shard::peer::Packet;
use ringd::shard::request::RequestId;
use ringd::shard::watch::Told;
use ringd::shard::{Input, Output, Ready};
use ringd::types::NodeId;
use ringd::{store, wal};

/// The core that the oracle's own watcher is on.
pub(super) const ORACLE: u32 = 9;
/// Answers that a turn makes.
const SERVES_MAX: usize = 100;

impl World {
    /// The process of a node that runs.
    pub(super) fn process(&mut self, nth: usize) -> &mut Process {
        self.nodes[nth].process.as_mut().expect("it runs")
    }

    /// Something has happened to a node: it takes a turn.
    pub(super) fn call(&mut self, nth: usize) {
        let after = self.dice.below(2);
        let node = &mut self.nodes[nth];
        let life = node.life;
        if let Some(process) = &mut node.process
            && !std::mem::replace(&mut process.is_called, true)
        {
            self.after(after, Event::Turn(nth, life));
        }
    }

    pub(super) fn tick(&mut self, nth: usize) {
        let clock = self.nodes[nth].clock(self.now);
        self.process(nth).tick(clock);
        self.settle_peers(nth);
        let (after, life) = (TICK + self.dice.below(3), self.nodes[nth].life);
        self.after(after, Event::Tick(nth, life));
        self.call(nth);
    }

    /// One turn.
    pub(super) fn turn(&mut self, nth: usize) -> Result<(), String> {
        let clock = self.nodes[nth].clock(self.now);
        let has_lease = self.nodes[nth].config.raft.leader_lease;
        let process = self.process(nth);
        process.is_called = false;
        // Reads that trust the clock have to know how late it is; and so has everything else after
        // a pause, as the core sees to.
        if has_lease || clock.since(process.told) > TICK {
            process.told = clock;
            process.shard.handle(Input::Tick(clock));
        }
        process.ask();
        self.drain(nth)?;
        if self.nodes[nth].process.is_none() {
            return Ok(());
        }
        let process = self.process(nth);
        process.pull();
        process.ask();
        for _ in 0..SERVES_MAX {
            if !process.answers.has_pulls() {
                break;
            }
            let mut buffer = Vec::new();
            let served = process.answers.serve(&mut process.shard, &mut buffer);
            if let Some((to, Some(piece))) = served {
                hand_over(process, to, piece);
            }
        }
        self.flush(nth);
        let is_more = self.process(nth).shard.work();
        self.drain(nth)?;
        if self.nodes[nth].process.is_none() {
            return Ok(());
        }
        self.flush(nth);
        self.observe(nth)?;
        let process = self.process(nth);
        if is_more || process.answers.has_pulls() {
            self.call(nth);
        }
        self.stop_if_idle(nth);
        Ok(())
    }

    /// What must hold of a node at any time.
    fn observe(&mut self, nth: usize) -> Result<(), String> {
        let Self { nodes, states, configs, leases, now, bug, .. } = self;
        let node = &mut nodes[nth];
        let process = node.process.as_mut().expect("it runs");
        let leads = process.shard.is_leader() && process.shard.is_ready();
        if leads && !std::mem::replace(&mut process.has_led, true) {
            node.skew += if *bug == Some(Bug::LeaseEarly) { 3_000 } else { 0 };
        }
        process.has_led &= leads;
        let shard = &process.shard;
        let seen = (shard.applied(), shard.header().term, shard.is_leader());
        if std::mem::replace(&mut process.looked, seen) != seen {
            states.look(nth, shard, node.joined)?;
            configs.look(node.id, shard)?;
        }
        leases.look(*now, &process.shard)?;
        if !process.peers.met && process.shard.has_log() {
            node.is_known = true;
            process.peers.met = true;
        }
        process.is_ready |= process.shard.is_ready();
        Ok(())
    }

    /// Does all that a shard asks for.
    fn drain(&mut self, nth: usize) -> Result<(), String> {
        while let Some(process) = &mut self.nodes[nth].process
            && let Some(output) = process.shard.poll()
        {
            match output {
                Output::Wal(command) => self.begin(nth, command),
                Output::Store(command) => self.begin_store(nth, command)?,
                Output::Reply { to, ready } => self.reply(nth, to, ready),
                Output::Rows { to } => process.answers.go_on(to),
                Output::Watch(told) => self.tell_watchers(nth, told)?,
                Output::Role(line) => {
                    let now = self.now;
                    self.nodes[nth].keep_line(now, line);
                }
                Output::Send { to, packet } => self.post(nth, to, packet),
                Output::Peers(others) => {
                    let clock = self.nodes[nth].clock(self.now);
                    self.process(nth).peers.set(&others, clock);
                    self.settle_peers(nth);
                }
                Output::Reopen => self.reopen(nth)?,
                Output::Halt(why) => return self.halt(nth, &why),
            }
        }
        Ok(())
    }

    /// Another shard is recovered from the files of one that moves.
    fn reopen(&mut self, nth: usize) -> Result<(), String> {
        let seed = self.dice.next();
        self.counts.snapshots += 1;
        let node = &mut self.nodes[nth];
        let clock = node.clock(self.now);
        let process = node.process.as_mut().expect("it runs");
        for work in process.works.values_mut() {
            if !matches!(work, Work::StoreRead { .. } | Work::Gone) {
                return Err(format!("node {nth} moves, and {work:?} is under way"));
            }
            *work = Work::Gone;
        }
        if self.bug == Some(Bug::LostTombstone) {
            let block_size = node.config.store.block_size;
            super::tombstone::lose(&mut node.disks.store, block_size);
        }
        let shard = node::recover_as(&node.config, &node.disks, node.log_id, seed, clock)
            .map_err(|why| format!("node {nth} does not go on from a snapshot: {why}"))?;
        let last = std::mem::replace(&mut process.shard, shard);
        drop(process.shard.succeed(*last));
        Ok(())
    }

    fn reply(&mut self, nth: usize, to: RequestId, ready: Ready) {
        let process = self.process(nth);
        let end = process.ends.get(&u64::from(to.connection));
        let takes = end.and_then(|end| end.session.takes(to.stream));
        let is_now = match &ready {
            Ready::Range(_) if takes.is_none() => return,
            Ready::Range(_) => takes == Some(true),
            Ready::Result(_) | Ready::List(_) => true,
        };
        let mut buffer = Vec::new();
        let ready = self.spoil_answer(ready);
        let process = self.process(nth);
        let piece = process.answers.reply(&mut process.shard, to, ready, is_now, &mut buffer);
        if let Some(piece) = piece {
            hand_over(process, to, piece);
        }
    }

    /// The shard tells those who watch, the oracle among them.
    fn tell_watchers(&mut self, nth: usize, told: Told) -> Result<(), String> {
        let told = match told {
            Told::Events { cores, batch } => {
                if cores.contains(&ORACLE) {
                    self.truth.applied(nth, &batch)?;
                }
                if !cores.contains(&0) || self.has(Bug::LostEvents, 5) {
                    return Ok(());
                }
                Told::Events { cores: vec![0], batch }
            }
            Told::Subscribed { to, header } if to.core == ORACLE => {
                return self.truth.begin(nth, header.revision.0);
            }
            Told::Moved { cores, header } => {
                if cores.contains(&ORACLE) {
                    self.truth.begin(nth, header.revision.0)?;
                }
                if !cores.contains(&0) {
                    return Ok(());
                }
                Told::Moved { cores: vec![0], header }
            }
            Told::Subscribed { .. } | Told::Replayed { .. } => told,
        };
        let process = self.process(nth);
        process.hub.told(told, &mut Out(&mut process.ends));
        Ok(())
    }

    /// A packet leaves: now, twice, or later.
    fn post(&mut self, nth: usize, to: NodeId, packet: Packet) {
        let Some(packet) = self.spoil(nth, to, packet) else { return };
        if !self.is_quiet && self.dice.chance(self.swarm.late) {
            self.counts.late += 1;
            let (after, life) = (self.dice.below(400), self.nodes[nth].life);
            return self.after(after, Event::Send(nth, life, to, Box::new(packet)));
        }
        if !self.is_quiet && self.dice.chance(self.swarm.doubled) {
            self.counts.doubled += 1;
            self.say(nth, to, &packet);
        }
        self.say(nth, to, &packet);
    }

    pub(super) fn say(&mut self, nth: usize, to: NodeId, packet: &Packet) {
        self.counts.packets += 1;
        let clock = self.nodes[nth].clock(self.now);
        self.process(nth).peers.say(to, packet, clock);
        self.call(nth);
    }

    /// How long a disk takes.
    fn latency(&mut self, nth: usize) -> u64 {
        let factor = if self.nodes[nth].slow_until > self.now { 40 } else { 1 };
        factor * (1 + self.dice.below(self.swarm.disk_max))
    }

    fn work(&mut self, nth: usize, work: Work) {
        let after = self.latency(nth);
        let life = self.nodes[nth].life;
        let process = self.process(nth);
        process.last_work += 1;
        let number = process.last_work;
        process.works.insert(number, work);
        self.after(after, Event::Done(nth, life, number));
    }

    fn begin(&mut self, nth: usize, command: wal::Command) {
        let is_early = self.has(Bug::AckBeforeDurable, 100);
        let node = &mut self.nodes[nth];
        let process = node.process.as_mut().expect("it runs");
        let work = match command {
            wal::Command::Write { id, file, offset, size } => {
                let mut buffer = vec![0xee; size];
                process.shard.fill(id, &mut buffer);
                let write = node.disks.log.begin(&file.to_string(), offset, buffer);
                if is_early {
                    process.shard.handle(Input::Wal(wal::Event::Written { id }));
                }
                Work::Log { id: (!is_early).then_some(id), write }
            }
            wal::Command::Read { id, file, offset, size } => {
                Work::LogRead { id, file, offset, size }
            }
            wal::Command::Create { .. }
            | wal::Command::Activate { .. }
            | wal::Command::Recycle { .. }
            | wal::Command::Remove { .. }
            | wal::Command::Sync { .. } => {
                node.disks.log.begin_change(node::change(command));
                Work::LogChange
            }
        };
        self.work(nth, work);
    }

    fn begin_store(&mut self, nth: usize, command: store::Command) -> Result<(), String> {
        let node = &mut self.nodes[nth];
        let process = node.process.as_mut().expect("it runs");
        let work = match command {
            store::Command::Write { id, file, offset, size } => {
                let mut buffer = vec![0xee; size];
                process.shard.fill_store(id, &mut buffer);
                let write = node.disks.store.begin(&file.to_string(), offset, buffer);
                Work::Store { id, write }
            }
            store::Command::Read { id, file, offset, size } => {
                if !node.disks.store.has(&file.to_string()) {
                    return Err(format!("node {nth} reads {file}, which is not there"));
                }
                Work::StoreRead { id, file, offset, size }
            }
            store::Command::Create { .. }
            | store::Command::Finish { .. }
            | store::Command::Replace { .. }
            | store::Command::Remove { .. } => {
                node.disks.store.begin_change(store_node::change(command), None);
                Work::StoreChange
            }
        };
        self.work(nth, work);
        Ok(())
    }

    /// Something of a node's disks is done, or fails.
    pub(super) fn done(&mut self, nth: usize, number: u64) -> Result<(), String> {
        let now = self.now;
        let node = &mut self.nodes[nth];
        let process = node.process.as_mut().expect("it runs");
        let work = process.works.remove(&number).expect("it is done once");
        if node.broken.is_some_and(|it| it.1 > now && it.0.strikes(&work)) {
            self.counts.failures += 1;
            self.crash(nth, false);
            return Ok(());
        }
        let (log, store) = (&mut node.disks.log, &mut node.disks.store);
        let input = match work {
            Work::Log { id, write } => {
                log.complete(write);
                id.map(|id| Input::Wal(wal::Event::Written { id }))
            }
            Work::LogRead { id, file, offset, size } => {
                let bytes = Bytes::copy_from_slice(log.read(&file.to_string(), offset, size));
                Some(Input::Wal(wal::Event::Read { id, bytes }))
            }
            Work::LogChange => {
                log.complete_change();
                Some(Input::Wal(wal::Event::Done))
            }
            Work::Store { id, write } => {
                store.complete(write);
                Some(Input::Store(store::Event::Written { id }))
            }
            Work::StoreRead { id, file, offset, size } => {
                let bytes = store.read(&file.to_string(), offset, size);
                if bytes.len() < size {
                    return Err(format!("{file} of node {nth} has no {size} bytes at {offset}"));
                }
                let bytes = Bytes::copy_from_slice(bytes);
                Some(Input::Store(store::Event::Read { id, bytes }))
            }
            Work::StoreChange => {
                store.complete_change();
                Some(Input::Store(store::Event::Done))
            }
            Work::Gone => None,
        };
        if let Some(input) = input {
            process.shard.handle(input);
        }
        self.call(nth);
        Ok(())
    }

    /// Sends all that a node has to say, as far as there is room.
    fn flush(&mut self, nth: usize) {
        let Self { nodes, net, dice, now, .. } = self;
        let clock = nodes[nth].clock(*now);
        let process = nodes[nth].process.as_mut().expect("it runs");
        let (mut dues, mut over) = (Vec::new(), Vec::new());
        let mut send = |conn: u64, bytes: &[u8]| {
            let side = usize::from(net.ends(conn).is_some_and(|it| it[0] != Place::Node(nth)));
            let n = net.room(conn, side).min(bytes.len());
            let due = net.send(conn, side, &bytes[..n], *now, dice);
            dues.extend(due.into_iter().map(|due| (due, conn, side)));
            n
        };
        for (conn, end) in &mut process.ends {
            if !end.session.output().is_empty() {
                let n = send(*conn, end.session.output());
                end.session.sent(n);
            }
            if (end.closing || end.session.is_done()) && end.session.output().is_empty() {
                over.push(*conn);
            }
        }
        process.peers.flush(clock, send);
        for conn in over {
            self.process(nth).lost(conn);
            self.close(conn, Place::Node(nth));
        }
        self.expect(&dues);
        self.settle_peers(nth);
    }

    /// Puts arrivals on the agenda.
    pub(super) fn expect(&mut self, dues: &[(u64, u64, usize)]) {
        for (due, conn, side) in dues {
            self.after(due.saturating_sub(self.now), Event::Arrive(*conn, *side));
        }
    }

    /// One end closes a connection.
    pub(super) fn close(&mut self, conn: u64, place: Place) {
        let Some(ends) = self.net.ends(conn) else { return };
        let side = usize::from(ends[0] != place);
        self.net.close(conn, side);
        let after = self.dice.below(self.swarm.pace.delay_max);
        self.after(after, Event::Arrive(conn, side));
    }

    /// Does what can be done only when nothing is borrowed.
    pub(super) fn settle_peers(&mut self, nth: usize) {
        let Some(process) = &mut self.nodes[nth].process else { return };
        for (from, bytes) in std::mem::take(&mut process.peers.heard) {
            let packet = Packet::decode(bytes).expect("a frame is whole");
            process.shard.handle(Input::Packet { from, packet });
        }
        for from in std::mem::take(&mut process.peers.removed) {
            process.shard.handle(Input::Packet { from, packet: Packet::Removed });
        }
        for peer in std::mem::take(&mut process.peers.up) {
            process.shard.handle(Input::PeerUp { peer });
        }
        for peer in std::mem::take(&mut process.peers.lost) {
            process.shard.handle(Input::PeerLost { peer });
            self.counts.lost += 1;
        }
        for peer in std::mem::take(&mut process.peers.ended) {
            process.shard.handle(Input::PeerEnded { peer });
        }
        for verdict in std::mem::take(&mut process.peers.refusals) {
            self.counts.refuse(verdict);
        }
        let life = self.nodes[nth].life;
        for act in std::mem::take(&mut self.process(nth).peers.acts) {
            match act {
                Act::Dial(to, kind, attempt) => {
                    let after = self.dice.below(self.swarm.pace.delay_max);
                    self.after(after, Event::Dial(nth, life, (to, kind, attempt)));
                }
                Act::Close(conn) => self.close(conn, Place::Node(nth)),
            }
        }
    }

    /// A node calls another.
    pub(super) fn dial(&mut self, nth: usize, to: (NodeId, Kind, u64)) {
        let Some(other) = self.process(nth).peers.target(to.0, to.1, to.2) else {
            return self.dialled(nth, to, None);
        };
        let (from, there) = (Place::Node(nth), Place::Node(other));
        let is_blocked = self.net.is_blocked(from, there) || self.net.is_blocked(there, from);
        let is_there = self.nodes.get(other).is_some_and(|it| it.orphans.is_empty());
        if is_blocked || !is_there {
            // Nobody says no: it takes a while.
            let life = self.nodes[nth].life;
            return self.after(2_000, Event::DialFailed(nth, life, to));
        }
        let clock = self.nodes[other].clock(self.now);
        let listens = self.nodes[other].process.as_mut().filter(|it| it.peers.met);
        let Some(process) = listens else { return self.dialled(nth, to, None) };
        let conn = self.net.open(from, there);
        process.peers.accept(conn, clock);
        self.dialled(nth, to, Some(conn));
    }

    pub(super) fn dialled(&mut self, nth: usize, to: (NodeId, Kind, u64), conn: Option<u64>) {
        let clock = self.nodes[nth].clock(self.now);
        let is_wanted = self.process(nth).peers.dialled(to, conn, clock);
        if let Some(conn) = conn.filter(|_| !is_wanted) {
            self.close(conn, Place::Node(nth));
        }
        self.settle_peers(nth);
        self.call(nth);
    }

    /// Bytes, or the end, have come from one side of a connection.
    pub(super) fn arrive(&mut self, conn: u64, side: usize) -> Result<(), String> {
        let Some(ends) = self.net.ends(conn) else { return Ok(()) };
        if let Place::Node(nth) = ends[1 - side]
            && self.nodes[nth].paused_until > self.now
        {
            let after = self.nodes[nth].paused_until - self.now;
            self.after(after, Event::Arrive(conn, side));
            return Ok(());
        }
        let arrival = self.net.arrive(conn, side, self.now);
        if let Arrival::Later(at) = arrival {
            self.after(at - self.now, Event::Arrive(conn, side));
            return Ok(());
        }
        if arrival == Arrival::Nothing {
            return Ok(());
        }
        if let Arrival::Bytes(bytes) = &arrival {
            self.mix(bytes);
        }
        match ends[1 - side] {
            Place::Client(nth) => self.arrive_at_client(nth, conn, &arrival)?,
            Place::Node(nth) => self.arrive_at_node(nth, conn, &arrival),
        }
        if arrival == Arrival::Ended {
            self.net.leave(conn, 1 - side);
        } else if self.net.is_over(conn, side) {
            // Behind the last of it comes the end.
            let after = self.dice.below(self.swarm.pace.delay_max);
            self.after(after, Event::Arrive(conn, side));
        }
        match ends[side] {
            // There is more room.
            Place::Node(nth) => self.call(nth),
            Place::Client(nth) => self.flush_client(nth),
        }
        Ok(())
    }

    fn arrive_at_node(&mut self, nth: usize, conn: u64, arrival: &Arrival) {
        let clock = self.nodes[nth].clock(self.now);
        let Some(process) = &mut self.nodes[nth].process else { return };
        match (arrival, process.peers.owns(conn)) {
            (Arrival::Bytes(bytes), true) => {
                let has_removed = |id| process.shard.has_removed(id);
                process.peers.receive(conn, bytes, clock, has_removed);
            }
            (Arrival::Bytes(bytes), false) => process.receive(conn, bytes, clock),
            (Arrival::Ended, true) => process.peers.ended(conn, clock),
            (Arrival::Ended, false) => process.lost(conn),
            (Arrival::Later(_) | Arrival::Nothing, _) => {}
        }
        self.settle_peers(nth);
        self.call(nth);
    }
}

/// A piece of an answer goes to its session.
fn hand_over(process: &mut Process, to: RequestId, piece: ringd::api::Piece<&[u8]>) {
    let is_part = matches!(piece, ringd::api::Piece::Part(_));
    if !process.reply(to, piece) && is_part {
        process.forget(to);
    }
}
