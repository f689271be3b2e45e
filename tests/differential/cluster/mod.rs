//! Three members of ours beside three of etcd: what followers and learners answer, changes of
//! members, what is said without a majority, and the fields of a status.
//!
//! Ids, ports and terms are each cluster's own; they are told by the names of the members. What
//! comes true after a while is asked for until it does, and only then compared. One test has the
//! machine for itself at a time: six servers that all wait for a disk would lose their leaders.

mod changes;
mod followers;
mod learner;
mod majority;

use crate::support::call::{Answer, Client, Status, framed};
use crate::support::members::Members;
use crate::support::server::PATIENCE;
use crate::support::{block_on, pause, peers};
use http::Request;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Members that found a cluster.
const COUNT: usize = 3;
/// Between two times that the same is asked.
const BREATH: Duration = Duration::from_millis(5);
/// Nobody calls an election because the machine is busy.
const CALM: [&str; 2] = ["--heartbeat-interval=100", "--election-timeout=4000"];

const LIST: &str = "/etcdserverpb.Cluster/MemberList";
const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const MOVE: &str = "/etcdserverpb.Maintenance/MoveLeader";
const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const TTL: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const LOCK: &str = "/v3lockpb.Lock/Lock";
const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
const LEADER: &str = "/v3electionpb.Election/Leader";
const OBSERVE: &str = "/v3electionpb.Election/Observe";

/// Runs one of the tests here, while none of the others runs.
fn alone<F: Future<Output = ()>>(test: F) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(test);
}

/// Asks until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !is_so().await {
            pause(BREATH).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asked).await;
    assert!(in_time.is_ok(), "{what} does not come true");
}

/// What a call comes to, made comparable.
type Told = Result<String, Status>;

/// One cluster.
struct Cluster {
    members: Members,
    /// By the number of the member.
    clients: Vec<Client>,
    /// Ids, and what stands for each.
    names: Vec<(u64, String)>,
}

impl Cluster {
    /// Starts one that member 0 leads, and of which all know all.
    async fn start(program: &Path, flags: &[&str]) -> Self {
        let members = Members::start_of(program, COUNT, flags);
        let mut cluster = Self { members, clients: Vec::new(), names: Vec::new() };
        for port in cluster.members.all_ports() {
            cluster.clients.push(Client::connect(port).await.expect("it answers"));
        }
        cluster.knows_all().await;
        let (head, list) = cluster.list(0).await;
        cluster.names.push((head.cluster_id, "CLUSTER".to_owned()));
        cluster.names.extend(list.into_iter().map(|it| (it.id, it.name.to_uppercase())));
        cluster.lead(0).await;
        cluster
    }

    /// Waits until its founders know of each member what it is called and where clients find it.
    async fn knows_all(&self) {
        for nth in 0..COUNT {
            until("a list of names and places", async || {
                let (_, all) = self.list(nth).await;
                all.iter().all(|it| !it.name.is_empty() && !it.client_ur_ls.is_empty())
            })
            .await;
        }
    }

    /// The members as one of them knows them.
    async fn list(&self, nth: usize) -> (pb::ResponseHeader, Vec<pb::Member>) {
        let list = pb::MemberListRequest { linearizable: false };
        let list: pb::MemberListResponse =
            self.clients[nth].unary(LIST, &list).await.expect("a list");
        (list.header.expect("it has a header"), list.members)
    }

    /// The id of the member with a name.
    fn id(&self, name: &str) -> u64 {
        let found = self.names.iter().find(|(_, it)| it == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {:?}", self.names)).0
    }

    /// Where the peers of a founder find it.
    fn url(&self, nth: usize) -> String {
        let initial = self.members.initial();
        let of = format!("m{nth}=");
        let url = initial.split(',').find_map(|part| part.strip_prefix(&of));
        url.expect("it founds the cluster").to_owned()
    }

    async fn status(&self, nth: usize) -> pb::StatusResponse {
        self.clients[nth].unary(STATUS, &pb::StatusRequest {}).await.expect("a status")
    }

    /// Has a member lead, and waits until all of them know it.
    async fn lead(&self, nth: usize) {
        let target_id = self.id(&format!("M{nth}"));
        until("another leader", async || {
            for client in &self.clients {
                let to = pb::MoveLeaderRequest { target_id };
                let _: Result<pb::MoveLeaderResponse, _> = client.unary(MOVE, &to).await;
            }
            let mut is_known = true;
            for nth in 0..self.clients.len() {
                is_known &= self.status(nth).await.leader == target_id;
            }
            is_known
        })
        .await;
    }

    /// Waits until these have applied the same, which is all there is.
    async fn settle(&self, these: &[usize]) {
        until("the same state", async || {
            let mut states = Vec::new();
            for &nth in these {
                let it = self.status(nth).await;
                let revision = it.header.expect("it has a header").revision;
                states.push((it.leader, it.raft_index, it.raft_applied_index, revision));
            }
            let first = states[0];
            first.0 != 0 && first.1 == first.2 && states.iter().all(|it| *it == first)
        })
        .await;
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
        text
    }

    async fn ask<A: Arranged>(&self, nth: usize, path: &str, request: &impl Message) -> Told {
        let mut answer: A = self.clients[nth].unary(path, request).await?;
        answer.arrange();
        Ok(self.plain(&answer))
    }

    /// The head of a call to a member, with these fields.
    fn head(&self, nth: usize, path: &str, fields: &[(&'static str, &str)]) -> Request<()> {
        let mut head = self.clients[nth].head(path);
        for (name, value) in fields {
            head.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        head
    }

    /// How a call ends, and what its message is.
    async fn ends(
        &self,
        nth: usize,
        path: &str,
        fields: &[(&'static str, &str)],
        message: &[u8],
    ) -> End {
        let (head, body) = (self.head(nth, path, fields), Some(framed(0, message)));
        end(&self.clients[nth].exchange(head, body, None).await)
    }
}

/// How a call ended: the code and the text.
type End = (i32, String);

fn end(answer: &Answer) -> End {
    match answer.status() {
        Ok(()) => (0, String::new()),
        Err(Status { code, message }) => (code, message),
    }
}

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

/// An answer whose order does not depend on ids, and that says nothing of time.
trait Arranged: Message + Default + Debug {
    fn arrange(&mut self) {}
}

/// Answers without members in them, and answers with.
macro_rules! arranged {
    ($($plain:ident)*; $($of_members:ident)*) => {
        $(impl Arranged for pb::$plain {})*
        $(impl Arranged for pb::$of_members {
            fn arrange(&mut self) {
                self.members.sort_by_key(|it| (it.name.clone(), it.peer_ur_ls.clone()));
            }
        })*
    };
}

arranged! {
    PutResponse RangeResponse DeleteRangeResponse TxnResponse CompactionResponse HashKvResponse
    LeaseGrantResponse LeaseRevokeResponse AlarmResponse MoveLeaderResponse DefragmentResponse;
    MemberListResponse MemberAddResponse MemberRemoveResponse MemberUpdateResponse
    MemberPromoteResponse
}

impl Arranged for pb::LeaseTimeToLiveResponse {
    fn arrange(&mut self) {
        self.keys.sort();
        // Of a lease of minutes some second may be over.
        self.ttl = self.ttl.signum();
    }
}

impl Arranged for pb::LeaseLeasesResponse {
    fn arrange(&mut self) {
        self.leases.sort_by_key(|lease| lease.id);
    }
}

impl Arranged for pb::StatusResponse {
    fn arrange(&mut self) {
        // etcd's rises some seconds after its start.
        "3.7.0".clone_into(&mut self.storage_version);
    }
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

    fn both(&self) -> [&Cluster; 2] {
        [&self.ours, &self.theirs]
    }

    fn both_mut(&mut self) -> [&mut Cluster; 2] {
        [&mut self.ours, &mut self.theirs]
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

    /// As [`Self::same`], of a request that goes well.
    async fn well<A: Arranged, Q: Message + Debug>(
        &self,
        nth: usize,
        path: &str,
        request: impl Fn(&Cluster) -> Q,
    ) -> String {
        let told = self.same::<A, Q>(nth, path, request).await;
        told.unwrap_or_else(|why| panic!("{path} of member {nth}: {why:?}"))
    }

    /// As [`Self::same`], of a request that is refused with this text.
    async fn refused<A: Arranged, Q: Message + Debug>(
        &self,
        nth: usize,
        path: &str,
        why: &str,
        request: impl Fn(&Cluster) -> Q,
    ) {
        let told = self.same::<A, Q>(nth, path, request).await;
        let refusal = told.as_ref().map_err(|status| status.message.as_str());
        assert_eq!(refusal.err(), Some(why), "{path} of member {nth}: {told:?}");
    }

    /// Both end a call alike; how.
    async fn same_end(
        &self,
        nth: usize,
        path: &str,
        fields: &[(&'static str, &str)],
        message: &[u8],
    ) -> End {
        let (ours, theirs) = tokio::join!(
            self.ours.ends(nth, path, fields, message),
            self.theirs.ends(nth, path, fields, message)
        );
        assert_eq!(ours, theirs, "ours, then etcd's: {path} of member {nth} with {fields:?}");
        ours
    }

    /// Waits until these members of each cluster have applied the same.
    async fn settle(&self, these: &[usize]) {
        tokio::join!(self.ours.settle(these), self.theirs.settle(these));
    }

    /// Adds a member to both, which is known by `name` from now on.
    async fn add(&mut self, nth: usize, name: &str, urls: [&[String]; 2], is_learner: bool) {
        let mut told = Vec::new();
        for (cluster, urls) in self.both_mut().into_iter().zip(urls) {
            let add = pb::MemberAddRequest { peer_ur_ls: urls.to_vec(), is_learner };
            let added: Result<pb::MemberAddResponse, _> =
                cluster.clients[nth].unary(ADD, &add).await;
            let mut added = added.unwrap_or_else(|why| {
                panic!("{name} is not added at {nth} of {:?}: {why:?}", cluster.names)
            });
            added.arrange();
            let id = added.member.as_ref().expect("it is told").id;
            cluster.names.push((id, name.to_owned()));
            told.push(cluster.plain(&added));
        }
        assert_eq!(told[0], told[1], "ours, then etcd's: {name} is added at {nth}");
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() }
}

fn get(key: &str, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), serializable, ..Default::default() }
}

/// A request to watch a key.
fn watch(key: &str) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

/// URLs where nobody listens.
fn nowhere(ports: &[u16]) -> Vec<String> {
    ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
}
