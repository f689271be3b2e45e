//! One client's connection on its core: what is received goes to its session, what that has to say
//! is sent, and its socket is closed so that the client can read the last of it.

use crate::api::Session;
use crate::api::Sink;
use crate::api::watch::WatchRequest;
use crate::rt::core::Core;
use crate::rt::core::find;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::types::ShardId;
use crate::types::Tick;
use futures_lite::AsyncRead;
use futures_lite::AsyncWrite;
use glommio::net::TcpStream;
use std::future::Future;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// Bytes taken from a socket at a time: all that a busy connection has, in one call.
pub(super) const RECEIVE_SIZE: usize = 256 << 10;
/// Receives in a row that one connection gets before others have their turn.
const RECEIVES_IN_A_ROW_MAX: u32 = 4;

/// How long the last bytes of a connection may take to leave, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds that a client has to end its side, once we have ended ours.
///
/// A socket that is closed over bytes nobody read sends a reset, which takes from the client what
/// it has not read yet: the answer, or the GOAWAY that says why.
const LINGER_MS: u64 = 1_000;

/// One client's connection.
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) shard: ShardId,
    pub(super) session: Session,
    stream: TcpStream,
    /// The reading task, while it waits for the output to shrink.
    reader: Option<Waker>,
    /// A task of its own is sending: the socket's buffer was full.
    sending: bool,
    /// In the list of those to be sent.
    dirty: bool,
    /// In the list of those that may have room for more of their answers.
    pub(super) pulls: bool,
    /// In the list of those whose calls ask for others.
    pub(super) asks: bool,
    /// To be closed once the output is empty, or some time after this; what comes is thrown away.
    closing: Option<Tick>,
    /// Our side of the socket is ended; the client has until [`LINGER_MS`] later to end its own.
    lingering: Option<Tick>,
    /// The client has ended its side.
    has_ended: bool,
}

/// Hands a session's requests to where their shard lives.
struct Route<'a> {
    core: &'a Core,
    id: RequestId,
    shard: ShardId,
}

impl<'a> Route<'a> {
    fn new(core: &'a Core, at: u32, connection: &Connection) -> Self {
        let generation = connection.generation;
        let id = RequestId { core: core.index, connection: at, generation, stream: 0 };
        Self { core, id, shard: connection.shard }
    }
}

impl Sink for Route<'_> {
    fn submit(&mut self, stream: u32, request: Request) {
        let from = RequestId { stream, ..self.id };
        self.core.submit(self.shard, from, request);
    }

    fn forget(&mut self, stream: u32) {
        self.core.forget(self.shard, RequestId { stream, ..self.id });
    }

    fn watch(&mut self, stream: u32, request: WatchRequest) {
        self.core.watch(self.shard, RequestId { stream, ..self.id }, request);
    }

    fn has_leader(&self) -> bool {
        self.core.mesh.placement.has_leader(self.shard)
    }

    fn is_learner(&self) -> bool {
        self.core.mesh.placement.is_learner(self.shard)
    }
}

impl Core {
    /// A client has come.
    pub(super) fn accept(self: &Rc<Self>, socket: socket2::Socket, shard: ShardId) {
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
            pulls: false,
            asks: false,
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
        let mut route = Route::new(self, at, connection);
        let now = self.clock.now();
        if let Err(closing) = connection.session.receive(received, now, &mut route) {
            tracing::debug!(reason = closing.reason, "closing a client's connection");
            connection.closing.get_or_insert(now);
        }
        self.mark_dirty(at, connection);
        Poll::Ready(true)
    }

    /// Lets time pass for a connection.
    pub(super) fn tick_connection(&self, at: u32) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = find(&mut connections, at) else {
            return;
        };
        let mut route = Route::new(self, at, connection);
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
        } else if connection.closing.is_some()
            || connection.session.has_pulls()
            || !connection.session.output().is_empty()
        {
            self.mark_dirty(at, connection);
        }
    }

    /// Sends all a connection has; where the socket takes no more, a task of its own goes on.
    pub(super) fn send(self: &Rc<Self>, at: u32) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = find(&mut connections, at) else {
            return;
        };
        connection.dirty = false;
        if connection.sending {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let sent = flush(connection, &mut cx);
        self.mark_pulls(at, connection);
        match sent {
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
            let sent = flush(connection, cx);
            self.mark_pulls(at, connection);
            self.turn.set();
            match sent {
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

    /// Goes on with the calls of connections that are made of others.
    pub(super) fn go_on_all(&self) {
        for at in std::mem::take(&mut *self.askers.borrow_mut()) {
            let mut connections = self.connections.borrow_mut();
            if let Some(connection) = find(&mut connections, at) {
                connection.asks = false;
                let mut route = Route::new(self, at, connection);
                connection.session.go_on(&mut route);
                self.mark_dirty(at, connection);
            }
        }
    }

    /// Notes that a connection may have room for more of its answers.
    fn mark_pulls(&self, at: u32, connection: &mut Connection) {
        if connection.session.has_pulls() && !std::mem::replace(&mut connection.pulls, true) {
            self.pullers.borrow_mut().push(at);
        }
    }

    /// Notes that a connection has something to send, or may have room for more of its answers.
    pub(super) fn mark_dirty(&self, at: u32, connection: &mut Connection) {
        self.mark_pulls(at, connection);
        if connection.session.has_asks() && !std::mem::replace(&mut connection.asks, true) {
            self.askers.borrow_mut().push(at);
        }
        if !connection.dirty && !connection.sending {
            connection.dirty = true;
            self.dirty.borrow_mut().push(at);
        }
    }

    fn close(&self, connections: &mut [Option<Connection>], at: u32) {
        let slot = &mut connections[usize::try_from(at).expect("usize is 64 bits")];
        if let Some(mut connection) = slot.take() {
            if let Some(reader) = connection.reader.take() {
                reader.wake();
            }
            let mut route = Route::new(self, at, &connection);
            connection.session.lost(&mut route);
            self.vacant.borrow_mut().push(at);
            self.mesh.placement.ended(self.index);
        }
    }
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
