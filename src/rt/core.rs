//! One core: its connections, its shards, and the turn that moves bytes between them.
//!
//! Connection tasks feed what they received to their session, which hands requests to the shard at
//! once if it lives here. Then, once every task that had something has run, the driver takes its
//! turn: it polls each shard until nothing is left, starts the log's writes, hands answers to their
//! sessions, and sends each connection all it has with one call.
//!
//! Nothing here decides anything: no output is held back, reordered or looked into.

use crate::api;
use crate::api::Session;
use crate::api::Settings;
use crate::api::Sink;
use crate::api::status::Status;
use crate::rt::clock::Clock;
use crate::rt::disk::Disk;
use crate::rt::disk::DiskError;
use crate::rt::event::Event;
use crate::rt::fair::TURN_SIZE_MAX;
use crate::rt::fair::Waiting;
use crate::rt::placement::Placement;
use crate::shard::Input;
use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::types::ShardId;
use crate::types::Tick;
use crate::wal;
use crate::wal::FileId;
use bytes::Bytes;
use futures_lite::AsyncRead;
use futures_lite::AsyncWrite;
use glommio::io::DmaBuffer;
use glommio::net::TcpStream;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

/// Bytes taken from a socket at a time: all that a busy connection has, in one call.
const RECEIVE_SIZE: usize = 256 << 10;
/// Receives in a row that one connection gets before others have their turn.
const RECEIVES_IN_A_ROW_MAX: u32 = 4;

/// How long the last bytes of a connection may take to leave, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds that a client has to end its side, once we have ended ours.
///
/// A socket that is closed over bytes nobody read sends a reset, which takes from the client what
/// it has not read yet: the answer, or the GOAWAY that says why.
const LINGER_MS: u64 = 1_000;

/// A request on its way to its shard.
type Asked = (ShardId, RequestId, Request);
/// An answer on its way to its connection: a whole message, or how the call ends without one.
type Answered = (RequestId, Result<Bytes, Status>);

/// What one core, or the main thread, tells another.
pub(crate) enum Message {
    /// A connection to take over, and the shard its listener belongs to.
    Connection(socket2::Socket, ShardId),
    /// Requests for shards that live here.
    Requests(Vec<Asked>),
    /// Answers for connections that live here.
    Replies(Vec<Answered>),
    /// Take in nothing new, answer what is open, then report.
    Stop,
}

/// What a core tells the main thread.
pub(crate) enum Report {
    /// A shard leads and has applied its whole log.
    Ready,
    /// The node must not go on.
    Failed(String),
    /// Every connection of this core is closed and its shards rest, but for what connections of
    /// other cores may still ask of them.
    Stopped,
}

/// A shard that lives here, and its files.
struct Host {
    shard: Shard,
    disk: Rc<Disk>,
    ready: bool,
    /// Reads whose answers are made in a later turn.
    waiting: Waiting,
}

/// What the log's files need, its bytes already made.
enum Work {
    Write { id: u64, file: FileId, offset: u64, buffer: DmaBuffer },
    Other(wal::Command),
}

impl Work {
    fn new(host: &mut Host, command: wal::Command) -> Self {
        let wal::Command::Write { id, file, offset, size } = command else {
            return Self::Other(command);
        };
        let mut buffer = glommio::allocate_dma_buffer(size);
        host.shard.fill(id, buffer.as_bytes_mut());
        Self::Write { id, file, offset, buffer }
    }
}

/// One client's connection.
struct Connection {
    generation: u32,
    shard: ShardId,
    session: Session,
    stream: TcpStream,
    /// The reading task, while it waits for the output to shrink.
    reader: Option<Waker>,
    /// A task of its own is sending: the socket's buffer was full.
    sending: bool,
    /// In the list of those to be sent.
    dirty: bool,
    /// To be closed once the output is empty, or some time after this; what comes is thrown away.
    closing: Option<Tick>,
    /// Our side of the socket is ended; the client has until [`LINGER_MS`] later to end its own.
    lingering: Option<Tick>,
    /// The client has ended its side.
    has_ended: bool,
}

/// What joins a core to the others and to the main thread.
pub(crate) struct Mesh {
    /// By shard: the core it lives on.
    pub(crate) homes: Vec<u32>,
    /// By core: its inbox.
    pub(crate) peers: Vec<flume::Sender<Message>>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) reports: flume::Sender<Report>,
    /// Requests that may gather for one core; beyond it they are refused as too many.
    pub(crate) messages_max: usize,
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
    dirty: RefCell<Vec<u32>>,
    /// By core: what goes there at the end of the turn.
    requests_out: RefCell<BTreeMap<u32, Vec<Asked>>>,
    refused: RefCell<Vec<RequestId>>,
    replies_out: RefCell<BTreeMap<u32, Vec<Answered>>>,
    receive_buffer: RefCell<Vec<u8>>,
    answer: RefCell<Vec<u8>>,
    turn: Event,
    stopping: Cell<bool>,
    stopped: Cell<bool>,
    halted: Cell<bool>,
}

/// Hands a session's requests to where their shard lives.
struct Route<'a> {
    core: &'a Core,
    id: RequestId,
    shard: ShardId,
}

impl Sink for Route<'_> {
    fn submit(&mut self, stream: u32, request: Request) {
        let from = RequestId { stream, ..self.id };
        self.core.submit(self.shard, from, request);
    }
}

/// Keeps a session's requests until its shard can be borrowed again.
#[derive(Default)]
struct Later(Vec<(u32, Request)>);

impl Sink for Later {
    fn submit(&mut self, stream: u32, request: Request) {
        self.0.push((stream, request));
    }
}

impl Core {
    pub(crate) fn new(index: u32, clock: Clock, settings: Settings, mesh: Mesh) -> Self {
        Self {
            index,
            clock,
            settings: Rc::new(settings),
            mesh,
            hosts: RefCell::default(),
            connections: RefCell::default(),
            vacant: RefCell::default(),
            generation: Cell::new(0),
            dirty: RefCell::default(),
            requests_out: RefCell::default(),
            refused: RefCell::default(),
            replies_out: RefCell::default(),
            receive_buffer: RefCell::new(vec![0; RECEIVE_SIZE]),
            answer: RefCell::default(),
            turn: Event::default(),
            stopping: Cell::new(false),
            stopped: Cell::new(false),
            halted: Cell::new(false),
        }
    }

    /// A recovered shard lives here from now on.
    pub(crate) fn host(&self, id: ShardId, shard: Shard, disk: Rc<Disk>) {
        self.hosts
            .borrow_mut()
            .insert(id, Host { shard, disk, ready: false, waiting: Waiting::default() });
        self.turn.set();
    }

    /// Takes a turn whenever something happened, until the process ends: a core whose own
    /// connections are gone still serves those that other cores hold.
    pub(crate) async fn drive(self: Rc<Self>) {
        loop {
            self.turn.wait().await;
            if self.take_turn() {
                self.turn.set();
                glommio::executor().yield_task_queue_now().await;
            }
        }
    }

    /// Tells the placement how much of the time since `last` this core worked.
    fn tell_load(&self, last: &mut Tick, now: Tick) {
        // Counted since the last call.
        let worked = glommio::executor().executor_stats().total_runtime().as_micros();
        let permille = worked / u128::from(now.since(*last).max(1));
        *last = now;
        self.mesh.placement.set_busy(self.index, u32::try_from(permille).unwrap_or(1000));
    }

    /// Tells shards and sessions the time, for as long as the core runs.
    pub(crate) async fn keep_time(self: Rc<Self>, every: Duration) {
        let mut last = self.clock.now();
        loop {
            glommio::timer::sleep(every).await;
            let now = self.clock.now();
            self.tell_load(&mut last, now);
            for host in self.hosts.borrow_mut().values_mut() {
                host.shard.handle(Input::Tick(now));
            }
            let count = self.connections.borrow().len();
            for at in 0..count {
                self.tick_connection(u32::try_from(at).expect("connections are few"));
            }
            if self.stopping.get() {
                self.try_stop();
            }
            self.turn.set();
        }
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
            Message::Requests(requests) => {
                for (shard, from, request) in requests {
                    self.submit(shard, from, request);
                }
            }
            Message::Replies(replies) => {
                for (to, result) in replies {
                    let size = result.as_ref().map_or(0, Bytes::len);
                    self.mesh.placement.answers_arrive(self.index, size);
                    let again = self.deliver(to, result.as_deref());
                    self.ask_again(to, again);
                }
            }
            Message::Stop => self.stop(),
        }
    }

    fn submit(&self, shard: ShardId, from: RequestId, request: Request) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.shard.handle(Input::Request { from, request });
            return;
        }
        let at = usize::try_from(shard.0).expect("usize is 64 bits");
        let home = self.mesh.homes[at];
        let mut out = self.requests_out.borrow_mut();
        let out = out.entry(home).or_default();
        if out.len() < self.mesh.messages_max {
            out.push((shard, from, request));
        } else {
            self.refused.borrow_mut().push(from);
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

    /// Does what is to be done; whether more can be done at once.
    fn take_turn(self: &Rc<Self>) -> bool {
        if self.halted.get() {
            return false;
        }
        let shards: Vec<ShardId> = self.hosts.borrow().keys().copied().collect();
        let mut is_more = false;
        for id in shards {
            is_more |= self.drain(id);
        }
        self.refuse();
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for at in dirty {
            self.send(at);
        }
        self.post(&self.requests_out, Message::Requests, |message| match message {
            Message::Requests(all) => Some(all),
            Message::Replies(_) | Message::Connection(..) | Message::Stop => None,
        });
        self.post(&self.replies_out, Message::Replies, |message| match message {
            Message::Replies(all) => Some(all),
            Message::Requests(_) | Message::Connection(..) | Message::Stop => None,
        });
        is_more
    }

    /// Sends each core what has gathered for it; while one is behind, it gathers on.
    fn post<T>(
        &self,
        out: &RefCell<BTreeMap<u32, Vec<T>>>,
        wrap: impl Fn(Vec<T>) -> Message,
        unwrap: impl Fn(Message) -> Option<Vec<T>>,
    ) {
        for (core, gathered) in out.borrow_mut().iter_mut().filter(|(_, all)| !all.is_empty()) {
            let peer = &self.mesh.peers[usize::try_from(*core).expect("usize is 64 bits")];
            if peer.is_full() {
                continue;
            }
            // Another core may have been quicker. One that is gone has nobody left who waits.
            if let Err(flume::TrySendError::Full(message)) =
                peer.try_send(wrap(std::mem::take(gathered)))
            {
                *gathered = unwrap(message).expect("it comes back as it went");
            }
        }
    }

    /// Answers what found its way to another core full.
    fn refuse(&self) {
        let status = Status::from(&Unavailable::TooManyRequests);
        for to in std::mem::take(&mut *self.refused.borrow_mut()) {
            let again = self.deliver(to, Err(&status));
            self.ask_again(to, again);
        }
    }

    /// Does all that a shard asks for, but for large answers beyond a turn's: whether some of them
    /// can be made at once.
    fn drain(self: &Rc<Self>, id: ShardId) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(&id) else {
            return false;
        };
        let mut work = Vec::new();
        let mut made = 0;
        let takes = |core| core == self.index || self.mesh.placement.takes_answers(core);
        while let Some(output) = host.shard.poll() {
            match output {
                Output::Wal(command) => work.push(Work::new(host, command)),
                Output::Reply { to, ready: Ready::Range(range) }
                    if made >= TURN_SIZE_MAX || !takes(to.core) || host.waiting.has(to) =>
                {
                    if host.waiting.is_full() {
                        let refusal = Err(Unavailable::TooManyRequests.into());
                        made += self.answer(host, to, &Ready::Result(refusal));
                    } else {
                        host.waiting.push(to, range);
                    }
                }
                Output::Reply { to, ready } => made += self.answer(host, to, &ready),
                Output::Rows { .. } => {}
                Output::Role(text) => tracing::info!(shard = id.0, "{text}"),
                Output::Halt(why) => {
                    self.fail(format!("shard {id}: {why}"));
                    return false;
                }
            }
        }
        while made < TURN_SIZE_MAX
            && let Some((to, range)) = host.waiting.next(takes)
        {
            made += self.answer(host, to, &Ready::Range(range));
        }
        let is_more = made >= TURN_SIZE_MAX && !host.waiting.is_empty();
        if !host.ready && host.shard.is_ready() {
            host.ready = true;
            let _ = self.mesh.reports.send(Report::Ready);
        }
        let disk = host.disk.clone();
        // A spawned task runs at once up to its first wait, and may borrow what is borrowed here.
        drop(hosts);
        for work in work {
            glommio::spawn_local(self.clone().perform(id, disk.clone(), work)).detach();
        }
        is_more
    }

    /// Makes an answer and hands it on; how many bytes it has.
    fn answer(&self, host: &mut Host, to: RequestId, ready: &Ready) -> usize {
        let mut answer = self.answer.borrow_mut();
        let result = api::answer(&host.shard, ready, &mut answer);
        let again = self.route_reply(to, result.as_ref().map(|()| answer.as_slice()));
        for (stream, request) in again {
            let from = RequestId { stream, ..to };
            host.shard.handle(Input::Request { from, request });
        }
        answer.len()
    }

    /// An answer goes to its connection, here or on another core.
    fn route_reply(&self, to: RequestId, result: Result<&[u8], &Status>) -> Vec<(u32, Request)> {
        if to.core == self.index {
            return self.deliver(to, result);
        }
        let result = result.map(Bytes::copy_from_slice).map_err(Clone::clone);
        self.mesh.placement.answers_leave(to.core, result.as_ref().map_or(0, Bytes::len));
        self.replies_out.borrow_mut().entry(to.core).or_default().push((to, result));
        Vec::new()
    }

    fn deliver(&self, to: RequestId, result: Result<&[u8], &Status>) -> Vec<(u32, Request)> {
        let mut later = Later::default();
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = find(&mut connections, to.connection)
            && connection.generation == to.generation
        {
            connection.session.reply(to.stream, result, &mut later);
            self.mark_dirty(to.connection, connection);
        }
        later.0
    }

    fn mark_dirty(&self, at: u32, connection: &mut Connection) {
        if !connection.dirty && !connection.sending {
            connection.dirty = true;
            self.dirty.borrow_mut().push(at);
        }
    }

    /// Does what the log's files need; its end comes back as an input.
    async fn perform(self: Rc<Self>, id: ShardId, disk: Rc<Disk>, work: Work) {
        let result = match work {
            Work::Write { id, file, offset, buffer } => {
                disk.write(file, offset, buffer).await.map(|()| wal::Event::Written { id })
            }
            Work::Other(command) => disk.perform(command).await.map(|()| wal::Event::Done),
        };
        self.done(id, result);
    }

    fn done(&self, id: ShardId, result: Result<wal::Event, DiskError>) {
        match result {
            Ok(event) => {
                if let Some(host) = self.hosts.borrow_mut().get_mut(&id) {
                    host.shard.handle(Input::Wal(event));
                }
                self.turn.set();
            }
            Err(error) => self.fail(format!("shard {id}: {error}")),
        }
    }

    /// Nothing more leaves this core: what failed may mean that something is not durable.
    fn fail(&self, why: String) {
        if !self.halted.replace(true) {
            let _ = self.mesh.reports.send(Report::Failed(why));
        }
    }

    fn accept(self: &Rc<Self>, socket: socket2::Socket, shard: ShardId) {
        if self.stopping.get() {
            return;
        }
        let stream = TcpStream::from(socket);
        let _ = stream.set_nodelay(true);
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let connection = Connection {
            generation,
            shard,
            session: Session::new(&self.settings),
            stream,
            reader: None,
            sending: false,
            dirty: false,
            closing: None,
            lingering: None,
            has_ended: false,
        };
        let mut connections = self.connections.borrow_mut();
        let at = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            connections.push(None);
            u32::try_from(connections.len() - 1).expect("connections are few")
        });
        connections[usize::try_from(at).expect("usize is 64 bits")] = Some(connection);
        // A spawned task runs at once up to its first wait, and borrows what is borrowed here.
        drop(connections);
        let core = self.clone();
        glommio::spawn_local(core.read(at, generation)).detach();
    }

    /// Reads one connection until it ends.
    async fn read(self: Rc<Self>, at: u32, generation: u32) {
        let mut in_a_row = 0;
        while poll_fn(|cx| self.poll_read(cx, at, generation)).await {
            self.turn.set();
            in_a_row += 1;
            if in_a_row >= RECEIVES_IN_A_ROW_MAX {
                in_a_row = 0;
                glommio::executor().yield_task_queue_now().await;
            }
        }
        self.turn.set();
    }

    /// Receives once and feeds the session; false when the connection has ended.
    fn poll_read(&self, cx: &mut Context<'_>, at: u32, generation: u32) -> Poll<bool> {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) =
            find(&mut connections, at).filter(|connection| connection.generation == generation)
        else {
            return Poll::Ready(false);
        };
        if connection.closing.is_none() && connection.session.is_congested() {
            connection.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut buffer = self.receive_buffer.borrow_mut();
        let received = match Pin::new(&mut connection.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => {
                // What is ready still leaves: the client may have ended its own side only.
                connection.has_ended = true;
                if !connection.session.input_ended() {
                    connection.closing.get_or_insert(self.clock.now());
                }
                self.mark_dirty(at, connection);
                return Poll::Ready(false);
            }
            Poll::Ready(Ok(_)) if connection.closing.is_some() => return Poll::Ready(true),
            Poll::Ready(Ok(n)) => &buffer[..n],
            Poll::Ready(Err(_)) => {
                drop(buffer);
                self.close(&mut connections, at);
                return Poll::Ready(false);
            }
        };
        let id = RequestId { core: self.index, connection: at, generation, stream: 0 };
        let mut route = Route { core: self, id, shard: connection.shard };
        let now = self.clock.now();
        if let Err(closing) = connection.session.receive(received, now, &mut route) {
            tracing::debug!(reason = closing.reason, "closing a client's connection");
            connection.closing.get_or_insert(now);
        }
        self.mark_dirty(at, connection);
        Poll::Ready(true)
    }

    fn tick_connection(&self, at: u32) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = find(&mut connections, at) else {
            return;
        };
        let id = RequestId {
            core: self.index,
            connection: at,
            generation: connection.generation,
            stream: 0,
        };
        let mut route = Route { core: self, id, shard: connection.shard };
        let now = self.clock.now();
        if let Err(closing) = connection.session.tick(now, &mut route) {
            tracing::debug!(reason = closing.reason, "closing a client's connection");
            connection.closing.get_or_insert(now);
        }
        if connection.session.is_done() {
            connection.closing.get_or_insert(now);
        }
        let late = |since: Option<Tick>, limit| since.is_some_and(|since| now.since(since) > limit);
        if late(connection.closing, CLOSE_TIMEOUT_MS) || late(connection.lingering, LINGER_MS) {
            self.close(&mut connections, at);
        } else if connection.closing.is_some() || !connection.session.output().is_empty() {
            self.mark_dirty(at, connection);
        }
    }

    /// Sends all a connection has; where the socket takes no more, a task of its own goes on.
    fn send(self: &Rc<Self>, at: u32) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = find(&mut connections, at) else {
            return;
        };
        connection.dirty = false;
        if connection.sending {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match flush(connection, &mut cx) {
            Poll::Ready(true) => self.after_send(&mut connections, at),
            Poll::Ready(false) => self.close(&mut connections, at),
            Poll::Pending => {
                connection.sending = true;
                let generation = connection.generation;
                drop(connections);
                glommio::spawn_local(self.clone().send_rest(at, generation)).detach();
            }
        }
    }

    async fn send_rest(self: Rc<Self>, at: u32, generation: u32) {
        poll_fn(|cx| {
            let mut connections = self.connections.borrow_mut();
            let Some(connection) =
                find(&mut connections, at).filter(|connection| connection.generation == generation)
            else {
                return Poll::Ready(());
            };
            match flush(connection, cx) {
                Poll::Pending => {
                    if !connection.session.is_congested()
                        && let Some(reader) = connection.reader.take()
                    {
                        reader.wake();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(true) => {
                    connection.sending = false;
                    self.after_send(&mut connections, at);
                }
                Poll::Ready(false) => self.close(&mut connections, at),
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The output is empty: who waited for that goes on, and a connection at its end is ended.
    fn after_send(&self, connections: &mut [Option<Connection>], at: u32) {
        let Some(connection) = find(connections, at) else {
            return;
        };
        if let Some(reader) = connection.reader.take() {
            reader.wake();
        }
        if connection.closing.is_none() && !connection.session.is_done() {
            return;
        }
        let now = self.clock.now();
        connection.closing.get_or_insert(now);
        if connection.has_ended {
            return self.close(connections, at);
        }
        if connection.lingering.is_none() {
            connection.lingering = Some(now);
            if !end_output(&connection.stream) {
                self.close(connections, at);
            }
        }
    }

    fn close(&self, connections: &mut [Option<Connection>], at: u32) {
        let slot = &mut connections[usize::try_from(at).expect("usize is 64 bits")];
        if let Some(mut connection) = slot.take() {
            if let Some(reader) = connection.reader.take() {
                reader.wake();
            }
            self.vacant.borrow_mut().push(at);
            self.mesh.placement.ended(self.index);
            for host in self.hosts.borrow_mut().values_mut() {
                host.waiting.forget(self.index, at);
            }
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
        let is_idle = || self.hosts.borrow().values().all(|host| host.shard.is_idle());
        if open == 0 && is_idle() && !self.stopped.replace(true) {
            let _ = self.mesh.reports.send(Report::Stopped);
        }
    }
}

fn find(connections: &mut [Option<Connection>], at: u32) -> Option<&mut Connection> {
    connections.get_mut(usize::try_from(at).expect("usize is 64 bits"))?.as_mut()
}

/// Ends our side of a socket; false if it is broken.
fn end_output(stream: &TcpStream) -> bool {
    // It never waits, whatever its form.
    let mut ended = pin!(stream.shutdown(Shutdown::Write));
    let ended = ended.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    matches!(ended, Poll::Ready(Ok(())))
}

/// Sends until the output is empty (true), the socket is full (pending) or broken (false).
fn flush(connection: &mut Connection, cx: &mut Context<'_>) -> Poll<bool> {
    loop {
        let output = connection.session.output();
        if output.is_empty() {
            return Poll::Ready(true);
        }
        match Pin::new(&mut connection.stream).poll_write(cx, output) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => connection.session.sent(n),
            Poll::Ready(_) => return Poll::Ready(false),
        }
    }
}
