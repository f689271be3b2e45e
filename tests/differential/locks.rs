//! Locks and elections: who holds what, who waits for whom, and what is told to those who look on.
//!
//! A call that waits is begun on both servers, and is there once its key is. The keys tell when it
//! must be answered: when none of its name is older than its own. Until then it must not be.

use crate::compare::{Headed, level, same};
use crate::generate::Op;
use crate::pair::Pair;
use crate::support::call::{Answer, Client, Status};
use crate::support::dice::Dice;
use crate::support::stream::Stream;
use crate::support::{block_on, number, say, setting};
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest, RangeResponse,
};
use ringd::api::proto::mvccpb::KeyValue;
use ringd::api::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use ringd::api::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use std::fmt::Debug;
use std::time::Duration;

const LOCK: &str = "/v3lockpb.Lock/Lock";
const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
const LEADER: &str = "/v3electionpb.Election/Leader";
const OBSERVE: &str = "/v3electionpb.Election/Observe";
const RESIGN: &str = "/v3electionpb.Election/Resign";

/// Names of locks and elections; the keys of the third are also keys of the first.
const NAMES: [&str; 4] = ["n", "m", "n/x", ""];
/// Leases of those who take part; that of the last is never granted.
const LEASES: [i64; 5] = [1, 2, 31, i64::MAX, 99];
/// Calls that wait at a time, at most.
const PENDING_MAX: usize = 6;
/// Calls that look on at a time, at most.
const OBSERVERS_MAX: usize = 3;
/// Times that one looks for a key before it is held to be missing.
const LOOKS_MAX: usize = 20_000;
/// Steps of a run, for so many of `OPS`.
const STEPS_PER_OPS: u64 = 15;

/// One thing that someone does.
#[derive(Clone, Debug)]
enum Step {
    Lock(LockRequest),
    Unlock(UnlockRequest),
    Campaign(CampaignRequest),
    Proclaim(ProclaimRequest),
    Leader(LeaderRequest),
    Observe(LeaderRequest),
    Resign(ResignRequest),
    /// A change of the store by other means.
    Other(Op),
    /// Whoever waits longest, or someone after, gives up.
    GiveUp(usize),
}

/// A call that waits for others.
#[derive(Debug)]
struct Pending {
    is_lock: bool,
    prefix: Vec<u8>,
    key: Vec<u8>,
    /// The revision of its key.
    revision: i64,
    ours: Stream,
    theirs: Stream,
}

/// A call that is told of each leader.
#[derive(Debug)]
struct Observer {
    prefix: Vec<u8>,
    /// The leader that it was last told of.
    told: Option<KeyValue>,
    ours: Stream,
    theirs: Stream,
}

/// Both servers, and the calls that are under way.
struct Both {
    pair: Pair,
    pending: Vec<Pending>,
    observers: Vec<Observer>,
    kvs: Vec<KeyValue>,
}

fn prefix_of(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

fn key_of(name: &[u8], lease: i64) -> Vec<u8> {
    [prefix_of(name), format!("{lease:x}").into_bytes()].concat()
}

fn everything() -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}

/// Begins a call without waiting for its answer.
async fn begin(client: &Client, path: &str, request: &impl Message) -> Result<Stream, String> {
    let mut stream = client.open(path).await?;
    stream.send(request)?;
    stream.end()?;
    Ok(stream)
}

/// The answer to a call of one message.
async fn answer<M: Headed>(stream: &mut Stream) -> Result<Result<M, Status>, String> {
    let status = |end: Answer| end.status().err().ok_or(format!("no message: {end:?}"));
    let mut message = match stream.next::<M>().await {
        Ok(message) => message,
        Err(end) => return status(end).map(Err),
    };
    level(&mut message)?;
    let end = stream.rest().await?;
    end.status().map_err(|status| format!("{message:?}, then {status:?}"))?;
    Ok(Ok(message))
}

/// That nothing has come yet.
async fn is_silent(stream: &mut Stream) -> Result<(), String> {
    match stream.next_within::<LockResponse>(Duration::ZERO).await {
        Ok(None) => Ok(()),
        other => Err(format!("it comes too early: {other:?}")),
    }
}

async fn pairs(client: &Client) -> Result<Vec<KeyValue>, String> {
    let all: Result<RangeResponse, _> = client.unary("/etcdserverpb.KV/Range", &everything()).await;
    all.map(|all| all.kvs).map_err(|status| format!("{status:?}"))
}

/// Looks until the pairs of a server are as they should be.
async fn look(client: &Client, is_it: impl Fn(&[KeyValue]) -> bool) -> Result<(), String> {
    for _ in 0..LOOKS_MAX {
        if is_it(&pairs(client).await?) {
            return Ok(());
        }
    }
    Err(format!("what was awaited does not come: {:?}", pairs(client).await?))
}

impl Both {
    async fn start() -> Self {
        let pair = Pair::start().await;
        Self { pair, pending: Vec::new(), observers: Vec::new(), kvs: Vec::new() }
    }

    /// Does a step on both, and compares all that comes of it.
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Lock(lock) => self.wait(LOCK, lock, &lock.name, lock.lease, None).await?,
            Step::Campaign(campaign) => {
                let (name, value) = (&campaign.name, Some(&campaign.value));
                self.wait(CAMPAIGN, campaign, name, campaign.lease, value).await?;
            }
            Step::Unlock(unlock) => self.ask::<UnlockResponse>(UNLOCK, unlock).await?,
            Step::Proclaim(proclaim) => self.ask::<ProclaimResponse>(PROCLAIM, proclaim).await?,
            Step::Leader(leader) => self.ask::<LeaderResponse>(LEADER, leader).await?,
            Step::Resign(resign) => self.ask::<ResignResponse>(RESIGN, resign).await?,
            Step::Observe(request) => {
                let ours = begin(&self.pair.to_ours, OBSERVE, request).await?;
                let theirs = begin(&self.pair.to_theirs, OBSERVE, request).await?;
                let prefix = prefix_of(&request.name);
                self.observers.push(Observer { prefix, told: None, ours, theirs });
            }
            Step::Other(op) => drop(self.pair.compare(op).await?),
            Step::GiveUp(number) => self.give_up(*number).await?,
        }
        self.settle().await
    }

    /// Gives up one of the calls that wait, and sees that its key goes with it.
    async fn give_up(&mut self, number: usize) -> Result<(), String> {
        let Some(Pending { key, revision, .. }) = self.pending.get(number) else { return Ok(()) };
        let (key, revision) = (key.clone(), *revision);
        let is_gone = |kvs: &[KeyValue]| {
            !kvs.iter().any(|kv| kv.key == key && kv.create_revision == revision)
        };
        // Another's of the same name would go instead, at any time.
        if is_gone(&self.kvs) {
            return Ok(());
        }
        drop(self.pending.remove(number));
        look(&self.pair.to_ours, is_gone).await?;
        look(&self.pair.to_theirs, is_gone).await
    }

    /// Asks both a call that is answered at once.
    async fn ask<M: Headed + Debug>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<(), String> {
        let (ours, theirs) = self.pair.call(path, request).await;
        crate::compare::transport(&ours, &theirs)?;
        crate::compare::messages::<M>(&ours, &theirs, PartialEq::eq).map(drop)
    }

    /// Begins a call that may wait, and sees that it is there.
    async fn wait(
        &mut self,
        path: &str,
        request: &impl Message,
        name: &[u8],
        lease: i64,
        value: Option<&Bytes>,
    ) -> Result<(), String> {
        let key = key_of(name, lease);
        let mut ours = begin(&self.pair.to_ours, path, request).await?;
        let mut theirs = begin(&self.pair.to_theirs, path, request).await?;
        let is_there = |kvs: &[KeyValue]| {
            kvs.iter().any(|kv| kv.key == key && value.is_none_or(|value| kv.value == value))
        };
        // A lock that is held already needs no lease; in a campaign, the new value does.
        let is_held = value.is_none() && self.kvs.iter().any(|kv| kv.key == key);
        if !is_held && !self.is_granted(lease).await? {
            let (ours, theirs) = (refusal(&mut ours).await?, refusal(&mut theirs).await?);
            return same("refusals", &ours, &theirs);
        }
        look(&self.pair.to_ours, is_there).await?;
        look(&self.pair.to_theirs, is_there).await?;
        let kvs = pairs(&self.pair.to_theirs).await?;
        let revision = kvs.iter().find(|kv| kv.key == key).map_or(0, |kv| kv.create_revision);
        let (is_lock, prefix) = (value.is_none(), prefix_of(name));
        self.pending.push(Pending { is_lock, prefix, key, revision, ours, theirs });
        Ok(())
    }

    async fn is_granted(&self, id: i64) -> Result<bool, String> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let told: Result<LeaseTimeToLiveResponse, _> =
            self.pair.to_theirs.unary(path, &request).await;
        told.map(|told| told.granted_ttl != 0).map_err(|status| format!("{status:?}"))
    }

    /// Waits for all answers that must come now, and compares them.
    async fn settle(&mut self) -> Result<(), String> {
        self.pair.compare(&Op::Range(everything())).await?;
        self.kvs = pairs(&self.pair.to_theirs).await?;
        for pending in std::mem::take(&mut self.pending) {
            if let Some(pending) = self.settle_pending(pending).await? {
                self.pending.push(pending);
            }
        }
        for observer in &mut self.observers {
            let leader = oldest(&self.kvs, &observer.prefix).cloned();
            if leader.is_none() || leader == observer.told {
                both(is_silent(&mut observer.ours).await, is_silent(&mut observer.theirs).await)?;
                continue;
            }
            let ours = next_leader(&mut observer.ours).await;
            let theirs = next_leader(&mut observer.theirs).await;
            let (ours, theirs) = both(ours, theirs)?;
            same("leaders", &ours, &theirs)?;
            same("the leader and what is told of it", &theirs.kv, &leader)?;
            observer.told = leader;
        }
        Ok(())
    }

    async fn settle_pending(&self, mut pending: Pending) -> Result<Option<Pending>, String> {
        let waits = oldest(&self.kvs, &pending.prefix)
            .is_some_and(|oldest| oldest.create_revision < pending.revision);
        let Pending { ours, theirs, key, is_lock, .. } = &mut pending;
        if waits {
            both(is_silent(ours).await, is_silent(theirs).await)
                .map_err(|why| format!("{:?} waits, yet {why}", String::from_utf8_lossy(key)))?;
            return Ok(Some(pending));
        }
        if *is_lock {
            let ours = answer::<LockResponse>(ours).await;
            let (ours, theirs) = both(ours, answer::<LockResponse>(theirs).await)?;
            same("locks", &ours, &theirs)?;
        } else {
            let ours = answer::<CampaignResponse>(ours).await;
            let (ours, theirs) = both(ours, answer::<CampaignResponse>(theirs).await)?;
            same("campaigns", &ours, &theirs)?;
        }
        Ok(None)
    }
}

/// The refusal of a call.
async fn refusal(stream: &mut Stream) -> Result<Answer, String> {
    stream.rest().await
}

async fn next_leader(stream: &mut Stream) -> Result<LeaderResponse, String> {
    let mut leader = stream.next().await.map_err(|end| format!("{end:?}"))?;
    level(&mut leader)?;
    Ok(leader)
}

/// The key of a prefix that is there longest.
fn oldest<'a>(kvs: &'a [KeyValue], prefix: &[u8]) -> Option<&'a KeyValue> {
    kvs.iter().filter(|kv| kv.key.starts_with(prefix)).min_by_key(|kv| kv.create_revision)
}

fn both<A, B>(ours: Result<A, String>, theirs: Result<B, String>) -> Result<(A, B), String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (ours, theirs) => Err(format!("ours: {:?}\ntheirs: {:?}", ours.err(), theirs.err())),
    }
}

/// Draws what is done next.
struct Drawn {
    dice: Dice,
    values: usize,
    /// Leaders that there were.
    leaders: Vec<LeaderKey>,
}

impl Drawn {
    fn next(&mut self, both: &Both) -> Step {
        let name: Bytes = self.dice.pick(&NAMES).into();
        let lease = self.dice.pick(&LEASES);
        let key = Bytes::from(key_of(&name, lease));
        let is_there = both.kvs.iter().any(|kv| kv.key == key);
        let is_oldest = oldest(&both.kvs, &prefix_of(&name)).is_some_and(|kv| kv.key == key);
        let may_wait = both.pending.len() < PENDING_MAX;
        // Whoever has no lease is given one, of an id that nobody knows before.
        let leaders = both.kvs.iter().filter(|kv| kv.lease != 0 && self.dice.chance(10));
        self.leaders.extend(leaders.map(|kv| LeaderKey {
            name: name.clone(),
            key: kv.key.clone(),
            rev: kv.create_revision,
            lease: kv.lease,
        }));
        match self.dice.below(100) {
            // One that waits and leaves no trace might come after what is done next.
            0..25 if may_wait && (!is_there || is_oldest) => {
                Step::Lock(LockRequest { name, lease })
            }
            25..45 if may_wait => {
                Step::Campaign(CampaignRequest { name, lease, value: self.value() })
            }
            45..60 => Step::Unlock(UnlockRequest { key: self.key(both, key) }),
            60..66 => {
                Step::Proclaim(ProclaimRequest { leader: self.leader(), value: self.value() })
            }
            66..72 => Step::Resign(ResignRequest { leader: self.leader() }),
            72..76 => Step::Leader(LeaderRequest { name }),
            76..79 if both.observers.len() < OBSERVERS_MAX => Step::Observe(LeaderRequest { name }),
            79..83 => Step::Other(Op::Revoke(LeaseRevokeRequest { id: lease })),
            83..91 => Step::Other(grant(lease)),
            91..94 => Step::GiveUp(self.dice.index(PENDING_MAX)),
            94..97 => {
                let (key, value) = (self.key(both, key), self.value());
                Step::Other(Op::Put(PutRequest { key, value, ..PutRequest::default() }))
            }
            _ => {
                let key = self.key(both, key);
                Step::Other(Op::Delete(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }))
            }
        }
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("v{}", self.values).into()
    }

    /// A key that is there, mostly.
    fn key(&mut self, both: &Both, other: Bytes) -> Bytes {
        if both.kvs.is_empty() || self.dice.chance(20) {
            return other;
        }
        both.kvs[self.dice.index(both.kvs.len())].key.clone()
    }

    /// A leader that is or was there, mostly.
    fn leader(&mut self) -> Option<LeaderKey> {
        let recent = &self.leaders[self.leaders.len().saturating_sub(6)..];
        if recent.is_empty() || self.dice.chance(10) {
            return None;
        }
        let mut leader = self.dice.pick(recent);
        match self.dice.below(20) {
            0 => leader.rev += 1,
            1 => leader.key = Bytes::new(),
            2 => leader.lease = 99,
            _ => {}
        }
        Some(leader)
    }
}

/// A lease that outlives the test. The last is never there.
fn grant(id: i64) -> Op {
    let id = if Some(&id) == LEASES.last() { 1 } else { id };
    Op::Grant(LeaseGrantRequest { ttl: 100_000, id })
}

#[test]
fn locks_and_elections_go_alike() {
    let (seed, ops) = (number("SEED", 1), number("OPS", 6000));
    block_on(async {
        let mut both = Both::start().await;
        let mut drawn = Drawn { dice: Dice::new(seed), values: 0, leaders: Vec::new() };
        let mut steps = Vec::new();
        for number in 0..ops / STEPS_PER_OPS {
            let step = drawn.next(&both);
            if setting("SHOW").is_some() {
                say(format_args!("{step:?}"));
            }
            steps.push(step.clone());
            if let Err(difference) = both.step(&step).await {
                let last = &steps[steps.len().saturating_sub(30)..];
                panic!("SEED={seed} OPS={ops}, step {number}: {difference}\n{last:#?}");
            }
        }
    });
}

/// What a key ends in the place of a lease's id that the server chose, after seeing that it is one.
fn chosen(key: &Bytes, lease: i64) -> Result<Bytes, String> {
    let expected = key_of(b"n", lease);
    let is_right = lease > 0 && *key == expected;
    is_right.then(|| Bytes::from_static(b"n/")).ok_or(format!("{key:?} is not {expected:?}"))
}

/// What comes of calls without a lease, on one server.
async fn without_lease(client: &Client) -> Result<Vec<String>, String> {
    let failed = |status| format!("{status:?}");
    let mut told = Vec::new();
    let lock = LockRequest { name: "n".into(), lease: 0 };
    let mut locked: LockResponse = client.unary(LOCK, &lock).await.map_err(failed)?;
    let lease = pairs(client).await?[0].lease;
    locked.key = chosen(&locked.key, lease)?;
    level(&mut locked)?;
    told.push(format!("{locked:?}"));
    let request = LeaseTimeToLiveRequest { id: lease, keys: true };
    let path = "/etcdserverpb.Lease/LeaseTimeToLive";
    let lives: LeaseTimeToLiveResponse = client.unary(path, &request).await.map_err(failed)?;
    told.push(format!("granted {} with {} keys", lives.granted_ttl, lives.keys.len()));
    let key = key_of(b"n", lease).into();
    let _: UnlockResponse = client.unary(UNLOCK, &UnlockRequest { key }).await.map_err(failed)?;

    let campaign = CampaignRequest { name: "n".into(), lease: 0, value: "v".into() };
    let mut won: CampaignResponse = client.unary(CAMPAIGN, &campaign).await.map_err(failed)?;
    let leader = won.leader.clone().ok_or("no leader")?;
    let kv = pairs(client).await?.remove(0);
    if (&kv.key, kv.lease, kv.create_revision) != (&leader.key, leader.lease, leader.rev) {
        return Err(format!("{leader:?} is not {kv:?}"));
    }
    let key = chosen(&leader.key, leader.lease)?;
    won.leader = Some(LeaderKey { key, lease: 0, ..leader.clone() });
    level(&mut won)?;
    told.push(format!("{won:?}"));
    let proclaim = ProclaimRequest { leader: Some(leader.clone()), value: "w".into() };
    let _: ProclaimResponse = client.unary(PROCLAIM, &proclaim).await.map_err(failed)?;
    let mut seen: LeaderResponse =
        client.unary(LEADER, &LeaderRequest { name: "n".into() }).await.map_err(failed)?;
    level(&mut seen)?;
    let kv = seen.kv.take().unwrap_or_default();
    told.push(format!("{seen:?} {:?}", KeyValue { key: "n/".into(), lease: 0, ..kv }));
    // One of whom no lease is told gets another.
    let lent = LeaderKey { lease: 0, ..leader };
    let proclaim = ProclaimRequest { leader: Some(lent.clone()), value: "x".into() };
    let _: ProclaimResponse = client.unary(PROCLAIM, &proclaim).await.map_err(failed)?;
    let kv = pairs(client).await?.remove(0);
    told.push(format!("its lease is another: {}", kv.lease != won.leader.map_or(0, |it| it.lease)));
    let resign = ResignRequest { leader: Some(lent) };
    let mut gone: ResignResponse = client.unary(RESIGN, &resign).await.map_err(failed)?;
    level(&mut gone)?;
    told.push(format!("{gone:?} {:?}", pairs(client).await?));
    Ok(told)
}

#[test]
fn who_has_no_lease_is_given_one_alike() {
    block_on(async {
        let pair = Pair::start().await;
        let (ours, theirs) =
            tokio::join!(without_lease(&pair.to_ours), without_lease(&pair.to_theirs));
        same("what came", &ours, &theirs).unwrap_or_else(|difference| panic!("{difference}"));
        assert!(theirs.is_ok(), "{theirs:?}");
    });
}

#[test]
fn what_is_missing_or_wrong_in_an_election_is_refused_alike() {
    block_on(async {
        let mut both = Both::start().await;
        let leader = |key: &'static str, rev, lease| {
            Some(LeaderKey { name: "n".into(), key: key.into(), rev, lease })
        };
        let (name, value) = (Bytes::from_static(b"n"), Bytes::from_static(b"v"));
        let put = PutRequest { key: "n/5".into(), ..PutRequest::default() };
        let mut steps = vec![
            Step::Proclaim(ProclaimRequest { leader: None, value: value.clone() }),
            Step::Resign(ResignRequest { leader: None }),
            Step::Leader(LeaderRequest { name: Bytes::new() }),
            Step::Leader(LeaderRequest { name: name.clone() }),
            Step::Lock(LockRequest { name: name.clone(), lease: 99 }),
            Step::Lock(LockRequest { name: name.clone(), lease: 1 }),
            Step::Lock(LockRequest { name: name.clone(), lease: -1 }),
            Step::Campaign(CampaignRequest { name: name.clone(), lease: 99, value: value.clone() }),
            Step::Unlock(UnlockRequest { key: Bytes::new() }),
            Step::Unlock(UnlockRequest { key: "nothing".into() }),
            Step::Other(grant(1)),
            Step::Campaign(CampaignRequest { name: name.clone(), lease: 1, value: value.clone() }),
            Step::Other(Op::Put(put)),
        ];
        for leader in [
            leader("n/1", 2, 99),
            leader("n/1", 3, 1),
            leader("n/5", 2, 1),
            leader("", 2, 1),
            leader("n/5", 0, 1),
            leader("none", 0, 1),
            Some(LeaderKey::default()),
            leader("n/1", 2, 1),
            leader("n/1", 2, 1),
        ] {
            let value = value.clone();
            steps.push(Step::Proclaim(ProclaimRequest { leader: leader.clone(), value }));
            steps.push(Step::Leader(LeaderRequest { name: name.clone() }));
            steps.push(Step::Resign(ResignRequest { leader }));
            steps.push(Step::Leader(LeaderRequest { name: name.clone() }));
        }
        for step in steps {
            if setting("SHOW").is_some() {
                say(format_args!("{step:?}\n  {:?}", both.kvs));
            }
            let outcome = both.step(&step).await;
            outcome.unwrap_or_else(|difference| panic!("{step:?}: {difference}"));
        }
    });
}
