//! The beginnings of a node's keys, side by side, so that a search rarely leaves the node.

/// For each of a node's keys, the bytes that tell it best from its neighbours.
///
/// # Shape
/// `skip` leading bytes are common to all keys that may ever be searched for in the node, as its
/// fences have them in common; a head is the bytes after those, big-endian, with zeros beyond the
/// key's end. So heads stand in the order of the keys, and different heads decide between keys;
/// equal ones do not.
#[derive(Debug)]
pub(super) struct Heads<H, const MAX: usize> {
    skip: usize,
    heads: [H; MAX],
}

/// A number that stands for the first bytes of something.
pub(super) trait Head: Copy + Ord + Default {
    /// The first bytes of `rest`.
    fn of(rest: &[u8]) -> Self;
}

/// 8 bytes, for leaves, where each costs memory for every key.
impl Head for u64 {
    fn of(rest: &[u8]) -> Self {
        Self::from_be_bytes(first_bytes(rest))
    }
}

/// 16 bytes, for inner nodes, whose keys lie further apart and share less, and which are few.
impl Head for u128 {
    fn of(rest: &[u8]) -> Self {
        Self::from_be_bytes(first_bytes(rest))
    }
}

fn first_bytes<const SIZE: usize>(rest: &[u8]) -> [u8; SIZE] {
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut padded = [0; SIZE];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// What has a key.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

impl Keyed for Box<[u8]> {
    fn key(&self) -> &[u8] {
        self
    }
}

impl<H: Head, const MAX: usize> Heads<H, MAX> {
    /// The heads of `items`.
    pub(super) fn new(skip: usize, items: &[impl Keyed]) -> Self {
        let mut heads = Self { skip, heads: [H::default(); MAX] };
        heads.refill(skip, items);
        heads
    }

    pub(super) fn skip(&self) -> usize {
        self.skip
    }

    /// Takes the heads of `items` anew, after their first `skip` bytes.
    pub(super) fn refill(&mut self, skip: usize, items: &[impl Keyed]) {
        self.skip = skip;
        for (head, item) in self.heads.iter_mut().zip(items) {
            *head = H::of(rest_of(item.key(), skip));
        }
    }

    /// Makes room for `key` at `place` among `len` others.
    pub(super) fn insert(&mut self, place: usize, len: usize, key: &[u8]) {
        self.heads.copy_within(place..len, place + 1);
        self.heads[place] = H::of(rest_of(key, self.skip));
    }

    /// Where `key` is among `items`, or would be.
    pub(super) fn search<K: Keyed>(&self, key: &[u8], items: &[K]) -> Result<usize, usize> {
        let head = H::of(rest_of(key, self.skip));
        let heads = &self.heads[..items.len()];
        let low = heads.partition_point(|other| *other < head);
        if heads.get(low) != Some(&head) {
            return Err(low);
        }
        let rest = rest_of(key, self.skip);
        let same = heads[low..].partition_point(|other| *other == head);
        items[low..low + same]
            .binary_search_by(|other| rest_of(other.key(), self.skip).cmp(rest))
            .map(|place| low + place)
            .map_err(|place| low + place)
    }

    /// Checks that these are the heads of `items`.
    pub(super) fn check_all(&self, items: &[impl Keyed]) {
        for (head, item) in self.heads.iter().zip(items) {
            assert!(*head == H::of(rest_of(item.key(), self.skip)), "a head is its key's");
        }
    }
}

fn rest_of(key: &[u8], skip: usize) -> &[u8] {
    key.get(skip..).unwrap_or_default()
}

/// How many leading bytes two keys share.
pub(super) fn shared(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// The shortest key above `left` and not above `right`.
///
/// # Panics
/// Unless `left < right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Box<[u8]> {
    assert!(left < right, "neighbours stand in order");
    right[..=shared(left, right)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_keys_that_differ_only_by_trailing_zeros() {
        let items: Vec<Box<[u8]>> =
            [&b"k"[..], b"ka", b"ka\0", b"ka\0\0\0\0\0\0\0\0\0", b"kab", b"kb"]
                .map(Into::into)
                .into();
        for skip in 0..=1 {
            find_all(&Heads::<u64, 6>::new(skip, &items), &items);
            find_all(&Heads::<u128, 6>::new(skip, &items), &items);
        }
    }

    fn find_all(heads: &Heads<impl Head, 6>, items: &[Box<[u8]>]) {
        heads.check_all(items);
        for (place, item) in items.iter().enumerate() {
            assert_eq!(heads.search(item, items), Ok(place));
        }
        assert_eq!(heads.search(b"ka\0\0", items), Err(3));
        assert_eq!(heads.search(b"kz", items), Err(6));
    }

    #[test]
    fn a_separator_is_short_and_between() {
        assert_eq!(&*separator(b"abcdef", b"abd123"), b"abd");
        assert_eq!(&*separator(b"ab", b"abc"), b"abc");
        assert_eq!(&*separator(b"", b"xyz"), b"x");
    }
}
