//! The two tables that an index of a header block may point into.

use std::collections::VecDeque;

/// Appendix A of RFC 7541; the first stands at index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Bytes that RFC 7541 §4.1 counts for an entry beyond its name and value.
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The fields that a client told us to remember, newest first.
///
/// `size <= size_max`. The bytes of all entries stand in one arena in order of age; what was
/// evicted is cut off its front when the arena has reached twice `size_max`.
#[derive(Debug)]
pub(super) struct Table {
    arena: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    name_size: usize,
    value_size: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.name_size + self.value_size + ENTRY_OVERHEAD
    }
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        Self { arena: Vec::new(), entries: VecDeque::new(), size: 0, size_max, generation: 0 }
    }

    /// Counts the changes of content and of size: equal generations, equal tables.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The name and value at an index of either table.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let age = index - 1 - STATIC.len();
        let entry = self.entries.get(self.entries.len().checked_sub(age + 1)?)?;
        let value = entry.start + entry.name_size;
        Some((&self.arena[entry.start..value], &self.arena[value..value + entry.value_size]))
    }

    /// Remembers a field, forgetting the oldest as needed; one larger than the table empties it.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.generation += 1;
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(self.size_max.saturating_sub(size));
        if size > self.size_max {
            return;
        }
        let entry =
            Entry { start: self.arena.len(), name_size: name.len(), value_size: value.len() };
        self.size += entry.size();
        self.entries.push_back(entry);
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        if self.arena.len() > 2 * self.size_max {
            self.cut_front();
        }
        self.check();
    }

    /// Sets how large the table may be.
    pub(super) fn resize(&mut self, size_max: usize) {
        if self.size_max != size_max {
            self.generation += 1;
        }
        self.size_max = size_max;
        self.evict(size_max);
        self.check();
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let entry = self.entries.pop_front().expect("a size is some entry's");
            self.size -= entry.size();
        }
        if self.entries.is_empty() {
            self.arena.clear();
        }
    }

    fn cut_front(&mut self) {
        let start = self.entries.front().map_or(self.arena.len(), |entry| entry.start);
        self.arena.drain(..start);
        for entry in &mut self.entries {
            entry.start -= start;
        }
    }

    fn check(&self) {
        assert!(self.size <= self.size_max, "the table keeps to its size");
        assert!(self.size > 0 || self.arena.is_empty(), "an empty table holds no bytes");
    }
}
