//! `move-leader`: have another member lead.

use crate::arguments;
use crate::client::Client;
use crate::client::methods;
use crate::failure::Failure;
use crate::go;
use crate::print::Moved;
use crate::verbs::Context;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::MoveLeaderRequest;
use ringd::api::proto::etcdserverpb::StatusRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("move-leader", "Have another member lead", "member")
        .override_usage("ringctl move-leader <member>")
}

/// Asks the leader, which has to be among the servers, to hand over.
///
/// # Errors
///
/// That it is not among them; what it refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let [text] = &arguments::texts_of(given)[..] else {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    };
    let target = go::parse_uint(text, 16).map_err(Failure::arguments)?;
    let endpoints = &context.settings.endpoints;
    for endpoint in endpoints {
        let client = Client::open_one(&context.settings, endpoint).await?;
        let status = client.within(client.call(&methods::STATUS, StatusRequest {})).await?;
        let member = status.header.unwrap_or_default().member_id;
        if status.leader != member {
            continue;
        }
        let call = client.call(&methods::MOVE_LEADER, MoveLeaderRequest { target_id: target });
        let answer = client.within(call).await?;
        return context.printer().show(&Moved { from: member, to: target, answer });
    }
    let text = format!("no leader endpoint given at [{}]", endpoints.join(" "));
    Err(Failure::arguments(text))
}
