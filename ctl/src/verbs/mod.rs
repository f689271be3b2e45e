//! The commands, a module each: what its command line is, and what it does.

mod alarm;
mod compaction;
mod defrag;
mod del;
mod elect;
mod endpoint;
mod exec;
mod get;
mod lease;
mod lock;
mod member;
mod move_leader;
mod progress;
mod put;
mod shards;
mod snapshot;
mod txn;
mod txn_compare;
mod version;
mod wait;
mod watch;
mod watch_lines;

use crate::client::Client;
use crate::client::Refused;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::playground;
use crate::print::Printer;
use crate::settings::Settings;
use clap::ArgMatches;
use clap::Command;
use std::collections::BTreeMap;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// etcdctl's commands that ringctl does not have.
const ELSEWHERE: [&str; 8] =
    ["auth", "check", "completion", "downgrade", "make-mirror", "options", "role", "user"];

/// What every command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    /// What the flags say.
    pub(crate) settings: Settings,
    /// The environment.
    pub(crate) variables: BTreeMap<String, String>,
    /// Whether `--` was among the arguments.
    pub(crate) has_separator: bool,
}

impl Context {
    /// A client of all servers.
    ///
    /// # Errors
    ///
    /// As [`Client::open`].
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::open(&self.settings).await
    }

    /// Where answers are printed.
    pub(crate) fn printer(&self) -> Printer {
        Printer::new(&self.settings)
    }
}

/// The command lines of all.
pub(crate) fn commands() -> Vec<Command> {
    vec![
        put::command(),
        get::command(),
        del::command(),
        txn::command(),
        compaction::command(),
        watch::command(),
        lease::command(),
        lock::command(),
        elect::command(),
        endpoint::command(),
        member::command(),
        move_leader::command(),
        alarm::command(),
        defrag::command(),
        snapshot::command(),
        version::command(),
        shards::command(),
        playground::command(),
    ]
}

/// True for a command that has only commands of its own.
pub(crate) fn is_group(name: &str) -> bool {
    ["alarm", "endpoint", "lease", "member", "snapshot"].contains(&name)
}

/// What is said of a command that there is not.
pub(crate) fn unknown(name: &str) -> String {
    if ELSEWHERE.contains(&name) {
        format!(
            "ringctl has no \"{name}\"; etcdctl's works on ringd too, as far as the server has it"
        )
    } else {
        format!("unknown command \"{name}\" for \"ringctl\"")
    }
}

/// Does what a command line says.
///
/// # Errors
///
/// Whatever keeps it from being done.
pub(crate) async fn run(
    path: &[&str],
    given: &ArgMatches,
    context: &Context,
) -> Result<(), Failure> {
    match path {
        ["put"] => put::run(given, context).await,
        ["get"] => get::run(given, context).await,
        ["del"] => del::run(given, context).await,
        ["txn"] => txn::run(given, context).await,
        ["compaction"] => compaction::run(given, context).await,
        ["watch"] => watch::run(given, context).await,
        ["lease", name] => lease::run(name, given, context).await,
        ["lock"] => lock::run(given, context).await,
        ["elect"] => elect::run(given, context).await,
        ["endpoint", name] => endpoint::run(name, given, context).await,
        ["member", name] => member::run(name, given, context).await,
        ["move-leader"] => move_leader::run(given, context).await,
        ["alarm", name] => alarm::run(name, given, context).await,
        ["defrag"] => defrag::run(given, context).await,
        ["snapshot", "save"] => snapshot::run(given, context).await,
        ["version"] => version::run(context),
        ["shards"] => shards::run(context).await,
        ["playground"] => playground::run(given, context).await,
        path => Err(Failure::new(Exit::BadFeature, unknown(&path.join(" ")))),
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::new(Exit::Error, refused)
    }
}

/// Waits until somebody wants the process to end.
async fn interrupted() -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Error, error));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The end of the range of all keys that begin with `prefix`.
fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of_prefix(b"k"), b"l");
        assert_eq!(end_of_prefix(b"k\xff\xff"), b"l");
        assert_eq!(end_of_prefix(b"\xff\xff"), b"\0");
        assert_eq!(end_of_prefix(b""), b"\0");
    }
}
