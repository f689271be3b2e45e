//! A request's headers, decoded and found valid, and a small cache of those a client repeats.

use super::hpack::{Decoder, Fields, HpackError};

/// A header list: pseudo-fields and fields as byte pairs in one arena, valid by RFC 9113 §8.
#[derive(Debug, Default)]
pub struct Head {
    id: u64,
    fields: Fields,
    known: Known,
}

/// Where the fields stand that everybody asks for.
#[derive(Debug, Default)]
struct Known {
    method: Option<usize>,
    scheme: Option<usize>,
    path: Option<usize>,
    authority: Option<usize>,
    content_type: Option<usize>,
    grpc_timeout: Option<usize>,
    content_length: Option<u64>,
}

/// A header list that RFC 9113 §8 calls malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Head {
    /// A number that on one connection stands for exactly this content: equal ids, equal heads.
    ///
    /// Lets the owner keep its routing decision per id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `:method`; empty in trailers.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.value(self.known.method).unwrap_or_default()
    }

    /// `:path`; empty in trailers and for CONNECT.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.value(self.known.path).unwrap_or_default()
    }

    /// `:scheme`; empty in trailers and for CONNECT.
    #[must_use]
    pub fn scheme(&self) -> &[u8] {
        self.value(self.known.scheme).unwrap_or_default()
    }

    /// `:authority`; empty if the client sent none.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.value(self.known.authority).unwrap_or_default()
    }

    /// `content-type`, if any.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.value(self.known.content_type)
    }

    /// `grpc-timeout`, if any, as sent.
    #[must_use]
    pub fn grpc_timeout(&self) -> Option<&[u8]> {
        self.value(self.known.grpc_timeout)
    }

    /// `content-length`, if any.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.known.content_length
    }

    /// The first field of this lower-case name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|field| field.0 == name).map(|field| field.1)
    }

    /// All fields in the order sent, pseudo-fields first.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    fn value(&self, place: Option<usize>) -> Option<&[u8]> {
        self.fields.get(place?).map(|field| field.1)
    }

    /// Notes where the known fields stand, and checks RFC 9113 §8.2 and §8.3.
    fn validate(&mut self, is_trailers: bool) -> Result<(), Malformed> {
        let mut known = Known::default();
        let mut is_pseudo_over = is_trailers;
        for (place, (name, value)) in self.fields.iter().enumerate() {
            let is_pseudo = name.first() == Some(&b':');
            if is_pseudo && is_pseudo_over || !is_value(value) {
                return Err(Malformed);
            }
            is_pseudo_over = !is_pseudo;
            if is_pseudo {
                let known = match name {
                    b":method" => &mut known.method,
                    b":scheme" => &mut known.scheme,
                    b":path" => &mut known.path,
                    b":authority" => &mut known.authority,
                    _ => return Err(Malformed),
                };
                if known.replace(place).is_some() {
                    return Err(Malformed);
                }
            } else {
                known.field(place, name, value)?;
            }
        }
        self.known = known;
        if is_trailers || self.is_request() { Ok(()) } else { Err(Malformed) }
    }

    /// RFC 9113 §8.3.1 and §8.5: which pseudo-fields a request has.
    fn is_request(&self) -> bool {
        if self.method() == b"CONNECT" {
            return self.known.scheme.is_none()
                && self.known.path.is_none()
                && !self.authority().is_empty();
        }
        let path = self.path();
        let is_path = path.first() == Some(&b'/') || path == b"*" && self.method() == b"OPTIONS";
        !self.method().is_empty() && !self.scheme().is_empty() && is_path
    }
}

impl Known {
    /// Looks at a field that is no pseudo-field.
    fn field(&mut self, place: usize, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        match name {
            b"content-type" => {
                self.content_type.get_or_insert(place);
            }
            b"grpc-timeout" => {
                self.grpc_timeout.get_or_insert(place);
            }
            b"content-length" => {
                let length = decimal(value)?;
                if self.content_length.replace(length).is_some_and(|other| other != length) {
                    return Err(Malformed);
                }
            }
            b"te" if value != b"trailers" => return Err(Malformed),
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => return Err(Malformed),
            _ if !is_name(name) => return Err(Malformed),
            _ => {}
        }
        Ok(())
    }
}

/// RFC 9113 §8.2.1: visible ASCII without capitals and colons, at least one.
///
/// Looks at every byte whatever it finds, so that the compiler takes many at once.
fn is_name(name: &[u8]) -> bool {
    let is_bad = |byte: u8| {
        (byte <= 0x20) | (byte >= 0x7f) | (byte == b':') | (byte.wrapping_sub(b'A') < 26)
    };
    !name.is_empty() && !name.iter().fold(false, |bad, byte| bad | is_bad(*byte))
}

/// RFC 9113 §8.2.1: no NUL, no line end, no white space at either end.
fn is_value(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_bad = |byte: u8| (byte == 0) | (byte == b'\r') | (byte == b'\n');
    let is_clean = !value.iter().fold(false, |bad, byte| bad | is_bad(*byte));
    is_clean && !is_space(value.first()) && !is_space(value.last())
}

fn decimal(text: &[u8]) -> Result<u64, Malformed> {
    let digit = |number: Option<u64>, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number?.checked_mul(10)?.checked_add(digit)
    };
    let number = text.iter().fold(Some(0), digit).filter(|_| !text.is_empty());
    number.ok_or(Malformed)
}

/// What a header block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A valid head, to be had from [`Heads::get`].
    Valid,
    /// The stream breaks RFC 9113 §8.
    Malformed,
    /// The list is larger than we allow.
    TooLarge,
}

/// The decoder of a connection and the last few heads it decoded.
///
/// A client sends the same few blocks again and again. A block with the same bytes, over a table
/// that has not changed since, means the same head, so it is not decoded again.
#[derive(Debug)]
pub(super) struct Heads {
    decoder: Decoder,
    list_size_max: usize,
    entries: [Entry; ENTRY_COUNT],
    /// Which entry holds the head decoded last.
    current: usize,
    trailers: Head,
    /// Counts lookups, for the age of entries.
    uses: u64,
    ids: u64,
}

/// Heads kept: a client has a handful of methods with one set of metadata each.
const ENTRY_COUNT: usize = 8;
/// Blocks above this many bytes are not kept: a repeated block is a few indices.
const BLOCK_KEPT_MAX: usize = 512;
/// An arena above this many bytes is the next to be replaced, so that large heads do not pile up.
const ARENA_KEPT_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Entry {
    head: Head,
    block: Vec<u8>,
    /// The table's generation at which the block means this head; none if the block itself changes
    /// the table, or was not kept.
    generation: Option<u64>,
    /// When this entry was used last; 0 if it may be replaced first.
    used: u64,
    is_valid: bool,
}

impl Heads {
    pub(super) fn new(table_size_max: usize, list_size_max: usize) -> Self {
        Self {
            decoder: Decoder::new(table_size_max),
            list_size_max,
            entries: Default::default(),
            current: 0,
            trailers: Head::default(),
            uses: 0,
            ids: 0,
        }
    }

    /// The head of the last block that was [`Verdict::Valid`].
    pub(super) fn get(&self) -> &Head {
        &self.entries[self.current].head
    }

    /// The trailers that were [`Verdict::Valid`] last.
    pub(super) fn trailers(&self) -> &Head {
        &self.trailers
    }

    /// Decodes a request's block, or knows it.
    pub(super) fn request(&mut self, block: &[u8]) -> Result<Verdict, HpackError> {
        self.uses += 1;
        let generation = Some(self.decoder.generation());
        for place in (0..ENTRY_COUNT).map(|i| (self.current + i) % ENTRY_COUNT) {
            let entry = &mut self.entries[place];
            if entry.generation == generation && entry.block == block {
                entry.used = self.uses;
                self.current = place;
                return Ok(Verdict::Valid);
            }
        }
        self.decode(block)
    }

    /// Decodes into the entry unused the longest.
    fn decode(&mut self, block: &[u8]) -> Result<Verdict, HpackError> {
        let before = self.decoder.generation();
        let oldest = (0..ENTRY_COUNT).min_by_key(|place| self.entries[*place].used);
        let place = oldest.expect("there are entries");
        let entry = &mut self.entries[place];
        if entry.head.fields.capacity() > ARENA_KEPT_MAX {
            entry.head.fields = Fields::new();
        }
        (entry.generation, entry.used, entry.is_valid) = (None, 0, false);
        self.decoder.decode(block, self.list_size_max, &mut entry.head.fields)?;
        if entry.head.fields.is_too_large() {
            return Ok(Verdict::TooLarge);
        }
        if entry.head.validate(false).is_err() {
            return Ok(Verdict::Malformed);
        }
        entry.is_valid = true;
        if entry.head.fields.capacity() <= ARENA_KEPT_MAX {
            entry.used = self.uses;
            if block.len() <= BLOCK_KEPT_MAX && before == self.decoder.generation() {
                entry.block.clear();
                entry.block.extend_from_slice(block);
                entry.generation = Some(before);
            }
        }
        self.identify(place);
        Ok(Verdict::Valid)
    }

    /// Gives the head in `place` the id of an equal one, or a new one.
    fn identify(&mut self, place: usize) {
        let fields = &self.entries[place].head.fields;
        let is_equal = |(other, entry): &(usize, &Entry)| {
            *other != place && entry.is_valid && entry.head.fields.is_same(fields)
        };
        let equal = self.entries.iter().enumerate().find(is_equal);
        let id = equal.map_or(self.ids + 1, |(_, entry)| entry.head.id);
        self.ids = self.ids.max(id);
        self.entries[place].head.id = id;
        self.current = place;
    }

    /// Decodes a block that comes after a request's body.
    pub(super) fn trailers_block(&mut self, block: &[u8]) -> Result<Verdict, HpackError> {
        if self.trailers.fields.capacity() > ARENA_KEPT_MAX {
            self.trailers.fields = Fields::new();
        }
        self.decoder.decode(block, self.list_size_max, &mut self.trailers.fields)?;
        if self.trailers.fields.is_too_large() {
            return Ok(Verdict::TooLarge);
        }
        self.ids += 1;
        self.trailers.id = self.ids;
        let is_valid = self.trailers.validate(true).is_ok();
        Ok(if is_valid { Verdict::Valid } else { Verdict::Malformed })
    }
}
