//! Who waits for what: proposals for their entry, reads for their read point.

use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::types::LogIndex;
use crate::types::Term;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::VecDeque;

/// A change held until it can have its place in the log: the change, who asked, and until when.
pub(super) type Held = (Bytes, RequestId, Tick);

/// Writes on their way into the log and through it.
///
/// # Shape
/// `placed` is of one term, and ascends in index and, the timeout being one for all, in deadline;
/// so does `held`, and what is in it came after what is in `placed`. Whoever leads, loses that and
/// leads again may have less in its log than before: what it had placed in earlier terms is in
/// `older`, and an entry that is committed in such a place, or of a later term, says what became of
/// it.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    placed: VecDeque<Placed>,
    older: Vec<Placed>,
    held: VecDeque<Held>,
    /// Bytes of the changes held.
    held_size: usize,
}

/// One that has its place in the log.
#[derive(Debug)]
struct Placed {
    index: LogIndex,
    term: Term,
    /// Nobody, once the request was given up; the entry may yet come.
    to: Option<RequestId>,
    deadline: Tick,
}

impl Proposals {
    pub(super) fn push(&mut self, index: LogIndex, term: Term, to: RequestId, deadline: Tick) {
        if self.placed.back().is_some_and(|last| last.term != term) {
            self.older.extend(self.placed.drain(..));
        }
        self.placed.push_back(Placed { index, term, to: Some(to), deadline });
    }

    /// Keeps a change until [`Self::next_held`].
    pub(super) fn hold(&mut self, command: Bytes, to: RequestId, deadline: Tick) {
        self.held_size += command.len();
        self.held.push_back((command, to, deadline));
    }

    /// Whether any change is held: one that comes now has its place behind it.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The change that was held first.
    pub(super) fn next_held(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.held_size -= held.0.len();
        Some(held)
    }

    /// Puts back what [`Self::next_held`] gave.
    pub(super) fn hold_on(&mut self, held: Held) {
        self.held_size += held.0.len();
        self.held.push_front(held);
    }

    /// Bytes kept here; what has its place in the log is the log's to count.
    pub(super) fn size(&self) -> usize {
        self.held_size
    }

    pub(super) fn len(&self) -> usize {
        self.placed.len() + self.older.len() + self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry `index` of `term` is committed: who waits for it, and who waited for entries that
    /// it proves will never be: others in their places, and those of a term before wherever they
    /// were to be, as terms ascend in a log.
    pub(super) fn reached(
        &mut self,
        index: LogIndex,
        term: Term,
    ) -> (Option<RequestId>, Vec<RequestId>) {
        let is_over = |placed: &Placed| placed.index <= index || placed.term < term;
        let (mut reached, mut lost) = (None, Vec::new());
        if !self.older.is_empty() {
            for placed in self.older.extract_if(.., |placed| is_over(placed)) {
                if (placed.index, placed.term) == (index, term) {
                    reached = placed.to;
                } else {
                    lost.extend(placed.to);
                }
            }
        }
        while let Some(placed) = self.placed.front().filter(|placed| is_over(placed)) {
            let (same, to) = ((placed.index, placed.term) == (index, term), placed.to);
            self.placed.pop_front();
            if same {
                return (to, lost);
            }
            lost.extend(to);
        }
        (reached, lost)
    }

    /// Those whose time is over, and when it was: what has its place in the log may still take
    /// place.
    pub(super) fn expired(&mut self, now: Tick) -> Vec<(RequestId, Tick)> {
        let older = self.older.iter_mut().filter(|placed| placed.deadline <= now);
        let late = self.placed.iter_mut().take_while(|placed| placed.deadline <= now);
        let late = older.chain(late);
        late.filter_map(|placed| Some((placed.to.take()?, placed.deadline))).collect()
    }

    /// All that have a place in the log, which is given up.
    pub(super) fn drain_placed(&mut self) -> Vec<RequestId> {
        self.older.drain(..).chain(self.placed.drain(..)).filter_map(|placed| placed.to).collect()
    }

    /// Those whose time is over while they were held: they will never take place.
    pub(super) fn expired_held(&mut self, now: Tick) -> Vec<RequestId> {
        let mut out = Vec::new();
        while let Some((command, to, _)) = self.held.pop_front_if(|held| held.2 <= now) {
            self.held_size -= command.len();
            out.push(to);
        }
        out
    }
}

/// Reads on their way to a read point.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Came since the last read point was asked for.
    new: Vec<Waiting>,
    /// Asked for, in order of asking; the point, once known.
    asked: VecDeque<Batch>,
    context_last: u64,
    /// A read point was lost: ask again when leadership settles, not in the same turn.
    paused: bool,
    count: usize,
    /// Bytes of all that wait here.
    size: usize,
}

#[derive(Debug)]
struct Waiting {
    to: RequestId,
    request: Request,
    deadline: Tick,
}

#[derive(Debug)]
struct Batch {
    context: u64,
    point: Option<LogIndex>,
    reads: VecDeque<Waiting>,
}

impl Reads {
    pub(super) fn push(&mut self, to: RequestId, request: Request, deadline: Tick) {
        self.size += request.size();
        self.new.push(Waiting { to, request, deadline });
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all that wait here.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Closes the batch of all reads that came since the last one: the context to ask with.
    pub(super) fn next_batch(&mut self) -> Option<u64> {
        if self.new.is_empty() || self.paused {
            return None;
        }
        self.context_last += 1;
        let reads = std::mem::take(&mut self.new).into();
        self.asked.push_back(Batch { context: self.context_last, point: None, reads });
        Some(self.context_last)
    }

    /// A read point is known.
    pub(super) fn point(&mut self, context: u64, index: LogIndex) {
        if let Some(batch) = self.asked.iter_mut().find(|batch| batch.context == context) {
            batch.point = Some(index);
        }
    }

    /// A read point will not come: its reads wait for leadership, then ask anew.
    pub(super) fn lost(&mut self, context: u64) {
        let Some(at) = self.asked.iter().position(|batch| batch.context == context) else {
            return;
        };
        if let Some(batch) = self.asked.remove(at) {
            self.new.extend(batch.reads);
        }
        self.paused = true;
    }

    /// Leadership has settled.
    pub(super) fn retry(&mut self) {
        self.paused = false;
    }

    /// The next read whose point is at or before `applied`.
    pub(super) fn ready(&mut self, applied: LogIndex) -> Option<(RequestId, Request)> {
        loop {
            let batch = self.asked.front_mut()?;
            if batch.point.is_none_or(|point| point > applied) {
                return None;
            }
            if let Some(waiting) = batch.reads.pop_front() {
                self.count -= 1;
                self.size -= waiting.request.size();
                return Some((waiting.to, waiting.request));
            }
            self.asked.pop_front();
        }
    }

    /// All of them, in the order that they came, and until when each waits.
    pub(super) fn drain(&mut self) -> Vec<(RequestId, Request, Tick)> {
        let Self { asked, new, .. } = std::mem::take(self);
        let waiting = asked.into_iter().flat_map(|batch| batch.reads).chain(new);
        waiting.map(|it| (it.to, it.request, it.deadline)).collect()
    }

    /// Those whose time is over.
    pub(super) fn expired(&mut self, now: Tick) -> Vec<RequestId> {
        let mut out = Vec::new();
        self.new.retain(|waiting| {
            let over = waiting.deadline <= now;
            if over {
                self.size -= waiting.request.size();
                out.push(waiting.to);
            }
            !over
        });
        for batch in &mut self.asked {
            while let Some(waiting) = batch.reads.pop_front_if(|read| read.deadline <= now) {
                self.size -= waiting.request.size();
                out.push(waiting.to);
            }
        }
        self.count -= out.len();
        // A paused read asks again now and then: the leader may be back without a word.
        self.paused = false;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(stream: u32) -> RequestId {
        RequestId { core: 0, connection: 0, generation: 0, stream }
    }

    #[test]
    fn an_entry_of_another_term_proves_the_proposal_lost() {
        let mut proposals = Proposals::default();
        proposals.push(LogIndex(3), Term(1), id(1), Tick(9));
        proposals.push(LogIndex(4), Term(1), id(2), Tick(9));
        assert_eq!(proposals.reached(LogIndex(3), Term(1)), (Some(id(1)), vec![]));
        assert_eq!(proposals.reached(LogIndex(4), Term(2)), (None, vec![id(2)]));
        assert!(proposals.is_empty());
    }

    /// They counted as waiting until the log had come to where they were to be, and those who
    /// waited were told that they were late.
    #[test]
    fn an_entry_of_a_later_term_proves_lost_all_that_was_to_come_behind_it() {
        let mut proposals = Proposals::default();
        for (index, term) in [(3, 1), (4, 1), (5, 1), (9, 2), (10, 2)] {
            let to = id(u32::try_from(index).unwrap());
            proposals.push(LogIndex(index), Term(term), to, Tick(9));
        }
        let due = vec![id(3), id(4), id(5)];
        assert_eq!(proposals.reached(LogIndex(2), Term(2)), (None, due));
        assert_eq!(proposals.reached(LogIndex(3), Term(3)), (None, vec![id(9), id(10)]));
        assert!(proposals.is_empty());
    }

    #[test]
    fn whoever_leads_again_with_less_in_its_log_answers_what_it_places_then() {
        let mut proposals = Proposals::default();
        for index in [3, 4, 5] {
            proposals.push(LogIndex(index), Term(1), id(u32::try_from(index).unwrap()), Tick(9));
        }
        proposals.push(LogIndex(4), Term(3), id(14), Tick(19));
        assert_eq!(proposals.reached(LogIndex(3), Term(1)), (Some(id(3)), vec![]));
        assert_eq!(proposals.reached(LogIndex(4), Term(3)), (Some(id(14)), vec![id(4), id(5)]));
        assert!(proposals.is_empty());
    }

    #[test]
    fn an_expired_proposal_keeps_its_place_and_loses_its_answer() {
        let mut proposals = Proposals::default();
        proposals.push(LogIndex(3), Term(1), id(1), Tick(9));
        assert_eq!(proposals.expired(Tick(9)), vec![(id(1), Tick(9))]);
        assert_eq!(proposals.reached(LogIndex(3), Term(1)), (None, vec![]));
    }

    #[test]
    fn reads_of_one_turn_share_a_point_and_wait_for_it() {
        let mut reads = Reads::default();
        reads.push(id(1), Request::Status, Tick(9));
        reads.push(id(2), Request::Status, Tick(9));
        let context = reads.next_batch().expect("two reads are new");
        assert_eq!(reads.next_batch(), None);
        assert!(reads.ready(LogIndex(5)).is_none());
        reads.point(context, LogIndex(6));
        assert!(reads.ready(LogIndex(5)).is_none());
        assert_eq!(reads.ready(LogIndex(6)).map(|read| read.0), Some(id(1)));
        assert_eq!(reads.ready(LogIndex(6)).map(|read| read.0), Some(id(2)));
        assert!(reads.ready(LogIndex(6)).is_none() && reads.is_empty());
    }
}
