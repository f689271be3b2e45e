//! A cluster to play with: some members on the loopback, gone when it ends.

mod folder;
mod member;
mod program;

use crate::arguments;
use crate::client::Client;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::playground::folder::Folder;
use crate::playground::member::Ended;
use crate::playground::member::Member;
use crate::settings::Settings;
use crate::tell;
use crate::verbs::Context;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use clap::value_parser;
use ringd::api::proto::etcdserverpb::StatusRequest;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Members of the largest: more than etcd advises for any cluster.
const MEMBER_COUNT_MAX: usize = 9;
/// How long the members may take until they serve.
const START: Duration = Duration::from_secs(60);
/// How long they may take to end, before they are killed.
const STOP: Duration = Duration::from_secs(15);

/// The command line of the verb.
pub(crate) fn command() -> Command {
    arguments::verb("playground", "Start a cluster to play with", "-- flags of ringd")
        .override_usage("ringctl playground [flags] [-- <flags of ringd>]")
        .long_about(
            "Starts members of ringd on free ports of the loopback, prints where they are and what \
             to try, tells when one of them ends, and takes everything away on Ctrl-C. What \
             follows -- is given to each of them.",
        )
        .arg(arguments::text("members", "3", "How many").short('n').value_name("int"))
        .arg(
            Arg::new("ringd")
                .long("ringd")
                .value_name("path")
                .help("The server; by default beside ringctl, or on PATH")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("folder")
                .help("Keep the data here; a playground that is there already starts again")
                .value_parser(value_parser!(PathBuf)),
        )
}

/// Plays until it is interrupted, or nobody is left.
///
/// # Errors
///
/// That the members do not start, or all of them have ended.
pub(crate) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let flags = arguments::texts_of(given);
    if !flags.is_empty() && !context.has_separator {
        let text = format!("unexpected \"{}\"; flags of ringd stand after --", flags.join(" "));
        return Err(Failure::arguments(text));
    }
    let count = arguments::text_of(given, "members").parse::<usize>().ok();
    let count = count.filter(|count| (1..=MEMBER_COUNT_MAX).contains(count)).ok_or_else(|| {
        Failure::arguments(format!("--members is a number from 1 to {MEMBER_COUNT_MAX}"))
    })?;
    let program = program::find(given.get_one::<PathBuf>("ringd"))?;
    let mut signals = Signals::listen()?;
    let folder = Folder::open(given.get_one::<PathBuf>("data-dir"), count)?;
    let mut members = Vec::new();
    let started = (0..count).try_for_each(|place| {
        members.push(Member::start(&program, &folder, place, &flags)?);
        Ok(())
    });
    let outcome = match started {
        Err(failure) => Err(failure),
        Ok(()) => tokio::select! {
            played = play(&mut members, &folder, context) => played,
            () = signals.next() => Ok(()),
        },
    };
    stop(&members, &mut signals).await;
    outcome.and(folder.close())
}

/// Waits until the members serve, says so, and then tells of each that ends.
async fn play(members: &mut [Member], folder: &Folder, context: &Context) -> Result<(), Failure> {
    let until = Instant::now() + START;
    for member in members.iter_mut() {
        if let Err(why) = member.ready(until).await {
            let text = format!("{} does not serve: {why}\n{}", member.name(), member.log());
            return Err(Failure::new(Exit::Error, text.trim_end()));
        }
    }
    let leader = leader(members, &context.settings).await;
    context.printer().line(told(members, leader, folder))?;
    let count = members.len();
    let mut ends: JoinSet<_> = members.iter().map(Member::ended).collect();
    while let Some(ended) = ends.join_next().await {
        let Ended { place, how } = ended.expect("waiting does not panic");
        let left = ends.len();
        tell(format_args!(
            "ringctl: {} (pid {}) has ended: {how}; {left} of {count} left\n{}\
             what starts it again: {}",
            members[place].name(),
            members[place].pid(),
            if left > 0 && left <= count / 2 {
                "they are too few to agree on anything\n"
            } else {
                ""
            },
            members[place].command_line(),
        ));
    }
    Err(Failure::new(Exit::Error, "no member is left"))
}

/// The place of the member that leads, as one of them says.
async fn leader(members: &[Member], settings: &Settings) -> Option<usize> {
    for (place, member) in members.iter().enumerate() {
        let client = Client::open_one(settings, &member.address()).await.ok()?;
        let status = client.within(client.call(&methods::STATUS, StatusRequest {})).await.ok()?;
        if status.leader == status.header.unwrap_or_default().member_id {
            return Some(place);
        }
    }
    None
}

/// Where the members are, and what to try.
fn told(members: &[Member], leader: Option<usize>, folder: &Folder) -> String {
    let count = members.len();
    let what = if count == 1 { "1 member runs" } else { &format!("{count} members run") };
    let kept = if folder.is_kept() { "kept" } else { "gone when this ends" };
    let mut text = format!("{what}, with its data in {} ({kept}).\n\n", folder.path().display());
    for (place, member) in members.iter().enumerate() {
        let leads = if leader == Some(place) && count > 1 { "  leads" } else { "" };
        let (name, address, pid) = (member.name(), member.address(), member.pid());
        text += &format!("  {name}  http://{address}  pid {pid}{leads}\n");
    }
    let addresses = members.iter().map(Member::address).collect::<Vec<_>>().join(",");
    text += &format!(
        "\nIn another terminal, for ringctl or etcdctl:\n\n  \
         export ETCDCTL_ENDPOINTS={addresses}\n  \
         ringctl put greeting hello\n  \
         ringctl get greeting\n  \
         ringctl endpoint status --cluster -w table\n"
    );
    if let Some(leader) = leader.filter(|_| count > 2) {
        let pid = members[leader].pid();
        text += &format!("  kill -9 {pid}    # the others go on\n");
    }
    text + "\nCtrl-C ends it."
}

/// Ends all members: in order, then by force if that takes too long or is asked for again.
async fn stop(members: &[Member], signals: &mut Signals) {
    members.iter().for_each(Member::ask_to_end);
    let mut ends: JoinSet<_> = members.iter().map(Member::ended).collect();
    let all = async { while ends.join_next().await.is_some() {} };
    tokio::select! {
        () = all => return,
        () = tokio::time::sleep(STOP) => {}
        () = signals.next() => {}
    }
    members.iter().for_each(Member::kill);
    ends.join_all().await;
}

/// The signals by which somebody wants the process to end.
struct Signals([Signal; 3]);

impl Signals {
    /// Those that come from now on.
    fn listen() -> Result<Self, Failure> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let all = || Ok::<_, io::Error>([interrupt?, terminate?, hangup?]);
        all().map(Self).map_err(|error| Failure::new(Exit::Error, error))
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
