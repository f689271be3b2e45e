//! What goes in comes out, for any changes.

use super::*;
use crate::store::Cause;
use proptest::prelude::*;

/// Any runs of changes, in order.
fn runs() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (
        (prop_oneof![Just(0_i64), Just(1), 1..200_i64, Just(1 << 33)], 1..4_u32),
        prop_oneof![8 => 0..40_usize, 1 => 300..3000_usize],
        prop_oneof![4 => 0..200_usize, 1 => Just(0_usize), 1 => 1000..9000_usize],
        prop_oneof![3 => Just(0_i64), 1 => any::<i64>()],
        (any::<bool>(), 1..i64::MAX >> 2, any::<u64>()),
    );
    let run = prop::collection::vec(change, 1..60);
    prop::collection::vec(run, 0..4).prop_map(|runs| {
        let (mut last, mut result) = (location(1, 0), Vec::new());
        for run in runs {
            let (mut changes, mut first) = (Vec::new(), None);
            for ((step, sub), key_size, value_size, lease, (is_put, version, seed)) in run {
                // A segment spans less than 2^32 revisions.
                let base: &mut i64 = first.get_or_insert(last.main.0 + step);
                let step = if last.main.0 + step - *base < 1 << 32 { step } else { 1 };
                last = if step == 0 {
                    location(last.main.0, last.sub + sub)
                } else {
                    location(last.main.0 + step, sub - 1)
                };
                let byte = seed.to_le_bytes()[0];
                let created = i64::try_from(seed >> 2).expect("62 bits") % last.main.0 + 1;
                changes.push(Change {
                    location: last,
                    key: vec![byte; key_size].into(),
                    value: if is_put { vec![!byte; value_size].into() } else { Bytes::new() },
                    lease: LeaseId(if is_put { lease } else { 0 }),
                    created: Revision(if is_put { created } else { 0 }),
                    version: if is_put { version } else { 0 },
                });
            }
            result.push(changes);
        }
        result
    })
}

/// Everything that memory keeps of a segment is what its changes say.
fn agrees(sealed: &Sealed, changes: &[Change], file: &[u8]) {
    assert_eq!(usize_from(sealed.record_count()), changes.len());
    for (ordinal, change) in (0..).zip(changes) {
        assert_eq!(sealed.location(ordinal), change.location);
        assert_eq!(sealed.find(change.location), Some(ordinal));
        assert_eq!(sealed.lease(ordinal), change.lease);
        assert_eq!(sealed.is_tombstone(ordinal), change.version == 0);
        assert_eq!(sealed.value_size(ordinal, change.key.len()), change.value.len());
        let place = sealed.place(ordinal);
        assert!(sealed.block_records(place.block).contains(&ordinal));
        let block = &file[block_range(sealed, place.block)];
        assert_eq!(sealed.record(place, block), ChangeRef::from(change));
        let after = location(change.location.main.0, change.location.sub + 1);
        assert_eq!(sealed.find_from(change.location), ordinal);
        assert_eq!(sealed.find_from(after), ordinal + 1);
        if changes.get(usize_from(ordinal) + 1).is_none_or(|next| next.location != after) {
            assert_eq!(sealed.find(after), None);
        }
    }
    for block in 0..sealed.block_count() {
        assert_eq!(sealed.check(block, &file[block_range(sealed, block)]), Ok(()));
    }
    let first = sealed.summary().first.main.0;
    assert_eq!(sealed.find_from(location(first - 1, 9)), 0);
    assert_eq!(sealed.find_from(location(first + (1 << 40), 0)), sealed.record_count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_recovered(
        runs in runs(),
        block_size in 64..9000_usize,
        page_size in 100..5000_usize,
        piece in 1..5_usize,
        read_size in 4096..20_000_usize,
        forgotten in any::<u64>(),
    ) {
        let files = files_of(IDENTITY, &runs, (block_size, page_size, piece));
        let config = Config { read_size, ..small() };
        let (told, recovered) = recover(config, &files);
        prop_assert_eq!(told, without_values(&runs.concat()));
        let recovered = recovered.expect("nothing is damaged");
        prop_assert_eq!(recovered.state.as_deref(), Some(&b"the owner's state"[..]));
        let mut parts = recovered.parts;
        prop_assert_eq!(parts.identity, IDENTITY);
        prop_assert_eq!((parts.sequence, parts.number_next), (7, 5 + runs.len() as u64));
        prop_assert_eq!(parts.leftovers, []);
        prop_assert_eq!(parts.segments.len(), runs.len());
        for (sealed, changes) in parts.segments.iter_mut().zip(&runs) {
            agrees(sealed, changes, &files[&sealed.file().to_string()]);
            forgets(sealed, changes, forgotten);
        }
    }
}

/// What is forgotten is counted, puts and tombstones apart.
fn forgets(sealed: &mut Sealed, changes: &[Change], which: u64) {
    let (mut puts, mut tombstones, mut live) = ((0, 0), (0, 0), (0, 0));
    for (ordinal, change) in (0_u32..).zip(changes) {
        let count = if which >> (ordinal % 64) & 1 == 0 {
            &mut live
        } else {
            sealed.forget(ordinal);
            if change.version == 0 { &mut tombstones } else { &mut puts }
        };
        count.0 += 1;
        count.1 += ChangeRef::from(change).record_size() as u64;
    }
    let pair = |count: crate::store::segment::Count| (count.records, count.size);
    assert_eq!(pair(sealed.dead()), puts);
    assert_eq!(pair(sealed.dead_tombstones()), tombstones);
    assert_eq!(pair(sealed.live()), live);
}

#[test]
fn a_change_is_forgotten_while_entries_are_still_told() {
    let files = two_segments();
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    let mut recovery = Recovery::new(small(), IDENTITY.shard, IDENTITY.store_id, &list);
    let (mut count, mut all) = (0, Vec::new());
    let parts = loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                let at = usize::try_from(offset).expect("small");
                recovery.handle(&files[&file.to_string()][at..at + size]);
            }
            Step::Entries => {
                all.extend(recovery.entries().map(|entry| entry.location));
                // Every third change, some of them of the segment before.
                while count + 9 < all.len() {
                    recovery.forget(all[count]);
                    count += 3;
                }
            }
            Step::Done(recovered) => break recovered.parts,
            Step::Refused(damage) => unreachable!("{damage}"),
        }
    };
    let dead: Vec<_> = parts
        .segments
        .iter()
        .map(|sealed| sealed.dead().records + sealed.dead_tombstones().records)
        .collect();
    assert_eq!(dead.iter().sum::<u32>(), u32::try_from(count / 3).expect("few"));
    assert!(dead.iter().all(|&dead| dead > 2), "{dead:?}");
}

#[test]
fn a_new_store_has_nothing() {
    let (told, recovered) = recover(small(), &Files::new());
    let recovered = recovered.expect("nothing is damaged");
    assert_eq!((told.len(), recovered.state), (0, None));
    assert_eq!((recovered.parts.sequence, recovered.parts.number_next), (0, 0));
}

#[test]
fn a_revision_of_very_many_changes_is_searched_quickly() {
    let changes: Vec<_> = (0..20_000).map(|sub| tombstone(9, 3 * sub, "k")).collect();
    let (sealed, file) = build(IDENTITY, 1, &changes, (8192, 65536, 8));
    agrees(&sealed, &changes, &file);
    assert_eq!(sealed.find(location(9, 4)), None);
    assert_eq!(sealed.find_from(location(9, 4)), 2);
    assert!(sealed.memory_size() < 20_000 * 13 + 16_384, "{}", sealed.memory_size());
}

#[test]
fn a_segment_takes_as_much_as_its_numbers_can_say() {
    let mut builder = Builder::new(IDENTITY, 1, 8192);
    let (first, last, past) =
        (put(5, 0, "a", "b"), put(4 + (1 << 32), 0, "a", "b"), put(5 + (1 << 32), 0, "a", "b"));
    assert!(builder.fits(&ChangeRef::from(&past)));
    builder.push(&ChangeRef::from(&first));
    assert!(!builder.fits(&ChangeRef::from(&past)));
    assert!(builder.fits(&ChangeRef::from(&last)));
    builder.push(&ChangeRef::from(&last));
    builder.finish();
    let mut file = vec![0; builder.ready()];
    builder.fill(&mut file);
    let sealed = builder.into_sealed();
    agrees(&sealed, &[first, last], &file);
    let short = sealed.check(0, &file[4096..4100]).expect_err("it is short");
    assert_eq!(short.cause, Cause::Short { expected: 84, found: 4 });
}
