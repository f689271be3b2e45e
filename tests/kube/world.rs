//! What all parts of the load share: the server's lives, the record, and what the hour is.

use crate::cache::Cache;
use crate::record::{Attempt, Entry, Lease, Log, Outcome, Read, Record};
use crate::wire::Client;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::watch;
use tonic::Status;

/// What is being done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// Everybody works.
    Work,
    /// Writers end after what they are at.
    Rest,
    /// So do the others.
    End,
}

/// One life of the server, between a start and the next kill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) is_up: bool,
}

/// The load's own world. Everything in it is on one thread.
pub(crate) struct World {
    port: u16,
    pub(crate) life: watch::Sender<Life>,
    pub(crate) stage: watch::Sender<Stage>,
    /// Writes that were acknowledged, since the beginning.
    pub(crate) acked: watch::Sender<u64>,
    /// The highest revision for which a compaction was acknowledged.
    pub(crate) floor: watch::Sender<i64>,
    /// Every watcher's cache, by its number.
    pub(crate) caches: Vec<Rc<Cache>>,
    /// The highest revision that anyone was told of.
    seen: Cell<i64>,
    record: RefCell<Record>,
}

impl World {
    pub(crate) fn new(port: u16, caches: Vec<Rc<Cache>>) -> Self {
        let record =
            Record { logs: caches.iter().map(|it| it.log()).collect(), ..Record::default() };
        Self {
            port,
            life: watch::Sender::new(Life { number: 1, is_up: true }),
            stage: watch::Sender::new(Stage::Work),
            acked: watch::Sender::new(0),
            floor: watch::Sender::new(0),
            caches,
            seen: Cell::new(1),
            record: RefCell::new(record),
        }
    }

    /// Says that the server is about to be killed: from now on errors are no surprise.
    pub(crate) fn falls(&self) {
        self.life.send_modify(|life| life.is_up = false);
    }

    /// Says that it is there again.
    pub(crate) fn rises(&self) {
        self.life.send_modify(|life| *life = Life { number: life.number + 1, is_up: true });
    }

    /// A connection to the server in its present life, and the number of that.
    pub(crate) async fn connect(&self) -> (Client, u64) {
        loop {
            let life = *self
                .life
                .subscribe()
                .wait_for(|life| life.is_up)
                .await
                .expect("the world is there");
            match Client::connect(self.port).await {
                Ok(client) => return (client, life.number),
                Err(status) => self.excuse(life.number, &status),
            }
        }
    }

    /// Takes an error that came in one of the server's lives.
    ///
    /// # Panics
    ///
    /// If that life was not over: then nothing excuses it.
    pub(crate) fn excuse(&self, number: u64, status: &Status) {
        let life = *self.life.borrow();
        let is_over = !life.is_up || life.number != number;
        assert!(is_over, "the server is up, and fails: {status:?}");
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Notes that somebody was told of a revision.
    pub(crate) fn saw(&self, revision: i64) {
        self.seen.set(self.seen.get().max(revision));
    }

    /// The highest revision that anyone was told of.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.get()
    }

    /// Notes a write before it is sent; its number in the record.
    pub(crate) fn begin(&self, attempt: Attempt) -> usize {
        let attempts = &mut self.record.borrow_mut().attempts;
        attempts.push(attempt);
        attempts.len() - 1
    }

    /// Notes what became of it.
    pub(crate) fn end(&self, number: usize, outcome: Outcome) {
        match outcome {
            Outcome::Done(revision) => {
                self.saw(revision);
                self.acked.send_modify(|acked| *acked += 1);
            }
            Outcome::Refused { revision, .. } => self.saw(revision),
            Outcome::Unknown | Outcome::Invalid => {}
        }
        self.record.borrow_mut().attempts[number].outcome = outcome;
    }

    pub(crate) fn read(&self, read: Read) {
        self.saw(read.header);
        self.record.borrow_mut().reads.push(read);
    }

    pub(crate) fn log(&self, watcher: usize, entry: Entry) {
        if let Entry::Events { header, .. } = &entry {
            self.saw(*header);
        }
        self.record.borrow_mut().logs[watcher].entries.push(entry);
    }

    pub(crate) fn granted(&self, id: i64, lease: Lease) {
        self.record.borrow_mut().leases.push((id, lease));
    }

    /// Notes that a compaction is asked for.
    pub(crate) fn compacts(&self, revision: i64) {
        let max = &mut self.record.borrow_mut().compacted_max;
        *max = revision.max(*max);
    }

    /// The highest revision that a compaction was asked for.
    pub(crate) fn compacted_max(&self) -> i64 {
        self.record.borrow().compacted_max
    }

    /// Takes all that was recorded; no write may be under way.
    pub(crate) fn take(&self) -> Record {
        let mut record = self.record.borrow_mut();
        let logs = record.logs.iter().map(|log| Log { entries: Vec::new(), ..log.clone() });
        let next = Record {
            logs: logs.collect(),
            compacted_max: record.compacted_max,
            ..Record::default()
        };
        std::mem::replace(&mut record, next)
    }
}

/// Somebody who does one thing after another, through all of the server's lives.
pub(crate) trait Lane {
    /// Does the next thing.
    ///
    /// # Errors
    ///
    /// If the server did not answer.
    async fn step(&mut self, client: &Client) -> Result<(), Status>;

    /// Whether it has enough of it.
    fn is_over(&self) -> bool;
}

/// Lets somebody work for as long as it wants to.
pub(crate) async fn run(world: Rc<World>, mut lane: impl Lane) {
    'lives: loop {
        let (client, number) = world.connect().await;
        while !lane.is_over() {
            if let Err(status) = lane.step(&client).await {
                world.excuse(number, &status);
                continue 'lives;
            }
        }
        return;
    }
}
