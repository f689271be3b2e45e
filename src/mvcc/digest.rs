//! A cheap digest for comparing states; no defence against anyone.

/// A digest that depends on everything fed to it and on the order.
///
/// # Source
/// FNV-1a over 64-bit words, with the finishing steps of splitmix64.
#[derive(Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn number(&mut self, number: i64) {
        self.word(number.cast_unsigned());
    }

    /// Takes in `bytes` and how many they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(u64::try_from(bytes.len()).expect("lengths have 64 bits"));
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub(super) fn finish(&self) -> u64 {
        self.0
    }

    fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = mixed ^ (mixed >> 31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::new();
        parts.iter().for_each(|part| digest.bytes(part));
        digest.finish()
    }

    #[test]
    fn order_and_borders_count() {
        assert_eq!(of(&[b"a", b"b"]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
        assert_ne!(of(&[b"ab", b""]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a"]), of(&[b"a\0"]));
    }
}
