//! Those who read: consistently, and from a cache all the same.

use crate::cache::Cache;
use crate::record::Read;
use crate::storage::{Paging, Storage};
use crate::support::dice::Dice;
use crate::wire::Client;
use crate::world::{Lane, Stage, World};
use std::rc::Rc;
use tonic::Status;

/// Writes between two reads.
const WRITES: u64 = 40;

/// One who reads.
pub(crate) struct Reader {
    pub(crate) world: Rc<World>,
    pub(crate) name: String,
    pub(crate) dice: Dice,
    /// The caches that it reads from.
    pub(crate) caches: Vec<Rc<Cache>>,
    /// Writes until the last read.
    pub(crate) acked: u64,
}

impl Lane for Reader {
    /// Asks what the store's revision is, waits until a cache has come that far, and holds what
    /// it has against a list of the same revision.
    async fn step(&mut self, client: &Client) -> Result<(), Status> {
        let next = self.acked + WRITES;
        let (mut acked, mut stage) = (self.world.acked.subscribe(), self.world.stage.subscribe());
        tokio::select! {
            now = acked.wait_for(|acked| *acked >= next) => self.acked = *now.expect("it is there"),
            _ = stage.wait_for(|stage| *stage > Stage::Work) => return Ok(()),
        }
        let cache = self.dice.pick(&self.caches);
        let storage = Storage { world: &self.world, client, by: &self.name };
        let floor = self.world.seen();
        let current = storage.current_revision(&cache.span).await?;
        cache.wait_for(&self.world, current).await;
        let (revision, rows) = cache.rows();
        let count = i64::try_from(rows.len()).expect("few");
        self.world.read(Read {
            by: format!("{}, from {}", self.name, cache.name),
            span: cache.span.clone(),
            limit: 0,
            revision,
            header: revision,
            floor,
            rows: Some(rows.clone()),
            count,
            more: false,
        });
        let pages = 1 + i64::try_from(self.dice.below(20)).expect("few");
        let paging = self.dice.pick(&[Paging::Whole, Paging::Pages(pages), Paging::Stream]);
        if let Some((_, listed)) = storage.list(&cache.span, revision, paging).await? {
            assert!(rows == listed, "{} is not what is listed at {revision}", cache.name);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.world.stage() > Stage::Work
    }
}
