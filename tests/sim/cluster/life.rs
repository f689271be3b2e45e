//! How a node's process begins and ends.

use super::driver::ORACLE;
use super::net::Place;
use super::peers::Peers;
use super::planted::Bug;
use super::process::Process;
use super::world::{Event, World};
use crate::dice::Dice;
use crate::node::{self, Disks};
use ringd::api::watch::Manner;
use ringd::peer::{Card, Version};
use ringd::shard::Input;
use ringd::shard::watch::{Ask, Asker};

/// Milliseconds that a node which was asked to stop gives its clients.
const STOP_TIMEOUT: u64 = 5_000;

impl World {
    /// A process begins.
    pub(super) fn start(&mut self, nth: usize) -> Result<(), String> {
        let seed = self.dice.next();
        let node = &self.nodes[nth];
        if node.process.is_some() || node.is_removed {
            return Ok(());
        }
        if self.duel.held == Some(nth) && !self.is_quiet {
            self.after(50, Event::Start(nth));
            return Ok(());
        }
        let node = &mut self.nodes[nth];
        let orphans = std::mem::take(&mut node.orphans);
        if !node.is_known {
            node.disks = Disks::default();
        }
        node.disks.sync_names();
        let clock = node.clock(self.now);
        let shard = node::recover_as(&node.config, &node.disks, node.log_id, seed, clock)
            .map_err(|why| format!("node {nth} does not start: {why}"))?;
        node.life += 1;
        node.paused_until = 0;
        let card = Card {
            cluster: node.config.cluster,
            node: node.id,
            shard: node.config.id,
            shards: 1,
            log: node.log_id,
            run: self.dice.next(),
            version: Version::parse("1.0.0"),
        };
        let manner = Manner {
            core: 0,
            seed: self.dice.next(),
            fragment_size: self.settings.message_size_max,
            backlog_max: self.dice.pick(&[300, 64 << 10]),
            notify_interval: 500,
        };
        let luck = Dice::new(self.dice.next());
        let peers = Peers::new(card, self.swarm.limits, nth, luck);
        let mut process = Process::new(shard, peers, &self.settings, manner);
        let from = Asker { core: ORACLE, token: node.life };
        process.shard.handle(Input::Watch(Ask::Subscribe { from, prev_kv: false }));
        let life = node.life;
        node.process = Some(process);
        self.counts.starts += 1;
        self.after(0, Event::Tick(nth, life));
        for conn in orphans {
            self.cut(conn);
        }
        Ok(())
    }

    /// A process ends, or its machine does; it comes back.
    pub(super) fn crash(&mut self, nth: usize, power: bool) {
        let Self { nodes, dice, .. } = self;
        let node = &mut nodes[nth];
        if node.process.take().is_none() {
            return;
        }
        let choose = &mut |below| dice.below(below);
        if power {
            node.disks.lose_power(choose);
        } else {
            node.disks.lose_process(choose);
        }
        if self.bug == Some(Bug::LostMemory) {
            self.nodes[nth].disks = Disks::default();
        }
        self.counts.crashes += 1;
        for conn in self.net.of(Place::Node(nth)) {
            // Without power nobody says that it is over.
            if power && self.dice.chance(60) {
                self.nodes[nth].orphans.push(conn);
            } else {
                self.cut(conn);
            }
        }
        let down = self.dice.pick(&[10, 300, 2_500]);
        let after = 1 + self.dice.below(down);
        self.after(after, Event::Start(nth));
    }

    /// It ends by itself: it was removed, or something is wrong.
    pub(super) fn halt(&mut self, nth: usize, why: &str) -> Result<(), String> {
        if !why.contains("permanently removed") {
            return Err(format!("node {nth} halted: {why}"));
        }
        let id = self.nodes[nth].id;
        if !self.removals.contains(&id) {
            return Err(format!("node {nth} takes itself for removed, and nobody asked"));
        }
        self.crash(nth, false);
        self.nodes[nth].is_removed = true;
        self.counts.removed += 1;
        Ok(())
    }

    /// A node is asked to stop.
    pub(super) fn stop(&mut self, nth: usize) {
        let (clock, now) = (self.nodes[nth].clock(self.now), self.now);
        if let Some(process) = &mut self.nodes[nth].process
            && process.stopping.is_none()
        {
            process.stop(clock, now);
            self.counts.stops += 1;
            self.call(nth);
        }
    }

    /// A node that was asked to stop ends once it has nothing to do, or after a while.
    pub(super) fn stop_if_idle(&mut self, nth: usize) {
        let now = self.now;
        let process = self.process(nth);
        let Some(since) = process.stopping else { return };
        if process.ends.is_empty() {
            process.shard.handle(Input::Stop);
        }
        let is_idle = process.ends.is_empty() && process.shard.is_idle();
        if is_idle || now - since > STOP_TIMEOUT {
            self.crash(nth, false);
        }
    }

    /// A connection breaks, and both ends may learn of it.
    pub(super) fn cut(&mut self, conn: u64) {
        self.net.cut(conn, &mut self.dice);
        // One that vanishes tells only one end: the other finds out by silence.
        let vanishes = !self.is_quiet && self.dice.chance(10);
        for side in usize::from(vanishes)..2 {
            let after = self.dice.below(self.swarm.pace.delay_max);
            self.after(after, Event::Arrive(conn, side));
        }
    }
}
