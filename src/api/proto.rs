//! The messages of etcd's API, generated from our own text of them in `proto/`.
//!
//! One module per package. `bytes` fields are [`bytes::Bytes`], so a key or a value that came in
//! with a request is a slice of what was received. Unknown fields are ignored, as etcd does.

/// Declares the module of one package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::use_self,
            clippy::wildcard_enum_match_arm,
            unreachable_pub,
            unused_qualifications,
            reason = "prost wrote it"
        )]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        }
    };
}

package! {
    /// Users, roles and permissions.
    authpb, "authpb"
}
package! {
    /// The API that etcd clients speak.
    etcdserverpb, "etcdserverpb"
}
package! {
    /// gRPC's own health service, package `grpc.health.v1`.
    health, "grpc.health.v1"
}
package! {
    /// Keys with their history, and what happened to them.
    mvccpb, "mvccpb"
}
package! {
    /// An election whose leader is the oldest key.
    v3electionpb, "v3electionpb"
}
package! {
    /// A lock that is a key.
    v3lockpb, "v3lockpb"
}

/// Every service of the API by its full name, with the names of its methods in the text's order.
///
/// A call's path is `/<service>/<method>`.
pub const SERVICES: &[(&str, &[&str])] = include!(concat!(env!("OUT_DIR"), "/services.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::fmt::Debug;

    /// `message` is written as `bytes`, and `bytes` are read as `message`.
    fn pin<M: Message + Default + PartialEq + Debug>(message: &M, bytes: &[u8]) {
        assert_eq!(message.encode_to_vec(), bytes);
        assert_eq!(&M::decode(bytes).expect("what was written is read"), message);
    }

    #[test]
    fn a_put_has_its_numbers() {
        let put = etcdserverpb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 3,
            prev_kv: true,
            ignore_value: true,
            ignore_lease: true,
        };
        pin(&put, b"\x0a\x01k\x12\x01v\x18\x03\x20\x01\x28\x01\x30\x01");
    }

    #[test]
    fn a_range_has_its_numbers() {
        let range = etcdserverpb::RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            limit: 3,
            revision: 4,
            sort_order: etcdserverpb::range_request::SortOrder::Descend.into(),
            sort_target: etcdserverpb::range_request::SortTarget::Value.into(),
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 10,
            max_mod_revision: 11,
            min_create_revision: 12,
            max_create_revision: 13,
        };
        pin(
            &range,
            b"\x0a\x01k\x12\x01l\x18\x03\x20\x04\x28\x02\x30\x04\x38\x01\x40\x01\x48\x01\
              \x50\x0a\x58\x0b\x60\x0c\x68\x0d",
        );
    }

    #[test]
    fn a_range_answer_has_its_numbers() {
        let kv = mvccpb::KeyValue {
            key: "k".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 4,
            value: "v".into(),
            lease: 6,
        };
        let header =
            etcdserverpb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let answer = etcdserverpb::RangeResponse {
            header: Some(header),
            kvs: vec![kv],
            more: true,
            count: 4,
        };
        pin(
            &answer,
            b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04\
              \x12\x0e\x0a\x01k\x10\x02\x18\x03\x20\x04\x2a\x01v\x30\x06\x18\x01\x20\x04",
        );
    }

    #[test]
    fn the_odd_numbers_are_where_etcd_has_them() {
        let compare = etcdserverpb::Compare { range_end: "z".into(), ..Default::default() };
        pin(&compare, b"\x82\x04\x01z");
        let watch = etcdserverpb::WatchResponse {
            events: vec![mvccpb::Event::default()],
            ..Default::default()
        };
        pin(&watch, b"\x5a\x00");
        let status = etcdserverpb::StatusResponse {
            storage_version: "3.7.0".into(),
            db_size_quota: 1,
            ..Default::default()
        };
        pin(&status, b"\x5a\x053.7.0\x60\x01");
        let ttl = etcdserverpb::LeaseTimeToLiveResponse {
            granted_ttl: 4,
            keys: vec!["k".into()],
            ..Default::default()
        };
        pin(&ttl, b"\x20\x04\x2a\x01k");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let put = etcdserverpb::PutRequest::decode(&b"\x0a\x01k\xf8\x07\x05"[..]);
        assert_eq!(put.expect("the rest is whole").key, "k");
    }

    #[test]
    fn every_service_is_listed_with_its_methods() {
        let counts: Vec<_> =
            SERVICES.iter().map(|(service, methods)| (*service, methods.len())).collect();
        let expected = [
            ("etcdserverpb.KV", 6),
            ("etcdserverpb.Watch", 1),
            ("etcdserverpb.Lease", 5),
            ("etcdserverpb.Cluster", 5),
            ("etcdserverpb.Maintenance", 8),
            ("etcdserverpb.Auth", 17),
            ("grpc.health.v1.Health", 3),
            ("v3electionpb.Election", 5),
            ("v3lockpb.Lock", 2),
        ];
        assert_eq!(counts, expected);
    }
}
