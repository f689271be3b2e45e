//! A member without a vote: what it refuses, what it answers, and how it gets one.

use super::*;
use crate::compare;
use crate::support::http1;
use ringd::api::proto::health;
use ringd::api::proto::{v3electionpb, v3lockpb};
use tokio::task::JoinSet;

const REFUSED: &str = "etcdserver: rpc not supported for learner";

#[test]
fn a_learner_refuses_alike_and_is_promoted_alike() {
    alone(async {
        let mut pair = Pair::start(&[&CALM[..], &["--strict-reconfig-check=false"]].concat()).await;
        pair.well::<pb::PutResponse, _>(0, PUT, |_| put("a")).await;
        let nth = grow(&mut pair).await;
        everything(&pair, nth).await;
        what_is_answered(&pair, nth).await;
        pages(&pair, nth);
        leadership_stays(&pair, nth).await;
        is_promoted(&pair, nth).await;
    });
}

/// Adds a learner to both and starts it; it has all that there is.
async fn grow(pair: &mut Pair) -> usize {
    let [(nth, ours), (_, theirs)] = pair.both_mut().map(|cluster| cluster.members.grow());
    pair.add(1, &format!("M{nth}"), [&[ours], &[theirs]], true).await;
    for cluster in pair.both_mut() {
        cluster.members.restart(nth);
        let port = cluster.members.all_ports()[nth];
        cluster.clients.push(Client::connect(port).await.expect("it answers"));
        cluster.knows_all().await;
    }
    pair.settle(&[0, 1, 2, nth]).await;
    nth
}

/// One request of each kind, some of which no member would answer.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let lock = v3lockpb::LockRequest { name: "l".into(), lease: 5 };
    let unlock = v3lockpb::UnlockRequest { key: "l/5".into() };
    let campaign = v3electionpb::CampaignRequest { name: "e".into(), lease: 5, value: "v".into() };
    let leader = v3electionpb::LeaderRequest { name: "e".into() };
    let update = pb::MemberUpdateRequest { id: 1, peer_ur_ls: nowhere(&[1]) };
    let add = pb::MemberAddRequest { peer_ur_ls: nowhere(&[1]), is_learner: true };
    macro_rules! encoded {
        ($($path:expr, $request:expr;)*) => {vec![$(($path, $request.encode_to_vec())),*]};
    }
    encoded! {
        RANGE, get("a", false);
        RANGE, get("", false);
        "/etcdserverpb.KV/RangeStream", get("a", true);
        "/etcdserverpb.KV/RangeStream", get("a", false);
        PUT, put("a");
        PUT, put("");
        DELETE, delete;
        TXN, pb::TxnRequest::default();
        COMPACT, pb::CompactionRequest { revision: 1000, physical: false };
        GRANT, pb::LeaseGrantRequest { ttl: 100, id: 5 };
        REVOKE, pb::LeaseRevokeRequest { id: 77 };
        TTL, pb::LeaseTimeToLiveRequest { id: 77, keys: false };
        LEASES, pb::LeaseLeasesRequest {};
        KEEP_ALIVE, pb::LeaseKeepAliveRequest { id: 77 };
        WATCH, watch("a");
        LIST, pb::MemberListRequest { linearizable: false };
        LIST, pb::MemberListRequest { linearizable: true };
        ADD, add;
        ADD, pb::MemberAddRequest::default();
        REMOVE, pb::MemberRemoveRequest { id: 1 };
        UPDATE, update;
        PROMOTE, pb::MemberPromoteRequest { id: 1 };
        ALARM, pb::AlarmRequest::default();
        HASH_KV, pb::HashKvRequest { revision: 0 };
        "/etcdserverpb.Maintenance/Hash", pb::HashRequest {};
        "/etcdserverpb.Maintenance/Defragment", pb::DefragmentRequest {};
        MOVE, pb::MoveLeaderRequest { target_id: 1 };
        LOCK, lock;
        UNLOCK, unlock;
        CAMPAIGN, campaign;
        LEADER, leader;
        OBSERVE, leader;
        "/v3electionpb.Election/Proclaim", v3electionpb::ProclaimRequest::default();
        "/v3electionpb.Election/Resign", v3electionpb::ResignRequest::default();
        "/grpc.health.v1.Health/Check", health::HealthCheckRequest::default();
        "/grpc.health.v1.Health/Watch", health::HealthCheckRequest::default();
    }
}

/// Asks for everything that is refused, all at once.
async fn everything(pair: &Pair, nth: usize) {
    let mut calls = JoinSet::new();
    for (path, message) in requests() {
        for (side, of) in ["ours", "etcd's"].into_iter().zip(pair.both()) {
            let (client, head) = (of.clients[nth].clone(), of.head(nth, path, &[]));
            let body = Some(framed(0, &message));
            calls.spawn(async move {
                let answer = client.exchange(head, body, None).await;
                (path, side, end(&answer))
            });
        }
    }
    let answers = calls.join_all().await;
    let due = (9, REFUSED.to_owned());
    let wrong: Vec<_> = answers.into_iter().filter(|(_, _, end)| *end != due).collect();
    assert!(wrong.is_empty(), "a learner does not refuse: {wrong:?}");
}

async fn what_is_answered(pair: &Pair, nth: usize) {
    let told = pair.well::<pb::RangeResponse, _>(nth, RANGE, |_| get("a", true)).await;
    assert!(told.contains("count: 1"), "{told}");
    let why = "etcdserver: key is not provided";
    pair.refused::<pb::RangeResponse, _>(nth, RANGE, why, |_| get("", true)).await;
    let status = |_: &Cluster| pb::StatusRequest {};
    let told = pair.well::<pb::StatusResponse, _>(nth, STATUS, status).await;
    assert!(told.contains("is_learner: true"), "{told}");
    let told = pair.well::<pb::StatusResponse, _>(0, STATUS, status).await;
    assert!(told.contains("is_learner: false"), "{told}");
    for (path, message, due) in [
        (RANGE, get("a", true).encode_to_vec(), ""),
        (STATUS, Vec::new(), ""),
        (PUT, put("a").encode_to_vec(), REFUSED),
        (WATCH, watch("a").encode_to_vec(), REFUSED),
    ] {
        let told = pair.same_end(nth, path, &[("hasleader", "true")], &message).await;
        assert_eq!(told.1, due, "{path}");
    }
}

/// What it says of itself to those who do not speak gRPC.
fn pages(pair: &Pair, nth: usize) {
    for path in ["/health", "/health?serializable=true"] {
        let [ours, theirs] =
            pair.both().map(|of| http1::get(of.members.all_ports()[nth], path).expect("a page"));
        compare::same(path, &ours, &theirs).unwrap_or_else(|why| panic!("{why}"));
    }
}

async fn leadership_stays(pair: &Pair, nth: usize) {
    let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(&format!("M{nth}")) };
    let why = "etcdserver: bad leader transferee";
    pair.refused::<pb::MoveLeaderResponse, _>(0, MOVE, why, to).await;
    pair.refused::<pb::MoveLeaderResponse, _>(1, MOVE, "etcdserver: not leader", to).await;
    pair.refused::<pb::MoveLeaderResponse, _>(nth, MOVE, REFUSED, to).await;
}

/// A follower is asked for it, and hands that over.
async fn is_promoted(pair: &Pair, nth: usize) {
    let promote = |of: &Cluster| pb::MemberPromoteRequest { id: of.id(&format!("M{nth}")) };
    pair.well::<pb::MemberPromoteResponse, _>(1, PROMOTE, promote).await;
    let why = "etcdserver: can only promote a learner member";
    pair.refused::<pb::MemberPromoteResponse, _>(1, PROMOTE, why, promote).await;
    pair.settle(&[0, 1, 2, nth]).await;
    for linearizable in [true, false] {
        let list = |_: &Cluster| pb::MemberListRequest { linearizable };
        pair.well::<pb::MemberListResponse, _>(nth, LIST, list).await;
    }
    let told = pair.well::<pb::StatusResponse, _>(nth, STATUS, |_| pb::StatusRequest {}).await;
    assert!(told.contains("is_learner: false"), "{told}");
    pair.well::<pb::PutResponse, _>(nth, PUT, |_| put("b")).await;
    let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(&format!("M{nth}")) };
    pair.well::<pb::MoveLeaderResponse, _>(0, MOVE, to).await;
    pair.well::<pb::PutResponse, _>(nth, PUT, |_| put("c")).await;
}
