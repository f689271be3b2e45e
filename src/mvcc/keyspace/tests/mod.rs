//! The keyspace against a list of all that ever happened.

mod restore;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Page;
use crate::mvcc::RangeQuery;
use crate::mvcc::Row;
use crate::mvcc::Slice;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::types::Change;

/// All changes that were not forgotten.
#[derive(Clone, Debug, Default)]
struct Map(BTreeMap<Location, Change>);

impl Map {
    fn at(&self, location: Location) -> &Change {
        self.0.get(&location).expect("the keyspace asks only for what it has not forgotten")
    }

    fn forget(&mut self, location: Location) {
        assert!(self.0.remove(&location).is_some(), "{location:?} is told of once");
    }
}

impl Records for Map {
    fn lease(&self, location: Location) -> LeaseId {
        self.at(location).lease
    }

    fn value(&self, location: Location) -> Bytes {
        self.at(location).value.clone()
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        lease.0 < 3
    }

    fn push(&mut self, change: Change, _: Option<Found>) {
        let is_last = self.0.last_key_value().is_none_or(|last| *last.0 < change.location);
        assert!(is_last, "changes come in order");
        self.0.insert(change.location, change);
    }
}

/// A keyspace and its records.
#[derive(Debug, Default)]
struct Replica {
    keyspace: Keyspace,
    records: Map,
}

impl Replica {
    fn range(&self, query: &RangeQuery<'_>) -> Result<Page, Refusal> {
        self.keyspace.range(query, &self.records)
    }

    fn put(&mut self, put: Put) -> Result<Option<Found>, Refusal> {
        self.keyspace.write().put(put, &mut self.records)
    }

    fn compact_step(&mut self, floor: Revision, budget: usize) -> bool {
        let records = &mut self.records;
        self.keyspace.compact_step(floor, budget, |location| records.forget(location))
    }

    /// Removes everything that may be.
    fn compact_all(&mut self) {
        while self.compact_step(self.keyspace.revision(), 100) {}
    }

    fn digest(&self) -> u64 {
        self.keyspace.digest(&self.records)
    }

    fn check_all(&self) {
        self.keyspace.check_all();
        let mut known = 0;
        self.keyspace.each(|key, location, found| {
            let change = self.records.at(location);
            let (created, version) = found.map_or((0, 0), |found| (found.created.0, found.version));
            assert_eq!(
                (&change.key[..], change.created.0, change.version),
                (key, created, version)
            );
            assert!(self.keyspace.knows(key, location));
            known += 1;
        });
        assert!(known == self.records.0.len(), "each record is of a change that is known");
    }
}

/// One change: the key, and the pair it left unless it was a deletion.
#[derive(Clone, Debug)]
struct Event {
    location: Location,
    key: Bytes,
    left: Option<KeyValue>,
}

/// All changes, oldest first; nothing is ever derived, kept or forgotten.
#[derive(Debug)]
struct Model {
    changes: Vec<Event>,
    revision: i64,
    floor: i64,
}

impl Model {
    fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, floor: -1 }
    }

    fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let seen = |change: &&Event| change.key == key && change.location.main.0 <= at;
        self.changes.iter().rfind(seen)?.left.as_ref()
    }

    fn all(&self, range: KeyRange<'_>, at: i64) -> Vec<KeyValue> {
        let mut keys: Vec<_> = self.changes.iter().map(|change| &change.key).collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| range.contains(key));
        keys.into_iter().filter_map(|key| self.get(key, at)).cloned().collect()
    }

    fn put(&mut self, put: &Put, location: Location) -> Result<Option<KeyValue>, Refusal> {
        let old = self.get(&put.key, i64::MAX).cloned();
        if (put.ignore_lease || put.ignore_value) && old.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let mut left = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(location.main, |old| old.create_revision),
            location,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: put.lease,
            value: Some(put.value.clone()),
        };
        if let Some(old) = &old {
            if put.ignore_value {
                left.value = old.value.clone();
            }
            if put.ignore_lease {
                left.lease = old.lease;
            }
        }
        self.changes.push(Event { location, key: left.key.clone(), left: Some(left) });
        self.revision = location.main.0;
        Ok(old)
    }

    fn delete(&mut self, range: KeyRange<'_>, first: Location) -> Vec<KeyValue> {
        let gone = self.all(range, i64::MAX);
        for (sub, row) in (first.sub..).zip(&gone) {
            let location = Location { sub, ..first };
            self.changes.push(Event { location, key: row.key.clone(), left: None });
            self.revision = location.main.0;
        }
        gone
    }

    /// The steps of etcd's reading, one after the other.
    fn range(&self, query: &RangeQuery<'_>) -> Result<Page, Refusal> {
        if query.revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let at = if query.revision <= 0 { self.revision } else { query.revision };
        if at < self.floor {
            return Err(Refusal::Compacted);
        }
        let revision = Revision(self.revision);
        let mut rows = self.all(query.range, at);
        let count = i64::try_from(rows.len()).expect("tests are small");
        if query.count_only {
            return Ok(Page { rows: Vec::new(), more: false, count, revision });
        }
        let bounds = [
            query.min_mod_revision,
            query.max_mod_revision,
            query.min_create_revision,
            query.max_create_revision,
        ];
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        if query.order == SortOrder::None && bounds == [0; 4] {
            rows.truncate(limit.map_or(usize::MAX, |limit| limit + 1));
        }
        rows.retain(|row| bounds[0] == 0 || row.location.main.0 >= bounds[0]);
        rows.retain(|row| bounds[1] == 0 || row.location.main.0 <= bounds[1]);
        rows.retain(|row| bounds[2] == 0 || row.create_revision.0 >= bounds[2]);
        rows.retain(|row| bounds[3] == 0 || row.create_revision.0 <= bounds[3]);
        rows.sort_by(|left, right| {
            let order = match query.target {
                SortTarget::Key => left.key.cmp(&right.key),
                SortTarget::Version => left.version.cmp(&right.version),
                SortTarget::Create => left.create_revision.cmp(&right.create_revision),
                SortTarget::Mod => left.location.main.cmp(&right.location.main),
                SortTarget::Value => left.value.cmp(&right.value),
            };
            if query.order == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = limit.is_some_and(|limit| rows.len() > limit);
        rows.truncate(limit.unwrap_or(usize::MAX));
        for row in &mut rows {
            if query.keys_only {
                row.value = Some(Bytes::new());
                if query.target != SortTarget::Value {
                    row.lease = LeaseId(0);
                }
            }
        }
        Ok(Page { rows, more, count, revision })
    }
}

#[derive(Clone, Debug)]
struct PutStep {
    key: Vec<u8>,
    value: u8,
    lease: i64,
    ignore_value: bool,
    ignore_lease: bool,
}

#[derive(Clone, Debug)]
struct RangeStep {
    start: Vec<u8>,
    end: Vec<u8>,
    limit: i64,
    /// How far back from the present, or a revision that makes no sense.
    back: i64,
    order: i32,
    target: i32,
    keys_only: bool,
    count_only: bool,
    bounds: [Option<i64>; 4],
}

#[derive(Clone, Debug)]
enum ChangeStep {
    Put(PutStep),
    Delete(Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    /// A revision of several changes.
    Write(Vec<ChangeStep>),
    Range(RangeStep),
    Compact(i64),
    Remove(usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 255]), 1..4)
}

fn end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(vec![]), 1 => Just(vec![0]), 2 => key()]
}

fn change() -> impl Strategy<Value = ChangeStep> {
    let rarely = || prop::bool::weighted(0.1);
    let put = (key(), 0..3_u8, 0..3_i64, rarely(), rarely()).prop_map(
        |(key, value, lease, ignore_value, ignore_lease)| PutStep {
            key,
            value,
            lease,
            ignore_value,
            ignore_lease,
        },
    );
    prop_oneof![
        8 => put.prop_map(ChangeStep::Put),
        1 => (key(), end()).prop_map(|(start, end)| ChangeStep::Delete(start, end)),
    ]
}

fn range_step() -> impl Strategy<Value = RangeStep> {
    let bound = || prop::option::weighted(0.1, -2..30_i64);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let back = prop_oneof![3 => Just(0), 3 => 0..40_i64, 1 => -2..1_i64];
    let bounds = [bound(), bound(), bound(), bound()];
    let sort = (0..3_i32, prop_oneof![2 => Just(0), 3 => 0..5_i32]);
    (key(), end(), -1..6_i64, back, sort, flags, bounds).prop_map(
        |(start, end, limit, back, (order, target), (keys_only, count_only), bounds)| RangeStep {
            start,
            end,
            limit,
            back,
            order,
            target,
            keys_only,
            count_only,
            bounds,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change().prop_map(|change| Step::Write(vec![change])),
        1 => prop::collection::vec(change(), 0..5).prop_map(Step::Write),
        6 => range_step().prop_map(Step::Range),
        1 => (-1..40_i64).prop_map(Step::Compact),
        2 => (1..10_usize).prop_map(Step::Remove),
    ]
}

fn query<'a>(step: &'a RangeStep, now: i64) -> RangeQuery<'a> {
    let bound = |i: usize| step.bounds[i].map_or(0, |back: i64| now - back);
    RangeQuery {
        range: KeyRange::new(&step.start, &step.end),
        limit: step.limit,
        revision: if step.back == 0 { 0 } else { now - step.back },
        order: SortOrder::try_from(step.order).expect("it is one"),
        target: SortTarget::try_from(step.target).expect("it is one"),
        keys_only: step.keys_only,
        count_only: step.count_only,
        min_mod_revision: bound(0),
        max_mod_revision: bound(1),
        min_create_revision: bound(2),
        max_create_revision: bound(3),
    }
}

fn found(row: KeyValue) -> Found {
    Found { created: row.create_revision, location: row.location, version: row.version }
}

fn write(replica: &mut Replica, model: &mut Model, changes: &[ChangeStep]) {
    let before = model.revision;
    let Replica { keyspace, records } = replica;
    let mut write = keyspace.write();
    for change in changes {
        let location = write.next();
        assert_eq!(location.main, Revision(before + 1));
        match change {
            ChangeStep::Put(step) => {
                let value = if step.ignore_value { 0 } else { step.value };
                let put = Put {
                    key: Bytes::copy_from_slice(&step.key),
                    value: Bytes::from(vec![b'v'; value.into()]),
                    lease: LeaseId(if step.ignore_lease { 0 } else { step.lease }),
                    ignore_value: step.ignore_value,
                    ignore_lease: step.ignore_lease,
                };
                let expected = model.put(&put, location).map(|old| old.map(found));
                assert_eq!(write.put(put, records), expected);
            }
            ChangeStep::Delete(start, end) => {
                let range = KeyRange::new(start, end);
                let mut told = Vec::new();
                let count = write.delete_range(range, records, |key, found| {
                    told.push((key.to_vec(), found));
                });
                let gone = model.delete(range, location);
                assert_eq!(count, i64::try_from(gone.len()).expect("tests are small"));
                let gone = gone.into_iter().map(|row| (row.key.to_vec(), found(row)));
                assert!(told.into_iter().eq(gone));
            }
        }
        let all = RangeQuery::new(KeyRange::From(b"\0"));
        assert_eq!(write.keyspace().range(&all, records), model.range(&all), "a write sees itself");
    }
    let changed = (model.revision > before).then_some(Revision(model.revision));
    assert_eq!(write.finish(), changed);
}

/// The same as `answer`, read in slices of the keys' order if that is the query's.
fn in_slices(replica: &Replica, query: &RangeQuery<'_>, answer: &Page, budget: usize) {
    let at = replica.keyspace.check_revision(query.revision).expect("it was answered");
    let slice = Slice { down: query.is_downwards(), budget, ..Slice::new(query.range, at) };
    let (mut next, mut count) = (slice, 0);
    while let (counted, Some(rest)) = {
        let (counted, rest) = replica.keyspace.count_slice(&next);
        count += counted;
        (counted, rest)
    } {
        assert!(counted <= 1000);
        next.resume = Some(rest);
    }
    assert_eq!(i64::try_from(count), Ok(answer.count));
    if !query.is_in_key_order() || query.count_only {
        return;
    }
    let limit = usize::try_from(query.limit().unwrap_or(u64::MAX)).expect("usize has 64 bits");
    let (mut next, mut rows): (_, Vec<KeyValue>) = (slice, Vec::new());
    while let Some(rest) = {
        let due = rows.len() + budget;
        replica.keyspace.walk(&next, |row| {
            let found = Found {
                created: row.create_revision,
                location: row.location,
                version: row.version,
            };
            if rows.len() == due.min(limit) {
                return ControlFlow::Break(());
            }
            if query.takes(found) {
                rows.push(row.resolve(query, &replica.records));
            }
            ControlFlow::Continue(())
        })
    } {
        if rows.len() == limit {
            break;
        }
        next.resume = Some(rest);
    }
    assert_eq!(rows, answer.rows, "{query:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_keyspace_agrees_with_a_list_of_changes(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let (mut replica, mut model) = (Replica::default(), Model::new());
        // A replica that removes everything as soon as it may.
        let (mut eager, mut replayed) = (Replica::default(), Model::new());
        for step in &steps {
            match step {
                Step::Write(changes) => {
                    write(&mut replica, &mut model, changes);
                    write(&mut eager, &mut replayed, changes);
                }
                Step::Range(step) => {
                    let query = query(step, model.revision);
                    let answer = replica.range(&query);
                    assert_eq!(answer, model.range(&query), "{query:?}");
                    assert_eq!(answer, eager.range(&query), "{query:?}");
                    if let Ok(page) = &answer {
                        in_slices(&replica, &query, page, step.start.len());
                    }
                }
                Step::Compact(back) => {
                    let revision = model.revision - back;
                    let expected = if revision <= model.floor {
                        Err(Refusal::Compacted)
                    } else if revision > model.revision {
                        Err(Refusal::FutureRevision)
                    } else {
                        model.floor = revision;
                        replayed.floor = revision;
                        Ok(())
                    };
                    assert_eq!(replica.keyspace.compact(Revision(revision)), expected);
                    assert_eq!(eager.keyspace.compact(Revision(revision)), expected);
                    eager.compact_all();
                    eager.check_all();
                }
                Step::Remove(budget) => {
                    replica.compact_step(Revision(model.revision), *budget);
                }
            }
            replica.check_all();
            assert_eq!(replica.digest(), eager.digest(), "removal does not show");
        }
    }
}

fn put(replica: &mut Replica, key: &str, value: &str) -> Revision {
    let [key, value] = [key, value].map(|text| Bytes::copy_from_slice(text.as_bytes()));
    replica.put(Put::new(key, value)).expect("a plain put is never refused");
    replica.keyspace.revision()
}

fn delete(replica: &mut Replica, key: &str, range_end: &str) -> i64 {
    let range = KeyRange::new(key.as_bytes(), range_end.as_bytes());
    replica.keyspace.write().delete_range(range, &mut replica.records, |_, _| ())
}

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|row| std::str::from_utf8(&row.key).expect("keys are text")).collect()
}

/// As etcd 3.7.3 answered the same requests: a=3, b=1, c=2.
fn three() -> Replica {
    let mut replica = Replica::default();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
        put(&mut replica, key, value);
    }
    replica
}

#[test]
fn a_fresh_keyspace_is_at_one_and_its_first_write_at_two() {
    let mut replica = Replica::default();
    assert_eq!((replica.keyspace.revision(), replica.keyspace.compacted()), (Revision(1), None));
    assert_eq!(delete(&mut replica, "a", ""), 0);
    assert_eq!(replica.keyspace.revision(), Revision(1), "nothing deleted is no revision");
    assert_eq!(put(&mut replica, "a", "1"), Revision(2));
}

#[test]
fn a_key_made_anew_starts_over() {
    let mut replica = Replica::default();
    put(&mut replica, "a", "1");
    put(&mut replica, "a", "2");
    assert_eq!(delete(&mut replica, "a", ""), 1);
    put(&mut replica, "a", "3");
    let row = &replica.range(&RangeQuery::new(KeyRange::One(b"a"))).expect("it is there").rows[0];
    assert_eq!(
        (row.create_revision, row.location.main, row.version),
        (Revision(5), Revision(5), 1)
    );
}

#[test]
fn without_an_order_the_limit_cuts_before_the_sort() {
    let replica = three();
    let all =
        RangeQuery { limit: 1, target: SortTarget::Value, ..RangeQuery::new(KeyRange::From(b"a")) };
    let page = replica.range(&all).expect("nothing is wrong with it");
    assert_eq!(keys(&page), ["b"], "of a and b, the two that were fetched");
    assert_eq!((page.more, page.count), (true, 3));
    let mut replica = three();
    put(&mut replica, "d", "0");
    let page = replica.range(&all).expect("nothing is wrong with it");
    assert_eq!(keys(&page), ["b"]);
    let ordered = RangeQuery { order: SortOrder::Ascend, ..all };
    assert_eq!(keys(&replica.range(&ordered).expect("nothing is wrong with it")), ["d"]);
}

#[test]
fn keys_alone_come_without_a_lease_unless_sorted_by_value() {
    let mut replica = Replica::default();
    let [key, value] = [&b"a"[..], b"1"].map(Bytes::from_static);
    let attached = Put { lease: LeaseId(2), ..Put::new(key, value) };
    replica.put(attached).expect("the lease exists");
    let query = RangeQuery { keys_only: true, ..RangeQuery::new(KeyRange::One(b"a")) };
    let row = |query| replica.range(query).expect("it is there").rows.remove(0);
    assert_eq!((row(&query).lease, row(&query).value), (LeaseId(0), Some(Bytes::new())));
    let by_value = RangeQuery { target: SortTarget::Value, ..query };
    assert_eq!((row(&by_value).lease, row(&by_value).value), (LeaseId(2), Some(Bytes::new())));
}

#[test]
fn a_missing_lease_is_refused_before_a_missing_key() {
    let mut replica = Replica::default();
    let key = Bytes::from_static(b"a");
    let both = Put { ignore_value: true, lease: LeaseId(3), ..Put::new(key, Bytes::new()) };
    assert_eq!(replica.put(both.clone()), Err(Refusal::LeaseNotFound));
    assert_eq!(replica.put(Put { lease: LeaseId(2), ..both }), Err(Refusal::KeyNotFound));
    assert_eq!(replica.keyspace.revision(), Revision(1), "a refusal changes nothing");
}

#[test]
fn a_put_that_makes_no_sense_is_told_which_part() {
    let put = Put::new(Bytes::new(), Bytes::from_static(b"v"));
    assert_eq!(put.validate(), Err(Refusal::EmptyKey));
    let put = Put {
        key: Bytes::from_static(b"k"),
        ignore_value: true,
        ignore_lease: true,
        lease: LeaseId(1),
        ..put
    };
    assert_eq!(put.validate(), Err(Refusal::ValueProvided));
    let put = Put { value: Bytes::new(), ..put };
    assert_eq!(put.validate(), Err(Refusal::LeaseProvided));
    assert_eq!(Put { lease: LeaseId(0), ..put }.validate(), Ok(()));
    let replica = Replica::default();
    let empty = RangeQuery::new(KeyRange::One(b""));
    assert_eq!(replica.range(&empty), Err(Refusal::EmptyKey));
    assert_eq!(SortOrder::try_from(3), Err(Refusal::InvalidSortOption));
    assert_eq!(SortTarget::try_from(-1), Err(Refusal::InvalidSortOption));
}

#[test]
fn the_compacted_revision_is_still_read() {
    let mut replica = three();
    put(&mut replica, "a", "4");
    assert_eq!(replica.keyspace.compact(Revision(6)), Err(Refusal::FutureRevision));
    assert_eq!(replica.keyspace.compact(Revision(0)), Ok(()));
    assert_eq!(replica.keyspace.compact(Revision(0)), Err(Refusal::Compacted));
    assert_eq!(replica.keyspace.compact(Revision(-3)), Err(Refusal::Compacted));
    assert_eq!(replica.keyspace.compact(Revision(4)), Ok(()));
    while replica.compact_step(Revision(9), 1) {}
    let at = |revision| RangeQuery { revision, ..RangeQuery::new(KeyRange::One(b"a")) };
    assert_eq!(replica.range(&at(3)), Err(Refusal::Compacted));
    assert_eq!(replica.range(&at(6)), Err(Refusal::FutureRevision));
    assert_eq!(
        replica.range(&at(4)).expect("it is the floor").rows[0].value.as_deref(),
        Some(&b"3"[..])
    );
    assert_eq!(
        replica.range(&at(-9)).expect("it means now").rows[0].value.as_deref(),
        Some(&b"4"[..])
    );
    assert_eq!(replica.keyspace.compacted(), Some(Revision(4)));
}

#[test]
fn pages_add_up_to_the_whole() {
    let mut replica = Replica::default();
    for number in 0..500 {
        put(&mut replica, &format!("k{number:03}"), "v");
    }
    let pinned = replica.keyspace.revision().0;
    let (mut start, mut seen) = (b"k".to_vec(), Vec::new());
    loop {
        // Keys come and go between pages; the pages are of one revision.
        delete(&mut replica, &format!("k{:03}", seen.len() + 3), "");
        let range = KeyRange::Span { start: &start, end: b"l" };
        let query = RangeQuery { limit: 60, revision: pinned, ..RangeQuery::new(range) };
        let page = replica.range(&query).expect("the revision is there");
        assert_eq!(page.count, 500 - i64::try_from(seen.len()).expect("few"));
        seen.extend(page.rows.iter().map(|row| row.key.clone()));
        if !page.more {
            break;
        }
        start = [seen.last().expect("a page is not empty"), &b"\0"[..]].concat();
    }
    assert_eq!(seen, (0..500).map(|number| format!("k{number:03}")).collect::<Vec<_>>());
}

#[test]
fn a_pinned_revision_outlives_a_compaction_and_what_is_swept_is_not_pinned() {
    let mut replica = three();
    put(&mut replica, "a", "4");
    delete(&mut replica, "b", "");
    replica.keyspace.pin(Revision(4));
    replica.keyspace.pin(Revision(4));
    put(&mut replica, "a", "5");
    assert_eq!(replica.keyspace.compact(Revision(7)), Ok(()));
    replica.compact_all();
    let old = Slice::new(KeyRange::From(b"a"), Revision(4));
    let values = |replica: &Replica| {
        let mut values = Vec::new();
        let shown = replica.keyspace.walk(&old, |row: Row<'_>| {
            values.extend_from_slice(&replica.records.value(row.location));
            ControlFlow::Continue(())
        });
        assert_eq!((shown, replica.keyspace.count_slice(&old).0), (None, 3));
        values
    };
    assert_eq!(values(&replica), b"312");
    replica.keyspace.unpin(Revision(4));
    replica.compact_all();
    assert_eq!((values(&replica), replica.keyspace.oldest_pin()), (b"312".into(), Some(old.at)));
    replica.keyspace.unpin(Revision(4));
    // What is not in a file yet is not forgotten either.
    while replica.compact_step(Revision(5), 1) {}
    replica.keyspace.pin(Revision(5));
    replica.check_all();
    assert_eq!(replica.records.0.len(), 5, "only the first a is gone");
    replica.keyspace.unpin(Revision(5));
    replica.compact_all();
    replica.check_all();
    assert_eq!(replica.records.0.len(), 2);
}

#[test]
#[should_panic(expected = "may be forgotten")]
fn a_revision_that_is_swept_can_not_be_pinned() {
    let mut replica = three();
    assert_eq!(replica.keyspace.compact(Revision(4)), Ok(()));
    replica.compact_all();
    replica.keyspace.pin(Revision(3));
}

#[test]
fn a_read_within_a_budget_is_whole_or_none() {
    let mut replica = Replica::default();
    for number in 0..300 {
        put(&mut replica, &format!("k{number:03}"), "v");
    }
    let mut seen = 0;
    let mut within = |query: &RangeQuery<'_>, budget, rows_max| {
        seen = 0;
        let answered = replica.keyspace.range_within(query, &replica.records, budget, |_| {
            if seen == rows_max {
                return ControlFlow::Break(());
            }
            seen += 1;
            ControlFlow::Continue(())
        });
        answered.expect("nothing is wrong with it").map(|summary| (summary.count, summary.more))
    };
    let all = RangeQuery::new(KeyRange::From(b"k"));
    assert_eq!(within(&all, 400, 400), Some((300, false)));
    assert_eq!((within(&all, 100, 400), within(&all, 400, 299)), (None, None));
    let page = RangeQuery { limit: 10, ..all };
    assert_eq!((within(&page, 64, 10), within(&page, 64, 9)), (Some((300, true)), None));
    let down = RangeQuery { order: SortOrder::Descend, ..page };
    assert_eq!((within(&down, 64, 10), within(&down, 64, 9)), (Some((300, true)), None));
    let counted = RangeQuery { count_only: true, ..all };
    assert_eq!(within(&counted, 10, 0), Some((300, false)));
    let past = RangeQuery { revision: 200, ..counted };
    assert_eq!(within(&past, 10, 0), None, "leaves that changed since are looked at");
    assert_eq!(within(&past, 400, 0), Some((199, false)));
    let sorted = RangeQuery { target: SortTarget::Mod, order: SortOrder::Ascend, ..page };
    assert_eq!((within(&sorted, 64, 10), within(&sorted, 400, 9)), (None, None));
    assert_eq!(within(&sorted, 400, 10), Some((300, true)));
}

#[test]
fn a_hash_keeps_of_what_is_compacted_the_puts_that_it_sees() {
    let mut replica = three();
    put(&mut replica, "a", "4");
    delete(&mut replica, "b", "");
    assert_eq!(replica.keyspace.compact(Revision(6)), Ok(()));
    replica.compact_all();
    let keeps = |key: &[u8], main, at| {
        let location = Location { main: Revision(main), sub: 0 };
        replica.keyspace.keeps(key, location, Revision(at))
    };
    assert!(keeps(b"a", 5, 6) && keeps(b"c", 4, 6));
    assert!(!keeps(b"a", 2, 6) && !keeps(b"b", 6, 6) && !keeps(b"d", 6, 6));
}
