//! `elect`: stand for an election and lead until interrupted, or watch who leads.

use crate::arguments;
use crate::client::Client;
use crate::client::Session;
use crate::client::Watcher;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::verbs::Context;
use crate::verbs::end_of_prefix;
use crate::verbs::interrupted;
use crate::verbs::wait;
use crate::verbs::wait::Place;
use bytes::Bytes;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::RangeResponse;
use ringd::api::proto::etcdserverpb::ResponseHeader;
use ringd::api::proto::etcdserverpb::WatchCreateRequest;
use ringd::api::proto::etcdserverpb::range_request::SortOrder;
use ringd::api::proto::mvccpb::KeyValue;
use ringd::api::proto::mvccpb::event::EventType;

/// Seconds after which a leader that is gone has lost.
const TTL: i64 = 60;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("elect", "Lead, or watch who leads", "name [proposal]")
        .override_usage("ringctl elect [flags] <name> [proposal]")
        .arg(arguments::switch("listen", "Watch who leads").short('l'))
}

/// Leads or watches, until interrupted.
///
/// # Errors
///
/// A command line that says neither; leadership that is lost; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let rest = arguments::bytes_of(given);
    let listen = arguments::is_on(given, "listen");
    match &rest[..] {
        [name] if listen => {
            let client = context.client().await?;
            tokio::select! {
                failed = observe(&client, name, context) => failed,
                ended = interrupted() => ended,
            }
        }
        [_] => Err(Failure::arguments("no proposal argument but -l not set")),
        [_, _] if listen => Err(Failure::arguments("proposal given but -l is set")),
        [name, proposal] => campaign(name, proposal.clone(), context).await,
        _ => {
            let text = "elect takes one election name argument and an optional proposal argument";
            Err(Failure::arguments(text))
        }
    }
}

/// Waits until it leads, says so, and leads until interrupted.
async fn campaign(name: &[u8], proposal: Bytes, context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let end = interrupted();
    tokio::pin!(end);
    let mut session = tokio::select! {
        session = Session::open(&client, TTL) => session?,
        ended = &mut end => return ended,
    };
    let mut place = Place::take(&client, &session, name, proposal).await?;
    let leading = async {
        place.wait(&client).await?;
        context.printer().show(&place.row(&client).await?)?;
        std::future::pending().await
    };
    let outcome = tokio::select! {
        failed = leading => failed,
        () = session.lost() => Err(Failure::new(Exit::Error, "elect: session expired")),
        ended = &mut end => ended,
    };
    let left = place.leave(&client).await;
    outcome.and_then(|()| left.map_err(Failure::from))
}

/// Prints who leads, whenever that changes.
async fn observe(client: &Client, name: &[u8], context: &Context) -> Result<(), Failure> {
    let prefix = [name, b"/"].concat();
    loop {
        let request = wait::one_of(&prefix, SortOrder::Ascend);
        let answer = client.call(&methods::RANGE, request).await?;
        let (header, leader) = match answer.kvs.into_iter().next() {
            Some(leader) => (answer.header, leader),
            None => {
                let now = answer.header.unwrap_or_default().revision;
                first_after(client, &prefix, now).await?
            }
        };
        let revision = leader.mod_revision;
        let key = leader.key.clone();
        show(header, leader, context)?;
        while_leading(client, key, revision, context).await?;
    }
}

/// The first key under a prefix that is put after a revision.
async fn first_after(
    client: &Client,
    prefix: &[u8],
    revision: i64,
) -> Result<(Option<ResponseHeader>, KeyValue), Failure> {
    let request = WatchCreateRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: end_of_prefix(prefix).into(),
        start_revision: revision + 1,
        ..Default::default()
    };
    let mut watcher = Watcher::new(client, request);
    loop {
        let response = watcher.next().await?;
        if response.canceled {
            return Err(wait::canceled(&response));
        }
        let header = response.header;
        let mut puts = response.events.into_iter().filter(|it| it.r#type() == EventType::Put);
        if let Some(kv) = puts.next().and_then(|event| event.kv) {
            return Ok((header, kv));
        }
    }
}

/// Prints every new value of a leader's key until it is deleted.
async fn while_leading(
    client: &Client,
    key: Bytes,
    revision: i64,
    context: &Context,
) -> Result<(), Failure> {
    let start_revision = revision + 1;
    let request = WatchCreateRequest { key, start_revision, ..Default::default() };
    let mut watcher = Watcher::new(client, request);
    loop {
        let response = watcher.next().await?;
        if response.canceled {
            return Err(wait::canceled(&response));
        }
        for event in response.events {
            if event.r#type() == EventType::Delete {
                return Ok(());
            }
            show(response.header, event.kv.unwrap_or_default(), context)?;
        }
    }
}

fn show(header: Option<ResponseHeader>, kv: KeyValue, context: &Context) -> Result<(), Failure> {
    let answer = RangeResponse { header, kvs: vec![kv], ..Default::default() };
    context.printer().show(&answer)
}
