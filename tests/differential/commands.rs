//! What etcd's command line prints, of ringd and of etcd.

use crate::pair::Pair;
use crate::support::block_on;
use crate::support::peers::find;
use crate::support::process::run_with_input;
use crate::support::server::Server;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands in their order, each with what it reads.
const COMMANDS: &[(&str, &str)] = &[
    ("put a 1", ""),
    ("put a 2", ""),
    ("put b 3", ""),
    ("put c 4", ""),
    ("txn", "mod(\"a\") > \"0\"\n\nput a then\n\nput a else\nput d else\n\n"),
    ("txn", "mod(\"a\") = \"0\"\n\nput a then\n\nput a else\nput d \"some more\"\n\n"),
    ("txn -i", "val(\"a\") = \"else\"\nver(\"a\") > \"3\"\n\nget a\nget --prefix a\n\nget b\n\n"),
    ("txn --interactive", "create(\"b\") < \"4\"\n\nget b\n\ndel b\nput e 5\nget --from-key a\n\n"),
    ("txn", "c(\"b\") != \"4\"\nversion(\"a\") < \"9\"\n\ndel --prev-kv c\n\nget nothing\n\n"),
    ("txn", "\n\n\n"),
    ("txn", "\nput x 1\nput x 2\n\n\n"),
    ("txn", "\nput x 1\ndel --prefix x\n\n\n"),
    ("txn", "\nget --rev 1000 a\n\n\n"),
    ("txn", "m(\"a\") = \"nonsense\"\n\n\n\n"),
    ("txn --write-out json", "ver(\"a\") = \"4\"\n\nget a\nput f 6\ndel f2\n\nget b\n\n"),
    ("txn --write-out fields", "ver(\"a\") = \"9\"\n\nget a\n\nget a\nput g 7\ndel g\n\n"),
    ("get --stream --prefix a", ""),
    ("get --stream a z", ""),
    ("get --stream --from-key a --limit 2", ""),
    ("get --stream --from-key a --keys-only", ""),
    ("get --stream --from-key a --rev 4", ""),
    ("get --stream --from-key a --rev 1000", ""),
    ("get --stream --from-key a --order DESCEND", ""),
    ("get --stream --from-key a --min-mod-rev 3", ""),
    ("get --stream --from-key a --write-out json", ""),
    ("get --stream --from-key a --count-only --write-out json", ""),
    ("get --stream nothing", ""),
    ("get --from-key a --min-mod-rev 5 --max-create-rev 6 --sort-by VALUE --order DESCEND", ""),
    ("endpoint hashkv", ""),
    ("endpoint hashkv --rev 3", ""),
    ("endpoint hashkv --rev 1000", ""),
    ("endpoint hashkv --write-out json", ""),
    ("endpoint hashkv --write-out table", ""),
    ("compaction 3", ""),
    ("compaction 3", ""),
    ("compaction 1000", ""),
    ("compaction --physical 6", ""),
    ("compaction", ""),
    ("compaction six", ""),
    ("get a --rev 5", ""),
    ("get a --rev 6", ""),
    ("get --stream --prefix a --rev 5", ""),
    ("txn", "\nget --rev 5 a\n\n\n"),
    ("endpoint hashkv", ""),
    ("endpoint hashkv --rev 5", ""),
    ("get --from-key a --write-out json", ""),
];

/// What a command prints and ends with.
fn printed(server: &Server, arguments: &str, input: &str) -> (Option<i32>, String, String) {
    let program = find("etcdctl").unwrap_or_else(|missing| panic!("{missing}"));
    let mut command = Command::new(program);
    command.args(["--endpoints", &server.address()]).args(arguments.split(' '));
    let output =
        run_with_input(&mut command, input, PATIENCE).unwrap_or_else(|why| panic!("{why}"));
    let text = |bytes: Vec<u8>| {
        // The time and the connection's target, in what the Go client logs about a refusal.
        let text = server.without_ports(&String::from_utf8_lossy(&bytes));
        let lines = text.lines().map(|line| match serde_json::from_str(line) {
            Ok(Value::Object(log)) if log.contains_key("level") => log["error"].to_string(),
            Ok(mut answer) => {
                forget_ids(&mut answer);
                answer.to_string()
            }
            Err(_) if line.contains("\"ClusterID\" :") => "a cluster".to_owned(),
            Err(_) if line.contains("\"MemberID\" :") => "a member".to_owned(),
            Err(_) if line.contains("\"RaftTerm\" :") => "a term".to_owned(),
            Err(_) => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Takes out of printed JSON what differs between any two clusters.
fn forget_ids(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            for id in ["cluster_id", "member_id", "raft_term"] {
                if let Some(value) = fields.get_mut(id) {
                    assert_ne!(*value, 0, "{id} is told");
                    *value = Value::Null;
                }
            }
            fields.values_mut().for_each(forget_ids);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_ids),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn etcdctl_prints_alike() {
    let pair = block_on(Pair::start());
    let mut wrong = Vec::new();
    for (arguments, input) in COMMANDS {
        let ours = printed(&pair.ours, arguments, input);
        let theirs = printed(&pair.theirs, arguments, input);
        if crate::support::setting("SHOW").is_some() {
            crate::support::say(format_args!("etcdctl {arguments}\n{theirs:?}"));
        }
        if ours != theirs {
            let what = format!("etcdctl {arguments} < {input:?}");
            wrong.push(format!("{what}\n  ours:   {ours:?}\n  theirs: {theirs:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} commands differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
}
