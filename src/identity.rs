//! The file that says who a member is: a line a field, and a checksum of the lines before.
//!
//! ```text
//! ringd identity 2
//! cluster cdf818194e3a8c32
//! member 8e9e05c52164694d
//! shards 1
//! log 51c7d9a8f0b3e264
//! began founding
//! founders 8e9e05c52164694d
//! known 8e9e05c52164694d voter http://localhost:2380 "default"
//! crc 0a1b2c3d
//! ```
//!
//! Numbers are hexadecimal, but for the count of shards; the checksum is CRC-32. A line `known` is
//! one of the members that this one began with, itself among them: its id, `voter` or `learner`,
//! its peer URLs with commas between them, and its name as a JSON text. A member that began by
//! `joining` knows from them whom to ask; for one that began by `founding` they are the cluster's
//! first members. `founders` are the ids of those, with commas between them: they voted when the
//! log began, and every replica's state begins with them.
//!
//! A first line that ends in 1 is that of a file without the lines `began`, `founders` and `known`,
//! as a member that founded a cluster alone used to write it. Any other first line is another
//! format, and refused.

use crate::types::ClusterId;
use crate::types::NodeId;
use std::fmt::Write as _;

/// First line of the file.
const FIRST_LINE: &str = "ringd identity 2";
/// First line of a file that knows no members.
const FORMER_LINE: &str = "ringd identity 1";

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
    /// It was added to a cluster that ran.
    pub joined: bool,
    /// Who voted when the log began, by id; none in a file of the former format: this member alone.
    pub founders: Vec<NodeId>,
    /// The members that it began with, by id; none in a file of the former format.
    pub known: Vec<Known>,
}

/// A member that another one began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who it is.
    pub id: NodeId,
    /// It had no vote.
    pub learner: bool,
    /// Where its peers found it.
    pub peer_urls: Vec<String>,
    /// Its name.
    pub name: String,
}

impl Known {
    fn line(&self) -> String {
        let voice = if self.learner { "learner" } else { "voter" };
        let name = serde_json::Value::String(self.name.clone());
        format!("{:016x} {voice} {} {name}", self.id.0, self.peer_urls.join(","))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let id = NodeId(u64::from_str_radix(words.next()?, 16).ok()?);
        let learner = words.next()? == "learner";
        let peer_urls = words.next()?.split(',').map(str::to_owned).collect();
        let name = serde_json::from_str(words.next()?).ok()?;
        Some(Self { id, learner, peer_urls, name })
    }
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
        let first = if self.known.is_empty() { FORMER_LINE } else { FIRST_LINE };
        let mut body = format!(
            "{first}\ncluster {:016x}\nmember {:016x}\nshards {}\nlog {:016x}\n",
            self.cluster.0, self.member.0, self.shards, self.log_id
        );
        if !self.known.is_empty() {
            let began = if self.joined { "joining" } else { "founding" };
            let founders = self.founders.iter().map(|id| format!("{:016x}", id.0));
            let founders = founders.collect::<Vec<_>>().join(",");
            writeln!(body, "began {began}\nfounders {founders}").expect("a String grows");
        }
        for known in &self.known {
            writeln!(body, "known {}", known.line()).expect("a String grows");
        }
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
        if first != FIRST_LINE && first != FORMER_LINE {
            return Err(format!("its first line is {first:?} where {FIRST_LINE:?} is due"));
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex = |name| field(name).and_then(|value| u64::from_str_radix(value, 16).ok());
        let known = || {
            let lines = text.lines().filter_map(|line| line.strip_prefix("known "));
            lines.map(Known::parse).collect::<Option<Vec<_>>>()
        };
        let founders = || {
            let ids = field("founders").unwrap_or_default().split(',').filter(|it| !it.is_empty());
            ids.map(|id| u64::from_str_radix(id, 16).ok().map(NodeId)).collect::<Option<Vec<_>>>()
        };
        let read = || {
            Some(Self {
                cluster: ClusterId(hex("cluster")?),
                member: NodeId(hex("member")?),
                shards: field("shards")?.parse().ok()?,
                log_id: hex("log")?,
                joined: field("began") == Some("joining"),
                founders: founders()?,
                known: known()?,
            })
        };
        // Any text that is read otherwise than it was written is not whole.
        match read() {
            Some(identity) if identity.text() == text => Ok(identity),
            _ => Err("its lines do not match their checksum".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let known = |id, name: &str, learner| Known {
            id: NodeId(id),
            learner,
            peer_urls: vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
            name: name.to_owned(),
        };
        Identity {
            cluster: ClusterId(0xc),
            member: NodeId(0xab),
            shards: 2,
            log_id: 7,
            joined: true,
            founders: vec![NodeId(0xcd), NodeId(0xef)],
            known: vec![known(0xab, "one\n\"two\" ", true), known(0xcd, "", false)],
        }
    }

    #[test]
    fn an_identity_is_kept_and_any_other_byte_refused() {
        let (founders, known) = (Vec::new(), Vec::new());
        let alone = Identity { joined: false, founders, known, ..identity() };
        for identity in [identity(), Identity { joined: false, ..identity() }, alone] {
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

    #[test]
    fn the_sample_is_the_format_and_so_is_the_former_one() {
        let sample: String = include_str!("identity.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! "))
            .skip_while(|line| *line != "```text")
            .skip(1)
            .take_while(|line| *line != "```" && !line.starts_with("crc "))
            .flat_map(|line| [line, "\n"])
            .collect();
        let crc = |body: &str| format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
        let identity = Identity::parse(crc(&sample).as_bytes()).expect("it is whole");
        assert_eq!(identity.known[0].name, "default");
        assert!(!identity.joined && identity.text() == crc(&sample));
        let former: String = sample.lines().take(5).flat_map(|line| [line, "\n"]).collect();
        let former = former.replace("identity 2", "identity 1");
        let read = Identity::parse(crc(&former).as_bytes()).expect("it is whole");
        assert_eq!(read, Identity { known: Vec::new(), founders: Vec::new(), ..identity });
    }
}
