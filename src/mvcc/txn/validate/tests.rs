use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::mvcc::txn::Operand;
use crate::mvcc::txn::sample::Flat;
use crate::mvcc::txn::sample::SampleCompare;
use crate::mvcc::txn::sample::SampleOp;
use crate::mvcc::txn::sample::Tree;
use crate::mvcc::txn::sample::a_tree;
use crate::mvcc::txn::sample::all;
use crate::mvcc::txn::sample::delete;
use crate::mvcc::txn::sample::put;

/// Every key that a tree of samples can name, and some between.
const KEYS: [&str; 8] = ["a", "aa", "b", "bb", "c", "d", "e", "y"];

fn check(tree: &Tree) -> Result<(), Refusal> {
    validate(&Flat::of(tree), 128)
}

/// The keys that a deletion covers, as etcd's check takes them.
fn covered(key: &str, range_end: &str) -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().filter(move |other| {
        if range_end.is_empty() { *other == key } else { key <= *other && *other < range_end }
    })
}

/// What may be put and deleted, found by looking at every pair.
type Sets = (BTreeSet<String>, BTreeSet<&'static str>);

fn sets(ops: &[SampleOp]) -> Option<Sets> {
    let (mut puts, mut deletes): Sets = Default::default();
    for op in ops {
        if let SampleOp::DeleteRange { key, range_end, .. } = op {
            deletes.extend(covered(key, range_end));
        }
    }
    for op in ops {
        if let SampleOp::Txn(inner) = op {
            let (then, other) = (sets(&inner.success)?, sets(&inner.failure)?);
            let both: BTreeSet<_> = then.0.union(&other.0).cloned().collect();
            if both.iter().any(|key| puts.contains(key) || deletes.contains(key.as_str())) {
                return None;
            }
            puts.extend(both);
            deletes.extend(then.1.union(&other.1));
        }
    }
    for op in ops {
        if let SampleOp::Put(put) = op {
            let key = String::from_utf8(put.key.to_vec()).expect("keys of samples are text");
            if deletes.contains(key.as_str()) || !puts.insert(key) {
                return None;
            }
        }
    }
    Some((puts, deletes))
}

proptest! {
    #[test]
    fn what_may_be_written_twice_is_found_as_by_looking_at_every_pair(tree in a_tree()) {
        let fine = sets(&tree.success).is_some() && sets(&tree.failure).is_some();
        let due = if fine { Ok(()) } else { Err(Refusal::DuplicateKey) };
        prop_assert_eq!(check(&tree), due);
    }

    #[test]
    fn spans_are_the_keys_in_them(
        spans in proptest::collection::vec((0..8_usize, 0..9_usize), 0..8),
    ) {
        let (mut found, mut due) = (Spans::default(), BTreeSet::new());
        for (start, end) in spans {
            let key = KEYS[start];
            let range_end = if end == 8 { "" } else { KEYS[end] };
            found.insert(KeyRange::new(key.as_bytes(), range_end.as_bytes()));
            due.extend(covered(key, range_end));
            for key in KEYS {
                prop_assert_eq!(found.contains(key.as_bytes()), due.contains(key));
                let one = BTreeSet::from([key.as_bytes()]);
                prop_assert_eq!(found.touches(&one), due.contains(key));
            }
            let ends: Vec<_> = found.0.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1.0 < *pair[1].0));
        }
    }
}

#[test]
fn duplicates_are_what_etcd_takes_for_them() {
    let txn = |ops| SampleOp::Txn(all(ops));
    let branches = |success, failure| SampleOp::Txn(Tree { success, failure, compares: vec![] });
    // As a real etcd answered.
    let refused = [
        vec![put("a", ""), put("a", "")],
        vec![put("b", ""), delete("a", "c")],
        vec![delete("a", "c"), put("b", "")],
        vec![txn(vec![delete("k", "")]), txn(vec![put("k", "")])],
        vec![txn(vec![put("k", "")]), delete("k", "")],
        vec![put("k", ""), txn(vec![delete("k", "")])],
        vec![txn(vec![put("k", "")]), txn(vec![put("k", "")])],
    ];
    for ops in refused {
        assert_eq!(check(&all(ops.clone())), Err(Refusal::DuplicateKey), "{ops:?}");
    }
    let taken = [
        vec![put("b", ""), delete("a", "\0")],
        vec![put("b", ""), delete("\0", "\0")],
        vec![delete("c", "a"), put("b", "")],
        vec![delete("a", "c"), delete("b", "d")],
        vec![txn(vec![put("k", "")]), txn(vec![delete("k", "")])],
        vec![branches(vec![delete("k", "")], vec![put("k", "")])],
        vec![branches(vec![put("k", "")], vec![put("k", "")])],
        vec![txn(vec![delete("a", "\0")]), put("k", "")],
    ];
    for ops in taken {
        assert_eq!(check(&all(ops.clone())), Ok(()), "{ops:?}");
    }
    let apart = Tree { failure: vec![put("k", "")], ..all(vec![put("k", "")]) };
    assert_eq!(check(&apart), Ok(()));
}

#[test]
fn each_list_counts_and_leaves_less_for_what_is_within() {
    let reads = |count: usize| vec![delete("a", ""); count];
    let nested = |outer: usize, inner: usize| {
        let mut ops = reads(outer - 1);
        ops.push(SampleOp::Txn(all(reads(inner))));
        all(ops)
    };
    assert_eq!(check(&all(reads(128))), Ok(()));
    assert_eq!(check(&all(reads(129))), Err(Refusal::TooManyOps));
    assert_eq!(check(&nested(64, 64)), Ok(()));
    assert_eq!(check(&nested(64, 65)), Err(Refusal::TooManyOps));
    let compare = SampleCompare { key: "a", range_end: "", operator: 0, operand: Operand::Unknown };
    let compares = Tree { compares: vec![compare; 129], ..Tree::default() };
    assert_eq!(check(&compares), Err(Refusal::TooManyOps));
}

#[test]
fn the_first_fault_counts_from_the_outside_in() {
    let compare = SampleCompare { key: "", range_end: "", operator: 0, operand: Operand::Unknown };
    let wrong = |refusal| vec![SampleOp::Refused(refusal)];
    let tree = Tree {
        compares: vec![compare],
        success: wrong(Refusal::KeyNotFound),
        failure: wrong(Refusal::ValueProvided),
    };
    assert_eq!(check(&tree), Err(Refusal::EmptyKey));
    let tree = Tree { compares: vec![], ..tree };
    assert_eq!(check(&tree), Err(Refusal::KeyNotFound));
    let nested = all(vec![put("a", ""), put("a", ""), SampleOp::Txn(tree)]);
    assert_eq!(check(&nested), Err(Refusal::KeyNotFound), "duplicates are looked for last");
}

#[test]
fn many_writes_that_nest_deeply_are_checked_in_no_time() {
    const WIDTH: usize = 300;
    let keys: Vec<String> = (0..WIDTH * 60).map(|key| format!("{key:06}")).collect();
    let keys: &'static [String] = keys.leak();
    let mut tree = Tree::default();
    for level in keys.chunks(WIDTH) {
        let mut ops: Vec<_> = level.iter().map(|key| put(key, "")).collect();
        ops.push(delete("x", "y"));
        ops.push(SampleOp::Txn(tree));
        tree = all(ops);
    }
    assert_eq!(validate(&Flat::of(&tree), usize::MAX), Ok(()));
}
