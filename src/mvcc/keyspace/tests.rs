//! The keyspace against a list of all that ever happened.

use proptest::prelude::*;

use super::*;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Page;
use crate::mvcc::RangeQuery;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;

/// One change: the key, and the pair it left unless it was a deletion.
#[derive(Clone, Debug)]
struct Change {
    location: Location,
    key: Bytes,
    left: Option<KeyValue>,
}

/// All changes, oldest first; nothing is ever derived, kept or forgotten.
#[derive(Debug)]
struct Model {
    changes: Vec<Change>,
    revision: i64,
    floor: i64,
}

impl Model {
    fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, floor: -1 }
    }

    fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let seen = |change: &&Change| change.key == key && change.location.main.0 <= at;
        self.changes.iter().rfind(seen)?.left.as_ref()
    }

    fn all(&self, range: KeyRange<'_>, at: i64) -> Vec<KeyValue> {
        let mut keys: Vec<_> = self.changes.iter().map(|change| &change.key).collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| range.contains(key));
        keys.into_iter().filter_map(|key| self.get(key, at)).cloned().collect()
    }

    fn put(&mut self, put: &Put<'_>, location: Location) -> Result<Option<KeyValue>, Refusal> {
        let old = self.get(put.key, i64::MAX).cloned();
        if (put.ignore_lease || put.ignore_value) && old.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let mut left = KeyValue {
            key: Bytes::copy_from_slice(put.key),
            create_revision: old.as_ref().map_or(location.main, |old| old.create_revision),
            mod_revision: location.main,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: put.lease,
            value: put.value.clone(),
        };
        if let Some(old) = &old {
            if put.ignore_value {
                left.value = old.value.clone();
            }
            if put.ignore_lease {
                left.lease = old.lease;
            }
        }
        self.changes.push(Change { location, key: left.key.clone(), left: Some(left) });
        self.revision = location.main.0;
        Ok(old.filter(|_| put.prev_kv))
    }

    fn delete(&mut self, range: KeyRange<'_>, first: Location) -> Vec<KeyValue> {
        let gone = self.all(range, i64::MAX);
        for (sub, row) in (first.sub..).zip(&gone) {
            let location = Location { sub, ..first };
            self.changes.push(Change { location, key: row.key.clone(), left: None });
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
        rows.retain(|row| bounds[0] == 0 || row.mod_revision.0 >= bounds[0]);
        rows.retain(|row| bounds[1] == 0 || row.mod_revision.0 <= bounds[1]);
        rows.retain(|row| bounds[2] == 0 || row.create_revision.0 >= bounds[2]);
        rows.retain(|row| bounds[3] == 0 || row.create_revision.0 <= bounds[3]);
        rows.sort_by(|left, right| {
            let order = match query.target {
                SortTarget::Key => left.key.cmp(&right.key),
                SortTarget::Version => left.version.cmp(&right.version),
                SortTarget::Create => left.create_revision.cmp(&right.create_revision),
                SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
                SortTarget::Value => left.value.cmp(&right.value),
            };
            if query.order == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = limit.is_some_and(|limit| rows.len() > limit);
        rows.truncate(limit.unwrap_or(usize::MAX));
        for row in &mut rows {
            if query.keys_only {
                row.value = Bytes::new();
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
    prev_kv: bool,
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
    let put = (key(), 0..3_u8, 0..3_i64, rarely(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutStep {
            key,
            value,
            lease,
            prev_kv,
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

fn write(keyspace: &mut Keyspace, model: &mut Model, changes: &[ChangeStep]) {
    let before = model.revision;
    let mut write = keyspace.write();
    for change in changes {
        let location = write.next();
        assert_eq!(location.main, Revision(before + 1));
        match change {
            ChangeStep::Put(step) => {
                let value = if step.ignore_value { 0 } else { step.value };
                let put = Put {
                    key: &step.key,
                    value: Bytes::from(vec![b'v'; value.into()]),
                    lease: LeaseId(if step.ignore_lease { 0 } else { step.lease }),
                    prev_kv: step.prev_kv,
                    ignore_value: step.ignore_value,
                    ignore_lease: step.ignore_lease,
                };
                let checked = write.keyspace().check_put(&put, |_| true);
                let done = write.put(&put, |_| true);
                assert_eq!(checked, done.clone().map(|_| ()));
                assert_eq!(done, model.put(&put, location));
            }
            ChangeStep::Delete(start, end) => {
                let range = KeyRange::new(start, end);
                let deleted = write.delete_range(range, true);
                assert_eq!(deleted.rows, model.delete(range, location));
                assert_eq!(deleted.count, i64::try_from(deleted.rows.len()).expect("few"));
            }
        }
        assert_eq!(write.keyspace().revision(), Revision(model.revision));
        let all = RangeQuery::new(KeyRange::From(b"\0"));
        assert_eq!(write.keyspace().range(&all), model.range(&all), "a write sees itself");
    }
    let changed = (model.revision > before).then_some(Revision(model.revision));
    assert_eq!(write.finish(), changed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_keyspace_agrees_with_a_list_of_changes(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let (mut keyspace, mut model) = (Keyspace::new(), Model::new());
        // A replica that removes everything as soon as it may.
        let mut eager = Keyspace::new();
        let mut replayed = Model::new();
        for step in &steps {
            match step {
                Step::Write(changes) => {
                    write(&mut keyspace, &mut model, changes);
                    write(&mut eager, &mut replayed, changes);
                }
                Step::Range(step) => {
                    let query = query(step, model.revision);
                    let answer = keyspace.range(&query);
                    assert_eq!(answer, model.range(&query), "{query:?}");
                    assert_eq!(answer, eager.range(&query), "{query:?}");
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
                    assert_eq!(keyspace.compact(Revision(revision)), expected);
                    assert_eq!(eager.compact(Revision(revision)), expected);
                    while eager.compact_step(100) {}
                    eager.check_all();
                }
                Step::Remove(budget) => {
                    keyspace.compact_step(*budget);
                }
            }
            keyspace.check_all();
            assert_eq!(keyspace.digest(), eager.digest(), "removal does not show");
        }
    }
}

fn put(keyspace: &mut Keyspace, key: &str, value: &str) -> Revision {
    let mut write = keyspace.write();
    let value = Bytes::copy_from_slice(value.as_bytes());
    write.put(&Put::new(key.as_bytes(), value), |_| false).expect("a plain put is never refused");
    write.finish().expect("a put changes something")
}

fn delete(keyspace: &mut Keyspace, key: &str, range_end: &str) -> i64 {
    let range = KeyRange::new(key.as_bytes(), range_end.as_bytes());
    keyspace.write().delete_range(range, false).count
}

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|row| std::str::from_utf8(&row.key).expect("keys are text")).collect()
}

/// As etcd 3.7.3 answered the same requests: a=3, b=1, c=2.
fn three() -> Keyspace {
    let mut keyspace = Keyspace::new();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
        put(&mut keyspace, key, value);
    }
    keyspace
}

#[test]
fn a_fresh_keyspace_is_at_one_and_its_first_write_at_two() {
    let mut keyspace = Keyspace::new();
    assert_eq!((keyspace.revision(), keyspace.compacted()), (Revision(1), None));
    assert_eq!(delete(&mut keyspace, "a", ""), 0);
    assert_eq!(keyspace.revision(), Revision(1), "nothing deleted is no revision");
    assert_eq!(put(&mut keyspace, "a", "1"), Revision(2));
}

#[test]
fn a_key_made_anew_starts_over() {
    let mut keyspace = Keyspace::new();
    put(&mut keyspace, "a", "1");
    put(&mut keyspace, "a", "2");
    assert_eq!(delete(&mut keyspace, "a", ""), 1);
    put(&mut keyspace, "a", "3");
    let row = &keyspace.range(&RangeQuery::new(KeyRange::One(b"a"))).expect("it is there").rows[0];
    assert_eq!((row.create_revision, row.mod_revision, row.version), (Revision(5), Revision(5), 1));
}

#[test]
fn without_an_order_the_limit_cuts_before_the_sort() {
    let keyspace = three();
    let all =
        RangeQuery { limit: 1, target: SortTarget::Value, ..RangeQuery::new(KeyRange::From(b"a")) };
    let page = keyspace.range(&all).expect("nothing is wrong with it");
    assert_eq!(keys(&page), ["b"], "of a and b, the two that were fetched");
    assert_eq!((page.more, page.count), (true, 3));
    let mut keyspace = three();
    put(&mut keyspace, "d", "0");
    let page = keyspace.range(&all).expect("nothing is wrong with it");
    assert_eq!(keys(&page), ["b"]);
    let ordered = RangeQuery { order: SortOrder::Ascend, ..all };
    assert_eq!(keys(&keyspace.range(&ordered).expect("nothing is wrong with it")), ["d"]);
}

#[test]
fn keys_alone_come_without_a_lease_unless_sorted_by_value() {
    let mut keyspace = Keyspace::new();
    let attached = Put { lease: LeaseId(7), ..Put::new(b"a", Bytes::from_static(b"1")) };
    keyspace.write().put(&attached, |lease| lease == LeaseId(7)).expect("the lease exists");
    let query = RangeQuery { keys_only: true, ..RangeQuery::new(KeyRange::One(b"a")) };
    let row = |query| keyspace.range(query).expect("it is there").rows.remove(0);
    assert_eq!((row(&query).lease, row(&query).value), (LeaseId(0), Bytes::new()));
    let by_value = RangeQuery { target: SortTarget::Value, ..query };
    assert_eq!((row(&by_value).lease, row(&by_value).value), (LeaseId(7), Bytes::new()));
}

#[test]
fn a_missing_lease_is_refused_before_a_missing_key() {
    let mut keyspace = Keyspace::new();
    let both = Put { ignore_value: true, lease: LeaseId(1), ..Put::new(b"a", Bytes::new()) };
    assert_eq!(keyspace.write().put(&both, |_| false), Err(Refusal::LeaseNotFound));
    assert_eq!(keyspace.write().put(&both, |_| true), Err(Refusal::KeyNotFound));
    assert_eq!(keyspace.revision(), Revision(1), "a refusal changes nothing");
}

#[test]
fn a_put_that_makes_no_sense_is_told_which_part() {
    let put = Put::new(b"", Bytes::from_static(b"v"));
    assert_eq!(put.validate(), Err(Refusal::EmptyKey));
    let put = Put { key: b"k", ignore_value: true, ignore_lease: true, lease: LeaseId(1), ..put };
    assert_eq!(put.validate(), Err(Refusal::ValueProvided));
    let put = Put { value: Bytes::new(), ..put };
    assert_eq!(put.validate(), Err(Refusal::LeaseProvided));
    assert_eq!(Put { lease: LeaseId(0), ..put }.validate(), Ok(()));
    let keyspace = Keyspace::new();
    let empty = RangeQuery::new(KeyRange::One(b""));
    assert_eq!(keyspace.range(&empty), Err(Refusal::EmptyKey));
    assert_eq!(SortOrder::try_from(3), Err(Refusal::InvalidSortOption));
    assert_eq!(SortTarget::try_from(-1), Err(Refusal::InvalidSortOption));
}

#[test]
fn the_compacted_revision_is_still_read() {
    let mut keyspace = three();
    put(&mut keyspace, "a", "4");
    assert_eq!(keyspace.compact(Revision(6)), Err(Refusal::FutureRevision));
    assert_eq!(keyspace.compact(Revision(0)), Ok(()));
    assert_eq!(keyspace.compact(Revision(0)), Err(Refusal::Compacted));
    assert_eq!(keyspace.compact(Revision(-3)), Err(Refusal::Compacted));
    assert_eq!(keyspace.compact(Revision(4)), Ok(()));
    while keyspace.compact_step(1) {}
    let at = |revision| RangeQuery { revision, ..RangeQuery::new(KeyRange::One(b"a")) };
    assert_eq!(keyspace.range(&at(3)), Err(Refusal::Compacted));
    assert_eq!(keyspace.range(&at(6)), Err(Refusal::FutureRevision));
    assert_eq!(keyspace.range(&at(4)).expect("it is the floor").rows[0].value, "3");
    assert_eq!(keyspace.range(&at(-9)).expect("it means now").rows[0].value, "4");
    assert_eq!(keyspace.compacted(), Some(Revision(4)));
}

#[test]
fn pages_add_up_to_the_whole() {
    let mut keyspace = Keyspace::new();
    for number in 0..500 {
        put(&mut keyspace, &format!("k{number:03}"), "v");
    }
    let pinned = keyspace.revision().0;
    let (mut start, mut seen) = (b"k".to_vec(), Vec::new());
    loop {
        // Keys come and go between pages; the pages are of one revision.
        delete(&mut keyspace, &format!("k{:03}", seen.len() + 3), "");
        let range = KeyRange::Span { start: &start, end: b"l" };
        let query = RangeQuery { limit: 60, revision: pinned, ..RangeQuery::new(range) };
        let page = keyspace.range(&query).expect("the revision is there");
        assert_eq!(page.count, 500 - i64::try_from(seen.len()).expect("few"));
        seen.extend(page.rows.iter().map(|row| row.key.clone()));
        if !page.more {
            break;
        }
        start = [seen.last().expect("a page is not empty"), &b"\0"[..]].concat();
    }
    assert_eq!(seen, (0..500).map(|number| format!("k{number:03}")).collect::<Vec<_>>());
}
