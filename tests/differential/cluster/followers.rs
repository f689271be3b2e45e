//! Followers answer what leaders do: what they hand on comes back as if they led.

use super::*;
use crate::support::stream::Stream;
use ringd::api::proto::{v3electionpb, v3lockpb};

impl Arranged for pb::LeaseKeepAliveResponse {}
impl Arranged for pb::WatchResponse {}
impl Arranged for v3lockpb::LockResponse {}
impl Arranged for v3lockpb::UnlockResponse {}
impl Arranged for v3electionpb::CampaignResponse {}
impl Arranged for v3electionpb::LeaderResponse {}
impl Arranged for v3electionpb::ProclaimResponse {}
impl Arranged for v3electionpb::ResignResponse {}

#[test]
fn followers_answer_as_the_leader_does() {
    alone(async {
        let pair = Pair::start(&CALM).await;
        for nth in [1, 0, 2] {
            changes_and_reads(&pair, nth).await;
            leases(&pair, nth).await;
            recipes(&pair, nth).await;
            watchers(&pair, nth).await;
            compactions(&pair, nth).await;
            who_asks_for_a_leader_is_served(&pair, nth).await;
        }
        statuses_and_hashes(&pair).await;
        leadership_moves(&pair).await;
    });
}

async fn changes_and_reads(pair: &Pair, nth: usize) {
    let key = &format!("k{nth}");
    let with_prev = |_: &Cluster| pb::PutRequest { prev_kv: true, ..put(key) };
    for _ in 0..2 {
        pair.well::<pb::PutResponse, _>(nth, PUT, with_prev).await;
    }
    for serializable in [false, true] {
        pair.well::<pb::RangeResponse, _>(nth, RANGE, |_| get(key, serializable)).await;
    }
    // What one member has answered, every other knows when it is asked.
    for other in 0..COUNT {
        let told = pair.well::<pb::RangeResponse, _>(other, RANGE, |_| get(key, false)).await;
        assert!(told.contains("version: 2"), "{told}");
    }
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Version.into(),
        key: key.clone().into(),
        target_union: Some(pb::compare::TargetUnion::Version(2)),
        ..Default::default()
    };
    let ops = |requests: Vec<pb::request_op::Request>| {
        let ops = requests.into_iter();
        ops.map(|request| pb::RequestOp { request: Some(request) }).collect::<Vec<_>>()
    };
    let read = pb::request_op::Request::RequestRange(get(key, false));
    let write = pb::request_op::Request::RequestPut(put("t"));
    for success in [ops(vec![read.clone()]), ops(vec![write, read])] {
        let txn = |_: &Cluster| pb::TxnRequest {
            compare: vec![compare.clone()],
            success: success.clone(),
            failure: Vec::new(),
        };
        let told = pair.well::<pb::TxnResponse, _>(nth, TXN, txn).await;
        assert!(told.contains("succeeded: true"), "{told}");
    }
    let delete = |_: &Cluster| pb::DeleteRangeRequest {
        key: key.clone().into(),
        prev_kv: true,
        ..Default::default()
    };
    for deleted in [1, 0] {
        let told = pair.well::<pb::DeleteRangeResponse, _>(nth, DELETE, delete).await;
        assert!(told.contains(&format!("deleted: {deleted}")), "{told}");
    }
    let absent = |_: &Cluster| pb::PutRequest { ignore_value: true, value: "".into(), ..put(key) };
    pair.refused::<pb::PutResponse, _>(nth, PUT, "etcdserver: key not found", absent).await;
    let unknown = |_: &Cluster| pb::PutRequest { lease: 99, ..put(key) };
    let why = "etcdserver: requested lease not found";
    pair.refused::<pb::PutResponse, _>(nth, PUT, why, unknown).await;
}

async fn leases(pair: &Pair, nth: usize) {
    let id = 7 + i64::try_from(nth).expect("small");
    let grant = |_: &Cluster| pb::LeaseGrantRequest { ttl: 500, id };
    pair.well::<pb::LeaseGrantResponse, _>(nth, GRANT, grant).await;
    let exists = "etcdserver: lease already exists";
    pair.refused::<pb::LeaseGrantResponse, _>(nth, GRANT, exists, grant).await;
    for key in ["y", "x"] {
        let leased = |_: &Cluster| pb::PutRequest { lease: id, ..put(key) };
        pair.well::<pb::PutResponse, _>(nth, PUT, leased).await;
    }
    for (id, keys) in [(id, true), (id, false), (99, true)] {
        let ask = |_: &Cluster| pb::LeaseTimeToLiveRequest { id, keys };
        pair.well::<pb::LeaseTimeToLiveResponse, _>(nth, TTL, ask).await;
    }
    let list = |_: &Cluster| pb::LeaseLeasesRequest {};
    pair.well::<pb::LeaseLeasesResponse, _>(nth, LEASES, list).await;
    let mut told = Vec::new();
    for cluster in pair.both() {
        let mut stream = cluster.clients[nth].open(KEEP_ALIVE).await.expect("it opens");
        let mut all = Vec::new();
        for id in [id, 99, id] {
            stream.send(&pb::LeaseKeepAliveRequest { id }).expect("it is open");
            all.push(cluster.next::<pb::LeaseKeepAliveResponse>(&mut stream).await);
        }
        stream.end().expect("it is open");
        let rest = stream.rest().await.expect("an end");
        told.push((all, end(&rest)));
    }
    assert_eq!(told[0], told[1], "ours, then etcd's: renewals at member {nth}");
    let revoke = |_: &Cluster| pb::LeaseRevokeRequest { id };
    pair.well::<pb::LeaseRevokeResponse, _>(nth, REVOKE, revoke).await;
    let gone = "etcdserver: requested lease not found";
    pair.refused::<pb::LeaseRevokeResponse, _>(nth, REVOKE, gone, revoke).await;
    let told = pair.well::<pb::RangeResponse, _>(nth, RANGE, |_| get("x", true)).await;
    assert!(told.contains("count: 0"), "{told}");
}

/// Locks and elections, which are made of other calls.
async fn recipes(pair: &Pair, nth: usize) {
    let id = 107 + i64::try_from(nth).expect("small");
    let grant = |_: &Cluster| pb::LeaseGrantRequest { ttl: 500, id };
    pair.well::<pb::LeaseGrantResponse, _>(nth, GRANT, grant).await;
    let lock = |_: &Cluster| v3lockpb::LockRequest { name: "lock".into(), lease: id };
    pair.well::<v3lockpb::LockResponse, _>(nth, LOCK, lock).await;
    let unlock = |_: &Cluster| v3lockpb::UnlockRequest { key: format!("lock/{id:x}").into() };
    pair.well::<v3lockpb::UnlockResponse, _>(nth, UNLOCK, unlock).await;
    let campaign = |_: &Cluster| v3electionpb::CampaignRequest {
        name: "election".into(),
        lease: id,
        value: "v".into(),
    };
    pair.well::<v3electionpb::CampaignResponse, _>(nth, CAMPAIGN, campaign).await;
    let leader = |_: &Cluster| v3electionpb::LeaderRequest { name: "election".into() };
    pair.well::<v3electionpb::LeaderResponse, _>(nth, LEADER, leader).await;
    let revoke = |_: &Cluster| pb::LeaseRevokeRequest { id };
    pair.well::<pb::LeaseRevokeResponse, _>(nth, REVOKE, revoke).await;
    let none = "election: no leader";
    pair.refused::<v3electionpb::LeaderResponse, _>(nth, LEADER, none, leader).await;
    let stranger = v3lockpb::LockRequest { name: "lock".into(), lease: 99 };
    let why = "etcdserver: requested lease not found";
    pair.refused::<v3lockpb::LockResponse, _>(nth, LOCK, why, |_| stranger.clone()).await;
}

/// A watcher at one member sees what others change.
async fn watchers(pair: &Pair, nth: usize) {
    let mut streams = Vec::new();
    for cluster in pair.both() {
        let mut stream = cluster.clients[nth].open(WATCH).await.expect("it opens");
        stream.send(&watch("w")).expect("it is open");
        streams.push(stream);
    }
    same_next::<pb::WatchResponse>(pair, &mut streams).await;
    for by in 0..COUNT {
        pair.well::<pb::PutResponse, _>(by, PUT, |_| put("w")).await;
        same_next::<pb::WatchResponse>(pair, &mut streams).await;
    }
}

/// Both streams bring the same message.
async fn same_next<A: Arranged>(pair: &Pair, streams: &mut [Stream]) {
    let mut told = Vec::new();
    for (cluster, stream) in pair.both().into_iter().zip(streams) {
        told.push(cluster.next::<A>(stream).await);
    }
    assert_eq!(told[0], told[1], "ours, then etcd's");
}

impl Cluster {
    /// The next message of a stream.
    async fn next<A: Arranged>(&self, stream: &mut Stream) -> String {
        let mut message: A = stream.next().await.expect("a message");
        message.arrange();
        self.plain(&message)
    }
}

async fn compactions(pair: &Pair, nth: usize) {
    let told = pair.well::<pb::RangeResponse, _>(nth, RANGE, |_| get("k", false)).await;
    let (_, rest) = told.split_once("revision: ").expect("a header");
    let revision: i64 = rest.split(',').next().and_then(|it| it.parse().ok()).expect("a number");
    let compact =
        |revision, physical| move |_: &Cluster| pb::CompactionRequest { revision, physical };
    let done = compact(revision, nth != 1);
    pair.well::<pb::CompactionResponse, _>(nth, COMPACT, done).await;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    pair.refused::<pb::CompactionResponse, _>(nth, COMPACT, compacted, done).await;
    let future = "etcdserver: mvcc: required revision is a future revision";
    let early = compact(revision + 1, false);
    pair.refused::<pb::CompactionResponse, _>(nth, COMPACT, future, early).await;
    for other in 0..COUNT {
        let old = |_: &Cluster| pb::RangeRequest { revision: revision - 1, ..get("k", false) };
        pair.refused::<pb::RangeResponse, _>(other, RANGE, compacted, old).await;
    }
}

/// As long as there is one, it makes no difference.
async fn who_asks_for_a_leader_is_served(pair: &Pair, nth: usize) {
    for value in ["true", "false", "True", ""] {
        let fields = [("hasleader", value)];
        for (path, message) in [
            (RANGE, get("k", false).encode_to_vec()),
            (PUT, put("k").encode_to_vec()),
            (STATUS, Vec::new()),
            (LIST, Vec::new()),
            (KEEP_ALIVE, pb::LeaseKeepAliveRequest { id: 99 }.encode_to_vec()),
            ("/etcdserverpb.KV/RangeStream", get("k", false).encode_to_vec()),
        ] {
            let told = pair.same_end(nth, path, &fields, &message).await;
            assert_eq!(told, (0, String::new()), "{path} with {fields:?}");
        }
    }
}

async fn statuses_and_hashes(pair: &Pair) {
    pair.settle(&[0, 1, 2]).await;
    for nth in 0..COUNT {
        let status = |_: &Cluster| pb::StatusRequest {};
        let told = pair.well::<pb::StatusResponse, _>(nth, STATUS, status).await;
        assert!(told.contains("leader: M0"), "{told}");
        let hash = |_: &Cluster| pb::HashKvRequest { revision: 0 };
        pair.well::<pb::HashKvResponse, _>(nth, HASH_KV, hash).await;
        let alarm = |_: &Cluster| pb::AlarmRequest::default();
        pair.well::<pb::AlarmResponse, _>(nth, ALARM, alarm).await;
        let defragment = |_: &Cluster| pb::DefragmentRequest {};
        let path = "/etcdserverpb.Maintenance/Defragment";
        pair.well::<pb::DefragmentResponse, _>(nth, path, defragment).await;
        for linearizable in [true, false] {
            let list = |_: &Cluster| pb::MemberListRequest { linearizable };
            pair.well::<pb::MemberListResponse, _>(nth, LIST, list).await;
        }
    }
}

async fn leadership_moves(pair: &Pair) {
    for nth in [1, 2] {
        for name in ["M0", "M1", "M2"] {
            let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(name) };
            let why = "etcdserver: not leader";
            pair.refused::<pb::MoveLeaderResponse, _>(nth, MOVE, why, to).await;
        }
    }
    for target_id in [0, 1, u64::MAX] {
        let to = |_: &Cluster| pb::MoveLeaderRequest { target_id };
        let why = "etcdserver: bad leader transferee";
        pair.refused::<pb::MoveLeaderResponse, _>(0, MOVE, why, to).await;
    }
    // To itself is no change; to the others is one, and what is asked of any goes on.
    for (nth, to) in [(0, "M0"), (0, "M2"), (2, "M1"), (1, "M0")] {
        let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(to) };
        pair.well::<pb::MoveLeaderResponse, _>(nth, MOVE, to).await;
        for nth in 0..COUNT {
            pair.well::<pb::PutResponse, _>(nth, PUT, |_| put("moved")).await;
        }
    }
}
