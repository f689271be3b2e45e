//! Protobuf by hand: the few messages of etcd's API that this client writes and reads.

use crate::failure::Failure;

pub(crate) mod lease;
pub(crate) mod watch;

/// Writes a number in groups of seven bits.
pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

/// Writes field `number` with a number in it, zero too.
pub(crate) fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3, out);
    varint(value, out);
}

/// Writes field `number` with bytes in it.
pub(crate) fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes field `number` with whatever `fill` writes in it.
pub(crate) fn nested(field: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    varint(u64::from(field) << 3 | 2, out);
    let start = out.len();
    fill(out);
    let size = (out.len() - start) as u64;
    varint(size, out);
    let length = out.len() - start - usize::try_from(size).expect("it is in memory");
    out[start..].rotate_right(length);
}

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Range {
    /// The first key.
    pub(crate) key: Vec<u8>,
    /// The key behind the last; empty for one key, `\0` for all to the end.
    pub(crate) end: Vec<u8>,
    /// Keys in the answer; 0 is any number.
    pub(crate) limit: u64,
    /// The revision to read at; 0 is the present.
    pub(crate) revision: u64,
}

impl Range {
    /// The message.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + self.end.len() + 16);
        bytes(1, &self.key, &mut out);
        bytes(2, &self.end, &mut out);
        number(3, self.limit, &mut out);
        number(4, self.revision, &mut out);
        out
    }
}

/// The message that compacts up to `revision`; if `physical`, it is answered when all is done.
pub(crate) fn compaction(revision: u64, physical: bool) -> Vec<u8> {
    let mut out = Vec::new();
    number(1, revision, &mut out);
    number(2, u64::from(physical), &mut out);
    out
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    /// A number in groups of seven bits.
    Number(u64),
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message in order; ends before the first that is not whole.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The first field with this number that holds a number; zero when there is none.
    pub(crate) fn number(mut self, wanted: u32) -> u64 {
        let found = self.find_map(|(field, value)| match value {
            Value::Number(value) if field == wanted => Some(value),
            Value::Number(_) | Value::Bytes(_) => None,
        });
        found.unwrap_or(0)
    }

    /// The first field with this number that holds bytes; none at all when there is none.
    pub(crate) fn bytes(mut self, wanted: u32) -> &'a [u8] {
        let found = self.find_map(|(field, value)| match value {
            Value::Bytes(value) if field == wanted => Some(value),
            Value::Number(_) | Value::Bytes(_) => None,
        });
        found.unwrap_or_default()
    }

    /// Whether no more is there, and nothing that is not whole.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let mut rest = self.rest;
        let tag = read_varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(read_varint(&mut rest)?),
            2 => {
                let size = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (value, tail) = rest.split_at_checked(size)?;
                rest = tail;
                Value::Bytes(value)
            }
            _ => return None,
        };
        self.rest = rest;
        Some((u32::try_from(tag >> 3).ok()?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The revision in an answer's header, which is the first field of every answer.
pub(crate) fn revision(answer: &[u8]) -> u64 {
    Fields::of(Fields::of(answer).bytes(1)).number(3)
}

/// Whether the compares of an answered transaction held.
pub(crate) fn succeeded(answer: &[u8]) -> bool {
    Fields::of(answer).number(2) == 1
}

/// A list's answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listed {
    /// The store's revision when it was read.
    pub(crate) revision: u64,
    /// Keys in the answer.
    pub(crate) rows: u64,
    /// Keys in the range.
    pub(crate) count: u64,
    /// Whether the limit cut keys off.
    pub(crate) more: bool,
    /// The last key in the answer.
    pub(crate) last: Vec<u8>,
}

/// Reads a list's answer; `visit` sees each key with its value.
///
/// # Errors
/// When it is no such message.
pub(crate) fn listed(
    answer: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<Listed, Failure> {
    let mut listed = Listed { revision: revision(answer), ..Listed::default() };
    let mut fields = Fields::of(answer);
    for (field, value) in &mut fields {
        match (field, value) {
            (2, Value::Bytes(row)) => {
                let row = Fields::of(row);
                let key = row.clone().bytes(1);
                visit(key, row.bytes(5));
                listed.rows += 1;
                listed.last.clear();
                listed.last.extend_from_slice(key);
            }
            (3, Value::Number(more)) => listed.more = more != 0,
            (4, Value::Number(count)) => listed.count = count,
            (_, Value::Number(_) | Value::Bytes(_)) => {}
        }
    }
    if fields.is_over() {
        Ok(listed)
    } else {
        Err(Failure::Peer("sent a list that is not a whole message".into()))
    }
}

/// What `Maintenance.Status` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// The member that answers.
    pub(crate) member: u64,
    /// The leader that it knows; zero if none.
    pub(crate) leader: u64,
    /// The revision that it has applied.
    pub(crate) revision: u64,
    /// What the store takes on disk, in bytes.
    pub(crate) allocated: u64,
    /// What of that is in use.
    pub(crate) in_use: u64,
}

/// Reads an answer to `Maintenance.Status`.
pub(crate) fn status(answer: &[u8]) -> Status {
    let fields = Fields::of(answer);
    let header = Fields::of(fields.clone().bytes(1));
    Status {
        member: header.clone().number(2),
        leader: fields.clone().number(4),
        revision: header.number(3),
        allocated: fields.clone().number(3),
        in_use: fields.number(9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for size in [0, 1, 127, 128, 20_000] {
            let body = vec![7; size];
            let mut out = vec![9];
            nested(3, &mut out, |out| bytes(1, &body, out));
            number(4, 300, &mut out);
            let fields = Fields::of(&out[1..]);
            assert_eq!(Fields::of(fields.clone().bytes(3)).bytes(1), body);
            assert_eq!(fields.clone().number(4), 300);
            assert_eq!(fields.clone().number(5), 0);
            assert_eq!(fields.count(), 2);
        }
    }

    /// An answer at revision 7 with two of nine keys.
    fn answer() -> Vec<u8> {
        let mut out = Vec::new();
        nested(1, &mut out, |out| number(3, 7, out));
        for key in [b"a", b"b"] {
            nested(2, &mut out, |out| {
                bytes(1, key, out);
                number(3, 5, out);
                bytes(5, b"value", out);
            });
        }
        number(3, 1, &mut out);
        number(4, 9, &mut out);
        out
    }

    #[test]
    fn a_list_is_read() {
        let mut seen = Vec::new();
        let listed = listed(&answer(), &mut |key, value| seen.push((key.to_vec(), value.to_vec())));
        let expected = Listed { revision: 7, rows: 2, count: 9, more: true, last: b"b".to_vec() };
        assert_eq!(listed.expect("whole"), expected);
        assert_eq!(seen[1], (b"b".to_vec(), b"value".to_vec()));
    }

    #[test]
    fn the_head_of_an_answer_is_enough_for_its_revision_and_success() {
        let mut out = Vec::new();
        nested(1, &mut out, |out| {
            for field in 1..=4 {
                number(field, u64::MAX, out);
            }
        });
        number(2, 1, &mut out);
        assert!(out.len() <= 64);
        bytes(3, &[7; 1000], &mut out);
        assert_eq!((revision(&out[..64]), succeeded(&out[..64])), (u64::MAX, true));
        assert!(!succeeded(&answer()));
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        let whole = answer();
        for cut in 0..whole.len() {
            let result = listed(&whole[..cut], &mut |_, _| {});
            assert!(result.is_err() || result.is_ok_and(|listed| listed.rows <= 2), "{cut}");
        }
        let mut random = crate::workload::Random::new(3);
        for _ in 0..2000 {
            let noise: Vec<u8> =
                (0..random.below(40)).map(|_| random.next().to_le_bytes()[0]).collect();
            let _ = listed(&noise, &mut |_, _| {});
            let _ = (status(&noise), revision(&noise), succeeded(&noise));
        }
    }
}
