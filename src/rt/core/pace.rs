//! What has no hurry: a slice of it at a time, with rests between.

use crate::rt::core::Core;
use crate::rt::event::Event;
use crate::types::ShardId;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long a core rests at least between two slices of what has no hurry, as long as a few take.
/// A core that never sleeps is not asked to make room for the system's own threads on its CPU
/// before some milliseconds are over, and a write's end is told by one of these.
const REST: Duration = Duration::from_micros(100);
/// How much longer it rests if what is left has time and it had other work meanwhile: few puts meet
/// two slices then, and a million changes are forgotten in a quarter of a minute.
const LONG_REST: Duration = Duration::from_micros(700);

/// When the next slice is due.
#[derive(Default)]
pub(super) struct Pace {
    is_resting: Cell<bool>,
    /// A slice was done, and there is more.
    rest: Event,
    /// What is left has time.
    is_patient: Cell<bool>,
    turns: Cell<u64>,
}

impl Pace {
    /// The core takes a turn, whatever for.
    pub(super) fn count_turn(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    /// A slice is due.
    pub(super) fn is_rested(&self) -> bool {
        !self.is_resting.get()
    }
}

impl Core {
    /// Lets so much time pass between two slices, in which the core does whatever else comes, until
    /// the process ends.
    pub(crate) async fn keep_pace(self: Rc<Self>) {
        let mut before = 0;
        loop {
            self.pace.rest.wait().await;
            glommio::timer::sleep(REST).await;
            // The slice itself was done in a turn.
            let is_alone = self.pace.turns.get() - before <= 1;
            before = self.pace.turns.get();
            if self.pace.is_patient.get() && !is_alone {
                glommio::timer::sleep(LONG_REST).await;
            }
            self.pace.is_resting.set(false);
            self.turn.set();
        }
    }

    /// A slice of what has no hurry, once answers are on their way; the next is due after a rest.
    pub(super) fn work_all(self: &Rc<Self>, shards: &[ShardId]) {
        let (mut is_more, mut is_patient) = (false, true);
        for id in shards {
            if let Some(host) = self.hosts.borrow_mut().get_mut(id)
                && host.shard.work()
            {
                is_more = true;
                is_patient &= host.shard.is_patient();
            }
            self.drain(*id);
        }
        // That may have come to something for peers, too.
        self.send_to_peers();
        self.pace.is_patient.set(is_patient);
        if is_more {
            self.pace.is_resting.set(true);
            self.pace.rest.set();
        }
    }
}
