//! The tree against `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

/// Every change of every key: revision and whether it was a put.
type Model = BTreeMap<Vec<u8>, Vec<(i64, bool)>>;

fn at(main: i64) -> Location {
    Location { main: Revision(main), sub: 0 }
}

/// A generator of test keys that needs no crate: the splitmix64 sequence.
struct Mix(u64);

impl Mix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("the bound fits")
    }
}

fn present(model: &Model, key: &[u8], revision: i64) -> bool {
    let changes = model.get(key).map_or(&[][..], Vec::as_slice);
    changes.iter().rev().find(|change| change.0 <= revision).is_some_and(|change| change.1)
}

fn within<'m>(model: &'m Model, range: KeyRange<'_>, revision: i64) -> Vec<&'m [u8]> {
    let all = model.range::<[u8], _>((Bound::Included(range.start()), Bound::Unbounded));
    all.map(|(key, _)| key.as_slice())
        .filter(|key| range.contains(key) && present(model, key, revision))
        .collect()
}

fn agree(index: &Index, model: &Model, range: KeyRange<'_>, revision: i64, skip: usize) {
    let expected = within(model, range, revision);
    assert_eq!(index.count(range, Revision(revision)), expected.len() as u64, "{range:?}");
    let mut seen = Vec::new();
    let all = Slice::new(range, Revision(revision));
    let rest = index.walk(&all, |key, _| {
        seen.push(key);
        ControlFlow::Continue(())
    });
    assert_eq!((rest, &seen), (None, &expected), "{range:?}");
    // The same in slices, with a visitor that takes a few at a time.
    for down in [false, true] {
        let (mut slice, mut sliced) = (Slice { down, budget: 1 + skip, ..all }, Vec::new());
        while let Some(next) = {
            let due = sliced.len() + 1 + skip;
            index.walk(&slice, |key, _| {
                if sliced.len() == due {
                    return ControlFlow::Break(());
                }
                sliced.push(key);
                ControlFlow::Continue(())
            })
        } {
            slice.resume = Some(next);
        }
        if down {
            sliced.reverse();
        }
        assert_eq!(sliced, expected, "{range:?} in slices, down: {down}");
    }
    let (mut slice, mut counted) = (Slice { budget: 1 + skip, ..all }, 0);
    loop {
        let (count, rest) = index.count_slice(&slice);
        counted += count;
        let Some(next) = rest else { break };
        slice.resume = Some(next);
    }
    assert_eq!(counted, expected.len() as u64, "{range:?} counted in slices");
}

/// Checks the changes of a range from `since` on, at once and in slices.
fn agree_on_changes(index: &Index, model: &Model, range: KeyRange<'_>, since: i64, budget: usize) {
    let changes = model.iter().filter(|(key, _)| range.contains(key)).flat_map(|(key, changes)| {
        let changes = changes.iter().filter(|change| change.0 >= since);
        changes.map(move |(main, is_put)| (&key[..], *main, *is_put))
    });
    let expected: Vec<_> = changes.collect();
    for budget in [usize::MAX, budget + 1] {
        let mut slice = Slice { budget, ..Slice::new(range, Revision(since)) };
        let mut told = Vec::new();
        while let Some(next) = index.changed(&slice, |key, location, found| {
            assert!(found.is_none_or(|found| found.location == location));
            told.push((key, location.main.0, found.is_some()));
            ControlFlow::Continue(())
        }) {
            slice.resume = Some(next);
        }
        assert_eq!(told, expected, "{range:?} since {since}");
    }
}

/// Short keys over few letters, among them prefixes of one another, zeros, and long common ones.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(prop::sample::select(vec![0, 1, b'a', b'b', 255]), 0..5);
    let prefix = prop::sample::select(vec!["", "k", "/registry/pods/default/", "/registry/q"]);
    (prefix, tail).prop_map(|(prefix, tail)| [prefix.as_bytes(), &tail].concat())
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Bury(Vec<u8>, Vec<u8>),
    Compact(u8, usize),
    Look(Vec<u8>, Vec<u8>, u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Put),
        2 => (key(), key()).prop_map(|(start, end)| Step::Bury(start, end)),
        1 => (any::<u8>(), 1..40_usize).prop_map(|(back, budget)| Step::Compact(back, budget)),
        2 => (key(), key(), any::<u8>(), 0..40_usize)
            .prop_map(|(start, end, back, skip)| Step::Look(start, end, back, skip)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_agrees_with_a_map(steps in prop::collection::vec(step(), 1..600)) {
        let (mut index, mut model) = (Index::new(), Model::new());
        let (mut now, mut floor) = (1, 0);
        for step in steps {
            match step {
                Step::Put(key) => {
                    now += 1;
                    let before = present(&model, &key, now);
                    assert_eq!(index.put(&key, at(now)).is_some(), before);
                    model.entry(key).or_default().push((now, true));
                }
                Step::Bury(start, end) => {
                    now += 1;
                    let range = KeyRange::new(&start, &end);
                    let gone: Vec<_> =
                        within(&model, range, now).into_iter().map(<[u8]>::to_vec).collect();
                    let mut told = Vec::new();
                    let next = index.bury(range, at(now), |key, _, _| told.push(key.to_vec()));
                    assert_eq!(told, gone);
                    assert_eq!(next as usize, gone.len());
                    for key in gone {
                        model.entry(key).or_default().push((now, false));
                    }
                }
                Step::Compact(back, budget) => {
                    floor = floor.max(now - i64::from(back));
                    index.compact(Revision(floor), budget, |_| ());
                }
                Step::Look(start, end, back, skip) => {
                    let revision = floor.max(now - i64::from(back));
                    let range = KeyRange::new(&start, &end);
                    agree(&index, &model, range, revision, skip);
                    agree_on_changes(&index, &model, range, revision, skip);
                    assert_eq!(
                        index.get_at(&start, Revision(revision)).is_some(),
                        present(&model, &start, revision)
                    );
                }
            }
        }
        index.check_all();
        agree(&index, &model, KeyRange::From(b""), now, 0);
        assert_eq!(index.live(), within(&model, KeyRange::From(b""), now).len() as u64);
        while index.compact(Revision(now + 1), 7, |_| ()) {
            index.check_all();
        }
        agree(&index, &model, KeyRange::From(b""), now, 0);
        let mut keys = 0;
        index.each(|_, _| keys += 1);
        assert_eq!(index.live(), keys, "what is dead is gone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn many_changes_at_once_are_the_same_as_one_by_one(
        batches in prop::collection::vec((1..600_usize, 1..4000_usize), 1..12),
        seed in any::<u64>(),
    ) {
        let (mut whole, mut single) = (Index::new(), Index::new());
        let (mut mix, mut main, mut lives) = (Mix(seed), 1, BTreeMap::new());
        for (count, spread) in batches {
            let mut changes = Vec::new();
            for _ in 0..count {
                main += 1;
                let key = format!("/registry/{:04}", mix.below(spread)).into_bytes();
                // The last number is the version; some changes before it are missing.
                let (created, version) = lives.get(&key).copied().unwrap_or((main, 0));
                let next = match mix.below(8) {
                    0 if version > 0 => (0, 0),
                    1 => (main - 1, 7),
                    _ if version > 0 => (created, version + 1),
                    _ => (main, 1),
                };
                lives.insert(key.clone(), next);
                changes.push((key, at(main), Revision(next.0), next.1));
            }
            let mut told = [Vec::new(), Vec::new()];
            for (key, location, created, version) in &changes {
                let told = |location: Location| told[0].push(location);
                single.restore(key, *location, *created, *version, told);
            }
            changes.sort();
            let filed = changes.iter().map(|(key, location, created, version)| Filed {
                key,
                location: *location,
                created: *created,
                version: *version,
            });
            let filed: Vec<_> = filed.collect();
            whole.restore_all(&filed, |location| told[1].push(location));
            told.iter_mut().for_each(|told| told.sort());
            assert_eq!(told[0], told[1]);
            whole.check_all();
        }
        let all = [&whole, &single].map(|index| {
            let mut all = Vec::new();
            index.each(|key, history| {
                history.each(0, |location, found| all.push((key, location, found)));
            });
            all
        });
        assert_eq!(all[0], all[1]);
        assert_eq!(whole.live(), single.live());
    }
}

#[test]
fn a_hundred_thousand_random_keys_are_found_counted_and_forgotten() {
    let (mut index, mut mix) = (Index::new(), Mix(7));
    let mut keys: Vec<[u8; 8]> = (0..100_000).map(|_| mix.next().to_be_bytes()).collect();
    for (revision, key) in (2..).zip(&keys) {
        assert_eq!(index.put(key, at(revision)), None);
    }
    index.check_all();
    let last_of = |key: &[u8; 8]| index.get(key).map(|found| found.location.main.0);
    assert!((2..).zip(&keys).all(|(revision, key)| last_of(key) == Some(revision)));
    keys.sort_unstable();
    for _ in 0..300 {
        let [one, other] = [(); 2].map(|()| mix.below(keys.len()));
        let (low, high) = (one.min(other), one.max(other));
        let range = KeyRange::Span { start: &keys[low], end: &keys[high] };
        assert_eq!(index.count(range, Revision(200_000)), (high - low) as u64);
        for (down, end) in [(false, low), (true, high.saturating_sub(1))] {
            let slice = Slice { down, ..Slice::new(range, Revision(200_000)) };
            let first = index.walk(&slice, |_, _| ControlFlow::Break(()));
            assert_eq!(first, (low < high).then_some(keys[end].as_slice()));
        }
    }
    let end = keys[90_000];
    let range = KeyRange::Span { start: &[], end: &end };
    assert_eq!(index.bury(range, at(200_000), |_, _, _| ()), 90_000);
    index.check_all();
    assert_eq!(index.count(KeyRange::From(&[]), Revision(199_999)), 100_000);
    assert_eq!(index.live(), 10_000);
    let mut forgotten = 0;
    while index.compact(Revision(200_001), 1000, |_| forgotten += 1) {}
    index.check_all();
    assert_eq!(forgotten, 180_000, "each put and its tombstone");
    let mut left = 0;
    index.each(|_, _| left += 1);
    assert_eq!(left, 10_000);
}

#[test]
fn ascending_keys_fill_the_leaves() {
    let mut index = Index::new();
    for number in 0..10_000_u32 {
        index.put(format!("/registry/pods/{number:08}").as_bytes(), at(i64::from(number) + 2));
    }
    index.check_all();
    let size = index.heap_size() / 10_000;
    assert!(size < 23 + 90, "{size} bytes a key");
}

#[test]
fn a_read_of_the_past_walks_only_what_has_changed_since() {
    let mut index = Index::new();
    for number in 0..1000_i64 {
        index.put(format!("{number:04}").as_bytes(), at(number + 2));
    }
    index.put(b"0500", at(2000));
    index.bury(KeyRange::One(b"0501"), at(2001), |_, _, _| ());
    assert_eq!(index.count(KeyRange::From(b""), Revision(1999)), 1000);
    assert_eq!(index.count(KeyRange::From(b""), Revision(2001)), 999);
    assert_eq!(index.count(KeyRange::From(b""), Revision(501)), 500);
    let found = index.get_at(b"0500", Revision(1999)).expect("it was there");
    assert_eq!(found.version, 1);
}

#[test]
fn what_has_not_changed_is_not_looked_at_for_changes() {
    let mut index = Index::new();
    for number in 0..100_000_i64 {
        index.put(format!("{number:06}").as_bytes(), at(number + 2));
    }
    for (key, main) in [("000007", 200_000), ("050000", 200_001), ("050000", 200_002)] {
        index.put(key.as_bytes(), at(main));
    }
    let all = Slice { budget: 100, ..Slice::new(KeyRange::From(b""), Revision(200_000)) };
    let mut seen = Vec::new();
    let rest = index.changed(&all, |key, location, _| {
        seen.push((key, location.main.0));
        ControlFlow::Break(())
    });
    assert_eq!(rest, None, "two leaves are in the budget");
    assert_eq!(seen, [(&b"000007"[..], 200_000), (b"050000", 200_001)], "one of each key");
}

#[test]
fn a_tree_that_grows_and_shrinks_stays_whole() {
    let (mut index, mut mix) = (Index::new(), Mix(11));
    let (mut live, mut revision) = (BTreeMap::new(), 1);
    let key = |n: usize| format!("/registry/kind-{}/namespace-{}/{n:05}", n % 3, n / 40 % 50);
    for round in 0..12 {
        for _ in 0..3000 {
            revision += 1;
            let key = key(mix.below(20_000));
            index.put(key.as_bytes(), at(revision));
            live.insert(key, revision);
        }
        // Later rounds delete more than is put.
        for _ in 0..round {
            revision += 1;
            let (start, end) = (key(mix.below(20_000)), key(mix.below(20_000)));
            let range = KeyRange::Span { start: start.as_bytes(), end: end.as_bytes() };
            index.bury(range, at(revision), |_, _, _| ());
            live.retain(|key, _| !range.contains(key.as_bytes()));
        }
        index.check_all();
        while index.compact(Revision(revision), 500, |_| ()) {}
        index.check_all();
        let mut seen = Vec::new();
        let all = Slice::new(KeyRange::From(b"\0"), Revision(revision));
        index.walk(&all, |key, found| {
            seen.push((key, found.location.main.0));
            ControlFlow::Continue(())
        });
        assert!(seen.into_iter().eq(live.iter().map(|(key, main)| (key.as_bytes(), *main))));
    }
    revision += 1;
    index.bury(KeyRange::From(b"\0"), at(revision), |_, _, _| ());
    while index.compact(Revision(revision + 1), 100, |_| ()) {}
    index.check_all();
    assert!(index.heap_size() < 1000, "an empty tree is one leaf");
}
