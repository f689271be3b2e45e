//! One client's connection, whichever HTTP it speaks: bytes in, requests out, answers in, bytes
//! out.

use crate::api::answer;
use crate::api::answer::HEAD;
use crate::api::answer::TRAILERS_OK;
use crate::api::answers::Piece;
use crate::api::call::Call;
use crate::api::call::Dispatch;
use crate::api::call::Immediate;
use crate::api::call::Route;
use crate::api::call::Settings;
use crate::api::call::Sink;
use crate::api::http1::Http1;
use crate::api::plain;
use crate::api::plain::Page;
use crate::api::plain::Plain;
use crate::api::pulls::Pulls;
use crate::api::pulls::Room;
use crate::api::recipe::Do;
use crate::api::recipes;
use crate::api::recipes::Recipes;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::http2::Connection;
use crate::http2::PREFACE;
use crate::http2::StreamId;
use crate::http2::hpack;
use crate::mvcc::KeyRange;
use crate::mvcc::RangeQuery;
use crate::shard::request::Range;
use crate::shard::request::Request;
use crate::shard::request::Unavailable;
use crate::types::Tick;
use std::cell::Cell;
use std::rc::Rc;

/// The stream number that an HTTP/1.1 request goes by; there is one at a time.
const HTTP1_STREAM: u32 = 1;

/// Bytes of answers that may wait on a connection's streams before the next long one is made only
/// as it can leave. 4 MiB: what many small reads asked for at once come to.
const WAITING_SIZE_MAX: usize = 4 << 20;

/// Looks in a row that find no leader before streams that want one end, as in etcd.
const LEADERLESS_MAX: u32 = 3;

/// The connection must close once its output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Why, for the log.
    pub reason: &'static str,
}

/// One connection as a machine.
///
/// The owner feeds [`Self::receive`] and [`Self::tick`], hands pieces of answers to
/// [`Self::reply`], and sends [`Self::output`]. Whenever it has done any of these, [`Self::pull`]
/// says which answers it should bring more of. After an `Err` it sends what is left and closes.
pub struct Session {
    link: Link,
    settings: Rc<Settings>,
    intake: Intake,
    /// Answers that come by slices.
    pulls: Pulls,
    /// Calls that are made of others.
    recipes: Recipes,
    /// The time of the last call that knew it.
    now: Tick,
    /// Since when the same request has been coming in, and its number; HTTP/2 counts for itself.
    incoming: Option<(u64, Tick)>,
    /// When to look next for a leader, and how many looks in a row have found none.
    look: (Tick, u32),
}

/// What [`Dispatch`] knows of a connection, and leaves for it.
#[derive(Default)]
struct Intake {
    immediate: Vec<(StreamId, Immediate)>,
    consumed: Vec<(StreamId, usize)>,
    route: Option<Route>,
    /// Bytes that messages take which come in by pieces.
    partials: Rc<Cell<usize>>,
    /// Streams that ended before their answer did.
    gone: Vec<u32>,
    /// No call's time is over before this: until then none is looked for.
    deadline_first: Option<Tick>,
}

impl Intake {
    fn dispatch<'a, S>(
        &'a mut self,
        sink: &'a mut S,
        settings: &'a Settings,
        now: Tick,
    ) -> Dispatch<'a, S> {
        Dispatch {
            sink,
            settings,
            now,
            route: &mut self.route,
            immediate: &mut self.immediate,
            consumed: &mut self.consumed,
            partials: &self.partials,
            gone: &mut self.gone,
            deadline_first: &mut self.deadline_first,
        }
    }
}

/// What the first bytes turned out to be.
enum Link {
    /// Too few of them yet.
    Unknown(Vec<u8>),
    Http2(Box<Connection<Call>>),
    Http1(Http1),
}

impl Session {
    /// A connection just accepted.
    #[must_use]
    pub fn new(settings: &Rc<Settings>) -> Self {
        Self {
            link: Link::Unknown(Vec::new()),
            settings: settings.clone(),
            intake: Intake::default(),
            pulls: Pulls::default(),
            recipes: Recipes::default(),
            now: Tick::default(),
            incoming: None,
            look: (Tick::default(), 0),
        }
    }

    /// Takes in what was received, cut anywhere; requests go to `sink` before it returns.
    ///
    /// # Errors
    /// The connection must close once the output is sent.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Tick,
        sink: &mut impl Sink,
    ) -> Result<(), Closing> {
        match &mut self.link {
            Link::Http2(_) => self.receive_http2(bytes, now, sink),
            Link::Http1(http) => {
                let plain = http.receive(bytes);
                ask(http, plain, sink);
                Ok(())
            }
            Link::Unknown(first) => {
                first.extend_from_slice(bytes);
                let len = first.len().min(PREFACE.len());
                if first[..len] != PREFACE[..len] {
                    let first = std::mem::take(first);
                    self.link = Link::Http1(Http1::of_clients(&self.settings.shards));
                    return self.receive(&first, now, sink);
                }
                if first.len() < PREFACE.len() {
                    return Ok(());
                }
                let first = std::mem::take(first);
                let connection = Connection::new(self.settings.limits.clone(), now);
                self.link = Link::Http2(Box::new(connection));
                self.receive(&first, now, sink)
            }
        }
    }

    fn receive_http2(
        &mut self,
        bytes: &[u8],
        now: Tick,
        sink: &mut impl Sink,
    ) -> Result<(), Closing> {
        let Link::Http2(connection) = &mut self.link else {
            return Ok(());
        };
        let mut rest = bytes;
        let result = loop {
            let mut dispatch = self.intake.dispatch(sink, &self.settings, now);
            let taken = connection.receive(rest, now, &mut dispatch);
            for (stream, n) in self.intake.consumed.drain(..) {
                connection.consumed(stream, n);
            }
            for (stream, answer) in self.intake.immediate.drain(..) {
                if let Immediate::Recipe(recipe, first) = answer {
                    self.recipes.begin(stream.0, *recipe, first);
                } else {
                    immediate(connection, stream, answer, sink);
                }
            }
            match taken {
                Ok(n) if n < rest.len() => rest = &rest[n..],
                Ok(_) => break Ok(()),
                Err(closed) => break Err(Closing { reason: closed.reason }),
            }
        };
        self.now = now;
        self.forget_gone(sink);
        result
    }

    /// Lets time pass: keep-alive, timeouts, calls whose client has given up.
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub fn tick(&mut self, now: Tick, sink: &mut impl Sink) -> Result<(), Closing> {
        let is_leaderless = self.look_for_leader(now, sink);
        let Link::Http2(connection) = &mut self.link else {
            return self.tick_incoming(now);
        };
        if is_leaderless {
            for stream in connection.calls_where(|call| call.needs_leader) {
                end(connection, stream, &Status::from(&Unavailable::NoLeader));
                self.intake.gone.push(stream.0);
            }
        }
        if self.intake.deadline_first.is_some_and(|first| first <= now) {
            let (late, first) = late(connection, now);
            self.intake.deadline_first = first;
            for stream in late {
                let status = Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");
                end(connection, stream, &status);
                self.intake.gone.push(stream.0);
            }
        }
        self.now = now;
        for stream in self.pulls.stalled(now) {
            let status = Status::from(&Unavailable::Timeout);
            if recipes::is_own(stream) {
                self.recipes.failed(stream, &status);
            } else {
                end(connection, StreamId(stream), &status);
            }
            self.intake.gone.push(stream);
        }
        let mut dispatch = self.intake.dispatch(sink, &self.settings, now);
        let result = connection.tick(now, &mut dispatch);
        self.intake.consumed.clear();
        self.intake.immediate.clear();
        self.forget_gone(sink);
        self.go_on(sink);
        result.map_err(|closed| Closing { reason: closed.reason })
    }

    /// Looks for a leader every election timeout; whether there has been none for too long.
    ///
    /// # Source
    /// etcd: `server/etcdserver/api/v3rpc/interceptor.go`, `monitorLeader`.
    fn look_for_leader(&mut self, now: Tick, sink: &impl Sink) -> bool {
        let (next, leaderless) = &mut self.look;
        if now < *next {
            return false;
        }
        *next = Tick(now.0.saturating_add(self.settings.election_timeout));
        *leaderless = if sink.has_leader() { 0 } else { leaderless.saturating_add(1) };
        *leaderless >= LEADERLESS_MAX
    }

    /// Ends a connection that has been sending one request, or its first bytes, for too long.
    fn tick_incoming(&mut self, now: Tick) -> Result<(), Closing> {
        let number = match &self.link {
            Link::Unknown(_) => Some(0),
            Link::Http1(http) => http.incoming(),
            Link::Http2(_) => None,
        };
        let since = self.incoming.filter(|(before, _)| Some(*before) == number);
        self.incoming = number.map(|number| since.unwrap_or((number, now)));
        let timeout = self.settings.limits.receive_timeout;
        match self.incoming {
            Some((_, since)) if now.since(since) > timeout => {
                Err(Closing { reason: "a request did not come in whole in time" })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a piece of the answer to a request; false if nobody waits for it, and so for none that
    /// would follow.
    pub fn reply(&mut self, stream: u32, piece: Piece<&[u8]>, sink: &mut impl Sink) -> bool {
        match &mut self.link {
            Link::Http2(_) if recipes::is_own(stream) => {
                let wants_more = self.recipes.answered(stream, piece);
                if wants_more {
                    self.pulls.came(stream, self.now);
                } else {
                    self.pulls.remove(stream);
                }
                wants_more
            }
            Link::Http2(_) => self.reply_http2(StreamId(stream), piece),
            Link::Http1(http) => {
                let next = http.reply(&plain::health(well(&piece)));
                ask(http, next, sink);
                false
            }
            Link::Unknown(_) => false,
        }
    }

    fn reply_http2(&mut self, stream: StreamId, piece: Piece<&[u8]>) -> bool {
        let Link::Http2(connection) = &mut self.link else {
            return false;
        };
        let Some(call) = connection.call_mut(stream) else {
            return false;
        };
        if call.is_health() {
            show(connection, stream, &plain::health(well(&piece)));
            return false;
        }
        if call.is_duplex() {
            self.answer_duplex(stream, piece);
            return false;
        }
        let is_begun = call.is_streaming();
        match piece {
            Piece::Last(message) if !is_begun => {
                connection.reply_unary(stream, HEAD, message, TRAILERS_OK);
            }
            Piece::End(status) => end(connection, stream, &status),
            Piece::Part([]) => {
                self.pulls.came(stream.0, self.now);
                return true;
            }
            Piece::Part(bytes) | Piece::Last(bytes) => {
                let is_last = matches!(piece, Piece::Last(_));
                if !is_begun {
                    call.stream();
                    connection.reply_head(stream, HEAD, false);
                }
                let refused = connection.reply_data(stream, bytes, false);
                if refused.is_none() && !is_last {
                    self.pulls.came(stream.0, self.now);
                    return true;
                }
                connection.reply_trailers(stream, TRAILERS_OK);
            }
        }
        if !self.pulls.is_empty() {
            self.pulls.remove(stream.0);
        }
        false
    }

    /// One of the answers of a call whose client sends many messages.
    fn answer_duplex(&mut self, stream: StreamId, piece: Piece<&[u8]>) {
        if let Piece::Part(message) | Piece::Last(message) = piece {
            self.push(stream.0, message);
        }
        let Link::Http2(connection) = &mut self.link else { return };
        if let Piece::End(status) = piece {
            return end(connection, stream, &status);
        }
        match connection.call_mut(stream).and_then(Call::answered) {
            None => {}
            Some(Ok(())) => drop(connection.reply_trailers(stream, TRAILERS_OK)),
            Some(Err(status)) => end(connection, stream, &status),
        }
    }

    /// Sends messages of our own on a stream whose client sends many: how many bytes wait there
    /// now; none if nobody waits for any.
    pub fn push(&mut self, stream: u32, messages: &[u8]) -> Option<usize> {
        if recipes::is_own(stream) {
            return self.recipes.watched(stream, messages).then_some(0);
        }
        let Link::Http2(connection) = &mut self.link else { return None };
        let id = StreamId(stream);
        if connection.call_mut(id)?.begin() {
            connection.reply_head(id, HEAD, false);
        }
        match connection.reply_data(id, messages, false) {
            None => Some(connection.queued(id)),
            Some(_) => {
                self.pulls.remove(stream);
                None
            }
        }
    }

    /// How many bytes wait on a stream; none if nobody waits for any.
    #[must_use]
    pub fn queued(&self, stream: u32) -> Option<usize> {
        if recipes::is_own(stream) {
            return self.recipes.has(stream).then_some(0);
        }
        let Link::Http2(connection) = &self.link else { return None };
        let id = StreamId(stream);
        connection.room(id)?;
        Some(connection.queued(id))
    }

    /// Whether [`Self::pull`] is to give this stream as soon as nothing waits on it and its client
    /// takes more.
    pub fn want_room(&mut self, stream: u32, wanted: bool) {
        if wanted {
            self.pulls.wants(stream);
        } else {
            self.pulls.remove(stream);
        }
    }

    /// Ends a stream for a reason.
    pub fn finish(&mut self, stream: u32, status: &Status) {
        self.pulls.remove(stream);
        if recipes::is_own(stream) {
            self.recipes.failed(stream, status);
        } else if let Link::Http2(connection) = &mut self.link {
            end(connection, StreamId(stream), status);
        }
    }

    /// Whether calls that are made of others have something to ask: [`Self::go_on`].
    #[must_use]
    pub fn has_asks(&self) -> bool {
        self.recipes.has_todo()
    }

    /// Goes on with calls that are made of others.
    pub fn go_on(&mut self, sink: &mut impl Sink) {
        while let Some((own, call, next)) = self.recipes.next() {
            let stream = StreamId(call);
            let Link::Http2(connection) = &mut self.link else { return };
            match next {
                Do::Ask(request) => sink.submit(own, request),
                Do::Watch(request) => sink.watch(own, request),
                Do::Unwatch => {
                    self.pulls.remove(own);
                    sink.forget(own);
                }
                Do::Send(message) => {
                    if let Some(call) = connection.call_mut(stream)
                        && !call.is_streaming()
                    {
                        call.stream();
                        connection.reply_head(stream, HEAD, false);
                    }
                    if connection.reply_data(stream, &message, false).is_some() {
                        // So much waits already that the stream was reset.
                        self.intake.gone.push(call);
                    }
                }
                Do::Last(message) => {
                    connection.reply_unary(stream, HEAD, &message, TRAILERS_OK);
                }
                Do::End(status) => end(connection, stream, &status),
            }
            self.forget_gone(sink);
        }
    }

    /// Whether some answer comes by slices: [`Self::pull`] is worth asking whenever something has
    /// come in or left.
    #[must_use]
    pub fn has_pulls(&self) -> bool {
        !self.pulls.is_empty()
    }

    /// The next answer that there is room for more of: its stream, and how many bytes to bring. To
    /// be asked until there is none.
    pub fn pull(&mut self) -> Option<(u32, usize)> {
        let Link::Http2(connection) = &self.link else {
            return None;
        };
        let room = Room { total: connection.room_total(), queued: connection.queued_total() };
        self.pulls.next(room, |stream| {
            let is_own = recipes::is_own(stream);
            if is_own { recipes::ROOM } else { connection.room(StreamId(stream)).unwrap_or(0) }
        })
    }

    /// Whether the answer of a stream may be made now, however long it is; none if nobody waits for
    /// it. If not, it should come by slices.
    #[must_use]
    pub fn takes(&self, stream: u32) -> Option<bool> {
        match &self.link {
            Link::Http2(_) if recipes::is_own(stream) => self.recipes.has(stream).then_some(true),
            Link::Http2(connection) => {
                connection.room(StreamId(stream))?;
                Some(connection.queued_total() < WAITING_SIZE_MAX)
            }
            Link::Http1(_) => Some(true),
            Link::Unknown(_) => None,
        }
    }

    /// The socket is gone: nobody waits for any answer.
    pub fn lost(&mut self, sink: &mut impl Sink) {
        if let Link::Http2(connection) = &mut self.link {
            let mut dispatch = self.intake.dispatch(sink, &self.settings, self.now);
            connection.lost(&mut dispatch);
        }
        self.forget_gone(sink);
    }

    /// Tells of answers that nobody waits for any more.
    fn forget_gone(&mut self, sink: &mut impl Sink) {
        for stream in self.intake.gone.drain(..) {
            self.pulls.remove(stream);
            sink.forget(stream);
            if let Some((own, request)) = self.recipes.give_up(stream) {
                self.pulls.remove(own);
                sink.forget(own);
                request.into_iter().for_each(|request| sink.submit(own, request));
            }
        }
    }

    /// Begins a graceful end: no new requests are taken.
    pub fn shutdown(&mut self, now: Tick) {
        match &mut self.link {
            Link::Http2(connection) => {
                connection.shutdown(now);
                let recipes = self.recipes.calls().into_iter().map(StreamId);
                for stream in connection.calls_where(Call::is_duplex).into_iter().chain(recipes) {
                    end(connection, stream, &Status::from(&Unavailable::Stopped));
                    self.intake.gone.push(stream.0);
                }
            }
            Link::Http1(http) => http.shutdown(),
            Link::Unknown(_) => {
                let mut http = Http1::of_clients(&self.settings.shards);
                http.shutdown();
                self.link = Link::Http1(http);
            }
        }
    }

    /// The client sends no more; whether something is still to be answered. Over HTTP/2 nothing
    /// is, as for Go's server: a client that takes answers keeps its side open.
    pub fn input_ended(&mut self) -> bool {
        match &mut self.link {
            Link::Http1(http) => {
                http.input_ended();
                !http.is_closed()
            }
            Link::Http2(_) | Link::Unknown(_) => false,
        }
    }

    /// Whether the socket may close once the output is empty.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.link {
            Link::Http2(connection) => connection.is_drained(),
            Link::Http1(http) => http.is_closed(),
            Link::Unknown(_) => false,
        }
    }

    /// Whether nothing is being asked or answered here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.link {
            Link::Http2(connection) => {
                connection.streams_open() == 0 && connection.output().is_empty()
            }
            Link::Http1(http) => http.output().is_empty(),
            Link::Unknown(_) => true,
        }
    }

    /// So much waits to be sent that nothing should be received until some of it has left.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        match &self.link {
            Link::Http2(connection) => connection.is_congested(),
            Link::Http1(http) => http.output().len() > self.settings.limits.output_size_max,
            Link::Unknown(_) => false,
        }
    }

    /// The bytes to send next.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        match &self.link {
            Link::Http2(connection) => connection.output(),
            Link::Http1(http) => http.output(),
            Link::Unknown(_) => &[],
        }
    }

    /// `n` bytes of the output are with the kernel.
    pub fn sent(&mut self, n: usize) {
        match &mut self.link {
            Link::Http2(connection) => connection.sent(n),
            Link::Http1(http) => http.sent(n),
            Link::Unknown(_) => {}
        }
    }
}

/// What a page about a read needs to know of its answer.
fn well<'a>(piece: &'a Piece<&[u8]>) -> Result<(), &'a Status> {
    match piece {
        Piece::Part(_) | Piece::Last(_) => Ok(()),
        Piece::End(status) => Err(status),
    }
}

/// Asks the shard what a plain request needs, if that can be had.
fn ask(http: &mut Http1, plain: Option<Plain>, sink: &mut impl Sink) {
    let mut next = plain;
    while let Some(Plain::Health { serializable }) = next {
        if serializable || sink.has_leader() {
            return sink.submit(HTTP1_STREAM, health_read(serializable));
        }
        next = http.reply(&plain::leaderless());
    }
}

/// etcd's own health question: the first key of all, without its value.
fn health_read(serializable: bool) -> Request {
    let mut query = RangeQuery::new(KeyRange::One(b"\0"));
    query.limit = 1;
    query.keys_only = true;
    Request::Range(Range::new(b"\0", b"\0", &query, serializable))
}

fn immediate(
    connection: &mut Connection<Call>,
    stream: StreamId,
    answer: Immediate,
    sink: &mut impl Sink,
) {
    match answer {
        Immediate::End(status) => end(connection, stream, &status),
        Immediate::Message(message) => {
            connection.reply_unary(stream, HEAD, &message, TRAILERS_OK);
        }
        Immediate::Stream(message) => {
            if let Some(call) = connection.call_mut(stream) {
                call.stream();
            }
            connection.reply_head(stream, HEAD, false);
            connection.reply_data(stream, &message, false);
        }
        Immediate::Done if connection.call_mut(stream).is_some_and(|call| call.is_streaming()) => {
            connection.reply_trailers(stream, TRAILERS_OK);
        }
        Immediate::Recipe(..) => unreachable!("it was begun"),
        Immediate::Done => end(connection, stream, &Status::fixed(Code::Ok, "")),
        Immediate::Abort(code, status) => {
            let mut block = status_field(code);
            hpack::encode_literal(&mut block, b"content-type", b"application/grpc");
            block.extend_from_slice(&answer::trailers(&status));
            connection.reply_head(stream, &block, true);
        }
        Immediate::Plain(Plain::Page(page)) => show(connection, stream, &page),
        Immediate::Plain(Plain::Health { serializable }) if serializable || sink.has_leader() => {
            sink.submit(stream.0, health_read(serializable));
        }
        Immediate::Plain(Plain::Health { .. }) => show(connection, stream, &plain::leaderless()),
    }
}

/// The calls whose time is over, and when that of the next one is.
fn late(connection: &Connection<Call>, now: Tick) -> (Vec<StreamId>, Option<Tick>) {
    let first = Cell::new(None::<Tick>);
    let late = connection.calls_where(|call| {
        let Some(at) = call.deadline else { return false };
        if at > now {
            first.set(Some(first.get().map_or(at, |first| first.min(at))));
        }
        at <= now
    });
    (late, first.get())
}

/// Ends a call with a status and no (further) message.
fn end(connection: &mut Connection<Call>, stream: StreamId, status: &Status) {
    if connection.call_mut(stream).is_some_and(|call| call.is_streaming()) {
        connection.reply_trailers(stream, &answer::trailers(status));
        return;
    }
    connection.reply_head(stream, &answer::trailers_only(status), true);
}

/// Answers a plain request over HTTP/2.
fn show(connection: &mut Connection<Call>, stream: StreamId, page: &Page) {
    let mut block = status_field(page.code);
    hpack::encode_literal(&mut block, b"content-type", page.content_type.as_bytes());
    let cors = plain::CORS.iter().copied();
    let own = page.fields.iter().map(|(name, value)| (*name, value.as_ref()));
    for (name, value) in cors.chain(own) {
        hpack::encode_literal(&mut block, name.to_ascii_lowercase().as_bytes(), value.as_bytes());
    }
    connection.reply_head(stream, &block, false);
    connection.reply_data(stream, page.body.as_bytes(), true);
}

fn status_field(code: u16) -> Vec<u8> {
    let mut block = Vec::with_capacity(96);
    if code == 200 {
        hpack::encode_indexed(&mut block, 8);
    } else {
        hpack::encode_literal(&mut block, b":status", code.to_string().as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::call::PREFIX_SIZE;
    use crate::api::call::set_prefix;
    use crate::api::proto::etcdserverpb;
    use crate::api::proto::mvccpb;
    use crate::api::pulls::STALL_MS;
    use crate::api::watch::WatchRequest;
    use crate::config::Config;
    use crate::http2::PREFACE;
    use crate::http2::frame;
    use prost::Message;

    /// Takes no request.
    struct Nobody;

    impl Sink for Nobody {
        fn submit(&mut self, stream: u32, request: Request) {
            panic!("a request on stream {stream}: {request:?}");
        }

        fn forget(&mut self, stream: u32) {
            panic!("stream {stream} has no request");
        }

        fn watch(&mut self, stream: u32, request: WatchRequest) {
            panic!("a message on stream {stream}: {request:?}");
        }
    }

    #[test]
    fn a_request_that_does_not_come_in_whole_in_time_ends_its_connection() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let late = settings.limits.receive_timeout + 1;
        let whole = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
        let cases = [
            (b"".as_slice(), false),
            (b"PRI * HTT", false),
            (b"GET /health HT", false),
            (whole, true),
            (&[whole, b"GET /hea"].concat(), false),
        ];
        for (bytes, stays) in cases {
            let mut session = Session::new(&settings);
            session.receive(bytes, Tick(5), &mut Nobody).expect("no fault yet");
            assert_eq!(session.tick(Tick(10), &mut Nobody), Ok(()));
            assert_eq!(session.tick(Tick(10 + late - 1), &mut Nobody), Ok(()));
            let after = session.tick(Tick(10 + late), &mut Nobody);
            assert_eq!(after.is_ok(), stays, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_connection_that_has_said_nothing_ends_with_the_server() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let mut session = Session::new(&settings);
        session.receive(b"PRI", Tick(5), &mut Nobody).expect("no fault");
        assert!(!session.is_done());
        session.shutdown(Tick(6));
        assert!(session.is_done());
    }

    /// A member that may know no leader, or have no vote.
    #[derive(Default)]
    struct Alone {
        has_leader: bool,
        is_learner: bool,
        forgotten: Vec<u32>,
    }

    impl Sink for Alone {
        fn submit(&mut self, _stream: u32, _request: Request) {}

        fn forget(&mut self, stream: u32) {
            self.forgotten.push(stream);
        }

        fn watch(&mut self, _stream: u32, _request: WatchRequest) {}

        fn has_leader(&self) -> bool {
            self.has_leader
        }

        fn is_learner(&self) -> bool {
            self.is_learner
        }
    }

    /// The head of a gRPC call, with one more field or none.
    fn head(path: &str, field: Option<(&str, &str)>) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields.into_iter().chain(field) {
            hpack::encode_literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        block
    }

    /// A watch and a list of members, opened with or without this metadata.
    fn two_calls(field: Option<(&str, &str)>) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        frame::put_settings(&mut bytes, &[]);
        for (stream, path) in
            [(1, "/etcdserverpb.Watch/Watch"), (3, "/etcdserverpb.Cluster/MemberList")]
        {
            frame::put_block(&mut bytes, stream, &head(path, field), false);
            let end = if stream == 1 { 0 } else { frame::END_STREAM };
            frame::put(&mut bytes, frame::DATA, end, stream, &[0; 5]);
        }
        bytes
    }

    /// How often the output tells of a missing leader.
    fn refusals(session: &mut Session) -> usize {
        count(session, b"etcdserver: no leader")
    }

    /// How often the output tells this.
    fn count(session: &mut Session, text: &[u8]) -> usize {
        let count = session.output().windows(text.len()).filter(|part| *part == text).count();
        session.sent(session.output().len());
        count
    }

    #[test]
    fn who_asks_for_a_leader_does_not_wait_for_one() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let asks = Some(("hasleader", "true"));
        for (field, has_leader, due) in [
            (asks, false, 2),
            (asks, true, 0),
            (None, false, 0),
            (Some(("hasleader", "false")), false, 0),
        ] {
            let mut sink = Alone { has_leader, ..Alone::default() };
            let mut session = Session::new(&settings);
            assert_eq!(session.receive(&two_calls(field), Tick(0), &mut sink), Ok(()));
            assert_eq!(refusals(&mut session), due, "{field:?}");
        }
    }

    #[test]
    fn a_stream_that_asks_for_a_leader_ends_after_three_looks_in_a_row_without() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let patience = settings.election_timeout;
        for (field, due) in [(Some(("hasleader", "true")), 1), (None, 0)] {
            let mut sink = Alone { has_leader: true, ..Alone::default() };
            let mut session = Session::new(&settings);
            assert_eq!(session.tick(Tick(1), &mut sink), Ok(()));
            assert_eq!(session.receive(&two_calls(field), Tick(1), &mut sink), Ok(()));
            for (look, has_leader) in [false, false, true, false, false].into_iter().enumerate() {
                sink.has_leader = has_leader;
                let now = 1 + patience * (1 + u64::try_from(look).unwrap());
                assert_eq!(session.tick(Tick(now), &mut sink), Ok(()));
                assert_eq!(refusals(&mut session), 0, "look {look}");
            }
            assert_eq!(session.tick(Tick(6 * patience), &mut sink), Ok(()), "too early");
            assert_eq!(refusals(&mut session), 0);
            assert_eq!(session.tick(Tick(1 + 6 * patience), &mut sink), Ok(()));
            assert_eq!(refusals(&mut session), due);
            assert_eq!(sink.forgotten, vec![1; due], "its watchers are forgotten");
        }
    }

    /// Watchers and locks never came to the shard, which alone refused: a learner took them.
    #[test]
    fn a_learner_refuses_all_but_its_status_and_reads_that_may_be_stale() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let stale = etcdserverpb::RangeRequest {
            key: "a".into(),
            serializable: true,
            ..etcdserverpb::RangeRequest::default()
        };
        for (path, message, due) in [
            ("/etcdserverpb.Watch/Watch", vec![], 1),
            ("/etcdserverpb.Lease/LeaseKeepAlive", vec![], 1),
            ("/v3lockpb.Lock/Lock", vec![], 1),
            ("/v3electionpb.Election/Observe", vec![], 1),
            ("/grpc.health.v1.Health/Check", vec![], 1),
            ("/etcdserverpb.KV/Put", vec![], 1),
            ("/etcdserverpb.KV/Range", vec![], 1),
            ("/etcdserverpb.KV/Range", stale.encode_to_vec(), 0),
            ("/etcdserverpb.Maintenance/Status", vec![], 0),
        ] {
            let mut sink = Alone { is_learner: true, ..Alone::default() };
            let mut session = Session::new(&settings);
            let bytes = asking(path, &message);
            assert_eq!(session.receive(&bytes, Tick(0), &mut sink), Ok(()));
            let told = count(&mut session, b"etcdserver: rpc not supported for learner");
            assert_eq!(told, due, "{path}");
        }
    }

    /// A probe waited for the whole time of a request to hear that there was no leader.
    #[test]
    fn health_is_not_waited_for_where_there_is_no_leader() {
        let settings = Rc::new(Settings::new(&Config::default()));
        for (target, due) in [("/health", 2), ("/health?serializable=true", 0)] {
            let mut session = Session::new(&settings);
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(2);
            let mut sink = Alone::default();
            assert_eq!(session.receive(bytes.as_bytes(), Tick(0), &mut sink), Ok(()));
            let told = br#"{"health":"false","reason":"RAFT NO LEADER"}"#;
            assert_eq!(count(&mut session, told), due, "{target}");
        }
    }

    /// Takes requests that no test here looks at.
    struct Nowhere;

    impl Sink for Nowhere {
        fn submit(&mut self, _stream: u32, _request: Request) {}

        fn forget(&mut self, _stream: u32) {}

        fn watch(&mut self, _stream: u32, _request: WatchRequest) {}
    }

    /// A client's first bytes, and a gRPC request with a second of time for it.
    fn asking(path: &str, message: &[u8]) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        frame::put_settings(&mut bytes, &[]);
        frame::put_block(&mut bytes, 1, &head(path, Some(("grpc-timeout", "1S"))), false);
        let size = u8::try_from(message.len()).unwrap();
        let body = [&[0, 0, 0, 0, size], message].concat();
        frame::put(&mut bytes, frame::DATA, frame::END_STREAM, 1, &body);
        bytes
    }

    /// A health watch answers its head at once and stays open: when its client's time was over,
    /// a second head was sent, which the connection forbids, and the whole process ended.
    #[test]
    fn a_watch_whose_time_is_over_ends_with_trailers() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let mut session = Session::new(&settings);
        let bytes = asking("/grpc.health.v1.Health/Watch", &[]);
        assert_eq!(session.receive(&bytes, Tick(0), &mut Nowhere), Ok(()));
        assert!(!session.is_idle(), "the watch is open");
        session.sent(session.output().len());
        assert_eq!(session.tick(Tick(999), &mut Nowhere), Ok(()));
        assert!(session.output().is_empty(), "there is time left");
        assert_eq!(session.tick(Tick(1000), &mut Nowhere), Ok(()));
        let status = b"grpc-status\x014";
        let is_there = session.output().windows(status.len()).any(|part| part == status);
        assert!(is_there, "it ends as too late: {:?}", session.output());
        session.sent(session.output().len());
        assert!(session.is_idle(), "the watch is over");
    }

    /// Requests of few bytes each, whose `:path` and `content-type` stand in the table of headers.
    fn requests(path: &[u8], count: u32) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        frame::put_settings(&mut bytes, &[]);
        // The lengths of a path of 128 to 16,510 bytes, and of `application/grpc`.
        let rest = u16::try_from(path.len() - 127).unwrap();
        let [high, low] = [rest >> 7, rest & 0x7f].map(|part| u8::try_from(part).unwrap());
        let opening = [0x83, 0x86, 0x44, 0x7f, low | 0x80, high];
        let block = [&opening[..], path, &[0x5f, 16], b"application/grpc"].concat();
        frame::put_block(&mut bytes, 1, &block, true);
        for nth in 1..count {
            frame::put_block(&mut bytes, 2 * nth + 1, &[0x83, 0x86, 0xbf, 0xbe], true);
        }
        bytes
    }

    /// A path of 4 KB was repeated to each of twenty thousand requests of 13 bytes, at nine times
    /// its size: one receive made 700 MB.
    #[test]
    fn what_one_receive_is_answered_has_a_bound() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let path = [b"/".as_slice(), &[0xff; 3900]].concat();
        let mut session = Session::new(&settings);
        let result = session.receive(&requests(&path, 20_000), Tick(0), &mut Nowhere);
        assert_eq!(result, Err(Closing { reason: "reads none of the answers" }));
        assert!(session.output().len() < 13 << 20, "{}", session.output().len());
    }

    #[test]
    fn a_thousand_refusals_leave_in_one_go() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let path = [b"/a.B/".as_slice(), &[b'c'; 200]].concat();
        let mut session = Session::new(&settings);
        assert_eq!(session.receive(&requests(&path, 1000), Tick(0), &mut Nobody), Ok(()));
        assert_eq!(count(&mut session, b"unknown service a.B"), 1000);
    }

    /// A second message was passed over.
    #[test]
    fn a_call_that_is_answered_by_many_messages_takes_one() {
        const WHOLE: &[u8] = &[0; 5];
        let settings = Rc::new(Settings::new(&Config::default()));
        let two = "multiple request messages for non-client-streaming RPC";
        let watch = "/grpc.health.v1.Health/Watch";
        for (path, frames, end, due) in [
            (watch, [WHOLE, WHOLE, b""], true, two),
            (watch, [WHOLE, WHOLE, b""], false, two),
            (watch, [b"\0\0\0\0\0\0\0\0\0\0", b"", b""], true, two),
            (watch, [b"\0\0\0\0\0\0\0\0\0\0\0", b"", b""], false, two),
            (watch, [b"\0\0\0", b"\0\0\0\0", b"\0\0\0"], true, two),
            (watch, [WHOLE, b"\0\0\0\0", b""], true, "\x08\x01"),
            (watch, [WHOLE, b"\0\0\0\0", b""], false, ""),
            (watch, [WHOLE, b"\0\0\0\0", b"\x02"], true, "unexpected EOF"),
            (watch, [WHOLE, b"\x01\0\0\0", b"\0"], false, "compressed flag set"),
            ("/grpc.health.v1.Health/Check", [WHOLE, WHOLE, WHOLE], true, "\x08\x01"),
        ] {
            let mut session = Session::new(&settings);
            let mut bytes = PREFACE.to_vec();
            frame::put_settings(&mut bytes, &[]);
            frame::put_block(&mut bytes, 1, &head(path, None), false);
            for (at, part) in frames.into_iter().enumerate() {
                let flags = if end && at == 2 { frame::END_STREAM } else { 0 };
                frame::put(&mut bytes, frame::DATA, flags, 1, part);
            }
            assert_eq!(session.receive(&bytes, Tick(0), &mut Nowhere), Ok(()));
            let texts = [two, "unexpected EOF", "compressed flag set", "\x08\x01"];
            let output = session.output();
            let is_in = |text: &[u8]| output.windows(text.len()).any(|part| part == text);
            let told: Vec<_> = texts.into_iter().filter(|text| is_in(text.as_bytes())).collect();
            let due: Vec<_> = [due].into_iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(told, due, "{path} {frames:?} {end}");
        }
    }

    /// A message as it is sent.
    fn framed(message: &impl Message) -> Vec<u8> {
        let mut out = vec![0; PREFIX_SIZE];
        message.encode(&mut out).unwrap();
        set_prefix(&mut out);
        out
    }

    /// The recipe went on as if its stream was there, and so did its watcher.
    #[test]
    fn an_observer_whose_stream_is_reset_is_forgotten() {
        let mut settings = Settings::new(&Config::default());
        settings.limits.queued_size_max = 1;
        let mut session = Session::new(&Rc::new(settings));
        let mut sink = Alone { has_leader: true, ..Alone::default() };
        let bytes = asking("/v3electionpb.Election/Observe", &[]);
        assert_eq!(session.receive(&bytes, Tick(0), &mut sink), Ok(()));
        session.go_on(&mut sink);
        let kv = mvccpb::KeyValue { value: vec![7; 100_000].into(), ..Default::default() };
        let found = etcdserverpb::RangeResponse { kvs: vec![kv.clone()], ..Default::default() };
        assert!(!session.reply(2, Piece::Last(&framed(&found)), &mut sink));
        session.go_on(&mut sink);
        assert!(sink.forgotten.is_empty(), "the leader is told, but for what waits for its window");
        let event = mvccpb::Event { kv: Some(kv), ..Default::default() };
        let (watch_id, events) = (1, vec![event]);
        let told = etcdserverpb::WatchResponse { watch_id, events, ..Default::default() };
        assert_eq!(session.push(2, &framed(&told)), Some(0));
        session.go_on(&mut sink);
        assert_eq!(sink.forgotten, [1, 2], "no more may wait");
        assert_eq!(session.push(2, &framed(&told)), None);
    }

    /// The shard was told to forget the answer, and the call waited for it for ever.
    #[test]
    fn a_lock_whose_answer_stalls_ends() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let mut session = Session::new(&settings);
        let mut sink = Alone { has_leader: true, ..Alone::default() };
        let mut bytes = PREFACE.to_vec();
        frame::put_settings(&mut bytes, &[]);
        frame::put(&mut bytes, frame::SETTINGS, frame::ACK, 0, &[]);
        frame::put_block(&mut bytes, 1, &head("/v3lockpb.Lock/Lock", None), false);
        frame::put(&mut bytes, frame::DATA, frame::END_STREAM, 1, &[0; 5]);
        assert_eq!(session.receive(&bytes, Tick(0), &mut sink), Ok(()));
        session.go_on(&mut sink);
        session.sent(session.output().len());
        assert!(session.reply(2, Piece::Part(&[]), &mut sink), "there is more to come");
        let timeout = b"etcdserver: request timed out";
        for (now, due) in [(STALL_MS - 1, 0), (STALL_MS, 1)] {
            assert_eq!(session.tick(Tick(now), &mut sink), Ok(()));
            assert_eq!(count(&mut session, timeout), due);
        }
        assert!(session.is_idle() && sink.forgotten.contains(&2));
    }

    /// All calls were looked through at each tick, also where none had a deadline.
    #[test]
    fn calls_are_looked_through_when_the_time_of_one_may_be_over() {
        let settings = Rc::new(Settings::new(&Config::default()));
        let mut session = Session::new(&settings);
        let mut bytes = PREFACE.to_vec();
        frame::put_settings(&mut bytes, &[]);
        for (stream, timeout) in [(1, None), (3, Some("2S")), (5, Some("1S")), (7, Some("3S"))] {
            let field = timeout.map(|timeout| ("grpc-timeout", timeout));
            let head = head("/grpc.health.v1.Health/Watch", field);
            frame::put_block(&mut bytes, stream, &head, false);
            frame::put(&mut bytes, frame::DATA, frame::END_STREAM, stream, &[0; 5]);
        }
        assert_eq!(session.receive(&bytes, Tick(0), &mut Nowhere), Ok(()));
        for (now, first, due) in [
            (0, Some(1_000), 0),
            (999, Some(1_000), 0),
            (1_000, Some(2_000), 1),
            (1_999, Some(2_000), 0),
            (3_500, None, 2),
            (9_999, None, 0),
        ] {
            assert_eq!(session.tick(Tick(now), &mut Nowhere), Ok(()));
            assert_eq!(session.intake.deadline_first, first.map(Tick), "at {now}");
            assert_eq!(count(&mut session, b"grpc-status\x014"), due, "at {now}");
        }
        assert!(!session.is_idle(), "the one without an end is open");
    }
}
