//! `alarm`: what members have raised.

use crate::arguments;
use crate::client::methods;
use crate::failure::Failure;
use crate::verbs::Context;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::AlarmRequest;
use ringd::api::proto::etcdserverpb::AlarmResponse;
use ringd::api::proto::etcdserverpb::alarm_request::AlarmAction;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("alarm").about("Alarms of members").subcommands([
        arguments::verb("list", "All alarms", ""),
        arguments::verb("disarm", "Take all alarms back", ""),
    ])
}

/// Prints the alarms, or takes them back and prints them.
///
/// # Errors
///
/// What the server refuses.
pub(super) async fn run(name: &str, given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    if !arguments::rest_of(given).is_empty() {
        return Err(Failure::arguments(format!("alarm {name} command accepts no arguments")));
    }
    let client = context.client().await?;
    let asked = client.call(&methods::ALARM, AlarmRequest::default());
    let raised = client.within(asked).await?;
    if name == "list" {
        return context.printer().show(&raised);
    }
    let mut disarmed = AlarmResponse::default();
    for alarm in raised.alarms {
        let action = AlarmAction::Deactivate.into();
        let request = AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        let answer = client.within(client.call(&methods::DISARM, request)).await?;
        disarmed.alarms.extend(answer.alarms);
    }
    context.printer().show(&disarmed)
}
