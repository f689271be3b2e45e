//! The notation of scripts about consensus: a group in memory, driven by hand.
//!
//! - `group VOTERS [pre_vote=off] [check_quorum=off] [leader_lease=on] [append_size_max=N]
//!   [cache_size_max=N]`: nodes 1 to VOTERS
//! - `join ID`: a node that knows nobody yet
//! - `campaign ID`, `propose ID DATA...`, `read ID`, `transfer ID TO`, `compact ID INDEX`
//! - `change ID add-voter|add-learner|promote|remove ID`
//! - `store ID`: its first store on its way is durable; `fetch ID`, `snapshot ID` likewise
//! - `tick TICKS`: so much later
//! - `deliver [from=ID] [to=ID]`, `drop ...`: the messages on their way, none added meanwhile
//! - `settle`: all that is on its way arrives, until nothing is
//! - `isolate ID`, `heal`, `crash ID`, `restart ID`
//! - `state`: what each node is; `network`: the messages on their way
//!
//! After each command come the outputs it led to, by node.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::Command;
use goldenscript::Context;
use goldenscript::Runner;

use crate::raft::Config;
use crate::raft::Input;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::Rejected;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::world::World;
use crate::world::say_membership;
use crate::world::say_message;

/// A script's group.
#[derive(Default)]
pub(crate) struct Script {
    world: Option<World>,
}

/// What a command was given.
struct Given<'a> {
    positional: Vec<&'a str>,
    keys: Vec<(&'a str, &'a str)>,
}

impl<'a> Given<'a> {
    fn of(command: &'a Command) -> Self {
        let mut args = command.consume_args();
        let mut given = Self { positional: Vec::new(), keys: Vec::new() };
        while let Some(value) = args.next_pos() {
            given.positional.push(value);
        }
        while let Some(pair) = args.next_key() {
            given.keys.push(pair);
        }
        given
    }

    fn word(&self, at: usize) -> Result<&'a str, Box<dyn Error>> {
        self.positional.get(at).copied().ok_or_else(|| "an argument is missing".into())
    }

    fn number(&self, at: usize) -> Result<u64, Box<dyn Error>> {
        Ok(self.word(at)?.parse()?)
    }

    fn id(&self, at: usize) -> Result<NodeId, Box<dyn Error>> {
        self.number(at).map(NodeId)
    }

    fn key(&self, name: &str) -> Result<Option<NodeId>, Box<dyn Error>> {
        let value = self.keys.iter().find(|pair| pair.0 == name);
        Ok(value.map(|pair| pair.1.parse()).transpose()?.map(NodeId))
    }
}

fn shape(config: &mut Config, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        let is_on = *value == "on";
        let number = || value.parse().expect("a limit is a number");
        match *key {
            "pre_vote" => config.pre_vote = is_on,
            "check_quorum" => config.check_quorum = is_on,
            "leader_lease" => config.leader_lease = is_on,
            "append_size_max" => config.append_size_max = number(),
            "cache_size_max" => config.cache_size_max = number(),
            other => panic!("no such knob: {other}"),
        }
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Box<dyn Error>> {
        let given = Given::of(command);
        let mut out = String::new();
        if command.name == "group" {
            self.world = Some(World::new(given.number(0)?, 1, |c| shape(c, &given.keys)));
        }
        let world = self.world.as_mut().ok_or("a script begins with its group")?;
        match command.name.as_str() {
            "group" => {}
            "state" => out += &state(world),
            "network" => {
                for packet in &world.network {
                    let text = say_message(&packet.message);
                    writeln!(out, "{} to {}: {text}", packet.from, packet.to)?;
                }
            }
            "deliver" | "drop" => pass(world, &given, command.name == "deliver")?,
            name => act(world, name, &given, &mut out)?,
        }
        for (id, member) in &mut world.members {
            for said in member.said.drain(..) {
                writeln!(out, "{id}: {said}")?;
            }
        }
        Ok(out)
    }
}

fn act(
    world: &mut World,
    name: &str,
    given: &Given<'_>,
    out: &mut String,
) -> Result<(), Box<dyn Error>> {
    match name {
        "tick" => world.advance(given.number(0)?),
        "settle" => world.settle(),
        "heal" => world.blocked.clear(),
        "isolate" => {
            let id = given.id(0)?;
            let others = world.ids();
            world.blocked.extend(others.iter().flat_map(|other| [(id, *other), (*other, id)]));
        }
        "join" => world.join(given.id(0)?, Membership::default(), |_| ()),
        "campaign" => world.handle(given.id(0)?, Input::Campaign),
        "store" if !world.store(given.id(0)?) => return Err("nothing to store".into()),
        "fetch" if !world.fetch(given.id(0)?) => return Err("nothing to fetch".into()),
        "snapshot" if !world.snapshot(given.id(0)?, true) => return Err("none asked for".into()),
        "store" | "fetch" | "snapshot" => {}
        "crash" => world.crash(given.id(0)?),
        "restart" => world.restart(given.id(0)?),
        "compact" => world.compact(given.id(0)?, LogIndex(given.number(1)?)),
        "read" => {
            if !world.read(given.id(0)?) {
                out.push_str("refused\n");
            }
        }
        _ => request(world, name, given, out)?,
    }
    Ok(())
}

/// What a node may refuse.
fn request(
    world: &mut World,
    name: &str,
    given: &Given<'_>,
    out: &mut String,
) -> Result<(), Box<dyn Error>> {
    let id = given.id(0)?;
    let node = world.member(id).node.as_mut().ok_or("the node is down")?;
    let mut refuse = |refused: Result<(), Rejected>| {
        if let Err(why) = refused {
            out.push_str(&format!("refused: {why}\n"));
        }
    };
    match name {
        "propose" => {
            for data in &given.positional[1..] {
                refuse(node.propose(Bytes::copy_from_slice(data.as_bytes())).map(|_| ()));
            }
        }
        "transfer" => refuse(node.transfer(given.id(1)?)),
        "change" => {
            let who = given.id(2)?;
            let change = match given.word(1)? {
                "add-voter" => MembershipChange::AddVoter(who),
                "add-learner" => MembershipChange::AddLearner(who),
                "promote" => MembershipChange::Promote(who),
                "remove" => MembershipChange::Remove(who),
                other => return Err(format!("no such change: {other}").into()),
            };
            refuse(node.propose_change(change, Bytes::new()).map(|_| ()));
        }
        other => return Err(format!("no such command: {other}").into()),
    }
    world.drain(id);
    Ok(())
}

/// Delivers or drops what is on its way now, of these nodes only.
fn pass(world: &mut World, given: &Given<'_>, is_delivered: bool) -> Result<(), Box<dyn Error>> {
    let (from, to) = (given.key("from")?, given.key("to")?);
    for packet in std::mem::take(&mut world.network) {
        let is_meant = from.is_none_or(|from| from == packet.from);
        if !is_meant || to.is_some_and(|to| to != packet.to) {
            world.network.push(packet);
        } else if is_delivered {
            world.deliver(packet);
        }
    }
    Ok(())
}

fn state(world: &World) -> String {
    let mut out = String::new();
    for (id, member) in &world.members {
        let Some(node) = &member.node else {
            out += &format!("{id}: down\n");
            continue;
        };
        let leader = node.leader().map_or("none".into(), |leader| leader.to_string());
        out += &format!(
            "{id}: {:?} term={} leader={leader} last={} durable={} committed={} applied={} {}\n",
            node.role(),
            node.term(),
            node.last(),
            node.durable(),
            node.committed(),
            member.applied,
            say_membership(node.membership()),
        );
        for peer in node.progress() {
            let (state, matched, next) = (peer.state, peer.matched, peer.next);
            out += &format!("   {}: {state:?} matched={matched} next={next}\n", peer.id);
        }
    }
    out
}
