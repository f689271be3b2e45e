//! `member list`: who belongs to the cluster.

use crate::arguments;
use crate::client::methods;
use crate::failure::Failure;
use crate::verbs::Context;
use crate::verbs::get;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::MemberListRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("member").about("The members of the cluster").subcommand(
        arguments::verb("list", "All members", "").arg(arguments::text(
            "consistency",
            "l",
            "Linearizable (l) or serializable (s)",
        )),
    )
}

/// Prints them.
///
/// # Errors
///
/// What the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let consistency = arguments::text_of(given, "consistency");
    let linearizable = !get::is_serializable(consistency)?;
    let client = context.client().await?;
    let call = client.call(&methods::MEMBER_LIST, MemberListRequest { linearizable });
    context.printer().show(&client.within(call).await?)
}
