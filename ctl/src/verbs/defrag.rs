//! `defrag`: have each server give back room that holds nothing any more.

use crate::arguments;
use crate::client::Client;
use crate::client::Stopwatch;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::endpoint;
use crate::verbs::progress::Spinner;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::DefragmentRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("defrag", "Have servers give back unused room", "").arg(endpoint::cluster())
}

/// Asks each server in turn.
///
/// # Errors
///
/// That one of them did not.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let mut is_whole = true;
    for endpoint in endpoint::endpoints(given, context).await? {
        let watch = Stopwatch::start();
        let client = Client::open_one(&context.settings, &endpoint).await?;
        let spinner = Spinner::start(format!("defragmenting {endpoint}"));
        let call = client.call(&methods::DEFRAGMENT, DefragmentRequest {});
        let outcome = client.within(call).await;
        drop(spinner);
        let took = go::format_duration(watch.elapsed());
        match outcome {
            Ok(_) => {
                let done = format!("Finished defragmenting etcd member[{endpoint}]. took {took}");
                context.printer().line(done)?;
            }
            Err(refused) => {
                let failed = format!("Failed to defragment etcd member[{endpoint}]. took {took}.");
                tell(format_args!("{failed} ({refused})"));
                is_whole = false;
            }
        }
    }
    if is_whole { Ok(()) } else { Err(Failure::told(Exit::Error)) }
}
