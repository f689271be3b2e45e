//! What a running peer says of its cluster: the answer to `GET /members` on its peer port.
//!
//! The body is etcd's, and so is the field that names the cluster. Fields of ours beside it say of
//! what version the peer is, how many shards it hosts, of whom it knows that they have been up, and
//! who founded the cluster.

use crate::config::bootstrap::difference;
use crate::config::error::ConfigError;
use crate::config::{InitialMember, RINGD_VERSION, Url};
use crate::types::{ClusterId, NodeId};
use std::fmt::Write as _;

/// Members of a cluster as one of them lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The cluster.
    pub cluster: ClusterId,
    /// The version of ringd that answers; none for an etcd.
    pub version: Option<String>,
    /// The shards that it hosts; none for an etcd.
    pub shards: Option<u32>,
    /// The members, in order of their ids.
    pub members: Vec<Listed>,
    /// Those that the one who answers has heard since it began, or whose word is in its log: each
    /// has a log of its own, then.
    pub heard: Vec<NodeId>,
    /// Who voted when the cluster's log began, by id; none for an etcd.
    pub founders: Vec<NodeId>,
}

/// One member as a peer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Who it is.
    pub id: NodeId,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers find it; sorted.
    pub peer_urls: Vec<String>,
    /// Where its clients find it; none until it has started.
    pub client_urls: Vec<String>,
    /// It has no vote.
    pub learner: bool,
}

/// The JSON of one member.
#[derive(serde::Serialize, serde::Deserialize)]
struct Json {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Roll {
    /// The field that names the cluster.
    pub const CLUSTER: &str = "X-Etcd-Cluster-Id";
    /// The field that names the version.
    pub const VERSION: &str = "X-Ringd-Version";
    /// The field that lists the members known to have a log, as hexadecimal ids with commas
    /// between.
    pub const HEARD: &str = "X-Ringd-Heard";
    /// The field that lists who voted when the log began, in the same way.
    pub const FOUNDERS: &str = "X-Ringd-Founders";
    /// The field that counts the shards.
    pub const SHARDS: &str = "X-Ringd-Shards";

    /// The roll in an answer's fields and body.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(field: impl Fn(&str) -> Option<String>, body: &[u8]) -> Result<Self, String> {
        let cluster = field(Self::CLUSTER).ok_or("the answer names no cluster")?;
        let cluster = u64::from_str_radix(&cluster, 16)
            .map_err(|_| format!("{cluster:?} names no cluster"))?;
        let listed: Vec<Json> =
            serde_json::from_slice(body).map_err(|error| format!("no list of members: {error}"))?;
        let mut members: Vec<_> = listed
            .into_iter()
            .map(|Json { id, mut peer_urls, learner, name, client_urls }| {
                peer_urls.sort();
                Listed { id: NodeId(id), name, peer_urls, client_urls, learner }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let shards = field(Self::SHARDS).and_then(|text| text.parse().ok());
        let (cluster, version) = (ClusterId(cluster), field(Self::VERSION));
        let ids = |name: &str| {
            let text = field(name).unwrap_or_default();
            let ids = text.split(',').filter_map(|id| u64::from_str_radix(id, 16).ok());
            ids.map(NodeId).collect::<Vec<_>>()
        };
        let (heard, founders) = (ids(Self::HEARD), ids(Self::FOUNDERS));
        Ok(Self { cluster, version, shards, members, heard, founders })
    }

    /// The body that says so.
    ///
    /// # Panics
    /// Never: texts and numbers can always be written.
    #[must_use]
    pub fn body(members: &[Listed]) -> String {
        let json = members.iter().map(|member| Json {
            id: member.id.0,
            peer_urls: member.peer_urls.clone(),
            learner: member.learner,
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
        });
        let json: Vec<_> = json.collect();
        let mut body = serde_json::to_string(&json).expect("texts and numbers can be written");
        body.push('\n');
        body
    }

    /// Whether a member has once been up, and so may have voted.
    pub(super) fn has_been_up(&self, id: NodeId) -> bool {
        let serves = |member: &Listed| member.id == id && !member.client_urls.is_empty();
        self.heard.contains(&id) || self.members.iter().any(serves)
    }

    /// Refuses a peer that no node like this one can be a member with.
    pub(super) fn check_kind(&self, peer: &Url, shards: usize) -> Result<(), ConfigError> {
        let peer = peer.to_string();
        let (Some(version), Some(found)) = (&self.version, self.shards) else {
            return Err(ConfigError::Stranger { peer });
        };
        if self.founders.is_empty() {
            return Err(ConfigError::Stranger { peer });
        }
        if !goes_with(RINGD_VERSION, version) {
            return Err(ConfigError::VersionsDiffer { peer, found: version.clone() });
        }
        let due = u32::try_from(shards).expect("shards are few");
        if found != due {
            return Err(ConfigError::ShardsDiffer { peer, found, due });
        }
        Ok(())
    }

    /// Gives each of `--initial-cluster` the id under which the cluster knows its URLs.
    pub(super) fn assign(&self, members: &mut [InitialMember]) -> Result<(), ConfigError> {
        let unlike = |why| Err(ConfigError::Unlike { roll: self.text(), why });
        if self.members.len() != members.len() {
            return unlike("member count is unequal".to_owned());
        }
        // Each is looked for among all, in the order of the ids that founders would have.
        let texts = |member: &InitialMember| {
            member.peer_urls.iter().map(Url::to_string).collect::<Vec<_>>()
        };
        let known: Vec<_> = members.iter().map(texts).collect();
        for listed in &self.members {
            let others = known.iter().map(|urls| difference(&listed.peer_urls, urls));
            let others: Vec<_> = others.collect();
            let Some(at) = others.iter().position(Option::is_none) else {
                let last = others.last().cloned().flatten().unwrap_or_default();
                let urls = listed.peer_urls.join(" ");
                return unlike(format!(
                    "PeerURLs: no match found for existing member ({:x}, [{urls}]), last resolver \
                     error ({last})",
                    listed.id.0
                ));
            };
            members[at].id = listed.id;
            members[at].learner = listed.learner;
        }
        Ok(())
    }

    /// Puts in what the cluster knows of the others, and all in the order of their ids.
    pub(super) fn name(&self, members: &mut [InitialMember], own: NodeId) {
        members.sort_by_key(|member| member.id);
        for member in members.iter_mut().filter(|member| member.id != own) {
            if let Some(listed) = self.members.iter().find(|listed| listed.id == member.id) {
                member.name.clone_from(&listed.name);
                member.client_urls.clone_from(&listed.client_urls);
            }
        }
    }

    /// As etcd's log prints it.
    fn text(&self) -> String {
        let mut text = format!("{{ClusterID:{:x} Members:[", self.cluster.0);
        for (at, member) in self.members.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(
                text,
                "{space}&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} \
                 Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                member.id.0,
                member.peer_urls.join(" "),
                member.learner,
                member.name,
                member.client_urls.join(" ")
            )
            .expect("a String grows");
        }
        text + "] RemovedMemberIDs:[]}"
    }
}

/// Whether two versions can be of one cluster: the same first number, the second one apart at most.
fn goes_with(own: &str, other: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u16>().ok());
        Some((parts.next()??, parts.next()??))
    };
    match (numbers(own), numbers(other)) {
        (Some(own), Some(other)) => own.0 == other.0 && own.1.abs_diff(other.1) <= 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real etcd 3.7.3 answered.
    const ETCDS: &str = concat!(
        r#"[{"id":387776471502500534,"peerURLs":["http://127.0.0.1:24804"],"isLearner":true},"#,
        r#"{"id":17628310501313495538,"peerURLs":["http://127.0.0.1:24801"],"name":"a","#,
        r#""clientURLs":["http://127.0.0.1:24791"]}]"#
    );

    #[test]
    fn etcds_list_is_read_and_written() {
        let field = |name: &str| (name == Roll::CLUSTER).then(|| "f10b0bf1d8eda5d5".to_owned());
        let roll = Roll::parse(field, ETCDS.as_bytes()).expect("whole");
        assert_eq!(roll.cluster, ClusterId(0xf10b_0bf1_d8ed_a5d5));
        assert_eq!((roll.shards, roll.version.as_deref()), (None, None));
        assert!(roll.members[0].learner && roll.members[1].name == "a");
        assert_eq!(Roll::body(&roll.members), format!("{ETCDS}\n"));
        assert!(Roll::parse(|_| None, ETCDS.as_bytes()).is_err(), "no cluster");
        assert!(Roll::parse(field, b"[{}]").is_err(), "no id");
        assert!(Roll::parse(|_| Some("x".to_owned()), b"[]").is_err(), "no number");
    }

    #[test]
    fn versions_go_together_by_their_second_number() {
        for (own, other, due) in [
            ("1.2.3", "1.2.9", true),
            ("1.2.3", "1.3.0", true),
            ("1.2.3", "1.1.0", true),
            ("1.2.3", "1.4.0", false),
            ("1.2.3", "2.2.3", false),
            ("1.2.3", "x", false),
        ] {
            assert_eq!(goes_with(own, other), due, "{own} {other}");
        }
    }
}
