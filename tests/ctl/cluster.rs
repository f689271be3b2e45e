//! Three members: what both clients say of them, of changes of them, and of those that are gone.
//!
//! Both ask one cluster, in turn; what one has changed is changed back before the other comes.

use crate::pair::{Told, timeless, told};
use crate::support::members::Members;
use crate::support::peers;
use crate::support::say;
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Members may be added as soon as the others are there.
const FLAGS: [&str; 1] = ["--strict-reconfig-check=false"];
/// Times that something is asked that comes true after a while.
const TRIES_MAX: usize = 2000;
/// Where nobody listens, for members that are never started; another place each time, as etcd makes
/// a member's id of its URLs and the second, and one that is gone does not come back.
const NOWHERE: &str = "--peer-urls=http://127.0.0.1:$PORT";
/// Before the first of those ports, which begin like none that is drawn.
const NOWHERE_PORT: u16 = 10_000;

/// A cluster and both clients.
struct Cluster {
    members: Members,
    theirs: PathBuf,
    ours: PathBuf,
    /// The last port where nobody listens.
    nowhere: Cell<u16>,
}

impl Cluster {
    fn command(&self, client: &Path, arguments: &[&str]) -> Command {
        let all: Vec<_> =
            self.members.all_ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut command = Command::new(client);
        if !arguments.iter().any(|word| word.starts_with("--endpoints")) {
            command.args(["--endpoints", &all.join(",")]);
        }
        if arguments.iter().any(|word| word.contains("$PORT")) {
            self.nowhere.set(self.nowhere.get() + 1);
        }
        let port = self.nowhere.get().to_string();
        command.args(arguments.iter().map(|word| word.replace("$PORT", &port)));
        command
    }

    /// What a client does, without what differs from call to call.
    fn told(&self, client: &Path, arguments: &[&str]) -> Told {
        let plain = |text: &str| timeless(unescaped(text));
        told(self.command(client, arguments), arguments, b"", plain)
    }

    /// Both say the same.
    fn same(&self, arguments: &[&str]) -> Told {
        let theirs = self.told(&self.theirs, arguments);
        let ours = self.told(&self.ours, arguments);
        assert_eq!(ours, theirs, "ringctl, then etcdctl: {arguments:?}");
        ours
    }

    fn same_in_formats(&self, arguments: &[&str], formats: &[&str]) {
        for format in formats {
            for hex in ["--hex=false", "--hex"] {
                self.same(&[arguments, &["-w", format, hex]].concat());
            }
        }
    }

    /// What etcdctl prints as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let mut command = self.command(&self.theirs, &[arguments, &["-w", "json"]].concat());
        let output = command.output().expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The ids of the members, in hexadecimal, and where clients find each; who leads is first.
    fn ids(&self) -> Vec<(String, String)> {
        let statuses = self.json(&["endpoint", "status", "--cluster"]);
        let mut ids: Vec<_> = statuses
            .as_array()
            .expect("one for each")
            .iter()
            .map(|of| {
                let id = of["Status"]["header"]["member_id"].as_u64().expect("it has one");
                let leads = of["Status"]["leader"].as_u64() == Some(id);
                (!leads, format!("{id:x}"), of["Endpoint"].as_str().expect("text").to_owned())
            })
            .collect();
        ids.sort();
        assert!(!ids[0].0 && ids[1..].iter().all(|it| it.0), "one leads: {statuses}");
        ids.into_iter().map(|(_, id, endpoint)| (id, endpoint)).collect()
    }

    /// Has each client change something, undoes it, and compares. `$NEW` is a learner that is added
    /// for it.
    fn same_of_a_change(&self, change: &[&str]) {
        let one = format!("--endpoints=127.0.0.1:{}", self.members.all_ports()[0]);
        let [theirs, ours] = [&self.theirs, &self.ours].map(|client| {
            let mut change = change.to_vec();
            let new = change.contains(&"$NEW").then(|| self.add());
            for word in change.iter_mut().filter(|word| **word == "$NEW") {
                *word = new.as_deref().expect("it was added");
            }
            // Whoever answers names itself.
            change.push(&one);
            let mut told = told(self.command(client, &change), &change, b"", unescaped);
            let ids: Vec<_> = self.unstarted().into_iter().chain(new.clone()).collect();
            let port = format!(":{}", self.nowhere.get());
            told.printed = without(&ids, &told.printed).replace(&port, ":PORT");
            self.remove_the_unstarted();
            told
        });
        assert_eq!(ours, theirs, "ringctl, then etcdctl: {change:?}");
    }

    /// Adds a learner that is never started; its id.
    fn add(&self) -> String {
        let added = self.told(&self.theirs, &["member", "add", "new", NOWHERE, "--learner"]);
        assert_eq!(added.code, Some(0), "{added:?}");
        let [id] = &self.unstarted()[..] else { panic!("there is one") };
        id.clone()
    }

    /// Removes every member that was never started.
    fn remove_the_unstarted(&self) {
        for id in self.unstarted() {
            let removed = self.told(&self.theirs, &["member", "remove", &id]);
            assert_eq!(removed.code, Some(0), "{removed:?}");
        }
    }

    fn unstarted(&self) -> Vec<String> {
        let list = self.json(&["member", "list"]);
        let members = list["members"].as_array().expect("there are some").iter();
        let new = members.filter(|member| member["name"].is_null());
        new.map(|member| format!("{:x}", member["ID"].as_u64().expect("it has one"))).collect()
    }
}

/// A text that was shown with escapes.
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// A text without these ids, the names that nobody chose, and the order of what is sorted by id.
fn without(ids: &[String], text: &str) -> String {
    let mut text = text.to_owned();
    for id in ids {
        let number = u64::from_str_radix(id, 16).expect("an id");
        // As most ids are by now: one that begins with five zeros is too short for that.
        text = text.replace(&format!("{id:>16}"), "LEASE").replace(id, "LEASE");
        text = text.replace(&number.to_string(), "LEASE");
    }
    let sorted = |line: &str| match line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
        Some(all) => {
            let mut all: Vec<_> = all.trim_matches('"').split(',').collect();
            all.sort_unstable();
            format!("{all:?}")
        }
        None => in_order(line),
    };
    text.lines().map(sorted).collect::<Vec<_>>().join("\n")
}

/// A line of JSON with its list of members in another order; any other as it is.
fn in_order(line: &str) -> String {
    let parts = line.split_once("\"members\":[{").and_then(|(head, rest)| {
        let (members, tail) = rest.rsplit_once("}]")?;
        Some((head, members, tail))
    });
    let Some((head, members, tail)) = parts else { return line.to_owned() };
    let mut members: Vec<_> = members.split("},{").collect();
    members.sort_unstable();
    format!("{head}{members:?}{tail}")
}

/// Tries something on three members of each kind of server.
fn with_clusters(test: impl Fn(&mut Cluster)) {
    let Some(theirs) = peers::installed("etcdctl") else {
        return say("clusters: skipped, etcdctl is not in target/peers/bin");
    };
    for program in [Some(peers::under_test()), peers::installed("etcd")].into_iter().flatten() {
        let members = Members::start_of(&program, 3, &FLAGS);
        let (theirs, ours, nowhere) = (theirs.clone(), peers::ringctl(), Cell::new(NOWHERE_PORT));
        let mut cluster = Cluster { members, theirs, ours, nowhere };
        // Each says who it is once it serves.
        let mut rounds = 0..TRIES_MAX;
        while !cluster.unstarted().is_empty() {
            assert!(rounds.next().is_some(), "a member does not say who it is");
        }
        test(&mut cluster);
    }
}

const ALL: [&str; 5] = ["simple", "json", "fields", "table", "protobuf"];

#[test]
fn three_members_are_told_alike() {
    with_clusters(|cluster| {
        cluster.same(&["put", "a", "1"]);
        for consistency in ["l", "s"] {
            cluster.same_in_formats(&["member", "list", "--consistency", consistency], &ALL);
        }
        cluster.same_in_formats(&["endpoint", "hashkv", "--cluster"], &ALL);
        cluster.same_in_formats(&["endpoint", "status", "--cluster"], &["json", "fields"]);
        cluster.same_in_formats(&["endpoint", "status"], &["json", "fields"]);
        for client in [&cluster.theirs, &cluster.ours] {
            let health = cluster.told(client, &["endpoint", "health", "--cluster"]);
            let well = health.printed.lines().filter(|line| line.contains("is healthy")).count();
            assert_eq!((health.code, well), (Some(0), 3), "{health:?}");
            let table = cluster.told(client, &["endpoint", "status", "--cluster", "-w", "table"]);
            let rows = table.printed.lines().filter(|line| line.contains("127.0.0.1:")).count();
            assert_eq!((table.code, rows), (Some(0), 3), "{table:?}");
        }
        let ids = cluster.ids();
        let one = format!("--endpoints={}", ids[1].1);
        cluster.same_in_formats(&["endpoint", "hashkv", "--cluster", &one], &["simple"]);
        cluster.same(&["move-leader", &ids[2].0, &one]);
        cluster.same(&["move-leader", "1"]);
        for format in ALL {
            let ids = cluster.ids();
            let moved = |client: &Path, to: &str| {
                let line = ["move-leader", to, "-w", format];
                told(cluster.command(client, &line), &line, b"", |text| {
                    let ids = ids.iter();
                    ids.fold(text.to_owned(), |text, (id, _)| text.replace(id, "MEMBER"))
                })
            };
            // One moves it there, the other back.
            let there = moved(&cluster.theirs, &ids[1].0);
            assert_eq!(moved(&cluster.ours, &ids[0].0), there, "{format}");
        }
    });
}

#[test]
fn changes_of_members_are_told_alike() {
    with_clusters(|cluster| {
        let urls = "--peer-urls=http://127.0.0.1:$PORT,http://127.0.0.2:$PORT";
        for format in ["simple", "json", "fields", "table"] {
            for hex in ["--hex=false", "--hex"] {
                for change in [
                    &["add", "new", NOWHERE, "--learner"][..],
                    &["update", "$NEW", urls],
                    &["promote", "$NEW"],
                    &["remove", "$NEW"],
                ] {
                    let change = [&["member"], change, &["-w", format, hex]].concat();
                    cluster.same_of_a_change(&change);
                }
            }
        }
        cluster.same_of_a_change(&["member", "add", "new", NOWHERE]);
        cluster.same_of_a_change(&["member", "add", "a \"b\"", urls, "--learner"]);
    });
}

#[test]
fn learners_that_have_caught_up_are_promoted_alike() {
    with_clusters(|cluster| {
        let [ours, theirs] = [cluster.ours.clone(), cluster.theirs.clone()].map(|client| {
            let (nth, url) = cluster.members.grow();
            let urls = format!("--peer-urls={url}");
            let added = cluster.told(&client, &["member", "add", "new", &urls, "--learner"]);
            assert_eq!(added.code, Some(0), "{added:?}");
            let [id] = &cluster.unstarted()[..] else { panic!("there is one") };
            let id = id.clone();
            cluster.members.restart(nth);
            let promote = ["member", "promote", &id];
            let promoted = (0..TRIES_MAX).find_map(|_| {
                let told = cluster.told(&client, &promote);
                let is_late = told.said.contains("in sync with leader");
                (!is_late).then_some(told)
            });
            let told = promoted.expect("it catches up");
            let list = cluster.told(&client, &["member", "list"]);
            assert_eq!(list.printed.matches(", false").count(), nth + 1, "{list:?}");
            let printed = without(&[id], &told.printed);
            Told { printed, ..told }
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours.code, Some(0), "{ours:?}");
    });
}

#[test]
fn changes_that_cannot_be_are_refused_alike() {
    with_clusters(|cluster| {
        let ids = cluster.ids();
        let id = ids[1].0.clone();
        let taken = cluster.json(&["member", "list"])["members"][0]["peerURLs"][0].clone();
        let taken = format!("--peer-urls={}", taken.as_str().expect("text"));
        for arguments in [
            &["member", "add"][..],
            &["member", "add", "a"],
            &["member", "add", "a", "http://b:1"],
            &["member", "add", "a", "HTTP://b:1", "c", NOWHERE],
            &["member", "add", "a", "--peer-urls=b"],
            &["member", "add", "a", "--peer-urls=b:1"],
            &["member", "add", "a", "--peer-urls=1.2.3.4:1"],
            &["member", "add", "a", "--peer-urls=http://b"],
            &["member", "add", "a", "--peer-urls=http://b:1/c"],
            &["member", "add", "a", "--peer-urls=http://b:c"],
            &["member", "add", "a", "--peer-urls=http://b:1,"],
            &["member", "add", "a", &taken],
            &["member", "add", "a", &taken, "--learner"],
            &["member", "remove"],
            &["member", "remove", "x"],
            &["member", "remove", "1"],
            &["member", "remove", &id, &id],
            &["member", "update", &id],
            &["member", "update", "1", NOWHERE],
            &["member", "update", &id, "--peer-urls=b"],
            &["member", "promote"],
            &["member", "promote", "1"],
            &["member", "promote", &id],
            &["move-leader"],
            &["move-leader", "x"],
        ] {
            let refused = cluster.same(arguments);
            assert!(refused.code.is_some_and(|code| code != 0), "{arguments:?}: {refused:?}");
        }
        // One learner is enough.
        let add = ["member", "add", "new", NOWHERE, "--learner"];
        assert_eq!(cluster.told(&cluster.theirs, &add).code, Some(0));
        let [learner] = &cluster.unstarted()[..] else { panic!("there is one") };
        cluster.same(&["member", "add", "b", "--peer-urls=http://127.0.0.2:1", "--learner"]);
        cluster.same(&["member", "promote", learner]);
        cluster.same(&["move-leader", learner]);
        cluster.remove_the_unstarted();
    });
}

#[test]
fn members_that_are_gone_are_told_alike() {
    with_clusters(|cluster| {
        let all = cluster.members.all_ports();
        let first = format!("--endpoints=127.0.0.1:{}", all[0]);
        let quick = "--command-timeout=1s";
        cluster.members.kill(2);
        // It may have led: a list of members waits for those that are left to agree on another, and
        // what was asked before that is lost at etcd. So the first question is one that asks again.
        cluster.same(&["get", "a", &first]);
        for verb in ["status", "hashkv"] {
            let gone = cluster.same(&["endpoint", verb, "--cluster", &first, quick, "-w", "json"]);
            assert_eq!(gone.code, Some(1), "{gone:?}");
        }
        cluster.members.kill(1);
        let list = ["member", "list", "--consistency"];
        cluster.same(&[&list[..], &["s", &first]].concat());
        for arguments in [
            &[&list[..], &["l"]].concat()[..],
            &["put", "a", "1"],
            &["get", "a"],
            &["endpoint", "health"],
            &["member", "remove", "1"],
        ] {
            cluster.same(&[arguments, &[&first, quick]].concat());
        }
        cluster.same(&["endpoint", "hashkv", &first, "-w", "json"]);
    });
}
