//! One core: its connections, its shards, and the turn that moves bytes between them.
//!
//! Connection tasks feed what they received to their session, which hands requests to the shard at
//! once if it lives here. Then, once every task that had something has run, the driver takes its
//! turn: it polls each shard until nothing is left, starts the log's writes, hands answers to their
//! sessions, and sends each connection all it has with one call.
//!
//! Nothing here decides anything: no output is held back, reordered or looked into.

mod connection;
mod pace;
mod peers;
mod watch;

pub(crate) use self::peers::PeerSettings;

use self::connection::Connection;
use self::connection::RECEIVE_SIZE;
use self::pace::Pace;
use self::peers::Peers;
use crate::api::Answers;
use crate::api::Piece;
use crate::api::Settings;
use crate::api::Sink;
use crate::api::status::Status;
use crate::api::watch::Hub;
use crate::api::watch::WatchRequest;
use crate::rt::clock::Clock;
use crate::rt::disk::DiskError;
use crate::rt::disk::LogDisk;
use crate::rt::disk::StoreDisk;
use crate::rt::event::Event;
use crate::rt::memory::Rest;
use crate::rt::mesh::Mesh;
use crate::rt::mesh::Message;
use crate::rt::mesh::Post;
use crate::rt::mesh::Report;
use crate::rt::recover;
use crate::shard::Input;
use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::store;
use crate::types::ShardId;
use crate::types::Tick;
use crate::wal;
use bytes::Bytes;
use glommio::io::DmaBuffer;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of answers that one turn makes before writes, other shards and other connections have
/// theirs: a millisecond or so.
const TURN_SIZE_MAX: usize = 4 << 20;
/// Ticks within which every connection is told the time: more than that and a thousand idle ones
/// take a twentieth of a core, and no timeout of theirs is so short.
const TICK_ROUND: usize = 25;
/// Milliseconds between two ticks, with which shards and sessions are told the time. A turn that
/// begins longer after the last one begins with another.
const TICK_MS: u64 = 20;
/// Connections that are told the time in each tick, if there are so many.
const TICKED_MIN: usize = 64;
/// Bytes of the buffer that answers are made in that stay for the next: twice what is made in one
/// go. Deletions and transactions may be answered with more.
const ANSWER_KEPT_MAX: usize = 2 << 20;
/// Bytes that an attempt to bring more of an answer counts for, beside those it brings.
const SERVE_SIZE: usize = 4 << 10;
/// How long a core waits that could go on at once: it is over when the executor has looked once
/// around.
const BREATH: Duration = Duration::from_micros(2);

/// A shard that lives here, and its files.
struct Host {
    id: ShardId,
    shard: Shard,
    /// How many shards were here before it, one after the other: what was done for another is not
    /// told to this one.
    generation: u32,
    disks: Rc<Disks>,
    opened: bool,
    ready: bool,
    /// Answers that are not made at once.
    answers: Answers,
}

impl Host {
    /// Nobody waits for an answer any more.
    fn forget(&mut self, to: RequestId) {
        self.answers.forget(to);
        self.shard.handle(Input::Forget { to });
    }
}

/// What a shard's files need, its bytes already made.
enum Work {
    Log { id: u64, file: wal::FileId, offset: u64, buffer: DmaBuffer },
    LogRead { id: u64, file: wal::FileId, offset: u64, size: usize },
    LogOther(wal::Command),
    Store { id: u64, file: store::FileId, offset: u64, buffer: DmaBuffer },
    StoreRead { id: u64, file: store::FileId, offset: u64, size: usize },
    StoreOther(store::Command),
}

impl Work {
    fn of_log(shard: &mut Shard, command: wal::Command) -> Self {
        match command {
            wal::Command::Write { id, file, offset, size } => {
                let mut buffer = glommio::allocate_dma_buffer(size);
                shard.fill(id, buffer.as_bytes_mut());
                Self::Log { id, file, offset, buffer }
            }
            wal::Command::Read { id, file, offset, size } => {
                Self::LogRead { id, file, offset, size }
            }
            wal::Command::Create { .. }
            | wal::Command::Activate { .. }
            | wal::Command::Recycle { .. }
            | wal::Command::Remove { .. }
            | wal::Command::Sync { .. } => Self::LogOther(command),
        }
    }

    fn of_store(shard: &mut Shard, command: store::Command) -> Self {
        match command {
            store::Command::Write { id, file, offset, size } => {
                let mut buffer = glommio::allocate_dma_buffer(size);
                shard.fill_store(id, buffer.as_bytes_mut());
                Self::Store { id, file, offset, buffer }
            }
            store::Command::Read { id, file, offset, size } => {
                Self::StoreRead { id, file, offset, size }
            }
            store::Command::Create { .. }
            | store::Command::Finish { .. }
            | store::Command::Replace { .. }
            | store::Command::Remove { .. } => Self::StoreOther(command),
        }
    }

    /// What the shard is told if there is no room for it; none if that ends it.
    fn lack(&self) -> Option<store::Lack> {
        match self {
            Self::Store { id, .. } => Some(store::Lack::Write(*id)),
            Self::StoreOther(store::Command::Create { .. }) => Some(store::Lack::Create),
            Self::StoreOther(_)
            | Self::StoreRead { .. }
            | Self::Log { .. }
            | Self::LogRead { .. }
            | Self::LogOther(_) => None,
        }
    }

    /// Does it; what the shard is to be told.
    ///
    /// # Errors
    /// What failed, and is final: the shard can not go on without it.
    async fn perform(self, disks: &Disks) -> Result<Input, DiskError> {
        let lack = self.lack();
        match (self.attempt(disks).await, lack) {
            (Err(error), Some(lack)) if error.is_of_room() => {
                Ok(Input::NoRoom { lack, why: error.to_string() })
            }
            (done, _) => done,
        }
    }

    async fn attempt(self, disks: &Disks) -> Result<Input, DiskError> {
        let (log, store) = (&disks.log, &disks.store);
        Ok(match self {
            Self::Log { id, file, offset, buffer } => {
                log.write(file, offset, buffer).await?;
                Input::Wal(wal::Event::Written { id })
            }
            Self::LogRead { id, file, offset, size } => {
                let bytes = log.read(file, offset, size).await?.into();
                Input::Wal(wal::Event::Read { id, bytes })
            }
            Self::LogOther(command) => {
                log.perform(command).await?;
                Input::Wal(wal::Event::Done)
            }
            Self::Store { id, file, offset, buffer } => {
                store.write(file, offset, buffer).await?;
                Input::Store(store::Event::Written { id })
            }
            Self::StoreRead { id, file, offset, size } => {
                let bytes = store.read_exact(file, offset, size).await?;
                Input::Store(store::Event::Read { id, bytes })
            }
            Self::StoreOther(command) => {
                store.perform(command).await?;
                Input::Store(store::Event::Done)
            }
        })
    }
}

/// A shard's directories.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) log: LogDisk,
    pub(crate) store: StoreDisk,
}

/// One pinned CPU with its executor.
pub(crate) struct Core {
    index: u32,
    clock: Clock,
    settings: Rc<Settings>,
    mesh: Mesh,
    hosts: RefCell<BTreeMap<ShardId, Host>>,
    connections: RefCell<Vec<Option<Connection>>>,
    vacant: RefCell<Vec<u32>>,
    generation: Cell<u32>,
    /// The watchers of connections here, by the shard that they watch.
    hubs: RefCell<BTreeMap<ShardId, Hub>>,
    peers: RefCell<Peers>,
    /// Connections that have something to send.
    dirty: RefCell<Vec<u32>>,
    /// Connections with calls that ask for others.
    askers: RefCell<Vec<u32>>,
    /// Connections that may have room for more of their answers.
    pullers: RefCell<Vec<u32>>,
    /// By core: what goes there at the end of the turn.
    posts: RefCell<BTreeMap<u32, Post>>,
    refused: RefCell<Vec<RequestId>>,
    receive_buffer: RefCell<Vec<u8>>,
    answer: RefCell<Vec<u8>>,
    turn: Event,
    pace: Pace,
    stopping: Cell<bool>,
    stopped: Cell<bool>,
    halted: Cell<bool>,
    /// When shards were last told the time.
    told: Cell<Tick>,
}

/// Keeps a session's requests until its shard can be borrowed again.
#[derive(Default)]
struct Later(Vec<(u32, Request)>);

impl Sink for Later {
    fn submit(&mut self, stream: u32, request: Request) {
        self.0.push((stream, request));
    }

    /// Taking in an answer ends no other.
    fn forget(&mut self, _stream: u32) {}

    /// Nor does a client's message come with one.
    fn watch(&mut self, _stream: u32, _request: WatchRequest) {}
}

impl Core {
    pub(crate) fn new(
        (index, clock): (u32, Clock),
        (settings, peers): (Settings, PeerSettings),
        mesh: Mesh,
    ) -> Self {
        Self {
            index,
            clock,
            settings: Rc::new(settings),
            mesh,
            hosts: RefCell::default(),
            hubs: RefCell::default(),
            peers: RefCell::new(Peers::new(peers)),
            connections: RefCell::default(),
            vacant: RefCell::default(),
            generation: Cell::new(0),
            dirty: RefCell::default(),
            askers: RefCell::default(),
            pullers: RefCell::default(),
            posts: RefCell::default(),
            refused: RefCell::default(),
            receive_buffer: RefCell::new(vec![0; RECEIVE_SIZE]),
            answer: RefCell::default(),
            turn: Event::default(),
            pace: Pace::default(),
            stopping: Cell::new(false),
            stopped: Cell::new(false),
            halted: Cell::new(false),
            told: Cell::new(Tick(0)),
        }
    }

    /// A recovered shard lives here from now on.
    pub(crate) fn host(&self, id: ShardId, shard: Shard, disks: Rc<Disks>) {
        let answers = Answers::new(&self.settings);
        let (generation, opened, ready) = (0, false, false);
        let host = Host { id, shard, generation, disks, opened, ready, answers };
        self.hosts.borrow_mut().insert(id, host);
        self.turn.set();
    }

    /// Takes a turn whenever something happened, until the process ends: a core whose own
    /// connections are gone still serves those that other cores hold.
    ///
    /// Between turns of which one could follow the other at once it waits. To yield would not do:
    /// while anything can run, the executor looks at sockets and disks only every 100 ms.
    pub(crate) async fn drive(self: Rc<Self>) {
        loop {
            self.turn.wait().await;
            if let Some(pause) = self.take_turn() {
                self.turn.set();
                glommio::timer::sleep(pause).await;
            }
        }
    }

    /// Tells the placement how many thousandths of the time since `last` this core worked; so many.
    fn tell_load(&self, last: &mut Tick, now: Tick) -> u32 {
        // Counted since the last call.
        let worked = glommio::executor().executor_stats().total_runtime().as_micros();
        let permille = worked / u128::from(now.since(*last).max(1));
        *last = now;
        let permille = u32::try_from(permille).unwrap_or(1000);
        self.mesh.placement.set_busy(self.index, permille);
        permille
    }

    /// Gives back the memory of a large answer.
    fn shed(&self) {
        let mut answer = self.answer.borrow_mut();
        if answer.capacity() > ANSWER_KEPT_MAX {
            *answer = Vec::new();
        }
    }

    /// Tells shards and sessions the time, for as long as the core runs.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        let (mut last, mut rest, mut next) = (self.clock.now(), Rest::default(), 0);
        loop {
            glommio::timer::sleep(Duration::from_millis(TICK_MS)).await;
            let now = self.clock.now();
            rest.tick(self.tell_load(&mut last, now));
            self.shed();
            self.tell_time(now);
            self.tick_watches(now);
            self.tick_peers(now);
            next = self.tick_connections(next);
            if self.stopping.get() {
                self.try_stop();
            }
            self.turn.set();
        }
    }

    /// Tells shards the time.
    fn tell_time(&self, now: Tick) {
        self.told.set(now);
        for host in self.hosts.borrow_mut().values_mut() {
            host.shard.handle(Input::Tick(now));
        }
    }

    /// Tells some connections the time, from one on, and says from which to go on.
    fn tick_connections(&self, next: usize) -> usize {
        let count = self.connections.borrow().len();
        let from = if next < count { next } else { 0 };
        let end = count.min(from + TICKED_MIN.max(count.div_ceil(TICK_ROUND)));
        for at in from..end {
            self.tick_connection(u32::try_from(at).expect("connections are few"));
        }
        end
    }

    /// Takes what other cores and the main thread send.
    pub(crate) async fn receive_messages(self: Rc<Self>, inbox: flume::Receiver<Message>) {
        while let Ok(message) = inbox.recv_async().await {
            self.on_message(message);
            while let Ok(message) = inbox.try_recv() {
                self.on_message(message);
            }
            self.turn.set();
        }
    }

    fn on_message(self: &Rc<Self>, message: Message) {
        match message {
            Message::Connection(socket, shard) => self.accept(socket, shard),
            Message::Peer(socket, said) => self.accept_peer(socket, said),
            Message::Meet => self.meet(),
            Message::Post(post) => {
                for (shard, from, request) in post.requests {
                    self.submit(shard, from, request);
                }
                for (shard, ask) in post.asks {
                    self.ask(shard, ask);
                }
                for (shard, to, piece) in post.pieces {
                    self.mesh.placement.answers_arrive(self.index, piece.bytes().len());
                    let is_part = matches!(piece, Piece::Part(_));
                    let (is_wanted, again) = self.deliver(to, piece.as_slice());
                    if is_part && !is_wanted {
                        self.forget(shard, to);
                    }
                    self.ask_again(to, again);
                }
                for (shard, to, size) in post.pulls {
                    self.pull(shard, to, size);
                }
                for (shard, to) in post.forgets {
                    self.forget(shard, to);
                }
                for (shard, told) in post.told {
                    self.tell(shard, told);
                }
            }
            Message::Stop => self.stop(),
        }
    }

    pub(super) fn submit(&self, shard: ShardId, from: RequestId, request: Request) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.shard.handle(Input::Request { from, request });
            return;
        }
        let mut posts = self.posts.borrow_mut();
        let post = posts.entry(self.mesh.home(shard)).or_default();
        if post.requests.len() < self.mesh.messages_max {
            post.requests.push((shard, from, request));
        } else {
            self.refused.borrow_mut().push(from);
        }
    }

    /// Nobody waits for an answer any more.
    pub(super) fn forget(&self, shard: ShardId, to: RequestId) {
        if let Some(hub) = self.hubs.borrow_mut().get_mut(&shard) {
            hub.forget(to);
        }
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.forget(to);
        } else {
            let mut posts = self.posts.borrow_mut();
            posts.entry(self.mesh.home(shard)).or_default().forgets.push((shard, to));
        }
    }

    /// A connection has room for more of an answer.
    fn pull(&self, shard: ShardId, to: RequestId, size: usize) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.answers.pull(to, size);
        } else {
            let mut posts = self.posts.borrow_mut();
            posts.entry(self.mesh.home(shard)).or_default().pulls.push((shard, to, size));
        }
    }

    /// Asks shards for more of those answers that their connections have room for.
    fn pull_all(&self) {
        for at in std::mem::take(&mut *self.pullers.borrow_mut()) {
            let mut connections = self.connections.borrow_mut();
            let Some(connection) = find(&mut connections, at) else {
                continue;
            };
            connection.pulls = false;
            while let Some((stream, size)) = connection.session.pull() {
                let generation = connection.generation;
                let to = RequestId { core: self.index, connection: at, generation, stream };
                if !self.pull_watch(connection.shard, to, size) {
                    self.pull(connection.shard, to, size);
                }
            }
        }
    }

    /// Hands on the requests that waited for an answer from elsewhere to come first.
    fn ask_again(&self, to: RequestId, again: Vec<(u32, Request)>) {
        for (stream, request) in again {
            let shard = find(&mut self.connections.borrow_mut(), to.connection).map(|it| it.shard);
            if let Some(shard) = shard {
                self.submit(shard, RequestId { stream, ..to }, request);
            }
        }
    }

    /// Does what is to be done; if there is more to do soon, how long it is to wait.
    fn take_turn(self: &Rc<Self>) -> Option<Duration> {
        if self.halted.get() {
            return None;
        }
        self.pace.count_turn();
        let shards: Vec<ShardId> = self.hosts.borrow().keys().copied().collect();
        let now = self.clock.now();
        if now.since(self.told.get()) > TICK_MS {
            // This process may have stood still: no lease may be renewed as of before that.
            self.tell_time(now);
        }
        self.go_on_all();
        self.ask_all();
        for id in &shards {
            self.drain(*id);
        }
        self.refuse();
        self.pull_all();
        let mut is_more = self.ask_all();
        for id in &shards {
            is_more |= self.serve(*id);
        }
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for at in dirty {
            self.send(at);
        }
        self.send_to_peers();
        if self.pace.is_rested() {
            self.work_all(&shards);
        }
        self.mesh.send(&mut self.posts.borrow_mut());
        let is_left = |list: &RefCell<Vec<u32>>| !list.borrow().is_empty();
        is_more |= is_left(&self.pullers) || is_left(&self.dirty) || is_left(&self.askers);
        is_more.then_some(BREATH)
    }

    /// Answers what found its way to another core full.
    fn refuse(&self) {
        let status = Status::from(&Unavailable::TooManyRequests);
        for to in std::mem::take(&mut *self.refused.borrow_mut()) {
            let (_, again) = self.deliver(to, Piece::End(status.clone()));
            self.ask_again(to, again);
        }
    }

    /// Does all that a shard asks for, but for what has to wait for its connection or for the next
    /// turn.
    fn drain(self: &Rc<Self>, id: ShardId) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(&id) else {
            return;
        };
        let mut work = Vec::new();
        let (mut made, mut is_moving) = (0, false);
        while let Some(output) = host.shard.poll() {
            match output {
                Output::Wal(command) => work.push(Work::of_log(&mut host.shard, command)),
                Output::Store(command) => work.push(Work::of_store(&mut host.shard, command)),
                Output::Reply { to, ready } => made += self.reply(host, to, ready, made),
                Output::Rows { to } => host.answers.go_on(to),
                Output::Watch(told) => self.hand_out(id, told),
                Output::Role(text) => tracing::info!(shard = id.0, "{text}"),
                Output::Send { to, packet } => self.say(id, to, &packet),
                Output::Peers(others) => self.set_peers(id, others),
                Output::Reopen => is_moving = true,
                Output::Halt(why) => return self.fail(format!("shard {id}: {why}")),
            }
        }
        if !host.opened && host.shard.has_log() {
            host.opened = true;
            let _ = self.mesh.reports.send(Report::Opened);
        }
        if !host.ready && host.shard.is_ready() && host.shard.is_listed() {
            host.ready = true;
            let _ = self.mesh.reports.send(Report::Ready);
        }
        host.disks.log.hurry(host.shard.is_moving());
        let (disks, generation) = (host.disks.clone(), host.generation);
        let (has_leader, is_learner) = (host.shard.leader().is_some(), host.shard.is_learner());
        self.mesh.placement.learn(id, has_leader, is_learner);
        // A spawned task runs at once up to its first wait, and may borrow what is borrowed here.
        drop(hosts);
        for work in work {
            let work = self.clone().perform((id, generation), disks.clone(), work);
            glommio::spawn_local(work).detach();
        }
        if is_moving {
            glommio::spawn_local(self.clone().reopen(id, disks)).detach();
        }
    }

    /// Makes an answer, or its beginning, and hands it on; how many bytes it has.
    fn reply(&self, host: &mut Host, to: RequestId, ready: Ready, made: usize) -> usize {
        let is_now = match &ready {
            Ready::Range(_) => match self.takes(to) {
                Some(takes) => takes && made < TURN_SIZE_MAX,
                None => return 0,
            },
            Ready::Result(_) | Ready::List(_) => true,
        };
        let mut answer = self.answer.borrow_mut();
        let piece = host.answers.reply(&mut host.shard, to, ready, is_now, &mut answer);
        piece.map_or(0, |piece| self.hand_over(host, to, piece))
    }

    /// Brings connections more of the answers that they asked for; whether there is more to do.
    fn serve(&self, id: ShardId) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(&id) else {
            return false;
        };
        let mut answer = self.answer.borrow_mut();
        let mut made = 0;
        while made < TURN_SIZE_MAX
            && let Some((to, piece)) = host.answers.serve(&mut host.shard, &mut answer)
        {
            made += SERVE_SIZE + piece.map_or(0, |piece| self.hand_over(host, to, piece));
        }
        made > 0
    }

    /// Whether the answer to a read may be made at once; none if nobody waits for it.
    fn takes(&self, to: RequestId) -> Option<bool> {
        if to.core != self.index {
            return Some(self.mesh.placement.takes_answers(to.core));
        }
        let mut connections = self.connections.borrow_mut();
        let connection = find(&mut connections, to.connection)?;
        let is_same = connection.generation == to.generation;
        if is_same { connection.session.takes(to.stream) } else { None }
    }

    /// A piece of an answer goes to its connection, here or on another core; how many bytes it has.
    fn hand_over(&self, host: &mut Host, to: RequestId, piece: Piece<&[u8]>) -> usize {
        let size = piece.bytes().len();
        if to.core != self.index {
            self.mesh.placement.answers_leave(to.core, size);
            let piece = piece.map(Bytes::copy_from_slice);
            let mut posts = self.posts.borrow_mut();
            posts.entry(to.core).or_default().pieces.push((host.id, to, piece));
            return size;
        }
        let is_part = matches!(piece, Piece::Part(_));
        let (is_wanted, again) = self.deliver(to, piece);
        if is_part && !is_wanted {
            host.forget(to);
        }
        for (stream, request) in again {
            let from = RequestId { stream, ..to };
            host.shard.handle(Input::Request { from, request });
        }
        size
    }

    /// Gives a piece of an answer to its connection: whether anybody waits for it, and what that
    /// connection asks next.
    fn deliver(&self, to: RequestId, piece: Piece<&[u8]>) -> (bool, Vec<(u32, Request)>) {
        let mut later = Later::default();
        let mut connections = self.connections.borrow_mut();
        let connection = find(&mut connections, to.connection);
        let Some(connection) = connection.filter(|it| it.generation == to.generation) else {
            return (false, later.0);
        };
        let is_wanted = connection.session.reply(to.stream, piece, &mut later);
        self.mark_dirty(to.connection, connection);
        (is_wanted, later.0)
    }

    /// Does what a shard's files need; its end comes back as an input.
    async fn perform(
        self: Rc<Self>,
        (id, generation): (ShardId, u32),
        disks: Rc<Disks>,
        work: Work,
    ) {
        let done = work.perform(&disks).await;
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.get_mut(&id).filter(|it| it.generation == generation);
        // What another shard read before this one came is nobody's; its files may be gone by now.
        let Some(host) = host else { return };
        match done {
            Ok(input) => {
                host.shard.handle(input);
                self.turn.set();
            }
            Err(error) => self.fail(format!("shard {id}: {error}")),
        }
    }

    /// Recovers another shard from the files of one that moves, which serves until then.
    async fn reopen(self: Rc<Self>, id: ShardId, disks: Rc<Disks>) {
        let what = self.hosts.borrow().get(&id).map(|host| {
            let (config, log_id) = host.shard.identity();
            (config.clone(), log_id)
        });
        let (config, log_id) = what.expect("it has just asked for this");
        match recover::again(config, log_id, &disks, self.clock.now()).await {
            Ok(shard) => {
                tracing::info!(
                    shard = id.0,
                    applied = shard.applied().0,
                    revision = shard.header().revision.0,
                    "goes on from a snapshot"
                );
                let spent = self.hand_over_to(id, shard);
                self.turn.set();
                // A large one takes longer than anybody here has time for.
                glommio::executor().spawn_blocking(move || drop(spent)).await;
            }
            Err(why) => self.fail(format!("shard {id}: {why}")),
        }
    }

    /// Another shard takes the place of one that moved, of which nothing is of use any more.
    fn hand_over_to(&self, id: ShardId, shard: Shard) -> Shard {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.get_mut(&id).expect("shards stay on their core");
        let last = std::mem::replace(&mut host.shard, shard);
        host.generation += 1;
        host.shard.succeed(last)
    }

    /// Nothing more leaves this core: what failed may mean that something is not durable.
    fn fail(&self, why: String) {
        if !self.halted.replace(true) {
            let _ = self.mesh.reports.send(Report::Failed(why));
        }
    }

    fn stop(&self) {
        self.stopping.set(true);
        let now = self.clock.now();
        let mut connections = self.connections.borrow_mut();
        for at in 0..connections.len() {
            let at = u32::try_from(at).expect("connections are few");
            if let Some(connection) = find(&mut connections, at) {
                connection.session.shutdown(now);
                self.mark_dirty(at, connection);
            }
        }
    }

    /// Reports once the last connection is gone and the shards rest.
    fn try_stop(&self) {
        let open = self.connections.borrow().iter().flatten().count();
        if open == 0 {
            let mut hosts = self.hosts.borrow_mut();
            hosts.values_mut().for_each(|host| host.shard.handle(Input::Stop));
        }
        let is_idle = || self.hosts.borrow().values().all(|host| host.shard.is_idle());
        if open == 0 && is_idle() && !self.stopped.replace(true) {
            let _ = self.mesh.reports.send(Report::Stopped);
        }
    }
}

fn find(connections: &mut [Option<Connection>], at: u32) -> Option<&mut Connection> {
    connections.get_mut(usize::try_from(at).expect("usize is 64 bits"))?.as_mut()
}
