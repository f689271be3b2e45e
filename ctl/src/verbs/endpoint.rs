//! `endpoint`: single servers, one by one.

use crate::arguments;
use crate::client::Client;
use crate::client::Stopwatch;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::print::Hash;
use crate::print::Health;
use crate::print::Statuses;
use crate::print::alarm_name;
use crate::settings::Settings;
use crate::tell;
use crate::verbs::Context;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::AlarmRequest;
use ringd::api::proto::etcdserverpb::HashKvRequest;
use ringd::api::proto::etcdserverpb::MemberListRequest;
use ringd::api::proto::etcdserverpb::RangeRequest;
use ringd::api::proto::etcdserverpb::StatusRequest;
use tokio::task::JoinSet;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("endpoint")
        .about("Single servers")
        .subcommands([
            arguments::verb("health", "Whether each server answers", ""),
            arguments::verb("status", "What each server says of itself", ""),
            arguments::verb("hashkv", "Each server's hash of the keyspace", "")
                .arg(arguments::integer("rev", "As of this revision")),
        ])
        .arg(cluster().global(true))
}

/// The flag `--cluster`.
pub(super) fn cluster() -> clap::Arg {
    arguments::switch("cluster", "All members' servers, not those of --endpoints")
}

/// Does what one of them says.
///
/// # Errors
///
/// That a server is not well.
pub(super) async fn run(name: &str, given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let endpoints = endpoints(given, context).await?;
    match name {
        "health" => health(endpoints, context).await,
        "status" => status(endpoints, context).await,
        _ => hashes(endpoints, arguments::number_of(given, "rev"), context).await,
    }
}

/// The servers that are meant: those of the flag, or all members'.
///
/// # Errors
///
/// That the members cannot be asked for.
pub(super) async fn endpoints(
    given: &ArgMatches,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    if !arguments::is_on(given, "cluster") {
        return Ok(context.settings.endpoints.clone());
    }
    let client = context.client().await?;
    let call = client.call(&methods::MEMBER_LIST, MemberListRequest { linearizable: true });
    let answer = client.within(call).await.map_err(|refused| {
        let text = format!("failed to fetch endpoints from etcd cluster member list: {refused}");
        Failure::new(Exit::Error, text)
    })?;
    Ok(answer.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn health(endpoints: Vec<String>, context: &Context) -> Result<(), Failure> {
    let mut checks = JoinSet::new();
    for (place, endpoint) in endpoints.into_iter().enumerate() {
        let settings = context.settings.clone();
        checks.spawn(async move { (place, check(endpoint, &settings).await) });
    }
    let mut found = checks.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    let found: Vec<_> = found.into_iter().map(|(_, health)| health).collect();
    context.printer().show(&found)?;
    if found.iter().any(|health| health.error.is_some()) {
        return Err(Failure::new(Exit::Error, "unhealthy cluster"));
    }
    Ok(())
}

/// How one server does: it is well if it can read, or may not, and no alarm is raised.
async fn check(endpoint: String, settings: &Settings) -> Health {
    let watch = Stopwatch::start();
    let error = match Client::open_one(settings, &endpoint).await {
        Ok(client) => ailment(&client).await,
        Err(failure) => failure.text,
    };
    Health { endpoint, took: watch.elapsed(), error }
}

/// What is wrong with a server.
async fn ailment(client: &Client) -> Option<String> {
    let request = RangeRequest { key: "health".into(), ..Default::default() };
    match client.within(client.call(&methods::RANGE, request)).await {
        Ok(_) => {}
        Err(refused) if refused.is_permission() => {}
        Err(refused) => return Some(refused.to_string()),
    }
    match client.within(client.call(&methods::ALARM, AlarmRequest::default())).await {
        Ok(answer) if answer.alarms.is_empty() => None,
        Ok(answer) => {
            let names = answer.alarms.iter().map(|alarm| format!("{} ", alarm_name(alarm)));
            Some(format!("Active Alarm(s): {}", names.collect::<String>()))
        }
        Err(refused) if refused.is_permission() => None,
        Err(_) => Some("Unable to fetch the alarm list".to_owned()),
    }
}

async fn status(endpoints: Vec<String>, context: &Context) -> Result<(), Failure> {
    let (mut statuses, mut is_whole) = (Statuses::default(), true);
    for endpoint in endpoints {
        let client = Client::open_one(&context.settings, &endpoint).await?;
        match client.within(client.call(&methods::STATUS, StatusRequest {})).await {
            Ok(answer) => statuses.0.push((endpoint, answer)),
            Err(refused) => {
                tell(format_args!("Failed to get the status of endpoint {endpoint} ({refused})"));
                is_whole = false;
            }
        }
    }
    context.printer().show(&statuses)?;
    if is_whole { Ok(()) } else { Err(Failure::told(Exit::Error)) }
}

async fn hashes(endpoints: Vec<String>, revision: i64, context: &Context) -> Result<(), Failure> {
    let (mut hashes, mut last): (Vec<Hash>, _) = (Vec::new(), Ok(()));
    for endpoint in endpoints {
        let client = Client::open_one(&context.settings, &endpoint).await?;
        let call = client.call(&methods::HASH_KV, HashKvRequest { revision });
        match client.within(call).await {
            Ok(answer) => hashes.push((endpoint, answer)),
            Err(refused) => {
                tell(format_args!("Failed to get the hash of endpoint {endpoint} ({refused})"));
                last = Err(refused.into());
            }
        }
    }
    context.printer().show(&hashes)?;
    last
}
