//! The calls that are made: their paths, and which of them change nothing.

use ringd::api::proto::etcdserverpb as pb;
use std::marker::PhantomData;

/// A method of the API from `Q` to `A`.
#[derive(Debug)]
pub(crate) struct Method<Q, A> {
    /// `/<service>/<method>`.
    pub(super) path: &'static str,
    /// True if it may be called again when it is not known whether it was served.
    pub(super) is_safe: bool,
    types: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    /// One that changes nothing.
    const fn reads(path: &'static str) -> Self {
        Self { path, is_safe: true, types: PhantomData }
    }

    /// One that changes something.
    const fn writes(path: &'static str) -> Self {
        Self { path, is_safe: false, types: PhantomData }
    }
}

/// Declares methods with their paths and types.
macro_rules! methods {
    ($($name:ident $kind:ident $path:literal $request:ident $answer:ident;)*) => {$(
        pub(crate) const $name: Method<pb::$request, pb::$answer> =
            Method::$kind(concat!("/etcdserverpb.", $path));
    )*};
}

methods! {
    RANGE reads "KV/Range" RangeRequest RangeResponse;
    RANGE_STREAM reads "KV/RangeStream" RangeRequest RangeStreamResponse;
    PUT writes "KV/Put" PutRequest PutResponse;
    DELETE_RANGE writes "KV/DeleteRange" DeleteRangeRequest DeleteRangeResponse;
    TXN writes "KV/Txn" TxnRequest TxnResponse;
    COMPACT writes "KV/Compact" CompactionRequest CompactionResponse;
    WATCH reads "Watch/Watch" WatchRequest WatchResponse;
    LEASE_GRANT writes "Lease/LeaseGrant" LeaseGrantRequest LeaseGrantResponse;
    LEASE_REVOKE writes "Lease/LeaseRevoke" LeaseRevokeRequest LeaseRevokeResponse;
    LEASE_KEEP_ALIVE reads "Lease/LeaseKeepAlive" LeaseKeepAliveRequest LeaseKeepAliveResponse;
    LEASE_TIME_TO_LIVE reads "Lease/LeaseTimeToLive"
        LeaseTimeToLiveRequest LeaseTimeToLiveResponse;
    LEASE_LEASES reads "Lease/LeaseLeases" LeaseLeasesRequest LeaseLeasesResponse;
    MEMBER_ADD writes "Cluster/MemberAdd" MemberAddRequest MemberAddResponse;
    MEMBER_REMOVE writes "Cluster/MemberRemove" MemberRemoveRequest MemberRemoveResponse;
    MEMBER_UPDATE writes "Cluster/MemberUpdate" MemberUpdateRequest MemberUpdateResponse;
    MEMBER_LIST reads "Cluster/MemberList" MemberListRequest MemberListResponse;
    MEMBER_PROMOTE writes "Cluster/MemberPromote" MemberPromoteRequest MemberPromoteResponse;
    ALARM reads "Maintenance/Alarm" AlarmRequest AlarmResponse;
    DISARM writes "Maintenance/Alarm" AlarmRequest AlarmResponse;
    STATUS reads "Maintenance/Status" StatusRequest StatusResponse;
    HASH_KV reads "Maintenance/HashKV" HashKvRequest HashKvResponse;
    DEFRAGMENT writes "Maintenance/Defragment" DefragmentRequest DefragmentResponse;
    MOVE_LEADER writes "Maintenance/MoveLeader" MoveLeaderRequest MoveLeaderResponse;
    SNAPSHOT reads "Maintenance/Snapshot" SnapshotRequest SnapshotResponse;
    AUTHENTICATE reads "Auth/Authenticate" AuthenticateRequest AuthenticateResponse;
}
