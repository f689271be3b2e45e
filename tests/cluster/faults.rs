//! Three members under load and everything that may happen to them: killed, stopped, cut off, slow,
//! out of room. What clients were told is judged by the end, by what is here and by nothing of the
//! server's or the simulator's.
//!
//! Each kind of trouble comes once, in an order that `SEED` chooses; `FAULTS=n` makes it so many.

use crate::history::{Truth, is_linearizable, key, summary, value};
use crate::load::{Load, Notes, changes};
use crate::slow_disk::SlowDisk;
use crate::support::call::Client;
use crate::support::dice::Dice;
use crate::support::members::Members;
use crate::support::mount::Mount;
use crate::support::network::Fault;
use crate::support::peers::under_test;
use crate::support::{block_on, number, say};
use crate::{TRIES_MAX, all, clients, hash, status};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use ringd::api::proto::etcdserverpb::{RangeRequest, RangeResponse};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Members.
const COUNT: usize = 3;
/// Elections that are over soon, and small segments of the log.
const FLAGS: [&str; 3] =
    ["--heartbeat-interval=50", "--election-timeout=500", "--wal-segment-bytes=8388608"];
/// Changes that are acknowledged before a fault, under it if a majority is well, and after it.
const CHANGES: usize = 60;
/// Calls that end under a fault that leaves no majority.
const ENDED: usize = 24;
/// Bytes of the small disk: two segments of the log and the store's beginnings.
const DISK: &str = "size=48m";
/// Bytes of a piece of what fills the disk.
const PIECE_SIZE: usize = 64 << 10;
/// KiB that values have more then, so that what is left of the log is soon used up.
const SWOLLEN: u64 = 50;
/// The longest that a piece of what a slow direction says takes.
const SLOW: Duration = Duration::from_millis(40);

/// What may happen, by name, and how.
type Trouble = (&'static str, fn(&mut World));

/// All of it.
const TROUBLES: [Trouble; 17] = [
    ("the leader is killed", |world| {
        let leader = world.leader();
        world.kill(&[leader]);
    }),
    ("a follower is killed", |world| {
        let victim = world.follower();
        world.kill(&[victim]);
    }),
    ("two are killed", |world| {
        let leader = world.leader();
        world.kill(&[leader, (leader + 1) % COUNT]);
    }),
    ("all are killed", |world| world.kill(&[0, 1, 2])),
    ("the leader stops", |world| world.stop(world.leader())),
    ("a follower stops", |world| {
        let victim = world.follower();
        world.stop(victim);
    }),
    ("no connection to or from the leader", |world| {
        let leader = world.leader();
        world.network(Fault::Cut, |from, to| [from, to].contains(&leader), true);
    }),
    ("no connection to or from a follower", |world| {
        let victim = world.follower();
        world.network(Fault::Cut, |from, to| [from, to].contains(&victim), true);
    }),
    ("nothing that the leader says arrives, until later", |world| {
        let leader = world.leader();
        world.network(Fault::Held, |from, _| from == leader, true);
    }),
    ("nothing that the others say to the leader arrives, until later", |world| {
        let leader = world.leader();
        world.network(Fault::Held, |_, to| to == leader, true);
    }),
    ("nothing that a follower says arrives, until later", |world| {
        let victim = world.follower();
        world.network(Fault::Held, |from, _| from == victim, true);
    }),
    ("no two hear each other", |world| world.network(Fault::Cut, |_, _| true, false)),
    ("a slow network", |world| world.network(Fault::Slow(SLOW), |_, _| true, true)),
    ("a torn network", |world| world.network(Fault::Torn, |_, _| true, false)),
    ("another is to lead", |world| world.move_leader(world.leader())),
    // The first member's is no disk.
    ("a slow disk", |world| world.slow_disk(world.leader().max(1))),
    ("a full disk", World::full_disk),
];

/// The cluster, its disk that can be full, and who asks it.
struct World {
    members: Members,
    ids: Vec<u64>,
    /// The disk of the first member, where one may mount.
    disk: Option<Mount>,
    load: Load,
    dice: Dice,
}

impl World {
    fn start(seed: u64) -> Self {
        let disk = Mount::new("tmpfs", DISK);
        let homes: BTreeMap<usize, PathBuf> = disk.iter().map(|disk| (0, disk.data())).collect();
        let members = Members::start_with(&under_test(), COUNT, &FLAGS, Some(seed), &homes);
        let ids = block_on(async {
            let mut ids = Vec::new();
            for client in &clients(&members).await {
                ids.push(status(client).await.0);
            }
            ids
        });
        let load = Load::start(members.all_ports(), seed);
        Self { members, ids, disk, load, dice: Dice::new(seed) }
    }

    /// The number of the leader, as soon as a member that runs knows one.
    fn leader(&self) -> usize {
        block_on(async {
            for _ in 0..TRIES_MAX {
                for client in &clients(&self.members).await {
                    let (_, leader) = status(client).await;
                    if let Some(found) = self.ids.iter().position(|id| *id == leader) {
                        return found;
                    }
                }
                crate::support::pause(SLOW).await;
            }
            panic!("there is no leader")
        })
    }

    /// One that does not lead.
    fn follower(&mut self) -> usize {
        let leader = self.leader();
        (leader + 1 + self.dice.index(COUNT - 1)) % COUNT
    }

    /// Directions between members.
    fn links(&self, are_meant: impl Fn(usize, usize) -> bool) -> Vec<(u64, usize)> {
        let all = (0..COUNT).flat_map(|from| (0..COUNT).map(move |to| (from, to)));
        let meant = all.filter(|&(from, to)| from != to && are_meant(from, to));
        meant.map(|(from, to)| (self.ids[from], to)).collect()
    }

    /// Has a fault in these directions for a while.
    fn network(&self, fault: Fault, are_meant: impl Fn(usize, usize) -> bool, is_quorum: bool) {
        self.members.network().set(self.links(are_meant).into_iter().map(|link| (link, fault)));
        self.under(is_quorum);
        self.members.network().set([]);
    }

    /// Lets clients go on under a fault.
    fn under(&self, is_quorum: bool) {
        if is_quorum {
            self.load.acknowledged(CHANGES);
        } else {
            self.load.ended(ENDED);
        }
    }

    fn kill(&mut self, victims: &[usize]) {
        for &victim in victims {
            self.members.kill(victim);
        }
        // Where nobody is, no call even begins.
        if victims.len() < COUNT {
            self.under(victims.len() <= COUNT / 2);
        }
        self.members.restart_these(victims);
    }

    /// Stops a member where it is, and lets it go on.
    fn stop(&self, victim: usize) {
        self.members.signal(victim, Signal::STOP);
        self.under(true);
        self.members.signal(victim, Signal::CONT);
    }

    fn move_leader(&self, leader: usize) {
        let target_id = self.ids[(leader + 1) % COUNT];
        block_on(async {
            let client = Client::connect(self.members.all_ports()[leader]).await;
            let path = "/etcdserverpb.Maintenance/MoveLeader";
            let asked = MoveLeaderRequest { target_id };
            let moved = client.expect("it answers").unary::<MoveLeaderResponse>(path, &asked).await;
            // Another may have been elected meanwhile.
            if let Err(status) = moved {
                say(format_args!("leadership was not moved: {}", status.message));
            }
        });
        self.under(true);
    }

    fn slow_disk(&self, victim: usize) {
        let data = self.members.data(victim);
        let Some(slow) = SlowDisk::of(self.members.pid(victim), &data) else { return };
        self.under(true);
        drop(slow);
    }

    /// Fills the disk of the first member: it ends, and says why; the others go on.
    fn full_disk(&mut self) {
        let Some(disk) = &self.disk else { return };
        let filler = disk.data().with_file_name("filler");
        let mut file = File::create(&filler).expect("the disk can be written");
        // Past the last whole piece too, and on, as what the member gives back is room again.
        let piece = vec![1; PIECE_SIZE];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..512]).is_ok() {}
        drop(file);
        self.load.swell(SWOLLEN);
        let mut rounds = 0..TRIES_MAX * 10;
        while self.members.is_running(0) {
            assert!(rounds.next().is_some(), "a member runs on without room");
            self.load.acknowledged(CHANGES);
        }
        self.load.swell(0);
        let (is_well, log) = self.members.ended(0);
        let is_told = log.contains("No space left on device") && log.contains("make space");
        assert!(!is_well && is_told, "it says what is wrong:\n{log}");
        self.under(true);
        std::fs::remove_file(filler).expect("it is there");
        self.members.restart(0);
    }

    /// Sees that nothing is wrong with what clients were told.
    fn judge(self) {
        let Self { members, load, .. } = self;
        let Notes { records, changes: watched } = load.end();
        say(format_args!("{}; {} watched", summary(&records), watched.len()));
        is_linearizable(&records);
        block_on(async {
            let clients = clients(&members).await;
            // What nobody knows of may still come, after this.
            let (_, revision) = all(&clients[0]).await;
            let told = changes(&clients[0], revision).await;
            let truth = Truth::new(&told);
            truth.agrees_with(&records);
            truth.was_told(&watched);
            let due = truth.end().into_iter().map(|(number, held)| (key(number), value(held)));
            let due: BTreeMap<_, _> = due.collect();
            let first = hash(&clients[0], revision).await;
            for client in &clients {
                assert!(all(client).await.1 >= revision, "each reads the present");
                assert_eq!(rows_at(client, revision).await, due, "what was put last is there");
                assert_eq!(hash(client, revision).await, first, "each has the same history");
                assert_eq!(changes(client, revision).await, told, "each tells the same");
            }
        });
    }
}

/// All keys and values at a revision, as one member has them.
async fn rows_at(client: &Client, revision: i64) -> BTreeMap<Bytes, Bytes> {
    let every =
        RangeRequest { key: "k/".into(), range_end: "k0".into(), revision, ..Default::default() };
    let answer = client.unary::<RangeResponse>("/etcdserverpb.KV/Range", &every).await;
    answer.expect("an answer").kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[test]
fn what_clients_are_told_is_true_whatever_happens_to_the_members() {
    let seed = number("SEED", 1);
    let count = usize::try_from(number("FAULTS", 17)).expect("a small number");
    let mut world = World::start(seed);
    let mut left = Vec::new();
    for nth in 0..count {
        if left.is_empty() {
            left.extend(TROUBLES);
        }
        let (name, happens) = left.swap_remove(world.dice.index(left.len()));
        say(format_args!("SEED={seed}, trouble {nth}: {name}"));
        happens(&mut world);
        world.load.acknowledged(CHANGES);
    }
    world.judge();
}
