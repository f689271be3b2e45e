//! Those who compact: each API server has one, and of every turn one of them does it.

use crate::cache::Cache;
use crate::record::{Change, Condition};
use crate::storage::{COMPACTED, Storage, Verdict};
use crate::wire::Client;
use crate::world::{Lane, Stage, World};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use std::rc::Rc;
use tonic::{Code, Status};

/// The key whose version counts the turns.
pub(crate) const TURNS: &str = "compact_rev_key";
/// Writes between two turns, where an API server waits for five minutes.
const WRITES: u64 = 150;

/// One who compacts.
pub(crate) struct Compactor {
    pub(crate) world: Rc<World>,
    pub(crate) name: String,
    /// The one that never needs what was compacted: what it has not seen is kept.
    pub(crate) referee: Rc<Cache>,
    /// The turn that it knows of.
    pub(crate) turn: i64,
    /// The store's revision when it last had a turn.
    pub(crate) revision: i64,
    /// Writes until then.
    pub(crate) acked: u64,
}

impl Lane for Compactor {
    async fn step(&mut self, client: &Client) -> Result<(), Status> {
        let next = self.acked + WRITES;
        let (mut acked, mut stage) = (self.world.acked.subscribe(), self.world.stage.subscribe());
        tokio::select! {
            now = acked.wait_for(|acked| *acked >= next) => self.acked = *now.expect("it is there"),
            _ = stage.wait_for(|stage| *stage > Stage::Work) => return Ok(()),
        }
        let revision = self.revision;
        let storage = Storage { world: &self.world, client, by: &self.name };
        let value = Bytes::from(format!("{revision} {}", self.name));
        let (key, change) = (Bytes::from_static(TURNS.as_bytes()), Change::Put { value, lease: 0 });
        match storage.commit(&key, change, Condition::Version(self.turn), true).await? {
            Verdict::Done(now) => {
                (self.turn, self.revision) = (self.turn + 1, now);
                if revision > 0 {
                    self.compact(client, revision).await?;
                }
            }
            Verdict::Refused(now, found) => {
                // Somebody else had the turn.
                self.turn = found.map_or(0, |row| row.version);
                self.revision = now;
            }
            Verdict::NoLease => panic!("no lease was named"),
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.world.stage() > Stage::Work
    }
}

impl Compactor {
    async fn compact(&self, client: &Client, revision: i64) -> Result<(), Status> {
        self.referee.wait_for(&self.world, revision).await;
        self.world.compacts(revision);
        match client.compact(revision).await {
            Ok(answer) => {
                let now = answer.header.expect("every answer has a header").revision;
                assert!(now >= revision, "compacted {revision} at {now}");
                self.world.floor.send_modify(|floor| *floor = revision.max(*floor));
            }
            Err(status) if status.code() == Code::OutOfRange && status.message() == COMPACTED => {
                let max = self.world.compacted_max();
                assert!(revision < max, "{revision} is not compacted, only what is below {max}");
                return Ok(());
            }
            Err(status) => return Err(status),
        }
        let at = |revision| {
            let key = Bytes::from_static(TURNS.as_bytes());
            pb::RangeRequest { key, revision, ..pb::RangeRequest::default() }
        };
        match client.range(at(revision - 1)).await {
            Err(status) if status.message() == COMPACTED => {}
            Err(status) => return Err(status),
            Ok(answer) => panic!("{} is compacted: {answer:?}", revision - 1),
        }
        match client.range(at(revision)).await {
            Err(status) if status.message() == COMPACTED => {
                let max = self.world.compacted_max();
                assert!(revision < max, "what was compacted last can be read: {revision}");
                Ok(())
            }
            other => other.map(drop),
        }
    }
}
