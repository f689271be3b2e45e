//! `lock`: a lock that is held until somebody interrupts, or while a command runs.

use crate::arguments;
use crate::client::Client;
use crate::client::Session;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::exec;
use crate::verbs::interrupted;
use crate::verbs::wait::Place;
use bytes::Bytes;
use clap::ArgMatches;
use clap::Command;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;

/// Seconds of a lock's lease if the flag says none.
const TTL: i64 = 60;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("lock", "Hold a lock, for a command or until interrupted", "name [command ...]")
        .override_usage("ringctl lock [flags] <name> [--] [command ...]")
        .arg(
            arguments::integer("ttl", "Seconds until a holder that is gone loses it")
                .default_value("10")
                .hide_default_value(false),
        )
}

/// Takes the lock, and gives it back.
///
/// # Errors
///
/// No name; a lock that is lost; the command's own failure.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let rest = arguments::rest_of(given);
    let [name, command @ ..] = &rest[..] else {
        let text = "lock takes a lock name argument and an optional command to execute";
        return Err(Failure::arguments(text));
    };
    let mut ttl = arguments::number_of(given, "ttl");
    if ttl <= 0 {
        tell(format_args!("ringctl: --ttl: a lock lives longer than 0 seconds; {TTL} it is"));
        ttl = TTL;
    }
    let client = context.client().await?;
    // The signals are listened for before there is anything that they would leave behind.
    let end = interrupted();
    tokio::pin!(end);
    let mut session = tokio::select! {
        session = Session::open(&client, ttl) => session?,
        ended = &mut end => return ended.and_then(|()| Err(given_up())),
    };
    let mut place = Place::take(&client, &session, name.as_bytes(), Bytes::new()).await?;
    let held = tokio::select! {
        held = place.wait(&client) => held,
        () = session.lost() => Err(Failure::new(Exit::Error, "session expired")),
        ended = &mut end => ended.and_then(|()| Err(given_up())),
    };
    let outcome = match held {
        Ok(()) if command.is_empty() => hold(&client, &place, &mut session, end, context).await,
        Ok(()) => tokio::select! {
            outcome = with_command(command, &place, end) => outcome,
            never = keep(&mut session) => never,
        },
        Err(failure) => Err(failure),
    };
    let left = place.leave(&client).await;
    outcome.and_then(|()| left.map_err(Failure::from))
}

/// What is said when a lock is not waited for any more.
fn given_up() -> Failure {
    Failure::new(Exit::Error, "context canceled")
}

/// Holds the lock until somebody interrupts.
async fn hold(
    client: &Client,
    place: &Place,
    session: &mut Session,
    end: impl Future<Output = Result<(), Failure>>,
    context: &Context,
) -> Result<(), Failure> {
    context.printer().show(&place.row(client).await?)?;
    tokio::select! {
        ended = end => ended,
        () = session.lost() => Err(Failure::new(Exit::Error, "session expired")),
    }
}

/// Keeps a session alive as long as it lives, and never returns.
async fn keep(session: &mut Session) -> Result<(), Failure> {
    session.lost().await;
    std::future::pending().await
}

/// Runs a command that may know which lock it has. It is not interrupted with us: whoever
/// interrupts at a terminal has told it as well.
async fn with_command(
    command: &[OsString],
    place: &Place,
    end: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let variables = [
        ("ETCD_LOCK_KEY", OsString::from_vec(place.key.to_vec())),
        ("ETCD_LOCK_REV", place.told.to_string().into()),
    ];
    let running = exec::run(command, &variables);
    tokio::pin!(running, end);
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = end => running.await,
    };
    let status = ended.map_err(|why| Failure::new(Exit::Error, why))?;
    if status.success() {
        return Ok(());
    }
    let text = Some(exec::told(status));
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
    Err(Failure { code, text })
}
