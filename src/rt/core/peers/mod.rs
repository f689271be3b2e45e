//! The connections between this core's shards and the other members.
//!
//! A shard's connections are owned by its core, so that what it says and hears makes no hop. What
//! the peer port accepts comes to the core of the first shard; once the first bytes have told which
//! shard it is for, it moves to that one's core. Nothing is decided here: who may speak and when to
//! dial is said by [`crate::peer`].

mod carry;
mod sort;

use crate::api::PeerPages;
use crate::config::Url;
use crate::peer::Card;
use crate::peer::GREETING_SIZE;
use crate::peer::Inlet;
use crate::peer::Kind;
use crate::peer::Limits;
use crate::peer::Link;
use crate::peer::LinkOutput;
use crate::peer::Roster;
use crate::peer::Verdict;
use crate::peer::explain;
use crate::rt::core::Core;
use crate::rt::resolve::Resolver;
use crate::rt::server::random;
use crate::shard::Input;
use crate::shard::peer::PACKET_SIZE_MAX;
use crate::shard::peer::Packet;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Tick;
use bytes::Bytes;
use glommio::net::TcpStream;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Connections to the peer port that one core may have: many times what the largest group needs.
const ACCEPTED_MAX: usize = 1024;
/// Those of them that are no member's, or not yet; one more takes the place of the oldest, so that
/// members find room. As many as all members of a node with many shards open at once.
const STRANGERS_MAX: usize = 512;
/// Milliseconds that a connection to the peer port may be silent while it is no member's.
const IDLE_MAX: u64 = 30_000;
/// Milliseconds between two lines of the log about callers that are not heard, for each shard, and
/// about those that do not even greet.
const REFUSAL_LINE_AFTER: u64 = 1_000;

const _: () = assert!(PACKET_SIZE_MAX <= 129 << 20, "a packet fits a frame");
const _: () = assert!(GREETING_SIZE < super::connection::RECEIVE_SIZE);

/// What this node is to its peers.
#[derive(Clone)]
pub(crate) struct PeerSettings {
    /// The card of its first shard.
    pub(crate) card: Card,
    /// Who voted when the cluster's log began.
    pub(crate) founders: Vec<NodeId>,
    /// Where its peers reach it, as it tells them.
    pub(crate) urls: Vec<String>,
    pub(crate) resolver: Resolver,
}

/// All of a core's connections to other members.
pub(super) struct Peers {
    settings: PeerSettings,
    limits: Limits,
    slots: Vec<Option<Slot>>,
    vacant: Vec<u32>,
    /// Sets apart the sockets that a slot has had, and the slots that had a number.
    generation: u32,
    groups: BTreeMap<ShardId, Group>,
    /// Slots that have something to send.
    dirty: Vec<u32>,
    /// The node is known to its directory: peers may be called.
    met: bool,
    after: Aftermath,
    /// When a line of the log last told of a connection that is closed for what came on it.
    faulted: Option<Tick>,
}

/// What is to be done once nothing is borrowed.
#[derive(Default)]
struct Aftermath {
    dial: Vec<(u32, u32)>,
    read: Vec<(u32, u32)>,
    heard: Vec<(ShardId, NodeId, Bytes)>,
    /// Members that say that this one was removed.
    removed: Vec<(ShardId, NodeId)>,
    up: Vec<(ShardId, NodeId)>,
    lost: Vec<(ShardId, NodeId)>,
    /// Members that ended the connection on which they speak.
    ended: Vec<(ShardId, NodeId)>,
}

/// One shard's peers.
struct Group {
    card: Card,
    roster: Roster,
    urls: BTreeMap<NodeId, Vec<Url>>,
    /// Where those who call say that they are reached.
    said: BTreeMap<NodeId, Vec<Url>>,
    links: BTreeMap<(NodeId, Kind), u32>,
    /// The last caller that was refused, and when that was logged.
    refused: Option<(NodeId, Verdict, Tick)>,
}

/// One connection, or one that is to be made.
struct Slot {
    shard: ShardId,
    generation: u32,
    stream: Option<TcpStream>,
    end: End,
    /// A task of its own is sending.
    sending: bool,
    dirty: bool,
    /// To be closed once the output is empty.
    closing: bool,
    /// When it was put here.
    began: Tick,
    /// When something was last received, where the machine does not know.
    heard: Tick,
}

/// What a connection is.
enum End {
    /// One of ours.
    Link(Box<Link>),
    /// A member's.
    Inlet(Box<Inlet>),
    /// Somebody's who asks for pages.
    Pages(PeerPages),
    /// It has not said enough yet. The second socket is the same one again, to be moved.
    Door(Vec<u8>, socket2::Socket),
}

impl End {
    fn output(&self) -> &[u8] {
        match self {
            Self::Link(link) => link.output(),
            Self::Inlet(inlet) => inlet.output(),
            Self::Pages(pages) => pages.output(),
            Self::Door(..) => &[],
        }
    }

    fn sent(&mut self, n: usize, now: Tick) {
        match self {
            Self::Link(link) => link.sent(n, now),
            Self::Inlet(inlet) => inlet.sent(n, now),
            Self::Pages(pages) => pages.sent(n),
            Self::Door(..) => unreachable!("a door says nothing"),
        }
    }
}

impl Slot {
    /// Whether it was accepted and no member is heard on it.
    fn is_strangers(&self) -> bool {
        match &self.end {
            End::Link(_) => false,
            End::Inlet(inlet) => inlet.peer().is_none(),
            End::Pages(_) | End::Door(..) => true,
        }
    }
}

impl Peers {
    pub(super) fn new(settings: PeerSettings) -> Self {
        Self {
            settings,
            limits: Limits::default(),
            slots: Vec::new(),
            vacant: Vec::new(),
            generation: 0,
            groups: BTreeMap::new(),
            dirty: Vec::new(),
            met: false,
            after: Aftermath::default(),
            faulted: None,
        }
    }

    fn slot(&mut self, at: u32, generation: u32) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(at).expect("usize is 64 bits"))?.as_mut()?;
        (slot.generation == generation).then_some(slot)
    }

    fn slot_at(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(at).expect("usize is 64 bits"))?.as_mut()
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// A new slot; its number and generation.
    fn put(
        &mut self,
        shard: ShardId,
        stream: Option<TcpStream>,
        end: End,
        now: Tick,
    ) -> (u32, u32) {
        let generation = self.next_generation();
        let (sending, dirty, closing) = (false, false, false);
        let (began, heard) = (now, now);
        let slot = Slot { shard, generation, stream, end, sending, dirty, closing, began, heard };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("peers are few")
        });
        self.slots[usize::try_from(at).expect("usize is 64 bits")] = Some(slot);
        (at, generation)
    }

    fn remove(&mut self, at: u32) {
        let place = &mut self.slots[usize::try_from(at).expect("usize is 64 bits")];
        if place.take().is_some() {
            self.vacant.push(at);
        }
    }

    fn accepted(&self) -> usize {
        self.slots.iter().flatten().filter(|slot| !matches!(slot.end, End::Link(_))).count()
    }

    /// Makes room for one more stranger.
    fn make_room(&mut self) {
        let slots = (0..).zip(&self.slots);
        let slots = slots.filter_map(|(at, slot)| slot.as_ref().map(|slot| (at, slot)));
        let strangers = slots.filter(|(_, slot)| slot.is_strangers());
        let strangers: Vec<(Tick, u32)> = strangers.map(|(at, slot)| (slot.began, at)).collect();
        if strangers.len() >= STRANGERS_MAX
            && let Some((_, oldest)) = strangers.into_iter().min()
        {
            self.remove(oldest);
        }
    }

    fn mark(&mut self, at: u32) {
        if let Some(slot) = self.slot_at(at)
            && !slot.sending
            && !std::mem::replace(&mut slot.dirty, true)
        {
            self.dirty.push(at);
        }
    }

    /// The others of a shard's group, from now on.
    fn set(&mut self, shard: ShardId, others: Vec<(NodeId, Vec<String>)>, now: Tick) {
        let card = Card { shard, ..self.settings.card };
        let group = self.groups.entry(shard).or_insert_with(|| Group {
            card,
            roster: Roster::default(),
            urls: BTreeMap::new(),
            said: BTreeMap::new(),
            links: BTreeMap::new(),
            refused: None,
        });
        group.roster.set(others.iter().map(|(id, _)| *id));
        group.urls = others.into_iter().map(|(id, texts)| (id, parse(&texts))).collect();
        self.drop_strangers(shard);
        let members: Vec<_> = self.groups[&shard].urls.keys().copied().collect();
        for to in members {
            self.add_links(shard, to, now);
        }
    }

    /// The links to one of the others, if there are none yet.
    fn add_links(&mut self, shard: ShardId, to: NodeId, now: Tick) {
        for kind in [Kind::Raft, Kind::Bulk] {
            let Some(group) = self.groups.get(&shard) else {
                return;
            };
            if group.links.contains_key(&(to, kind)) {
                continue;
            }
            let mut link = Link::new(group.card, to, kind, self.limits, random(), now);
            if kind == Kind::Raft {
                link = link.with_urls(&self.settings.urls);
            }
            let (at, _) = self.put(shard, None, End::Link(Box::new(link)), now);
            let group = self.groups.get_mut(&shard).expect("it was just there");
            group.links.insert((to, kind), at);
        }
    }

    /// A caller says where it is reached.
    fn is_reached(&mut self, shard: ShardId, from: NodeId, urls: &[String], now: Tick) {
        let Some(group) = self.groups.get_mut(&shard) else {
            return;
        };
        if group.roster.hears(from) {
            group.said.insert(from, parse(urls));
            self.add_links(shard, from, now);
        }
    }

    /// Guests whose connections are over have left.
    fn dismiss_guests(&mut self) {
        let guests = self.groups.iter();
        let guests = guests.flat_map(|(shard, it)| it.roster.guests().map(|id| (*shard, id)));
        let guests: Vec<_> = guests.collect();
        for (shard, id) in guests {
            let is_here = self.slots.iter().flatten().any(|slot| match &slot.end {
                End::Inlet(inlet) => {
                    slot.shard == shard && inlet.peer().is_some_and(|(from, _)| from == id)
                }
                End::Link(_) | End::Pages(_) | End::Door(..) => false,
            });
            if !is_here && let Some(group) = self.groups.get_mut(&shard) {
                group.roster.dismiss(id);
                self.drop_strangers(shard);
            }
        }
    }

    /// Closes all connections with those who are neither members nor guests any more.
    fn drop_strangers(&mut self, shard: ShardId) {
        let Some(group) = self.groups.get_mut(&shard) else {
            return;
        };
        let roster = &group.roster;
        group.said.retain(|id, _| roster.hears(*id));
        let mut gone: Vec<_> =
            group.links.extract_if(.., |(id, _), _| !roster.hears(*id)).map(|it| it.1).collect();
        let is_stranger = |slot: &Slot| match &slot.end {
            End::Inlet(inlet) => {
                let is_heard = |(id, _)| roster.hears(id);
                slot.shard == shard && !inlet.peer().is_none_or(is_heard)
            }
            End::Link(_) | End::Pages(_) | End::Door(..) => false,
        };
        let slots =
            (0..).zip(&self.slots).filter(|(_, slot)| slot.as_ref().is_some_and(is_stranger));
        gone.extend(slots.map(|(at, _)| at));
        for at in gone {
            self.remove(at);
        }
    }

    /// A shard has something to say to one of the others.
    fn say(&mut self, shard: ShardId, to: NodeId, packet: &Packet, now: Tick) {
        let kind = if packet.is_bulk() { Kind::Bulk } else { Kind::Raft };
        let at = self.groups.get(&shard).and_then(|group| group.links.get(&(to, kind)).copied());
        let Some(at) = at else {
            return;
        };
        let Some(Slot { end: End::Link(link), .. }) = self.slot_at(at) else {
            return;
        };
        let is_taken = link.send(packet.encode(), now);
        let is_full = !is_taken && link.is_up();
        if is_full && !self.after.lost.contains(&(shard, to)) {
            self.after.lost.push((shard, to));
        }
        self.mark(at);
    }

    /// Lets time pass.
    fn tick(&mut self, now: Tick) {
        if !self.met {
            return;
        }
        for at in 0..u32::try_from(self.slots.len()).expect("peers are few") {
            let Some(slot) = self.slot_at(at) else {
                continue;
            };
            let is_over = match &mut slot.end {
                End::Link(link) => {
                    link.tick(now);
                    false
                }
                End::Inlet(inlet) => inlet.tick(now).is_err(),
                End::Pages(_) | End::Door(..) => now.since(slot.heard) > IDLE_MAX,
            };
            if is_over {
                self.remove(at);
                continue;
            }
            self.settle_link(at);
            self.mark(at);
        }
        self.dismiss_guests();
    }

    /// Does what a link asks for.
    fn settle_link(&mut self, at: u32) {
        let generation = self.next_generation();
        let Some(slot) = self.slots[usize::try_from(at).expect("usize is 64 bits")].as_mut() else {
            return;
        };
        let End::Link(link) = &mut slot.end else {
            return;
        };
        let ((to, kind), shard) = (link.peer(), slot.shard);
        while let Some(output) = link.poll() {
            let id = format!("{:x}", to.0);
            match output {
                LinkOutput::Connect { .. } => self.after.dial.push((at, slot.generation)),
                LinkOutput::Close { .. } => {
                    slot.stream = None;
                    (slot.generation, slot.sending) = (generation, false);
                }
                LinkOutput::Up => {
                    tracing::info!(shard = shard.0, peer = id, ?kind, "peer became active");
                    if kind == Kind::Raft {
                        self.after.up.push((shard, to));
                    }
                }
                LinkOutput::Lost(fault) => {
                    let reason = fault.to_string();
                    tracing::warn!(
                        shard = shard.0,
                        peer = id,
                        ?kind,
                        reason,
                        "peer became inactive"
                    );
                    self.after.lost.push((shard, to));
                }
                LinkOutput::Refused { verdict, by } => {
                    let own = self.groups.get(&shard).map_or(self.settings.card, |it| it.card);
                    let why = explain(verdict, &own, &by).unwrap_or_default();
                    tracing::warn!(shard = shard.0, peer = id, "a peer does not hear us: {why}");
                    if verdict == Verdict::Removed {
                        self.after.removed.push((shard, to));
                    }
                }
            }
        }
    }
}

/// The URLs among these texts.
fn parse(texts: &[String]) -> Vec<Url> {
    texts.iter().filter_map(|text| Url::parse(text).ok()).collect()
}

impl Core {
    /// The others of a shard's group, from now on.
    pub(super) fn set_peers(&self, shard: ShardId, others: Vec<(NodeId, Vec<String>)>) {
        self.peers.borrow_mut().set(shard, others, self.clock.now());
    }

    /// A shard has something to say to one of the others.
    pub(super) fn say(&self, shard: ShardId, to: NodeId, packet: &Packet) {
        self.peers.borrow_mut().say(shard, to, packet, self.clock.now());
    }

    /// Peers may be called from now on.
    pub(super) fn meet(self: &Rc<Self>) {
        self.peers.borrow_mut().met = true;
        self.tick_peers(self.clock.now());
    }

    /// Time passes for the connections to peers.
    pub(super) fn tick_peers(self: &Rc<Self>, now: Tick) {
        self.peers.borrow_mut().tick(now);
        self.settle_peers();
    }

    /// Does what can be done only when nothing is borrowed.
    fn settle_peers(self: &Rc<Self>) {
        let after = std::mem::take(&mut self.peers.borrow_mut().after);
        for (shard, from, bytes) in after.heard {
            match Packet::decode(bytes) {
                Ok(packet) => self.tell_shard(shard, Input::Packet { from, packet }),
                Err(error) => {
                    let peer = format!("{:x}", from.0);
                    tracing::warn!(shard = shard.0, peer, "{error}");
                }
            }
        }
        for (shard, from) in after.removed {
            self.tell_shard(shard, Input::Packet { from, packet: Packet::Removed });
        }
        for (shard, peer) in after.up {
            self.tell_shard(shard, Input::PeerUp { peer });
        }
        for (shard, peer) in after.lost {
            self.tell_shard(shard, Input::PeerLost { peer });
        }
        for (shard, peer) in after.ended {
            self.tell_shard(shard, Input::PeerEnded { peer });
        }
        for (at, generation) in after.dial {
            glommio::spawn_local(self.clone().dial(at, generation)).detach();
        }
        for (at, generation) in after.read {
            glommio::spawn_local(self.clone().read_peer(at, generation)).detach();
        }
    }

    fn tell_shard(&self, shard: ShardId, input: Input) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&shard) {
            host.shard.handle(input);
            self.turn.set();
        }
    }

    /// Sends all that there is for peers.
    pub(super) fn send_to_peers(self: &Rc<Self>) {
        let dirty = std::mem::take(&mut self.peers.borrow_mut().dirty);
        for at in dirty {
            self.send_to_peer(at);
        }
        self.settle_peers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Hello;
    use crate::peer::Version;
    use crate::types::ClusterId;

    fn card(node: u64) -> Card {
        let (cluster, node, shard, shards) = (ClusterId(1), NodeId(node), ShardId(0), 1);
        Card { cluster, node, shard, shards, log: 1, run: 1, version: Version::parse("0.1.0") }
    }

    /// A connection on which a member is heard.
    fn members(peers: &Peers) -> End {
        let (card, own, verdict) = (card(2), peers.settings.card, Verdict::Welcome);
        let hello = Hello { card, to: own.node, kind: Kind::Raft, verdict };
        let mut inlet = Inlet::new(peers.limits, Tick(0));
        inlet.receive(&hello.encode(), Tick(0), &mut |_| {}).expect("a greeting");
        inlet.answer(own, verdict);
        End::Inlet(Box::new(inlet))
    }

    /// Strangers that stay kept members out.
    #[test]
    fn one_stranger_more_takes_the_place_of_the_oldest() {
        let resolver = Resolver::start().expect("a thread");
        let (founders, urls) = (Vec::new(), Vec::new());
        let mut peers = Peers::new(PeerSettings { card: card(1), founders, urls, resolver });
        let shard = ShardId(0);
        let member = members(&peers);
        let (member, _) = peers.put(shard, None, member, Tick(0));
        let most = u64::try_from(STRANGERS_MAX).expect("they are few");
        for time in 1..=3 * most {
            let end = match time % 2 {
                0 => End::Pages(PeerPages::default()),
                _ => End::Inlet(Box::new(Inlet::new(peers.limits, Tick(time)))),
            };
            peers.make_room();
            peers.put(shard, None, end, Tick(time));
        }
        assert_eq!(peers.accepted(), STRANGERS_MAX + 1);
        let oldest = peers.slots.iter().flatten().filter(|slot| slot.is_strangers());
        let oldest = oldest.map(|slot| slot.began).min().expect("some");
        assert_eq!(oldest, Tick(2 * most + 1));
        assert!(peers.slot_at(member).is_some(), "a member is no stranger");
    }
}
