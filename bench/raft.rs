//! How long consensus takes over one entry, all I/O being free: a group of one, and of three.
//!
//! Prints nanoseconds per entry and a hash of the work. Tiny unless `--bench` is passed.
#![expect(clippy::print_stdout, reason = "a benchmark prints its numbers")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use ringd::raft::Config;
use ringd::raft::Entry;
use ringd::raft::Input;
use ringd::raft::Membership;
use ringd::raft::Node;
use ringd::raft::Output;
use ringd::raft::Restored;
use ringd::raft::Role;
use ringd::types::NodeId;
use ringd::types::Tick;

/// Bytes of each command.
const COMMAND_SIZE: usize = 300;

/// The group, its disks done as soon as asked, its network in order.
struct Group {
    nodes: Vec<Node>,
    network: VecDeque<(usize, Input)>,
    hash: u64,
    committed: u64,
}

impl Group {
    fn new(count: u64) -> Self {
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let node = |id: &NodeId| {
            let membership = Membership::new(&ids, &[]);
            let restored = Restored { membership, ..Restored::default() };
            Node::new(Config::new(*id), restored, id.0)
        };
        let nodes = ids.iter().map(node).collect();
        let mut group = Self { nodes, network: VecDeque::new(), hash: 0, committed: 0 };
        for at in 0..group.nodes.len() {
            group.nodes[at].handle(Input::Tick(Tick(1)));
            group.drain(at);
        }
        group.nodes[0].handle(Input::Campaign);
        group.drain(0);
        group.settle();
        assert!(group.nodes[0].role() == Role::Leader, "the first node leads");
        group
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].poll() {
            match output {
                Output::Store { ticket, entries, .. } => {
                    // The disk would copy the entries here.
                    drop(entries);
                    self.network.push_back((at, Input::Stored { ticket }));
                }
                Output::Send { to, message } => {
                    let from = self.nodes[at].id();
                    let to = usize::try_from(to.0 - 1).expect("a few nodes");
                    self.network.push_back((to, Input::Message { from, message }));
                }
                Output::Commit { entries } if at == 0 => self.apply(&entries),
                Output::Commit { .. }
                | Output::Read { .. }
                | Output::ReadLost { .. }
                | Output::Fetch { .. }
                | Output::Membership { .. }
                | Output::Role { .. }
                | Output::SendSnapshot { .. }
                | Output::InstallSnapshot { .. } => {}
            }
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            let mixed = self.hash ^ entry.index.0 ^ entry.data.len() as u64;
            self.hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
            self.committed += 1;
        }
    }

    fn settle(&mut self) {
        while let Some((at, input)) = self.network.pop_front() {
            self.nodes[at].handle(input);
            self.drain(at);
        }
    }
}

fn measure(count: u64, batch: usize, entries: usize) {
    let mut group = Group::new(count);
    let batches = entries / batch;
    let commands: Vec<Bytes> = (0..batch).map(|_| Bytes::from(vec![7; COMMAND_SIZE])).collect();
    let begin = Instant::now();
    for _ in 0..batches {
        for command in &commands {
            group.nodes[0].propose(command.clone()).expect("a leader takes proposals");
        }
        group.drain(0);
        group.settle();
    }
    let total = begin.elapsed().as_nanos();
    let each = total / (batches * batch) as u128;
    let (hash, committed) = (group.hash, group.committed);
    println!(
        "raft group={count} batch={batch:4}: {each:5} ns/entry, {committed} done, {hash:016x}"
    );
}

fn main() {
    let is_real = std::env::args().any(|argument| argument == "--bench");
    let entries = if is_real { 2_000_000 } else { 2_000 };
    for count in [1, 3] {
        for batch in [1, 10, 100, 1000] {
            measure(count, batch, entries);
        }
    }
}
