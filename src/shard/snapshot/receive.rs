//! The receiver's end: what was offered, what of it has come, and what is asked for next.
//!
//! ```text
//!   offered ──► the manifest ──► its segments, one after the other ──► Raft is told ──► it moves
//! ```
//!
//! One snapshot is received at a time, of whoever leads: another leader's takes the place of what
//! had come of the last one's.

use crate::raft;
use crate::raft::Mark;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::peer::Packet;
use crate::shard::snapshot::parcel::Offer;
use crate::shard::snapshot::parcel::Parcel;
use crate::shard::state::State;
use crate::store::Arrival;
use crate::store::Damage;
use crate::store::Lack;
use crate::store::Manifest;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What of a part has come, and what is on its way.
#[derive(Debug, Default)]
struct Window {
    part: u32,
    /// Up to here all is asked for.
    next: u64,
    /// What is on its way: by its place, its size, and when it was asked for.
    asked: BTreeMap<u64, (usize, Tick)>,
    /// What came before what is due.
    early: BTreeMap<u64, Bytes>,
}

impl Window {
    /// Bytes that are on their way or early.
    fn size(&self) -> usize {
        let asked = self.asked.values().map(|(size, _)| *size);
        asked.chain(self.early.values().map(Bytes::len)).sum()
    }
}

/// What has come of a snapshot.
#[derive(Debug)]
enum Phase {
    /// The manifest, as far as it is there.
    Manifest(Vec<u8>),
    /// The store is still removing what was given up.
    Waiting(Box<(Manifest, Mark)>),
    /// The store takes in segments, and what they amount to is this.
    Segments(Box<Mark>),
}

/// A snapshot that is being received.
#[derive(Debug)]
struct Receiving {
    from: NodeId,
    offer: Offer,
    phase: Phase,
    window: Window,
    /// When something of it came last.
    heard: Tick,
}

/// The snapshot that is being received, if one is.
#[derive(Debug, Default)]
pub(in crate::shard) struct Receipt(Option<Receiving>);

/// What is done next.
enum Next {
    Nothing,
    Again,
    GiveUp(String),
    Install(Box<Mark>),
}

impl Receiving {
    /// Bytes of a manifest in the order that they come.
    fn take_manifest(&mut self) {
        let Phase::Manifest(bytes) = &mut self.phase else { return };
        while let Some(piece) = self.window.early.remove(&(bytes.len() as u64)) {
            bytes.extend_from_slice(&piece);
        }
    }

    /// What is to be pulled, so that at most `window` bytes are on their way, of a part of `size`
    /// bytes of which so many are `waiting` to be written.
    fn pulls(
        &mut self,
        now: Tick,
        size: u64,
        waiting: usize,
        limits: super::Limits,
    ) -> Vec<Parcel> {
        let mut out = Vec::new();
        let snapshot = self.offer.snapshot;
        let mut room = limits.window.saturating_sub(waiting + self.window.size());
        let window = &mut self.window;
        while window.next < size && room > 0 {
            let left = usize::try_from(size - window.next).unwrap_or(usize::MAX);
            let piece = left.min(limits.piece_size);
            window.asked.insert(window.next, (piece, now));
            out.push(pull(snapshot, window.part, window.next, piece));
            window.next += piece as u64;
            room = room.saturating_sub(piece);
        }
        out
    }

    /// What was asked for long ago, to be asked for again; nothing while other pieces come, as they
    /// come in turn, and over a slow connection each takes its time.
    fn repeats(&mut self, now: Tick, patience: u64) -> Vec<Parcel> {
        let (snapshot, part) = (self.offer.snapshot, self.window.part);
        let mut out = Vec::new();
        if now.since(self.heard) < patience {
            return out;
        }
        for (offset, (size, at)) in &mut self.window.asked {
            if now.since(*at) >= patience {
                *at = now;
                out.push(pull(snapshot, part, *offset, *size));
            }
        }
        out
    }
}

fn pull(snapshot: u64, part: u32, offset: u64, size: usize) -> Parcel {
    let size = u32::try_from(size).expect("a piece is small");
    Parcel::Pull { snapshot, part, offset, size }
}

impl Shard {
    /// Somebody says something about a snapshot.
    pub(in crate::shard) fn on_parcel(&mut self, from: NodeId, parcel: Parcel) {
        match parcel {
            Parcel::Offer(offer) => self.on_offer(from, offer),
            Parcel::Pull { snapshot, part, offset, size } => {
                let size = usize::try_from(size).expect("usize is 64 bits");
                self.on_pull(from, snapshot, (part, offset, size));
            }
            Parcel::Piece { snapshot, part, offset, bytes } => {
                self.on_piece(from, snapshot, (part, offset), bytes);
            }
            Parcel::Settled { snapshot, is_done } => self.on_settled(from, snapshot, is_done),
            Parcel::Gone { snapshot } => {
                if self.is_received(from, snapshot) {
                    self.drop_receipt();
                }
            }
        }
    }

    fn is_received(&self, from: NodeId, snapshot: u64) -> bool {
        let is_it = |it: &Receiving| (it.from, it.offer.snapshot) == (from, snapshot);
        self.receipt.0.as_ref().is_some_and(is_it)
    }

    /// A leader offers a state.
    fn on_offer(&mut self, from: NodeId, offer: Offer) {
        if self.raft.leader() != Some(from) || self.raft.is_installing() {
            return;
        }
        if self.raft.committed() >= offer.position.index {
            return self.settle(from, offer.snapshot, true);
        }
        if self.is_received(from, offer.snapshot) {
            return;
        }
        self.drop_receipt();
        let text = format!(
            "the state as of entry {}, {} bytes, is received from member {:x}",
            offer.position.index, offer.size, from.0
        );
        self.outputs.push_back(Output::Role(text));
        let (phase, window) = (Phase::Manifest(Vec::new()), Window::default());
        self.receipt.0 = Some(Receiving { from, offer, phase, window, heard: self.now });
        self.go_on_receiving();
    }

    fn settle(&mut self, from: NodeId, snapshot: u64, is_done: bool) {
        self.send(from, Packet::Snapshot(Parcel::Settled { snapshot, is_done }));
    }

    /// A piece has come.
    fn on_piece(&mut self, from: NodeId, snapshot: u64, (part, offset): (u32, u64), bytes: Bytes) {
        if !self.is_received(from, snapshot) {
            return;
        }
        let receiving = self.receipt.0.as_mut().expect("it was just looked at");
        let window = &mut receiving.window;
        let is_due = window.asked.get(&offset).is_some_and(|(size, _)| *size == bytes.len());
        if window.part != part || !is_due {
            return;
        }
        window.asked.remove(&offset);
        window.early.insert(offset, bytes);
        receiving.heard = self.now;
        self.go_on_receiving();
    }

    /// Gives up what is being received.
    fn drop_receipt(&mut self) {
        if self.receipt.0.take().is_some() {
            self.store.drop_arrival();
        }
    }

    /// The connection to a peer broke: what it was asked for is asked for again.
    pub(in crate::shard) fn pull_again(&mut self, peer: NodeId) {
        if let Some(receiving) = self.receipt.0.as_mut().filter(|it| it.from == peer) {
            receiving.heard = Tick(0);
            for (_, at) in receiving.window.asked.values_mut() {
                *at = Tick(0);
            }
        }
    }

    /// Time passes for what is being received.
    pub(in crate::shard) fn tick_receipt(&mut self) {
        let Some(receiving) = &mut self.receipt.0 else { return };
        let (from, offer) = (receiving.from, receiving.offer);
        if self.raft.committed() >= offer.position.index {
            // The log has come all the same.
            self.drop_receipt();
            return self.settle(from, offer.snapshot, true);
        }
        for parcel in receiving.repeats(self.now, self.config.raft.election_ticks / 2) {
            self.send(from, Packet::Snapshot(parcel));
        }
        self.go_on_receiving();
    }

    /// Takes what has come as far as that goes, and asks for more.
    pub(in crate::shard) fn go_on_receiving(&mut self) {
        loop {
            let Some(mut receiving) = self.receipt.0.take() else { return };
            let next = self.receive_step(&mut receiving);
            let (from, offer) = (receiving.from, receiving.offer);
            self.receipt.0 = Some(receiving);
            match next {
                Next::Nothing => return,
                Next::Again => {}
                Next::GiveUp(why) => return self.give_up(&why),
                Next::Install(mark) => return self.install(from, offer, *mark),
            }
        }
    }

    /// What is being received is not taken.
    fn give_up(&mut self, why: &str) {
        let Some(Receiving { from, offer, .. }) = self.receipt.0 else { return };
        let text = format!(
            "the state as of entry {} of member {:x} is not taken: {why}",
            offer.position.index, from.0
        );
        self.outputs.push_back(Output::Role(text));
        self.drop_receipt();
        self.settle(from, offer.snapshot, false);
    }

    /// There was no room for something of the store's. What is being received can wait until there
    /// is; nothing else can.
    pub(in crate::shard) fn on_no_room(&mut self, lack: Lack, why: String) {
        if !self.store.lack(lack) {
            return self.halt(why);
        }
        self.give_up("there is no room for it on this disk");
    }

    fn receive_step(&mut self, receiving: &mut Receiving) -> Next {
        let (from, offer, limits) = (receiving.from, receiving.offer, self.config.snapshots);
        receiving.take_manifest();
        let (part, due, waiting, size) = match &mut receiving.phase {
            Phase::Manifest(bytes) if bytes.len() as u64 == offer.manifest_size => {
                return match opened(bytes, offer) {
                    Ok(opened) => {
                        receiving.phase = Phase::Waiting(Box::new(opened));
                        Next::Again
                    }
                    Err(why) => Next::GiveUp(why),
                };
            }
            Phase::Manifest(bytes) => (0, bytes.len() as u64, 0, offer.manifest_size),
            Phase::Waiting(opened) => {
                if self.store.arrival() != Arrival::None {
                    return Next::Nothing;
                }
                let (manifest, mark) = (opened.0.clone(), opened.1.clone());
                if !self.store.receive(manifest) {
                    return Next::GiveUp("it is another shard's".to_owned());
                }
                receiving.phase = Phase::Segments(Box::new(mark));
                return Next::Again;
            }
            Phase::Segments(mark) => match self.store.arrival() {
                Arrival::Wants { segment, offset, waiting, size } => {
                    let part = u32::try_from(segment + 1).expect("fewer than 2^32 segments");
                    (part, offset, waiting, size)
                }
                Arrival::Whole => return Next::Install(mark.clone()),
                Arrival::Broken => return Next::GiveUp(self.broken()),
                Arrival::Busy | Arrival::Installing | Arrival::Installed => return Next::Nothing,
                Arrival::None | Arrival::Leaving => unreachable!("it is being received"),
            },
        };
        if receiving.window.part != part {
            receiving.window = Window { part, ..Window::default() };
        }
        if let Some(bytes) = receiving.window.early.remove(&due) {
            self.store.take_piece(bytes);
            return Next::Again;
        }
        for parcel in receiving.pulls(self.now, size, waiting, limits) {
            self.send(from, Packet::Snapshot(parcel));
        }
        Next::Nothing
    }

    /// What of that which has come is not as it was sealed.
    fn broken(&self) -> String {
        told(&self.store.arrival_damage().expect("it is broken"))
    }

    /// All of it is there: Raft judges whether it is of use.
    fn install(&mut self, from: NodeId, offer: Offer, mark: Mark) {
        // That the state is committed is true whoever leads, and leaders have all that is.
        let Some(leader) = self.raft.leader().filter(|leader| *leader != self.member()) else {
            return;
        };
        let (term, body) = (self.raft.term(), raft::Body::Snapshot { mark });
        let message = raft::Message { term, body };
        self.raft.handle(raft::Input::Message { from: leader, message });
        if self.raft.is_installing() {
            // From here on it is Raft's: it says when it is in place of the log.
            self.receipt = Receipt::default();
        } else {
            self.drop_receipt();
            self.settle(from, offer.snapshot, true);
        }
    }
}

/// Damage in the files of whoever sends.
fn told(damage: &Damage) -> String {
    format!("{} at byte {} of its store: {}", damage.file, damage.offset, damage.cause)
}

/// The manifest that has come, and what its state covers.
fn opened(bytes: &[u8], offer: Offer) -> Result<(Manifest, Mark), String> {
    let manifest = Manifest::decode(bytes).map_err(|damage| told(&damage))?;
    let (state, _) = State::decode(&manifest.state)?;
    if state.applied != offer.position || state.members.is_none() {
        return Err(format!("it is of entry {}", state.applied));
    }
    let last = manifest.segments.last().map(|segment| segment.summary.last.main);
    if last > Some(state.revision) {
        return Err(format!("it is of revision {}, and has later changes", state.revision));
    }
    let mark = Mark { last: state.applied, membership: state.membership };
    Ok((manifest, mark))
}
