//! Which segments the cleaner is to write anew.
//!
//! A dead put may go whenever its segment is written anew. A tombstone is what keeps an older put
//! of its key from coming alive at the next start, so it may go only if no file before has such a
//! put. Each segment is *swept* up to a floor: it holds no put that was dead there. What every
//! earlier segment is swept up to is the *bound* of a segment: its dead tombstones below it may go.
//!
//! In order of what they give for what they cost:
//!
//! 1. segments of which nothing is to stay are let go without being read;
//! 2. of those that are mostly garbage, the one that is so most;
//! 3. if too much is tombstones that may not go, the first segment that holds them up;
//! 4. runs of small segments become one, so that their count stays in proportion to their size.
//!
//! Neighbours that are small, or have much garbage, are written anew along with those of 2 and 3.

use std::ops::Range;

use super::segment::Count;
use crate::types::Revision;

/// What the choice rests on of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// All its records.
    pub(super) all: Count,
    /// Its dead puts.
    pub(super) dead: Count,
    /// Its dead tombstones that were dead when the floor was told, in bytes.
    pub(super) settled: u64,
    /// Whether each of its records is dead, and its dead tombstones were when the floor was told.
    pub(super) is_dead: bool,
    /// The revision of its last record.
    pub(super) last: Revision,
    /// It holds no put that was dead at this floor.
    pub(super) swept: Revision,
}

/// What is to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// These of the segments.
    pub(super) run: Range<usize>,
    /// Dead tombstones of earlier revisions may go.
    pub(super) bound: Revision,
}

/// Bytes of live records that a run may have, in parts of a segment, for its neighbours to join it
/// whatever garbage they have.
const SMALL_SHARE: u64 = 16;
/// Segments in a run that are written as one for being small.
const MERGE_COUNT: usize = 8;
/// The sizes up to which segments are small among others, in parts of a segment.
const MERGE_SHARES: [u64; 3] = [512, 64, 8];
/// One part in this many of all bytes may be tombstones that cannot go.
const STUCK_SHARE: u64 = 10;

/// What to write anew, if anything is worth it; `floor` is the one that was last told.
pub(super) fn plan(segment_size: u64, views: &[View], floor: Revision) -> Option<Plan> {
    let planner = Planner::new(segment_size, views, floor);
    planner
        .droppable()
        .or_else(|| planner.garbage())
        .or_else(|| planner.holding_up())
        .or_else(|| planner.small())
}

/// Only the segments of which nothing is to stay.
pub(super) fn dead(segment_size: u64, views: &[View], floor: Revision) -> Option<Plan> {
    Planner::new(segment_size, views, floor).droppable()
}

/// What to write anew next so that nothing is left of what may go in the segments of `within`: the
/// first of them that has any garbage, and what is to be written along with it.
pub(super) fn sweep(
    segment_size: u64,
    views: &[View],
    floor: Revision,
    within: Range<usize>,
) -> Option<Plan> {
    let planner = Planner::new(segment_size, views, floor);
    let has_garbage = |index: &usize| planner.garbage_at(*index, planner.bounds[*index]) > 0;
    within.clone().find(has_garbage).map(|index| planner.widen(index))
}

/// The bound of each segment.
fn bounds(views: &[View], floor: Revision) -> Vec<Revision> {
    let mut bound = floor;
    let mut bounds = Vec::with_capacity(views.len());
    for view in views {
        bounds.push(bound);
        bound = bound.min(view.swept);
    }
    bounds
}

struct Planner<'a> {
    segment_size: u64,
    views: &'a [View],
    floor: Revision,
    bounds: Vec<Revision>,
}

impl<'a> Planner<'a> {
    fn new(segment_size: u64, views: &'a [View], floor: Revision) -> Self {
        Self { segment_size, views, floor, bounds: bounds(views, floor) }
    }

    /// Whether all settled tombstones of a segment may go if those of `bound` may.
    fn is_free(&self, index: usize, bound: Revision) -> bool {
        bound > self.views[index].last || bound == self.floor
    }

    /// Bytes of a segment that would not be written anew.
    fn garbage_at(&self, index: usize, bound: Revision) -> u64 {
        let view = &self.views[index];
        view.dead.size + if self.is_free(index, bound) { view.settled } else { 0 }
    }

    /// Bytes of a segment that would be.
    fn rest(&self, index: usize) -> u64 {
        self.views[index].all.size - self.garbage_at(index, self.bounds[index])
    }

    fn plan(&self, run: Range<usize>) -> Plan {
        let bound = self.bounds[run.start];
        Plan { run, bound }
    }

    /// Segments of which nothing stays.
    fn droppable(&self) -> Option<Plan> {
        let is_droppable = |index: usize, bound| {
            let view = &self.views[index];
            view.is_dead && self.garbage_at(index, bound) == view.all.size
        };
        let start = (0..self.views.len()).find(|&index| is_droppable(index, self.bounds[index]))?;
        let bound = self.bounds[start];
        let after = (start..self.views.len()).find(|&index| !is_droppable(index, bound));
        Some(self.plan(start..after.unwrap_or(self.views.len())))
    }

    /// The segment with the most garbage for its size, if that is more than half.
    fn garbage(&self) -> Option<Plan> {
        let share = |index: usize| {
            let garbage = u128::from(self.garbage_at(index, self.bounds[index]));
            garbage * 1000 / u128::from(self.views[index].all.size.max(1))
        };
        // The first of the best.
        let best = (0..self.views.len()).rev().max_by_key(|&index| share(index))?;
        (share(best) > 500).then(|| self.widen(best))
    }

    /// The first segment that keeps tombstones from going, if they are too many.
    fn holding_up(&self) -> Option<Plan> {
        let all: u64 = self.views.iter().map(|view| view.all.size).sum();
        let is_stuck = |index: usize| {
            self.views[index].settled > 0 && !self.is_free(index, self.bounds[index])
        };
        let stuck: u64 = (0..self.views.len())
            .filter(|&index| is_stuck(index))
            .map(|index| self.views[index].settled)
            .sum();
        if stuck.saturating_mul(STUCK_SHARE) <= all {
            return None;
        }
        let first = (0..self.views.len()).find(|&index| is_stuck(index))?;
        let last = self.views[first].last;
        // One that is swept up to the floor can not be any further.
        let goal = self.floor.min(Revision(last.0.saturating_add(1)));
        let holder = (0..first).find(|&index| self.views[index].swept < goal)?;
        Some(self.widen(holder))
    }

    /// The run around a segment with those neighbours that are worth it, as far as one segment
    /// takes what stays of them.
    fn widen(&self, index: usize) -> Plan {
        let is_worth = |index: usize| {
            let garbage = self.garbage_at(index, self.bounds[index]);
            garbage.saturating_mul(4) >= self.views[index].all.size
                || self.rest(index) <= self.segment_size / SMALL_SHARE
        };
        let (mut run, mut size) = (index..index + 1, self.rest(index));
        loop {
            let fits = |index: usize| size + self.rest(index) <= self.segment_size;
            let left = run.start.checked_sub(1).filter(|&left| is_worth(left) && fits(left));
            let right = Some(run.end)
                .filter(|&right| right < self.views.len() && is_worth(right) && fits(right));
            match (left, right) {
                (_, Some(right)) => {
                    size += self.rest(right);
                    run.end += 1;
                }
                (Some(left), None) => {
                    size += self.rest(left);
                    run.start = left;
                }
                (None, None) => return self.plan(run),
            }
        }
    }

    /// The first run of segments that are small and near one another in size.
    fn small(&self) -> Option<Plan> {
        MERGE_SHARES.iter().find_map(|share| {
            let small = self.segment_size / share;
            let mut start = 0;
            while start < self.views.len() {
                let (mut end, mut size) = (start, 0);
                while end < self.views.len()
                    && self.rest(end) <= small
                    && size + self.rest(end) <= self.segment_size
                {
                    size += self.rest(end);
                    end += 1;
                }
                if end - start >= MERGE_COUNT {
                    return Some(self.plan(start..end));
                }
                start = end.max(start + 1);
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;
    const FLOOR: Revision = Revision(1000);

    /// A segment of so many bytes, of which so many are dead puts and dead tombstones.
    fn view(size: u64, dead: u64, settled: u64, last: i64, swept: i64) -> View {
        View {
            all: Count { records: 10, size },
            dead: Count { records: u32::from(dead > 0), size: dead },
            settled,
            is_dead: dead + settled == size,
            last: Revision(last),
            swept: Revision(swept),
        }
    }

    fn plan_of(views: &[View]) -> Option<(Range<usize>, i64)> {
        plan(SIZE, views, FLOOR).map(|plan| (plan.run, plan.bound.0))
    }

    #[test]
    fn nothing_is_planned_without_garbage() {
        assert_eq!(plan_of(&[]), None);
        let views = [view(SIZE, 0, 0, 100, 1000), view(SIZE, SIZE / 3, 0, 200, 0)];
        assert_eq!(plan_of(&views), None);
    }

    #[test]
    fn what_is_all_dead_goes_first() {
        let live = view(SIZE, 0, 0, 10, 1000);
        let worst = view(SIZE, SIZE - 1, 0, 20, 0);
        let dead = view(SIZE, SIZE, 0, 30, 0);
        assert_eq!(plan_of(&[live, worst, dead, dead, live]), Some((2..4, 0)));
    }

    #[test]
    fn tombstones_go_only_if_all_before_is_swept_beyond_them() {
        let tombs = view(SIZE, SIZE / 4, SIZE / 4 * 3, 300, 0);
        assert_eq!(plan_of(&[tombs]), Some((0..1, 1000)));
        let swept = view(4 * SIZE, 1, 0, 100, 301);
        assert_eq!(plan_of(&[swept, tombs]), Some((1..2, 301)));
        // Here they are held up, and are more than a tenth.
        let unswept = view(4 * SIZE, 1, 0, 100, 300);
        assert_eq!(plan_of(&[unswept, tombs]), Some((0..1, 1000)));
        // Here they are held up, and are less.
        let unswept = view(40 * SIZE, 1, 0, 100, 300);
        assert_eq!(plan_of(&[unswept, tombs]), None);
    }

    /// The first segment was written anew again and again, as it could not be swept beyond the
    /// floor, which lay within the one with the tombstones.
    #[test]
    fn what_is_swept_up_to_the_floor_holds_nothing_up() {
        let unswept = |last| view(SIZE, 1, 0, last, 0);
        let done = view(SIZE, 0, 0, 10, FLOOR.0);
        let across = view(SIZE, 1, SIZE / 2 - 1, FLOOR.0 + 500, 0);
        assert_eq!(plan_of(&[unswept(10), unswept(20), across]), Some((0..1, 1000)));
        assert_eq!(plan_of(&[done, unswept(20), across]), Some((1..2, 1000)));
        assert_eq!(plan_of(&[done, done, across]), None);
    }

    #[test]
    fn neighbours_with_garbage_are_written_along() {
        let third = view(SIZE / 2, SIZE / 6, 0, 10, 0);
        let most = view(SIZE / 2, SIZE / 3, 0, 20, 0);
        let live = view(SIZE / 2, 0, 0, 30, 1000);
        assert_eq!(plan_of(&[live, third, most, live]), Some((1..3, 1000)));
    }

    #[test]
    fn many_small_segments_become_one() {
        let small = view(SIZE / 1000, 0, 0, 10, 1000);
        let large = view(SIZE, 0, 0, 20, 1000);
        assert_eq!(plan_of(&[small; 7]), None);
        assert_eq!(plan_of(&[small; 9]), Some((0..9, 1000)));
        let mut views = vec![large];
        views.extend([small; 8]);
        views.push(large);
        assert_eq!(plan_of(&views), Some((1..9, 1000)));
        let middle = view(SIZE / 8, 0, 0, 10, 1000);
        assert_eq!(plan_of(&[middle; 12]), Some((0..8, 1000)));
    }
}
