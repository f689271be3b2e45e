//! The registry against a list of watchers, and what it takes.

use proptest::prelude::*;

use super::*;

/// A watcher and the range it watches, as etcd writes it.
type Watcher = (u32, Vec<u8>, Vec<u8>);

/// Watchers in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Model(Vec<Watcher>);

impl Model {
    fn seeing(&self, key: &[u8]) -> Vec<u32> {
        let mut seeing: Vec<_> = (self.0.iter())
            .filter(|(_, start, end)| KeyRange::new(start, end).contains(key))
            .collect();
        seeing.sort_by_key(|(_, start, end)| match KeyRange::new(start, end) {
            KeyRange::One(_) => (0, &[][..], 0, &[][..]),
            KeyRange::Span { start, end } => (1, start, 0, end),
            KeyRange::From(start) => (1, start, 1, &[][..]),
        });
        seeing.into_iter().map(|(watcher, ..)| *watcher).collect()
    }

    /// Every start and end, and the keys beside them.
    fn borders(&self) -> Vec<Vec<u8>> {
        let keys = self.0.iter().flat_map(|(_, start, end)| [start, end]);
        keys.flat_map(|key| {
            let below = &key[..key.len().saturating_sub(1)];
            [key.clone(), [key, &[0][..]].concat(), below.to_vec(), [below, &[255]].concat()]
        })
        .collect()
    }
}

/// The registry and its model, which are told the same.
struct Pair {
    watchers: Watchers,
    model: Model,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self { watchers: Watchers::new(seed), model: Model::default() }
    }

    fn insert(&mut self, watcher: u32, start: &[u8], end: &[u8]) {
        self.watchers.insert(watcher, KeyRange::new(start, end));
        self.model.0.push((watcher, start.to_vec(), end.to_vec()));
    }

    fn remove_nth(&mut self, nth: usize) {
        let (watcher, ..) = self.model.0.remove(nth);
        self.watchers.remove(watcher);
        assert_eq!(self.watchers.range(watcher), None);
    }

    fn agree(&self, key: &[u8]) {
        let mut seen = Vec::new();
        self.watchers.seeing(key, |watcher| seen.push(watcher));
        assert_eq!(seen, self.model.seeing(key), "{key:?}");
        self.look_at_few(key);
    }

    /// A search for spans looks at no more nodes than there are on a way down for each it finds.
    fn look_at_few(&self, key: &[u8]) {
        let mut found = 0;
        let looks = self.watchers.spans.seeing(key, &mut |_| found += 1);
        let spans_max = self.model.0.len();
        let height_max = 2 * usize::try_from((spans_max + 1).ilog2()).expect("it is small");
        let looks_max = 2 * height_max * (found + 1);
        assert!(looks <= looks_max, "{looks} looks at {spans_max} spans for {found}");
    }

    fn check_all(&self) {
        self.watchers.check_all();
        assert_eq!(self.watchers.len(), self.model.0.len());
        assert_eq!(self.watchers.is_empty(), self.model.0.is_empty());
        for (watcher, start, end) in &self.model.0 {
            assert_eq!(self.watchers.range(*watcher), Some(KeyRange::new(start, end)));
        }
    }
}

/// The end of the range of keys that begin with `prefix`, as clients make it.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < 255) {
        Some(at) => [&prefix[..at], &[prefix[at] + 1]].concat(),
        None => vec![0],
    }
}

/// Short keys over few letters, among them prefixes of one another, zeros, and long common ones.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(prop::sample::select(vec![0, 1, b'a', b'b', 254, 255]), 0..4);
    let prefix = prop::sample::select(vec!["", "k", "/registry/pods/default/", "/registry/q"]);
    (prefix, tail).prop_map(|(prefix, tail)| [prefix.as_bytes(), &tail].concat())
}

/// A key and an end as etcd writes them, of a range that is not empty.
fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let between = (key(), key()).prop_map(|(one, other)| {
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        // An end of one zero byte would be no end.
        let is_span = low < high && high != [0];
        let end = if is_span { high } else { [&low[..], &[1]].concat() };
        (low, end)
    });
    prop_oneof![
        5 => key().prop_map(|key| (key, Vec::new())),
        4 => between,
        3 => key().prop_map(|key| { let end = after_prefix(&key); (key, end) }),
        1 => key().prop_filter_map("a span has keys", |key| {
            (!key.is_empty()).then(|| { let end = [&key[..], &[0]].concat(); (key, end) })
        }),
        1 => key().prop_map(|key| (key, vec![0])),
        1 => Just((vec![0], vec![0])),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, (Vec<u8>, Vec<u8>)),
    Remove(prop::sample::Index),
    RemoveMost,
    Look(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..200_u32, range()).prop_map(|(watcher, range)| Step::Insert(watcher, range)),
        40 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => Just(Step::RemoveMost),
        30 => key().prop_map(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_agrees_with_a_list(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..500),
    ) {
        let mut pair = Pair::new(seed);
        for step in steps {
            match step {
                Step::Insert(watcher, (start, end)) => {
                    if pair.watchers.range(watcher).is_none() {
                        pair.insert(watcher, &start, &end);
                    }
                }
                Step::Remove(nth) if !pair.model.0.is_empty() => {
                    pair.remove_nth(nth.index(pair.model.0.len()));
                }
                Step::Remove(_) => {}
                Step::RemoveMost => {
                    while pair.model.0.len() > 3 {
                        pair.remove_nth(pair.model.0.len() / 2);
                    }
                }
                Step::Look(key) => pair.agree(&key),
            }
            pair.check_all();
        }
        for key in pair.model.borders() {
            pair.agree(&key);
        }
        while !pair.model.0.is_empty() {
            pair.remove_nth(0);
            pair.check_all();
        }
        assert_eq!(pair.watchers.heap_size(), 0);
    }
}

/// A number as a key that sorts as the number does.
fn numbered(n: usize) -> Vec<u8> {
    format!("/registry/{n:08}").into_bytes()
}

/// The shapes that unbalance trees and defeat what prunes them, of about so many spans.
fn shapes(count: usize) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let shape = |span: &dyn Fn(usize) -> (usize, usize)| {
        let spans = (0..count).map(span);
        spans.map(|(start, end)| (numbered(start), numbered(end))).collect::<Vec<_>>()
    };
    let mut shapes = vec![
        shape(&|n| (n, 2 * count - n)),
        shape(&|n| (0, n + 1)),
        shape(&|n| (n, count)),
        shape(&|n| (n, n + 1)),
        shape(&|n| (2 * n, 2 * n + 1)),
        shape(&|n| (n, n + count / 2)),
        // One of them, the first, is over all the others, which end at once.
        shape(&|n| (n, if n == 0 { 2 * count } else { n + 1 })),
    ];
    // Prefixes of one key of bytes that have no next one, and of zeros.
    for byte in [0, b'a', 255] {
        let prefixes = (1..60).map(|len| vec![byte; len]);
        shapes.push(prefixes.map(|key| (key.clone(), after_prefix(&key))).collect());
    }
    shapes.push((0..count).map(|n| (numbered(n), vec![0])).collect());
    shapes
}

/// The places of a list of so many, in orders in which one may come and go.
fn orders(len: usize) -> Vec<Vec<usize>> {
    let up: Vec<_> = (0..len).collect();
    let down = up.iter().rev().copied().collect();
    let mut outward = up.clone();
    outward.sort_by_key(|n| n.abs_diff(len / 2));
    let mut mixed = up.clone();
    mixed.sort_by_key(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7) & 0xffff);
    vec![up, down, outward, mixed]
}

#[test]
fn spans_of_every_shape_are_found_whatever_order_they_come_and_go_in() {
    for shape in shapes(70) {
        let orders = orders(shape.len());
        for (coming, going) in orders.iter().zip(orders.iter().cycle().skip(1)) {
            let mut pair = Pair::new(3);
            for nth in coming {
                let (start, end) = &shape[*nth];
                pair.insert(u32::try_from(*nth).expect("it is small"), start, end);
                pair.check_all();
            }
            let borders = pair.model.borders();
            borders.iter().for_each(|key| pair.agree(key));
            for nth in going {
                let watcher = u32::try_from(*nth).expect("it is small");
                let at = pair.model.0.iter().position(|one| one.0 == watcher);
                pair.remove_nth(at.expect("it is there"));
                pair.check_all();
                pair.agree(&borders[*nth]);
            }
        }
    }
}

#[test]
fn among_many_spans_a_few_are_looked_at() {
    for shape in shapes(5000) {
        let mut pair = Pair::new(3);
        for (watcher, (start, end)) in (0..).zip(&shape) {
            pair.insert(watcher, start, end);
        }
        pair.check_all();
        for key in pair.model.borders().iter().step_by(997) {
            pair.agree(key);
        }
    }
}

#[test]
fn those_that_see_the_same_stand_in_the_order_in_which_they_came() {
    for (start, end) in [("k", ""), ("k", "l"), ("k", "\0")] {
        let mut pair = Pair::new(3);
        for watcher in (0..2000).rev() {
            pair.insert(watcher, start.as_bytes(), end.as_bytes());
        }
        pair.agree(b"k");
        // The first, the last, and every third.
        pair.remove_nth(0);
        pair.remove_nth(1998);
        (0..600).rev().for_each(|nth| pair.remove_nth(3 * nth));
        pair.check_all();
        pair.agree(b"k");
        // Who comes again is the last.
        pair.insert(1999, start.as_bytes(), end.as_bytes());
        pair.insert(0, start.as_bytes(), end.as_bytes());
        pair.check_all();
        pair.agree(b"k");
    }
}

#[test]
fn the_order_does_not_depend_on_the_seed() {
    let seen = [0, 1, u64::MAX].map(|seed| {
        let mut pair = Pair::new(seed);
        for watcher in 0..500 {
            let start = numbered(usize::try_from(watcher % 7).expect("it is small"));
            let end =
                [&b""[..], b"/s", b"\0", b"/registry/9"][usize::try_from(watcher % 4).expect("so")];
            pair.insert(watcher, &start, end);
        }
        pair.check_all();
        let mut seen = Vec::new();
        (0..8).for_each(|n| pair.watchers.seeing(&numbered(n), |watcher| seen.push(watcher)));
        seen
    });
    assert!(seen[0].len() > 500);
    assert!(seen.iter().all(|other| *other == seen[0]));
}

#[test]
fn a_range_of_all_keys_is_all_keys() {
    let mut watchers = Watchers::new(3);
    watchers.insert(7, KeyRange::From(b"\0"));
    for key in [&b"\0"[..], b"\0\0", b"a", &[255; 100]] {
        let mut seen = Vec::new();
        watchers.seeing(key, |watcher| seen.push(watcher));
        assert_eq!(seen, [7]);
    }
    watchers.seeing(b"", |_| panic!("it is before every key of the range"));
}

#[test]
#[should_panic(expected = "a watcher's span has keys")]
fn an_empty_span_is_refused() {
    Watchers::new(3).insert(0, KeyRange::Span { start: b"b", end: b"b" });
}

#[test]
#[should_panic(expected = "a watcher's span has keys")]
fn a_span_that_ends_before_its_start_is_refused() {
    Watchers::new(3).insert(0, KeyRange::Span { start: b"b", end: b"a" });
}

#[test]
#[should_panic(expected = "a watcher sees one thing")]
fn a_number_that_is_taken_is_refused() {
    let mut watchers = Watchers::new(3);
    watchers.insert(0, KeyRange::One(b"a"));
    watchers.insert(0, KeyRange::From(b"a"));
}

#[test]
#[should_panic(expected = "only a watcher that is here is taken out")]
fn a_watcher_that_is_not_here_is_not_taken_out() {
    let mut watchers = Watchers::new(3);
    watchers.insert(1, KeyRange::One(b"a"));
    watchers.remove(0);
}

#[test]
fn a_watcher_that_is_alone_on_its_key_takes_little() {
    let mut watchers = Watchers::new(3);
    assert_eq!(watchers.heap_size(), 0);
    let (mut count, mut keys) = (0, 0);
    for (until, size_max) in [(1, 700), (10_000, 60), (100_000, 54)] {
        while count < until {
            let key = numbered(count);
            watchers.insert(u32::try_from(count).expect("it is small"), KeyRange::One(&key));
            keys += key.len();
            count += 1;
        }
        let size = (watchers.heap_size() - keys) / count;
        assert!(size <= size_max, "{size} bytes a watcher, its key aside");
    }
    (0..100_000).for_each(|watcher| watchers.remove(watcher));
    assert_eq!(watchers.heap_size(), 0);
}

#[test]
fn watchers_of_one_range_take_a_slot_each() {
    for range in [KeyRange::One(b"k"), KeyRange::From(b"k")] {
        let mut watchers = Watchers::new(3);
        (0..100_000).for_each(|watcher| watchers.insert(watcher, range));
        let size = watchers.heap_size() / 100_000;
        assert!(size <= 16, "{size} bytes a watcher");
        (0..99_999).for_each(|watcher| watchers.remove(watcher));
        watchers.check_all();
        assert_eq!(watchers.range(99_999), Some(range));
    }
}

#[test]
fn a_span_takes_a_node_and_its_keys() {
    let mut watchers = Watchers::new(3);
    let mut keys = 0;
    for n in 0..50_000 {
        let (start, end) = (numbered(2 * n), numbered(2 * n + 1));
        let range = KeyRange::Span { start: &start, end: &end };
        watchers.insert(u32::try_from(n).expect("it is small"), range);
        keys += start.len() + end.len();
    }
    let size = (watchers.heap_size() - keys) / 50_000;
    assert!(size <= 66, "{size} bytes a watcher, its keys aside");
}

#[test]
fn who_comes_and_goes_leaves_room_to_the_next() {
    let mut watchers = Watchers::new(3);
    (0..10_000).for_each(|n| watchers.insert(n, KeyRange::One(&n.to_be_bytes())));
    let size = watchers.heap_size();
    for round in 1..5_u32 {
        for n in 0..10_000_u32 {
            watchers.remove(n);
            watchers.insert(n, KeyRange::One(&(n + 10_000 * round).to_be_bytes()));
        }
        watchers.check_all();
    }
    assert_eq!(watchers.heap_size(), size);
}
