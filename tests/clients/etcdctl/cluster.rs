//! Three members under etcdctl: what it shows of them, changes of them, and who leads.

use crate::etcdctl::Etcdctl;
use crate::support::members::Members;
use serde_json::Value;

/// Times that a member that was just started is told to be promoted.
const PROMOTIONS_MAX: usize = 500;

fn etcdctl(members: &Members) -> Etcdctl {
    let all = members.all_ports().into_iter().map(|port| format!("127.0.0.1:{port}"));
    Etcdctl::at(all.collect::<Vec<_>>().join(","))
}

/// The members' ids, in hexadecimal, by their names.
fn id(list: &Value, name: &str) -> String {
    let members = list["members"].as_array().expect("there are some");
    let found = members.iter().find(|member| member["name"].as_str().unwrap_or("") == name);
    let id = found.unwrap_or_else(|| panic!("no {name:?} in {list}"))["ID"].as_u64();
    format!("{:x}", id.expect("it has an id"))
}

#[test]
fn etcdctl_shows_three_members_and_moves_the_lead() {
    let members = Members::start(3, &[]);
    let etcdctl = etcdctl(&members);
    etcdctl.ok(&["put", "a", "1"]);
    let table = etcdctl.ok(&["endpoint", "status", "--cluster", "--write-out", "table"]);
    for port in members.all_ports() {
        let row = table.lines().find(|line| line.contains(&format!("127.0.0.1:{port} ")));
        let row = row.unwrap_or_else(|| panic!("no {port} in\n{table}"));
        assert!(row.contains("3.7.3"), "{row}");
    }
    let leaders = |table: &str| table.lines().filter(|line| line.contains(" true ")).count();
    assert_eq!(leaders(&table), 1, "{table}");
    let healthy = etcdctl.ok(&["endpoint", "health", "--cluster"]);
    assert_eq!(healthy.matches("is healthy").count(), 3, "{healthy}");
    let hashes = etcdctl.json(&["endpoint", "hashkv", "--cluster"]);
    let hashes = hashes.as_array().expect("a list");
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|it| it["HashKV"]["hash"] == hashes[0]["HashKV"]["hash"]));

    let list = etcdctl.json(&["member", "list"]);
    for name in ["m0", "m1", "m2", "m0"] {
        let id = id(&list, name);
        let status = etcdctl.json(&["endpoint", "status"]);
        let leader = status[0]["Status"]["leader"].as_u64().expect("it has one");
        let moved = etcdctl.ok(&["move-leader", &id]);
        assert_eq!(moved, format!("Leadership transferred from {leader:x} to {id}\n"));
    }
}

#[test]
fn etcdctl_adds_promotes_updates_and_removes_members() {
    let mut members = Members::start(3, &["--strict-reconfig-check=false"]);
    let of_three = etcdctl(&members);
    of_three.ok(&["put", "a", "1"]);
    let (nth, url) = members.grow();
    let added = of_three.ok(&["member", "add", "m3", &format!("--peer-urls={url}"), "--learner"]);
    let added: Vec<_> = added.lines().collect();
    assert!(added[0].contains(" added as learner to cluster "), "{added:?}");
    assert!(
        added.contains(&"ETCD_NAME=\"m3\"")
            && added.contains(&"ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
    );
    let new = id(&of_three.json(&["member", "list"]), "");
    members.restart(nth);
    let promote = ["member", "promote", &new];
    let promoted = (0..PROMOTIONS_MAX).find_map(|_| {
        let output = of_three.output(&promote);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("in sync with leader") {
            return None;
        }
        assert!(output.status.success(), "{said}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let promoted = promoted.expect("it catches up");
    assert!(promoted.starts_with(&format!("Member {new:>16} promoted in cluster ")), "{promoted}");

    let all = etcdctl(&members);
    let listed = all.ok(&["member", "list"]);
    assert_eq!(listed.matches(", started, ").count(), 4, "{listed}");
    assert_eq!(listed.matches(", false").count(), 4, "{listed}");
    let update = ["member", "update", &new, &format!("--peer-urls={url},http://127.0.0.1:1")];
    assert!(all.ok(&update).contains(" updated in cluster "));
    assert!(all.ok(&["member", "list"]).contains("http://127.0.0.1:1"));
    assert!(all.ok(&["member", "remove", &new]).contains(" removed from cluster "));
    let (is_well, log) = members.ended(nth);
    assert!(!is_well && log.contains("removed from the cluster"), "{log}");
    let listed = of_three.ok(&["member", "list"]);
    assert_eq!(listed.matches(", started, ").count(), 3, "{listed}");
    assert_eq!(of_three.ok(&["get", "a"]), "a\n1\n");
}
