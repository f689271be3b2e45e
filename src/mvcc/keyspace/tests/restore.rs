//! A keyspace restored from files against the one that was not restarted.

use super::*;
use crate::mvcc::Misfit;
use crate::mvcc::Restoring;

/// Changes as files hold them.
#[derive(Clone, Debug, Default)]
struct Segment {
    changes: Vec<Change>,
    /// The floor at which none of them is dead.
    swept: i64,
}

/// The files, and what they were at the last seal.
#[derive(Clone, Debug, Default)]
struct Files {
    segments: Vec<Segment>,
    /// Revision and floor of the last seal.
    sealed: Option<(Revision, Option<Revision>)>,
}

impl Files {
    /// Everything that is not in a file goes into a new one.
    fn seal(&mut self, replica: &Replica) {
        let last = self.segments.iter().rev().find_map(|segment| segment.changes.last());
        let last = last.map_or(Location::default(), |change| change.location);
        let sealed = self.sealed.map_or(Revision(0), |(revision, _)| revision);
        let new = replica.records.0.values().filter(|c| c.location > last);
        let changes: Vec<_> = new.filter(|c| c.location.main > sealed).cloned().collect();
        self.segments.push(Segment { changes, swept: 0 });
        self.sealed = Some((replica.keyspace.revision(), replica.keyspace.compacted()));
    }

    /// Rewrites a segment without what may be left out; `floor` is where removal has ended.
    fn clean(&mut self, index: usize, replica: &Replica, floor: Option<Revision>) {
        let earlier = self.segments[..index].iter().map(|segment| segment.swept).min();
        let segment = &mut self.segments[index];
        let mut swept = floor.map_or(segment.swept, |floor| floor.0);
        segment.changes.retain(|change| {
            if replica.keyspace.knows(&change.key, change.location) {
                return true;
            }
            let main = change.location.main.0;
            let may_hide = change.version == 0 && earlier.is_some_and(|earlier| earlier <= main);
            if may_hide {
                swept = swept.min(main);
            }
            may_hide
        });
        segment.swept = swept;
    }

    /// A replica as the next start finds it.
    fn restore(&self) -> Replica {
        let mut records = Map::default();
        let changes = self.segments.iter().flat_map(|segment| &segment.changes);
        let is_sliced = self.segments.len().is_multiple_of(2);
        let mut restoring = if is_sliced { Restoring::in_slices() } else { Restoring::new() };
        for change in changes {
            records.push(change.clone(), None);
            let Change { location, ref key, created, version, .. } = *change;
            let told = |location| records.forget(location);
            restoring.add(location, key, created, version, told).expect("files are in order");
        }
        let (revision, floor) = self.sealed.unwrap_or((FIRST, None));
        let told = |location| records.forget(location);
        let keyspace = restoring.finish(revision, floor, told).expect("the state fits");
        Replica { keyspace, records }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<ChangeStep>),
    Compact(i64),
    Seal,
    /// Removes changes up to the sealed floor, some or all.
    Remove(usize),
    Clean(prop::sample::Index),
    Restart,
}

/// Few keys, so that they are overwritten, deleted and made anew.
fn few() -> impl Strategy<Value = ChangeStep> {
    let key = || prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"c\0".to_vec()]);
    let put = (key(), 0..9_u8).prop_map(|(key, value)| {
        ChangeStep::Put(PutStep { key, value, lease: 0, ignore_value: false, ignore_lease: false })
    });
    prop_oneof![
        3 => put,
        1 => (key(), end()).prop_map(|(start, end)| ChangeStep::Delete(start, end)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => few().prop_map(|change| Step::Write(vec![change])),
        1 => prop::collection::vec(few(), 0..6).prop_map(Step::Write),
        2 => (0..6_i64).prop_map(Step::Compact),
        2 => Just(Step::Seal),
        2 => prop_oneof![1..4_usize, Just(1000)].prop_map(Step::Remove),
        3 => any::<prop::sample::Index>().prop_map(Step::Clean),
        1 => Just(Step::Restart),
    ]
}

/// Does again what the log has after the last seal.
fn replay(replica: &mut Replica, model: &Model, log: &[Step]) {
    for step in log {
        match step {
            Step::Write(changes) => {
                let revision = replica.keyspace.revision().0;
                let known = |event: &&Event| event.location.main.0 <= revision;
                let changes_so_far = model.changes.iter().filter(known).cloned().collect();
                let mut past = Model { changes: changes_so_far, revision, floor: -1 };
                write(replica, &mut past, changes);
            }
            Step::Compact(revision) => {
                assert_eq!(replica.keyspace.compact(Revision(*revision)), Ok(()));
            }
            Step::Seal | Step::Remove(_) | Step::Clean(_) | Step::Restart => {
                unreachable!("the log has none of these")
            }
        }
    }
}

/// What a reader sees of `replica` at every revision that it may ask for.
fn views(replica: &Replica) -> Vec<Result<Page, Refusal>> {
    let at = |revision| RangeQuery { revision, ..RangeQuery::new(KeyRange::From(b"\0")) };
    (1..=replica.keyspace.revision().0 + 1).map(|revision| replica.range(&at(revision))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_cleaned_a_restart_reads_the_same(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let (mut replica, mut model) = (Replica::default(), Model::new());
        let (mut files, mut log) = (Files::default(), Vec::new());
        let mut removed = None;
        for step in steps {
            match step {
                Step::Write(changes) => {
                    write(&mut replica, &mut model, &changes);
                    log.push(Step::Write(changes));
                }
                Step::Compact(back) => {
                    let revision = model.revision - back;
                    if replica.keyspace.compact(Revision(revision)).is_ok() {
                        log.push(Step::Compact(revision));
                    }
                }
                Step::Seal => {
                    files.seal(&replica);
                    log.clear();
                }
                Step::Remove(budget) => {
                    if let Some((_, Some(floor))) = files.sealed
                        && !replica.compact_step(floor, budget)
                    {
                        removed = Some(floor);
                    }
                }
                Step::Clean(index) => {
                    if !files.segments.is_empty() {
                        files.clean(index.index(files.segments.len()), &replica, removed);
                    }
                }
                Step::Restart => {
                    let mut again = files.restore();
                    again.check_all();
                    replay(&mut again, &model, &log);
                    again.check_all();
                    assert_eq!(views(&again), views(&replica));
                    assert_eq!(again.digest(), replica.digest());
                    // What it knows beyond the other is dead, and is removed as such.
                    let floor = replica.keyspace.compacted().unwrap_or(NO_FLOOR);
                    while again.compact_step(floor, 10) {}
                    replica.compact_all();
                    assert!(again.records.0.keys().eq(replica.records.0.keys()));
                    again = files.restore();
                    replay(&mut again, &model, &log);
                    (replica, removed) = (again, None);
                }
            }
            replica.check_all();
        }
    }
}

#[test]
fn changes_that_no_keyspace_leaves_are_refused() {
    let at = |main, sub| Location { main: Revision(main), sub };
    let mut restoring = Restoring::new();
    let mut add = |location, key: &[u8], created, version| {
        restoring.add(location, key, Revision(created), version, |_| panic!("nothing is dead"))
    };
    assert_eq!(add(at(3, 1), b"a", 3, 1), Ok(()));
    for (location, created, version) in
        [(at(4, 0), 5, 1), (at(4, 0), -1, 1), (at(4, 0), 4, -1), (at(4, u32::MAX), 4, 1)]
    {
        let created = Revision(created);
        let misfit = Misfit::Numbers { at: location, created, version };
        assert_eq!(add(location, b"b", created.0, version), Err(misfit));
    }
    assert_eq!(add(at(4, 0), b"", 4, 1), Err(Misfit::Key { at: at(4, 0) }));
    assert_eq!(add(at(4, 0), b"b", 2, i64::MAX), Ok(()));
    let order = Misfit::Order { at: at(3, 2), last: at(4, 0) };
    assert_eq!(add(at(3, 2), b"a", 3, 2), Err(order));
    assert_eq!(order.to_string(), "a change at 3.2 follows one at 4.0");
    let state = |revision, floor| {
        let mut restoring = Restoring::new();
        restoring.add(at(4, 0), b"a", Revision(4), 1, |_| ()).expect("it is the first");
        restoring.finish(Revision(revision), floor, |_| ()).map(|keyspace| keyspace.revision().0)
    };
    assert_eq!(state(4, Some(Revision(4))), Ok(4));
    assert!(state(3, None).is_err() && state(5, Some(Revision(6))).is_err());
}

#[test]
fn a_life_of_which_the_beginning_is_gone_goes_on() {
    let mut restoring = Restoring::new();
    let at = |main| Location { main: Revision(main), sub: 0 };
    let mut gone = Vec::new();
    let changes = [(5, 2, 3), (6, 2, 4), (9, 2, 6), (12, 0, 0), (15, 14, 2), (16, 0, 0)];
    for (main, created, version) in changes {
        let told = |location: Location| gone.push(location.main.0);
        restoring.add(at(main), b"k", Revision(created), version, told).expect("they fit");
    }
    let keyspace = restoring.finish(Revision(16), Some(Revision(14)), |_| ()).expect("it fits");
    assert_eq!(gone, [5, 6, 9, 12], "what a gap follows is dead");
    keyspace.check_all();
    let found = keyspace.get_at(b"k", Revision(15)).expect("it is there then");
    assert_eq!((found.created, found.version), (Revision(14), 2));
    assert_eq!((keyspace.get(b"k"), keyspace.live()), (None, 0));
}
