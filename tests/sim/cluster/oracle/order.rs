//! Whether each answer is true at the revision that it names, and each revision is in its place.
//!
//! Every answer names a revision, and so a place in one order of all that happened. What is asked
//! after something was known must be answered at no earlier place; a serializable read is of any
//! place in the past. What was refused never happens.

use super::truth::Truth;
use crate::cluster::call::{Op, Told};
use ringd::api::proto::mvccpb::KeyValue;

/// One call, from its question to its answer.
#[derive(Clone, Debug)]
pub(in super::super) struct Call {
    pub(in super::super) op: Op,
    /// The node that was asked.
    #[expect(dead_code, reason = "whoever sees a failure reads it")]
    pub(in super::super) node: usize,
    /// When it was asked and answered: places in the order of all events.
    pub(in super::super) asked: u64,
    pub(in super::super) answered: Option<u64>,
    /// The milliseconds at which it was asked.
    pub(in super::super) at: u64,
    /// The last revision that anybody knew of then.
    pub(in super::super) known: i64,
    /// None while it waits.
    pub(in super::super) told: Option<Told>,
}

/// The last revision that anybody was told of, and the last that was compacted as somebody knows.
#[derive(Debug, Default)]
pub(in super::super) struct Order {
    pub(in super::super) known: i64,
}

impl Order {
    /// Looks at an answer.
    ///
    /// # Errors
    /// Why it is none.
    pub(in super::super) fn look(&mut self, call: &Call, truth: &Truth) -> Result<(), String> {
        let Some(told) = &call.told else { return Ok(()) };
        let fail = |why: &str| Err(format!("{why}: {call:?}, at {}", truth.last()));
        let revision = match told {
            Told::Put { revision, .. }
            | Told::Delete { revision, .. }
            | Told::Rows { revision, .. }
            | Told::Swap { revision, .. }
            | Told::Both { revision }
            | Told::Done { revision } => *revision,
            Told::Hash { .. } | Told::Members(_) | Told::Added(..) | Told::Unknown => return Ok(()),
            Told::Refused(_) => return refused(call, truth),
        };
        if revision > truth.last() {
            return fail("it is of a revision that nobody has applied");
        }
        if call.op.is_linearizable() && revision < call.known {
            return fail("it is of an earlier time than its question");
        }
        self.known = self.known.max(revision);
        if is_true(&call.op, told, revision, truth) { Ok(()) } else { fail("it is not true") }
    }
}

/// What was refused has not happened.
fn refused(call: &Call, truth: &Truth) -> Result<(), String> {
    let values: Vec<&Vec<u8>> = match &call.op {
        Op::Put { value, .. } | Op::Swap { value, .. } => vec![value],
        Op::Both { values, .. } => values.iter().collect(),
        Op::Delete { .. }
        | Op::Get { .. }
        | Op::All { .. }
        | Op::Compact { .. }
        | Op::Hash
        | Op::Defragment
        | Op::Grant { .. }
        | Op::Revoke { .. }
        | Op::Member(_) => Vec::new(),
    };
    match values.iter().find_map(|value| truth.written(value)) {
        Some(revision) => Err(format!("{call:?} is refused, and took place at {revision}")),
        None => Ok(()),
    }
}

/// Looks at all refused calls once more, when everything has come to rest.
pub(in super::super) fn look_again(calls: &[Call], truth: &Truth) -> Result<(), String> {
    let refusals = calls.iter().filter(|it| matches!(it.told, Some(Told::Refused(_))));
    refusals.into_iter().try_for_each(|call| refused(call, truth))
}

fn is_true(op: &Op, told: &Told, revision: i64, truth: &Truth) -> bool {
    let before = |key: &[u8]| truth.state(key, revision - 1);
    let wrote = |key: &[u8], value: &[u8]| {
        truth.at(revision).iter().any(|it| it.key == key && it.pair.value == value)
    };
    match (op, told) {
        (Op::Put { key, value, .. }, Told::Put { prev, .. }) => {
            wrote(key, value) && before(key) == prev.as_ref()
        }
        (Op::Delete { key }, Told::Delete { deleted: 0, prev, .. }) => {
            prev.is_none() && truth.state(key, revision).is_none()
        }
        (Op::Delete { key }, Told::Delete { prev, .. }) => {
            let is_there = |it: &super::truth::Change| it.key == *key && it.is_deletion();
            truth.at(revision).iter().any(is_there) && before(key) == prev.as_ref()
        }
        (Op::Get { key, .. }, Told::Rows { rows, .. }) => {
            truth.state(key, revision) == rows.first() && rows.len() < 2
        }
        (Op::All { revision: at, .. }, Told::Rows { rows, .. }) => {
            let at = if *at == 0 { revision } else { *at };
            truth.rows(at) == *rows
        }
        (Op::Swap { key, expect, value }, Told::Swap { succeeded: true, .. }) => {
            wrote(key, value) && is(before(key), expect.as_deref())
        }
        (Op::Swap { key, expect, .. }, Told::Swap { found, .. }) => {
            let now = truth.state(key, revision);
            now == found.as_ref() && !is(now, expect.as_deref())
        }
        (Op::Both { keys, values }, Told::Both { .. }) => {
            keys.iter().zip(values).all(|(key, value)| wrote(key, value))
        }
        (_, Told::Done { .. }) => true,
        _ => false,
    }
}

fn is(pair: Option<&KeyValue>, value: Option<&[u8]>) -> bool {
    pair.map(|pair| &pair.value[..]) == value
}
