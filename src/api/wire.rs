//! Protobuf's wire format for the calls that are hot: read where the bytes lie, written without a
//! tree.
//!
//! prost serves every other message. A put and a get are most of what a server does, and here they
//! cost no allocation: the reader hands out slices of the receive buffer, the writer appends to the
//! answer's buffer.

/// Bytes that are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How deep groups, which nobody sends, may nest before they are refused; prost's own bound.
const GROUP_DEPTH_MAX: u32 = 100;

/// One field's value as the wire carries it.
///
/// A field whose value is of another kind than the message says is passed over, as by Go's reader:
/// it is as one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Any other wire type: no message of ours has one, so only its place was found.
    Other,
}

/// A varint as an enum or `int32`: the low half, as every protobuf reader takes it.
pub(crate) fn int32(value: u64) -> i32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits").cast_signed()
}

/// A message's fields, one after the other, as they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(len)?)
            }
            other => {
                self.skip(number, other, 0)?;
                Value::Other
            }
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u32, u32), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        if tag >> 3 == 0 { Err(Malformed) } else { Ok((tag >> 3, tag & 7)) }
    }

    fn skip(&mut self, number: u32, wire_type: u32, depth: u32) -> Result<(), Malformed> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                self.take(len).map(drop)
            }
            3 if depth < GROUP_DEPTH_MAX => loop {
                let (inner, inner_type) = self.tag()?;
                if inner_type == 4 {
                    return if inner == number { Ok(()) } else { Err(Malformed) };
                }
                self.skip(inner, inner_type, depth + 1)?;
            },
            5 => self.take(4).map(drop),
            _ => Err(Malformed),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// Bytes that `value` takes as a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("masked to seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits are left"));
}

/// Bytes that field `number` takes with this value; none for the default, which is not written.
pub(crate) fn uint_field_len(number: u32, value: u64) -> usize {
    if value == 0 { 0 } else { varint_len(u64::from(number) << 3) + varint_len(value) }
}

/// Appends field `number` as a varint unless it is the default.
pub(crate) fn put_uint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number) << 3);
        put_varint(out, value);
    }
}

/// Bytes that field `number` takes as a message or a string of `len` bytes, present even if empty.
pub(crate) fn message_field_len(number: u32, len: usize) -> usize {
    varint_len(u64::from(number) << 3 | 2) + varint_len(size(len)) + len
}

/// Appends the head of field `number`: its tag and the length of what the caller appends next.
pub(crate) fn put_message_head(out: &mut Vec<u8>, number: u32, len: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, size(len));
}

/// Bytes that field `number` takes with these bytes; none if empty.
pub(crate) fn bytes_field_len(number: u32, bytes: &[u8]) -> usize {
    sized_field_len(number, bytes.len())
}

/// Bytes that field `number` takes with so many bytes; none for none.
pub(crate) fn sized_field_len(number: u32, len: usize) -> usize {
    if len == 0 { 0 } else { message_field_len(number, len) }
}

/// Appends field `number` as bytes unless empty.
pub(crate) fn put_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message_head(out, number, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// A length as the wire counts it.
fn size(len: usize) -> u64 {
    u64::try_from(len).expect("usize is 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_comes_back_in_the_bytes_it_said(value in any::<u64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.varint(), Ok(value));
            prop_assert!(fields.rest.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut fields = Fields::new(&bytes);
            while let Ok(Some(_)) = fields.next() {}
        }
    }

    #[test]
    fn fields_come_in_order_and_unknown_ones_are_passed_over() {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, b"key");
        put_uint_field(&mut out, 3, 300);
        out.extend_from_slice(&[(9 << 3) | 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&[(7 << 3) | 3, 8, 1, (7 << 3) | 4]);
        let mut fields = Fields::new(&out);
        assert_eq!(fields.next(), Ok(Some((1, Value::Bytes(b"key")))));
        assert_eq!(fields.next(), Ok(Some((3, Value::Varint(300)))));
        assert_eq!(fields.next(), Ok(Some((9, Value::Other))));
        assert_eq!(fields.next(), Ok(Some((7, Value::Other))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn a_length_beyond_the_message_and_field_zero_are_malformed() {
        assert_eq!(Fields::new(&[0x0a, 5, 1]).next(), Err(Malformed));
        assert_eq!(Fields::new(&[0x02, 0]).next(), Err(Malformed));
        assert_eq!(Fields::new(&[0xff; 11]).next(), Err(Malformed));
    }
}
