//! The rest that everything comes to once nothing breaks any more, and what must be so then.

use super::call::{Op, Told};
use super::clients::{Client, Role, keys};
use super::oracle::{linear, order};
use super::world::{Event, Line, World};
use crate::client;
use crate::node;
use ringd::shard::request::Member;

/// Milliseconds in which all come to one state, or all that was asked is answered.
const REST_MAX: u64 = 60_000;
/// Milliseconds that a lease may last longer: a new leader extends it, and ends it late.
const LEASE_EXTENSION: u64 = 8_000;
const STEP: u64 = 100;

impl World {
    /// Nothing breaks any more.
    ///
    /// # Errors
    /// What is not as it must be, or does not come to be.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.is_quiet = true;
        self.remark(Line::Quiet);
        // Where messages take longer than elections wait, leaders come and go for ever, and each
        // gives leases all their time again.
        self.net.calm();
        // What broke in silence is noticed by now, and so is who is gone for good.
        for nth in 0..self.nodes.len() {
            for conn in std::mem::take(&mut self.nodes[nth].orphans) {
                self.cut(conn);
            }
        }
        for conn in self.net.all() {
            (0..2).for_each(|side| self.after(0, Event::Arrive(conn, side)));
        }
        for node in &mut self.nodes {
            (node.paused_until, node.slow_until, node.broken) = (0, 0, None);
        }
        self.start_missing();
        self.wait("one state", REST_MAX, Self::lacks_state)?;
        self.probe()?;
        let longest = self.leases.longest() + LEASE_EXTENSION;
        self.wait("the end of all leases", longest, Self::lacks_ends)?;
        self.wait("all events", REST_MAX, Self::lacks_events)?;
        self.wait("one state", REST_MAX, Self::lacks_state)?;
        self.compare()?;
        order::look_again(&self.calls, &self.truth)?;
        let members = self.members();
        self.configs.look_at_end(&members, &self.removals)?;
        self.counts.searched = linear::look(&self.calls, &keys(self.swarm.keys))?;
        Ok(())
    }

    /// Lets time pass until nothing is lacking.
    fn wait(
        &mut self,
        what: &str,
        most: u64,
        lacks: impl Fn(&Self) -> Option<String>,
    ) -> Result<(), String> {
        let end = self.now + most;
        while let Some(lack) = lacks(self) {
            if self.now >= end {
                return Err(format!("{what} does not come within {most} ms: {lack}"));
            }
            self.until(self.now + STEP)?;
        }
        Ok(())
    }

    /// The members, as whoever has applied most knows them.
    fn members(&self) -> Vec<Member> {
        let up = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let newest = up.max_by_key(|process| process.shard.applied());
        newest.map_or_else(Vec::new, |process| process.shard.members().to_vec())
    }

    /// The nodes that are members and have not lost all.
    fn belonging(&self) -> Vec<usize> {
        let members = self.members();
        let nodes = members.iter().filter_map(|member| self.nth(member.id));
        nodes.filter(|nth| !self.nodes[*nth].is_removed).collect()
    }

    /// Members that were added and never came do now.
    fn start_missing(&mut self) {
        let members = self.members();
        for member in &members {
            if self.nth(member.id).is_none() {
                let nth = self.add(member.id, members.clone(), true);
                self.after(0, Event::Start(nth));
            }
        }
    }

    fn lacks_state(&self) -> Option<String> {
        let nodes = self.belonging();
        if nodes.is_empty() {
            return Some("nobody is there".to_owned());
        }
        let mut leaders = 0;
        for nth in nodes {
            let Some(process) = &self.nodes[nth].process else {
                return Some(format!("node {nth} is down"));
            };
            let applied = process.shard.applied();
            leaders += usize::from(process.shard.is_leader());
            if process.stopping.is_some() {
                return Some(format!("node {nth} is stopping"));
            }
            if !process.is_ready || !process.works.is_empty() || applied < self.states.last {
                let last = self.states.last;
                return Some(format!("node {nth} is at {applied:?} of {last:?}"));
            }
        }
        (leaders != 1).then(|| format!("{leaders} lead"))
    }

    /// Asks every member that has a vote for a write, a read and a hash, until it answers.
    fn probe(&mut self) -> Result<(), String> {
        let members = self.members();
        let votes = |nth: &usize| {
            let id = self.nodes[*nth].id;
            members.iter().any(|member| member.id == id && !member.learner)
        };
        let nodes: Vec<usize> = self.belonging().into_iter().filter(votes).collect();
        let end = self.now + REST_MAX;
        for at in nodes {
            let nth = self.clients.len();
            let machine = client::Client::new(self.swarm.manner);
            self.clients.push(Client::new(Role::Caller, machine));
            let mut tries = 0;
            let mut put = || {
                tries += 1;
                let value = format!("probe {nth}, {tries}").into_bytes();
                Op::Put { key: b"k0".to_vec(), value, lease: 0 }
            };
            let mut left = vec![put(), Op::All { revision: 0, serializable: false }, Op::Hash];
            while let Some(op) = left.pop() {
                if self.now >= end {
                    return Err(format!("node {at} does not come to answer {op:?}"));
                }
                // What was asked for before may remove it now.
                if !self.stays(at)? {
                    break;
                }
                if self.clients[nth].conn.is_none() {
                    self.join(nth, at);
                }
                let call = self.calls.len();
                self.ask(nth, op.clone());
                self.flush_client(nth);
                self.wait("an answer", REST_MAX, |world| {
                    world.calls[call].told.is_none().then(|| format!("{:?}", world.calls[call]))
                })?;
                // An election may be in its way, and so it asks again.
                if matches!(self.calls[call].told, Some(Told::Unknown | Told::Refused(_))) {
                    left.push(if matches!(op, Op::Put { .. }) { put() } else { op });
                }
            }
        }
        Ok(())
    }

    /// Whether a node is still a member; if so, it runs.
    fn stays(&self, nth: usize) -> Result<bool, String> {
        let is_there = self.belonging().contains(&nth);
        if is_there && self.nodes[nth].process.is_none() {
            return Err(format!("node {nth} is down, and nothing breaks any more"));
        }
        Ok(is_there)
    }

    fn lacks_ends(&self) -> Option<String> {
        let leases = |nth: &usize| {
            let process = self.nodes[*nth].process.as_ref();
            process.map_or(1, |process| process.shard.lessor().len())
        };
        let left = self.belonging().into_iter().find(|nth| leases(nth) > 0);
        left.map(|nth| format!("node {nth} knows some"))
    }

    fn lacks_events(&self) -> Option<String> {
        self.clients.iter().find_map(|client| match &client.role {
            Role::Watcher(watcher, _) => {
                (!watcher.has_all(&self.truth)).then(|| format!("{watcher:?}"))
            }
            Role::Caller | Role::Keeper(_) | Role::Operator => None,
        })
    }

    /// All that is on each node is what has happened.
    fn compare(&mut self) -> Result<(), String> {
        let due = self.truth.rows(self.truth.last());
        for nth in self.belonging() {
            let node = &mut self.nodes[nth];
            let process = node.process.as_mut().expect("it was just there");
            while process.shard.poll().is_some() {
                // What it has to say, nobody hears any more.
            }
            let rows = node::rows(&mut process.shard, &mut node.disks, 0);
            let rows = rows.map_err(|why| format!("node {nth}: {why}"))?;
            if rows != due {
                return Err(format!("node {nth} holds {rows:?} in place of {due:?}"));
            }
        }
        Ok(())
    }
}
