//! One of three members, when the others are down.
//!
//! Some things differ on purpose. A change that no leader can be found for has not happened, and
//! will not: ours says so (`etcdserver: no leader`) when its time is over. etcd leaves that open
//! (`context deadline exceeded`). Alarms are read by ours, and logged by etcd, if only to be read.

use super::*;
use crate::support::http1;
use crate::support::stream::Stream;
use ringd::api::proto::{v3electionpb, v3lockpb};
use tokio::task::JoinSet;

/// Who is left.
const LEFT: usize = 2;
const NO_LEADER: &str = "etcdserver: no leader";

#[test]
fn without_a_majority_the_same_is_refused() {
    alone(async {
        let mut pair = Pair::start(&["--heartbeat-interval=50", "--election-timeout=500"]).await;
        pair.well::<pb::PutResponse, _>(0, PUT, |_| put("a")).await;
        let grant = |_: &Cluster| pb::LeaseGrantRequest { ttl: 500, id: 7 };
        pair.well::<pb::LeaseGrantResponse, _>(0, GRANT, grant).await;
        pair.settle(&[0, 1, 2]).await;
        let streams = open_streams(&pair).await;
        for cluster in pair.both_mut() {
            cluster.members.kill(0);
            cluster.members.kill(1);
        }
        for cluster in pair.both() {
            until("no leader", async || cluster.status(LEFT).await.leader == 0).await;
        }
        let status = |_: &Cluster| pb::StatusRequest {};
        let told = pair.well::<pb::StatusResponse, _>(LEFT, STATUS, status).await;
        assert!(told.contains(NO_LEADER), "{told}");
        who_asks_for_a_leader_is_refused(&pair).await;
        streams_end(streams).await;
        what_is_answered(&pair).await;
        everything(&pair).await;
        pages(&pair);
    });
}

/// A stream of each kind, with and without asking for a leader, by that.
async fn open_streams(pair: &Pair) -> Vec<(bool, &'static str, [Stream; 2])> {
    let mut streams = Vec::new();
    for asks in [true, false] {
        let fields: &[_] = if asks { &[("hasleader", "true")] } else { &[] };
        for path in [WATCH, KEEP_ALIVE, OBSERVE] {
            let [ours, theirs] = pair.both();
            let both = [open(ours, path, fields).await, open(theirs, path, fields).await];
            streams.push((asks, path, both));
        }
    }
    streams
}

/// Opens a stream that has nothing to say before something happens.
async fn open(of: &Cluster, path: &str, fields: &[(&'static str, &str)]) -> Stream {
    let head = of.head(LEFT, path, fields);
    let mut stream = of.clients[LEFT].open_with(head).await.expect("it opens");
    match path {
        WATCH => {
            stream.send(&watch("a")).expect("it is open");
            stream.next::<pb::WatchResponse>().await.expect("it is created");
        }
        KEEP_ALIVE => {
            stream.send(&pb::LeaseKeepAliveRequest { id: 7 }).expect("it is open");
            stream.next::<pb::LeaseKeepAliveResponse>().await.expect("it is renewed");
        }
        _ => {
            let request = v3electionpb::LeaderRequest { name: "nobody's".into() };
            stream.send(&request).expect("it is open");
            stream.end().expect("it is open");
        }
    }
    stream
}

/// Streams that asked for a leader end; the others go on, as far as they need none.
async fn streams_end(streams: Vec<(bool, &'static str, [Stream; 2])>) {
    let (asking, others): (Vec<_>, Vec<_>) = streams.into_iter().partition(|it| it.0);
    for (_, path, [mut ours, mut theirs]) in asking {
        let ours = end(&ours.rest().await.expect("an end of ours"));
        let theirs = end(&theirs.rest().await.expect("an end of etcd's"));
        assert_eq!(ours, theirs, "ours, then etcd's: {path}");
    }
    for (_, path, both) in others {
        let mut told = Vec::new();
        for mut stream in both {
            match path {
                WATCH => {
                    stream.send(&watch("b")).expect("it is open");
                    let mut created: pb::WatchResponse = stream.next().await.expect("it goes on");
                    created.header = None;
                    told.push(format!("{created:?}"));
                }
                KEEP_ALIVE => {
                    stream.send(&pb::LeaseKeepAliveRequest { id: 7 }).expect("it is open");
                    told.push(format!("{:?}", end(&stream.rest().await.expect("an end"))));
                }
                _ => told.push(String::new()),
            }
        }
        assert_eq!(told[0], told[1], "ours, then etcd's: {path}");
    }
}

/// Who asks for a leader is told at once that there is none.
async fn who_asks_for_a_leader_is_refused(pair: &Pair) {
    for (path, message) in [
        (RANGE, get("a", true).encode_to_vec()),
        (RANGE, get("a", false).encode_to_vec()),
        (PUT, put("a").encode_to_vec()),
        (LIST, Vec::new()),
        (STATUS, Vec::new()),
        (WATCH, watch("a").encode_to_vec()),
        (KEEP_ALIVE, pb::LeaseKeepAliveRequest { id: 7 }.encode_to_vec()),
        (LOCK, v3lockpb::LockRequest { name: "l".into(), lease: 7 }.encode_to_vec()),
        (OBSERVE, v3electionpb::LeaderRequest { name: "e".into() }.encode_to_vec()),
    ] {
        let told = pair.same_end(LEFT, path, &[("hasleader", "true")], &message).await;
        assert_eq!(told, (14, NO_LEADER.to_owned()), "{path}");
    }
    for value in ["false", "True", ""] {
        let message = get("a", true).encode_to_vec();
        let told = pair.same_end(LEFT, RANGE, &[("hasleader", value)], &message).await;
        assert_eq!(told.0, 0, "hasleader: {value}");
    }
}

/// What needs no majority.
async fn what_is_answered(pair: &Pair) {
    let told = pair.well::<pb::RangeResponse, _>(LEFT, RANGE, |_| get("a", true)).await;
    assert!(told.contains("count: 1"), "{told}");
    let txn = |_: &Cluster| pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(get("a", true))),
        }],
        ..Default::default()
    };
    pair.well::<pb::TxnResponse, _>(LEFT, TXN, txn).await;
    let list = |_: &Cluster| pb::MemberListRequest { linearizable: false };
    pair.well::<pb::MemberListResponse, _>(LEFT, LIST, list).await;
    let leases = |_: &Cluster| pb::LeaseLeasesRequest {};
    pair.well::<pb::LeaseLeasesResponse, _>(LEFT, LEASES, leases).await;
    let hash = |_: &Cluster| pb::HashKvRequest { revision: 0 };
    pair.well::<pb::HashKvResponse, _>(LEFT, HASH_KV, hash).await;
    let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id("M2") };
    let why = "etcdserver: not leader";
    pair.refused::<pb::MoveLeaderResponse, _>(LEFT, MOVE, why, to).await;
}

/// What needs one, and how long the client waits if etcd would wait for ever.
fn requests(of: &Cluster) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let lock = v3lockpb::LockRequest { name: "l".into(), lease: 7 };
    let campaign = v3electionpb::CampaignRequest { name: "e".into(), lease: 7, value: "v".into() };
    let leader = v3electionpb::LeaderRequest { name: "e".into() };
    let unlock = v3lockpb::UnlockRequest { key: "l/7".into() };
    let write = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("a"))) };
    let write = pb::TxnRequest { success: vec![write], ..Default::default() };
    let add = |is_learner| pb::MemberAddRequest { peer_ur_ls: nowhere(&[1]), is_learner };
    let update = pb::MemberUpdateRequest { id: of.id("M2"), peer_ur_ls: nowhere(&[2]) };
    macro_rules! encoded {
        ($($path:expr, $request:expr, $time:literal;)*) => {
            vec![$(($path, $request.encode_to_vec(), $time)),*]
        };
    }
    encoded! {
        RANGE, get("a", false), "";
        RANGE, get("a", false), "1S";
        "/etcdserverpb.KV/RangeStream", get("a", false), "";
        PUT, put("a"), "";
        PUT, put("a"), "1S";
        DELETE, delete, "";
        TXN, write, "";
        COMPACT, pb::CompactionRequest { revision: 1, physical: false }, "";
        GRANT, pb::LeaseGrantRequest { ttl: 100, id: 5 }, "";
        REVOKE, pb::LeaseRevokeRequest { id: 7 }, "";
        TTL, pb::LeaseTimeToLiveRequest { id: 7, keys: false }, "";
        KEEP_ALIVE, pb::LeaseKeepAliveRequest { id: 7 }, "";
        LIST, pb::MemberListRequest { linearizable: true }, "";
        ADD, add(false), "";
        ADD, add(true), "";
        REMOVE, pb::MemberRemoveRequest { id: of.id("M2") }, "";
        REMOVE, pb::MemberRemoveRequest { id: of.id("M0") }, "1S";
        UPDATE, update, "1S";
        PROMOTE, pb::MemberPromoteRequest { id: of.id("M0") }, "";
        ALARM, pb::AlarmRequest::default(), "";
        LOCK, lock, "";
        UNLOCK, unlock, "";
        CAMPAIGN, campaign, "";
        LEADER, leader, "";
    }
}

/// Whether both say the same, as far as they should.
fn are_alike(path: &str, time: &str, ours: &End, theirs: &End) -> bool {
    let late = (4, "context deadline exceeded".to_owned());
    if !time.is_empty() {
        // When the client's time is over etcd says so, or resets the stream, whichever is first.
        return *ours == late && (ours == theirs || theirs.1.contains("stream reset: CANCEL"));
    }
    let instead = match path {
        ALARM => (14, "etcdserver: request timed out"),
        LOCK | UNLOCK | CAMPAIGN => (2, NO_LEADER),
        _ => (14, NO_LEADER),
    };
    ours == theirs || (*theirs == late && (ours.0, ours.1.as_str()) == instead)
}

/// Asks for everything, all at once.
async fn everything(pair: &Pair) {
    let mut calls = JoinSet::new();
    for (side, of) in pair.both().into_iter().enumerate() {
        for (number, (path, message, time)) in requests(of).into_iter().enumerate() {
            let fields = [("grpc-timeout", time)];
            let head = of.head(LEFT, path, if time.is_empty() { &[] } else { &fields });
            let (client, body) = (of.clients[LEFT].clone(), Some(framed(0, &message)));
            calls.spawn(async move {
                let answer = client.exchange(head, body, None).await;
                ((number, side), (path, time, end(&answer)))
            });
        }
    }
    let mut answers = calls.join_all().await;
    answers.sort();
    let mut wrong = Vec::new();
    for both in answers.chunks(2) {
        let [(_, (path, time, ours)), (_, (_, _, theirs))] = both else { panic!("{both:?}") };
        if theirs.0 == 0 || !are_alike(path, time, ours, theirs) {
            wrong.push(format!("{path} {time}: ours {ours:?}, etcd's {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "without a majority they differ:\n{}", wrong.join("\n"));
}

fn pages(pair: &Pair) {
    for path in ["/health", "/health?serializable=true"] {
        let [ours, theirs] =
            pair.both().map(|of| http1::get(of.members.all_ports()[LEFT], path).expect("a page"));
        crate::compare::same(path, &ours, &theirs).unwrap_or_else(|why| panic!("{why}"));
    }
}
