//! Whether calls that overlapped can have happened one after the other, each at once, somewhere
//! between its beginning and its end, on one key that holds a value or none.
//!
//! Each key is judged alone: an order of all calls exists if one exists for the calls of each key.
//! Every write has a value of its own, so what a call has seen names the write before it. A call
//! whose outcome is not known may have happened at any time after its beginning, or never.
//!
//! The search goes forward in time. Next may be any call that began before the first end of a call
//! that is not placed yet; where none fits, the last choice is taken back. What was tried before
//! from the same place is not tried again. Calls of unknown outcome are tried last, and only those
//! whose value somebody has seen: the others may well come after all that is known.

use std::collections::BTreeSet;
use std::fmt;

/// States that are looked at for one key; more are no proof of anything.
const STATES_MAX: usize = 5_000_000;

/// What a key holds: the number of a value, or nothing.
pub(crate) type Held = Option<u64>;

/// What a call does, and what it has seen if its outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Reads what is held.
    Read { seen: Held },
    /// Puts a value, and tells what was held before.
    Put { value: u64, before: Held },
    /// Deletes, and tells what was held before.
    Delete { before: Held },
    /// Puts a value if what is held is as expected; what was held before, if it is not.
    Swap { expected: Held, value: u64, otherwise: Option<Held> },
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// What it does; what it has seen means nothing if the outcome is unknown.
    pub(crate) act: Act,
    /// When it began, on a clock that all calls share and that never shows the same twice.
    pub(crate) began: u64,
    /// When it ended; none if its outcome is not known.
    pub(crate) ended: Option<u64>,
}

/// Calls that cannot have happened one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Contradiction {
    /// So many calls with known outcomes found a place.
    placed: usize,
    /// What was held then.
    held: Held,
    /// Who could have been next.
    next: Vec<Call>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "after {} calls, with {:?} held, none of these is next:",
            self.placed, self.held
        )?;
        self.next.iter().try_for_each(|call| writeln!(f, "  {call:?}"))
    }
}

impl Act {
    /// What is held after it, if it can happen with this held.
    fn from(self, held: Held, is_known: bool) -> Option<Held> {
        let fits = |seen: Held| !is_known || seen == held;
        match self {
            Self::Read { seen } => fits(seen).then_some(held),
            Self::Put { value, before } => fits(before).then_some(Some(value)),
            Self::Delete { before } => fits(before).then_some(None),
            Self::Swap { expected, value, otherwise } => {
                let after = if held == expected { Some(value) } else { held };
                match otherwise {
                    Some(seen) if is_known => (seen == held && seen != expected).then_some(after),
                    None if is_known => (held == expected).then_some(after),
                    Some(_) | None => Some(after),
                }
            }
        }
    }

    /// What it has seen, if its outcome is known.
    fn saw(self) -> Held {
        match self {
            Self::Read { seen } => seen,
            Self::Put { before, .. } | Self::Delete { before } => before,
            Self::Swap { expected, otherwise, .. } => otherwise.unwrap_or(expected),
        }
    }
}

/// Where a search is: which calls are placed, and what is held. Of the calls with known outcomes
/// all before `first` are placed, and `beyond` it these.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    first: usize,
    beyond: Vec<usize>,
    unknown: Vec<usize>,
    held: Held,
}

/// Which call is placed next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Known(usize),
    Unknown(usize),
}

/// The calls on one key.
struct Search {
    known: Vec<Call>,
    unknown: Vec<Call>,
}

impl Search {
    fn new(calls: &[Call]) -> Self {
        let mut seen: BTreeSet<_> = calls
            .iter()
            .filter(|call| call.ended.is_some())
            .filter_map(|call| call.act.saw())
            .collect();
        seen.extend(calls.iter().filter_map(|call| match call.act {
            Act::Swap { expected, .. } => expected,
            Act::Read { .. } | Act::Put { .. } | Act::Delete { .. } => None,
        }));
        let (mut known, mut unknown): (Vec<_>, Vec<_>) =
            calls.iter().copied().partition(|call| call.ended.is_some());
        // What nobody saw may have come last; so may a read, whatever it saw.
        unknown.retain(|call| match call.act {
            Act::Read { .. } => false,
            Act::Delete { .. } => true,
            Act::Put { value, .. } | Act::Swap { value, .. } => seen.contains(&value),
        });
        known.sort_by_key(|call| call.began);
        unknown.sort_by_key(|call| call.began);
        Self { known, unknown }
    }

    /// Calls that may be next, and the first end among those that have not been placed.
    fn open(&self, at: &Position) -> (Vec<usize>, u64) {
        let (mut open, mut first_end) = (Vec::new(), u64::MAX);
        for (place, call) in self.known.iter().enumerate().skip(at.first) {
            if call.began > first_end {
                break;
            }
            if at.beyond.binary_search(&place).is_err() {
                open.push(place);
                first_end = first_end.min(call.ended.expect("its outcome is known"));
            }
        }
        (open, first_end)
    }

    /// The choices that fit, the best last.
    fn choices(&self, at: &Position) -> Vec<Choice> {
        let (open, first_end) = self.open(at);
        let changes = |call: &Call| call.act.from(at.held, false) != Some(at.held);
        let unknown =
            self.unknown.iter().enumerate().take_while(|(_, call)| call.began < first_end);
        let unknown = unknown
            .filter(|(place, call)| at.unknown.binary_search(place).is_err() && changes(call));
        let known = open.into_iter().rev();
        let known = known.filter(|place| self.known[*place].act.from(at.held, true).is_some());
        unknown.map(|(place, _)| Choice::Unknown(place)).chain(known.map(Choice::Known)).collect()
    }

    fn follow(&self, at: &Position, choice: Choice) -> Position {
        let mut next = at.clone();
        match choice {
            Choice::Known(place) => {
                next.held = self.known[place].act.from(at.held, true).expect("it fits");
                let slot = next.beyond.binary_search(&place).expect_err("it is not placed");
                next.beyond.insert(slot, place);
                while next.beyond.first() == Some(&next.first) {
                    next.beyond.remove(0);
                    next.first += 1;
                }
            }
            Choice::Unknown(place) => {
                next.held = self.unknown[place].act.from(at.held, false).expect("it always fits");
                let slot = next.unknown.binary_search(&place).expect_err("it is not placed");
                next.unknown.insert(slot, place);
            }
        }
        next
    }
}

/// Sees that the calls on one key, which held nothing at first, can have happened one after the
/// other.
///
/// # Errors
///
/// Where that fails.
///
/// # Panics
///
/// If there is too much to be tried.
pub(crate) fn check(calls: &[Call]) -> Result<(), Contradiction> {
    let search = Search::new(calls);
    let start = Position::default();
    let mut best = start.clone();
    let mut tried = BTreeSet::from([start.clone()]);
    let mut stack = vec![(search.choices(&start), start)];
    while let Some((choices, at)) = stack.last_mut() {
        if at.first == search.known.len() {
            return Ok(());
        }
        let Some(choice) = choices.pop() else {
            stack.pop();
            continue;
        };
        let next = search.follow(at, choice);
        if !tried.insert(next.clone()) {
            continue;
        }
        assert!(tried.len() < STATES_MAX, "{STATES_MAX} states decide nothing");
        if next.first + next.beyond.len() > best.first + best.beyond.len() {
            best = next.clone();
        }
        stack.push((search.choices(&next), next));
    }
    let next = search.open(&best).0.into_iter().map(|place| search.known[place]).collect();
    Err(Contradiction { placed: best.first + best.beyond.len(), held: best.held, next })
}
