//! What the peer port accepts, from its first bytes to what it turns out to be.

use crate::api::About;
use crate::api::PeerPages;
use crate::config::Listed;
use crate::peer::Card;
use crate::peer::Hello;
use crate::peer::Inlet;
use crate::peer::Kind;
use crate::peer::MAGIC;
use crate::peer::Roster;
use crate::peer::Verdict;
use crate::peer::explain;
use crate::peer::format;
use crate::rt::core::Core;
use crate::rt::core::peers::ACCEPTED_MAX;
use crate::rt::core::peers::End;
use crate::rt::core::peers::Peers;
use crate::rt::core::peers::REFUSAL_LINE_AFTER;
use crate::rt::mesh::Message;
use crate::shard::request::Member;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Tick;
use glommio::net::TcpStream;
use std::rc::Rc;

/// Whether somebody was a member of a shard's group, and was removed.
type HasRemoved<'a> = dyn Fn(ShardId, NodeId) -> bool + 'a;

impl Core {
    /// Somebody has called the peer port, and said this much.
    pub(in crate::rt::core) fn accept_peer(
        self: &Rc<Self>,
        socket: socket2::Socket,
        said: Vec<u8>,
    ) {
        let now = self.clock.now();
        let mut peers = self.peers.borrow_mut();
        peers.make_room();
        if peers.accepted() >= ACCEPTED_MAX {
            tracing::warn!("a connection to the peer port was closed: there are too many");
            return;
        }
        let Ok(same) = socket.try_clone() else {
            return;
        };
        let stream = TcpStream::from(socket);
        let _ = stream.set_nodelay(true);
        let door = End::Door(Vec::new(), same);
        let (at, generation) = peers.put(ShardId(0), Some(stream), door, now);
        let goes_on = said.is_empty() || self.take_from_peer(&mut peers, at, &said);
        if goes_on {
            peers.after.read.push((at, generation));
        }
        peers.mark(at);
        drop(peers);
        self.settle_peers();
        self.turn.set();
    }

    /// Takes in what a connection has said; false if it has moved or is over.
    pub(super) fn take_from_peer(&self, peers: &mut Peers, at: u32, bytes: &[u8]) -> bool {
        let (now, card) = (self.clock.now(), peers.settings.card);
        let group = peers.groups.get(&ShardId(0));
        let heard = group.map_or_else(Vec::new, |group| group.roster.heard().collect());
        let founders = peers.settings.founders.clone();
        let Some(slot) = peers.slot_at(at) else {
            return false;
        };
        slot.heard = now;
        match &mut slot.end {
            End::Link(link) => {
                link.receive(link.attempt(), bytes, now);
                true
            }
            End::Inlet(_) => peers.hear(at, bytes, now, &|shard, id| self.has_removed(shard, id)),
            End::Pages(pages) => {
                pages.receive(bytes, &self.about(card, heard, founders));
                slot.closing |= pages.is_closed();
                // What it says to its end is not heard, so that it counts as silent.
                !slot.closing
            }
            End::Door(said, _) => {
                said.extend_from_slice(bytes);
                self.sort(peers, at)
            }
        }
    }

    /// Finds out what a connection is, if it has said enough.
    fn sort(&self, peers: &mut Peers, at: u32) -> bool {
        let (now, limits) = (self.clock.now(), peers.limits);
        let Some(slot) = peers.slot_at(at) else {
            return false;
        };
        let End::Door(said, _) = &mut slot.end else {
            return false;
        };
        let said = std::mem::take(said);
        let magic = said.len().min(MAGIC.len());
        if said[..magic] != MAGIC[..magic] {
            slot.end = End::Pages(PeerPages::default());
            return self.take_from_peer(peers, at, &said);
        }
        let Some(shard) = format::shard(&said) else {
            if let End::Door(kept, _) = &mut slot.end {
                *kept = said;
            }
            return true;
        };
        let home = self.mesh.homes.get(usize::try_from(shard.0).expect("usize is 64 bits"));
        match home {
            Some(home) if *home != self.index => {
                let core = usize::try_from(*home).expect("usize is 64 bits");
                if let Some(End::Door(_, same)) = peers.take_end(at) {
                    let _ = self.mesh.peers[core].try_send(Message::Peer(same, said));
                }
                false
            }
            // One that we do not host is told so by the answer.
            Some(_) | None => {
                slot.shard = if home.is_some() { shard } else { ShardId(0) };
                slot.end = End::Inlet(Box::new(Inlet::new(limits, now)));
                peers.hear(at, &said, now, &|shard, id| self.has_removed(shard, id))
            }
        }
    }

    /// Whether this one was a member of a shard's group, and was removed.
    fn has_removed(&self, shard: ShardId, id: NodeId) -> bool {
        let hosts = self.hosts.borrow();
        hosts.get(&shard).is_some_and(|host| host.shard.has_removed(id))
    }

    /// What the pages on the peer port tell.
    fn about(&self, card: Card, mut heard: Vec<NodeId>, founders: Vec<NodeId>) -> About {
        let listed = |member: &Member| Listed {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: member.learner,
        };
        let hosts = self.hosts.borrow();
        let shard = hosts.get(&ShardId(0)).map(|host| &host.shard);
        let members = shard.map(|shard| shard.members().iter().map(listed).collect());
        heard.extend(shard.into_iter().flat_map(|shard| shard.been_up()));
        heard.sort_unstable();
        heard.dedup();
        About { cluster: card.cluster, shards: card.shards, members, heard, founders }
    }
}

impl Peers {
    /// Removes a slot; what it was.
    fn take_end(&mut self, at: u32) -> Option<End> {
        let place = self.slots.get_mut(usize::try_from(at).expect("usize is 64 bits"))?;
        let slot = place.take()?;
        self.vacant.push(at);
        Some(slot.end)
    }

    /// The other side of a connection sends no more, or what carried it broke.
    pub(super) fn ended(&mut self, at: u32, now: Tick) {
        let Some(slot) = self.slot_at(at) else {
            return;
        };
        match &mut slot.end {
            End::Link(link) => {
                link.failed(link.attempt(), now);
                self.settle_link(at);
            }
            End::Pages(pages) => {
                pages.input_ended();
                slot.closing = true;
                self.mark(at);
            }
            End::Inlet(inlet) => {
                if let Some((peer, Kind::Raft)) = inlet.peer() {
                    let shard = slot.shard;
                    self.after.ended.push((shard, peer));
                }
                self.remove(at);
            }
            End::Door(..) => self.remove(at),
        }
    }

    /// The output is empty, or the socket is broken.
    pub(super) fn after_send(&mut self, at: u32, goes_on: bool, now: Tick) {
        let Some(slot) = self.slot_at(at) else {
            return;
        };
        if goes_on && !slot.closing {
            return;
        }
        match &mut slot.end {
            End::Link(link) => {
                link.failed(link.attempt(), now);
                self.settle_link(at);
            }
            End::Pages(_) | End::Inlet(_) | End::Door(..) => self.remove(at),
        }
    }

    /// Takes in what a member says; false if it is not to be read any more.
    fn hear(&mut self, at: u32, bytes: &[u8], now: Tick, has_removed: &HasRemoved<'_>) -> bool {
        let Some(slot) = self.slots[usize::try_from(at).expect("usize is 64 bits")].as_mut() else {
            return false;
        };
        let End::Inlet(inlet) = &mut slot.end else {
            return false;
        };
        let (shard, from) = (slot.shard, inlet.peer().map(|(from, _)| from));
        let heard = &mut self.after.heard;
        let mut sink = |payload| heard.extend(from.map(|from| (shard, from, payload)));
        let result = inlet.receive(bytes, now, &mut sink);
        if let Err(fault) = result {
            let card = Card { shard, ..self.settings.card };
            inlet.answer_fault(card, fault);
            slot.closing = true;
            let peer = from.map(|from| format!("{:x}", from.0));
            let is_news = self.faulted.is_none_or(|at| now.since(at) >= REFUSAL_LINE_AFTER);
            if from.is_some() || is_news {
                self.faulted = Some(now);
                tracing::warn!(shard = shard.0, peer, "a peer's connection is closed: {fault}");
            }
            return false;
        }
        if let Some(hello) = inlet.asked().copied() {
            return self.judge(at, &hello, now, has_removed(shard, hello.card.node));
        }
        if let Some((from, urls)) = from.zip(inlet.take_urls()) {
            self.is_reached(shard, from, &urls, now);
        }
        true
    }

    /// Answers a greeting; false if it is no welcome.
    fn judge(&mut self, at: u32, hello: &Hello, now: Tick, is_removed: bool) -> bool {
        let Some(slot) = self.slots[usize::try_from(at).expect("usize is 64 bits")].as_mut() else {
            return false;
        };
        let End::Inlet(inlet) = &mut slot.end else {
            return false;
        };
        let shard = slot.shard;
        let card = Card { shard, ..self.settings.card };
        let group = self.groups.get_mut(&shard);
        let verdict = match group {
            Some(group) => group.roster.judge(&card, hello, is_removed),
            None => {
                let verdict = Roster::default().judge(&card, hello, is_removed);
                if verdict == Verdict::Welcome { Verdict::Unknown } else { verdict }
            }
        };
        inlet.answer(card, verdict);
        if verdict != Verdict::Welcome {
            slot.closing = true;
            self.say_refused(&card, hello, verdict, now);
            return false;
        }
        self.succeed(at, hello);
        let from = hello.card.node;
        for kind in [Kind::Raft, Kind::Bulk] {
            let link = self.groups.get(&shard).and_then(|it| it.links.get(&(from, kind)).copied());
            if let Some(End::Link(link)) =
                link.and_then(|link| self.slot_at(link)).map(|slot| &mut slot.end)
            {
                link.hasten(now);
            }
        }
        true
    }

    /// Closes the connections that a new one takes the place of.
    fn succeed(&mut self, at: u32, hello: &Hello) {
        let count = u32::try_from(self.slots.len()).expect("peers are few");
        for other in (0..count).filter(|other| *other != at) {
            let is_former = self.slot_at(other).is_some_and(|slot| match &slot.end {
                End::Inlet(inlet) => {
                    slot.shard == hello.card.shard
                        && inlet.peer() == Some((hello.card.node, hello.kind))
                }
                End::Link(_) | End::Pages(_) | End::Door(..) => false,
            });
            if is_former {
                self.remove(other);
            }
        }
    }

    /// Says why a caller is not heard, but not each time.
    fn say_refused(&mut self, card: &Card, hello: &Hello, verdict: Verdict, now: Tick) {
        let Some(group) = self.groups.get_mut(&card.shard) else {
            return;
        };
        let caller = hello.card.node;
        let is_news = match group.refused {
            Some((id, last, at)) => {
                let is_other = (id, last) != (caller, verdict);
                is_other && now.since(at) >= REFUSAL_LINE_AFTER
            }
            None => true,
        };
        if is_news {
            group.refused = Some((caller, verdict, now));
            let why = explain(verdict, &hello.card, card).unwrap_or_default();
            tracing::warn!(shard = card.shard.0, "a caller is not heard: {why}");
        }
    }
}
