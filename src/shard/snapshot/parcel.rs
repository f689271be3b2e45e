//! What the shards of one group say to each other about snapshots, and its bytes.
//!
//! A leader offers a sealed state, and who needs it pulls it, piece by piece: so the receiver says
//! with each word what it has, and neither a broken connection nor a lost piece loses more than
//! what was on its way. A state has *parts*: part 0 is the manifest of the leader's store, which
//! lists the segments and holds what is not in them; the others are those segments, as their files
//! are.
//!
//! Little-endian. Every parcel: what it is (u8), the snapshot (u64), then, by what it is:
//!
//! | code | parcel | fields |
//! |-----:|---------|-----------------------------------------------------------------------|
//! | 1 | Offer | index (u64), term (u64), manifest (u64), size (u64) |
//! | 2 | Pull | part (u32), offset (u64), size (u32) |
//! | 3 | Piece | part (u32), offset (u64), the bytes to the end |
//! | 4 | Settled | done (u8, 0 or 1) |
//! | 5 | Gone | |
//!
//! Index and term are those of the last entry in the state; manifest is the bytes of part 0, size
//! those of all parts.

use crate::raft;
use crate::raft::Position;
use crate::store::format::MANIFEST_SIZE_MAX;
use crate::types::LogIndex;
use crate::types::Term;
use bytes::Buf;
use bytes::Bytes;

/// Most bytes of one piece. 1 MiB: a piece holds up what comes behind it.
pub(super) const PIECE_SIZE_MAX: usize = 1 << 20;

/// A sealed state that may be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name, for the process that offers it.
    pub snapshot: u64,
    /// The last entry in it.
    pub position: Position,
    /// Bytes of its manifest.
    pub manifest_size: u64,
    /// Bytes of all its parts.
    pub size: u64,
}

/// One thing that is said about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A leader has it for whoever gets this.
    Offer(Offer),
    /// A receiver has what is before, and wants these bytes.
    Pull {
        /// Of which snapshot.
        snapshot: u64,
        /// Of which part.
        part: u32,
        /// From where on.
        offset: u64,
        /// How many.
        size: u32,
    },
    /// Here they are.
    Piece {
        /// Of which snapshot.
        snapshot: u64,
        /// Of which part.
        part: u32,
        /// From where on.
        offset: u64,
        /// They.
        bytes: Bytes,
    },
    /// A receiver wants no more of it.
    Settled {
        /// Which snapshot.
        snapshot: u64,
        /// It has all of it, or what is as good.
        is_done: bool,
    },
    /// There is no such snapshot, or not any more.
    Gone {
        /// Which.
        snapshot: u64,
    },
}

impl Parcel {
    /// Appends its bytes to `out`.
    pub(in crate::shard) fn encode(&self, out: &mut Vec<u8>) {
        let mut head = |code: u8, snapshot: u64| {
            out.push(code);
            out.extend_from_slice(&snapshot.to_le_bytes());
        };
        match self {
            Self::Offer(Offer { snapshot, position, manifest_size, size }) => {
                head(1, *snapshot);
                for number in [position.index.0, position.term.0, *manifest_size, *size] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
            Self::Pull { snapshot, part, offset, size } => {
                head(2, *snapshot);
                out.extend_from_slice(&part.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&size.to_le_bytes());
            }
            Self::Piece { snapshot, part, offset, bytes } => {
                head(3, *snapshot);
                out.extend_from_slice(&part.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Settled { snapshot, is_done } => {
                head(4, *snapshot);
                out.push(u8::from(*is_done));
            }
            Self::Gone { snapshot } => head(5, *snapshot),
        }
    }

    /// The parcel whose bytes these are, if they are one's and it can be meant; what it carries
    /// shares them.
    pub(in crate::shard) fn decode(mut rest: Bytes) -> Option<Self> {
        let (code, snapshot) = (rest.try_get_u8().ok()?, rest.try_get_u64_le().ok()?);
        let parcel = match code {
            1 => {
                let index = LogIndex(rest.try_get_u64_le().ok()?);
                let term = Term(rest.try_get_u64_le().ok()?);
                let (manifest_size, size) =
                    (rest.try_get_u64_le().ok()?, rest.try_get_u64_le().ok()?);
                let is_sound = (1..=raft::NUMBER_MAX).contains(&index.0)
                    && (1..=raft::NUMBER_MAX).contains(&term.0)
                    && (1..=MANIFEST_SIZE_MAX).contains(&manifest_size)
                    && manifest_size <= size;
                let position = Position { term, index };
                let offer = Offer { snapshot, position, manifest_size, size };
                is_sound.then_some(Self::Offer(offer))?
            }
            2 => {
                let (part, offset) = (rest.try_get_u32_le().ok()?, rest.try_get_u64_le().ok()?);
                let size = rest.try_get_u32_le().ok()?;
                let is_sound =
                    usize::try_from(size).is_ok_and(|it| (1..=PIECE_SIZE_MAX).contains(&it));
                is_sound.then_some(Self::Pull { snapshot, part, offset, size })?
            }
            3 => {
                let (part, offset) = (rest.try_get_u32_le().ok()?, rest.try_get_u64_le().ok()?);
                let bytes = rest.split_off(0);
                let is_sound = (1..=PIECE_SIZE_MAX).contains(&bytes.len());
                is_sound.then_some(Self::Piece { snapshot, part, offset, bytes })?
            }
            4 => {
                let is_done = match rest.try_get_u8().ok()? {
                    0 => false,
                    1 => true,
                    2.. => return None,
                };
                Self::Settled { snapshot, is_done }
            }
            5 => Self::Gone { snapshot },
            0 | 6.. => return None,
        };
        rest.is_empty().then_some(parcel)
    }

    /// About how many bytes it takes.
    pub(in crate::shard) fn size_hint(&self) -> usize {
        match self {
            Self::Piece { bytes, .. } => bytes.len() + 32,
            Self::Offer(_) | Self::Pull { .. } | Self::Settled { .. } | Self::Gone { .. } => 64,
        }
    }
}

#[cfg(test)]
pub(in crate::shard) fn samples() -> Vec<Parcel> {
    let position = Position { term: Term(3), index: LogIndex(900) };
    let (snapshot, part, offset) = (5 << 32 | 7, 2, 4096);
    let bytes = Bytes::from_static(b"some bytes");
    vec![
        Parcel::Offer(Offer { snapshot, position, manifest_size: 4096, size: 12_288 }),
        Parcel::Pull { snapshot, part, offset, size: 8192 },
        Parcel::Piece { snapshot, part, offset, bytes },
        Parcel::Settled { snapshot, is_done: true },
        Parcel::Settled { snapshot, is_done: false },
        Parcel::Gone { snapshot },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(parcel: &Parcel) -> Bytes {
        let mut out = Vec::new();
        parcel.encode(&mut out);
        out.into()
    }

    /// Bytes of the fields that a row of the table tells, and whether more may follow.
    fn row_size(fields: &str) -> (usize, bool) {
        let size = |name: &str, bytes: usize| fields.matches(name).count() * bytes;
        (size("(u64)", 8) + size("(u32)", 4) + size("(u8", 1), fields.contains("to the end"))
    }

    #[test]
    fn the_table_is_the_format() {
        let rows = include_str!("parcel.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
        let rows: Vec<Vec<&str>> =
            rows.map(|row| row.split('|').map(str::trim).collect()).skip(1).collect();
        let mut seen = Vec::new();
        for parcel in samples() {
            let bytes = encoded(&parcel);
            let row = rows.iter().find(|row| row[0] == bytes[0].to_string()).expect("a row");
            assert!(format!("{parcel:?}").starts_with(row[1]), "{parcel:?} in {row:?}");
            let (size, is_open) = row_size(row[2]);
            let rest = bytes.len() - 9 - size;
            assert!(rest == 0 || is_open, "{parcel:?} in {row:?}");
            seen.push(row[0]);
        }
        seen.dedup();
        let all: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_parcel_comes_back_as_it_was_and_its_parts_do_not_read() {
        for parcel in samples() {
            let bytes = encoded(&parcel);
            let is_open = matches!(parcel, Parcel::Piece { .. });
            assert_eq!(Parcel::decode(bytes.clone()), Some(parcel.clone()));
            for size in 0..bytes.len() {
                let part = Parcel::decode(bytes.slice(..size));
                assert!(part.is_none() || (is_open && part != Some(parcel.clone())), "{size}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(is_open || Parcel::decode(longer.into()).is_none());
        }
    }

    #[test]
    fn what_cannot_be_meant_does_not_read() {
        let position = Position { term: Term(3), index: LogIndex(900) };
        let good = Offer { snapshot: 1, position, manifest_size: 4096, size: 4096 };
        let at = |term, index| Position { term: Term(term), index: LogIndex(index) };
        for offer in [
            Offer { position: at(0, 900), ..good },
            Offer { position: at(3, 0), ..good },
            Offer { position: at(3, u64::MAX), ..good },
            Offer { manifest_size: 0, ..good },
            Offer { size: 4095, ..good },
            Offer { manifest_size: u64::MAX, size: u64::MAX, ..good },
        ] {
            assert_eq!(Parcel::decode(encoded(&Parcel::Offer(offer))), None, "{offer:?}");
        }
        for size in [0, u32::MAX] {
            let pull = Parcel::Pull { snapshot: 1, part: 0, offset: 0, size };
            assert_eq!(Parcel::decode(encoded(&pull)), None);
        }
        let bytes = Bytes::from(vec![0; PIECE_SIZE_MAX + 1]);
        let piece = Parcel::Piece { snapshot: 1, part: 0, offset: 0, bytes };
        assert_eq!(Parcel::decode(encoded(&piece)), None);
    }
}
