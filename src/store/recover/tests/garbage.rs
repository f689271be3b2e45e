//! Any bytes at all, and bytes that check but say what cannot be.

use super::*;
use crate::frame::u32_at;
use crate::store::Cause;
use crate::store::format::{PageHeader, Rest, Summary};
use proptest::prelude::*;

/// The summary of the second segment, as its manifest lists it.
fn second(files: &Files) -> Summary {
    Manifest::decode(&files["manifest"]).expect("it is whole").segments[1].summary
}

/// Writes `bytes` over a file and makes the checksums right again that lie on the way to them.
fn plant(files: &mut Files, at: usize, bytes: &[u8]) {
    let mut summary = second(files);
    let seal = IDENTITY.segment_seal(6);
    let file = files.get_mut("0000000000000006.segment").expect("it is there");
    let end = (at + bytes.len()).min(file.len());
    file[at..end].copy_from_slice(&bytes[..end - at]);
    let place = |offset| usize::try_from(offset).expect("small");
    let (mut page, padding) = (place(summary.directory_at()), place(summary.padding_at()));
    let (directory, mut headers) = (page, Vec::new());
    while page + PAGE_HEADER_SIZE <= padding {
        let size = PAGE_HEADER_SIZE + usize_from(u32_at(file, page + 4));
        let Some(whole) = file[..padding].get_mut(page..page + size) else { break };
        if let Some(header) = PageHeader::decode(whole) {
            header.seal(seal, (page - directory) as u64, whole);
        }
        headers.extend_from_slice(&whole[..PAGE_HEADER_SIZE]);
        page += size;
    }
    summary.directory_crc = summary.directory_crc(seal, &headers);
    let footer = place(summary.footer_at());
    file[footer..].copy_from_slice(&summary.encode_footer(seal));
    let mut manifest = Manifest::decode(&files["manifest"]).expect("it is whole");
    manifest.segments[1].summary = summary;
    files.insert("manifest".to_owned(), manifest.encode());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_of_a_directory_that_check_are_told_in_order_or_refused(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1..40),
    ) {
        let mut files = two_segments();
        let summary = second(&files);
        let size = usize::try_from(summary.directory_size).expect("small");
        let at = usize::try_from(summary.directory_at()).expect("small") + at.index(size);
        plant(&mut files, at, &bytes);
        let (told, recovered) = recover(small(), &files);
        prop_assert!(told.windows(2).all(|pair| pair[0].location < pair[1].location));
        prop_assert!(told.len() <= two_runs().concat().len());
        if let Err(damage) = recovered {
            prop_assert_eq!(damage.file, "0000000000000006.segment");
        }
    }

    #[test]
    fn any_bytes_of_a_manifest_that_check_are_a_manifest_or_refused(
        at in 64..4096_usize,
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1..40),
        (field, number) in (0..6_usize, any::<u32>()),
    ) {
        let mut files = two_segments();
        let manifest = files.get_mut("manifest").expect("it is there");
        let end = (at + bytes.len()).min(4096);
        manifest[at..end].copy_from_slice(&bytes[..end - at]);
        if field < 3 {
            manifest[36 + 4 * field..40 + 4 * field].copy_from_slice(&number.to_le_bytes());
        }
        let seal = IDENTITY.manifest_seal();
        let body = seal.checksum_at(64, &[&manifest[64..]]);
        manifest[44..48].copy_from_slice(&body.to_le_bytes());
        let crc = seal.checksum_at(0, &[&manifest[..60]]);
        manifest[60..64].copy_from_slice(&crc.to_le_bytes());
        if let Ok(found) = Manifest::decode(manifest) {
            prop_assert_eq!(&found.encode(), manifest);
        }
        let (told, _) = recover(small(), &files);
        prop_assert!(told.len() <= two_runs().concat().len());
    }

    #[test]
    fn any_bytes_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        seed in 0..1_i64 << 61,
    ) {
        let mut rest = Rest::new(&bytes);
        while let Some(entry) = rest.entry(Revision(seed)) {
            prop_assert!(entry.location.main.0 >= seed);
            prop_assert!(usize_from(entry.size) >= 40 + entry.key.len());
        }
        if let Some(change) = ChangeRef::decode_record(&bytes) {
            let mut again = Vec::new();
            change.encode_record(&mut again);
            prop_assert_eq!(&again, &bytes);
        }
        if let Some(Ok(manifest)) = bytes.get(..64).map(Manifest::decode) {
            prop_assert_eq!(&manifest.encode(), &bytes);
        }
        if let Some(summary) = bytes.get(..52).and_then(Summary::decode) {
            prop_assert!(u64::from(summary.record_count) * 3 <= summary.directory_size);
        }
    }
}

#[test]
fn a_manifest_whose_segments_are_not_in_order_is_refused() {
    let files = two_segments();
    let whole = files["manifest"].clone();
    let swapped = [&whole[..64], &whole[136..208], &whole[64..136], &whole[208..]].concat();
    let twice = [&whole[..136], &whole[64..136], &whole[208..]].concat();
    let mut late = whole.clone();
    late[64..72].copy_from_slice(&7_u64.to_le_bytes());
    for mut bytes in [swapped, twice, late] {
        let seal = IDENTITY.manifest_seal();
        let body = seal.checksum_at(64, &[&bytes[64..]]);
        bytes[44..48].copy_from_slice(&body.to_le_bytes());
        let crc = seal.checksum_at(0, &[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        let damage = Manifest::decode(&bytes).expect_err("it is not sound");
        assert_eq!((damage.offset, damage.cause), (64, Cause::Manifest));
    }
}

#[test]
fn counts_that_the_sizes_cannot_hold_are_refused_before_room_is_made() {
    let summary = second(&two_segments());
    let claims = [
        Summary { record_count: u32::MAX, ..summary },
        Summary { block_count: summary.record_count + 1, ..summary },
        Summary { block_count: 0, ..summary },
        Summary { record_count: 0, block_count: 0, ..summary },
        Summary { record_count: 1, block_count: 1, ..summary },
        Summary { data_size: 1 << 32, ..summary },
        Summary { data_size: 39, ..summary },
        Summary { directory_size: u64::MAX, ..summary },
        Summary { directory_size: 0, ..summary },
        Summary { first: location(60, 0), ..summary },
        Summary { last: location(31 + (1 << 32), 0), ..summary },
        Summary { first: location(0, 0), ..summary },
    ];
    for claim in claims {
        let mut bytes = [0; 52];
        claim.encode(&mut bytes);
        assert_eq!(Summary::decode(&bytes), None, "{claim:?}");
    }
    let mut bytes = [0; 52];
    summary.encode(&mut bytes);
    assert_eq!(Summary::decode(&bytes), Some(summary));
}
