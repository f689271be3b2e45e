//! Three members of ours beside three of etcd: changes of members, what followers and learners
//! answer, what is said without a majority, and the fields of a status.
//!
//! Ids, ports and terms are each cluster's own; they are told by the names of the members.
//!
//! Some things differ on purpose. A change that no leader can be found for has not happened, and
//! will not: ours says so (`etcdserver: no leader`) when its time is over. etcd leaves that open
//! (`context deadline exceeded`), and of a change of members it says nothing, ever. To an update
//! with URLs that are none etcd does not answer, either: it ends.

use crate::support::block_on;
use crate::support::call::{Answer, Client, Status, framed};
use crate::support::members::Members;
use crate::support::peers;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::{v3electionpb, v3lockpb};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use tokio::task::JoinSet;

/// Times that something is asked that comes true after a while.
const TRIES_MAX: usize = 5000;
/// Members that found a cluster.
const COUNT: usize = 3;
/// A URL where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

const LIST: &str = "/etcdserverpb.Cluster/MemberList";
const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const MOVE: &str = "/etcdserverpb.Maintenance/MoveLeader";
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";

/// One cluster.
struct Cluster {
    members: Members,
    /// By the number of the member.
    clients: Vec<Client>,
    /// Ids, and what stands for each.
    names: Vec<(u64, String)>,
}

impl Cluster {
    async fn start(program: &Path, flags: &[&str]) -> Self {
        let members = Members::start_of(program, COUNT, flags);
        let mut cluster = Self { members, clients: Vec::new(), names: Vec::new() };
        for port in cluster.members.all_ports() {
            cluster.clients.push(Client::connect(port).await.expect("it answers"));
        }
        cluster.learn().await;
        cluster.lead(0).await;
        cluster.is_published().await;
        cluster
    }

    /// Waits until every member knows of all others where their clients find them.
    async fn is_published(&self) {
        for client in &self.clients {
            let mut rounds = 0..TRIES_MAX;
            loop {
                let list = pb::MemberListRequest { linearizable: false };
                let list: pb::MemberListResponse = client.unary(LIST, &list).await.expect("a list");
                if list.members.iter().all(|member| !member.client_ur_ls.is_empty()) {
                    break;
                }
                assert!(rounds.next().is_some(), "a member does not say who it is: {list:?}");
            }
        }
    }

    /// Learns the members' ids.
    async fn learn(&mut self) {
        let list = pb::MemberListRequest { linearizable: false };
        let list: pb::MemberListResponse =
            self.clients[0].unary(LIST, &list).await.expect("a list");
        let cluster = list.header.expect("it has a header").cluster_id;
        self.names = vec![(cluster, "CLUSTER".to_owned())];
        for member in list.members {
            let name = if member.name.is_empty() { "new" } else { &member.name };
            self.names.push((member.id, name.to_uppercase()));
        }
    }

    /// The id of the member with a name.
    fn id(&self, name: &str) -> u64 {
        let found = self.names.iter().find(|(_, it)| it == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {:?}", self.names)).0
    }

    async fn leader(&self, nth: usize) -> u64 {
        let status = self.clients[nth].unary(STATUS, &pb::StatusRequest {}).await;
        status.map_or(0, |status: pb::StatusResponse| status.leader)
    }

    /// Has a member lead, and waits until all of them know it.
    async fn lead(&self, nth: usize) {
        let target_id = self.id(&format!("M{nth}"));
        for _ in 0..TRIES_MAX {
            let mut knowing = 0;
            for client in 0..self.clients.len() {
                knowing += usize::from(self.leader(client).await == target_id);
            }
            if knowing == self.clients.len() {
                return;
            }
            for client in &self.clients {
                let asked = pb::MoveLeaderRequest { target_id };
                let _: Result<pb::MoveLeaderResponse, _> = client.unary(MOVE, &asked).await;
            }
        }
        panic!("{nth} does not lead");
    }

    /// A message as text, without what is this cluster's own.
    fn plain(&self, message: &impl Debug) -> String {
        let mut text = self.members.without_ports(&format!("{message:?}"));
        for (id, name) in &self.names {
            text = text.replace(&id.to_string(), name);
        }
        for field in
            ["raft_term: ", "raft_index: ", "raft_applied_index: ", "db_size: ", "db_size_in_use: "]
        {
            text = masked(&text, field);
        }
        // etcd's rises some seconds after its start.
        text.replace("storage_version: \"3.5.0\"", "storage_version: \"3.7.0\"")
    }

    async fn ask<A: Arranged>(&self, nth: usize, path: &str, request: &impl Message) -> Told {
        let mut answer: A = self.clients[nth].unary(path, request).await?;
        answer.arrange();
        Ok(self.plain(&answer))
    }
}

/// What a call comes to, made comparable.
type Told = Result<String, Status>;

/// A text with `_` for the number after each `field`.
fn masked(text: &str, field: &str) -> String {
    let mut parts = text.split(field);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        masked = masked + field + "_" + rest;
    }
    masked
}

/// An answer whose order does not depend on ids.
trait Arranged: Message + Default + Debug {
    fn arrange(&mut self) {}
}

/// Answers without members in them.
macro_rules! arranged {
    ($($plain:ident)*; $($of_members:ident)*) => {
        $(impl Arranged for pb::$plain {})*
        $(impl Arranged for pb::$of_members {
            fn arrange(&mut self) {
                self.members.sort_by_key(|member| member.name.clone());
            }
        })*
    };
}

arranged! {
    PutResponse RangeResponse DeleteRangeResponse TxnResponse LeaseGrantResponse StatusResponse
    HashKvResponse AlarmResponse CompactionResponse MoveLeaderResponse;
    MemberListResponse MemberAddResponse MemberRemoveResponse MemberUpdateResponse
    MemberPromoteResponse
}

/// Ours and etcd's.
struct Pair {
    ours: Cluster,
    theirs: Cluster,
}

impl Pair {
    async fn start(flags: &[&str]) -> Self {
        let theirs =
            Cluster::start(&peers::etcd(), &[flags, &["--unsafe-no-fsync"]].concat()).await;
        Self { ours: Cluster::start(&peers::under_test(), flags).await, theirs }
    }

    /// Both answer alike; how.
    async fn same<A: Arranged, Q: Message + Debug>(
        &self,
        nth: usize,
        path: &str,
        request: impl Fn(&Cluster) -> Q,
    ) -> Told {
        let (to_ours, to_theirs) = (request(&self.ours), request(&self.theirs));
        let (ours, theirs) = tokio::join!(
            self.ours.ask::<A>(nth, path, &to_ours),
            self.theirs.ask::<A>(nth, path, &to_theirs)
        );
        assert_eq!(ours, theirs, "ours, then etcd's: {path} of member {nth}, {to_ours:?}");
        ours
    }

    /// Adds a member to both and starts it; learners know no leader before they have caught up.
    async fn grow(&mut self) -> usize {
        let mut number = 0;
        for cluster in [&mut self.ours, &mut self.theirs] {
            let (nth, url) = cluster.members.grow();
            let add = pb::MemberAddRequest { peer_ur_ls: vec![url], is_learner: true };
            let added: Result<pb::MemberAddResponse, _> = cluster.clients[0].unary(ADD, &add).await;
            added.expect("it is added");
            cluster.members.restart(nth);
            let port = cluster.members.all_ports()[nth];
            cluster.clients.push(Client::connect(port).await.expect("it answers"));
            cluster.learn().await;
            number = nth;
        }
        number
    }
}

/// How a call ended, in short: the code and the message.
fn short(answer: &Answer) -> (i32, String) {
    match answer.status() {
        Ok(()) => (0, String::new()),
        Err(Status { code, message }) => (code, message),
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() }
}

fn get(key: &str, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), serializable, ..Default::default() }
}

#[test]
fn followers_answer_as_the_leader_does() {
    block_on(async {
        let pair = Pair::start(&[]).await;
        for nth in 0..3 {
            let key = format!("k{nth}");
            pair.same::<pb::PutResponse, _>(nth, PUT, |_| put(&key)).await.expect("it is put");
            for serializable in [false, true] {
                let told =
                    pair.same::<pb::RangeResponse, _>(nth, RANGE, |_| get(&key, serializable));
                told.await.expect("it is there");
            }
            let txn = |_: &Cluster| pb::TxnRequest {
                success: vec![pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestRange(get("k0", false))),
                }],
                ..Default::default()
            };
            let path = "/etcdserverpb.KV/Txn";
            pair.same::<pb::TxnResponse, _>(nth, path, txn).await.expect("it is answered");
            let id = i64::try_from(nth).expect("small") + 7;
            let path = "/etcdserverpb.Lease/LeaseGrant";
            for _ in 0..2 {
                let grant = |_: &Cluster| pb::LeaseGrantRequest { ttl: 500, id };
                let _ = pair.same::<pb::LeaseGrantResponse, _>(nth, path, grant).await;
            }
            let delete = |_: &Cluster| pb::DeleteRangeRequest {
                key: key.clone().into(),
                prev_kv: true,
                ..Default::default()
            };
            let path = "/etcdserverpb.KV/DeleteRange";
            pair.same::<pb::DeleteRangeResponse, _>(nth, path, delete).await.expect("it is gone");
            let path = "/etcdserverpb.KV/Compact";
            let compact =
                |revision| move |_: &Cluster| pb::CompactionRequest { revision, physical: false };
            let _ = pair.same::<pb::CompactionResponse, _>(nth, path, compact(2)).await;
            let _ = pair.same::<pb::CompactionResponse, _>(nth, path, compact(1000)).await;
            let alarm = |_: &Cluster| pb::AlarmRequest::default();
            let path = "/etcdserverpb.Maintenance/Alarm";
            pair.same::<pb::AlarmResponse, _>(nth, path, alarm).await.expect("none");
        }
        for nth in 0..3 {
            let status = |_: &Cluster| pb::StatusRequest {};
            let told = pair.same::<pb::StatusResponse, _>(nth, STATUS, status).await;
            assert!(told.expect("a status").contains("leader: M0"));
            let hash = |_: &Cluster| pb::HashKvRequest { revision: 0 };
            let path = "/etcdserverpb.Maintenance/HashKV";
            pair.same::<pb::HashKvResponse, _>(nth, path, hash).await.expect("a hash");
            for name in ["M1", "M2"] {
                if nth > 0 {
                    let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(name) };
                    let refused = pair.same::<pb::MoveLeaderResponse, _>(nth, MOVE, to).await;
                    assert!(refused.is_err(), "it does not lead");
                }
            }
        }
        let strange = |_: &Cluster| pb::MoveLeaderRequest { target_id: 1 };
        let _ = pair.same::<pb::MoveLeaderResponse, _>(0, MOVE, strange).await;
        let own = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id("M0") };
        let _ = pair.same::<pb::MoveLeaderResponse, _>(0, MOVE, own).await;
    });
}

#[test]
fn changes_of_members_are_answered_alike() {
    block_on(async {
        let mut pair = Pair::start(&["--strict-reconfig-check=false"]).await;
        for nth in [0, 2] {
            for linearizable in [true, false] {
                let list = |_: &Cluster| pb::MemberListRequest { linearizable };
                pair.same::<pb::MemberListResponse, _>(nth, LIST, list).await.expect("a list");
            }
            refusals(&pair, nth).await;
            // One is added, and changed, and goes again.
            let add = |_: &Cluster| pb::MemberAddRequest {
                peer_ur_ls: vec!["http://127.0.0.1:2".to_owned(), NOWHERE.to_owned()],
                is_learner: true,
            };
            // Its id is not known before it is there.
            for cluster in [&mut pair.ours, &mut pair.theirs] {
                let added: Result<pb::MemberAddResponse, _> =
                    cluster.clients[nth].unary(ADD, &add(cluster)).await;
                assert!(added.expect("it is added").member.expect("it").is_learner);
                cluster.learn().await;
            }
            let list = |_: &Cluster| pb::MemberListRequest { linearizable: true };
            pair.same::<pb::MemberListResponse, _>(nth, LIST, list).await.expect("a list");
            let another = |_: &Cluster| pb::MemberAddRequest {
                peer_ur_ls: vec!["http://127.0.0.1:3".to_owned()],
                is_learner: true,
            };
            assert!(pair.same::<pb::MemberAddResponse, _>(nth, ADD, another).await.is_err());
            let promote = |of: &Cluster| pb::MemberPromoteRequest { id: of.id("NEW") };
            assert!(
                pair.same::<pb::MemberPromoteResponse, _>(nth, PROMOTE, promote).await.is_err()
            );
            let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id("NEW") };
            assert!(pair.same::<pb::MoveLeaderResponse, _>(nth, MOVE, to).await.is_err());
            for urls in [&["http://127.0.0.1:4"][..], &["http://127.0.0.1:5", "http://127.0.0.1:6"]]
            {
                let update = |of: &Cluster| pb::MemberUpdateRequest {
                    id: of.id("NEW"),
                    peer_ur_ls: urls.iter().map(|&url| url.to_owned()).collect(),
                };
                let told = pair.same::<pb::MemberUpdateResponse, _>(nth, UPDATE, update).await;
                told.expect("it is changed");
            }
            for times in 0..2 {
                let remove = |of: &Cluster| pb::MemberRemoveRequest { id: of.id("NEW") };
                let told = pair.same::<pb::MemberRemoveResponse, _>(nth, REMOVE, remove).await;
                assert_eq!(told.is_ok(), times == 0, "it goes once");
            }
        }
    });
}

/// Changes that cannot be.
async fn refusals(pair: &Pair, nth: usize) {
    for urls in [&[][..], &["a"], &["a:1"], &["http://a"], &["http://a:1/b"], &["http://a:1", ""]] {
        let peer_ur_ls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
        for is_learner in [false, true] {
            let add =
                |_: &Cluster| pb::MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner };
            assert!(pair.same::<pb::MemberAddResponse, _>(nth, ADD, add).await.is_err());
        }
    }
    let taken = |of: &Cluster, is_learner| {
        let initial = of.members.initial();
        let (_, url) = initial.rsplit_once('=').expect("a name and a URL");
        pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner }
    };
    for is_learner in [false, true] {
        let add = |of: &Cluster| taken(of, is_learner);
        assert!(pair.same::<pb::MemberAddResponse, _>(nth, ADD, add).await.is_err());
    }
    let update = |of: &Cluster| pb::MemberUpdateRequest {
        id: of.id("M0"),
        peer_ur_ls: taken(of, false).peer_ur_ls,
    };
    assert!(pair.same::<pb::MemberUpdateResponse, _>(nth, UPDATE, update).await.is_err());
    for id in [0, 1, u64::MAX] {
        let update = |_: &Cluster| pb::MemberUpdateRequest { id, peer_ur_ls: vec![NOWHERE.into()] };
        assert!(pair.same::<pb::MemberUpdateResponse, _>(nth, UPDATE, update).await.is_err());
        let remove = |_: &Cluster| pb::MemberRemoveRequest { id };
        assert!(pair.same::<pb::MemberRemoveResponse, _>(nth, REMOVE, remove).await.is_err());
        let promote = |_: &Cluster| pb::MemberPromoteRequest { id };
        assert!(pair.same::<pb::MemberPromoteResponse, _>(nth, PROMOTE, promote).await.is_err());
    }
    for name in ["M0", "M2"] {
        let promote = |of: &Cluster| pb::MemberPromoteRequest { id: of.id(name) };
        assert!(pair.same::<pb::MemberPromoteResponse, _>(nth, PROMOTE, promote).await.is_err());
    }
}

/// One request of each kind.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let lock = v3lockpb::LockRequest { name: "l".into(), lease: 5 };
    let leader = v3electionpb::LeaderRequest { name: "e".into() };
    macro_rules! encoded {
        ($($path:literal $request:expr;)*) => {vec![$(($path, $request.encode_to_vec())),*]};
    }
    encoded! {
        "/etcdserverpb.KV/Range" get("a", true);
        "/etcdserverpb.KV/Range" get("a", false);
        "/etcdserverpb.KV/Put" put("a");
        "/etcdserverpb.KV/DeleteRange" delete;
        "/etcdserverpb.KV/Txn" pb::TxnRequest::default();
        "/etcdserverpb.KV/Compact" pb::CompactionRequest { revision: 1000, physical: false };
        "/etcdserverpb.Lease/LeaseGrant" pb::LeaseGrantRequest { ttl: 100, id: 5 };
        "/etcdserverpb.Lease/LeaseRevoke" pb::LeaseRevokeRequest { id: 77 };
        "/etcdserverpb.Lease/LeaseTimeToLive" pb::LeaseTimeToLiveRequest { id: 77, keys: false };
        "/etcdserverpb.Lease/LeaseLeases" pb::LeaseLeasesRequest {};
        "/etcdserverpb.Cluster/MemberList" pb::MemberListRequest { linearizable: false };
        "/etcdserverpb.Cluster/MemberList" pb::MemberListRequest { linearizable: true };
        "/etcdserverpb.Cluster/MemberRemove" pb::MemberRemoveRequest { id: 1 };
        "/etcdserverpb.Cluster/MemberPromote" pb::MemberPromoteRequest { id: 1 };
        "/etcdserverpb.Maintenance/Status" pb::StatusRequest {};
        "/etcdserverpb.Maintenance/Alarm" pb::AlarmRequest::default();
        "/etcdserverpb.Maintenance/HashKV" pb::HashKvRequest { revision: 0 };
        "/etcdserverpb.Maintenance/Hash" pb::HashRequest {};
        "/etcdserverpb.Maintenance/Defragment" pb::DefragmentRequest {};
        "/etcdserverpb.Maintenance/MoveLeader" pb::MoveLeaderRequest { target_id: 1 };
        "/v3lockpb.Lock/Lock" lock;
        "/v3electionpb.Election/Leader" leader;
    }
}

/// Whether both say the same, as far as they should.
fn are_alike(ours: &(i32, String), theirs: &(i32, String)) -> bool {
    let (_, text) = ours;
    let is_late = *theirs == (4, "context deadline exceeded".to_owned());
    ours == theirs
        || (is_late
            && ["etcdserver: no leader", "etcdserver: request timed out"].contains(&&text[..]))
}

/// Asks one member of each for everything, all at once; how many are refused.
async fn everything(pair: &Pair, nth: usize) -> usize {
    let mut calls = JoinSet::new();
    for (number, (path, message)) in requests().into_iter().enumerate() {
        if path == REMOVE && nth < COUNT {
            // Without a majority etcd never answers; of a learner it is refused at once.
            continue;
        }
        for (side, of) in [&pair.ours, &pair.theirs].into_iter().enumerate() {
            let (client, message) = (of.clients[nth].clone(), message.clone());
            calls.spawn(async move {
                let body = Some(framed(0, &message));
                let answer = client.exchange(client.head(path), body, None).await;
                ((number, side), short(&answer))
            });
        }
    }
    let answers: BTreeMap<_, _> = calls.join_all().await.into_iter().collect();
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for (number, (path, _)) in requests().into_iter().enumerate() {
        let (Some(ours), Some(theirs)) = (answers.get(&(number, 0)), answers.get(&(number, 1)))
        else {
            continue;
        };
        refused += usize::from(theirs.0 != 0);
        if !are_alike(ours, theirs) {
            wrong.push(format!("{path}: ours {ours:?}, etcd's {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "member {nth} answers otherwise:\n{}", wrong.join("\n"));
    refused
}

#[test]
fn a_learner_refuses_alike_and_is_promoted_alike() {
    block_on(async {
        let mut pair = Pair::start(&["--strict-reconfig-check=false"]).await;
        pair.same::<pb::PutResponse, _>(0, PUT, |_| put("a")).await.expect("it is put");
        let nth = pair.grow().await;
        for cluster in [&pair.ours, &pair.theirs] {
            for _ in 0..TRIES_MAX {
                let found = cluster.clients[nth].unary(RANGE, &get("a", true)).await;
                if found.is_ok_and(|found: pb::RangeResponse| found.count == 1) {
                    break;
                }
            }
        }
        everything(&pair, nth).await;
        let told = pair.same::<pb::RangeResponse, _>(nth, RANGE, |_| get("a", true)).await;
        assert!(told.expect("it is there").contains("count: 1"));
        let status = |_: &Cluster| pb::StatusRequest {};
        let told = pair.same::<pb::StatusResponse, _>(nth, STATUS, status).await;
        assert!(told.expect("a status").contains("is_learner: true"));
        streams(&pair, nth).await;
        for cluster in [&mut pair.ours, &mut pair.theirs] {
            cluster.learn().await;
            let promote = pb::MemberPromoteRequest { id: cluster.id(&format!("M{nth}")) };
            let mut promoted = Err(Status { code: 0, message: String::new() });
            for _ in 0..TRIES_MAX {
                // A follower is asked, who hands it over.
                promoted = cluster.clients[1].unary(PROMOTE, &promote).await;
                if promoted.is_ok() {
                    break;
                }
            }
            let _: pb::MemberPromoteResponse = promoted.expect("it catches up");
        }
        let list = |_: &Cluster| pb::MemberListRequest { linearizable: true };
        pair.same::<pb::MemberListResponse, _>(nth, LIST, list).await.expect("a list");
        pair.same::<pb::PutResponse, _>(nth, PUT, |_| put("b")).await.expect("it is put");
    });
}

/// Asks for a lease to be kept alive, by a stream; how it ends.
async fn streams(pair: &Pair, nth: usize) {
    let (path, keep) = ("/etcdserverpb.Lease/LeaseKeepAlive", pb::LeaseKeepAliveRequest { id: 77 });
    let mut told = Vec::new();
    for client in [&pair.ours.clients[nth], &pair.theirs.clients[nth]] {
        let body = Some(framed(0, &keep.encode_to_vec()));
        told.push(short(&client.exchange(client.head(path), body, None).await));
    }
    assert_eq!(told[0], told[1], "ours, then etcd's: {path} of member {nth}");
}

#[test]
fn without_a_majority_the_same_is_refused() {
    block_on(async {
        let mut pair = Pair::start(&["--heartbeat-interval=50", "--election-timeout=500"]).await;
        pair.same::<pb::PutResponse, _>(0, PUT, |_| put("a")).await.expect("it is put");
        for cluster in [&mut pair.ours, &mut pair.theirs] {
            cluster.members.kill(0);
            cluster.members.kill(1);
            let mut rounds = 0..TRIES_MAX * 20;
            while cluster.leader(2).await != 0 {
                assert!(rounds.next().is_some(), "it thinks that somebody leads");
            }
        }
        let status = |_: &Cluster| pb::StatusRequest {};
        let told = pair.same::<pb::StatusResponse, _>(2, STATUS, status).await;
        assert!(told.expect("a status").contains("etcdserver: no leader"));
        let refused = everything(&pair, 2).await;
        assert!(refused > 10, "{refused} are refused");
        has_no_leader(&pair).await;
    });
}

/// Who asks for a leader is told that there is none.
async fn has_no_leader(pair: &Pair) {
    for (path, message) in [
        (RANGE, get("a", true).encode_to_vec()),
        (LIST, pb::MemberListRequest { linearizable: false }.encode_to_vec()),
        (STATUS, Vec::new()),
        ("/etcdserverpb.Watch/Watch", Vec::new()),
        ("/etcdserverpb.Lease/LeaseKeepAlive", Vec::new()),
    ] {
        let mut told = Vec::new();
        for client in [&pair.ours.clients[2], &pair.theirs.clients[2]] {
            let mut head = client.head(path);
            head.headers_mut().insert("hasleader", "true".parse().expect("a header"));
            told.push(short(&client.exchange(head, Some(framed(0, &message)), None).await));
        }
        assert_eq!(told[0], told[1], "ours, then etcd's: {path} with hasleader");
    }
}
