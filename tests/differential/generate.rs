//! Random requests: few keys that are hard to tell apart, every option, and nonsense as well.

use crate::support::dice::Dice;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use std::fmt;

/// Bytes that end up next to each other in order: the lowest, two letters, the highest.
const ALPHABET: [u8; 4] = [0x00, b'a', b'b', 0xff];

/// One request of the three that read and write keys.
#[derive(Clone, PartialEq)]
pub(crate) enum Op {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
}

impl Op {
    /// The path of its method.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Put(_) => "/etcdserverpb.KV/Put",
            Self::Range(_) => "/etcdserverpb.KV/Range",
            Self::Delete(_) => "/etcdserverpb.KV/DeleteRange",
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(put) if put.value.len() > 64 => {
                write!(f, "value of {} bytes in ", put.value.len())?;
                PutRequest { value: put.value.slice(..64), ..put.clone() }.fmt(f)
            }
            Self::Put(put) => put.fmt(f),
            Self::Range(range) => range.fmt(f),
            Self::Delete(delete) => delete.fmt(f),
        }
    }
}

/// Makes requests from a seed.
#[derive(Debug)]
pub(crate) struct Generator {
    dice: Dice,
    keys: Vec<Bytes>,
    /// The store's revision as last seen, so that some requests ask for ones that exist.
    pub(crate) revision: i64,
}

impl Generator {
    /// Over all keys of up to three bytes of [`ALPHABET`], the empty one included.
    pub(crate) fn small(seed: u64) -> Self {
        let mut keys = vec![Vec::new()];
        for from in [0, 1, 5] {
            for at in from..keys.len() {
                let longer = ALPHABET.map(|byte| [keys[at].as_slice(), &[byte]].concat());
                keys.extend(longer);
            }
        }
        Self { dice: Dice::new(seed), keys: as_bytes(keys), revision: 1 }
    }

    /// Over a thousand keys as applications have them, and some of random bytes.
    pub(crate) fn large(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut keys: Vec<_> =
            (0..1000).map(|n| format!("/registry/pods/{:03}/{n}", n % 17).into_bytes()).collect();
        keys.extend((0..100).map(|_| {
            let len = dice.pick(&[1, 4, 16, 300, 3000]);
            dice.bytes(len, &all)
        }));
        Self { dice, keys: as_bytes(keys), revision: 1 }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Op {
        match self.dice.below(100) {
            0..45 => Op::Put(self.put()),
            45..88 => Op::Range(self.range()),
            _ => Op::Delete(self.delete()),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.dice.chance(8);
        let ignore_lease = self.dice.chance(8);
        let has_value = if ignore_value { self.dice.chance(20) } else { true };
        PutRequest {
            key: self.key(),
            value: if has_value { self.value() } else { Bytes::new() },
            lease: if self.dice.chance(5) { self.dice.pick(&[1, -1, 77, i64::MAX]) } else { 0 },
            prev_kv: self.dice.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.dice.chance(70) { Bytes::new() } else { self.range_end(&key) };
        DeleteRangeRequest { key, range_end, prev_kv: self.dice.chance(40) }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut range = RangeRequest {
            key,
            range_end,
            limit: self.limit(),
            revision: self.some_revision(40),
            serializable: self.dice.chance(20),
            keys_only: self.dice.chance(15),
            count_only: self.dice.chance(10),
            ..RangeRequest::default()
        };
        if self.dice.chance(40) {
            range.sort_order = self.dice.pick(&[0, 1, 2, 1, 2, 2]);
            range.sort_target = self.dice.pick(&[0, 1, 2, 3, 4]);
        }
        if self.dice.chance(3) {
            range.sort_order = self.dice.pick(&[3, -1, i32::MAX, i32::MIN]);
        }
        if self.dice.chance(3) {
            range.sort_target = self.dice.pick(&[5, -1, i32::MAX, i32::MIN]);
        }
        if self.dice.chance(20) {
            range.min_mod_revision = self.some_revision(50);
            range.max_mod_revision = self.some_revision(50);
            range.min_create_revision = self.some_revision(50);
            range.max_create_revision = self.some_revision(50);
        }
        range
    }

    fn key(&mut self) -> Bytes {
        let keys = &self.keys;
        self.dice.pick(keys)
    }

    /// The end of a range from `key`: none, a prefix's, everything's, any key, one below.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.dice.below(10) {
            0..3 => Bytes::new(),
            3..5 => prefix_end(key),
            5 => Bytes::from_static(b"\0"),
            6 => key.clone(),
            7 => [key.as_ref(), b"\0"].concat().into(),
            _ => self.key(),
        }
    }

    fn limit(&mut self) -> i64 {
        if self.dice.chance(60) {
            return 0;
        }
        let some = i64::try_from(self.dice.below(50)).expect("below 50");
        self.dice.pick(&[1, 2, 3, 10, some, some, -1, i64::MIN, i64::MAX, i64::MAX - 1])
    }

    /// 0 but for `percent` of a hundred; then now, past, future or impossible.
    fn some_revision(&mut self, percent: u64) -> i64 {
        if !self.dice.chance(percent) {
            return 0;
        }
        let now = self.revision;
        let end = u64::try_from(now).expect("revisions are positive");
        let past = i64::try_from(self.dice.below(end)).expect("below a revision") + 1;
        let near = (now - i64::try_from(self.dice.below(20)).expect("below 20")).max(1);
        let odd = self.dice.pick(&[now + 1, now + 1000, -1, i64::MIN, i64::MAX]);
        self.dice.pick(&[past, past, past, near, near, near, now, odd])
    }

    /// Often one of few, so that sorting by value has ties; sometimes long.
    fn value(&mut self) -> Bytes {
        let len = match self.dice.below(20) {
            0..3 => 0,
            3..14 => 1,
            14..19 => self.dice.index(300),
            _ => self.dice.index(50_000),
        };
        self.dice.bytes(len, b"xyz\0\xff").into()
    }
}

/// The first key after all that start with `prefix`; `\0`, which means all, if there is none.
fn prefix_end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == 0xff).is_some() {}
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end.into()
}

fn as_bytes(keys: Vec<Vec<u8>>) -> Vec<Bytes> {
    keys.into_iter().map(Bytes::from).collect()
}
