//! `compaction`: forget what is older than a revision.

use crate::arguments;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use crate::verbs::Context;
use crate::verbs::progress::Spinner;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::CompactionRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("compaction", "Forget what is older than a revision", "revision")
        .override_usage("ringctl compaction [flags] <revision>")
        .arg(arguments::switch("physical", "Wait until it is gone"))
}

/// Asks for it.
///
/// # Errors
///
/// No revision; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let [text] = &arguments::texts_of(given)[..] else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision = go::parse_int(text, 10).map_err(|why| Failure::new(Exit::Error, why))?;
    let physical = arguments::is_on(given, "physical");
    let client = context.client().await?;
    let request = CompactionRequest { revision, physical };
    let spinner = physical.then(|| Spinner::start(format!("compacting to revision {revision}")));
    client.within(client.call(&methods::COMPACT, request)).await?;
    drop(spinner);
    context.printer().line(format_args!("compacted revision {revision}"))
}
