//! Checksums around bytes: the only code that decides "these bytes are whole".
//!
//! A disk writes a *sector* of 512 bytes whole or not at all, and tells nobody which of the sectors
//! of a larger write it came to write before the power went. So every sector says for itself where
//! it belongs, which incarnation of its owner wrote it, and that it is whole. Whoever reads many
//! sectors can then tell *new*, *old* and *damaged* apart, sector by sector, and never has to
//! guess whether a checksum fails because a write was torn or because a bit has flipped.
//!
//! A sector is 496 bytes of payload and a trailer:
//!
//! | offset | size | field | value |
//! |-------:|-----:|---------|----------------------------------------------------|
//! | 0 | 496 | payload | what the owner stores; zero past its end |
//! | 496 | 8 | place | [`Stamp::lsn`], plus 1 if the sector begins a frame |
//! | 504 | 4 | epoch | [`Stamp::epoch`] |
//! | 508 | 4 | crc | CRC-32 of bytes 0..508, continued from the [`Seal`] |
//!
//! Integers are little-endian; CRC-32 is the IEEE polynomial's. The checksum continues that of the
//! owner's identity, so a sector of another log, or of another shard, is not whole here.
//!
//! Left out: what the payload means, and what is to be done about a sector that is not whole.

use crc32fast::Hasher;

/// Bytes that a disk writes whole or not at all.
pub const SECTOR_SIZE: usize = 512;
/// Bytes of a sector that its owner fills.
pub const PAYLOAD_SIZE: usize = 496;
/// Bytes that direct I/O writes at least, and that start every frame.
pub const BLOCK_SIZE: usize = 4096;
/// Bytes of a block that its owner fills.
pub const BLOCK_PAYLOAD_SIZE: usize = BLOCK_SIZE / SECTOR_SIZE * PAYLOAD_SIZE;

/// Where each field of a sector lies: name, offset and size in bytes.
pub const SECTOR_FIELDS: [(&str, usize, usize); 4] =
    [("payload", 0, 496), ("place", 496, 8), ("epoch", 504, 4), ("crc", 508, 4)];

const PLACE_AT: usize = 496;
const EPOCH_AT: usize = 504;
const CRC_AT: usize = 508;

const _: () = assert!(BLOCK_SIZE.is_multiple_of(SECTOR_SIZE));
const _: () = assert!(CRC_AT + 4 == SECTOR_SIZE);
const _: () = assert!(PAYLOAD_SIZE == PLACE_AT);
const _: () = {
    let (mut i, mut end) = (0, 0);
    while i < SECTOR_FIELDS.len() {
        assert!(SECTOR_FIELDS[i].1 == end, "fields leave no gap");
        end += SECTOR_FIELDS[i].2;
        i += 1;
    }
    assert!(end == SECTOR_SIZE);
};

/// The CRC-32 (IEEE) of `parts` one after the other.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Where a sector belongs and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Position of the sector's first byte in its log; a multiple of [`SECTOR_SIZE`].
    pub lsn: u64,
    /// The sector is the first of a frame.
    pub begins: bool,
    /// The incarnation that wrote it.
    pub epoch: u32,
}

/// What one sector is, taken by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sector {
    /// Every byte is zero: nothing was ever written here.
    Zero,
    /// Exactly what some incarnation of this owner wrote.
    Whole(Stamp),
    /// Neither: bits have flipped, or the bytes are another owner's.
    Broken,
}

/// The identity that an owner's sectors are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    seed: u32,
}

impl Seal {
    /// The seal of the owner known by `identity`.
    #[must_use]
    pub fn new(identity: &[u8]) -> Self {
        Self { seed: checksum(&[identity]) }
    }

    /// Writes the trailer of `sector`, whose payload is in place.
    ///
    /// # Panics
    /// Unless `sector` is [`SECTOR_SIZE`] bytes and `stamp.lsn` a multiple of that.
    pub fn close(self, sector: &mut [u8], stamp: Stamp) {
        assert!(sector.len() == SECTOR_SIZE, "a sector has 512 bytes");
        assert!(stamp.lsn.is_multiple_of(512), "a sector starts at a multiple of its size");
        let place = stamp.lsn | u64::from(stamp.begins);
        sector[PLACE_AT..EPOCH_AT].copy_from_slice(&place.to_le_bytes());
        sector[EPOCH_AT..CRC_AT].copy_from_slice(&stamp.epoch.to_le_bytes());
        let crc = self.crc(&sector[..CRC_AT]);
        sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// What `sector` is.
    ///
    /// # Panics
    /// Unless `sector` is [`SECTOR_SIZE`] bytes.
    #[must_use]
    pub fn open(self, sector: &[u8]) -> Sector {
        assert!(sector.len() == SECTOR_SIZE, "a sector has 512 bytes");
        let crc = u32_at(sector, CRC_AT);
        if crc == 0 && sector.iter().all(|&byte| byte == 0) {
            return Sector::Zero;
        }
        let place = u64_at(sector, PLACE_AT);
        if self.crc(&sector[..CRC_AT]) != crc || place & 0x1fe != 0 {
            return Sector::Broken;
        }
        let lsn = place & !1;
        Sector::Whole(Stamp { lsn, begins: place & 1 == 1, epoch: u32_at(sector, EPOCH_AT) })
    }

    /// The checksum of `parts` one after the other, which begin at byte `place` of the owner's:
    /// for what is too large or too small for a sector.
    #[must_use]
    pub fn checksum_at(self, place: u64, parts: &[&[u8]]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.seed);
        hasher.update(&place.to_le_bytes());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.seed);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The little-endian integer at `offset`.
///
/// # Panics
/// If it does not lie in `bytes`.
#[must_use]
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

/// The little-endian integer at `offset`.
///
/// # Panics
/// If it does not lie in `bytes`.
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

/// The little-endian integer at `offset`.
///
/// # Panics
/// If it does not lie in `bytes`.
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().expect("two bytes"))
}

/// The rows `| offset | size | field |` of the tables in a source file's module doc.
#[cfg(test)]
pub(crate) fn table_rows(source: &str) -> Vec<(String, usize, usize)> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter(|row| row.starts_with(|c: char| c.is_ascii_digit()))
        .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| {
            let number = |text: &str| text.parse().expect("a number");
            (cells[2].to_owned(), number(cells[0]), number(cells[1]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(seal: Seal) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(SECTOR_SIZE).collect();
        seal.close(&mut bytes, Stamp { lsn: 4096, begins: true, epoch: 7 });
        bytes
    }

    #[test]
    fn the_table_is_the_format() {
        let rows = table_rows(include_str!("frame.rs"));
        let code: Vec<_> = SECTOR_FIELDS.iter().map(|&(n, o, s)| (n.to_owned(), o, s)).collect();
        assert_eq!(rows, code);
    }

    #[test]
    fn a_closed_sector_opens_with_its_stamp() {
        let seal = Seal::new(b"one");
        let stamp = Stamp { lsn: 4096, begins: true, epoch: 7 };
        assert_eq!(seal.open(&sector(seal)), Sector::Whole(stamp));
    }

    #[test]
    fn every_flipped_bit_breaks_a_sector() {
        let seal = Seal::new(b"one");
        let mut bytes = sector(seal);
        for bit in 0..SECTOR_SIZE * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(&bytes), Sector::Broken, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_sector_of_another_owner_is_broken() {
        assert_eq!(Seal::new(b"two").open(&sector(Seal::new(b"one"))), Sector::Broken);
    }

    #[test]
    fn a_sector_never_written_is_zero_and_one_flipped_bit_breaks_it() {
        let seal = Seal::new(b"one");
        let mut bytes = vec![0; SECTOR_SIZE];
        assert_eq!(seal.open(&bytes), Sector::Zero);
        for bit in 0..SECTOR_SIZE * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(&bytes), Sector::Broken, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_checksum_at_a_place_is_of_its_owner_and_its_place() {
        let one = Seal::new(b"one");
        let crc = one.checksum_at(4096, &[b"1234", b"5"]);
        assert_eq!(crc, one.checksum_at(4096, &[b"12345"]));
        assert_ne!(crc, one.checksum_at(8192, &[b"12345"]));
        assert_ne!(crc, Seal::new(b"two").checksum_at(4096, &[b"12345"]));
    }

    #[test]
    fn the_checksum_is_the_ieee_polynomials() {
        assert_eq!(checksum(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(checksum(&[b"1234", b"56789"]), 0xcbf4_3926);
    }
}
