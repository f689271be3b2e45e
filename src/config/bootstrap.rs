//! The first members that a node knows: read only when it starts on an empty data directory.
//!
//! A member of a *new* cluster computes everybody's ids from its flags, and all must have the same
//! flags. Yet the cluster may run already, and this member may have been part of it before its data
//! was lost. A vote that it gave then is forgotten, so it must not vote again: the others are asked
//! first ([`Roll`]), and one that knows is enough. A member that joins an *existing* cluster learns
//! its own id and everybody else's from the first answer.

use crate::config::error::ConfigError;
use crate::config::identity::{cluster_id, member_id};
use crate::config::roll::Roll;
use crate::config::url::{Url, named_urls};
use crate::config::{ClusterState, Config};
use crate::types::{ClusterId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Most members that a cluster may have.
pub const MEMBERS_MAX: usize = 64;
/// Most URLs of one kind that a member may have.
pub const MEMBER_URLS_MAX: usize = 64;
/// Most bytes of a member's name, or of one of its URLs.
pub const MEMBER_TEXT_SIZE_MAX: usize = 4096;

/// A cluster as a member first knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub node: NodeId,
    /// Every member, by id; this one is among them.
    pub members: Vec<InitialMember>,
    /// Who voted when the log began, by id: every replica's state begins with them.
    pub founders: Vec<NodeId>,
    /// The cluster runs and this member was added to it: `members` are whom to ask, and who votes
    /// is said by the log that they send.
    pub joins: bool,
}

/// One of the members that a node first knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Who it is.
    pub id: NodeId,
    /// Its name; empty for one that was added and has not started.
    pub name: String,
    /// Where its peers find it; sorted.
    pub peer_urls: Vec<Url>,
    /// Where its clients find it, if it has said so.
    pub client_urls: Vec<String>,
    /// It has no vote.
    pub learner: bool,
}

impl Config {
    /// The peer URLs of the other members of `--initial-cluster`: whom to ask before a first start.
    ///
    /// # Errors
    /// As [`Self::bootstrap`], of the flags alone.
    pub fn peers(&self) -> Result<Vec<Url>, ConfigError> {
        let listed = self.listed()?;
        let others = listed.into_iter().filter(|(name, _)| *name != self.name);
        Ok(others.flat_map(|(_, urls)| urls).collect())
    }

    /// The cluster that this node founds, by its flags alone.
    ///
    /// # Errors
    /// A [`ConfigError`] in etcd's words, if they do not describe one with this member in it.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
        self.bootstrap_among(&[])
    }

    /// The cluster that this node founds or joins, by its flags and what the peers that answered
    /// said.
    ///
    /// # Errors
    /// As [`Self::bootstrap`], and if a peer's cluster can not be this member's, or one knows that
    /// this member has been up.
    pub fn bootstrap_among(&self, told: &[(Url, Roll)]) -> Result<Bootstrap, ConfigError> {
        let listed = self.listed()?;
        for (peer, roll) in told {
            roll.check_kind(peer, self.shards.len())?;
        }
        let mut members: Vec<_> =
            listed.into_iter().map(|(name, urls)| self.founder(name, urls)).collect();
        members.sort_by_key(|member| member.id);
        let own = |members: &[InitialMember]| {
            members.iter().find(|member| member.name == self.name).expect("it is listed").id
        };
        if self.cluster.state == ClusterState::Existing {
            let (_, roll) = told.first().ok_or(ConfigError::NoPeer)?;
            roll.assign(&mut members)?;
            let node = own(&members);
            if told.iter().any(|(_, roll)| roll.has_been_up(node)) {
                return Err(ConfigError::Bootstrapped { member: node.0 });
            }
            roll.name(&mut members, node);
            let (cluster, founders) = (roll.cluster, roll.founders.clone());
            return Ok(Bootstrap { cluster, node, members, founders, joins: true });
        }
        let (ids, node) = (members.iter().map(|it| it.id).collect::<Vec<_>>(), own(&members));
        let cluster = cluster_id(&ids);
        for (peer, roll) in told {
            if roll.cluster != cluster {
                let (peer, found, due) = (peer.to_string(), roll.cluster.0, cluster.0);
                return Err(ConfigError::WrongCluster { peer, found, due });
            }
            if !roll.members.iter().any(|member| member.id == node) {
                return Err(ConfigError::Removed { member: node.0, cluster: cluster.0 });
            }
            if roll.has_been_up(node) {
                return Err(ConfigError::Bootstrapped { member: node.0 });
            }
        }
        Ok(Bootstrap { cluster, node, members, founders: ids, joins: false })
    }

    /// `--initial-cluster` by name, this member being in it as it is told to be found.
    fn listed(&self) -> Result<BTreeMap<String, BTreeSet<Url>>, ConfigError> {
        let initial = &self.cluster.initial;
        let pairs = named_urls(initial).map_err(ConfigError::InitialCluster)?;
        let distinct: BTreeSet<_> = pairs.iter().map(|(_, url)| url).collect();
        let mut by_name = BTreeMap::<_, BTreeSet<_>>::new();
        for (name, url) in &pairs {
            by_name.entry(name.clone()).or_default().insert(url.clone());
        }
        let Some(own) = by_name.get(&self.name) else {
            return Err(ConfigError::NotInCluster(self.name.clone()));
        };
        if distinct.len() < by_name.values().map(BTreeSet::len).sum() {
            return Err(ConfigError::DuplicateUrl(initial.clone()));
        }
        self.check_own(own)?;
        check_count("initial-cluster", "members", by_name.len(), MEMBERS_MAX)?;
        for (name, urls) in &by_name {
            check_size("initial-cluster", "name", name)?;
            check_kept("initial-cluster", urls)?;
        }
        Ok(by_name)
    }

    /// What is listed of this member is what it advertises.
    fn check_own(&self, listed: &BTreeSet<Url>) -> Result<(), ConfigError> {
        let advertised: BTreeSet<_> = self.advertise_peer_urls.iter().cloned().collect();
        let texts = |urls: &BTreeSet<Url>| urls.iter().map(Url::to_string).collect::<Vec<_>>();
        let Some(why) = difference(&texts(&advertised), &texts(listed)) else {
            return Ok(());
        };
        let (name, missing) = (self.name.clone(), listed.difference(&advertised));
        let missing: BTreeSet<_> = missing.cloned().collect();
        if missing.is_empty() {
            let unlisted: BTreeSet<_> = advertised.difference(listed).cloned().collect();
            let (listed, advertised) = (texts(listed).join(","), texts(&unlisted).join(","));
            return Err(ConfigError::PeerUrlsUnlisted { name, listed, advertised, why });
        }
        let (listed, advertised) = (texts(&missing).join(","), texts(&advertised).join(","));
        Err(ConfigError::PeerUrlsDiffer { name, listed, advertised, why })
    }

    /// One of the first members, as if it founded the cluster.
    fn founder(&self, name: String, urls: BTreeSet<Url>) -> InitialMember {
        let texts: Vec<_> = urls.iter().map(Url::text).collect();
        let id = member_id(&texts, &self.cluster.token, None);
        let peer_urls = urls.into_iter().collect();
        InitialMember { id, name, peer_urls, client_urls: Vec::new(), learner: false }
    }
}

/// Refuses URLs that members could not keep: what is in their state is read again.
pub(super) fn check_kept<'a>(
    flag: &'static str,
    urls: impl IntoIterator<Item = &'a Url>,
) -> Result<(), ConfigError> {
    let mut count = 0;
    for url in urls {
        check_size(flag, "URL", url.text())?;
        count += 1;
    }
    check_count(flag, "URLs of one member", count, MEMBER_URLS_MAX)
}

fn check_count(
    flag: &'static str,
    what: &'static str,
    count: usize,
    most: usize,
) -> Result<(), ConfigError> {
    if count <= most { Ok(()) } else { Err(ConfigError::TooMany { flag, what, count, most }) }
}

/// Refuses a text that members could not keep.
pub(super) fn check_size(
    flag: &'static str,
    what: &'static str,
    text: &str,
) -> Result<(), ConfigError> {
    let size = text.len();
    let is_kept = size <= MEMBER_TEXT_SIZE_MAX;
    if is_kept { Ok(()) } else { Err(ConfigError::TooLong { flag, what, size }) }
}

/// The first difference between two sorted lists of URLs, in etcd's words.
pub(super) fn difference(first: &[String], second: &[String]) -> Option<String> {
    if first.len() != second.len() {
        let list = |urls: &[String]| {
            urls.iter().map(|url| format!("{url:?}")).collect::<Vec<_>>().join(" ")
        };
        return Some(format!("len([{}]) != len([{}])", list(first), list(second)));
    }
    let other = first.iter().zip(second).find(|(first, second)| first != second);
    other.map(|(first, second)| format!("resolved urls: {first:?} != {second:?}"))
}
