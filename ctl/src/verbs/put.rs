//! `put`: one key, one value.

use crate::arguments;
use crate::client::methods;
use crate::failure::Failure;
use crate::go;
use crate::verbs::Context;
use bytes::Bytes;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::PutRequest;
use std::io;
use std::io::Read;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("put", "Store a value under a key", "key [value]")
        .override_usage("ringctl put [flags] <key> <value>  (or the value from standard input)")
        .args([
            arguments::text("lease", "0", "Attach the key to this lease (hexadecimal)"),
            arguments::switch("prev-kv", "Print what was there before"),
            arguments::switch("ignore-value", "Keep the key's value"),
            arguments::switch("ignore-lease", "Keep the key's lease"),
        ])
}

/// Stores it.
///
/// # Errors
///
/// A command line without a value; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let request = request(given, || {
        let mut value = Vec::new();
        io::stdin().read_to_end(&mut value).map(|_| value)
    })?;
    let client = context.client().await?;
    let answer = client.within(client.call(&methods::PUT, request)).await?;
    context.printer().show(&answer)
}

/// What the command line asks for; a value that is not on it is asked of `input`.
///
/// # Errors
///
/// A command line that asks for nothing.
pub(super) fn request(
    given: &ArgMatches,
    input: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<PutRequest, Failure> {
    let few =
        || Failure::arguments("put command needs 1 argument and input from stdin or 2 arguments");
    let ignore_value = arguments::is_on(given, "ignore-value");
    let mut rest = arguments::bytes_of(given).into_iter();
    let key = rest.next().ok_or_else(few)?;
    if ignore_value && rest.len() > 0 {
        let text = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Failure::arguments(text));
    }
    let lease = go::parse_int(arguments::text_of(given, "lease"), 16)
        .map_err(|why| Failure::arguments(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    let value = match rest.next() {
        Some(value) => value,
        None if ignore_value => Bytes::new(),
        None => {
            let value = input().map_err(|_| few())?;
            if value.is_empty() {
                return Err(few());
            }
            value.into()
        }
    };
    let prev_kv = arguments::is_on(given, "prev-kv");
    let ignore_lease = arguments::is_on(given, "ignore-lease");
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}
