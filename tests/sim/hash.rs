//! etcd's hash of a keyspace's history, from the list of everything that ever happened.

use crate::model::{Keys, Model};
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::mvccpb;
use std::collections::BTreeMap;

/// CRC-32C, the reflected polynomial, byte by byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let (mut byte, mut value) = (0, 0_u32);
    while byte < 256 {
        let (mut crc, mut bit) = (value, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        (byte, value) = (byte + 1, value + 1);
    }
    table
};

/// Goes on with a checksum.
fn crc(before: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!before, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ crc >> 8
    })
}

/// The hash of all changes up to `revision` in a keyspace compacted at `floor`.
///
/// Of those up to the floor only what `revision` still sees counts. Where that is nothing at all,
/// etcd hashes whatever it has not removed yet; what is asked for here is what the floor sees.
pub(crate) fn hash_kv(model: &Model, revision: i64, floor: i64) -> u32 {
    let events = model.events();
    let is_empty = model.rows(&Keys::all(), revision).is_empty();
    let seen_at = if is_empty { floor } else { revision };
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (nth, event) in events.iter().enumerate().take_while(|(_, it)| it.revision <= seen_at) {
        last.insert(&event.key, nth);
    }
    let mut hash = crc(0, b"key");
    let mut lives: BTreeMap<&[u8], (i64, i64)> = BTreeMap::new();
    let (mut main, mut sub) = (0, 0_i64);
    for (nth, event) in events.iter().enumerate() {
        if event.revision > revision {
            break;
        }
        (main, sub) = (event.revision, if event.revision == main { sub + 1 } else { 0 });
        let mut pair = mvccpb::KeyValue {
            key: Bytes::copy_from_slice(&event.key),
            ..mvccpb::KeyValue::default()
        };
        if let Some(value) = &event.value {
            let life = lives.entry(&event.key).or_insert((main, 0));
            life.1 += 1;
            pair.value = Bytes::copy_from_slice(value);
            pair.lease = event.lease;
            (pair.create_revision, pair.mod_revision, pair.version) = (life.0, main, life.1);
        } else {
            lives.remove(&event.key[..]);
        }
        let is_kept = last.get(&event.key[..]) == Some(&nth) && event.value.is_some();
        if main <= floor && !is_kept {
            continue;
        }
        let mut place = main.to_be_bytes().to_vec();
        place.push(b'_');
        place.extend_from_slice(&sub.to_be_bytes());
        if event.value.is_none() {
            place.push(b't');
        }
        hash = crc(hash, &place);
        hash = crc(hash, &pair.encode_to_vec());
    }
    hash
}
