//! The first members of a cluster: read only when a node starts on an empty data directory.

use crate::config::error::ConfigError;
use crate::config::identity::{cluster_id, member_id};
use crate::config::url::{Url, named_urls};
use crate::config::{ClusterState, Config};
use crate::types::{ClusterId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A cluster as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub node: NodeId,
    /// Every member, by name; this one is among them.
    pub members: Vec<InitialMember>,
}

/// One of the members that a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Who it is.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where its peers find it; sorted.
    pub peer_urls: Vec<Url>,
}

impl Config {
    /// The cluster that this node is told to found.
    ///
    /// # Errors
    /// A [`ConfigError`] in etcd's words, if the flags do not describe one with this member in it,
    /// and if they describe one that ringd cannot found yet.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
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
        if !own.iter().eq(&self.advertise_peer_urls) {
            return Err(ConfigError::PeerUrlsDiffer {
                name: self.name.clone(),
                listed: join(own),
                advertised: join(&self.advertise_peer_urls),
            });
        }
        let members: Vec<_> =
            by_name.into_iter().map(|(name, urls)| self.member(name, urls)).collect();
        let ids: Vec<_> = members.iter().map(|member| member.id).collect();
        let node = members.iter().find(|member| member.name == self.name).expect("found above").id;
        if self.cluster.state == ClusterState::Existing {
            return Err(ConfigError::Existing);
        }
        if members.len() > 1 {
            return Err(ConfigError::SeveralMembers(members.len()));
        }
        Ok(Bootstrap { cluster: cluster_id(&ids), node, members })
    }

    /// One of the first members.
    fn member(&self, name: String, urls: BTreeSet<Url>) -> InitialMember {
        let texts: Vec<_> = urls.iter().map(Url::text).collect();
        let id = member_id(&texts, &self.cluster.token, None);
        InitialMember { id, name, peer_urls: urls.into_iter().collect() }
    }
}

/// URLs as a list for people.
fn join<'a>(urls: impl IntoIterator<Item = &'a Url>) -> String {
    urls.into_iter().map(Url::text).collect::<Vec<_>>().join(",")
}
