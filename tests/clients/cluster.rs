//! Clients that are given all endpoints of a cluster keep working while members come and go.

use crate::languages::{self, Language};
use crate::program::Program;
use crate::support::block_on;
use crate::support::call::Client;
use crate::support::members::Members;
use crate::{found, say};
use ringd::api::proto::etcdserverpb::{StatusRequest, StatusResponse};

/// Elections that are over soon.
const FLAGS: [&str; 2] = ["--heartbeat-interval=50", "--election-timeout=500"];

/// The number of the member that leads, as far as any of them knows.
fn leader(members: &Members) -> Option<usize> {
    block_on(async {
        for (nth, port) in members.all_ports().into_iter().enumerate() {
            let Ok(client) = Client::connect(port).await else { continue };
            let path = "/etcdserverpb.Maintenance/Status";
            let status = client.unary::<StatusResponse>(path, &StatusRequest {}).await;
            let status = status.expect("who runs says how it does");
            if status.leader == status.header.expect("a header").member_id {
                return Some(nth);
            }
        }
        None
    })
}

fn keeps_working(language: &Language) {
    let name = language.name;
    let Some(folder) = found(language) else { return };
    let mut members = Members::start(3, &FLAGS);
    let all: Vec<_> =
        members.all_ports().into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut client = (language.client)(&folder, &all.join(","));
    let mut client = Program::start(client.current_dir(&folder));
    let (mut told, mut gone) = (Vec::new(), Vec::new());
    while let Some(line) = client.next_line() {
        if line == "kill" {
            // The leader, or who is next if nobody knows one just now; then another.
            let first = leader(&members).unwrap_or(0);
            let victim = (first + gone.len()) % 3;
            members.kill(victim);
            gone.push(victim);
            client.tell("killed");
        } else if line == "restart" {
            members.restart(*gone.last().expect("one was killed"));
            client.tell("restarted");
        }
        told.push(line);
    }
    let (status, _, errors) = client.end();
    assert!(status.success(), "{name} client: {status}\n{told:?}\n{errors}");
    assert_eq!(told.last().map(String::as_str), Some("ok"), "{name} client:\n{told:?}\n{errors}");
    say(format_args!("{name}: members {gone:?} were away in turn"));
}

#[test]
fn a_python_client_with_all_endpoints_keeps_working() {
    keeps_working(&languages::PYTHON_CLUSTER);
}

#[test]
fn a_rust_client_with_all_endpoints_keeps_working() {
    keeps_working(&languages::RUST_ETCD_CLIENT);
}
