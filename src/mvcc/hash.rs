//! etcd's hash of the keyspace: equal histories give equal hashes, on etcd and here.
//!
//! It is a CRC-32C over the changes up to a revision in the order of their locations, each in the
//! bytes that etcd would store it in. What compaction may or may not have removed already is left
//! out, so that the hash does not depend on how far that has come.
//!
//! Left out on purpose: at the very revision of a compaction etcd gives the hash it took while it
//! compacted, of what had been there before, for as long as it remembers it: until ten compactions
//! later, or its next start. Where the first of a life was at 0, that is the answer to whoever asks
//! for the present one too. So members of one cluster differ in it. Here such a revision's hash is
//! as any other's, which is what etcd gives once it has forgotten.
//!
//! # Source
//! etcd: `server/storage/mvcc/hash.go`; the rules were compared with a real one's answers over
//! random histories.

use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;

/// The name of the place where etcd stores changes; its hash begins with it.
const SEED: &[u8] = b"key";

/// A change, as the hash takes it in.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// Where it lies.
    pub location: Location,
    /// The key.
    pub key: &'a [u8],
    /// The revision that began the key's present life.
    pub created: Revision,
    /// Puts since the creation; 0 is a tombstone.
    pub version: i64,
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
    /// What the key holds.
    pub value: &'a [u8],
}

/// A hash under way.
#[derive(Clone, Debug)]
pub struct KvHash {
    revision: Revision,
    /// Up to here only what is still of use counts; below every revision if nothing is compacted.
    compacted: Revision,
    /// Whether a key is there at `revision`, as far as is known.
    is_any_there: bool,
    /// The hash if a key is there: what is compacted counts if that revision sees it.
    crc: u32,
    /// The hash if none is: etcd then leaves out nothing but what it has removed.
    crc_if_empty: u32,
    /// The last change taken in, as etcd stores it.
    encoded: Vec<u8>,
}

impl KvHash {
    /// The hash of all changes up to `revision`, in a keyspace compacted as far as this.
    #[must_use]
    pub fn new(compacted: Option<Revision>, revision: Revision) -> Self {
        let crc = crc32c::crc32c(SEED);
        Self {
            revision,
            compacted: compacted.unwrap_or(Revision(-1)),
            is_any_there: false,
            crc,
            crc_if_empty: crc,
            encoded: Vec::new(),
        }
    }

    /// The revision up to which changes count.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes in a change that is not forgotten; they come in the order of their locations.
    ///
    /// `keeps` says whether a compaction at the revision it is given would keep this change.
    ///
    /// # Cost
    /// `keeps` is asked of what is compacted, and of every put before the first that the hash's
    /// revision sees.
    pub fn feed(&mut self, change: &Hashed<'_>, keeps: impl Fn(Revision) -> bool) {
        let is_tombstone = change.version == 0;
        let is_compacted = change.location.main <= self.compacted;
        if change.location.main > self.revision || (is_compacted && is_tombstone) {
            return;
        }
        let asks = is_compacted || !self.is_any_there;
        let is_seen = asks && !is_tombstone && keeps(self.revision);
        self.is_any_there |= is_seen;
        let counts = !is_compacted || is_seen;
        let counts_if_empty = !self.is_any_there && (!is_compacted || keeps(self.compacted));
        if counts || counts_if_empty {
            self.encode(change);
        }
        if counts {
            self.crc = crc32c::crc32c_append(self.crc, &self.encoded);
        }
        if counts_if_empty {
            self.crc_if_empty = crc32c::crc32c_append(self.crc_if_empty, &self.encoded);
        }
    }

    /// The hash.
    #[must_use]
    pub fn finish(&self) -> u32 {
        if self.is_any_there { self.crc } else { self.crc_if_empty }
    }

    /// Writes down what etcd stores of a change: its name, and a `KeyValue` that for a tombstone
    /// has nothing but the key.
    fn encode(&mut self, change: &Hashed<'_>) {
        let out = &mut self.encoded;
        out.clear();
        let Location { main, sub } = change.location;
        out.extend_from_slice(&main.0.to_be_bytes());
        out.push(b'_');
        out.extend_from_slice(&u64::from(sub).to_be_bytes());
        if change.version == 0 {
            out.push(b't');
        }
        bytes(out, 1, change.key);
        if change.version != 0 {
            number(out, 2, change.created.0);
            number(out, 3, main.0);
            number(out, 4, change.version);
            bytes(out, 5, change.value);
            number(out, 6, change.lease.0);
        }
    }
}

/// Appends a protobuf field of these bytes, unless there are none.
fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        varint(out, u64::try_from(bytes.len()).expect("usize is 64 bits"));
        out.extend_from_slice(bytes);
    }
}

/// Appends a protobuf field of this number, unless it is 0.
fn number(out: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        out.push(field << 3);
        varint(out, number.cast_unsigned());
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("masked to seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits are left"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One change: revision, place in it, key, creation, version, lease, value.
    type Row = (i64, u32, &'static str, i64, i64, i64, &'static str);

    const LONG: &str = "222222222222222222222222222222222222222222222222222222222222222222222222\
         2222222222222222222222222222222222222222222222222222222222222222222222222222222222222222\
         2222222222222222222222222222222222222222222222222222222222222222222222222222222222222222\
         2222222222222222222222222222222222222222222222222222";

    /// What a real etcd was told, by puts, deletions and one transaction.
    const HISTORY: [Row; 12] = [
        (2, 0, "a", 2, 1, 0, "1"),
        (3, 0, "b", 3, 1, 7587, ""),
        (4, 0, "a", 2, 2, 0, LONG),
        (5, 0, "c", 5, 1, 0, "x"),
        (5, 1, "a", 0, 0, 0, ""),
        (5, 2, "d", 5, 1, 0, "y"),
        (6, 0, "a", 6, 1, 0, "again"),
        (7, 0, "b", 0, 0, 0, ""),
        (8, 0, "a", 6, 2, 0, "last"),
        (9, 0, "a", 0, 0, 0, ""),
        (9, 1, "c", 0, 0, 0, ""),
        (9, 2, "d", 0, 0, 0, ""),
    ];

    /// Whether a compaction at `at` keeps the change.
    fn keeps(change: &Row, at: Revision) -> bool {
        let seen = HISTORY.iter().rfind(|other| other.2 == change.2 && other.0 <= at.0);
        seen.is_some_and(|seen| seen == change && (seen.4 > 0 || seen.0 == at.0))
    }

    /// The hash; of what is forgotten, nothing is fed if `cleaned`.
    fn hash(revision: i64, compacted: Option<i64>, cleaned: bool) -> u32 {
        let compacted = compacted.map(Revision);
        let mut hash = KvHash::new(compacted, Revision(revision));
        for row in &HISTORY {
            if cleaned && compacted.is_some_and(|at| row.0 <= at.0 && !keeps(row, at)) {
                continue;
            }
            let &(main, sub, key, created, version, lease, value) = row;
            let change = Hashed {
                location: Location { main: Revision(main), sub },
                key: key.as_bytes(),
                created: Revision(created),
                version,
                lease: LeaseId(lease),
                value: value.as_bytes(),
            };
            hash.feed(&change, |at| keeps(row, at));
        }
        hash.finish()
    }

    #[test]
    fn equal_histories_hash_as_in_etcd_whatever_is_gone_already() {
        assert_eq!(LONG.len(), 300);
        // As etcd 3.7.3 answered: revision, compacted, hash.
        let answers = [
            (1, None, 1_084_519_789),
            (2, None, 2_587_454_935),
            (3, None, 2_966_240_077),
            (4, None, 4_133_786_708),
            (5, None, 3_313_679_417),
            (6, None, 2_255_030_869),
            (7, None, 1_273_466_368),
            (8, None, 3_513_230_385),
            (6, Some(5), 1_084_550_738),
            (7, Some(5), 940_904_210),
            (8, Some(5), 706_541_081),
            (8, Some(7), 2_185_987_572),
            (9, Some(7), 3_116_618_827),
            (9, Some(8), 1_474_834_355),
            (9, Some(9), 1_084_519_789),
        ];
        for (revision, compacted, due) in answers {
            for cleaned in [false, true] {
                let found = hash(revision, compacted, cleaned);
                assert_eq!(found, due, "{revision} {compacted:?} {cleaned}");
            }
        }
    }
}
