//! Which member leads which shard, as `ringctl shards` tells it.

use crate::RUN;
use crate::support::members::{Members, TWO_SHARDS};
use crate::support::peers;
use crate::support::process::run;
use crate::support::say;
use crate::support::server::Server;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

/// Times that something is asked that comes true after a while.
const TRIES_MAX: usize = 2000;

fn ringctl(ports: &[u16], arguments: &[&str]) -> Output {
    let endpoints: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut command = Command::new(peers::ringctl());
    command.args(["--endpoints", &endpoints.join(",")]).args(arguments);
    run(&mut command, RUN).unwrap_or_else(|why| panic!("{arguments:?}: {why}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is printed as JSON.
fn rows(ports: &[u16]) -> Vec<Value> {
    let output = ringctl(ports, &["shards", "-w", "json"]);
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    printed.as_array().expect("a list").clone()
}

/// Who leads a shard, if all agree on that.
fn leader(rows: &[Value], shard: u64) -> Option<u64> {
    let rows: Vec<_> = rows.iter().filter(|row| row["shard"] == shard).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    let leaders: BTreeSet<_> = rows.iter().map(|row| row["leader"].as_u64()).collect();
    let leader = leaders.first().copied().flatten().filter(|_| leaders.len() == 1)?;
    let leads = |row: &&&Value| row["isLeader"] == true;
    let leading: Vec<_> = rows.iter().filter(leads).map(|row| &row["member_id"]).collect();
    assert_eq!(leading, [leader], "who leads says so itself");
    Some(leader)
}

#[test]
fn each_shard_of_each_member_is_told_with_its_leader() {
    let mut members = Members::start(3, &[TWO_SHARDS]);
    let (first, second) = (members.ports(), members.second_ports());
    let all = rows(&first);
    let ids: BTreeSet<_> = all.iter().map(|row| row["member_id"].as_u64().expect("id")).collect();
    assert_eq!((all.len(), ids.len()), (6, 3), "{all:?}");
    for (row, due) in all.iter().zip([0, 0, 0, 1, 1, 1]) {
        let ports = if due == 0 { &first } else { &second };
        let name = row["name"].as_str().and_then(|name| name.strip_prefix('m')).expect("a name");
        let port = ports[name.parse::<usize>().expect("a number")];
        assert_eq!(row["shard"], due, "{all:?}");
        assert_eq!(row["endpoint"], format!("http://127.0.0.1:{port}"));
        for field in ["raftTerm", "raftIndex", "raftAppliedIndex"] {
            assert!(row[field].as_u64().is_some_and(|number| number > 0), "{row:?}");
        }
    }
    // Another is to lead the second one, and the first one goes on as it was.
    let before = (leader(&all, 0).expect("a leader"), leader(&all, 1).expect("a leader"));
    let next = ids.iter().find(|id| **id != before.1).expect("there are three");
    let moved = ringctl(&second, &["move-leader", &format!("{next:x}")]);
    assert!(moved.status.success(), "{moved:?}");
    // It is told alike whichever shard is asked.
    let told = (0..TRIES_MAX).find(|_| leader(&rows(&second), 1) == Some(*next));
    assert!(told.is_some(), "the second shard has another leader");

    let table = text(&ringctl(&first, &["shards", "-w", "table"]).stdout);
    for head in ["SHARD", "MEMBER", "IS LEADER", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX"] {
        assert!(table.contains(head), "{table}");
    }
    assert_eq!(table.matches(" true │").count(), 2, "{table}");
    let simple = text(&ringctl(&first, &["shards"]).stdout);
    assert_eq!(simple.lines().filter(|line| line.split(", ").count() == 8).count(), 6, "{simple}");

    // Who is away is told apart, and the others are told all the same.
    members.kill(2);
    let output = ringctl(&first[..2], &["shards"]);
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("(\"m2\"): http://127.0.0.1"), "{said}");
    assert_eq!(printed.lines().count(), 4, "{printed}");
}

#[test]
fn a_server_without_shards_is_told_as_that() {
    let Some(etcd) = peers::installed("etcd") else {
        return say("shards of etcd: skipped, it is not in target/peers/bin");
    };
    let server = Server::start(&etcd);
    let output = ringctl(&[server.port()], &["shards"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it has no /shards: it is no ringd"), "{said}");
}
