//! The driver: a turn of the core, and what it does to the files of the log and of the store.

use super::leases::Renewals;
use super::{Act, World};
use crate::node;
use crate::planted::Bug;
use crate::store::disk::Skip;
use crate::store::node as store_node;
use bytes::Bytes;
use ringd::shard::{Input, Output};
use ringd::{store, wal};

/// One thing in flight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// A write of the log's: the log's name for it, unless it was already told that it is done, and
    /// the disk's.
    Log { id: Option<u64>, write: u64 },
    /// A write of the store's.
    Store { id: u64, file: store::FileId, write: u64 },
    /// A read of the store's.
    Read { id: u64, file: store::FileId, offset: u64, size: usize },
}

impl World {
    pub(super) fn turn(&mut self) -> Result<(), String> {
        self.note(Act::Turn);
        self.ask_watched();
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Wal(command) => self.begin(command),
                Output::Store(command) => self.begin_store(command)?,
                Output::Reply { to, ready } if Renewals::owns(to) => self.renewed(to, ready)?,
                Output::Reply { to, ready } => self.reply(to, ready),
                Output::Rows { to } => self.answers.go_on(to),
                Output::Watch(told) => self.hand_out(told),
                Output::Role(_) => {}
                Output::Send { .. } | Output::Peers(_) | Output::Reopen => {
                    unreachable!("it is alone")
                }
                Output::Halt(why) => return Err(format!("it halted: {why}")),
            }
            self.crash_point()?;
        }
        self.pull_all();
        self.ask_watched();
        while self.answers.has_pulls() && !(self.swarm.postpones && self.dice.chance(40)) {
            let mut message = Vec::new();
            let served = self.answers.serve(&mut self.shard, &mut message);
            if let Some((to, Some(piece))) = served {
                let piece = piece.map(<[u8]>::to_vec);
                self.answer(to, piece);
            }
            self.crash_point()?;
        }
        if self.bug == Some(Bug::SwappedReplies)
            && let Some((to, result)) = self.held.take()
        {
            self.hand_over(to, result);
        }
        if !self.is_serving && self.shard.is_ready() {
            self.serve()?;
        }
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let is_over = link.is_closing || link.session.is_done();
            if is_over && link.session.output().is_empty() {
                self.close(at);
            }
        }
        Ok(())
    }

    /// A slice of what has no hurry.
    pub(super) fn work(&mut self) -> Result<bool, String> {
        self.note(Act::Work);
        let is_more = self.shard.work();
        let ended: Vec<i64> = self.shard.ended().iter().map(|grant| grant.id.0).collect();
        self.counts.ended += ended.len() as u64;
        self.oracle.ended(&ended, self.now)?;
        Ok(is_more)
    }

    fn begin(&mut self, command: wal::Command) {
        self.note(Act::Log(match &command {
            wal::Command::Write { .. } => "write",
            wal::Command::Create { .. } => "create",
            wal::Command::Activate { .. } => "activate",
            wal::Command::Recycle { .. } => "recycle",
            wal::Command::Remove { .. } => "remove",
            wal::Command::Read { .. } => "read",
            wal::Command::Sync { .. } => "sync",
        }));
        self.is_changed = true;
        self.mix(format!("{command:?}").as_bytes());
        let wal::Command::Write { id, file, offset, size } = command else {
            return self.begin_change(command);
        };
        self.counts.segments += u64::from(offset == 4096);
        if self.bug == Some(Bug::EarlyEvents) {
            self.land_early();
        }
        let mut buffer = vec![0xee; size];
        self.shard.fill(id, &mut buffer);
        self.mix(&buffer);
        let write = self.disks.log.begin(&file.to_string(), offset, buffer);
        let is_early = !self.hub.is_empty() && self.has(Bug::EarlyEvents, 50);
        let is_told = is_early || self.has(Bug::EarlyWritten, 100);
        self.works.push(Work::Log { id: Some(id).filter(|_| !is_told), write });
        if self.has(Bug::Misdirected, 15) {
            self.disks.log.misdirect(write, 4096);
        }
        if is_told {
            self.shard.handle(Input::Wal(wal::Event::Written { id }));
        }
    }

    /// What a bug has told to be written is, before the log goes on: no file shows the bug.
    fn land_early(&mut self) {
        self.works.retain(|work| match work {
            Work::Log { id: None, write } => {
                self.disks.log.complete(*write);
                false
            }
            Work::Log { .. } | Work::Store { .. } | Work::Read { .. } => true,
        });
        self.let_go();
    }

    fn begin_change(&mut self, command: wal::Command) {
        if matches!(command, wal::Command::Sync { .. }) && self.has(Bug::UnsyncedReads, 100) {
            return self.shard.handle(Input::Wal(wal::Event::Done));
        }
        let mut change = node::change(command);
        if self.has(Bug::NameBeforeHeader, 100) {
            change = crate::planted::name_first(change);
        }
        self.disks.log.begin_change(change);
    }

    fn begin_store(&mut self, command: store::Command) -> Result<(), String> {
        self.note(Act::Store(match &command {
            store::Command::Write { .. } => "write",
            store::Command::Read { .. } => "read",
            store::Command::Create { .. } => "create",
            store::Command::Finish { .. } => "finish",
            store::Command::Replace { .. } => "replace",
            store::Command::Remove { .. } => "remove",
        }));
        self.is_changed = true;
        self.mix(format!("{command:?}").as_bytes());
        match command {
            store::Command::Write { id, file, offset, size } => {
                let mut buffer = vec![0xee; size];
                self.shard.fill_store(id, &mut buffer);
                self.mix(&buffer);
                let write = self.disks.store.begin(&file.to_string(), offset, buffer);
                self.works.push(Work::Store { id, file, write });
            }
            store::Command::Read { id, file, offset, size } => {
                if !self.disks.store.has(&file.to_string()) {
                    return Err(format!("a read of {file}, which is not there"));
                }
                self.counts.fetches += 1;
                self.works.push(Work::Read { id, file, offset, size });
            }
            store::Command::Create { .. }
            | store::Command::Finish { .. }
            | store::Command::Replace { .. }
            | store::Command::Remove { .. } => self.begin_store_change(command)?,
        }
        Ok(())
    }

    fn begin_store_change(&mut self, command: store::Command) -> Result<(), String> {
        let mut skip = None;
        match &command {
            store::Command::Finish { from, .. } => {
                let is_busy =
                    |work: &Work| matches!(work, Work::Store { file, .. } if file == from);
                if self.works.iter().any(is_busy) {
                    return Err(format!("{from} is finished before it is written"));
                }
                self.counts.sealed += 1;
                skip = Some(Skip::SyncFile).filter(|_| self.bug == Some(Bug::UnsyncedSegment));
            }
            store::Command::Replace { .. } => {
                self.counts.manifests += 1;
                skip = Some(Skip::SyncNames).filter(|_| self.bug == Some(Bug::UnsyncedManifest));
                if self.has(Bug::LostManifest, 30) {
                    self.shard.handle(Input::Store(store::Event::Done));
                    return Ok(());
                }
            }
            store::Command::Remove { file, .. } => {
                let is_read =
                    |work: &Work| matches!(work, Work::Read { file: read, .. } if read == file);
                if self.works.iter().any(is_read) || !self.disks.store.has(&file.to_string()) {
                    return Err(format!("{file} is removed while it is read, or twice"));
                }
                self.counts.removals += 1;
            }
            store::Command::Create { .. }
            | store::Command::Write { .. }
            | store::Command::Read { .. } => {}
        }
        self.disks.store.begin_change(store_node::change(command), skip);
        Ok(())
    }

    /// Whether this bug is planted, and strikes now: so many times of a hundred.
    pub(crate) fn has(&mut self, bug: Bug, percent: u64) -> bool {
        self.bug == Some(bug) && self.crash_dice.chance(percent)
    }

    /// How many things the disks have to do.
    pub(super) fn in_flight(&self) -> usize {
        let (log, store) = (self.disks.log.is_changing(), self.disks.store.is_changing());
        self.works.len() + usize::from(log) + usize::from(store)
    }

    pub(super) fn complete(&mut self) -> Result<(), String> {
        let count = self.in_flight();
        if count == 0 {
            return Ok(());
        }
        let nth = if self.swarm.reorder { self.dice.index(count) } else { 0 };
        self.complete_nth(nth)?;
        self.let_go();
        self.crash_point()
    }

    /// Answers that a bug has kept leave once all is durable that they rest on.
    pub(super) fn let_go(&mut self) {
        if !self.works.iter().any(|work| matches!(work, Work::Log { .. })) {
            for (to, result) in std::mem::take(&mut self.kept) {
                self.answer(to, result);
            }
        }
    }

    /// The nth of what is in flight is done; the changes of files are behind all else.
    pub(super) fn complete_nth(&mut self, nth: usize) -> Result<(), String> {
        self.note(Act::Complete(nth));
        self.is_changed = true;
        if nth == self.works.len() && self.disks.log.is_changing() {
            self.disks.log.complete_change();
            self.shard.handle(Input::Wal(wal::Event::Done));
            return Ok(());
        }
        if nth >= self.works.len() {
            self.disks.store.complete_change();
            self.shard.handle(Input::Store(store::Event::Done));
            return Ok(());
        }
        if nth > 0
            && matches!(self.works[nth], Work::Log { .. })
            && let Work::Log { id, write } = self.works[0]
            && self.has(Bug::EarlierLost, 50)
        {
            self.works.remove(0);
            self.disks.log.complete_part(write, |_| false);
            self.tell_written(id);
            return self.complete_nth(nth - 1);
        }
        if self.is_serving
            && let Some(late) = self.late.take()
        {
            self.disks.log.land_late(&late);
        }
        match self.works.remove(nth) {
            Work::Log { id, write } => {
                if self.has(Bug::LostSector, 25) {
                    let lost = self.crash_dice.index(8);
                    self.disks.log.complete_part(write, |sector| sector != lost);
                } else {
                    self.disks.log.complete(write);
                }
                self.tell_written(id);
            }
            Work::Store { id, write, .. } => {
                self.disks.store.complete(write);
                self.shard.handle(Input::Store(store::Event::Written { id }));
            }
            Work::Read { id, file, offset, size } => {
                let at = if self.has(Bug::Misread, 10) { offset + 8 } else { offset };
                let bytes = self.disks.store.read(&file.to_string(), at, size);
                if bytes.len() < size {
                    return Err(format!("{file} at byte {offset} has no {size} bytes"));
                }
                let bytes = Bytes::copy_from_slice(bytes);
                self.shard.handle(Input::Store(store::Event::Read { id, bytes }));
            }
        }
        Ok(())
    }

    fn tell_written(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.shard.handle(Input::Wal(wal::Event::Written { id }));
        }
    }
}
