//! All of the load at once: who takes part, when they begin and when they rest.

use crate::cache::{Cache, Feed};
use crate::compactor::{Compactor, TURNS};
use crate::controllers::{CONFIGS, Controller, EVENTS, Leases, NODES, PODS};
use crate::reader::Reader;
use crate::record::{Change, Condition, Record, Span};
use crate::storage::{Paging, Storage, Verdict};
use crate::support::dice::Dice;
use crate::wire::PATIENCE;
use crate::world::{Stage, World, run};
use bytes::Bytes;
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// Those who write.
const CONTROLLERS: usize = 8;
/// Those who read.
const READERS: usize = 2;
/// Rows of a page.
const PAGE: i64 = 7;
/// A key that is written when all rest, so that every watcher is behind something.
const NUDGE: &str = "/registry/nudge";

/// The load, on the thread that runs it.
pub(crate) struct Load {
    world: Rc<World>,
    feeds: JoinSet<()>,
    writers: JoinSet<()>,
    readers: JoinSet<()>,
    leases: Vec<Rc<Leases>>,
    /// The cache of every key, which is never late.
    referee: Rc<Cache>,
    /// The cache that naps.
    sleeper: Rc<Cache>,
    /// Nudges so far, and the revision of the last.
    nudges: u64,
    nudged: i64,
}

impl Load {
    /// Two API servers, one with a stream for each of its caches and one with a stream for all.
    pub(crate) fn new(port: u16) -> Self {
        let mut caches = Vec::new();
        let mut add = |name: &str, span: Span, has_previous: bool| {
            caches.push(Cache::new(caches.len(), name, span, has_previous));
            Rc::clone(caches.last().expect("it was just added"))
        };
        let kinds = [("pods", PODS), ("configs", CONFIGS), ("nodes", NODES), ("events", EVENTS)];
        let mut groups: Vec<(Vec<Rc<Cache>>, Paging)> = Vec::new();
        for (kind, prefix) in kinds {
            let cache = add(&format!("{kind} of the first"), Span::prefix(prefix), true);
            groups.push((vec![cache], Paging::Pages(PAGE)));
        }
        let of_second = |(kind, prefix): (&str, &str)| {
            add(&format!("{kind} of the second"), Span::prefix(prefix), true)
        };
        groups.push((kinds.map(of_second).to_vec(), Paging::Stream));
        let turns = Span::one(&Bytes::from_static(TURNS.as_bytes()));
        groups.push((vec![add("turns", turns, true)], Paging::Whole));
        let referee = add("everything", Span::everything(), false);
        groups.push((vec![Rc::clone(&referee)], Paging::Whole));
        let sleeper = add("pods, now and then", Span::prefix(PODS), true);
        groups.push((vec![Rc::clone(&sleeper)], Paging::Pages(PAGE)));

        let world = Rc::new(World::new(port, caches));
        let mut feeds = JoinSet::new();
        for (caches, paging) in groups {
            let naps = Rc::ptr_eq(&caches[0], &sleeper);
            let world = Rc::clone(&world);
            feeds.spawn_local(Feed { world, caches, paging, naps, is_late: false }.run());
        }
        Self {
            world,
            feeds,
            writers: JoinSet::new(),
            readers: JoinSet::new(),
            leases: vec![Rc::default(), Rc::default()],
            referee,
            sleeper,
            nudges: 0,
            nudged: 0,
        }
    }

    /// Sees that the server is of a version of which an API server trusts progress notifications.
    pub(crate) async fn supports_what_an_api_server_asks_for(&self) {
        let (client, _) = self.world.connect().await;
        let status = client.status().await.expect("it answers");
        let version: Vec<u32> =
            status.version.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(version.len() == 3 && version >= vec![3, 5, 13], "{}", status.version);
    }

    /// Starts those who write and those who read.
    pub(crate) fn start(&mut self, round: u64, dice: &mut Dice) {
        let world = &self.world;
        world.stage.send_replace(Stage::Work);
        for nth in 0..CONTROLLERS {
            let controller = Controller {
                world: Rc::clone(world),
                name: format!("c{nth}.{round}"),
                dice: Dice::new(dice.next()),
                leases: Rc::clone(&self.leases[nth % 2]),
                known: BTreeMap::new(),
                made: 0,
            };
            self.writers.spawn_local(run(Rc::clone(world), controller));
        }
        for nth in 0..2 {
            let compactor = Compactor {
                world: Rc::clone(world),
                name: format!("compactor {nth}.{round}"),
                referee: Rc::clone(&self.referee),
                // A second API server that has just been started knows of no turn.
                turn: 0,
                revision: 0,
                acked: *world.acked.borrow(),
            };
            self.writers.spawn_local(run(Rc::clone(world), compactor));
        }
        for nth in 0..READERS {
            let mut caches = world.caches.clone();
            caches.retain(|cache| !Rc::ptr_eq(cache, &self.sleeper));
            let reader = Reader {
                world: Rc::clone(world),
                name: format!("reader {nth}.{round}"),
                dice: Dice::new(dice.next()),
                caches,
                acked: *world.acked.borrow(),
            };
            self.readers.spawn_local(run(Rc::clone(world), reader));
        }
    }

    /// Waits until so many more writes are acknowledged.
    pub(crate) async fn acked(&mut self, count: usize) {
        let mut acked = self.world.acked.subscribe();
        let target = *acked.borrow() + u64::try_from(count).expect("few");
        let Self { feeds, writers, readers, .. } = self;
        tokio::select! {
            _ = acked.wait_for(|acked| *acked >= target) => {}
            ended = feeds.join_next() => over(ended),
            ended = writers.join_next() => over(ended),
            ended = readers.join_next() => over(ended),
        }
    }

    /// Says that the server is about to be ended.
    pub(crate) fn falls(&self) {
        self.world.falls();
    }

    /// Says that it is there again.
    pub(crate) fn rises(&self) {
        self.world.rises();
    }

    /// Ends those who write and those who read, and waits until every cache knows of all that
    /// they did: of everything up to the revision that is returned.
    pub(crate) async fn rest(&mut self) -> i64 {
        self.world.stage.send_replace(Stage::Rest);
        finish(&mut self.feeds, &mut self.writers).await;
        let revision = self.nudge().await;
        finish(&mut self.feeds, &mut self.readers).await;
        self.reach(revision).await;
        revision
    }

    /// What was recorded since the last time.
    pub(crate) fn take(&self) -> Record {
        self.world.take()
    }

    /// Waits until all events have ended, and ends. As [`Self::rest`].
    pub(crate) async fn end(&mut self) -> i64 {
        let events = Span::prefix(EVENTS);
        let mut at = self.referee.at.subscribe();
        let is_left = |rows: &[KeyValue]| rows.iter().any(|row| events.holds(&row.key));
        while is_left(&self.referee.rows().1) {
            let changed = timeout(PATIENCE, at.changed()).await;
            changed.expect("leases end").expect("the cache is there");
        }
        let revision = self.nudge().await;
        self.reach(revision).await;
        let (client, _) = self.world.connect().await;
        let storage = Storage { world: &self.world, client: &client, by: "the end" };
        for paging in [Paging::Whole, Paging::Pages(50), Paging::Stream] {
            let listed = storage.list(&Span::everything(), revision, paging).await;
            let (_, rows) = listed.expect("it answers").expect("nobody compacts any more");
            assert!(rows == self.referee.rows().1, "{paging:?}: a cache is what is listed");
        }
        let floor = *self.world.floor.borrow();
        if floor > 0 {
            let early = storage.list(&Span::everything(), floor - 1, Paging::Whole).await;
            assert!(early.expect("it answers").is_none(), "below {floor} all is compacted");
        }
        self.world.stage.send_replace(Stage::End);
        while let Some(ended) = self.feeds.join_next().await {
            ended.expect("what went wrong is told above");
        }
        revision
    }

    /// One more write, which every watch may begin before; its revision.
    async fn nudge(&mut self) -> i64 {
        self.nudges += 1;
        let (client, _) = self.world.connect().await;
        let storage = Storage { world: &self.world, client: &client, by: "the nudge" };
        let key = Bytes::from_static(NUDGE.as_bytes());
        let change = Change::Put { value: self.nudges.to_string().into(), lease: 0 };
        let before = Condition::Mod(self.nudged);
        let verdict = storage.commit(&key, change, before, false).await;
        let Verdict::Done(revision) = verdict.expect("it answers") else {
            panic!("nobody else writes this")
        };
        self.nudged = revision;
        revision
    }

    /// Waits until every cache has come to a revision.
    async fn reach(&mut self, revision: i64) {
        let Self { feeds, world, .. } = self;
        let reached = async {
            for cache in &world.caches {
                cache.wait_for(world, revision).await;
            }
        };
        tokio::select! {
            () = reached => {}
            ended = feeds.join_next() => over(ended),
        }
    }
}

/// Waits for the end of those who end by themselves, beside those who do not.
async fn finish(feeds: &mut JoinSet<()>, lanes: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            ended = lanes.join_next() => match ended {
                Some(ended) => ended.expect("what went wrong is told above"),
                None => return,
            },
            ended = feeds.join_next() => over(ended),
        }
    }
}

/// Somebody ended who should go on.
fn over(ended: Option<Result<(), JoinError>>) {
    panic!("{ended:?}: what went wrong is told above");
}
