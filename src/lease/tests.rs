//! The lessor against one that keeps everything in a list and looks at all of it each time.

use crate::lease::Due;
use crate::lease::Grant;
use crate::lease::LEASE_SIZE_MAX;
use crate::lease::Lessor;
use crate::lease::Refusal;
use crate::lease::Renewal;
use crate::lease::TTL_MAX;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::Tick;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Milliseconds that a new leader adds.
const EXTENSION: u64 = 1_000;
/// Milliseconds that the clock may be behind.
const SLACK: u64 = 100;
/// Milliseconds after which an ended lease is named again.
const RETRY: u64 = 3_000;
/// Milliseconds between checkpoints.
const CHECKPOINT: u64 = 300_000;

/// A lease of the model's.
#[derive(Debug, Clone)]
struct Plain {
    grant: Grant,
    ttl: i64,
    remaining: i64,
    deadline: Option<u64>,
    /// When it was last named as ended.
    named: Option<u64>,
    /// When what is left of it was last named, or nothing had been used up.
    checked: u64,
    /// Checkpoints that are not applied yet.
    pending: Vec<i64>,
}

/// When a lease ends that lasts so many seconds from `now` on.
fn ends(now: u64, ttl: i64) -> u64 {
    now + ttl.cast_unsigned() * 1000 + SLACK
}

#[derive(Debug, Default)]
struct Model {
    leases: Vec<Plain>,
    keys: BTreeMap<Vec<u8>, LeaseId>,
    is_leading: bool,
    checkpoints: bool,
}

impl Model {
    fn find(&mut self, id: LeaseId) -> Option<&mut Plain> {
        self.leases.iter_mut().find(|lease| lease.grant.id == id)
    }

    fn keys_of(&self, id: LeaseId) -> Vec<Vec<u8>> {
        self.keys.iter().filter(|(_, held)| **held == id).map(|(key, _)| key.clone()).collect()
    }

    fn remove(&mut self, id: LeaseId) -> Vec<Vec<u8>> {
        let keys = self.keys_of(id);
        self.leases.retain(|lease| lease.grant.id != id);
        self.keys.retain(|_, held| *held != id);
        keys
    }

    fn promote(&mut self, now: u64, checkpoints: bool) {
        (self.is_leading, self.checkpoints) = (true, checkpoints);
        for lease in &mut self.leases {
            let lasting = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
            lease.deadline = Some(ends(now, lasting) + EXTENSION);
            lease.named = None;
            lease.checked = now + EXTENSION;
            lease.pending.clear();
        }
    }

    fn ended(&self, now: u64) -> BTreeSet<Grant> {
        let due = self.leases.iter().filter(|lease| {
            lease.deadline.expect("it leads") <= now
                && lease.named.is_none_or(|named| now >= named + RETRY)
        });
        due.map(|lease| lease.grant).collect()
    }

    fn renew(&mut self, id: LeaseId, now: u64) -> Renewal {
        let Some(lease) = self.find(id) else { return Renewal::Unknown };
        let deadline = lease.deadline.expect("it leads");
        if deadline <= now {
            return Renewal::Ended;
        }
        match lease.pending.last() {
            Some(0) => Renewal::Pending,
            Some(_) => Renewal::Reset(lease.grant),
            None if lease.remaining > 0 => Renewal::Reset(lease.grant),
            None => {
                lease.deadline = Some(deadline.max(ends(now, lease.ttl)));
                lease.checked = now;
                Renewal::Renewed(lease.ttl)
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Grant {
        first: i64,
        count: i64,
        ttl: i64,
    },
    Revoke(i64),
    Attach(u8, i64),
    Renew(i64),
    Promote(bool),
    Demote,
    Settle(usize),
    Pass(u64),
    /// What is due is named, and then: all of it is applied, or nothing, or it is put back.
    Due(u8),
    /// An entry of long ago comes late.
    Stale(i64),
    Bytes,
}

fn an_op() -> impl Strategy<Value = Op> {
    let id = || prop_oneof![-3..12_i64, Just(i64::MIN), Just(i64::MAX)];
    let ttl = prop_oneof![1..5_i64, 290..1_000_i64, Just(TTL_MAX), Just(TTL_MAX + 1)];
    let pass = prop_oneof![1..900_u64, 900..4_000_u64, 200_000..400_000_u64];
    prop_oneof![
        4 => (id(), prop_oneof![Just(1_i64), 1..400_i64], ttl)
            .prop_map(|(first, count, ttl)| Op::Grant { first, count, ttl }),
        2 => id().prop_map(Op::Revoke),
        6 => (0..20_u8, id()).prop_map(|(key, id)| Op::Attach(key, id)),
        4 => id().prop_map(Op::Renew),
        1 => any::<bool>().prop_map(Op::Promote),
        1 => Just(Op::Demote),
        2 => (1..300_usize).prop_map(Op::Settle),
        6 => pass.prop_map(Op::Pass),
        6 => (0..3_u8).prop_map(Op::Due),
        1 => id().prop_map(Op::Stale),
        1 => Just(Op::Bytes),
    ]
}

/// The lessor, the model, and the time.
#[derive(Debug, Default)]
struct Pair {
    lessor: Lessor,
    model: Model,
    now: u64,
    born: u64,
}

impl Pair {
    fn step(&mut self, op: &Op) {
        let now = Tick(self.now);
        match *op {
            Op::Grant { first, count, ttl } => {
                for id in first..first.saturating_add(count) {
                    self.grant(LeaseId(id), ttl);
                }
            }
            Op::Revoke(id) => self.revoke(LeaseId(id)),
            Op::Attach(key, id) => self.attach(&[b'k', key], LeaseId(id)),
            Op::Renew(id) if self.model.is_leading => self.renew(LeaseId(id)),
            Op::Promote(checkpoints) => {
                self.lessor.promote(now, EXTENSION, SLACK, checkpoints);
                self.model.promote(self.now, checkpoints);
            }
            Op::Demote => {
                self.lessor.demote();
                self.model.is_leading = false;
            }
            Op::Settle(budget) => {
                self.lessor.settle(budget);
            }
            Op::Pass(milliseconds) => self.now += milliseconds,
            Op::Due(fate) if self.model.is_leading => self.due(fate),
            Op::Stale(id) => {
                let grant = Grant { id: LeaseId(id), born: LogIndex(self.born + 1) };
                assert_eq!(self.lessor.expire(grant), None);
                self.lessor.checkpoint(grant, 1);
            }
            Op::Bytes => self.through_bytes(),
            Op::Renew(_) | Op::Due(_) => {}
        }
        assert_eq!(self.lessor.is_leading(), self.model.is_leading);
        assert_eq!(self.lessor.len(), self.model.leases.len());
        assert_eq!(self.lessor.has_keys(), !self.model.keys.is_empty());
    }

    fn grant(&mut self, id: LeaseId, ttl: i64) {
        if id == LeaseId(0) {
            return;
        }
        self.born += 1;
        let grant = Grant { id, born: LogIndex(self.born) };
        let due = if ttl > TTL_MAX {
            Err(Refusal::TtlTooLarge)
        } else if self.model.find(id).is_some() {
            Err(Refusal::Exists)
        } else {
            let deadline = Some(ends(self.now, ttl));
            let (named, checked, pending) = (None, self.now, Vec::new());
            let lease = Plain { grant, ttl, remaining: 0, deadline, named, checked, pending };
            self.model.leases.push(lease);
            Ok(())
        };
        assert_eq!(self.lessor.grant(grant, ttl, Tick(self.now)), due);
    }

    fn revoke(&mut self, id: LeaseId) {
        let is_known = self.model.find(id).is_some();
        let due = self.model.remove(id);
        match self.lessor.revoke(id) {
            Ok(keys) => assert!(is_known && keys.iter().eq(due.iter().map(|key| &key[..]))),
            Err(refusal) => assert!(!is_known && refusal == Refusal::NotFound),
        }
    }

    fn attach(&mut self, key: &[u8], to: LeaseId) {
        let to = if self.model.find(to).is_some() { to } else { LeaseId(0) };
        let from = self.model.keys.get(key).copied().unwrap_or(LeaseId(0));
        self.lessor.attach(key, from, to);
        self.model.keys.remove(key);
        if to != LeaseId(0) {
            self.model.keys.insert(key.to_vec(), to);
        }
    }

    fn renew(&mut self, id: LeaseId) {
        let due = self.model.renew(id, self.now);
        let found = self.lessor.renew(id, Tick(self.now));
        assert_eq!(found, due);
        if let Renewal::Reset(grant) = found {
            self.lessor.resetting(grant);
            self.model.find(id).expect("just found").pending.push(0);
        }
        let left = self.model.find(id).map(|lease| lease.deadline.expect("it leads"));
        let left = left.map(|deadline| deadline.saturating_sub(self.now + SLACK));
        assert_eq!(self.lessor.left(id, Tick(self.now)), left);
    }

    /// Names all that is due, in slices.
    fn due(&mut self, fate: u8) {
        while self.lessor.settle(7) {}
        let mut due = self.model.ended(self.now);
        let (mut last, mut slices) = (0, 0);
        loop {
            let slice = self.lessor.due(Tick(self.now));
            slices += 1;
            assert!(slices < 1_000, "slices come to an end");
            for grant in &slice.ended {
                assert!(due.remove(grant), "{grant:?} is due, once");
                let now = self.now;
                let lease = self.model.find(grant.id).expect("it is due");
                if lease.named.replace(now).is_none() {
                    let deadline = lease.deadline.expect("it leads");
                    assert!(last <= deadline, "leases are named by deadline");
                    last = deadline;
                }
            }
            for (grant, left) in &slice.checkpoints {
                self.check_checkpoint(*grant, *left);
            }
            match fate {
                0 => self.apply(&slice),
                1 => {}
                _ => {
                    self.lessor.put_back(&slice);
                    slice.ended.iter().for_each(|grant| {
                        self.model.find(grant.id).expect("it is there").named = None;
                    });
                    slice.checkpoints.iter().for_each(|(grant, _)| {
                        let lease = self.model.find(grant.id).expect("it is there");
                        lease.pending.pop();
                        lease.checked = 0;
                    });
                    return;
                }
            }
            if !slice.is_more {
                break;
            }
        }
        assert_eq!(due, BTreeSet::new(), "all that has ended is named");
    }

    fn check_checkpoint(&mut self, grant: Grant, left: i64) {
        let (now, checkpoints) = (self.now, self.model.checkpoints);
        let lease = self.model.find(grant.id).expect("there is such a lease");
        assert!(checkpoints && lease.pending.is_empty() && lease.grant == grant);
        assert!(lease.ttl.cast_unsigned() * 1000 > CHECKPOINT && lease.checked + CHECKPOINT <= now);
        let deadline = lease.deadline.expect("it leads");
        let due = deadline.saturating_sub(now + SLACK).div_ceil(1000).max(1);
        assert!(deadline > now && left.cast_unsigned() == due);
        lease.checked = now;
        lease.pending.push(left);
    }

    fn apply(&mut self, due: &Due) {
        for grant in &due.ended {
            let keys = self.lessor.expire(*grant).expect("it is there");
            assert!(keys.iter().eq(self.model.remove(grant.id).iter().map(|key| &key[..])));
            assert_eq!(self.lessor.expire(*grant), None, "it is gone");
        }
        let pending = self.model.leases.iter().filter(|lease| !lease.pending.is_empty());
        let pending: Vec<_> = pending.map(|it| (it.grant, it.pending.clone())).collect();
        for (grant, all) in pending {
            all.iter().for_each(|left| self.lessor.checkpoint(grant, *left));
            let lease = self.model.find(grant.id).expect("just found");
            lease.pending.clear();
            lease.remaining = all.last().copied().filter(|left| *left < lease.ttl).unwrap_or(0);
        }
    }

    /// A restart: what is left is what bytes hold, and the keys that are attached anew.
    fn through_bytes(&mut self) {
        let mut bytes = Vec::new();
        self.lessor.encode(&mut bytes);
        assert!(bytes.len() <= 10 + self.lessor.len() * LEASE_SIZE_MAX);
        self.lessor = Lessor::decode(&bytes).expect("our own bytes");
        self.model.keys.iter().for_each(|(key, id)| self.lessor.attach(key, LeaseId(0), *id));
        self.model.is_leading = false;
        let mut again = Vec::new();
        self.lessor.encode(&mut again);
        assert_eq!(bytes, again);
        let cut = &bytes[..bytes.len() - 1];
        assert!(
            Lessor::decode(cut).is_none() && Lessor::decode(&[&bytes[..], &[0]].concat()).is_none()
        );
    }

    fn check(&self) {
        self.lessor.check_all();
        let ids: BTreeSet<_> = self.model.leases.iter().map(|lease| lease.grant.id).collect();
        assert!(self.lessor.ids().eq(ids.iter().copied()));
        for id in ids {
            let (_, keys) = self.lessor.get(id).expect("listed");
            assert!(keys.iter().eq(self.model.keys_of(id).iter().map(|key| &key[..])));
        }
    }
}

proptest! {
    #[test]
    fn a_lessor_does_as_a_plain_one(ops in proptest::collection::vec(an_op(), 1..60)) {
        let mut pair = Pair::default();
        for op in &ops {
            pair.step(op);
            pair.lessor.check_all();
        }
        pair.check();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Some(lessor) = Lessor::decode(&bytes) {
            lessor.check_all();
        }
    }
}

/// A lessor with so many leases of as many seconds, one key each.
fn many(count: i64, ttl: i64, now: Tick) -> Lessor {
    let mut lessor = Lessor::new();
    for id in 1..=count {
        let grant = Grant { id: LeaseId(id), born: LogIndex(id.cast_unsigned()) };
        lessor.grant(grant, ttl, now).expect("a new id");
        lessor.attach(&id.to_be_bytes(), LeaseId(0), LeaseId(id));
    }
    lessor
}

#[test]
fn many_that_end_at_once_are_named_in_small_slices() {
    let mut lessor = many(100_000, 10, Tick(0));
    lessor.promote(Tick(0), 0, 0, false);
    let mut slices = 0;
    while lessor.settle(1_000) {
        slices += 1;
    }
    assert_eq!(slices, 99);
    let (mut named, mut slices) = (0, 0);
    loop {
        let due = lessor.due(Tick(10_000));
        assert!(due.ended.len() <= 128);
        slices += 1;
        named += due.ended.len();
        // What was named before is not applied at once.
        if due.ended.is_empty() {
            assert!(due.is_more && lessor.len() + named > 100_000 - 3_000);
        }
        for grant in &due.ended {
            assert!(lessor.expire(*grant).is_some_and(|keys| keys.len() == 1));
        }
        if !due.is_more {
            break;
        }
    }
    assert_eq!((named, lessor.len(), lessor.has_keys()), (100_000, 0, false));
    assert!(slices <= 100_000 / 128 + 2);
}

#[test]
fn no_more_are_named_than_may_be_under_way() {
    let mut lessor = many(10_000, 10, Tick(0));
    lessor.promote(Tick(0), 0, 0, false);
    while lessor.settle(1_000) {}
    let mut named = Vec::new();
    loop {
        let due = lessor.due(Tick(10_000));
        assert!(due.is_more);
        if due.ended.is_empty() {
            break;
        }
        named.extend(due.ended);
    }
    assert_eq!(named.len(), 2_048);
    // They were lost: they are named again, and no others.
    assert_eq!(lessor.due(Tick(12_999)).ended, []);
    assert!(named.starts_with(&lessor.due(Tick(13_000)).ended));
    lessor.check_all();
}

#[test]
fn a_lease_of_many_keys_is_named_alone() {
    let mut lessor = many(3, 10, Tick(0));
    for key in 0..5_000_u32 {
        lessor.attach(&key.to_be_bytes(), LeaseId(0), LeaseId(1));
    }
    lessor.promote(Tick(0), 0, 0, false);
    lessor.settle(10);
    let due = lessor.due(Tick(10_000));
    assert_eq!((due.ended.len(), due.is_more), (1, true));
    assert_eq!(lessor.due(Tick(10_000)).ended.len(), 2);
}

#[test]
fn a_renewal_waits_for_a_checkpoint_that_says_less() {
    let grant = Grant { id: LeaseId(1), born: LogIndex(1) };
    let mut lessor = Lessor::new();
    lessor.promote(Tick(0), 0, 0, true);
    lessor.grant(grant, 1_000, Tick(0)).expect("a new id");
    assert_eq!(lessor.due(Tick(299_999)), Due::default());
    let due = lessor.due(Tick(300_500));
    assert_eq!(due.checkpoints, [(grant, 700)]);
    // It is under way: whoever renews now must come after it.
    assert_eq!(lessor.renew(grant.id, Tick(300_600)), Renewal::Reset(grant));
    lessor.resetting(grant);
    assert_eq!(lessor.renew(grant.id, Tick(300_700)), Renewal::Pending);
    lessor.checkpoint(grant, 700);
    assert_eq!(lessor.renew(grant.id, Tick(300_700)), Renewal::Pending);
    lessor.checkpoint(grant, 0);
    assert_eq!(lessor.renew(grant.id, Tick(300_700)), Renewal::Renewed(1_000));
    // The next leader gives it all its time, as it was renewed.
    lessor.promote(Tick(400_000), 50, 0, true);
    assert_eq!(lessor.left(grant.id, Tick(400_000)), Some(1_000_050));
}

#[test]
fn a_new_leader_gives_what_a_checkpoint_left() {
    let grant = Grant { id: LeaseId(1), born: LogIndex(1) };
    let mut lessor = Lessor::new();
    lessor.grant(grant, 1_000, Tick(0)).expect("a new id");
    lessor.checkpoint(grant, 700);
    lessor.promote(Tick(5_000), 1_000, 0, true);
    assert_eq!(lessor.left(grant.id, Tick(5_000)), Some(701_000));
    lessor.settle(1);
    assert_eq!(lessor.left(grant.id, Tick(5_000)), Some(701_000));
    assert_eq!(lessor.due(Tick(305_999)), Due::default());
    assert_eq!(lessor.due(Tick(306_000)).checkpoints, [(grant, 400)]);
    assert_eq!(lessor.due(Tick(706_000)).ended, [grant]);
}
