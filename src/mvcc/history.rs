//! One key's changes: its generations, each a run of puts closed by a tombstone.
//!
//! Most keys have one change that matters, so a history of one put lies in place and allocates
//! nothing. Longer ones are a list of changes, oldest first, across all generations. A generation
//! is not a thing of its own: each change knows how many came before it in its life, which finds
//! the change that began it. Only the oldest generation may have lost its beginning to compaction;
//! what that was is kept beside the list.

use crate::types::Location;
use crate::types::Revision;

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

impl Change {
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
/// Changes stand in the order of their locations, and a tombstone never follows a tombstone.
#[derive(Debug)]
pub(super) enum History {
    /// One put, and nothing else.
    Solo {
        /// The revision that began the key's life.
        created: Revision,
        /// The put.
        main: Revision,
        /// Its version.
        version: i64,
        /// Its place in its revision.
        sub: u32,
    },
    /// Anything else.
    Long(Changes),
}

/// A list of changes, oldest first.
///
/// # Shape
/// Never empty. The oldest generation's first remembered change has version `version`, and its life
/// began at `created`; for a later generation both follow from the list.
#[derive(Debug)]
pub(super) struct Changes {
    list: Vec<Change>,
    created: Revision,
    version: i64,
}

const _: () = assert!(size_of::<Change>() == 16);
const _: () = assert!(size_of::<History>() <= 40, "a leaf holds these in place");

impl History {
    /// The history of a key that was put for the first time.
    pub(super) fn new(location: Location) -> Self {
        let Location { main, sub } = location;
        Self::Solo { created: main, main, version: 1, sub }
    }

    /// The key at the present: none if it is deleted.
    pub(super) fn latest(&self) -> Option<Found> {
        match self {
            Self::Solo { .. } => self.at(NEVER),
            Self::Long(changes) => changes.found(changes.list.len() - 1),
        }
    }

    /// The key as it was at `revision`: none if it was not there then.
    ///
    /// # Cost
    /// One search in the list of its changes.
    pub(super) fn at(&self, revision: Revision) -> Option<Found> {
        match *self {
            Self::Solo { created, main, version, sub } => (main <= revision).then_some(Found {
                created,
                location: Location { main, sub },
                version,
            }),
            Self::Long(ref changes) => {
                let seen = changes.list.partition_point(|change| change.main <= revision);
                changes.found(seen.checked_sub(1)?)
            }
        }
    }

    /// The last change, be it a tombstone.
    pub(super) fn last(&self) -> Location {
        match *self {
            Self::Solo { main, sub, .. } => Location { main, sub },
            Self::Long(ref changes) => {
                changes.list.last().expect("a list is never empty").location()
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
        assert!(location.sub < TOMBSTONE, "a revision has fewer changes");
        let changes = match *self {
            Self::Solo { created, main, version, sub } => {
                let mut list = Vec::with_capacity(GROW_MIN);
                let age = u32::try_from(version - 1).unwrap_or(u32::MAX);
                list.push(Change { main, sub, age });
                *self = Self::Long(Changes { list, created, version });
                let Self::Long(changes) = self else { unreachable!("it was just made long") };
                changes
            }
            Self::Long(ref mut changes) => changes,
        };
        changes.push(location, tombstone);
    }

    /// The lowest floor at which something here may be forgotten.
    pub(super) fn garbage_from(&self) -> Revision {
        match self {
            Self::Solo { .. } => NEVER,
            Self::Long(changes) => match changes.list[..] {
                [first, ..] if first.is_tombstone() => Revision(first.main.0 + 1),
                [_, second, ..] => second.main,
                _ => NEVER,
            },
        }
    }

    /// How many of the oldest changes nobody can see at `floor` or above.
    pub(super) fn forgettable(&self, floor: Revision) -> usize {
        let Self::Long(changes) = self else { return 0 };
        let reached = changes.list.partition_point(|change| change.main <= floor);
        let Some(last) = reached.checked_sub(1) else { return 0 };
        let change = changes.list[last];
        if change.is_tombstone() && change.main < floor { reached } else { last }
    }

    /// How many changes may be forgotten at a time by whom has `budget` left: more than that of a
    /// long history, so that what stays does not move too often.
    pub(super) fn slice(&self, budget: usize) -> usize {
        match self {
            Self::Long(changes) if budget > 0 => budget.max(changes.list.len() / 8),
            Self::Solo { .. } | Self::Long(_) => budget,
        }
    }

    /// Forgets the oldest `count` changes, telling of each put; whether nothing is left.
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
        for change in &changes.list[..count] {
            if !change.is_tombstone() {
                told(change.location());
            }
        }
        if count == changes.list.len() {
            return true;
        }
        let created = changes.created_at(count);
        let version = changes.version_at(count);
        changes.list.drain(..count);
        (changes.created, changes.version) = (created, version);
        match changes.list[..] {
            [only] if !only.is_tombstone() => {
                let Location { main, sub } = only.location();
                *self = Self::Solo { created, main, version, sub };
            }
            _ if changes.list.capacity() > 2 * changes.list.len() + GROW_MIN => {
                changes.list.shrink_to_fit();
            }
            _ => {}
        }
        false
    }

    /// Tells each change from the `skip`-th on: its location and, of a put, what it shows.
    pub(super) fn each(&self, skip: usize, mut told: impl FnMut(Location, Option<Found>)) {
        match self {
            Self::Solo { .. } => told(self.last(), self.latest()),
            Self::Long(changes) => {
                for (place, change) in changes.list.iter().enumerate().skip(skip) {
                    told(change.location(), changes.found(place));
                }
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Solo { .. } => 0,
            Self::Long(changes) => changes.list.capacity() * size_of::<Change>(),
        }
    }

    /// Checks every invariant.
    pub(super) fn check_all(&self) {
        let Self::Long(changes) = self else { return };
        let list = &changes.list;
        assert!(!list.is_empty(), "a list is never empty");
        assert!(list.len() > 1 || list[0].is_tombstone(), "one put lies in place");
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
    fn push(&mut self, location: Location, tombstone: bool) {
        let last = *self.list.last().expect("a list is never empty");
        assert!(!(tombstone && last.is_tombstone()), "only a live key is deleted");
        let age = if last.is_tombstone() { 0 } else { last.age.saturating_add(1) };
        let grows = self.list.len() == self.list.capacity();
        if grows {
            // A quarter, where `Vec` would double: histories are many and mostly short.
            self.list.reserve_exact((self.list.len() / 4).max(GROW_MIN));
        }
        let sub = if tombstone { location.sub | TOMBSTONE } else { location.sub };
        self.list.push(Change { main: location.main, sub, age });
    }

    /// Where the generation of the change at `place` begins; none if it is the oldest one, whose
    /// beginning may be forgotten.
    fn start_of(&self, place: usize) -> Option<usize> {
        let age = usize::try_from(self.list[place].age).expect("usize has 64 bits");
        place.checked_sub(age).filter(|start| *start > 0)
    }

    fn created_at(&self, place: usize) -> Revision {
        self.start_of(place).map_or(self.created, |start| self.list[start].main)
    }

    fn version_at(&self, place: usize) -> i64 {
        let (first, start) = self.start_of(place).map_or((self.version, 0), |start| (1, start));
        first + i64::try_from(place - start).expect("a list fits in memory")
    }

    fn found(&self, place: usize) -> Option<Found> {
        let change = self.list[place];
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
        let garbage = history.forgettable(Revision(9));
        history.forget(garbage, &mut |_| ());
        assert!(matches!(history, History::Solo { version: 4, .. }));
        history.put(at(11, 0));
        assert_eq!(seen(&history, 9), Some((7, 9, 4)));
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
        assert!(history.forget(1, &mut |_| panic!("a tombstone has no record")));
    }

    #[test]
    fn a_history_longer_than_its_ages_count_keeps_its_version() {
        let version = i64::from(u32::MAX) + 7;
        let (created, main) = (Revision(2), Revision(version + 10));
        let mut history = History::Solo { created, main, version, sub: 0 };
        history.put(at(version + 11, 0));
        history.put(at(version + 12, 0));
        let found = history.latest().expect("it is live");
        assert_eq!((found.created, found.version), (created, version + 2));
        history.check_all();
    }
}
