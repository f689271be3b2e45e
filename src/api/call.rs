//! One gRPC call's way in: from HTTP/2 headers and data to a checked request.

use crate::api::answers::WHOLE_SIZE_MAX;
use crate::api::cluster;
use crate::api::health;
use crate::api::kv;
use crate::api::lease;
use crate::api::method;
use crate::api::method::Flow;
use crate::api::method::Method;
use crate::api::partial::Partial;
use crate::api::plain;
use crate::api::plain::Plain;
use crate::api::recipe::Do;
use crate::api::recipe::Recipe;
use crate::api::status;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::api::status::echo;
use crate::api::txn;
use crate::api::watch::WatchRequest;
use crate::config::Config;
use crate::config::REQUEST_OVERHEAD_BYTES;
use crate::http2::Calls;
use crate::http2::ErrorCode;
use crate::http2::Head;
use crate::http2::Limits;
use crate::http2::StreamId;
use crate::shard::request::Request;
use crate::shard::request::Unavailable;
use crate::types::Tick;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Bytes before a message: whether it is compressed, and how long it is.
pub(crate) const PREFIX_SIZE: usize = 5;

/// Bytes that etcd counts of a change beside its message: a field's tag and length, a number that
/// tells it from others. It may be one less, or for small messages three.
const PROPOSAL_HEAD_SIZE: usize = 18;

/// Milliseconds of the shortest interval of progress, as in etcd.
const WATCH_NOTIFY_INTERVAL_MIN: u64 = 100;

/// Where a session's requests go.
pub trait Sink {
    /// Takes the request of one stream; its answer comes by
    /// [`Session::reply`](crate::api::Session::reply).
    fn submit(&mut self, stream: u32, request: Request);

    /// Nobody waits for the answer of this stream any more.
    fn forget(&mut self, stream: u32);

    /// Takes a message of a stream of watchers; what it leads to comes by
    /// [`Session::push`](crate::api::Session::push).
    fn watch(&mut self, stream: u32, request: WatchRequest);

    /// Whether the shard that requests go to knows a leader; some calls do not want to wait for
    /// one.
    fn has_leader(&self) -> bool {
        true
    }

    /// Whether the shard that requests go to has no vote: most calls are refused then. The node's
    /// own questions are not.
    fn is_learner(&self) -> bool {
        false
    }
}

/// What every session of a node knows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Largest message taken in, in bytes: `--max-request-bytes` and half a MiB around it.
    pub message_size_max: usize,
    /// Largest change taken in, in bytes: `--max-request-bytes`. etcd counts a few more than the
    /// message has (a field and a number before it), and so it is done here.
    pub request_size_max: usize,
    /// Operations of one transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Milliseconds of silence before a watcher that asked for it is told how far all is
    /// (`--watch-progress-notify-interval`), 100 at least.
    pub watch_notify_interval: u64,
    /// Bytes of keys and values of an answer that is made in one go.
    pub whole_size_max: usize,
    /// Milliseconds between two looks for a leader, for calls that do not want to go on without
    /// (`--election-timeout`).
    pub election_timeout: u64,
    /// What `/shards` says.
    pub shards: Rc<str>,
    /// Whether the empty handler answers.
    pub bench: bool,
    /// What one HTTP/2 connection may do.
    pub limits: Limits,
}

impl Settings {
    /// What a node's configuration means for its sessions.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let to_usize = |size: u64| usize::try_from(size).expect("usize is 64 bits");
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let limits = Limits {
            streams_max: config.limits.streams_max,
            ping_interval_min: ms(config.connections.keepalive_min_time),
            keepalive_interval: ms(config.connections.keepalive_interval),
            keepalive_timeout: ms(config.connections.keepalive_timeout),
            ..Limits::default()
        };
        Self {
            message_size_max: to_usize(config.limits.request_bytes_max + REQUEST_OVERHEAD_BYTES),
            request_size_max: to_usize(config.limits.request_bytes_max),
            txn_ops_max: to_usize(config.limits.txn_ops_max),
            watch_notify_interval: ms(config.connections.watch_notify_interval)
                .max(WATCH_NOTIFY_INTERVAL_MIN),
            whole_size_max: WHOLE_SIZE_MAX,
            election_timeout: config.raft.election_timeout_ms,
            shards: plain::shards(config.shards().map(|(_, it)| &it.advertise_client_urls[..]))
                .into(),
            bench: config.connections.bench_method,
            limits,
        }
    }
}

impl Settings {
    /// Bytes that the messages of a stream of rows come near to: `--max-request-bytes`.
    pub(crate) fn stream_message_size(&self) -> usize {
        let overhead = usize::try_from(REQUEST_OVERHEAD_BYTES).expect("usize is 64 bits");
        self.message_size_max.saturating_sub(overhead)
    }

    /// Whether a change whose message is so long is more than etcd proposes.
    fn is_too_large(&self, message: &[u8]) -> bool {
        message.len() + PROPOSAL_HEAD_SIZE > self.request_size_max
    }
}

/// How far a call has come.
#[derive(Debug)]
enum Phase {
    /// Its message is still coming in.
    Body(Method),
    /// A plain request; its body, if any, is dropped.
    Plain(Plain),
    /// `/health`: its read is under way.
    Health,
    /// The shard has it, or its answer lies ready.
    Waiting,
    /// Its answer has begun and has no end of its own.
    Streaming,
    /// Messages come and go.
    Duplex(Duplex),
}

/// A call whose client sends messages for as long as it likes.
#[derive(Debug)]
struct Duplex {
    flow: Flow,
    /// The head of the answer has left.
    is_begun: bool,
    /// The client sends no more.
    has_ended: bool,
    /// Answers that are due.
    due: u32,
    /// How it ends once they have left; well, if nothing is here.
    failure: Option<Status>,
}

/// One call between its headers and its answer.
#[derive(Debug)]
pub(crate) struct Call {
    phase: Phase,
    /// Of a message that comes in pieces; none for one that came whole.
    partial: Option<Partial>,
    /// When the client has given up.
    pub(crate) deadline: Option<Tick>,
    /// It is a stream that is to end when there is no leader for a while.
    pub(crate) needs_leader: bool,
}

impl Call {
    /// Whether the answer is a health page.
    pub(crate) fn is_health(&self) -> bool {
        matches!(self.phase, Phase::Health)
    }

    /// The head of its answer has left: what ends it now can only be trailers.
    pub(crate) fn stream(&mut self) {
        self.phase = Phase::Streaming;
    }

    /// Whether its answer has begun.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming | Phase::Duplex(Duplex { is_begun: true, .. }))
    }

    /// Whether messages come and go on it.
    pub(crate) fn is_duplex(&self) -> bool {
        matches!(self.phase, Phase::Duplex(_))
    }

    /// A message of its own leaves on it now; whether its head has to leave first.
    pub(crate) fn begin(&mut self) -> bool {
        match &mut self.phase {
            Phase::Duplex(duplex) => !std::mem::replace(&mut duplex.is_begun, true),
            Phase::Body(_)
            | Phase::Plain(_)
            | Phase::Health
            | Phase::Waiting
            | Phase::Streaming => false,
        }
    }

    /// An answer that was due has left; if that was the last of all, how the call ends.
    pub(crate) fn answered(&mut self) -> Option<Result<(), Status>> {
        let Phase::Duplex(duplex) = &mut self.phase else { return None };
        duplex.due = duplex.due.saturating_sub(1);
        let is_over = duplex.has_ended && duplex.due == 0;
        is_over.then(|| duplex.failure.take().map_or(Ok(()), Err))
    }
}

/// What a call is answered at once, without a shard.
#[derive(Debug)]
pub(crate) enum Immediate {
    /// It ends with this status.
    End(Status),
    /// It ends well with this message, its prefix included.
    Message(Vec<u8>),
    /// A message of a stream that stays open.
    Stream(Vec<u8>),
    /// All is answered, and nothing more will be asked.
    Done,
    /// It is made of other calls, of which these are the first.
    Recipe(Box<Recipe>, Vec<Do>),
    /// It is no gRPC: this HTTP status, and the same said in gRPC's terms.
    Abort(u16, Status),
    /// A plain request.
    Plain(Plain),
}

/// One routing decision, kept while a client repeats its headers.
#[derive(Debug)]
pub(crate) struct Route {
    head: u64,
    decision: Decision,
    timeout_ms: Option<u64>,
    /// It asks for a leader (`hasleader: true`).
    needs_leader: bool,
}

/// What a request's headers lead to.
#[derive(Debug)]
enum Decision {
    /// One of our calls.
    Call(Method),
    /// One of our calls, whose time is over already.
    Late,
    /// No call: it ends like this.
    Refuse(Status),
    /// No gRPC at all: an HTTP status and gRPC's words for it.
    Abort(u16, Status),
    /// A plain request.
    Plain(Plain),
}

/// Answers that may lie ready before the connection gets them. 256: few beside what its output may
/// hold, where one receive can bring twenty thousand requests that are refused.
const IMMEDIATE_MAX: usize = 256;

/// A connection's calls on their way to the shard, for the length of one receive.
pub(crate) struct Dispatch<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) settings: &'a Settings,
    pub(crate) now: Tick,
    pub(crate) route: &'a mut Option<Route>,
    /// Answers that are ready already.
    pub(crate) immediate: &'a mut Vec<(StreamId, Immediate)>,
    /// Request bytes taken over, to be told to the connection's windows.
    pub(crate) consumed: &'a mut Vec<(StreamId, usize)>,
    /// Bytes that messages in pieces take.
    pub(crate) partials: &'a Rc<Cell<usize>>,
    /// Streams that ended before their answer did.
    pub(crate) gone: &'a mut Vec<u32>,
    /// No call's time is over before this; none if none has an end.
    pub(crate) deadline_first: &'a mut Option<Tick>,
}

impl<S: Sink> Dispatch<'_, S> {
    /// Makes the decision kept in `self.route` that of `head`.
    fn route(&mut self, head: &Head) {
        if self.route.as_ref().is_some_and(|route| route.head == head.id()) {
            return;
        }
        let timeout = head.grpc_timeout().map(timeout_ms);
        let decision = match (decide(head, self.settings), &timeout) {
            (Decision::Call(_) | Decision::Refuse(_), Some(Err(why))) => {
                let text = format!("malformed grpc-timeout: {why}");
                Decision::Abort(400, Status::made(Code::Internal, text))
            }
            (Decision::Call(_), Some(Ok(0))) => Decision::Late,
            (decision, _) => decision,
        };
        let timeout_ms = timeout.and_then(Result::ok);
        let needs_leader = head.get(b"hasleader") == Some(b"true");
        *self.route = Some(Route { head: head.id(), decision, timeout_ms, needs_leader });
    }

    /// A message is whole.
    fn dispatch(&mut self, stream: StreamId, method: Method, message: &[u8]) {
        let request = match method {
            Method::Put => kv::put(message),
            Method::Range if self.sink.is_learner() && kv::is_linearizable(message) => {
                Err(Status::from(&Unavailable::Learner))
            }
            Method::Range => kv::range(message),
            Method::RangeStream => kv::range_stream(message),
            Method::DeleteRange => kv::delete_range(message),
            Method::Txn => txn::txn(message, self.settings.txn_ops_max),
            Method::Compact => kv::compact(message),
            Method::HashKv => kv::hash_kv(message),
            Method::Hash => kv::hash(message),
            Method::Defragment => kv::defragment(message),
            Method::Status => Ok(Request::Status),
            Method::MemberList => kv::member_list(message),
            Method::Alarm => kv::alarm(message),
            Method::MemberAdd => cluster::add(message),
            Method::MemberRemove => cluster::remove(message),
            Method::MemberUpdate => cluster::update(message),
            Method::MemberPromote => cluster::promote(message),
            Method::MoveLeader => cluster::move_leader(message),
            Method::LeaseGrant => lease::grant(message),
            Method::LeaseRevoke => lease::revoke(message),
            Method::LeaseTimeToLive => lease::time_to_live(message),
            Method::LeaseLeases => lease::leases(message),
            Method::Recipe(goal) => {
                let answer = match Recipe::begin(goal, message) {
                    Ok((recipe, first)) => Immediate::Recipe(Box::new(recipe), first),
                    Err(status) => Immediate::End(status),
                };
                self.immediate.push((stream, answer));
                return;
            }
            Method::Duplex(_) => unreachable!("it is taken message by message"),
            Method::HealthCheck | Method::HealthWatch => {
                self.immediate
                    .push((stream, health::answer(message, method == Method::HealthWatch)));
                return;
            }
            Method::BenchEmpty => {
                let answer = kv::put(message)
                    .map_or_else(Immediate::End, |_| Immediate::Message([0; PREFIX_SIZE].to_vec()));
                self.immediate.push((stream, answer));
                return;
            }
        };
        match request {
            Ok(Request::Write(_)) if self.settings.is_too_large(message) => {
                let status = Status::from(&Unavailable::TooLarge);
                self.immediate.push((stream, Immediate::End(status)));
            }
            Ok(request) => self.sink.submit(stream.0, request),
            Err(status) => self.immediate.push((stream, Immediate::End(status))),
        }
    }

    /// A piece of a call's message has come; `true` if the call goes no further.
    fn take(&mut self, stream: StreamId, call: &mut Call, data: &[u8], end: bool) {
        let method = match &call.phase {
            Phase::Body(method) => *method,
            Phase::Duplex(_) => return self.take_duplex(stream, call, data, end),
            Phase::Plain(plain) if end => {
                self.immediate.push((stream, Immediate::Plain(plain.clone())));
                call.phase = Phase::Health;
                return;
            }
            Phase::Plain(_) | Phase::Health | Phase::Waiting | Phase::Streaming => {
                self.consumed.push((stream, data.len()));
                return;
            }
        };
        if call.partial.is_none()
            && end
            && let Whole::Message(message) = only(method, data, end, self.settings)
        {
            call.phase = Phase::Waiting;
            return self.dispatch(stream, method, message);
        }
        if !end {
            self.consumed.push((stream, data.len()));
        }
        let partial = call.partial.get_or_insert_with(|| Partial::new(self.partials));
        // What comes after a whole message is not kept where nobody looks for one more: it would
        // have no bound.
        let is_whole = !method.is_answered_by_many()
            && matches!(whole(&partial.bytes, self.settings), Whole::Message(_));
        let answer = if is_whole || partial.extend(data, self.settings) {
            match only(method, &partial.bytes, end, self.settings) {
                Whole::Message(message) if end => {
                    self.dispatch(stream, method, message);
                    None
                }
                Whole::Message(_) | Whole::Short if !end => return,
                Whole::Message(_) | Whole::Short => Some(cut_short(method, partial.bytes.len())),
                Whole::Wrong(status) => Some(status),
            }
        } else {
            Some(Status::from(&Unavailable::TooManyRequests))
        };
        self.immediate.extend(answer.map(|status| (stream, Immediate::End(status))));
        call.phase = Phase::Waiting;
        call.partial = None;
    }

    /// A piece of a client's messages has come.
    fn take_duplex(&mut self, stream: StreamId, call: &mut Call, data: &[u8], end: bool) {
        if !end {
            self.consumed.push((stream, data.len()));
        }
        let Phase::Duplex(duplex) = &mut call.phase else { return };
        let taken = match &mut call.partial {
            None => self.messages(stream, duplex, data).and_then(|n| {
                let rest = &data[n..];
                if !rest.is_empty() {
                    self.keep(&mut call.partial, rest)?;
                }
                Ok(())
            }),
            Some(_) => self.keep(&mut call.partial, data).and_then(|()| {
                let mut partial = call.partial.take().expect("it was just kept");
                let n = self.messages(stream, duplex, &partial.bytes)?;
                partial.drop_first(n);
                call.partial = Some(partial).filter(|partial| !partial.bytes.is_empty());
                Ok(())
            }),
        };
        duplex.has_ended |= end;
        let cut_short = Status::fixed(Code::Internal, "unexpected EOF");
        let taken = taken.and_then(|()| match (&call.partial, duplex.flow) {
            (Some(_), Flow::Watch) if end => Err(cut_short),
            // As grpc-go reads: less than a prefix is no message, and what was asked is answered.
            (Some(partial), Flow::KeepAlive) if end && partial.bytes.len() >= PREFIX_SIZE => {
                duplex.failure = Some(cut_short);
                Ok(())
            }
            (Some(_) | None, _) => Ok(()),
        });
        let is_over = duplex.has_ended && duplex.due == 0 && duplex.flow != Flow::Watch;
        let taken = taken.and_then(|()| match duplex.failure.take_if(|_| is_over) {
            Some(status) => Err(status),
            None => Ok(()),
        });
        match taken {
            Ok(()) if is_over => self.immediate.push((stream, Immediate::Done)),
            Ok(()) => {}
            Err(status) => {
                self.immediate.push((stream, Immediate::End(status)));
                self.gone.push(stream.0);
                call.partial = None;
            }
        }
    }

    /// Hands on the whole messages at the beginning of `bytes`; how many bytes they take.
    fn messages(
        &mut self,
        stream: StreamId,
        duplex: &mut Duplex,
        bytes: &[u8],
    ) -> Result<usize, Status> {
        let mut taken = 0;
        loop {
            match whole(&bytes[taken..], self.settings) {
                Whole::Message(message) => {
                    self.message(stream, duplex, message)?;
                    taken += PREFIX_SIZE + message.len();
                }
                Whole::Short => return Ok(taken),
                Whole::Wrong(status) => return Err(status),
            }
        }
    }

    /// A message of a call whose client sends many is whole.
    fn message(
        &mut self,
        stream: StreamId,
        duplex: &mut Duplex,
        message: &[u8],
    ) -> Result<(), Status> {
        match duplex.flow {
            Flow::Watch => self.sink.watch(stream.0, WatchRequest::read(message)?),
            Flow::KeepAlive => {
                let request =
                    lease::keep_alive(message).map_err(|_| status::MALFORMED_OF_STREAM)?;
                self.sink.submit(stream.0, request);
                duplex.due = duplex.due.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Keeps a piece of a message until it is whole.
    fn keep(&self, partial: &mut Option<Partial>, data: &[u8]) -> Result<(), Status> {
        let partial = partial.get_or_insert_with(|| Partial::new(self.partials));
        if partial.extend(data, self.settings) {
            return Ok(());
        }
        Err(Status::from(&Unavailable::TooManyRequests))
    }
}

/// What grpc-go answers a call whose message is not whole, of which so many bytes came: it tells a
/// prefix cut short from a message cut short, and a call that streams from one that does not.
fn cut_short(method: Method, size: usize) -> Status {
    let is_prefix = size < PREFIX_SIZE;
    let (code, text) = match (method.is_answered_by_many(), is_prefix) {
        (true, true) => (
            Code::Internal,
            "cardinality violation: received no request message from non-client-streaming RPC",
        ),
        (true, false) => (Code::Internal, "unexpected EOF"),
        (false, true) => (Code::Unknown, "EOF"),
        (false, false) => (Code::Unknown, "unexpected EOF"),
    };
    Status::fixed(code, text)
}

/// What a call's bytes so far are.
enum Whole<'a> {
    /// A message; what follows it in a call that takes one is not looked at, as by grpc-go.
    Message(&'a [u8]),
    /// Less than one.
    Short,
    /// Nothing that can become one.
    Wrong(Status),
}

fn whole<'a>(bytes: &'a [u8], settings: &Settings) -> Whole<'a> {
    let Some((&[flag, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX_SIZE>() else {
        return Whole::Short;
    };
    let len = u32::from_be_bytes([a, b, c, d]);
    let len = usize::try_from(len).expect("usize is 64 bits");
    match flag {
        0 => {}
        1 => {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Whole::Wrong(Status::fixed(Code::Internal, text));
        }
        flag => {
            let text = format!("grpc: received unexpected payload format {flag}");
            return Whole::Wrong(Status::made(Code::Internal, text));
        }
    }
    if len > settings.message_size_max {
        let max = settings.message_size_max;
        let text = format!("grpc: received message larger than max ({len} vs. {max})");
        return Whole::Wrong(Status::made(Code::ResourceExhausted, text));
    }
    rest.get(..len).map_or(Whole::Short, Whole::Message)
}

/// What all bytes so far of a call that takes one message are. Where its answer has many, grpc-go
/// looks for a message after it.
fn only<'a>(method: Method, bytes: &'a [u8], end: bool, settings: &Settings) -> Whole<'a> {
    let first = whole(bytes, settings);
    let rest = match &first {
        Whole::Message(message) if method.is_answered_by_many() => {
            &bytes[PREFIX_SIZE + message.len()..]
        }
        Whole::Message(_) | Whole::Short | Whole::Wrong(_) => return first,
    };
    let text = match whole(rest, settings) {
        Whole::Short if rest.is_empty() || end && rest.len() < PREFIX_SIZE => return first,
        Whole::Short if !end => return Whole::Short,
        Whole::Short => "unexpected EOF",
        Whole::Message(_) => {
            "cardinality violation: received multiple request messages for non-client-streaming RPC"
        }
        Whole::Wrong(status) => return Whole::Wrong(status),
    };
    Whole::Wrong(Status::fixed(Code::Internal, text))
}

/// What grpc-go would do with a request's headers, and the plain pages it has no part in.
fn decide(head: &Head, settings: &Settings) -> Decision {
    let kind = head.content_type().unwrap_or_default();
    if !is_grpc(kind) {
        let is_page = matches!(head.path(), b"/health" | b"/version" | b"/shards");
        if is_page || head.path().starts_with(b"/health?") {
            return Decision::Plain(plain::request(head.method(), head.path(), &settings.shards));
        }
        let text = format!("invalid gRPC request content-type \"{}\"", echo(kind));
        return Decision::Abort(415, Status::made(Code::InvalidArgument, text));
    }
    if head.method() != b"POST" {
        let method = echo(head.method());
        let text =
            format!("Received a HEADERS frame with :method \"{method}\" which should be POST");
        return Decision::Abort(405, Status::made(Code::Internal, text));
    }
    let encoding = head.get(b"grpc-encoding").unwrap_or_default();
    if !matches!(encoding, b"" | b"identity") {
        let encoding = echo(encoding);
        let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{encoding}\"");
        return Decision::Refuse(Status::made(Code::Unimplemented, text));
    }
    match method::route(head.path(), settings.bench) {
        Ok(method) => Decision::Call(method),
        Err(status) => Decision::Refuse(status),
    }
}

/// Whether a content type is gRPC's, with or without a codec's name.
fn is_grpc(kind: &[u8]) -> bool {
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Milliseconds of a `grpc-timeout`, rounded down: one below a millisecond is over already.
///
/// # Errors
/// Why it is none, in grpc-go's words.
///
/// # Source
/// gRPC over HTTP/2, `Timeout`: at most eight digits and a unit.
fn timeout_ms(text: &[u8]) -> Result<u64, String> {
    let Some((unit, digits)) = text.split_last().filter(|(_, digits)| !digits.is_empty()) else {
        return Err(format!("transport: timeout string is too short: \"{}\"", echo(text)));
    };
    if digits.len() > 8 {
        return Err(format!("transport: timeout string is too long: \"{}\"", echo(text)));
    }
    let per_ms: (u64, u64) = match unit {
        b'H' => (3_600_000, 1),
        b'M' => (60_000, 1),
        b'S' => (1_000, 1),
        b'm' => (1, 1),
        b'u' => (1, 1_000),
        b'n' => (1, 1_000_000),
        _ => return Err(format!("transport: timeout unit is not recognized: \"{}\"", echo(text))),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = echo(digits);
        return Err(format!("strconv.ParseUint: parsing \"{digits}\": invalid syntax"));
    }
    let count = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(count * per_ms.0 / per_ms.1)
}

impl<S: Sink> Calls for Dispatch<'_, S> {
    type Call = Call;

    fn is_full(&self) -> bool {
        self.immediate.len() >= IMMEDIATE_MAX
    }

    fn on_head(&mut self, stream: StreamId, head: &Head, end: bool) -> Call {
        self.route(head);
        let route = self.route.as_ref().expect("a route was just made");
        let deadline = route.timeout_ms.map(|ms| Tick(self.now.0.saturating_add(ms)));
        if let Some(at) = deadline {
            *self.deadline_first = Some(self.deadline_first.map_or(at, |first| first.min(at)));
        }
        let is_stream =
            matches!(&route.decision, Decision::Call(method) if method.is_answered_by_many());
        let phase = match &route.decision {
            Decision::Call(method) if !method.is_for_learners() && self.sink.is_learner() => {
                let status = Status::from(&Unavailable::Learner);
                self.immediate.push((stream, Immediate::End(status)));
                Phase::Waiting
            }
            Decision::Call(_) if route.needs_leader && !self.sink.has_leader() => {
                let status = Status::from(&Unavailable::NoLeader);
                self.immediate.push((stream, Immediate::End(status)));
                Phase::Waiting
            }
            Decision::Call(Method::Duplex(flow)) => Phase::Duplex(Duplex {
                flow: *flow,
                is_begun: false,
                has_ended: false,
                due: 0,
                failure: None,
            }),
            Decision::Call(method) => Phase::Body(*method),
            Decision::Late => {
                let status = Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");
                self.immediate.push((stream, Immediate::End(status)));
                Phase::Waiting
            }
            Decision::Refuse(status) => {
                self.immediate.push((stream, Immediate::End(status.clone())));
                Phase::Waiting
            }
            Decision::Abort(code, status) => {
                self.immediate.push((stream, Immediate::Abort(*code, status.clone())));
                Phase::Waiting
            }
            Decision::Plain(plain) => Phase::Plain(plain.clone()),
        };
        let needs_leader = is_stream && route.needs_leader;
        let mut call = Call { phase, partial: None, deadline, needs_leader };
        if end {
            self.take(stream, &mut call, &[], true);
        }
        call
    }

    fn on_data(&mut self, stream: StreamId, call: &mut Call, data: &[u8], end: bool) {
        self.take(stream, call, data, end);
    }

    fn on_trailers(&mut self, stream: StreamId, call: &mut Call, _trailers: &Head) {
        self.take(stream, call, &[], true);
    }

    fn on_reset(&mut self, stream: StreamId, call: Call, _code: ErrorCode) {
        match call.phase {
            Phase::Waiting | Phase::Streaming | Phase::Health | Phase::Duplex(_) => {
                self.gone.push(stream.0);
            }
            Phase::Body(_) | Phase::Plain(_) => {}
        }
    }
}

/// Writes the prefix over the first bytes of `message`, which were left for it.
pub(crate) fn set_prefix(message: &mut [u8]) {
    let len = u32::try_from(message.len() - PREFIX_SIZE).expect("an answer is below 4 GiB");
    message[0] = 0;
    message[1..PREFIX_SIZE].copy_from_slice(&len.to_be_bytes());
}
