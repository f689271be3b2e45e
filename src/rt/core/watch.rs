//! The watchers of a core's connections: their questions on the way to the shards, and what the
//! shards tell on the way to them.

use crate::api::status::Status;
use crate::api::watch::BACKLOG_MAX;
use crate::api::watch::Hub;
use crate::api::watch::Manner;
use crate::api::watch::Streams;
use crate::api::watch::WatchRequest;
use crate::rt::core::Core;
use crate::rt::core::find;
use crate::rt::server::random;
use crate::shard::Input;
use crate::shard::request::RequestId;
use crate::shard::watch::Ask;
use crate::shard::watch::Told;
use crate::types::ShardId;
use crate::types::Tick;

/// The streams of a core's connections.
struct Out<'a>(&'a Core);

impl Streams for Out<'_> {
    fn push(&mut self, to: RequestId, messages: &[u8]) -> Option<usize> {
        let mut connections = self.0.connections.borrow_mut();
        let connection = find(&mut connections, to.connection)?;
        if connection.generation != to.generation {
            return None;
        }
        let left = connection.session.push(to.stream, messages);
        self.0.mark_dirty(to.connection, connection);
        left
    }

    fn queued(&mut self, to: RequestId) -> Option<usize> {
        let mut connections = self.0.connections.borrow_mut();
        let connection = find(&mut connections, to.connection)?;
        let is_same = connection.generation == to.generation;
        is_same.then(|| connection.session.queued(to.stream))?
    }

    fn want_room(&mut self, to: RequestId, wanted: bool) {
        let mut connections = self.0.connections.borrow_mut();
        let connection = find(&mut connections, to.connection);
        if let Some(connection) = connection.filter(|it| it.generation == to.generation) {
            connection.session.want_room(to.stream, wanted);
            self.0.mark_dirty(to.connection, connection);
        }
    }

    fn end(&mut self, to: RequestId, status: &Status) {
        let mut connections = self.0.connections.borrow_mut();
        let connection = find(&mut connections, to.connection);
        if let Some(connection) = connection.filter(|it| it.generation == to.generation) {
            connection.session.finish(to.stream, status);
            self.0.mark_dirty(to.connection, connection);
        }
    }
}

impl Core {
    /// A client asks, on a stream of watchers.
    pub(super) fn watch(&self, shard: ShardId, from: RequestId, request: WatchRequest) {
        let mut hubs = self.hubs.borrow_mut();
        let hub = hubs.entry(shard).or_insert_with(|| {
            Hub::new(Manner {
                core: self.index,
                seed: random(),
                fragment_size: self.settings.message_size_max,
                backlog_max: BACKLOG_MAX,
                notify_interval: self.settings.watch_notify_interval,
            })
        });
        hub.handle(from, request);
    }

    /// Hands all that watchers ask to their shards; whether there was anything.
    pub(super) fn ask_all(&self) -> bool {
        let mut is_any = false;
        for (shard, hub) in self.hubs.borrow_mut().iter_mut() {
            while let Some(ask) = hub.poll() {
                is_any = true;
                self.ask(*shard, ask);
            }
        }
        is_any
    }

    /// Hands a question to its shard, here or on another core.
    pub(super) fn ask(&self, shard: ShardId, ask: Ask) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.shard.handle(Input::Watch(ask));
            return;
        }
        let mut posts = self.posts.borrow_mut();
        posts.entry(self.mesh.home(shard)).or_default().asks.push((shard, ask));
    }

    /// What a shard here tells goes to the cores that it is for.
    pub(super) fn hand_out(&self, shard: ShardId, told: Told) {
        let (cores, told) = match told {
            Told::Events { cores, batch } => (cores, Told::Events { cores: Vec::new(), batch }),
            Told::Moved { cores, header } => (cores, Told::Moved { cores: Vec::new(), header }),
            Told::Subscribed { to, .. } | Told::Replayed { to, .. } => (vec![to.core], told),
        };
        for core in cores {
            let told = told.clone();
            if core == self.index {
                self.tell(shard, told);
            } else {
                self.posts.borrow_mut().entry(core).or_default().told.push((shard, told));
            }
        }
    }

    /// A shard tells the watchers here.
    pub(super) fn tell(&self, shard: ShardId, told: Told) {
        if let Some(hub) = self.hubs.borrow_mut().get_mut(&shard) {
            hub.told(told, &mut Out(self));
        }
    }

    /// A stream has room for what its watchers lack; whether it is one of theirs.
    pub(super) fn pull_watch(&self, shard: ShardId, to: RequestId, size: usize) -> bool {
        self.hubs.borrow_mut().get_mut(&shard).is_some_and(|hub| hub.pulled(to, size))
    }

    /// Time passes for the watchers.
    pub(super) fn tick_watches(&self, now: Tick) {
        for hub in self.hubs.borrow_mut().values_mut() {
            hub.tick(now, &mut Out(self));
        }
    }
}
