//! etcd's own command line, from its own release.

mod cluster;
mod lease;
mod sessions;
mod watch;

use crate::RUN;
use crate::program::Program;
use crate::support::peers::{find, under_test};
use crate::support::process::run_with_input;
use crate::support::server::Server;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// `etcdctl`, pointed at one server.
struct Etcdctl {
    program: PathBuf,
    address: String,
}

impl Etcdctl {
    fn of(server: &Server) -> Self {
        Self::at(server.address())
    }

    /// Of one address, or of several with commas between.
    fn at(address: String) -> Self {
        let program = find("etcdctl").unwrap_or_else(|missing| panic!("{missing}"));
        Self { program, address }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.output_of(arguments, "")
    }

    fn output_of(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        run_with_input(&mut command, input, RUN).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What runs it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Ahead of a command of the user's own, which may follow.
        command.args(["--endpoints", &self.address]).args(arguments);
        command
    }

    /// Starts it, to run beside the test.
    fn start(&self, arguments: &[&str]) -> Program {
        Program::start(&mut self.command(arguments))
    }

    /// What it prints, both outputs together, as it goes well.
    fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    /// As [`Self::ok`], with something to read.
    fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output_of(arguments, input);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("it prints text");
        assert!(output.status.success(), "etcdctl {arguments:?}: {}\n{text}", output.status);
        text
    }

    /// What it prints on its standard output, as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.output(&[arguments, &["--write-out", "json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "etcdctl {arguments:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }
}

#[test]
fn etcdctl_puts_gets_and_deletes() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    assert_eq!(etcdctl.ok(&["put", "ctl/a", "1"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "ctl/a", "2", "--prev-kv"]), "OK\nctl/a\n1\n");
    assert_eq!(etcdctl.ok(&["put", "ctl/b", "3"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "ctl/b", "--ignore-value"]), "OK\n");
    assert_eq!(etcdctl.ok(&["get", "ctl/a"]), "ctl/a\n2\n");
    assert_eq!(etcdctl.ok(&["get", "ctl/a", "--rev", "2", "--print-value-only"]), "1\n");
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix"]), "ctl/a\n2\nctl/b\n3\n");
    assert_eq!(
        etcdctl.ok(&["get", "ctl/", "--prefix", "--order", "DESCEND", "--sort-by", "KEY"]),
        "ctl/b\n3\nctl/a\n2\n"
    );
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix", "--keys-only"]), "ctl/a\n\nctl/b\n\n");
    let counted = ["get", "ctl/", "--prefix", "--count-only", "--write-out", "fields"];
    let counted = etcdctl.ok(&counted);
    assert!(counted.contains("\"Count\" : 2"), "{counted}");
    assert_eq!(etcdctl.ok(&["get", "", "--from-key", "--limit", "1"]), "ctl/a\n2\n");
    assert_eq!(etcdctl.ok(&["del", "ctl/a", "--prev-kv"]), "1\nctl/a\n2\n");
    assert_eq!(etcdctl.ok(&["del", "ctl/", "--prefix"]), "1\n");
    assert_eq!(etcdctl.ok(&["del", "ctl/", "--prefix"]), "0\n");
    assert_eq!(etcdctl.ok(&["get", "", "--prefix"]), "");

    let refused = etcdctl.output(&["get", "ctl/a", "--rev", "1000"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("required revision is a future revision"), "{text}");
}

#[test]
fn etcdctl_shows_the_endpoint_and_the_member() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let address = server.address();

    let healthy = etcdctl.ok(&["endpoint", "health"]);
    assert!(healthy.contains(&format!("{address} is healthy")), "{healthy}");
    let health = etcdctl.json(&["endpoint", "health"]);
    assert_eq!(health[0]["health"], true, "{health}");

    let status = etcdctl.json(&["endpoint", "status"]);
    let of = &status[0]["Status"];
    assert_eq!(of["version"], "3.7.3", "{status}");
    assert_eq!(of["leader"], of["header"]["member_id"], "{status}");
    let table = etcdctl.ok(&["endpoint", "status", "--write-out", "table"]);
    for cell in [&address, "3.7.3", "ENDPOINT", "IS LEADER", "true", "false"] {
        assert!(table.contains(cell), "no {cell} in\n{table}");
    }

    let list = etcdctl.json(&["member", "list"]);
    let member = &list["members"][0];
    assert_eq!(member["ID"], of["header"]["member_id"], "{list}");
    assert_eq!(member["name"], "one", "{list}");
    assert_eq!(member["clientURLs"][0], format!("http://{address}"), "{list}");
    let table = etcdctl.ok(&["member", "list", "--write-out", "table"]);
    for cell in ["started", "one", &address, "IS LEARNER"] {
        assert!(table.contains(cell), "no {cell} in\n{table}");
    }
}

#[test]
fn etcdctl_has_transactions_hashes_streams_compaction_and_defragmentation() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let input = "mod(\"ctl/a\") = \"0\"\n\nput ctl/a new\nget ctl/a\n\nget ctl/a\n\n";
    assert_eq!(etcdctl.ok_with(&["txn"], input), "SUCCESS\n\nOK\n\nctl/a\nnew\n");
    assert_eq!(etcdctl.ok_with(&["txn"], input), "FAILURE\n\nctl/a\nnew\n");
    let printed = etcdctl.ok_with(&["txn", "--interactive"], input);
    for line in ["compares:", "success requests (get, put, del):", "FAILURE", "ctl/a"] {
        assert!(printed.lines().any(|printed| printed == line), "no {line} in\n{printed}");
    }
    etcdctl.ok(&["put", "ctl/b", "2"]);
    assert_eq!(etcdctl.ok(&["get", "--stream", "ctl/", "--prefix"]), "ctl/a\nnew\nctl/b\n2\n");

    let hash = etcdctl.json(&["endpoint", "hashkv"]);
    assert_eq!(hash[0]["HashKV"]["hash_revision"], 3, "{hash}");
    assert_eq!(etcdctl.json(&["endpoint", "hashkv", "--rev", "3"])[0]["HashKV"], hash[0]["HashKV"]);
    let compacted = "compacted revision 3\n";
    assert_eq!(etcdctl.ok(&["compaction", "3", "--physical"]), compacted);
    let refused = etcdctl.output(&["get", "ctl/a", "--rev", "2"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("required revision has been compacted"), "{text}");
    assert_eq!(etcdctl.ok(&["get", "ctl/a", "--rev", "3"]), "ctl/a\nnew\n");
    let done = etcdctl.ok(&["defrag"]);
    assert!(done.starts_with("Finished defragmenting etcd member["), "{done}");
    assert_eq!(etcdctl.ok(&["get", "ctl/a"]), "ctl/a\nnew\n");
}
