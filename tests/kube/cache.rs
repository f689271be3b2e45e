//! A watch cache: a list, and then every change since, for as long as the server lives and after.
//!
//! A [`Feed`] is one watch stream with the watchers of several caches on it. When the server goes,
//! each goes on from the revision after the last that it was told of; when that was compacted, it
//! lists again.

use crate::record::{Entry, Log, Span};
use crate::storage::{Paging, Storage};
use crate::wire::{Client, PATIENCE, Watch};
use crate::world::{Stage, World};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::mvccpb::event::EventType;
use ringd::api::proto::mvccpb::{Event, KeyValue};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::Status;

/// How often progress is asked for while somebody waits for it.
const POLL: Duration = Duration::from_millis(20);
/// Changes after which one that naps does so.
const NAP_AFTER: usize = 60;
/// The watcher's id in an answer that is about all of them.
const ALL: i64 = -1;

/// The rows of a range as one watcher knows them.
pub(crate) struct Cache {
    pub(crate) name: String,
    pub(crate) span: Span,
    has_previous: bool,
    /// Its number in the record.
    number: usize,
    rows: RefCell<BTreeMap<Bytes, KeyValue>>,
    /// It knows of every change up to this revision; 0 before its first list.
    pub(crate) at: watch::Sender<i64>,
    /// How many wait for it to know more.
    waiting: Cell<usize>,
}

impl Cache {
    pub(crate) fn new(number: usize, name: &str, span: Span, has_previous: bool) -> Rc<Self> {
        Rc::new(Self {
            name: name.to_owned(),
            span,
            has_previous,
            number,
            rows: RefCell::default(),
            at: watch::Sender::new(0),
            waiting: Cell::new(0),
        })
    }

    /// Its empty log.
    pub(crate) fn log(&self) -> Log {
        let Self { name, span, has_previous, .. } = self;
        let (name, span) = (name.clone(), span.clone());
        Log { name, span, has_previous: *has_previous, entries: Vec::new() }
    }

    /// The rows, and the revision that they are of.
    pub(crate) fn rows(&self) -> (i64, Vec<KeyValue>) {
        (*self.at.borrow(), self.rows.borrow().values().cloned().collect())
    }

    /// Waits until it knows of every change up to a revision; its stream is asked for progress
    /// meanwhile.
    ///
    /// # Panics
    ///
    /// If that takes too long while the server is up.
    pub(crate) async fn wait_for(&self, world: &World, revision: i64) {
        self.waiting.set(self.waiting.get() + 1);
        let mut at = self.at.subscribe();
        while timeout(PATIENCE, at.wait_for(|at| *at >= revision)).await.is_err() {
            let at = *self.at.borrow();
            let is_up = world.life.borrow().is_up;
            assert!(!is_up, "{}: still at {at}, not at {revision}", self.name);
        }
        self.waiting.set(self.waiting.get() - 1);
    }

    fn apply(&self, event: &Event) {
        let kv = event.kv.clone().expect("an event has a pair");
        let mut rows = self.rows.borrow_mut();
        match event.r#type() {
            EventType::Put => drop(rows.insert(kv.key.clone(), kv)),
            EventType::Delete => drop(rows.remove(&kv.key)),
        }
    }

    fn reaches(&self, revision: i64) {
        self.at.send_modify(|at| *at = revision.max(*at));
    }

    fn create(&self) -> pb::WatchRequest {
        let Span { key, range_end } = self.span.clone();
        let start_revision = *self.at.borrow() + 1;
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: true,
            prev_kv: self.has_previous,
            ..pb::WatchCreateRequest::default()
        };
        request(RequestUnion::CreateRequest(create))
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

/// Why a stream is over, if it was not cut.
enum End {
    /// All is over.
    All,
    /// It naps.
    Nap,
}

/// One watch stream after another.
pub(crate) struct Feed {
    pub(crate) world: Rc<World>,
    /// The caches that it feeds.
    pub(crate) caches: Vec<Rc<Cache>>,
    pub(crate) paging: Paging,
    /// Whether it leaves now and then, until what it has missed was compacted.
    pub(crate) naps: bool,
    /// Whether that has happened and it has not been told of it yet.
    pub(crate) is_late: bool,
}

/// One watch stream.
struct Stream {
    watch: Watch,
    /// The cache that each watcher feeds, by the watcher's id.
    ids: BTreeMap<i64, usize>,
    /// The cache whose watcher was asked for last, until the answer.
    creating: Option<usize>,
    /// The caches whose watchers are still to be asked for.
    queue: VecDeque<usize>,
    /// Watchers that were told they are over and are being taken off.
    leaving: BTreeSet<i64>,
    /// Events that came.
    count: usize,
}

impl Feed {
    pub(crate) async fn run(mut self) {
        loop {
            let (client, number) = self.world.connect().await;
            let outcome = self.follow(&client).await;
            for cache in &self.caches {
                self.world.log(cache.number, Entry::Cut);
            }
            match outcome {
                Ok(End::All) => return,
                Ok(End::Nap) => self.is_late = self.nap().await,
                Err(status) => self.world.excuse(number, &status),
            }
        }
    }

    /// Waits until what comes next was compacted, and says that it was; or until all rest.
    async fn nap(&self) -> bool {
        let next = *self.caches[0].at.borrow() + 1;
        let (mut floor, mut stage) = (self.world.floor.subscribe(), self.world.stage.subscribe());
        tokio::select! {
            woken = floor.wait_for(|floor| *floor > next) => woken.is_ok(),
            _ = stage.wait_for(|stage| *stage > Stage::Work) => false,
        }
    }

    /// Fills the caches that are empty, and follows all of them until the stream is over.
    async fn follow(&mut self, client: &Client) -> Result<End, Status> {
        for cache in &self.caches {
            if *cache.at.borrow() == 0 {
                self.list(client, cache).await?;
            }
        }
        let watch = client.watch(self.caches[0].create()).await?;
        let mut stream = Stream {
            watch,
            ids: BTreeMap::new(),
            creating: Some(0),
            queue: (1..self.caches.len()).collect(),
            leaving: BTreeSet::new(),
            count: 0,
        };
        let mut stage = self.world.stage.subscribe();
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = stream.watch.next() => {
                    let answer = answer?;
                    // The compaction was acknowledged, perhaps in an earlier life of the server.
                    self.is_late &= answer.compact_revision == 0;
                    assert!(answer.created || !self.is_late, "not compacted: {answer:?}");
                    self.take(client, &mut stream, answer).await?;
                }
                _ = ticks.tick() => {
                    if self.caches.iter().any(|cache| cache.waiting.get() > 0) {
                        let progress = pb::WatchProgressRequest {};
                        stream.watch.ask(request(RequestUnion::ProgressRequest(progress))).await?;
                    }
                }
                _ = stage.wait_for(|stage| *stage == Stage::End) => return Ok(End::All),
            }
            let is_tired = self.naps && stream.count >= NAP_AFTER;
            if is_tired && self.world.stage() == Stage::Work {
                return Ok(End::Nap);
            }
        }
    }

    /// Takes one answer.
    async fn take(
        &self,
        client: &Client,
        stream: &mut Stream,
        answer: pb::WatchResponse,
    ) -> Result<(), Status> {
        let id = answer.watch_id;
        if answer.created {
            let nth = stream.creating.take().expect("a watcher was asked for");
            assert!(!answer.canceled, "a watcher is refused: {answer:?}");
            let before = stream.ids.insert(id, nth);
            assert_eq!(before, None, "an id is given twice: {answer:?}");
            let cache = &self.caches[nth];
            self.world.log(cache.number, Entry::Opened(*cache.at.borrow() + 1));
            return self.create_next(stream).await;
        }
        if answer.canceled {
            if stream.leaving.remove(&id) {
                return Ok(());
            }
            assert!(answer.compact_revision > 0, "it ends for no reason: {answer:?}");
            assert_eq!(answer.cancel_reason, "");
            let nth = stream.ids.remove(&id).expect("an id that was given");
            let cache = &self.caches[nth];
            self.world.log(cache.number, Entry::Compacted(answer.compact_revision));
            let cancel = pb::WatchCancelRequest { watch_id: id };
            stream.watch.ask(request(RequestUnion::CancelRequest(cancel))).await?;
            stream.leaving.insert(id);
            self.list(client, cache).await?;
            stream.queue.push_back(nth);
            return self.create_next(stream).await;
        }
        let header = answer.header.as_ref().expect("every answer has a header").revision;
        if answer.events.is_empty() {
            let of_all = (id == ALL).then(|| stream.ids.values().copied().collect());
            let caches: Vec<usize> = of_all.unwrap_or_else(|| vec![stream.ids[&id]]);
            for cache in caches.into_iter().map(|nth| &self.caches[nth]) {
                self.world.log(cache.number, Entry::Progress(header));
                cache.reaches(header);
            }
            return Ok(());
        }
        let cache = &self.caches[stream.ids[&id]];
        stream.count += answer.events.len();
        answer.events.iter().for_each(|event| cache.apply(event));
        let last = answer.events.last().and_then(|event| event.kv.as_ref());
        let last = last.expect("an event has a pair").mod_revision;
        let (events, seen) = (answer.events, Instant::now());
        self.world.log(cache.number, Entry::Events { header, events, seen });
        cache.reaches(last);
        Ok(())
    }

    /// Asks for the next watcher, one at a time, as etcd's own client does.
    async fn create_next(&self, stream: &mut Stream) -> Result<(), Status> {
        if stream.creating.is_some() {
            return Ok(());
        }
        let Some(nth) = stream.queue.pop_front() else { return Ok(()) };
        stream.creating = Some(nth);
        stream.watch.ask(self.caches[nth].create()).await
    }

    /// Fills a cache with a list.
    async fn list(&self, client: &Client, cache: &Cache) -> Result<(), Status> {
        let storage = Storage { world: &self.world, client, by: &cache.name };
        let (revision, rows) = loop {
            if let Some(listed) = storage.list(&cache.span, 0, self.paging).await? {
                break listed;
            }
        };
        *cache.rows.borrow_mut() = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        self.world.log(cache.number, Entry::Listed(revision));
        cache.reaches(revision);
        Ok(())
    }
}
