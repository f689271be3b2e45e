//! Those who write: controllers of pods, recorders of events, nodes that say they are alive.

use crate::record::{Change, Condition, Lease, Span};
use crate::storage::{Storage, Verdict};
use crate::support::dice::Dice;
use crate::wire::Client;
use crate::world::{Lane, Stage, World};
use bytes::Bytes;
use ringd::api::proto::mvccpb::KeyValue;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Where pods are.
pub(crate) const PODS: &str = "/registry/pods/";
/// Where large and rarely changed things are.
pub(crate) const CONFIGS: &str = "/registry/configmaps/";
/// Where nodes say that they are alive.
pub(crate) const NODES: &str = "/registry/leases/kube-node-lease/";
/// Where events are, which end by themselves.
pub(crate) const EVENTS: &str = "/registry/events/";

/// Names of pods.
const PODS_MAX: usize = 60;
/// Those of them that everybody is after.
const HOT_PODS_MAX: usize = 4;
/// Names of config maps.
const CONFIGS_MAX: usize = 12;
/// Bytes of the largest of them.
const CONFIG_SIZE_MAX: usize = 60_000;

/// Seconds that an event is to live at least.
const EVENT_TTL: u64 = 2;
/// Seconds for which a lease is handed out again.
const REUSE: u64 = 1;
/// Events of one lease.
const ATTACHED_MAX: usize = 40;

/// The leases of events: one for many of them.
#[derive(Debug, Default)]
pub(crate) struct Leases(RefCell<Option<Shared>>);

/// The lease that is handed out at present.
#[derive(Clone, Copy, Debug)]
struct Shared {
    id: i64,
    ends: Instant,
    attached: usize,
}

impl Leases {
    /// A lease that lives for [`EVENT_TTL`] at least, of which nobody needs to keep track.
    async fn get(&self, world: &World, client: &Client) -> Result<i64, Status> {
        let (now, ttl) = (Instant::now(), Duration::from_secs(EVENT_TTL));
        if let Some(shared) = self.0.borrow_mut().as_mut()
            && shared.ends > now + ttl
            && shared.attached < ATTACHED_MAX
        {
            shared.attached += 1;
            return Ok(shared.id);
        }
        let seconds = i64::try_from(EVENT_TTL + REUSE).expect("a few");
        let granted = client.grant(seconds).await?;
        assert_eq!(granted.ttl, seconds, "it is not below what a server grants at least");
        let ttl = Duration::from_secs(EVENT_TTL + REUSE);
        world.granted(granted.id, Lease { asked: now, ttl });
        *self.0.borrow_mut() = Some(Shared { id: granted.id, ends: now + ttl, attached: 1 });
        Ok(granted.id)
    }

    /// Forgets a lease of which the server says that it is over.
    fn gone(&self, id: i64) {
        let mut shared = self.0.borrow_mut();
        if let Some(Shared { ends, .. }) = shared.take_if(|shared| shared.id == id) {
            assert!(ends <= Instant::now(), "a lease ended before its time");
        }
    }
}

/// One who writes.
pub(crate) struct Controller {
    pub(crate) world: Rc<World>,
    pub(crate) name: String,
    pub(crate) dice: Dice,
    pub(crate) leases: Rc<Leases>,
    /// Rows as it has last seen them: often out of date.
    pub(crate) known: BTreeMap<Bytes, KeyValue>,
    /// Values that it has made.
    pub(crate) made: u64,
}

impl Lane for Controller {
    async fn step(&mut self, client: &Client) -> Result<(), Status> {
        let pod = |dice: &mut Dice| {
            let end = if dice.chance(30) { HOT_PODS_MAX } else { PODS_MAX };
            format!("{PODS}ns{}/pod-{}", end % 3, dice.index(end))
        };
        match self.dice.below(100) {
            0..45 => {
                let key = pod(&mut self.dice);
                self.update(client, key.into(), 400).await
            }
            45..60 => {
                let key = pod(&mut self.dice);
                self.create(client, key.into(), 400).await
            }
            60..75 => {
                let key = pod(&mut self.dice);
                self.delete(client, key.into()).await
            }
            75..83 => {
                let key = format!("{NODES}{}", self.name);
                self.update(client, key.into(), 100).await
            }
            83..86 => {
                let key = format!("{CONFIGS}{}", self.dice.index(CONFIGS_MAX));
                self.update(client, key.into(), CONFIG_SIZE_MAX).await
            }
            86..88 => {
                let by = self.name.clone();
                let storage = Storage { world: &self.world, client, by: &by };
                let span = Span::prefix(self.dice.pick(&[PODS, EVENTS, CONFIGS]));
                storage.count(&span).await.map(drop)
            }
            _ => self.record_event(client).await,
        }
    }

    fn is_over(&self) -> bool {
        self.world.stage() > Stage::Work
    }
}

impl Controller {
    /// A value that nobody else makes.
    fn value(&mut self, size_max: usize) -> Bytes {
        self.made += 1;
        let unique = format!("{}/{}.", self.name, self.made);
        let size = self.dice.index(size_max);
        unique.repeat(size / unique.len() + 1).into()
    }

    /// Creates an object that should not be there.
    async fn create(&mut self, client: &Client, key: Bytes, size: usize) -> Result<(), Status> {
        let change = Change::Put { value: self.value(size), lease: 0 };
        let storage = Storage { world: &self.world, client, by: &self.name };
        storage.commit(&key, change, Condition::Mod(0), false).await?;
        Ok(())
    }

    /// Updates an object from what it knows of it, and from what is there when that was too old;
    /// creates one that is not there.
    async fn update(&mut self, client: &Client, key: Bytes, size: usize) -> Result<(), Status> {
        let mut row = match self.known.get(&key).cloned() {
            Some(known) if self.dice.chance(70) => Some(known),
            _ => Storage { world: &self.world, client, by: &self.name }.get(&key).await?,
        };
        loop {
            let value = self.value(size);
            let change = Change::Put { value: value.clone(), lease: 0 };
            let mod_revision = row.as_ref().map_or(0, |row| row.mod_revision);
            let condition = Condition::Mod(mod_revision);
            let storage = Storage { world: &self.world, client, by: &self.name };
            match storage.commit(&key, change, condition, true).await? {
                Verdict::Done(mod_revision) => {
                    let create_revision = row.map_or(mod_revision, |row| row.create_revision);
                    let known = KeyValue {
                        key: key.clone(),
                        create_revision,
                        mod_revision,
                        value,
                        ..KeyValue::default()
                    };
                    self.known.insert(key, known);
                    return Ok(());
                }
                Verdict::Refused(_, found) => row = found,
                Verdict::NoLease => panic!("no lease was named"),
            }
        }
    }

    /// Deletes an object, if it is still the one that it knows: one created anew is let be.
    async fn delete(&mut self, client: &Client, key: Bytes) -> Result<(), Status> {
        let storage = Storage { world: &self.world, client, by: &self.name };
        let known = match self.known.remove(&key) {
            Some(known) => Some(known),
            None => storage.get(&key).await?,
        };
        let Some(mut row) = known else { return Ok(()) };
        let created = row.create_revision;
        while row.create_revision == created {
            let condition = Condition::Mod(row.mod_revision);
            match storage.commit(&key, Change::Delete, condition, true).await? {
                Verdict::Refused(_, Some(found)) => row = found,
                Verdict::Refused(_, None) | Verdict::Done(_) => break,
                Verdict::NoLease => panic!("no lease was named"),
            }
        }
        Ok(())
    }

    /// Records an event, which ends with its lease, or that one has come again.
    async fn record_event(&mut self, client: &Client) -> Result<(), Status> {
        let key = Bytes::from(format!("{EVENTS}ns/{}.{}", self.name, self.dice.index(50)));
        let mut row = None;
        loop {
            let lease = self.leases.get(&self.world, client).await?;
            let change = Change::Put { value: self.value(300), lease };
            let condition = Condition::Mod(row.map_or(0, |row: KeyValue| row.mod_revision));
            let storage = Storage { world: &self.world, client, by: &self.name };
            match storage.commit(&key, change, condition, true).await? {
                Verdict::Done(_) => return Ok(()),
                Verdict::Refused(_, found) => row = found,
                Verdict::NoLease => {
                    self.leases.gone(lease);
                    row = None;
                }
            }
        }
    }
}
