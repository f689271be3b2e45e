//! `del`: a key, or the keys of a range.

use crate::arguments;
use crate::client::methods;
use crate::failure::Failure;
use crate::go;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::get;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::DeleteRangeRequest;
use std::time::Duration;

/// The time in which a range may still be thought better of.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("del", "Delete a key, or the keys of a range", "key [range_end]")
        .override_usage("ringctl del [flags] <key> [range_end]")
        .args([
            arguments::switch("prefix", "All keys that begin with this one"),
            arguments::switch("from-key", "All keys from this one on"),
            arguments::switch("range", "A range is meant: do not wait and warn"),
            arguments::switch("prev-kv", "Print what was deleted"),
        ])
}

/// Deletes them.
///
/// # Errors
///
/// A command line that contradicts itself; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let request = request(given).await?;
    let client = context.client().await?;
    let answer = client.within(client.call(&methods::DELETE_RANGE, request)).await?;
    context.printer().show(&answer)
}

/// What the command line asks for, after a while if it is a range that nobody called one.
///
/// # Errors
///
/// A command line that asks for nothing, or contradicts itself.
pub(super) async fn request(given: &ArgMatches) -> Result<DeleteRangeRequest, Failure> {
    let is_on = |name| arguments::is_on(given, name);
    let (prefix, from_key) = (is_on("prefix"), is_on("from-key"));
    let mut rest = arguments::bytes_of(given).into_iter();
    if !(1..=2).contains(&rest.len()) {
        let text = "del command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(text));
    }
    if prefix && from_key {
        let text = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
        return Err(Failure::arguments(text));
    }
    let key = rest.next().expect("there is one or there are two");
    let end = rest.next();
    if end.is_some() && (prefix || from_key) {
        return Err(Failure::arguments(get::TOO_MANY));
    }
    if let Some(end) = &end
        && !is_on("range")
    {
        tell(format_args!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within \
             next {} seconds to cancel. You can provide `--range` flag to avoid the delay.",
            go::quote(&key),
            go::quote(end),
            SECOND_THOUGHTS.as_secs()
        ));
        tokio::time::sleep(SECOND_THOUGHTS).await;
    }
    let (key, range_end) = get::range(key, end, prefix, from_key);
    Ok(DeleteRangeRequest { key, range_end, prev_kv: is_on("prev-kv") })
}
