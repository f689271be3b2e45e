//! Who a member and its cluster are: numbers computed from how the cluster was first set up.
//!
//! Every member computes them alone and must get what the others get, so they are exactly etcd's.
//!
//! # Source
//! etcd: `server/etcdserver/api/membership/{member,cluster}.go`.

use crate::types::{ClusterId, NodeId};
use sha1::{Digest, Sha1};

/// The id of the member that was first told `peer_urls`, in a cluster with `token`.
///
/// # Shape
/// `added_at_s` is the Unix time of a member that joined a running cluster, and `None` for one
/// of the first members.
#[must_use]
pub fn member_id(peer_urls: &[&str], token: &str, added_at_s: Option<u64>) -> NodeId {
    let mut sorted = peer_urls.to_vec();
    sorted.sort_unstable();
    let mut text = sorted.concat();
    text.push_str(token);
    if let Some(seconds) = added_at_s {
        text.push_str(&seconds.to_string());
    }
    NodeId(leading_u64(text.as_bytes()))
}

/// The id of the cluster whose first members are `members`, in any order.
#[must_use]
pub fn cluster_id(members: &[NodeId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let bytes: Vec<u8> = sorted.iter().flat_map(|member| member.0.to_be_bytes()).collect();
    ClusterId(leading_u64(&bytes))
}

/// The first eight bytes of the SHA-1 of `bytes`, big-endian.
fn leading_u64(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd 3.7.3 logged as `local-member-id` and `cluster-id` when it was given these.
    #[test]
    fn the_ids_are_etcds() {
        let alone = member_id(&["http://localhost:2380"], "etcd-cluster", None);
        assert_eq!(alone, NodeId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id(&[alone]), ClusterId(0xcdf8_1819_4e3a_8c32));

        let two_urls = ["http://127.0.0.1:23801", "http://127.0.0.1:23701"];
        let member = member_id(&two_urls, "tkn", None);
        assert_eq!(member, NodeId(0xa658_9b28_00d8_e5ff));
        assert_eq!(cluster_id(&[member]), ClusterId(0x2801_fd1b_593d_172f));

        let members: Vec<_> = [23801, 23802, 23803]
            .map(|port| member_id(&[&format!("http://127.0.0.1:{port}")], "etcd-cluster-1", None))
            .into();
        assert_eq!(members[0], NodeId(0x2abe_cb61_43ce_ca2c));
        assert_eq!(cluster_id(&members), ClusterId(0xde9a_62b5_8d8a_c6b4));
    }

    #[test]
    fn the_time_of_joining_is_part_of_the_id() {
        let urls = ["http://a:1"];
        assert_ne!(member_id(&urls, "t", Some(1)), member_id(&urls, "t", None));
        assert_eq!(member_id(&urls, "t", Some(12)), member_id(&urls, "t1", Some(2)));
    }
}
