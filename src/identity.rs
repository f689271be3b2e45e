//! The file that says who a member is: a line a field, and a checksum of the lines before.
//!
//! ```text
//! ringd identity 1
//! cluster cdf818194e3a8c32
//! member 8e9e05c52164694d
//! shards 1
//! log 51c7d9a8f0b3e264
//! crc 0a1b2c3d
//! ```
//!
//! Numbers are hexadecimal, but for the count of shards; the checksum is CRC-32. Another first line
//! is another format, and refused.

use crate::types::ClusterId;
use crate::types::NodeId;

/// First line of the file; another one is refused.
const FIRST_LINE: &str = "ringd identity 1";

/// What a member keeps of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Which of the cluster's members it is.
    pub member: NodeId,
    /// How many shards it hosts.
    pub shards: u32,
    /// Set apart from every other log ever, by lot.
    pub log_id: u64,
}

impl Identity {
    /// Whether a file that begins like this is meant to be an identity.
    #[must_use]
    pub fn is_like(bytes: &[u8]) -> bool {
        bytes.starts_with(b"ringd identity ")
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let body = format!(
            "{FIRST_LINE}\ncluster {:016x}\nmember {:016x}\nshards {}\nlog {:016x}\n",
            self.cluster.0, self.member.0, self.shards, self.log_id
        );
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc {crc:08x}\n")
    }

    /// What a file holds.
    ///
    /// # Errors
    /// Why it is no identity, or not whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        let first = text.lines().next().unwrap_or_default();
        if first != FIRST_LINE {
            return Err(format!("its first line is {first:?} where {FIRST_LINE:?} is due"));
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex = |name| field(name).and_then(|value| u64::from_str_radix(value, 16).ok());
        let read = || {
            Some(Self {
                cluster: ClusterId(hex("cluster")?),
                member: NodeId(hex("member")?),
                shards: field("shards")?.parse().ok()?,
                log_id: hex("log")?,
            })
        };
        match read() {
            Some(identity) if identity.text() == text => Ok(identity),
            _ => Err("its lines do not match their checksum".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_and_any_other_byte_refused() {
        let identity =
            Identity { cluster: ClusterId(0xc), member: NodeId(0xab), shards: 2, log_id: 7 };
        let text = identity.text();
        assert_eq!(Identity::parse(text.as_bytes()), Ok(identity));
        for at in 0..text.len() {
            for bit in [1, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= bit;
                assert!(Identity::parse(&bytes).is_err(), "byte {at}");
            }
            assert!(Identity::parse(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }
}
