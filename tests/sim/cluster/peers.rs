//! A node's connections to the other members: the machines of `peer`, driven as the server's core
//! drives them.

use crate::dice::Dice;
use bytes::Bytes;
use ringd::peer::{Card, Hello, Inlet, Kind, Limits, Link, LinkOutput, Roster, Verdict};
use ringd::shard::peer::Packet;
use ringd::types::{NodeId, Tick};
use std::collections::BTreeMap;

/// One of ours, and what carries it.
struct Line {
    link: Link,
    conn: Option<u64>,
}

/// One that we were called by.
struct Call {
    inlet: Inlet,
    /// To be closed once the output is empty.
    closing: bool,
}

/// What is to be done about connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Call a member: which attempt of its link.
    Dial(NodeId, Kind, u64),
    /// Close a connection.
    Close(u64),
}

/// All of them.
pub(super) struct Peers {
    card: Card,
    limits: Limits,
    roster: Roster,
    /// The others, and the numbers of the nodes that their URLs name.
    others: BTreeMap<NodeId, Vec<usize>>,
    links: BTreeMap<(NodeId, Kind), Line>,
    calls: BTreeMap<u64, Call>,
    /// Where it is reached, as it tells the others.
    urls: Vec<String>,
    /// Where those who call say that they are.
    said: BTreeMap<NodeId, Vec<usize>>,
    luck: Dice,
    /// The node has a log that a restart finds: peers may be called.
    pub(super) met: bool,
    pub(super) acts: Vec<Act>,
    pub(super) heard: Vec<(NodeId, Bytes)>,
    pub(super) lost: Vec<NodeId>,
    /// Who ended the connection on which it speaks.
    pub(super) ended: Vec<NodeId>,
    pub(super) up: Vec<NodeId>,
    /// Members that say that this one was removed.
    pub(super) removed: Vec<NodeId>,
    /// Greetings that were not welcome, here or there.
    pub(super) refusals: Vec<Verdict>,
}

/// Where the peers of node `nth` find it.
pub(super) fn url(nth: usize) -> String {
    format!("http://n{nth}:2380")
}

fn number(url: &str) -> Option<usize> {
    url.strip_prefix("http://n")?.strip_suffix(":2380")?.parse().ok()
}

fn numbers(urls: &[String]) -> Vec<usize> {
    urls.iter().filter_map(|url| number(url)).collect()
}

impl Peers {
    pub(super) fn new(card: Card, limits: Limits, nth: usize, luck: Dice) -> Self {
        Self {
            card,
            limits,
            roster: Roster::default(),
            others: BTreeMap::new(),
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            urls: vec![url(nth)],
            said: BTreeMap::new(),
            luck,
            met: false,
            acts: Vec::new(),
            heard: Vec::new(),
            lost: Vec::new(),
            ended: Vec::new(),
            up: Vec::new(),
            removed: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// The others from now on.
    pub(super) fn set(&mut self, others: &[(NodeId, Vec<String>)], now: Tick) {
        self.roster.set(others.iter().map(|other| other.0));
        self.others = others.iter().map(|(id, urls)| (*id, numbers(urls))).collect();
        self.drop_strangers();
        others.iter().for_each(|(id, _)| self.add_links(*id, now));
    }

    /// The links to one of the others, if there are none yet.
    fn add_links(&mut self, id: NodeId, now: Tick) {
        for kind in [Kind::Raft, Kind::Bulk] {
            let Self { card, limits, urls, luck, .. } = self;
            self.links.entry((id, kind)).or_insert_with(|| {
                let link = Link::new(*card, id, kind, *limits, luck.next(), now);
                let link = if kind == Kind::Raft { link.with_urls(urls) } else { link };
                Line { link, conn: None }
            });
        }
    }

    /// Closes all connections with those who are neither members nor guests any more.
    fn drop_strangers(&mut self) {
        let roster = &self.roster;
        self.said.retain(|id, _| roster.hears(*id));
        let gone = self.links.extract_if(.., |key, _| !roster.hears(key.0));
        self.acts.extend(gone.filter_map(|(_, line)| line.conn.map(Act::Close)));
        let is_stranger = |call: &Call| call.inlet.peer().is_some_and(|(id, _)| !roster.hears(id));
        let strangers = self.calls.extract_if(.., |_, call| is_stranger(call));
        self.acts.extend(strangers.map(|(conn, _)| Act::Close(conn)));
    }

    /// Guests whose connections are over have left.
    fn dismiss_guests(&mut self) {
        let guests: Vec<NodeId> = self.roster.guests().collect();
        for id in guests {
            let is_here = |call: &Call| call.inlet.peer().is_some_and(|(from, _)| from == id);
            if !self.calls.values().any(is_here) {
                self.roster.dismiss(id);
                self.drop_strangers();
            }
        }
    }

    /// The shard has something to say.
    pub(super) fn say(&mut self, to: NodeId, packet: &Packet, now: Tick) {
        let kind = if packet.is_bulk() { Kind::Bulk } else { Kind::Raft };
        let Some(line) = self.links.get_mut(&(to, kind)) else { return };
        let is_taken = line.link.send(packet.encode(), now);
        if !is_taken && line.link.is_up() && !self.lost.contains(&to) {
            self.lost.push(to);
        }
    }

    pub(super) fn tick(&mut self, now: Tick) {
        if !self.met {
            return;
        }
        for line in self.links.values_mut() {
            line.link.tick(now);
        }
        let over = self.calls.extract_if(.., |_, call| call.inlet.tick(now).is_err());
        self.acts.extend(over.map(|(conn, _)| Act::Close(conn)));
        self.dismiss_guests();
        self.settle();
    }

    /// The number of the node that a link calls at this attempt; none if it wants none any more.
    pub(super) fn target(&self, to: NodeId, kind: Kind, attempt: u64) -> Option<usize> {
        let line = self.links.get(&(to, kind))?;
        let known = self.others.get(&to).map_or(&[][..], Vec::as_slice);
        let said = self.said.get(&to).map_or(&[][..], Vec::as_slice);
        let numbers: Vec<usize> = known.iter().chain(said).copied().collect();
        let count = u64::try_from(numbers.len()).expect("few");
        let nth = usize::try_from(attempt.checked_rem(count)?).expect("few");
        (line.link.attempt() == attempt).then(|| numbers[nth])
    }

    /// What became of a call; false if nobody wants the connection.
    pub(super) fn dialled(
        &mut self,
        (to, kind, attempt): (NodeId, Kind, u64),
        conn: Option<u64>,
        now: Tick,
    ) -> bool {
        let Some(line) = self.links.get_mut(&(to, kind)) else { return false };
        let is_wanted = match conn {
            Some(_) => line.link.connected(attempt, now),
            None => {
                line.link.failed(attempt, now);
                false
            }
        };
        if is_wanted {
            line.conn = conn;
        }
        self.settle();
        is_wanted
    }

    /// Somebody calls.
    pub(super) fn accept(&mut self, conn: u64, now: Tick) {
        let inlet = Inlet::new(self.limits, now);
        self.calls.insert(conn, Call { inlet, closing: false });
    }

    fn line_of(&mut self, conn: u64) -> Option<&mut Line> {
        self.links.values_mut().find(|line| line.conn == Some(conn))
    }

    /// Whether a connection is one of these.
    pub(super) fn owns(&self, conn: u64) -> bool {
        self.calls.contains_key(&conn) || self.links.values().any(|it| it.conn == Some(conn))
    }

    /// Bytes have come.
    pub(super) fn receive(
        &mut self,
        conn: u64,
        bytes: &[u8],
        now: Tick,
        has_removed: impl Fn(NodeId) -> bool,
    ) {
        if let Some(line) = self.line_of(conn) {
            line.link.receive(line.link.attempt(), bytes, now);
            return self.settle();
        }
        let Some(call) = self.calls.get_mut(&conn).filter(|call| !call.closing) else { return };
        let from = call.inlet.peer().map(|(from, _)| from);
        let heard = &mut self.heard;
        let mut sink = |payload| heard.extend(from.map(|from| (from, payload)));
        if let Err(fault) = call.inlet.receive(bytes, now, &mut sink) {
            call.inlet.answer_fault(self.card, fault);
            call.closing = true;
            return;
        }
        if let Some(hello) = call.inlet.asked().copied() {
            let verdict = self.roster.judge(&self.card, &hello, has_removed(hello.card.node));
            call.inlet.answer(self.card, verdict);
            if verdict == Verdict::Welcome {
                self.succeed(conn, &hello, now);
            } else {
                call.closing = true;
                self.refusals.push(verdict);
            }
        } else if let Some((from, urls)) = from.zip(call.inlet.take_urls())
            && self.roster.hears(from)
        {
            self.said.insert(from, numbers(&urls));
            self.add_links(from, now);
        }
    }

    /// A new connection takes the place of a former one, and shows that its member is there.
    fn succeed(&mut self, conn: u64, hello: &Hello, now: Tick) {
        let from = (hello.card.node, hello.kind);
        let is_former = |at: u64, call: &Call| at != conn && call.inlet.peer() == Some(from);
        let former = self.calls.extract_if(.., |at, call| is_former(*at, call));
        self.acts.extend(former.map(|(conn, _)| Act::Close(conn)));
        for kind in [Kind::Raft, Kind::Bulk] {
            if let Some(line) = self.links.get_mut(&(from.0, kind)) {
                line.link.hasten(now);
            }
        }
    }

    /// The other side has ended a connection.
    pub(super) fn ended(&mut self, conn: u64, now: Tick) {
        if let Some(line) = self.line_of(conn) {
            line.link.failed(line.link.attempt(), now);
            self.settle();
        } else if let Some(call) = self.calls.remove(&conn) {
            if let Some((peer, Kind::Raft)) = call.inlet.peer() {
                self.ended.push(peer);
            }
            self.acts.push(Act::Close(conn));
        }
    }

    /// Does what links ask for.
    fn settle(&mut self) {
        for ((to, kind), line) in &mut self.links {
            while let Some(output) = line.link.poll() {
                match output {
                    LinkOutput::Connect { attempt } => {
                        self.acts.push(Act::Dial(*to, *kind, attempt));
                    }
                    LinkOutput::Close { .. } => {
                        self.acts.extend(line.conn.take().map(Act::Close));
                    }
                    LinkOutput::Up if *kind == Kind::Raft => self.up.push(*to),
                    LinkOutput::Up => {}
                    LinkOutput::Lost(_) => self.lost.push(*to),
                    LinkOutput::Refused { verdict, .. } => {
                        self.refusals.push(verdict);
                        if verdict == Verdict::Removed {
                            self.removed.push(*to);
                        }
                    }
                }
            }
        }
    }

    /// Sends what there is: `send` takes some of the bytes for a connection, and says how many.
    pub(super) fn flush(&mut self, now: Tick, mut send: impl FnMut(u64, &[u8]) -> usize) {
        for line in self.links.values_mut() {
            let Some(conn) = line.conn else { continue };
            if !line.link.output().is_empty() {
                let n = send(conn, line.link.output());
                line.link.sent(n, now);
            }
        }
        for (conn, call) in &mut self.calls {
            if !call.inlet.output().is_empty() {
                let n = send(*conn, call.inlet.output());
                call.inlet.sent(n, now);
            }
        }
        let is_over = |call: &Call| call.closing && call.inlet.output().is_empty();
        let over = self.calls.extract_if(.., |_, call| is_over(call));
        self.acts.extend(over.map(|(conn, _)| Act::Close(conn)));
    }

    /// Who is reached and who is heard.
    pub(super) fn tell(&self) -> String {
        let reached = self.links.iter().filter(|it| it.1.link.is_up()).map(|it| it.0);
        let heard = self.calls.values().filter_map(|call| call.inlet.peer());
        let (reached, heard): (Vec<_>, Vec<_>) = (reached.collect(), heard.collect());
        format!("reaches {reached:x?}, hears {heard:x?}")
    }
}
