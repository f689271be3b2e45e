//! Two clients, each with a server of its own on which the same happens.

use crate::RUN;
use crate::support::peers;
use crate::support::process::run_with_input;
use crate::support::server::Server;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What a command did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) printed: String,
    /// The first line on standard error that is no log line.
    pub(crate) said: String,
}

/// A client and its server.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) client: PathBuf,
    pub(crate) server: Arc<Server>,
    /// What stands for the ids of the server in what is compared.
    ids: Vec<(String, &'static str)>,
}

impl Side {
    pub(crate) fn start(server: &Path, client: PathBuf) -> Self {
        let mut side = Self { client, server: Arc::new(Server::start(server)), ids: Vec::new() };
        let mut list = side.command(&["member", "list", "-w", "json"]);
        let list = run_with_input(&mut list, "", RUN).unwrap_or_else(|why| panic!("{why}"));
        let list: Value = serde_json::from_slice(&list.stdout).expect("it is JSON");
        let ids = [("cluster_id", "CLUSTER"), ("member_id", "MEMBER")].map(|(name, word)| {
            (list["header"][name].as_u64().expect("every answer has it"), word)
        });
        side.ids = ids
            .into_iter()
            .flat_map(|(id, word)| [(id.to_string(), word), (format!("{id:x}"), word)])
            .collect();
        side
    }

    /// Another client of the same server.
    pub(crate) fn at(other: &Self, client: PathBuf) -> Self {
        Self { client, server: Arc::clone(&other.server), ids: other.ids.clone() }
    }

    /// The command that runs the client against its server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--endpoints", &self.server.address()]).args(arguments);
        command
    }

    /// What a command does, with something to read, without what differs from server to server.
    pub(crate) fn told(&self, arguments: &[&str], input: &[u8]) -> Told {
        told(self.command(arguments), arguments, input, |text| self.plain(text))
    }

    /// A text without what differs from server to server.
    pub(crate) fn plain(&self, text: &str) -> String {
        let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
        let mut text = self.server.without_ports(&text);
        for (id, word) in &self.ids {
            text = text.replace(id, word);
        }
        timeless(text)
    }
}

/// What a command does, with something to read; what it prints and says is made plain.
pub(crate) fn told(
    mut command: Command,
    arguments: &[&str],
    input: &[u8],
    plain: impl Fn(&str) -> String,
) -> Told {
    let input = std::str::from_utf8(input).expect("the tests' inputs are text");
    let output = run_with_input(&mut command, input, RUN);
    let output = output.unwrap_or_else(|why| panic!("{why}"));
    let is_binary = arguments.contains(&"protobuf");
    let printed = if is_binary { without_header(&output.stdout) } else { &output.stdout };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.lines().find(|line| !is_log(line)).unwrap_or_default();
    Told {
        code: output.status.code(),
        printed: plain(&printed.escape_ascii().to_string().replace("\\n", "\n")),
        said: plain(said).replace("etcdctl", "ringctl"),
    }
}

/// A text without how long things took, how far the server's log and files are, and ids that are
/// drawn.
pub(crate) fn timeless(mut text: String) -> String {
    for (before, after) in [
        ("took ", ""),
        ("took = ", ""),
        ("\"took\":\"", "\""),
        ("\"Took\" : ", ""),
        ("\"raftIndex\":", ","),
        ("\"raftAppliedIndex\":", ","),
        ("\"dbSize\":", ","),
        ("\"dbSizeInUse\":", ","),
        ("\"RaftIndex\" : ", ""),
        ("\"RaftAppliedIndex\" : ", ""),
        ("\"DBSize\" : ", ""),
        ("\"DBSizeInUse\" : ", ""),
    ] {
        text = masked(&text, before, after);
    }
    narrow(without_leases(&text))
}

/// A table whose columns are as narrow as can be: an id that begins with a zero is shorter than
/// others, and every line of its table with it.
fn narrow(mut text: String) -> String {
    let rule = "─".as_bytes().escape_ascii().to_string();
    if text.contains(&rule) {
        for single in [rule.as_str(), " "] {
            let double = single.repeat(2);
            while text.contains(&double) {
                text = text.replace(&double, single);
            }
        }
    }
    text
}

/// A message without its header, in which a server names itself; nothing, if it is one itself.
fn without_header(message: &[u8]) -> &[u8] {
    match message {
        [0x0a, size, rest @ ..] => &rest[usize::from(*size)..],
        _ => &[],
    }
}

/// A log line, or a remark of ours beside what etcdctl says.
fn is_log(line: &str) -> bool {
    line.starts_with("{\"level\"") || line.starts_with("ringctl: ")
}

/// A text in which whatever follows `before` is `_`, up to `after` or the end of its line.
fn masked(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find('\n').unwrap_or(part.len());
        let end = Some(after)
            .filter(|after| !after.is_empty())
            .and_then(|after| part.find(after))
            .unwrap_or(end);
        masked = masked + before + "_" + &part[end..];
    }
    masked
}

/// Hexadecimal digits that only a drawn id can have: the time in a lease's fills twelve, and a
/// member's has fewer once in a million.
const ID_DIGITS_MIN: usize = 12;

/// A text in which every drawn id is `LEASE`, however many zeros it begins with.
fn without_leases(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_hexdigit();
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |end| start + end);
        let word = &rest[start..end];
        plain += &rest[..start];
        let is_id = word.len() >= ID_DIGITS_MIN && word.contains(|c: char| c.is_ascii_digit());
        if is_id && !word.starts_with("0000000") {
            // One that begins with a zero is padded where etcdctl prints sixteen digits.
            let padding = " ".repeat(16_usize.saturating_sub(word.len()));
            if plain.ends_with(&format!(" {padding}")) {
                plain.truncate(plain.len() - padding.len());
            }
            plain += "LEASE";
        } else {
            plain += word;
        }
        rest = &rest[end..];
    }
    plain + rest
}

/// etcdctl and ringctl.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) theirs: Side,
    pub(crate) ours: Side,
}

impl Pair {
    pub(crate) fn start(server: &Path, etcdctl: &Path) -> Self {
        let theirs = Side::start(server, etcdctl.to_owned());
        Self { theirs, ours: Side::start(server, peers::ringctl()) }
    }

    /// Runs a command line with both and compares; what they both did.
    pub(crate) fn same(&self, arguments: &[&str]) -> Told {
        self.same_with(arguments, b"")
    }

    /// As [`Self::same`], with something to read.
    pub(crate) fn same_with(&self, arguments: &[&str], input: &[u8]) -> Told {
        let theirs = self.theirs.told(arguments, input);
        let ours = self.ours.told(arguments, input);
        let read = input.escape_ascii();
        assert_eq!(ours, theirs, "ringctl, then etcdctl: {arguments:?} < \"{read}\"");
        theirs
    }

    /// Runs a command line with both in each format, decimal and hexadecimal, and compares.
    pub(crate) fn same_in_every_format(&self, arguments: &[&str], input: &[u8]) {
        for format in ["simple", "json", "fields", "table", "protobuf"] {
            for hex in ["--hex=false", "--hex"] {
                self.same_with(&[arguments, &["-w", format, hex]].concat(), input);
            }
        }
    }

    /// Runs a command line about a lease with both, each with a lease of its own in place of `$L`.
    pub(crate) fn same_of_lease(&self, arguments: &[&str], leases: &[String; 2]) -> Told {
        let told = |side: &Side, lease: &str| {
            let arguments: Vec<_> =
                arguments.iter().map(|&word| if word == "$L" { lease } else { word }).collect();
            side.told(&arguments, b"")
        };
        let theirs = told(&self.theirs, &leases[0]);
        let ours = told(&self.ours, &leases[1]);
        assert_eq!(ours, theirs, "ringctl, then etcdctl: {arguments:?}");
        theirs
    }

    /// A lease on each server.
    pub(crate) fn leases(&self, seconds: &str) -> [String; 2] {
        [&self.theirs, &self.ours].map(|side| {
            let output = side.command(&["lease", "grant", seconds]).output().expect("it runs");
            let printed = String::from_utf8(output.stdout).expect("it prints text");
            let lease = printed.split(' ').nth(1).unwrap_or_else(|| panic!("{printed}"));
            lease.to_owned()
        })
    }
}
