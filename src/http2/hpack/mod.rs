//! Header compression, RFC 7541: a whole decoder, and an encoder that keeps no state.
//!
//! The encoder's blocks hold for every connection and every time, so an owner makes those of its
//! usual replies once. What a reply says anew each time (an error's message) it appends as a
//! literal.

mod huffman;
mod table;
#[cfg(test)]
mod tests;

use table::{ENTRY_OVERHEAD, STATIC, Table};

/// A header block that cannot be decoded; the connection's table is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("the header block is cut short")]
    Truncated,
    /// An integer is larger than any size or index can be.
    #[error("an integer of the header block is too large")]
    Integer,
    /// An index points to no entry.
    #[error("an index of the header block points nowhere")]
    Index,
    /// A Huffman-coded string is not one.
    #[error("a string of the header block is not Huffman code")]
    Huffman,
    /// The table's size is changed after a field, more than twice, or beyond what we allow.
    #[error("the header block misuses a table size update")]
    SizeUpdate,
    /// The block decodes to more than [`Decoder::BOMB_FACTOR`] times the list size allowed.
    #[error("the header block decodes to far more than is allowed")]
    Bomb,
}

/// A decoded header list: names and values in one arena.
#[derive(Debug, Default)]
pub struct Fields {
    arena: Vec<u8>,
    spans: Vec<Span>,
    size: usize,
    is_too_large: bool,
}

/// Where a field stands in the arena: its name from `name` to `value`, its value from there to
/// `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    name: u32,
    value: u32,
    end: u32,
}

impl Fields {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The name and value of a field by its place, from 0.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.spans.get(place).map(|span| self.field(*span))
    }

    /// All fields, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| self.field(*span))
    }

    /// The list was larger than allowed; its later fields are missing.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Bytes that the arena holds on to.
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Whether both hold the same fields in the same order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.arena == other.arena && self.spans == other.spans
    }

    fn field(&self, span: Span) -> (&[u8], &[u8]) {
        let at = |offset: u32| usize::try_from(offset).expect("usize has 64 bits");
        (&self.arena[at(span.name)..at(span.value)], &self.arena[at(span.value)..at(span.end)])
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.spans.clear();
        self.size = 0;
        self.is_too_large = false;
    }

    /// Takes the bytes from `name` on as a field whose value begins at `value`, or drops them if
    /// the list is full.
    fn close(&mut self, name: usize, value: usize, size_max: usize) -> Result<(), HpackError> {
        self.size += self.arena.len() - name + ENTRY_OVERHEAD;
        if self.size > size_max {
            self.is_too_large = true;
            self.arena.truncate(name);
            let is_bomb = self.size > size_max.saturating_mul(Decoder::BOMB_FACTOR);
            return if is_bomb { Err(HpackError::Bomb) } else { Ok(()) };
        }
        let at = |offset: usize| u32::try_from(offset).expect("a list is below 4 GiB");
        self.spans.push(Span { name: at(name), value: at(value), end: at(self.arena.len()) });
        Ok(())
    }
}

/// Turns header blocks into fields, in the order in which they came.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What our SETTINGS allow the table to be.
    table_size_max: usize,
}

impl Decoder {
    /// How many times too large a list may be before decoding it costs too much: 4 keeps the table
    /// in step for a client that is merely wordy, and stops one that aims at our memory bandwidth.
    pub const BOMB_FACTOR: usize = 4;

    /// A decoder with an empty table of at most `table_size_max` bytes (as RFC 7541 §4.1 counts).
    #[must_use]
    pub fn new(table_size_max: usize) -> Self {
        Self { table: Table::new(table_size_max), table_size_max }
    }

    /// Counts the changes of the table: a block decoded at an unchanged generation means the same
    /// again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// Decodes one whole block into `fields`, keeping at most `size_max` bytes (RFC 9113 §6.5.2).
    ///
    /// # Errors
    /// Any [`HpackError`] ends the connection. A list too large is no error: the table is kept in
    /// step, and `fields` says so.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        size_max: usize,
        fields: &mut Fields,
    ) -> Result<(), HpackError> {
        fields.clear();
        let mut updates = 0;
        while let Some(first @ 0x20..=0x3f) = block.first() {
            let size = integer(&mut block, *first, 5)?;
            updates += 1;
            if updates > 2 || size > self.table_size_max {
                return Err(HpackError::SizeUpdate);
            }
            self.table.resize(size);
        }
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, first, 7)?;
                    let (name, value) = self.table.get(index).ok_or(HpackError::Index)?;
                    let start = fields.arena.len();
                    fields.arena.extend_from_slice(name);
                    fields.arena.extend_from_slice(value);
                    fields.close(start, start + name.len(), size_max)?;
                }
                0x40..=0x7f => self.literal(&mut block, 6, size_max, fields)?,
                0x20..=0x3f => return Err(HpackError::SizeUpdate),
                // Without indexing and never indexed mean the same to one who forwards nothing.
                ..0x20 => self.literal(&mut block, 4, size_max, fields)?,
            }
        }
        Ok(())
    }

    /// A field that is not, or not wholly, in a table; with a 6-bit prefix it goes there.
    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix_bits: u8,
        size_max: usize,
        fields: &mut Fields,
    ) -> Result<(), HpackError> {
        let first = *block.first().ok_or(HpackError::Truncated)?;
        let start = fields.arena.len();
        match integer(block, first, prefix_bits)? {
            0 => string(block, &mut fields.arena)?,
            index => {
                let (name, _) = self.table.get(index).ok_or(HpackError::Index)?;
                fields.arena.extend_from_slice(name);
            }
        }
        let value = fields.arena.len();
        string(block, &mut fields.arena)?;
        if prefix_bits == 6 {
            let (name, value) = fields.arena[start..].split_at(value - start);
            self.table.insert(name, value);
        }
        fields.close(start, value, size_max)
    }
}

/// Reads an integer whose first bits stand in `first`, the block's first byte.
fn integer(block: &mut &[u8], first: u8, prefix_bits: u8) -> Result<usize, HpackError> {
    let mask = u8::MAX >> (8 - prefix_bits);
    *block = block.get(1..).ok_or(HpackError::Truncated)?;
    let mut value = u64::from(first & mask);
    if first & mask < mask {
        return usize::try_from(value).map_err(|_| HpackError::Integer);
    }
    // Four more bytes say any number below 2^28, more than a block can hold.
    for shift in [0, 7, 14, 21] {
        let byte = *block.first().ok_or(HpackError::Truncated)?;
        *block = &block[1..];
        value += u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| HpackError::Integer);
        }
    }
    Err(HpackError::Integer)
}

/// Appends the string at the front of the block.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let first = *block.first().ok_or(HpackError::Truncated)?;
    let size = integer(block, first, 7)?;
    let (bytes, rest) = block.split_at_checked(size).ok_or(HpackError::Truncated)?;
    *block = rest;
    if first & 0x80 == 0 {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    huffman::decode(bytes, out)
}

/// Appends the field as a literal without indexing; `name` must be lower case.
pub fn encode_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    assert!(!name.iter().any(u8::is_ascii_uppercase), "field names are lower case");
    match STATIC.iter().position(|(known, _)| known.as_bytes() == name) {
        Some(place) => put_integer(out, 0x00, 4, place + 1),
        None => {
            out.push(0);
            put_integer(out, 0x00, 7, name.len());
            out.extend_from_slice(name);
        }
    }
    put_integer(out, 0x00, 7, value.len());
    out.extend_from_slice(value);
}

/// Appends a field of the static table by its index, from 1 (`:status: 200` is 8).
///
/// # Panics
/// If the static table has no such index.
pub fn encode_indexed(out: &mut Vec<u8>, index: u8) {
    assert!((1..=STATIC.len()).contains(&usize::from(index)), "the static table has 61 entries");
    out.push(0x80 | index);
}

/// Appends `value` with its first bits after those of `pattern`.
fn put_integer(out: &mut Vec<u8>, pattern: u8, prefix_bits: u8, value: usize) {
    let mask = u8::MAX >> (8 - prefix_bits);
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        out.push(pattern | u8::try_from(value).expect("below the mask"));
        return;
    };
    out.push(pattern | mask);
    while rest >= 0x80 {
        out.push(0x80 | u8::try_from(rest & 0x7f).expect("seven bits"));
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("seven bits"));
}
