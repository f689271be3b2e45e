//! One key's changes: its generations, each a run of puts closed by a tombstone.
//!
//! Most keys have one change that matters, so a history of one put lies in place and allocates
//! nothing. Longer ones are a list of changes, oldest first, across all generations. A generation
//! is not a thing of its own: each change knows how many came before it in its life, which finds
//! the change that began it. Only the oldest generation may have lost its beginning to compaction;
//! what that was stands before the list.

use crate::types::Location;
use crate::types::Revision;
use std::ops::ControlFlow;

/// A live key as the index sees it at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision that began this life of the key.
    pub created: Revision,
    /// The change that is seen.
    pub location: Location,
    /// Puts since the creation, that one included.
    pub version: i64,
}

/// The revision that nothing reaches.
pub(super) const NEVER: Revision = Revision(i64::MAX);

/// Set in [`Change::sub`] of a tombstone.
const TOMBSTONE: u32 = 1 << 31;
/// Room for this many more changes is made when a list of changes is full and short.
const GROW_MIN: usize = 2;

/// One change in a long history.
///
/// # Shape
/// 16 bytes. `sub` is below 2^31 and carries the tombstone's mark in its top bit. `age` counts the
/// changes before it in its generation, those forgotten included, and stays at its maximum.
#[derive(Clone, Copy, Debug)]
struct Change {
    main: Revision,
    sub: u32,
    age: u32,
}

/// Whether a revision may have a change at `location`.
pub(super) fn has_room(location: Location) -> bool {
    location.sub < TOMBSTONE
}

impl Change {
    fn new(location: Location, tombstone: bool, age: u32) -> Self {
        let Location { main, sub } = location;
        assert!(has_room(location), "a revision has fewer changes");
        Self { main, sub: if tombstone { sub | TOMBSTONE } else { sub }, age }
    }

    fn is_tombstone(self) -> bool {
        self.sub & TOMBSTONE != 0
    }

    fn location(self) -> Location {
        Location { main: self.main, sub: self.sub & !TOMBSTONE }
    }
}

/// All that is remembered of one key: at least one change.
///
/// # Shape
/// Changes stand in the order of their locations. Unless cleaning took some from between before a
/// restart, a tombstone never follows a tombstone.
#[derive(Debug)]
pub(super) enum History {
    /// One put and nothing else, if its numbers are small enough for these fields.
    Solo {
        /// The put.
        main: Revision,
        /// Revisions since the one that began the key's life.
        back: u32,
        /// Its place in its revision.
        sub: u16,
        /// Puts of this life before it.
        age: u16,
    },
    /// Anything else.
    Long(Changes),
}

/// A list of changes, oldest first.
///
/// # Shape
/// At least one change, and before the first a stone that is none: it keeps, of the oldest
/// generation's first remembered change, when its life began and which version it is (the bits of
/// the version, low and high). For a later generation both follow from the list. So a history is
/// one allocation, and what a leaf holds of it is small.
#[derive(Debug)]
pub(super) struct Changes(Vec<Change>);

const _: () = assert!(size_of::<Change>() == 16);
const _: () = assert!(size_of::<History>() == 24, "a leaf holds these in place");

impl History {
    /// The history of a key that was put for the first time.
    pub(super) fn new(location: Location) -> Self {
        Self::begin(location, location.main, 1)
    }

    /// A history that begins with a change in the midst of a key's life; version 0 is a tombstone.
    pub(super) fn begin(location: Location, created: Revision, version: i64) -> Self {
        let solo = || {
            Some(Self::Solo {
                main: location.main,
                back: location.main.0.checked_sub(created.0)?.try_into().ok()?,
                sub: location.sub.try_into().ok()?,
                age: version.checked_sub(1)?.try_into().ok()?,
            })
        };
        solo().unwrap_or_else(|| Self::Long(Changes::new(location, created, version)))
    }

    /// The key at the present: none if it is deleted.
    pub(super) fn latest(&self) -> Option<Found> {
        match self {
            Self::Solo { .. } => self.at(NEVER),
            Self::Long(changes) => changes.found(changes.list().len() - 1),
        }
    }

    /// Whether the key is there at the present.
    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::Solo { .. } => true,
            Self::Long(changes) => !changes.last().is_tombstone(),
        }
    }

    /// The key as it was at `revision`: none if it was not there then.
    ///
    /// # Cost
    /// One search in the list of its changes.
    pub(super) fn at(&self, revision: Revision) -> Option<Found> {
        match *self {
            Self::Solo { main, back, sub, age } => (main <= revision).then(|| Found {
                created: Revision(main.0 - i64::from(back)),
                location: Location { main, sub: sub.into() },
                version: i64::from(age) + 1,
            }),
            Self::Long(ref changes) => {
                let seen = changes.list().partition_point(|change| change.main <= revision);
                changes.found(seen.checked_sub(1)?)
            }
        }
    }

    /// The last change, be it a tombstone.
    pub(super) fn last(&self) -> Location {
        match *self {
            Self::Solo { main, sub, .. } => Location { main, sub: sub.into() },
            Self::Long(ref changes) => changes.last().location(),
        }
    }

    /// Whether the change at `location` is remembered.
    pub(super) fn knows(&self, location: Location) -> bool {
        match self {
            Self::Solo { .. } => self.last() == location,
            Self::Long(changes) => {
                changes.list().binary_search_by_key(&location, |change| change.location()).is_ok()
            }
        }
    }

    /// Adds a put.
    ///
    /// # Panics
    /// Unless `location` is after every change so far.
    pub(super) fn put(&mut self, location: Location) {
        self.push(location, false);
    }

    /// Adds the tombstone that closes the present generation.
    ///
    /// # Panics
    /// Unless the key is live and `location` is after every change so far.
    pub(super) fn bury(&mut self, location: Location) {
        self.push(location, true);
    }

    fn push(&mut self, location: Location, tombstone: bool) {
        assert!(self.last() < location, "changes come in order");
        if matches!(self, Self::Solo { .. }) {
            let Found { created, location, version } = self.latest().expect("it is a put");
            *self = Self::Long(Changes::new(location, created, version));
        }
        let Self::Long(changes) = self else { unreachable!("it was just made long") };
        changes.push(location, tombstone);
    }

    /// Adds a change that a file holds, of which version, 0 being a tombstone, and of a life begun
    /// at `created`. Changes before it may be missing. If so, nobody can see what is remembered so
    /// far: it is forgotten, and `told` hears each.
    ///
    /// # Panics
    /// Unless `location` is after every change so far.
    pub(super) fn restore(
        &mut self,
        location: Location,
        created: Revision,
        version: i64,
        mut told: impl FnMut(Location),
    ) {
        let goes_on = match self.latest() {
            None => version == 1 && created == location.main,
            Some(_) if version < 1 => true,
            Some(found) => {
                found.created == created && found.version.checked_add(1) == Some(version)
            }
        };
        if goes_on {
            self.push(location, version < 1);
        } else {
            assert!(self.last() < location, "changes come in order");
            self.each(0, |location, _| told(location));
            *self = Self::begin(location, created, version);
        }
    }

    /// The lowest floor at which something here may be forgotten.
    pub(super) fn garbage_from(&self) -> Revision {
        match self {
            Self::Solo { .. } => NEVER,
            Self::Long(changes) => match changes.list() {
                [first, second, ..] if !first.is_tombstone() && first.main < second.main => {
                    second.main
                }
                [only] if !only.is_tombstone() => NEVER,
                [first, ..] => Revision(first.main.0.saturating_add(1)),
                [] => unreachable!("a list is never empty"),
            },
        }
    }

    /// How many of the oldest changes nobody can see at `floor` or above. Who watches from `floor`
    /// on sees all changes of that revision.
    pub(super) fn forgettable(&self, floor: Revision) -> usize {
        let Self::Long(changes) = self else { return 0 };
        let list = changes.list();
        let before = list.partition_point(|change| change.main < floor);
        let is_hidden = |last: usize| {
            let next = list.get(before);
            list[last].is_tombstone() || next.is_some_and(|next| next.main == floor)
        };
        match before.checked_sub(1) {
            Some(last) if is_hidden(last) => before,
            Some(last) => last,
            None => 0,
        }
    }

    /// How many changes may be forgotten at a time by whom has `budget` left: more than that of a
    /// long history, so that what stays does not move too often.
    pub(super) fn slice(&self, budget: usize) -> usize {
        match self {
            Self::Long(changes) if budget > 0 => budget.max(changes.list().len() / 8),
            Self::Solo { .. } | Self::Long(_) => budget,
        }
    }

    /// Forgets the oldest `count` changes, telling of each; whether nothing is left.
    ///
    /// # Panics
    /// If there are fewer.
    ///
    /// # Cost
    /// Linear in what is left, which moves down.
    pub(super) fn forget(&mut self, count: usize, told: &mut impl FnMut(Location)) -> bool {
        if count == 0 {
            return false;
        }
        let Self::Long(changes) = self else { unreachable!("a lone put is never forgotten") };
        changes.list()[..count].iter().for_each(|change| told(change.location()));
        if count == changes.list().len() {
            return true;
        }
        changes.drain(count);
        match changes.list() {
            [only] if !only.is_tombstone() => {
                let Found { created, location, version } = changes.found(0).expect("it is a put");
                *self = Self::begin(location, created, version);
            }
            _ => changes.shrink(),
        }
        false
    }

    /// Tells each change from the `skip`-th on: its location and, of a put, what it shows.
    pub(super) fn each(&self, skip: usize, mut told: impl FnMut(Location, Option<Found>)) {
        match self {
            Self::Solo { .. } => told(self.last(), self.latest()),
            Self::Long(changes) => {
                for (place, change) in changes.list().iter().enumerate().skip(skip) {
                    told(change.location(), changes.found(place));
                }
            }
        }
    }

    /// Tells the changes from `revision` on as [`Self::each`] does, until `told` breaks off.
    ///
    /// # Cost
    /// One search in the list of its changes, and what is told.
    pub(super) fn since(
        &self,
        revision: Revision,
        mut told: impl FnMut(Location, Option<Found>) -> ControlFlow<()>,
    ) {
        match self {
            Self::Solo { main, .. } if *main < revision => {}
            Self::Solo { .. } => {
                let _ = told(self.last(), self.latest());
            }
            Self::Long(changes) => {
                let list = changes.list();
                let first = list.partition_point(|change| change.main < revision);
                let _ = (first..list.len())
                    .try_for_each(|place| told(list[place].location(), changes.found(place)));
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Solo { .. } => 0,
            Self::Long(changes) => changes.0.capacity() * size_of::<Change>(),
        }
    }

    /// Checks every invariant.
    pub(super) fn check_all(&self) {
        let Self::Long(changes) = self else { return };
        let list = changes.list();
        assert!(!list.is_empty(), "a list is never empty");
        if let ([only], Some(found)) = (list, changes.found(0)) {
            let Found { created, location, version } = found;
            let own = Self::begin(location, created, version);
            assert!(matches!(own, Self::Long(_)), "a small put lies in place: {only:?}");
        }
        for pair in list.windows(2) {
            assert!(pair[0].location() < pair[1].location(), "changes stand in order");
            assert!(
                !(pair[0].is_tombstone() && pair[1].is_tombstone()),
                "no tombstone follows a tombstone"
            );
            let age = if pair[0].is_tombstone() { 0 } else { pair[0].age.saturating_add(1) };
            assert!(pair[1].age == age, "ages count up within a generation");
        }
    }
}

impl Changes {
    /// A list of one change; version 0 is a tombstone.
    fn new(location: Location, created: Revision, version: i64) -> Self {
        let age = u32::try_from(version.saturating_sub(1).max(0)).unwrap_or(u32::MAX);
        let mut list = Vec::with_capacity(1 + GROW_MIN);
        list.push(Self::stone(created, version));
        list.push(Change::new(location, version < 1, age));
        Self(list)
    }

    /// What stands before the first change.
    fn stone(created: Revision, version: i64) -> Change {
        let bytes = version.to_le_bytes();
        let [low, high] = [0, 4]
            .map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("half of a number")));
        Change { main: created, sub: low, age: high }
    }

    /// When the first change's life began, if it is a put, and which version it is.
    fn first(&self) -> (Revision, i64) {
        let Change { main, sub, age } = self.0[0];
        (main, ((u64::from(age) << 32) | u64::from(sub)).cast_signed())
    }

    fn list(&self) -> &[Change] {
        &self.0[1..]
    }

    fn last(&self) -> Change {
        *self.list().last().expect("a list is never empty")
    }

    fn push(&mut self, location: Location, tombstone: bool) {
        let last = self.last();
        assert!(!(tombstone && last.is_tombstone()), "only a live key is deleted");
        let age = if last.is_tombstone() { 0 } else { last.age.saturating_add(1) };
        if self.0.len() == self.0.capacity() {
            // A quarter, where `Vec` would double: histories are many and mostly short.
            self.0.reserve_exact((self.0.len() / 4).max(GROW_MIN));
        }
        self.0.push(Change::new(location, tombstone, age));
    }

    /// Takes out the oldest `count`, which are not all.
    fn drain(&mut self, count: usize) {
        let stone = Self::stone(self.created_at(count), self.version_at(count));
        self.0.drain(..count);
        self.0[0] = stone;
    }

    /// Gives back room if there is much of it.
    fn shrink(&mut self) {
        if self.0.capacity() > 2 * self.0.len() + GROW_MIN {
            self.0.shrink_to_fit();
        }
    }

    /// Where the generation of the change at `place` begins; none if it is the oldest one, whose
    /// beginning may be forgotten.
    fn start_of(&self, place: usize) -> Option<usize> {
        let age = usize::try_from(self.list()[place].age).expect("usize has 64 bits");
        place.checked_sub(age).filter(|start| *start > 0)
    }

    fn created_at(&self, place: usize) -> Revision {
        self.start_of(place).map_or(self.first().0, |start| self.list()[start].main)
    }

    fn version_at(&self, place: usize) -> i64 {
        let (first, start) = self.start_of(place).map_or((self.first().1, 0), |start| (1, start));
        first.saturating_add(i64::try_from(place - start).expect("a list fits in memory"))
    }

    fn found(&self, place: usize) -> Option<Found> {
        let change = self.list()[place];
        (!change.is_tombstone()).then(|| Found {
            created: self.created_at(place),
            location: change.location(),
            version: self.version_at(place),
        })
    }
}

const _: () = assert!(usize::BITS == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64, sub: u32) -> Location {
        Location { main: Revision(main), sub }
    }

    /// Puts at 2 and 4, tombstone at 5, puts at 7, 8 and (twice) 9.
    fn two_lives() -> History {
        let mut history = History::new(at(2, 0));
        history.put(at(4, 3));
        history.bury(at(5, 0));
        for location in [at(7, 0), at(8, 0), at(9, 0), at(9, 4)] {
            history.put(location);
        }
        history.check_all();
        history
    }

    fn seen(history: &History, revision: i64) -> Option<(i64, i64, i64)> {
        history
            .at(Revision(revision))
            .map(|found| (found.created.0, found.location.main.0, found.version))
    }

    #[test]
    fn each_revision_sees_the_last_change_up_to_it() {
        let history = two_lives();
        let views: Vec<_> = (1..=10).map(|revision| seen(&history, revision)).collect();
        assert_eq!(
            views,
            [
                None,
                Some((2, 2, 1)),
                Some((2, 2, 1)),
                Some((2, 4, 2)),
                None,
                None,
                Some((7, 7, 1)),
                Some((7, 8, 2)),
                Some((7, 9, 4)),
                Some((7, 9, 4)),
            ]
        );
        assert_eq!(history.latest().expect("it is live").location, at(9, 4));
    }

    #[test]
    fn forgetting_keeps_creation_and_version() {
        for floor in 1..=12 {
            let mut history = two_lives();
            let before: Vec<_> = (floor..=12).map(|revision| seen(&history, revision)).collect();
            let garbage = history.forgettable(Revision(floor));
            assert_eq!(garbage > 0, history.garbage_from() <= Revision(floor), "floor {floor}");
            let mut gone = Vec::new();
            assert!(!history.forget(garbage, &mut |location| gone.push(location)));
            history.check_all();
            assert!(gone.is_sorted());
            let after: Vec<_> = (floor..=12).map(|revision| seen(&history, revision)).collect();
            assert_eq!(before, after, "floor {floor}");
            assert_eq!(history.forgettable(Revision(floor)), 0);
        }
    }

    #[test]
    fn a_history_goes_on_after_its_beginning_is_forgotten() {
        let mut history = two_lives();
        let garbage = history.forgettable(Revision(10));
        history.forget(garbage, &mut |_| ());
        assert!(matches!(history, History::Solo { age: 3, back: 2, .. }));
        history.put(at(11, 0));
        assert_eq!(seen(&history, 10), Some((7, 9, 4)));
        assert_eq!(seen(&history, 11), Some((7, 11, 5)));
        history.bury(at(12, 0));
        history.put(at(13, 0));
        assert_eq!(seen(&history, 13), Some((13, 13, 1)));
        history.check_all();
    }

    #[test]
    fn a_tombstone_at_the_floor_stays_and_below_it_goes() {
        let mut history = History::new(at(2, 0));
        history.bury(at(3, 0));
        assert_eq!(history.forgettable(Revision(2)), 0);
        assert_eq!(history.forgettable(Revision(3)), 1);
        assert_eq!(history.forgettable(Revision(4)), 2);
        assert!(!history.forget(1, &mut |_| ()));
        assert_eq!(history.garbage_from(), Revision(4));
        let mut gone = Vec::new();
        assert!(history.forget(1, &mut |location| gone.push(location)));
        assert_eq!(gone, [at(3, 0)], "a tombstone is told of too");
    }

    #[test]
    fn all_changes_at_the_floor_stay() {
        let mut history = History::new(at(2, 0));
        history.bury(at(3, 0));
        history.put(at(3, 1));
        history.put(at(5, 0));
        assert_eq!(history.forgettable(Revision(3)), 1);
        history.forget(1, &mut |_| ());
        assert_eq!((history.forgettable(Revision(3)), history.garbage_from()), (0, Revision(4)));
        assert_eq!(history.forgettable(Revision(4)), 1);
        assert_eq!(history.forgettable(Revision(5)), 2);
        history.forget(1, &mut |_| ());
        assert_eq!(seen(&history, 4), Some((3, 3, 1)));
    }

    #[test]
    fn changes_are_told_from_any_revision_on() {
        let mut solo = History::new(at(4, 1));
        for history in [&two_lives(), &solo] {
            for revision in 0..=12 {
                let (mut due, mut told) = (Vec::new(), Vec::new());
                history.each(0, |location, found| due.push((location, found)));
                due.retain(|(location, _)| location.main >= Revision(revision));
                history.since(Revision(revision), |location, found| {
                    told.push((location, found));
                    ControlFlow::Continue(())
                });
                assert_eq!(told, due, "{revision}");
                let mut count = 0;
                history.since(Revision(revision), |_, _| {
                    count += 1;
                    ControlFlow::Break(())
                });
                assert_eq!(count, due.len().min(1));
            }
        }
        solo.bury(at(5, 0));
        solo.since(Revision(5), |location, found| {
            assert_eq!((location, found), (at(5, 0), None));
            ControlFlow::Continue(())
        });
    }

    #[test]
    fn a_history_longer_than_its_ages_count_keeps_its_version() {
        let version = i64::from(u32::MAX) + 7;
        let (created, main) = (Revision(2), Revision(version + 10));
        let mut history = History::begin(Location { main, sub: 0 }, created, version);
        history.put(at(version + 11, 0));
        history.put(at(version + 12, 0));
        let found = history.latest().expect("it is live");
        assert_eq!((found.created, found.version), (created, version + 2));
        history.check_all();
    }

    #[test]
    fn a_put_whose_numbers_are_large_is_kept_in_a_list() {
        let large = [(1 << 33, 2, 1, 0), (9, 2, 1 << 17, 0), (9, 2, 2, 1 << 17)];
        for (main, created, version, sub) in large {
            let mut history = History::begin(at(main, sub), Revision(created), version);
            history.check_all();
            assert!(matches!(history, History::Long(_)));
            assert_eq!(seen(&history, main), Some((created, main, version)));
            assert_eq!((history.last(), seen(&history, main - 1)), (at(main, sub), None));
            assert_eq!((history.forgettable(NEVER), history.garbage_from()), (0, NEVER));
            history.put(at(main + 1, 0));
            assert_eq!(seen(&history, NEVER.0), Some((created, main + 1, version + 1)));
            assert!(!history.forget(1, &mut |_| ()));
            history.check_all();
            assert_eq!(seen(&history, NEVER.0), Some((created, main + 1, version + 1)));
        }
    }

    /// What the changes that [`two_lives`] leaves look like in a file: location, creation, version.
    fn filed(history: &History) -> Vec<(Location, Revision, i64)> {
        let mut filed = Vec::new();
        history.each(0, |location, found| {
            let (created, version) = found.map_or((0, 0), |found| (found.created.0, found.version));
            filed.push((location, Revision(created), version));
        });
        filed
    }

    #[test]
    fn whatever_dead_changes_are_missing_the_floor_and_above_read_the_same() {
        let whole = two_lives();
        let filed = filed(&whole);
        for floor in 0..=12 {
            let dead = whole.forgettable(Revision(floor));
            // A dead tombstone goes only after every put before it has.
            let kept = |left: u32, place: usize| {
                let (is_left, is_tombstone) = (left & (1 << place) != 0, filed[place].2 == 0);
                let hides = (0..place).any(|earlier| left & (1 << earlier) != 0);
                place >= dead || is_left || (is_tombstone && hides)
            };
            for left in 0..1_u32 << dead {
                let present: Vec<_> = (0..filed.len()).filter(|at| kept(left, *at)).collect();
                let Some((first, rest)) = present.split_first() else { continue };
                let (location, created, version) = filed[*first];
                let mut history = History::begin(location, created, version);
                let mut gone = Vec::new();
                for place in rest {
                    let (location, created, version) = filed[*place];
                    history.restore(location, created, version, |location| gone.push(location));
                }
                history.check_all();
                let garbage = history.forgettable(Revision(floor));
                for revision in floor..=12 {
                    assert_eq!(seen(&history, revision), seen(&whole, revision), "{present:?}");
                }
                let is_gone = history.forget(garbage, &mut |location| gone.push(location));
                let told = filed.iter().zip(0..).filter(|(_, place)| present.contains(place));
                let told = told.map(|(change, _)| change.0).filter(|at| *at < filed[dead].0);
                assert!(gone.into_iter().eq(told), "each that is dead is told of once");
                assert_eq!(is_gone, dead == filed.len());
            }
        }
    }

    #[test]
    fn a_history_knows_what_it_has_not_forgotten() {
        let mut history = two_lives();
        history.forget(3, &mut |_| ());
        assert!([at(7, 0), at(8, 0), at(9, 4)].iter().all(|at| history.knows(*at)));
        assert!([at(4, 3), at(5, 0), at(7, 1), at(10, 0)].iter().all(|at| !history.knows(*at)));
        let history = History::new(at(2, 1));
        assert!(history.knows(at(2, 1)) && !history.knows(at(2, 0)));
    }
}
