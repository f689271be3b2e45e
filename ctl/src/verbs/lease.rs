//! `lease`: grant, revoke, timetolive, list, keep-alive.

use crate::arguments;
use crate::client::Client;
use crate::client::KeepAlive;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use crate::print::Revoked;
use crate::print::TimeToLive;
use crate::settings::Format;
use crate::verbs::Context;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::LeaseGrantRequest;
use ringd::api::proto::etcdserverpb::LeaseLeasesRequest;
use ringd::api::proto::etcdserverpb::LeaseRevokeRequest;
use ringd::api::proto::etcdserverpb::LeaseTimeToLiveRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("lease").about("Leases, by which keys live and die together").subcommands([
        arguments::verb("grant", "Take a lease", "ttl"),
        arguments::verb("revoke", "Give up a lease, and its keys with it", "lease"),
        arguments::verb("timetolive", "What is left of a lease's time", "lease")
            .arg(arguments::switch("keys", "Print its keys too")),
        arguments::verb("list", "All leases", ""),
        arguments::verb("keep-alive", "Renew a lease until it is gone", "lease")
            .arg(arguments::switch("once", "Renew it once")),
    ])
}

/// Does what one of them says.
///
/// # Errors
///
/// A command line without what it needs; what the server refuses.
pub(super) async fn run(name: &str, given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    match name {
        "grant" => grant(given, context).await,
        "revoke" => revoke(given, context).await,
        "timetolive" => time_to_live(given, context).await,
        "list" => {
            let client = context.client().await?;
            let call = client.call(&methods::LEASE_LEASES, LeaseLeasesRequest {});
            context.printer().show(&client.within(call).await?)
        }
        _ => keep_alive(given, context).await,
    }
}

async fn grant(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let [text] = &arguments::texts_of(given)[..] else {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    };
    let ttl =
        go::parse_int(text, 10).map_err(|why| Failure::arguments(format!("bad TTL ({why})")))?;
    let client = context.client().await?;
    let call = client.call(&methods::LEASE_GRANT, LeaseGrantRequest { ttl, id: 0 });
    let answer = client.within(call).await.map_err(|refused| {
        Failure::new(Exit::Error, format!("failed to grant lease ({refused})"))
    })?;
    context.printer().show(&answer)
}

async fn revoke(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = lease(given, "lease revoke command needs 1 argument")?;
    let client = context.client().await?;
    let call = client.call(&methods::LEASE_REVOKE, LeaseRevokeRequest { id });
    let answer = client.within(call).await.map_err(|refused| {
        Failure::new(Exit::Error, format!("failed to revoke lease ({refused})"))
    })?;
    context.printer().show(&Revoked { id, answer })
}

async fn time_to_live(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = lease(given, "lease timetolive command needs lease ID as argument")?;
    let keys = arguments::is_on(given, "keys");
    let client = context.client().await?;
    let request = LeaseTimeToLiveRequest { id, keys };
    let call = client.call(&methods::LEASE_TIME_TO_LIVE, request);
    let answer = client.within(call).await?;
    context.printer().show(&TimeToLive { has_keys: keys, answer })
}

async fn keep_alive(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = lease(given, "lease keep-alive command needs lease ID as argument")?;
    let client = context.client().await?;
    let bad = |refused| Failure::new(Exit::BadConnection, refused);
    if arguments::is_on(given, "once") {
        let mut keep_alive = KeepAlive::new(&client, id);
        let answer = client.within(keep_alive.renew()).await.map_err(bad)?;
        if answer.ttl <= 0 {
            let text = "etcdserver: requested lease not found";
            return Err(Failure::new(Exit::BadConnection, text));
        }
        return context.printer().show(&answer);
    }
    renew_until_gone(&client, id, context).await
}

/// Renews a lease and tells of each time, until it is gone.
async fn renew_until_gone(client: &Client, id: i64, context: &Context) -> Result<(), Failure> {
    let printer = context.printer();
    let mut keep_alive = KeepAlive::new(client, id);
    loop {
        let renewed = keep_alive.renew().await;
        let answer = renewed.map_err(|refused| Failure::new(Exit::BadConnection, refused))?;
        if answer.ttl <= 0 {
            return match printer.format() {
                Format::Simple => printer.line(format_args!("lease {id:016x} expired or revoked.")),
                Format::Json | Format::Fields | Format::Table | Format::Protobuf => Ok(()),
            };
        }
        printer.show(&answer)?;
        tokio::time::sleep(KeepAlive::pause(answer.ttl)).await;
    }
}

/// The lease that the command line names, alone.
fn lease(given: &ArgMatches, otherwise: &str) -> Result<i64, Failure> {
    let [text] = &arguments::texts_of(given)[..] else {
        return Err(Failure::arguments(otherwise));
    };
    go::parse_int(text, 16)
        .map_err(|why| Failure::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}
