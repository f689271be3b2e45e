//! The manifest: which segments there are, and what their owner has to know besides.

use super::Cause;
use super::Damage;
use super::FileId;
use super::format::Identity;
use super::format::LISTED_SIZE;
use super::format::LISTED_SIZE_FIRST;
use super::format::MANIFEST_HEADER_SIZE;
use super::format::MANIFEST_MAGIC;
use super::format::MANIFEST_SIZE_MAX;
use super::format::MANIFEST_VERSION;
use super::format::MANIFEST_VERSION_FIRST;
use super::format::NUMBER_MAX;
use super::format::NotOurs;
use super::format::Origin;
use super::format::Summary;
use super::format::revision;
use super::format::usize_from;
use crate::frame::BLOCK_SIZE;
use crate::frame::{u16_at, u32_at, u64_at};
use crate::types::Revision;
use crate::types::ShardId;

const CRC_AT: usize = 60;
const RESERVED_AT: usize = 48;
const SUMMARY_AT: usize = 16;
const LISTED_RESERVED_AT: usize = 68;
const ORIGIN_AT: usize = 72;
const FLAG_ARRIVED: u16 = 1;

/// A segment as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// It has no put that was dead when this was the floor; 0 is no claim.
    pub swept: Revision,
    /// What its footer says.
    pub summary: Summary,
    /// Who sealed it.
    pub origin: Origin,
}

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose it is.
    pub identity: Identity,
    /// Place among the store's manifests, from 1.
    pub sequence: u64,
    /// Above the number of every segment that was ever listed.
    pub number_next: u64,
    /// The segments, in the order of their revisions.
    pub segments: Vec<Segment>,
    /// What the owner keeps with them.
    pub state: Vec<u8>,
    /// They came from a peer, and the log beside them may not reach as far.
    pub arrived: bool,
}

/// What the first bytes of a manifest say.
#[derive(Clone, Copy, Debug)]
struct Header {
    version: u16,
    arrived: bool,
    identity: Identity,
    sequence: u64,
    number_next: u64,
    segment_count: u32,
    state_size: u32,
    body_crc: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        if bytes[0..4] != MANIFEST_MAGIC {
            return Err(NotOurs::Foreign);
        }
        let version = u16_at(bytes, 4);
        let flags_known = match version {
            MANIFEST_VERSION_FIRST => 0,
            MANIFEST_VERSION => FLAG_ARRIVED,
            _ => return Err(NotOurs::Version(version)),
        };
        let flags = u16_at(bytes, 6);
        let identity = Identity { store_id: u64_at(bytes, 8), shard: ShardId(u32_at(bytes, 32)) };
        let crc = identity.manifest_seal().checksum_at(0, &[&bytes[..CRC_AT]]);
        let header = Self {
            version,
            arrived: flags & FLAG_ARRIVED != 0,
            identity,
            sequence: u64_at(bytes, 16),
            number_next: u64_at(bytes, 24),
            segment_count: u32_at(bytes, 36),
            state_size: u32_at(bytes, 40),
            body_crc: u32_at(bytes, 44),
        };
        let is_sound = crc == u32_at(bytes, CRC_AT)
            && flags & !flags_known == 0
            && bytes[RESERVED_AT..CRC_AT].iter().all(|&byte| byte == 0)
            && (1..=NUMBER_MAX).contains(&header.sequence)
            && header.number_next <= NUMBER_MAX;
        if is_sound { Ok(header) } else { Err(NotOurs::Broken) }
    }

    /// Bytes of a listed segment.
    fn listed_size(&self) -> usize {
        if self.version == MANIFEST_VERSION_FIRST { LISTED_SIZE_FIRST } else { LISTED_SIZE }
    }

    fn used_size(&self) -> u64 {
        MANIFEST_HEADER_SIZE as u64
            + self.listed_size() as u64 * u64::from(self.segment_count)
            + u64::from(self.state_size)
    }
}

impl Manifest {
    /// The file's bytes.
    ///
    /// # Panics
    /// If they are more than [`MANIFEST_SIZE_MAX`], or the segments are not in order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.are_segments_sound(), "segments are in the order of their revisions");
        let count = u32::try_from(self.segments.len()).expect("fewer than 2^32 segments");
        let state_size = u32::try_from(self.state.len()).expect("less than 4 GiB of state");
        let used = MANIFEST_HEADER_SIZE + LISTED_SIZE * self.segments.len() + self.state.len();
        let size = used.next_multiple_of(BLOCK_SIZE);
        assert!(size as u64 <= MANIFEST_SIZE_MAX, "a manifest is less than 256 MiB");
        let mut bytes = vec![0; MANIFEST_HEADER_SIZE];
        bytes.reserve_exact(size);
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.number.to_le_bytes());
            bytes.extend_from_slice(&segment.swept.0.to_le_bytes());
            let at = bytes.len();
            bytes.resize(at + LISTED_SIZE - SUMMARY_AT, 0);
            segment.summary.encode(&mut bytes[at..at + LISTED_RESERVED_AT - SUMMARY_AT]);
            let at = bytes.len() - (LISTED_SIZE - ORIGIN_AT);
            bytes[at..at + 8].copy_from_slice(&segment.origin.store_id.to_le_bytes());
            bytes[at + 8..].copy_from_slice(&segment.origin.number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.state);
        bytes.resize(size, 0);
        let seal = self.identity.manifest_seal();
        let body = &bytes[MANIFEST_HEADER_SIZE..];
        let body_crc = seal.checksum_at(MANIFEST_HEADER_SIZE as u64, &[body]);
        bytes[0..4].copy_from_slice(&MANIFEST_MAGIC);
        bytes[4..6].copy_from_slice(&MANIFEST_VERSION.to_le_bytes());
        let flags = if self.arrived { FLAG_ARRIVED } else { 0 };
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.identity.store_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number_next.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&count.to_le_bytes());
        bytes[40..44].copy_from_slice(&state_size.to_le_bytes());
        bytes[44..48].copy_from_slice(&body_crc.to_le_bytes());
        let crc = seal.checksum_at(0, &[&bytes[..CRC_AT]]);
        bytes[CRC_AT..MANIFEST_HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads all of a manifest's bytes. Whose it is, is for the caller to compare.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let damage = |offset, cause| Damage { file: FileId::Manifest.to_string(), offset, cause };
        let Some((first, body)) = bytes.split_at_checked(MANIFEST_HEADER_SIZE) else {
            return Err(damage(0, Cause::Manifest));
        };
        let header = Header::decode(first).map_err(|why| match why {
            NotOurs::Version(found) => damage(0, Cause::Version { found }),
            NotOurs::Foreign | NotOurs::Broken => damage(0, Cause::Manifest),
        })?;
        let expected = header.used_size().next_multiple_of(BLOCK_SIZE as u64);
        if expected != bytes.len() as u64 {
            return Err(damage(0, Cause::Size { expected, found: bytes.len() as u64 }));
        }
        let seal = header.identity.manifest_seal();
        let at = MANIFEST_HEADER_SIZE as u64;
        if seal.checksum_at(at, &[body]) != header.body_crc {
            return Err(damage(at, Cause::Manifest));
        }
        Self::decode_body(&header, body).ok_or_else(|| damage(at, Cause::Manifest))
    }

    fn decode_body(header: &Header, body: &[u8]) -> Option<Self> {
        let listed_size = header.listed_size();
        let (listed, rest) = body.split_at(listed_size * usize_from(header.segment_count));
        let (state, padding) = rest.split_at(usize_from(header.state_size));
        let segment = |bytes: &[u8]| {
            let summary = Summary::decode(&bytes[SUMMARY_AT..LISTED_RESERVED_AT])?;
            let swept = revision(u64_at(bytes, 8))?;
            let is_zero = u32_at(bytes, LISTED_RESERVED_AT) == 0;
            let number = u64_at(bytes, 0);
            let origin = match header.version {
                MANIFEST_VERSION_FIRST => header.identity.origin(number),
                _ => Origin {
                    store_id: u64_at(bytes, ORIGIN_AT),
                    number: u64_at(bytes, ORIGIN_AT + 8),
                },
            };
            is_zero.then_some(Segment { number, swept, summary, origin })
        };
        let manifest = Self {
            identity: header.identity,
            sequence: header.sequence,
            number_next: header.number_next,
            segments: listed.chunks_exact(listed_size).map(segment).collect::<Option<_>>()?,
            state: state.to_vec(),
            arrived: header.arrived,
        };
        let is_zero = padding.iter().all(|&byte| byte == 0);
        (is_zero && manifest.are_segments_sound()).then_some(manifest)
    }

    /// Whether the segments follow one another and each has a number of its own.
    fn are_segments_sound(&self) -> bool {
        let mut numbers: Vec<_> = self.segments.iter().map(|segment| segment.number).collect();
        numbers.sort_unstable();
        self.segments.windows(2).all(|pair| pair[0].summary.last < pair[1].summary.first)
            && numbers.windows(2).all(|pair| pair[0] < pair[1])
            && numbers.last().is_none_or(|&last| last < self.number_next)
    }
}
