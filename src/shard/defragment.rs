//! Defragmentation: what a client may ask for and nobody needs to.
//!
//! Room is given back by itself. Who asks has it done at once: all that was compacted when it was
//! asked for is forgotten first, then every segment of the store that has garbage is written anew,
//! a slice at a time as ever and without sparing the disk. Nobody waits but who asked. Those who
//! ask while that is under way share the next one, which begins where theirs is to begin.

use crate::shard::Shard;
use crate::shard::request::Body;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::types::Revision;

/// Who may wait at a time; one more is refused as too many. A person asks for it, or a job by
/// night.
const WAITING_MAX: usize = 64;

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Defragments {
    under_way: Option<UnderWay>,
    /// Share the next one.
    next: Vec<RequestId>,
}

impl Defragments {
    /// Whether anybody waits.
    pub(super) fn is_any(&self) -> bool {
        self.under_way.is_some() || !self.next.is_empty()
    }

    /// All who wait; nobody does any more.
    pub(super) fn drain(&mut self) -> Vec<RequestId> {
        let under_way = self.under_way.take().map_or_else(Vec::new, |it| it.to);
        under_way.into_iter().chain(self.next.drain(..)).collect()
    }
}

/// One for all who had asked when it began.
#[derive(Debug)]
struct UnderWay {
    to: Vec<RequestId>,
    /// What was compacted then is to be forgotten.
    floor: Option<Revision>,
    step: Step,
}

/// How far one has come.
///
/// ```text
///   Forget ──all is forgotten──► Sweep ──no garbage is left──► answered
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Forget,
    Sweep,
}

impl Shard {
    /// Somebody asks for it.
    pub(super) fn begin_defragment(&mut self, to: RequestId) -> Option<Unavailable> {
        let under_way = self.defragments.under_way.as_ref().map_or(0, |it| it.to.len());
        if self.defragments.next.len() + under_way >= WAITING_MAX {
            return Some(Unavailable::TooManyRequests);
        }
        self.defragments.next.push(to);
        None
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget_defragment(&mut self, to: RequestId) {
        self.defragments.next.retain(|waits| *waits != to);
        let Some(under_way) = &mut self.defragments.under_way else { return };
        under_way.to.retain(|waits| *waits != to);
        if under_way.to.is_empty() {
            self.defragments.under_way = None;
            self.store.end_sweep();
        }
    }

    /// Goes on with what was asked for; whether there is more to do at once.
    pub(super) fn step_defragment(&mut self) -> bool {
        let Some(under_way) = &self.defragments.under_way else {
            let to = std::mem::take(&mut self.defragments.next);
            if to.is_empty() {
                return false;
            }
            let (floor, step) = (self.keyspace.compacted(), Step::Forget);
            self.defragments.under_way = Some(UnderWay { to, floor, step });
            return true;
        };
        let step = match under_way.step {
            Step::Forget if self.is_forgotten(under_way.floor) => {
                self.store.sweep();
                Some(Step::Sweep)
            }
            Step::Sweep if self.store.is_swept() => None,
            Step::Forget | Step::Sweep => return false,
        };
        let mut under_way = self.defragments.under_way.take().expect("just looked at");
        let Some(step) = step else {
            for to in under_way.to {
                // Its answer has no header, whatever this says.
                self.reply(to, Ok(Response { header: self.header(), body: Body::Defragment }));
            }
            return true;
        };
        under_way.step = step;
        self.defragments.under_way = Some(under_way);
        true
    }
}
