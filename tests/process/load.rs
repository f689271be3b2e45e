//! Puts from several connections with many in flight on each, and what is known of every one.

use crate::support::call::Client;
use crate::support::dice::Dice;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{PutRequest, PutResponse};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Connections of one load.
const CONNECTIONS: usize = 4;
/// Puts in flight on each of them.
const IN_FLIGHT: usize = 16;
/// Keys that all lanes overwrite again and again.
const HOT_KEYS: usize = 8;

/// A put that was acknowledged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Acked {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) revision: i64,
}

/// Every put that was sent, and those of them that were acknowledged.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The values that each key may have.
    pub(crate) sent: BTreeMap<Bytes, Vec<Bytes>>,
    /// In the order in which the answers came.
    pub(crate) acked: Vec<Acked>,
}

/// The load while it runs.
#[derive(Debug)]
pub(crate) struct Load {
    history: Arc<Mutex<History>>,
    progress: Arc<Notify>,
    lanes: JoinSet<()>,
}

impl Load {
    /// Starts putting; `name` is in all keys but the hot ones.
    pub(crate) async fn start(port: u16, name: &str, dice: &mut Dice) -> Self {
        let history = Arc::new(Mutex::new(History::default()));
        let progress = Arc::new(Notify::new());
        let mut lanes = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let client = Client::connect(port).await.expect("the server answers");
            for lane in 0..IN_FLIGHT {
                let lane = Lane {
                    client: client.clone(),
                    name: format!("{name}/{connection}/{lane}"),
                    dice: Dice::new(dice.next()),
                    history: Arc::clone(&history),
                    progress: Arc::clone(&progress),
                };
                lanes.spawn(lane.run());
            }
        }
        Self { history, progress, lanes }
    }

    /// Waits until `count` puts are acknowledged; false if all lanes have ended before.
    pub(crate) async fn acked(&mut self, count: usize) -> bool {
        loop {
            let progress = self.progress.notified();
            if locked(&self.history).acked.len() >= count {
                return true;
            }
            tokio::select! {
                () = progress => {}
                ended = self.lanes.join_next() => if ended.is_none() { return false },
            }
        }
    }

    /// Waits until every lane has met its error, the server being gone.
    pub(crate) async fn ended(self) -> History {
        self.lanes.join_all().await;
        std::mem::take(&mut *locked(&self.history))
    }
}

/// One put after another, until one fails.
struct Lane {
    client: Client,
    name: String,
    dice: Dice,
    history: Arc<Mutex<History>>,
    progress: Arc<Notify>,
}

impl Lane {
    async fn run(mut self) {
        for number in 0_u64.. {
            let unique = format!("{}/{number}", self.name);
            let is_hot = self.dice.chance(25);
            let key = match is_hot {
                true => format!("hot/{}", self.dice.index(HOT_KEYS)),
                false => unique.clone(),
            };
            let (key, value) = (Bytes::from(key), self.value(&unique));
            let sent = (key.clone(), value.clone());
            locked(&self.history).sent.entry(sent.0).or_default().push(sent.1);
            let put = PutRequest { key, value, ..PutRequest::default() };
            let path = "/etcdserverpb.KV/Put";
            let Ok(answer) = self.client.unary::<PutResponse>(path, &put).await else { return };
            let revision = answer.header.expect("every answer has a header").revision;
            let PutRequest { key, value, .. } = put;
            locked(&self.history).acked.push(Acked { key, value, revision });
            self.progress.notify_waiters();
        }
    }

    /// A value that no other put has, of any size, and that shows if half of it is missing.
    fn value(&mut self, unique: &str) -> Bytes {
        let size = match self.dice.below(20) {
            0 => self.dice.index(40_000),
            _ => self.dice.index(400),
        };
        let mut value = unique.to_owned();
        while value.len() < size {
            value += unique;
        }
        value.push('.');
        value.into()
    }
}

fn locked(history: &Mutex<History>) -> std::sync::MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
