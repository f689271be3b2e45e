//! `watch`: events as they happen, printed and perhaps given to a command.

use crate::arguments;
use crate::client::Client;
use crate::client::Watcher;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::print::Printer;
use crate::print::kind;
use crate::settings::WATCH_VARIABLES;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::end_of_prefix;
use crate::verbs::exec;
use crate::verbs::txn;
use crate::verbs::wait;
use crate::verbs::watch_lines;
use bytes::Bytes;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use clap::value_parser;
use ringd::api::proto::etcdserverpb::WatchCreateRequest;
use ringd::api::proto::etcdserverpb::WatchResponse;
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::ffi::OsString;
use tokio::sync::mpsc;

/// What stands behind `--`.
const EXEC: &str = "command";

/// The command line of the verb.
pub(super) fn command() -> Command {
    flags(arguments::verb("watch", "Print events as they happen", "key [range_end]"))
        .override_usage("ringctl watch [flags] [key [range_end]] [-- command ...]")
        .arg(txn::interactive("Read what to watch, line by line"))
        .after_help(
            "The key may stand in ETCDCTL_WATCH_KEY and the end in ETCDCTL_WATCH_RANGE_END. A \
             command finds its event in ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, \
             ETCD_WATCH_KEY and ETCD_WATCH_VALUE.",
        )
}

/// The flags that a line of interactive input has as well.
pub(super) fn flags(command: Command) -> Command {
    command.args([
        arguments::switch("prefix", "All keys that begin with this one"),
        arguments::integer("rev", "From this revision on"),
        arguments::switch("prev-kv", "Print what was there before"),
        arguments::switch("progress-notify", "Have the server tell how far it is, without events"),
        Arg::new(EXEC)
            .help("A command to run for each event")
            .last(true)
            .num_args(0..)
            .action(ArgAction::Append)
            .value_parser(value_parser!(OsString)),
    ])
}

/// What to watch, and what to do about it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) request: WatchCreateRequest,
    pub(super) command: Vec<OsString>,
}

/// What a command line asks for.
///
/// # Errors
///
/// A key that is missing, or that stands in two places.
pub(super) fn wanted(
    given: &ArgMatches,
    variables: &BTreeMap<String, String>,
    has_separator: bool,
) -> Result<Wanted, Failure> {
    let [in_key, in_end] = WATCH_VARIABLES.map(|name| {
        let text = variables.get(name).map_or(&b""[..], String::as_bytes);
        Bytes::copy_from_slice(text)
    });
    let bad = |why: &str| Failure::arguments(format!("bad number of arguments{why}"));
    if in_key.is_empty() && !in_end.is_empty() {
        let end = crate::go::quote(&in_end);
        let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}");
        return Err(Failure::arguments(text));
    }
    let command = given.get_many::<OsString>(EXEC);
    let command = command.map_or_else(Vec::new, |words| words.cloned().collect());
    let mut rest = arguments::bytes_of(given).into_iter();
    if has_separator && command.is_empty() {
        return Err(bad(" (found separator --, but no commands)"));
    }
    let (key, end) = match (rest.next(), rest.len()) {
        (Some(_), _) if !in_key.is_empty() => {
            return Err(bad(" (found conflicting environment key)"));
        }
        (Some(key), 1) => (key, rest.next().unwrap_or_default()),
        // Of more than two, as etcdctl has it, the first is all that is meant.
        (Some(key), _) => (key, Bytes::new()),
        (None, _) if in_key.is_empty() => return Err(bad("")),
        (None, _) => (in_key, in_end),
    };
    let is_prefix = arguments::is_on(given, "prefix");
    if is_prefix && !end.is_empty() {
        let text = "`range_end` and `--prefix` are mutually exclusive";
        return Err(Failure::arguments(text));
    }
    let range_end = if is_prefix { end_of_prefix(&key).into() } else { end };
    let key = if is_prefix && key.is_empty() { Bytes::from_static(b"\0") } else { key };
    let request = WatchCreateRequest {
        key,
        range_end,
        start_revision: arguments::number_of(given, "rev").max(0),
        progress_notify: arguments::is_on(given, "progress-notify"),
        prev_kv: arguments::is_on(given, "prev-kv"),
        ..Default::default()
    };
    Ok(Wanted { request, command })
}

/// Watches, until interrupted or cancelled.
///
/// # Errors
///
/// A command line that says nothing to watch; that the server has cancelled; the command's failure.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    if arguments::is_on(given, "interactive") {
        return watch_lines::run(context).await;
    }
    let wanted = wanted(given, &context.variables, context.has_separator)?;
    let client = context.client().await?;
    let (_nobody_asks, progress) = mpsc::channel(1);
    show(&client, wanted, progress, context.printer()).await?;
    Err(Failure::new(Exit::Interrupted, "watch is canceled by the server"))
}

/// Prints what a watch brings and runs its command, until the server has cancelled it.
///
/// # Errors
///
/// The command's own failure.
pub(super) async fn show(
    client: &Client,
    wanted: Wanted,
    mut progress: mpsc::Receiver<()>,
    printer: Printer,
) -> Result<(), Failure> {
    let Wanted { request, command } = wanted;
    let wants_progress = request.progress_notify;
    let mut watcher = Watcher::new(client, request);
    let mut is_asked = true;
    loop {
        let next = tokio::select! {
            next = watcher.next() => next,
            asked = progress.recv(), if is_asked => {
                is_asked = asked.is_some();
                if is_asked {
                    watcher.ask_for_progress();
                }
                continue;
            }
        };
        let response = match next {
            Ok(response) if response.canceled => {
                tell(format_args!("watch was canceled ({})", wait::reason(&response)));
                return Ok(());
            }
            Ok(response) => response,
            Err(refused) => {
                tell(format_args!("watch was canceled ({refused})"));
                return Ok(());
            }
        };
        let now = response.header.unwrap_or_default().revision;
        if response.events.is_empty() && (wants_progress || response.watch_id < 0) {
            printer.line(format_args!("progress notify: {now}"))?;
        }
        printer.show(&response)?;
        if !command.is_empty() {
            run_for_each(&command, &response, now).await?;
        }
    }
}

/// Runs a command once per event.
async fn run_for_each(
    command: &[OsString],
    response: &WatchResponse,
    now: i64,
) -> Result<(), Failure> {
    for event in &response.events {
        let nothing = KeyValue::default();
        let kv = event.kv.as_ref().unwrap_or(&nothing);
        let quoted = |bytes: &[u8]| OsString::from(crate::go::quote(bytes));
        let variables = [
            ("ETCD_WATCH_REVISION", OsString::from(now.to_string())),
            ("ETCD_WATCH_EVENT_TYPE", quoted(kind(event).as_bytes())),
            ("ETCD_WATCH_KEY", quoted(&kv.key)),
            ("ETCD_WATCH_VALUE", quoted(&kv.value)),
        ];
        let why = match exec::run(command, &variables).await {
            Ok(status) if status.success() => continue,
            Ok(status) => exec::told(status),
            Err(why) => why,
        };
        let words: Vec<_> =
            command.iter().map(|word| crate::go::quote(word.as_encoded_bytes())).collect();
        tell(format_args!("command [{}] error ({why})", words.join(" ")));
        return Err(Failure::told(Exit::Error));
    }
    Ok(())
}
