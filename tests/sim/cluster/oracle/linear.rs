//! Whether the history of each key is linearizable, by search, from nothing but what clients asked
//! and were told: no revision and no node's word is looked at.
//!
//! A history is linearizable if and only if that of each key is (Herlihy and Wing's locality), and
//! what calls of several keys did to one of them is a call of that key.
//!
//! # Source
//! The search is Wing and Gong's with Lowe's memory: a call that no other had ended before may be
//! the next; a set of calls done that led to the same value before leads nowhere new.

use super::order::Call;
use crate::cluster::call::{Op, Told};
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, BTreeSet};

/// Steps of a search, beyond which it is given up.
const STEPS_MAX: usize = 2_000_000;

/// A value; none where the key is not there.
type Value = Option<Vec<u8>>;

/// What a call did to one key.
#[derive(Clone, Debug)]
enum Act {
    /// It put this; what was there before, if that was told.
    Put(Vec<u8>, Option<Value>),
    /// It deleted; the same.
    Delete(Option<Value>),
    /// It saw this.
    Saw(Value),
    /// It put the second if the first was there; whether it was, if that was told.
    Swap(Value, Vec<u8>, Option<Result<(), Value>>),
}

/// One call of a key.
#[derive(Clone, Debug)]
struct Step {
    asked: u64,
    /// None if nobody was told: it may take place at any later time, or never.
    answered: Option<u64>,
    act: Act,
}

impl Step {
    /// What the key holds after it; none if it can not be next.
    fn after(&self, before: &Value) -> Option<Value> {
        let fits = |told: &Option<Value>| told.as_ref().is_none_or(|told| told == before);
        match &self.act {
            Act::Put(value, told) => fits(told).then(|| Some(value.clone())),
            // Whose end nobody knows need not be where it does nothing.
            Act::Delete(None) if before.is_none() => None,
            Act::Delete(told) => fits(told).then_some(None),
            Act::Saw(value) => (value == before).then(|| before.clone()),
            Act::Swap(expect, value, told) => match told {
                Some(Ok(())) | None => (expect == before).then(|| Some(value.clone())),
                Some(Err(found)) => (found == before && expect != before).then(|| before.clone()),
            },
        }
    }

    /// Whether it leaves what the key holds as it is, and may be next.
    fn does_nothing(&self, before: &Value) -> bool {
        let is_idle = match &self.act {
            Act::Put(..) | Act::Swap(_, _, None | Some(Ok(()))) => false,
            Act::Saw(_) | Act::Swap(_, _, Some(Err(_))) => true,
            Act::Delete(_) => before.is_none(),
        };
        is_idle && self.after(before).is_some()
    }

    /// Whether it is one of those deletions of which nobody knows the end: all are alike, but for
    /// when they may take place.
    fn is_open_deletion(&self) -> bool {
        self.answered.is_none() && matches!(self.act, Act::Delete(None))
    }

    /// The value that it may write, and the values that it sees if it takes place.
    fn values(&self) -> (Option<&Vec<u8>>, Vec<&Vec<u8>>) {
        match &self.act {
            Act::Put(value, told) => {
                (Some(value), told.iter().filter_map(Option::as_ref).collect())
            }
            Act::Delete(told) => (None, told.iter().filter_map(Option::as_ref).collect()),
            Act::Saw(value) => (None, value.iter().collect()),
            Act::Swap(expect, value, told) => {
                let seen = match told {
                    Some(Err(found)) => found.iter().collect(),
                    Some(Ok(())) | None => expect.iter().collect(),
                };
                (Some(value), seen)
            }
        }
    }
}

/// Looks at all calls of the keys that no lease has.
///
/// # Errors
/// A key whose history no order explains.
pub(in super::super) fn look(calls: &[Call], keys: &[Vec<u8>]) -> Result<usize, String> {
    let mut count = 0;
    let mut histories: BTreeMap<&[u8], Vec<Step>> = BTreeMap::new();
    for call in calls {
        for (key, act) in acts(call, keys) {
            count += 1;
            let answered = call.answered.filter(|_| !matches!(call.told, Some(Told::Unknown)));
            histories.entry(key).or_default().push(Step { asked: call.asked, answered, act });
        }
    }
    for (key, steps) in histories {
        let steps = needed(steps);
        if !is_linearizable(&steps)? {
            let key = String::from_utf8_lossy(key);
            return Err(format!("the history of {key} is not linearizable: {steps:#?}"));
        }
    }
    Ok(count)
}

/// What a call did to each key.
fn acts<'a>(call: &'a Call, keys: &'a [Vec<u8>]) -> Vec<(&'a [u8], Act)> {
    let value = |pair: &Option<KeyValue>| pair.as_ref().map(|pair| pair.value.to_vec());
    let is_known = |key: &[u8]| keys.iter().any(|known| known == key);
    let is_open = !matches!(call.told, Some(Told::Refused(_)));
    match (&call.op, &call.told) {
        _ if !is_open => Vec::new(),
        (Op::Put { key, .. } | Op::Delete { key } | Op::Get { key, .. }, _) if !is_known(key) => {
            Vec::new()
        }
        (Op::Put { key, value: new, .. }, Some(Told::Put { prev, .. })) => {
            vec![(key, Act::Put(new.clone(), Some(value(prev))))]
        }
        (Op::Put { key, value, .. }, _) => vec![(key, Act::Put(value.clone(), None))],
        (Op::Delete { key }, Some(Told::Delete { prev, .. })) => {
            vec![(key, Act::Delete(Some(value(prev))))]
        }
        (Op::Delete { key }, _) => vec![(key, Act::Delete(None))],
        (Op::Get { key, serializable: false }, Some(Told::Rows { rows, .. })) => {
            vec![(key, Act::Saw(value(&rows.first().cloned())))]
        }
        (Op::All { revision: 0, serializable: false }, Some(Told::Rows { rows, .. })) => {
            let saw = |key: &[u8]| value(&rows.iter().find(|row| row.key == key).cloned());
            keys.iter().map(|key| (&key[..], Act::Saw(saw(key)))).collect()
        }
        (Op::Swap { key, expect, value: new }, told) => {
            let told = match told {
                Some(Told::Swap { succeeded: true, .. }) => Some(Ok(())),
                Some(Told::Swap { found, .. }) => Some(Err(value(found))),
                _ => None,
            };
            vec![(key, Act::Swap(expect.clone(), new.clone(), told))]
        }
        (Op::Both { keys, values }, _) => {
            let puts = keys.iter().zip(values);
            puts.map(|(key, value)| (&key[..], Act::Put(value.clone(), None))).collect()
        }
        _ => Vec::new(),
    }
}

/// Leaves out what nobody was told of and nobody saw: as every call says what it found, it may as
/// well never have taken place. What is left saw what it needed itself, which is left too.
fn needed(mut steps: Vec<Step>) -> Vec<Step> {
    steps.sort_by_key(|step| step.asked);
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    loop {
        let is_needed = |step: &Step| {
            let written = step.values().0;
            step.answered.is_some() || written.is_none_or(|value| seen.contains(value))
        };
        let needed: Vec<Step> = steps.iter().filter(|step| is_needed(step)).cloned().collect();
        let count = seen.len();
        seen.extend(needed.iter().flat_map(|step| step.values().1.into_iter().cloned()));
        if seen.len() == count {
            return needed;
        }
    }
}

/// Whether some order explains it all.
///
/// What does nothing and may be next is: it is in nobody's way later. Of the deletions whose end
/// nobody knows the one that was asked for first is: what another could do, it could do as well.
fn is_linearizable(steps: &[Step]) -> Result<bool, String> {
    let words = steps.len().div_ceil(64);
    let mut seen: BTreeSet<(Vec<u64>, Value)> = BTreeSet::new();
    let mut stack = vec![(vec![0_u64; words], None::<Vec<u8>>)];
    let mut count = 0;
    while let Some((done, value)) = stack.pop() {
        let is_open = |at: &usize| done[at / 64] >> (at % 64) & 1 == 0;
        let open = || (0..steps.len()).filter(is_open);
        let Some(first_end) = open().filter_map(|at| steps[at].answered).min() else {
            return Ok(true);
        };
        count += 1;
        if count > STEPS_MAX {
            return Err(format!("a history of {} calls is too long to search", steps.len()));
        }
        let mut next: Vec<usize> = open().take_while(|at| steps[*at].asked < first_end).collect();
        if let Some(idle) = next.iter().find(|at| steps[**at].does_nothing(&value)) {
            next = vec![*idle];
        }
        let mut has_deletion = false;
        for at in next {
            if steps[at].is_open_deletion() && std::mem::replace(&mut has_deletion, true) {
                continue;
            }
            let Some(after) = steps[at].after(&value) else { continue };
            let mut done = done.clone();
            done[at / 64] |= 1 << (at % 64);
            if seen.insert((done.clone(), after.clone())) {
                stack.push((done, after));
            }
        }
    }
    Ok(false)
}

#[test]
fn stale_reads_lost_and_doubled_writes_are_found_and_their_like_are_not() {
    let step = |asked, answered, act| Step { asked, answered, act };
    let value = |text: &str| Some(text.as_bytes().to_vec());
    let put = |text: &str, prev| Act::Put(text.as_bytes().to_vec(), prev);
    let fine = |steps: Vec<Step>| is_linearizable(&needed(steps)) == Ok(true);
    let first = || step(1, Some(2), put("a", Some(None)));
    assert!(fine(vec![first(), step(3, Some(4), Act::Saw(value("a")))]));
    assert!(!fine(vec![first(), step(3, Some(4), Act::Saw(None))]), "a stale read");
    assert!(fine(vec![step(1, Some(5), put("a", Some(None))), step(2, Some(3), Act::Saw(None))]));
    let open = || step(3, None, put("b", None));
    let saw = |asked, text| step(asked, Some(asked + 1), Act::Saw(value(text)));
    assert!(fine(vec![first(), open(), saw(5, "a"), saw(7, "b")]), "it may come late");
    assert!(!fine(vec![first(), open(), saw(5, "b"), saw(7, "a")]), "and comes once");
    assert!(!fine(vec![first(), saw(5, "c")]), "nobody wrote it");
    let swap = |asked, told| {
        step(asked, Some(asked + 1), Act::Swap(value("a"), b"d".to_vec(), Some(told)))
    };
    assert!(fine(vec![first(), swap(3, Ok(())), saw(5, "d")]));
    assert!(!fine(vec![first(), swap(3, Ok(())), swap(5, Ok(()))]), "only one of them can win");
    let open_swap = |asked, from: &str, to: &str| {
        step(asked, None, Act::Swap(value(from), to.as_bytes().to_vec(), None))
    };
    let chain = || vec![first(), open_swap(3, "a", "b"), open_swap(4, "b", "c"), saw(9, "c")];
    assert!(fine(chain()), "what nobody saw but who was seen");
    assert!(!fine([chain(), vec![saw(11, "b")]].concat()), "and what was before is gone");
    assert!(fine(vec![
        first(),
        step(3, None, Act::Delete(None)),
        step(9, Some(10), Act::Saw(None))
    ]));
}
