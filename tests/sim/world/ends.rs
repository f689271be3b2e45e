//! Ends: stops, failures, crashes and restarts, and the rest that everything comes to.

use super::{Act, World, watching};
use crate::model::{Op, Question};
use crate::node::{self, Disks};
use crate::planted::Bug;
use ringd::api::Answers;
use ringd::shard::Input;
use ringd::types::Tick;
use ringd::wal::FileId;

/// Rounds in which everything that was asked must be answered once nothing breaks any more.
const QUIET_ROUNDS_MAX: usize = 2_000;
/// Rounds that a node which was asked to stop gives its clients: 5 s, as the server does.
const STOP_ROUNDS_MAX: usize = 250;
/// Rounds in which cleaning goes on when all else is done.
const REST_ROUNDS: usize = 40;
/// What the disks may have to do in a round.
const COMPLETIONS_MAX: usize = 20_000;
/// Slices of what has no hurry in a round.
const WORKS_MAX: usize = 50;

impl World {
    /// The node is asked to stop: what has come to it is answered, then the process ends.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        if !self.is_serving {
            return Ok(());
        }
        self.note(Act::Stop);
        self.counts.stops += 1;
        self.is_stopping = true;
        for link in &mut self.links {
            link.session.shutdown(Tick(self.now));
        }
        for _ in 0..STOP_ROUNDS_MAX {
            self.quiet_round()?;
            if self.links.iter().all(|link| link.is_over) {
                break;
            }
        }
        let kept = self.links.iter().filter(|link| !link.is_given_up);
        let calls = kept.flat_map(|link| link.client.calls());
        if let Some(call) = calls.into_iter().find(|&call| self.oracle.is_submitted(call)) {
            let op = self.oracle.op(call);
            return Err(format!("call {call} {op:?} is not answered before the node stops"));
        }
        self.shard.handle(Input::Stop);
        self.turn()?;
        let ended = self.end(false);
        self.is_stopping = false;
        ended
    }

    /// An operation of the disk fails: the driver lets nothing more leave, and the process ends.
    pub(super) fn fail(&mut self) -> Result<(), String> {
        if self.in_flight() == 0 {
            return Ok(());
        }
        self.note(Act::Fail);
        self.counts.failures += 1;
        self.end(false)
    }

    pub(super) fn crash(&mut self) -> Result<(), String> {
        let power = self.dice.chance(50);
        self.note(if power { Act::Power } else { Act::Kill });
        self.end(power)
    }

    /// The process ends, and perhaps the power goes; clients still read some of what had left.
    pub(super) fn end(&mut self, power: bool) -> Result<(), String> {
        for at in 0..self.links.len() {
            let ready = self.links[at].session.output().len();
            let n = self.dice.index(ready + 1);
            if n > 0 {
                self.receive_on(at, n)?;
            }
        }
        self.links.clear();
        self.works.clear();
        self.held = None;
        self.answers = Answers::new(&self.settings);
        self.renewals.clear();
        self.watches.lose(None);
        self.hub = watching::new_hub(&self.swarm.watches, &mut self.watch_dice);
        self.late_batch = None;
        self.kept.clear();
        if self.bug == Some(Bug::LateWrite) {
            self.late = self.disks.log.hold_back();
        }
        let dice = &mut self.dice;
        let choose = &mut |below| dice.below(below);
        if power {
            self.disks.lose_power(choose);
        } else {
            self.disks.lose_process(choose);
        }
        self.restart()
    }

    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.counts.restarts += 1;
        (self.is_serving, self.is_changed) = (false, true);
        if !self.is_known {
            // Nobody was ever served from here.
            self.disks = Disks::default();
        }
        if self.bug != Some(Bug::UnsyncedNames) {
            self.disks.sync_names();
        }
        let is_segment = |name: &str| matches!(FileId::parse(name), Some(FileId::Segment(_)));
        if self.is_known && !self.disks.log.list().iter().any(|file| is_segment(&file.0)) {
            return Err("a crash left no segment".to_owned());
        }
        self.swarm.retune(&mut self.dice);
        let seed = self.dice.next();
        self.since = self.now;
        self.shard = node::recover(&self.swarm.config, &self.disks, seed, Tick(self.now))
            .map_err(|why| format!("a crash is refused as damage: {why}"))?;
        self.crash_point()
    }

    /// Looks at what a crash now would leave, unless nothing has changed since the last look.
    pub(super) fn crash_point(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.is_changed) || !self.is_known {
            return Ok(());
        }
        crate::crash::look(self)
    }

    /// Nothing breaks any more: everything asked is answered, and all of it is there.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let mut rounds = 0;
        while !self.is_serving || !self.is_at_rest() {
            rounds += 1;
            if rounds > QUIET_ROUNDS_MAX {
                return Err("it does not come to rest".to_owned());
            }
            self.quiet_round()?;
        }
        self.ask_on(0, Op::Range(Question::default()));
        self.ask_on(0, Op::HashKv { revision: 0 });
        while !self.is_at_rest() {
            rounds += 1;
            if rounds > QUIET_ROUNDS_MAX {
                return Err("it does not come to rest".to_owned());
            }
            self.quiet_round()?;
        }
        self.let_leases_end()?;
        for _ in 0..REST_ROUNDS {
            self.quiet_round()?;
        }
        self.let_watchers_catch_up()?;
        self.watches.check_told(self.oracle.model())?;
        self.oracle.check_history(&self.shard)?;
        crate::crash::look(self)?;
        crate::crash::damage(self)
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight() == 0 && self.links.iter().all(|link| link.client.waiting() == 0)
    }

    pub(super) fn quiet_round(&mut self) -> Result<(), String> {
        self.watch_quietly();
        self.turn()?;
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let n = link.client.out.len();
            if n > 0 && !link.is_closing && !link.session.is_congested() {
                self.deliver_on(at, n);
            }
        }
        self.turn()?;
        for _ in 0..COMPLETIONS_MAX {
            if self.in_flight() == 0 {
                break;
            }
            self.complete_nth(0)?;
            self.let_go();
            self.turn()?;
        }
        if self.in_flight() > 0 {
            return Err("the disks do not come to rest".to_owned());
        }
        for at in 0..self.links.len() {
            let n = self.links[at].session.output().len();
            if n > 0 {
                self.receive_on(at, n)?;
            }
        }
        for _ in 0..WORKS_MAX {
            if !self.work()? {
                break;
            }
            self.turn()?;
        }
        self.now += 20;
        self.tick_now();
        Ok(())
    }
}
