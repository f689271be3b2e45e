//! The judge of histories is right: it takes what happened one after the other, refuses what cannot
//! have, and agrees with one that tries every order.

use crate::linear::{Act, Call, Held, check};
use crate::support::dice::Dice;

fn call(act: Act, began: u64, ended: u64) -> Call {
    Call { act, began, ended: Some(ended) }
}

fn lost(act: Act, began: u64) -> Call {
    Call { act, began, ended: None }
}

fn read(seen: Held) -> Act {
    Act::Read { seen }
}

fn put(value: u64, before: Held) -> Act {
    Act::Put { value, before }
}

fn swap(expected: Held, value: u64, otherwise: Option<Held>) -> Act {
    Act::Swap { expected, value, otherwise }
}

#[test]
fn what_can_have_happened_is_taken() {
    let delete = |before| Act::Delete { before };
    for history in [
        vec![],
        vec![call(put(1, None), 1, 2), call(read(Some(1)), 3, 4)],
        // Overlapping, in either order.
        vec![call(put(1, None), 1, 6), call(read(None), 2, 3), call(read(Some(1)), 4, 5)],
        // Seen although nobody knows what became of it, and long after it began.
        vec![lost(put(1, None), 1), call(read(None), 2, 3), call(read(Some(1)), 4, 5)],
        vec![lost(put(1, None), 1), call(read(None), 2, 3)],
        vec![call(put(1, None), 1, 2), lost(delete(None), 3), call(read(None), 4, 5)],
        // Two that nobody knows of, one upon the other.
        vec![
            call(put(1, None), 1, 2),
            lost(delete(None), 3),
            lost(swap(None, 2, None), 4),
            call(read(Some(1)), 5, 6),
            call(read(Some(2)), 7, 8),
        ],
        vec![call(swap(None, 1, None), 1, 4), call(swap(None, 2, Some(Some(1))), 2, 3)],
        vec![call(put(1, None), 1, 2), call(delete(Some(1)), 3, 4), call(delete(None), 5, 6)],
    ] {
        assert!(check(&history).is_ok(), "{history:?}");
    }
}

#[test]
fn what_cannot_have_happened_is_refused() {
    for history in [
        // A write that was acknowledged is lost, or comes back.
        vec![call(put(1, None), 1, 2), call(read(None), 3, 4)],
        vec![call(put(1, None), 1, 2), call(put(2, Some(1)), 3, 4), call(read(Some(1)), 5, 6)],
        // A read is older than one that ended before it began.
        vec![call(put(1, None), 1, 9), call(read(Some(1)), 2, 3), call(read(None), 4, 5)],
        // Both win.
        vec![call(swap(None, 1, None), 1, 4), call(swap(None, 2, None), 2, 3)],
        // A value that nobody put, or not yet.
        vec![call(read(Some(1)), 1, 2), lost(put(1, None), 3)],
        vec![call(read(Some(7)), 1, 2)],
        // One that nobody knows of happens once, not twice.
        vec![
            lost(put(1, None), 1),
            call(read(Some(1)), 2, 3),
            call(put(2, Some(1)), 4, 5),
            call(read(Some(1)), 6, 7),
        ],
        // It was refused because of what it wanted.
        vec![call(put(1, None), 1, 2), call(swap(Some(1), 2, Some(Some(1))), 3, 4)],
    ] {
        assert!(check(&history).is_err(), "{history:?}");
    }
}

/// Whether any order of the calls fits, by trying all.
fn fits(calls: &[Call], placed: &mut Vec<usize>, held: Held) -> bool {
    let left: Vec<_> = (0..calls.len()).filter(|it| !placed.contains(it)).collect();
    if left.iter().all(|&it| calls[it].ended.is_none()) {
        return true;
    }
    let first_end = left.iter().filter_map(|&it| calls[it].ended).min().expect("one is known");
    left.into_iter().filter(|&it| calls[it].began < first_end).any(|it| {
        let after = match (calls[it].act, calls[it].ended.is_some()) {
            (Act::Read { seen }, true) if seen != held => return false,
            (Act::Read { .. }, _) => held,
            (Act::Put { before, .. } | Act::Delete { before }, true) if before != held => {
                return false;
            }
            (Act::Put { value, .. }, _) => Some(value),
            (Act::Delete { .. }, _) => None,
            (Act::Swap { expected, otherwise: None, .. }, true) if expected != held => {
                return false;
            }
            (Act::Swap { expected, otherwise: Some(seen), .. }, true)
                if seen != held || seen == expected =>
            {
                return false;
            }
            (Act::Swap { expected, value, .. }, _) if expected == held => Some(value),
            (Act::Swap { .. }, _) => held,
        };
        placed.push(it);
        let found = fits(calls, placed, after);
        placed.pop();
        found
    })
}

/// Calls of a few clients, each happening at one moment between its beginning and its end; some
/// with an outcome that is not told.
fn happened(dice: &mut Dice, count: u64) -> Vec<Call> {
    let (mut held, mut calls, mut seen) = (None, Vec::new(), vec![None]);
    for number in 0..count {
        // Moments are far apart, ends reach over some of them.
        let moment = 1000 + 100 * number;
        let (began, ended) = (moment - dice.below(350), moment + dice.below(350));
        let before: Held = held;
        let expected = dice.pick(&seen);
        let act = match dice.below(4) {
            0 => read(before),
            1 => put(number, before),
            2 => Act::Delete { before },
            _ => swap(expected, number, (expected != before).then_some(before)),
        };
        let is_told = !dice.chance(25);
        let happens = is_told || dice.chance(60);
        held = match act {
            Act::Read { .. } => before,
            _ if !happens => before,
            Act::Put { value, .. } => Some(value),
            Act::Delete { .. } => None,
            Act::Swap { value, otherwise: None, .. } => Some(value),
            Act::Swap { .. } => before,
        };
        if is_told && matches!(act, Act::Read { .. }) {
            seen.push(before);
        }
        // No two moments are the same.
        let (began, ended) = (began * 1000 + number * 2, ended * 1000 + number * 2 + 1);
        calls.push(Call { act, began, ended: is_told.then_some(ended) });
    }
    calls
}

#[test]
fn histories_that_did_happen_are_taken() {
    let mut dice = Dice::new(1);
    for _ in 0..300 {
        let calls = happened(&mut dice, 60);
        check(&calls).unwrap_or_else(|why| panic!("{why}\n{calls:#?}"));
    }
}

#[test]
fn it_agrees_with_one_that_tries_every_order() {
    let mut dice = Dice::new(2);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut calls = happened(&mut dice, 7);
        // Another outcome than the true one, often.
        let victim = dice.index(calls.len());
        if let Act::Read { seen } = &mut calls[victim].act {
            *seen = Some(dice.below(7));
        } else if dice.chance(50) {
            let ended = calls[victim].began + 1;
            calls[victim].ended = calls[victim].ended.map(|_| ended);
        }
        let due = fits(&calls, &mut Vec::new(), None);
        assert_eq!(check(&calls).is_ok(), due, "{calls:#?}");
        *(if due { &mut taken } else { &mut refused }) += 1;
    }
    assert!(taken > 300 && refused > 300, "{taken} taken, {refused} refused");
}
