use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::mvcc::Compared;
use crate::mvcc::txn::Operand;
use crate::mvcc::txn::sample::Flat;
use crate::mvcc::txn::sample::SampleCompare;
use crate::mvcc::txn::sample::SampleOp;
use crate::mvcc::txn::sample::Tree;
use crate::mvcc::txn::sample::a_tree;
use crate::mvcc::txn::sample::all;
use crate::mvcc::txn::sample::delete;
use crate::mvcc::txn::sample::put;
use crate::mvcc::txn::validate;
use crate::types::Change;

/// The lease that exists.
const LEASE: LeaseId = LeaseId(7);

/// All changes, and whose values somebody wanted.
#[derive(Debug, Default)]
struct Map {
    changes: BTreeMap<Location, Change>,
    wanted: RefCell<BTreeSet<Location>>,
}

impl Records for Map {
    fn lease(&self, location: Location) -> LeaseId {
        self.changes[&location].lease
    }

    fn value(&self, location: Location) -> Bytes {
        self.wanted.borrow_mut().insert(location);
        self.changes[&location].value.clone()
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        lease == LEASE
    }

    fn push(&mut self, change: Change, _: Option<Found>) {
        self.changes.insert(change.location, change);
    }
}

/// A keyspace and its records.
#[derive(Debug, Default)]
struct Replica {
    keyspace: Keyspace,
    records: Map,
    /// Whether it removes at once what is forgotten.
    removes: bool,
    /// Whether every other value is on a disk.
    is_cold: bool,
}

impl Replica {
    /// Does a transaction whose keys and values are wherever they are; values are then filled in.
    fn txn(&mut self, tree: &Tree) -> Result<Outcome, Refusal> {
        // Commands hold their own bytes: here every text lies in one buffer.
        let (tree, data) = in_one_buffer(tree);
        let script = Flat::of(&tree);
        let (mut needs, way) = (BTreeSet::new(), self.find_way(&script));
        self.keyspace.txn_needs(&script, &way, |location| needs.extend([location]));
        let next = self.keyspace.revision().0 + 1;
        self.records.wanted.borrow_mut().clear();
        let mut outcome = self.keyspace.txn(&script, &way, &data, &mut self.records)?;
        for location in self.records.wanted.borrow().iter() {
            assert!(needs.contains(location) || location.main.0 == next, "{location:?} was said");
        }
        outcome.each_pair(&mut |pair| {
            let value = &self.records.changes[&pair.location].value;
            pair.value.get_or_insert_with(|| value.clone());
        });
        outcome.settle();
        Ok(outcome)
    }

    /// Finds a way in steps, of two values from the disk each.
    fn find_way(&self, script: &Flat) -> Way {
        let (mut way, mut here) = (Way::default(), BTreeSet::new());
        loop {
            let mut away = BTreeSet::new();
            let look = |location: Location, operand: &[u8]| {
                let is_away = self.is_cold && (location.main.0 + i64::from(location.sub)) % 2 == 0;
                if is_away && !here.remove(&location) {
                    let is_full = away.len() == 2;
                    away.extend((!is_full).then_some(location));
                    return if is_full { Compared::Full } else { Compared::Away };
                }
                Compared::Is(self.records.changes[&location].value[..].cmp(operand))
            };
            if self.keyspace.find_way(script, &mut way, &self.records, look) {
                return way;
            }
            assert!(!away.is_empty(), "who waits has asked for something");
            here.extend(away);
        }
    }

    fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        self.keyspace.compact(Revision(revision))?;
        let floor = Revision(revision);
        while self.removes && self.keyspace.compact_step(floor, 3, |_| ()) {}
        Ok(())
    }
}

/// The same transaction with all puts' bytes in one buffer.
fn in_one_buffer(tree: &Tree) -> (Tree, Bytes) {
    fn collect(tree: &Tree, out: &mut Vec<u8>) {
        for op in tree.success.iter().chain(&tree.failure) {
            match op {
                SampleOp::Put(put) => out.extend([put.key, put.value].concat()),
                SampleOp::Txn(inner) => collect(inner, out),
                SampleOp::Range(_) | SampleOp::DeleteRange { .. } | SampleOp::Refused(_) => {}
            }
        }
    }
    fn place(tree: &mut Tree, mut rest: &'static [u8]) -> &'static [u8] {
        for op in tree.success.iter_mut().chain(&mut tree.failure) {
            match op {
                SampleOp::Put(put) => {
                    (put.key, rest) = rest.split_at(put.key.len());
                    (put.value, rest) = rest.split_at(put.value.len());
                }
                SampleOp::Txn(inner) => rest = place(inner, rest),
                SampleOp::Range(_) | SampleOp::DeleteRange { .. } | SampleOp::Refused(_) => {}
            }
        }
        rest
    }
    let (mut tree, mut bytes) = (tree.clone(), Vec::new());
    collect(&tree, &mut bytes);
    // A test's few.
    let bytes: &'static [u8] = bytes.leak();
    assert!(place(&mut tree, bytes).is_empty());
    (tree, Bytes::from_static(bytes))
}

/// What is known of a key: creation, last change, version, lease, value.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    created: i64,
    changed: Location,
    version: i64,
    lease: i64,
    value: &'static [u8],
}

type State = BTreeMap<&'static [u8], Pair>;

/// The keyspace as a map for each revision.
#[derive(Debug)]
struct Model {
    states: Vec<State>,
    floor: i64,
}

/// A transaction under way.
struct Running<'m> {
    model: &'m Model,
    before: State,
    now: State,
    next: Location,
}

impl Model {
    fn new() -> Self {
        Self { states: vec![State::new(); 2], floor: -1 }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).expect("few") - 1
    }

    fn txn(&mut self, tree: &Tree) -> Result<Outcome, Refusal> {
        let state = self.states.last().expect("there is a first").clone();
        let main = Revision(self.revision() + 1);
        let next = Location { main, sub: 0 };
        let mut running = Running { model: self, before: state.clone(), now: state, next };
        let outcome = running.txn(tree)?;
        let (now, sub) = (running.now, running.next.sub);
        if sub > 0 {
            self.states.push(now);
        }
        Ok(outcome)
    }

    fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.floor {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision() {
            return Err(Refusal::FutureRevision);
        }
        self.floor = revision;
        Ok(())
    }
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => start <= key && key < end,
    }
}

impl Running<'_> {
    fn holds(&self, compare: &SampleCompare) -> bool {
        let (start, end) = (compare.key.as_bytes(), compare.range_end.as_bytes());
        let found: Vec<_> =
            self.before.iter().filter(|(key, _)| within(key, start, end)).map(|it| it.1).collect();
        let nothing =
            Pair { created: 0, changed: Location::default(), version: 0, lease: 0, value: b"" };
        let is_value = matches!(compare.operand, Operand::Value(_));
        if found.is_empty() && is_value {
            return false;
        }
        let all = if found.is_empty() { vec![&nothing] } else { found };
        all.into_iter().all(|pair| {
            let order = match compare.operand {
                Operand::Version(operand) => pair.version.cmp(&operand),
                Operand::Create(operand) => pair.created.cmp(&operand),
                Operand::Mod(operand) => pair.changed.main.0.cmp(&operand),
                Operand::Value(operand) => pair.value.cmp(operand),
                Operand::Lease(operand) => pair.lease.cmp(&operand),
                Operand::Unknown => Ordering::Equal,
            };
            [order.is_eq(), order.is_gt(), order.is_lt(), order.is_ne(), true]
                [usize::try_from(compare.operator).expect("five operators")]
        })
    }

    /// Each operation that refuses makes the whole transaction not have been.
    fn txn(&mut self, tree: &Tree) -> Result<Outcome, Refusal> {
        let succeeded = tree.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &tree.success } else { &tree.failure };
        let mut results = Vec::new();
        for op in ops {
            results.push(match op {
                SampleOp::Range(query) => self.range(query)?,
                SampleOp::Put(put) => self.put(put)?,
                SampleOp::DeleteRange { key, range_end, prev_kv } => {
                    self.delete(key.as_bytes(), range_end.as_bytes(), *prev_kv)
                }
                SampleOp::Txn(inner) => OpResult::Txn(self.txn(inner)?),
                SampleOp::Refused(refusal) => return Err(*refusal),
            });
        }
        Ok(Outcome { succeeded, results })
    }

    fn revision(&self) -> Revision {
        Revision(self.next.main.0 - i64::from(self.next.sub == 0))
    }

    fn put(&mut self, put: &PutOp<'static>) -> Result<OpResult, Refusal> {
        if put.lease != LeaseId(0) && put.lease != LEASE {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = put.ignore_value || put.ignore_lease;
        let prior = self.now.get(put.key).cloned();
        if keeps && (prior.is_none() || !self.before.contains_key(put.key)) {
            return Err(Refusal::KeyNotFound);
        }
        let old = prior.clone();
        let pair = Pair {
            created: prior.as_ref().map_or(self.next.main.0, |prior| prior.created),
            changed: self.next,
            version: prior.as_ref().map_or(0, |prior| prior.version) + 1,
            lease: prior.as_ref().filter(|_| put.ignore_lease).map_or(put.lease.0, |it| it.lease),
            value: prior.filter(|_| put.ignore_value).map_or(put.value, |prior| prior.value),
        };
        self.now.insert(put.key, pair);
        self.next.sub += 1;
        let prev = old.filter(|_| put.prev_kv).map(|old| row(put.key, &old));
        Ok(OpResult::Put { revision: self.revision(), prev })
    }

    fn delete(&mut self, start: &[u8], end: &[u8], prev_kv: bool) -> OpResult {
        let keys: Vec<_> = self.now.keys().copied().filter(|key| within(key, start, end)).collect();
        let mut prevs = Vec::new();
        for key in &keys {
            let old = self.now.remove(key).expect("it was just seen");
            self.next.sub += 1;
            prevs.extend(prev_kv.then(|| row(key, &old)));
        }
        let deleted = i64::try_from(keys.len()).expect("few");
        OpResult::DeleteRange { revision: self.revision(), deleted, prevs }
    }

    fn range(&self, query: &RangeQuery<'_>) -> Result<OpResult, Refusal> {
        if query.revision > self.model.revision() {
            return Err(Refusal::FutureRevision);
        }
        if query.revision != 0 && query.revision < self.model.floor {
            return Err(Refusal::Compacted);
        }
        let old = usize::try_from(query.revision).ok().filter(|at| *at > 0);
        let state = old.map_or(&self.now, |at| &self.model.states[at]);
        let seen = state.iter().filter(|(key, _)| query.range.contains(key));
        let mut rows: Vec<_> = seen.map(|(key, pair)| row(key, pair)).collect();
        let count = i64::try_from(rows.len()).expect("few");
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(usize::MAX);
        if query.order == SortOrder::None {
            rows.truncate(limit.saturating_add(1));
        }
        rows.sort_by(|one, other| {
            let order = match query.target {
                SortTarget::Key => one.key.cmp(&other.key),
                SortTarget::Version => one.version.cmp(&other.version),
                SortTarget::Create => one.create_revision.cmp(&other.create_revision),
                SortTarget::Mod => one.location.main.cmp(&other.location.main),
                SortTarget::Value => one.value.cmp(&other.value),
            };
            if query.order == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = rows.len() > limit;
        rows.truncate(limit);
        for row in rows.iter_mut().filter(|_| query.keys_only) {
            row.value = Some(Bytes::new());
            if query.target != SortTarget::Value {
                row.lease = LeaseId(0);
            }
        }
        let (revision, by_value) = (self.revision(), None);
        if query.count_only {
            rows.clear();
            return Ok(OpResult::Range { revision, rows, more: false, count, by_value });
        }
        Ok(OpResult::Range { revision, rows, more, count, by_value })
    }
}

fn row(key: &[u8], pair: &Pair) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: Revision(pair.created),
        location: pair.changed,
        version: pair.version,
        lease: LeaseId(pair.lease),
        value: Some(Bytes::copy_from_slice(pair.value)),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Tree),
    Compact(i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![9 => a_tree().prop_map(Step::Txn), 1 => (0..6_i64).prop_map(Step::Compact)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn transactions_do_what_maps_would_do_on_every_replica(steps in vec(a_step(), 1..12)) {
        let (mut model, mut replica) = (Model::new(), Replica::default());
        let mut other = Replica { removes: true, is_cold: true, ..Replica::default() };
        for step in steps {
            match step {
                Step::Txn(tree) => {
                    if validate(&Flat::of(&tree), 128).is_err() {
                        continue;
                    }
                    let due = model.txn(&tree);
                    // Which of two refusals comes first is told by another test.
                    let found = replica.txn(&tree);
                    prop_assert_eq!(&other.txn(&tree), &found);
                    prop_assert_eq!(found.is_ok(), due.is_ok());
                    if found.is_ok() {
                        prop_assert_eq!(found, due);
                    }
                }
                Step::Compact(back) => {
                    let revision = model.revision() - back;
                    let due = model.compact(revision);
                    prop_assert_eq!(replica.compact(revision), due);
                    prop_assert_eq!(other.compact(revision), due);
                }
            }
            prop_assert_eq!(replica.keyspace.revision().0, model.revision());
            replica.keyspace.check_all();
            other.keyspace.check_all();
        }
        let query = RangeQuery::new(KeyRange::From(b"\0"));
        let page = replica.keyspace.range(&query, &replica.records).expect("the present is there");
        let last = model.states.last().expect("there is a first");
        let due: Vec<_> = last.iter().map(|(key, pair)| row(key, pair)).collect();
        prop_assert_eq!(page.rows, due);
    }
}

#[test]
fn one_revision_for_all_and_reads_between_see_what_was_written() {
    let mut replica = Replica::default();
    let read = || SampleOp::Range(RangeQuery::new(KeyRange::From(b"a")));
    let nested = SampleOp::Txn(all(vec![put("c", "3"), read()]));
    let tree = all(vec![read(), put("a", "1"), nested, delete("b", ""), read()]);
    let outcome = replica.txn(&tree).expect("nothing refuses it");
    let counts = |outcome: &Outcome| -> Vec<_> {
        outcome
            .results
            .iter()
            .filter_map(|result| match result {
                OpResult::Range { revision, count, .. } => Some((revision.0, *count)),
                OpResult::Put { .. } | OpResult::DeleteRange { .. } | OpResult::Txn(_) => None,
            })
            .collect()
    };
    assert_eq!(counts(&outcome), [(1, 0), (2, 2)]);
    let OpResult::Txn(inner) = &outcome.results[2] else { panic!("the third is nested") };
    assert_eq!(counts(inner), [(2, 2)]);
    assert_eq!(replica.keyspace.revision(), Revision(2));
    assert_eq!(
        replica.txn(&all(vec![read(), delete("x", "")])).map(|it| counts(&it)),
        Ok(vec![(2, 2)])
    );
    assert_eq!(replica.keyspace.revision(), Revision(2));
}

#[test]
fn nested_compares_see_what_was_before_all() {
    let mut replica = Replica::default();
    let is_new = |operator| SampleCompare {
        key: "a",
        range_end: "",
        operator,
        operand: Operand::Version(0),
    };
    let inner = Tree { compares: vec![is_new(0)], ..all(vec![put("b", "")]) };
    let tree = all(vec![put("a", ""), SampleOp::Txn(inner)]);
    let outcome = replica.txn(&tree).expect("nothing refuses it");
    let OpResult::Txn(inner) = &outcome.results[1] else { panic!("the second is nested") };
    assert!(inner.succeeded);
}

#[test]
fn a_refusal_anywhere_leaves_no_trace_and_the_first_on_the_way_counts() {
    let mut replica = Replica::default();
    let lease = |key: &'static str, lease, ignore_value| {
        SampleOp::Put(PutOp {
            key: key.as_bytes(),
            value: b"",
            lease: LeaseId(lease),
            prev_kv: false,
            ignore_value,
            ignore_lease: false,
        })
    };
    let at =
        |revision| SampleOp::Range(RangeQuery { revision, ..RangeQuery::new(KeyRange::One(b"a")) });
    let refusals = [
        (vec![put("a", ""), lease("b", 9, true)], Refusal::LeaseNotFound),
        (vec![put("a", ""), lease("b", 7, true)], Refusal::KeyNotFound),
        (vec![put("a", ""), at(2)], Refusal::FutureRevision),
        (vec![put("a", ""), at(-2)], Refusal::Compacted),
        (vec![at(-2), at(2)], Refusal::Compacted),
        (vec![put("a", ""), SampleOp::Txn(all(vec![at(2)])), at(-2)], Refusal::FutureRevision),
    ];
    for (ops, refusal) in refusals {
        assert_eq!(replica.txn(&all(ops)), Err(refusal));
        assert_eq!(replica.keyspace.revision(), Revision(1));
    }
    let elsewhere = Tree { failure: vec![at(2)], ..all(vec![at(-1)]) };
    assert!(replica.txn(&elsewhere).is_ok(), "what is not on the way refuses nothing");
}

#[test]
fn a_put_that_keeps_what_the_same_transaction_deletes_is_refused() {
    // A real etcd takes this one in, and then every member ends as it applies it.
    let mut replica = Replica::default();
    replica.txn(&all(vec![put("b", "1")])).expect("nothing refuses it");
    let keep = SampleOp::Put(PutOp {
        key: b"b",
        value: b"",
        lease: LeaseId(0),
        prev_kv: false,
        ignore_value: true,
        ignore_lease: false,
    });
    let tree = all(vec![delete("a", "\0"), keep.clone()]);
    assert_eq!(validate(&Flat::of(&tree), 128), Ok(()));
    assert_eq!(replica.txn(&tree), Err(Refusal::KeyNotFound));
    let nested = all(vec![SampleOp::Txn(all(vec![delete("\0", "\0")])), keep.clone()]);
    assert_eq!(replica.txn(&nested), Err(Refusal::KeyNotFound));
    assert!(replica.txn(&all(vec![delete("c", "\0"), keep])).is_ok());
}

/// Whether some bytes are a part of a buffer.
fn lies_in(part: &Bytes, buffer: &Bytes) -> bool {
    buffer.as_ptr_range().contains(&part.as_ptr())
}

/// A put's value was always a slice of its transaction, and so kept all of it in memory: what was
/// compared, and what was not done.
#[test]
fn a_small_put_does_not_keep_all_of_a_large_transaction() {
    let large: &'static str = "x".repeat(10_000).leak();
    let small = || vec![put("key", "value"), put("other", "value")];
    let cases = [
        (Tree { success: small(), failure: vec![put("large", large)], ..Tree::default() }, false),
        (all(vec![put("key", "value"), put("other", large)]), true),
        (all(small()), true),
    ];
    for (tree, is_kept) in cases {
        let mut replica = Replica::default();
        let (tree, data) = in_one_buffer(&tree);
        let script = Flat::of(&tree);
        let way = replica.find_way(&script);
        let done = replica.keyspace.txn(&script, &way, &data, &mut replica.records);
        assert!(done.is_ok_and(|outcome| outcome.succeeded));
        assert_eq!(replica.records.changes.len(), 2);
        for change in replica.records.changes.values() {
            assert_eq!(lies_in(&change.key, &data), is_kept, "{:?}", change.key);
            assert_eq!(lies_in(&change.value, &data), is_kept, "{:?}", change.key);
        }
    }
}

/// A put that keeps its value kept all of what the old one was a slice of: another transaction, or
/// a block of a file.
#[test]
fn a_put_that_keeps_its_value_has_it_for_its_own() {
    let mut replica = Replica::default();
    let block = Bytes::from("a block with a value in it".repeat(100));
    let first = Put::new(Bytes::from_static(b"key"), block.slice(15..20));
    let again = Put { ignore_value: true, ..Put::new(first.key.clone(), Bytes::new()) };
    for put in [first, again] {
        let done = replica.keyspace.write().put(put, &mut replica.records);
        assert!(done.is_ok());
    }
    let last = replica.records.changes.values().next_back().expect("two puts");
    assert_eq!(last.value, block.slice(15..20));
    assert!(!lies_in(&last.value, &block));
}
