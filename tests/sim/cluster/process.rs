//! One process: a shard with its front end and its connections, driven as the server's core does.

use super::peers::Peers;
use crate::node::Disks;
use ringd::api::status::Status;
use ringd::api::watch::{Hub, Manner, Streams, WatchRequest};
use ringd::api::{Answers, Session, Settings, Sink};
use ringd::shard::request::{Request, RequestId};
use ringd::shard::{Config, Input, Shard};
use ringd::store;
use ringd::types::{LogIndex, NodeId, Term, Tick};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Lines of its log that a node keeps.
const LINES_MAX: usize = 12;

/// A thing in flight on a node's disks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// None if a bug has told that it is done.
    Log {
        id: Option<u64>,
        write: u64,
    },
    LogRead {
        id: u64,
        file: ringd::wal::FileId,
        offset: u64,
        size: usize,
    },
    LogChange,
    Store {
        id: u64,
        write: u64,
    },
    StoreRead {
        id: u64,
        file: store::FileId,
        offset: u64,
        size: usize,
    },
    StoreChange,
    /// It was another shard's, which this one has succeeded.
    Gone,
}

/// What a disk does not do any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    /// It makes no file, and none longer.
    Full,
    Unreadable,
    Unwritable,
}

impl Broken {
    /// Whether that is what was asked of it.
    pub(super) fn strikes(self, work: &Work) -> bool {
        match work {
            Work::LogChange | Work::StoreChange | Work::Store { .. } => {
                matches!(self, Self::Full | Self::Unwritable)
            }
            Work::Log { .. } => matches!(self, Self::Unwritable),
            Work::LogRead { .. } | Work::StoreRead { .. } => matches!(self, Self::Unreadable),
            Work::Gone => false,
        }
    }
}

/// A client's connection.
pub(super) struct End {
    pub(super) session: Session,
    /// To be closed once the output is empty.
    pub(super) closing: bool,
}

/// What a node is while it runs.
pub(super) struct Process {
    pub(super) shard: Box<Shard>,
    pub(super) hub: Hub,
    pub(super) answers: Answers,
    settings: Rc<Settings>,
    /// By connection.
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) peers: Peers,
    pub(super) works: BTreeMap<u64, Work>,
    pub(super) last_work: u64,
    /// It serves clients from now on.
    pub(super) is_ready: bool,
    /// Since when it was asked to stop.
    pub(super) stopping: Option<u64>,
    /// A turn is on the agenda.
    pub(super) is_called: bool,
    /// When its shard was last told the time.
    pub(super) told: Tick,
    /// The entry that it had applied, and the term, when it was last looked at.
    pub(super) looked: (LogIndex, Term, bool),
    /// It led when it was last looked at.
    pub(super) has_led: bool,
}

/// A node: what stays when its process ends.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) config: Config,
    pub(super) disks: Disks,
    pub(super) log_id: u64,
    /// What its group had applied when it joined.
    pub(super) joined: LogIndex,
    /// It has served: what lies on its disks is never cleared.
    pub(super) is_known: bool,
    pub(super) process: Option<Process>,
    /// How many processes it has had.
    pub(super) life: u64,
    /// Thousandths of a millisecond that its clock goes on in a millisecond.
    pub(super) rate: u64,
    /// Milliseconds that a bug has put it forward by.
    pub(super) skew: u64,
    pub(super) paused_until: u64,
    pub(super) slow_until: u64,
    /// What its disk does not do, and until when.
    pub(super) broken: Option<(Broken, u64)>,
    /// It was removed: no process of it is started again.
    pub(super) is_removed: bool,
    /// Connections that nobody has ended: the power went.
    pub(super) orphans: Vec<u64>,
    /// The last lines of its log.
    pub(super) lines: VecDeque<String>,
}

impl Node {
    /// What its clock says.
    pub(super) fn clock(&self, now: u64) -> Tick {
        Tick(now * self.rate / 1000 + self.skew)
    }

    /// Keeps a line of its log.
    pub(super) fn keep_line(&mut self, now: u64, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{now}: {line}"));
    }

    /// What it is, for whoever sees a failure.
    pub(super) fn tell(&self, nth: usize) -> String {
        let id = self.id.0;
        let state = match &self.process {
            None if self.is_removed => "is removed".to_owned(),
            None => "is down".to_owned(),
            Some(process) => {
                let (shard, works) = (&process.shard, &process.works);
                let (term, leader) = (shard.header().term, shard.leader().map(|it| it.0));
                let (applied, revision) = (shard.applied(), shard.keyspace().revision());
                let paused = self.paused_until;
                let voters: Vec<u64> = shard.membership().voters().iter().map(|it| it.0).collect();
                format!(
                    "term {term:?}, leader {leader:x?}, voters {voters:x?}, applied {applied:?} at \
                     {revision:?}, paused until {paused}, {works:?}, {}",
                    process.peers.tell()
                )
            }
        };
        let (life, lines) = (self.life, &self.lines);
        format!("node {nth}, {id:x}, life {life}: {state}, {lines:?}")
    }
}

/// What sessions hand on, to be handed to the shard and the hub.
struct Requests<'a> {
    shard: &'a mut Shard,
    hub: &'a mut Hub,
    answers: &'a mut Answers,
    from: RequestId,
}

impl Sink for Requests<'_> {
    fn submit(&mut self, stream: u32, request: Request) {
        let from = RequestId { stream, ..self.from };
        self.shard.handle(Input::Request { from, request });
    }

    fn forget(&mut self, stream: u32) {
        let to = RequestId { stream, ..self.from };
        self.hub.forget(to);
        self.answers.forget(to);
        self.shard.handle(Input::Forget { to });
    }

    fn watch(&mut self, stream: u32, request: WatchRequest) {
        self.hub.handle(RequestId { stream, ..self.from }, request);
    }

    fn has_leader(&self) -> bool {
        self.shard.leader().is_some()
    }

    fn is_learner(&self) -> bool {
        self.shard.is_learner()
    }
}

/// The streams of all connections.
pub(super) struct Out<'a>(pub(super) &'a mut BTreeMap<u64, End>);

impl Out<'_> {
    fn find(&mut self, to: RequestId) -> Option<&mut Session> {
        self.0.get_mut(&u64::from(to.connection)).map(|end| &mut end.session)
    }
}

impl Streams for Out<'_> {
    fn push(&mut self, to: RequestId, messages: &[u8]) -> Option<usize> {
        self.find(to)?.push(to.stream, messages)
    }

    fn queued(&mut self, to: RequestId) -> Option<usize> {
        self.find(to)?.queued(to.stream)
    }

    fn want_room(&mut self, to: RequestId, wanted: bool) {
        if let Some(session) = self.find(to) {
            session.want_room(to.stream, wanted);
        }
    }

    fn end(&mut self, to: RequestId, status: &Status) {
        if let Some(session) = self.find(to) {
            session.finish(to.stream, status);
        }
    }
}

/// Where the answers of a stream of a connection go: each connection has a number of its own.
pub(super) fn request_id(conn: u64, stream: u32) -> RequestId {
    let connection = u32::try_from(conn).expect("connections are few");
    RequestId { core: 0, connection, generation: 0, stream }
}

impl Process {
    pub(super) fn new(
        shard: Box<Shard>,
        peers: Peers,
        settings: &Rc<Settings>,
        manner: Manner,
    ) -> Self {
        Self {
            shard,
            hub: Hub::new(manner),
            answers: Answers::new(settings),
            settings: settings.clone(),
            ends: BTreeMap::new(),
            peers,
            works: BTreeMap::new(),
            last_work: 0,
            is_ready: false,
            stopping: None,
            is_called: false,
            told: Tick::default(),
            looked: (LogIndex(0), Term(0), false),
            has_led: false,
        }
    }

    /// A client has come.
    pub(super) fn accept(&mut self, conn: u64) {
        let session = Session::new(&self.settings);
        self.ends.insert(conn, End { session, closing: false });
    }

    /// Lets something be done to a client's session; whether it goes on.
    fn with<R>(
        &mut self,
        conn: u64,
        act: impl FnOnce(&mut Session, &mut Requests<'_>) -> R,
    ) -> Option<R> {
        let Self { shard, hub, answers, ends, .. } = self;
        let end = ends.get_mut(&conn)?;
        let mut sink = Requests { shard, hub, answers, from: request_id(conn, 0) };
        Some(act(&mut end.session, &mut sink))
    }

    /// A client's bytes have come.
    pub(super) fn receive(&mut self, conn: u64, bytes: &[u8], now: Tick) {
        if self.ends.get(&conn).is_none_or(|end| end.closing) {
            return;
        }
        let is_over = self
            .with(conn, |session, sink| session.receive(bytes, now, sink).is_err())
            .unwrap_or(false);
        if let Some(end) = self.ends.get_mut(&conn) {
            end.closing |= is_over;
        }
    }

    /// A client's connection is gone.
    pub(super) fn lost(&mut self, conn: u64) {
        self.with(conn, |session, sink| session.lost(sink));
        self.ends.remove(&conn);
    }

    /// A piece of an answer goes to its session; false if nobody wants the rest.
    pub(super) fn reply(&mut self, to: RequestId, piece: ringd::api::Piece<&[u8]>) -> bool {
        let conn = u64::from(to.connection);
        self.with(conn, |session, sink| session.reply(to.stream, piece, sink)).unwrap_or(false)
    }

    /// Time passes for the front end.
    pub(super) fn tick(&mut self, now: Tick) {
        self.told = now;
        self.shard.handle(Input::Tick(now));
        self.hub.tick(now, &mut Out(&mut self.ends));
        let conns: Vec<u64> = self.ends.keys().copied().collect();
        for conn in conns {
            let is_over = self.with(conn, |session, sink| session.tick(now, sink).is_err());
            let end = self.ends.get_mut(&conn).expect("it was just there");
            end.closing |= is_over.unwrap_or(false) || end.session.is_done();
        }
        self.peers.tick(now);
    }

    /// Nobody waits for an answer any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        self.hub.forget(to);
        self.answers.forget(to);
        self.shard.handle(Input::Forget { to });
    }

    /// Calls that are made of others go on, and those who watch ask the shard.
    pub(super) fn ask(&mut self) {
        let asking: Vec<u64> =
            self.ends.iter().filter(|it| it.1.session.has_asks()).map(|it| *it.0).collect();
        for conn in asking {
            self.with(conn, |session, sink| session.go_on(sink));
        }
        while let Some(ask) = self.hub.poll() {
            self.shard.handle(Input::Watch(ask));
        }
    }

    /// Asks for more of those answers that their connections have room for.
    pub(super) fn pull(&mut self) {
        for (conn, end) in &mut self.ends {
            while let Some((stream, size)) = end.session.pull() {
                let to = request_id(*conn, stream);
                if !self.hub.pulled(to, size) {
                    self.answers.pull(to, size);
                }
            }
        }
    }

    /// It is asked to stop.
    pub(super) fn stop(&mut self, clock: Tick, now: u64) {
        self.stopping = Some(now);
        self.ends.values_mut().for_each(|end| end.session.shutdown(clock));
    }
}
