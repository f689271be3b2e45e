//! `get`: the rows of a range.

use crate::arguments;
use crate::client::Client;
use crate::client::Refused;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::print::Printer;
use crate::print::Rows;
use crate::settings::Format;
use crate::verbs::Context;
use crate::verbs::end_of_prefix;
use bytes::Bytes;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::RangeRequest;
use ringd::api::proto::etcdserverpb::RangeResponse;
use ringd::api::proto::etcdserverpb::range_request::SortOrder;
use ringd::api::proto::etcdserverpb::range_request::SortTarget;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("get", "Print a key, or the keys of a range", "key [range_end]")
        .override_usage("ringctl get [flags] <key> [range_end]")
        .args([
            arguments::text("consistency", "l", "Linearizable (l) or serializable (s)"),
            arguments::text("order", "", "ASCEND or DESCEND"),
            arguments::text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
            arguments::integer("limit", "How many rows at most"),
            arguments::switch("prefix", "All keys that begin with this one"),
            arguments::switch("from-key", "All keys from this one on"),
            arguments::integer("rev", "As of this revision"),
            arguments::switch("keys-only", "Leave the values out"),
            arguments::switch("count-only", "Only count the keys"),
            arguments::switch("print-value-only", "Print values without their keys"),
            arguments::integer("min-create-rev", "Created at this revision or later"),
            arguments::integer("max-create-rev", "Created at this revision or before"),
            arguments::integer("min-mod-rev", "Changed at this revision or later"),
            arguments::integer("max-mod-rev", "Changed at this revision or before"),
            arguments::switch("stream", "Have the rows sent in many messages"),
        ])
}

/// Prints them.
///
/// # Errors
///
/// A command line that contradicts itself; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let request = request(given)?;
    let values_only = arguments::is_on(given, "print-value-only");
    let printer = context.printer();
    let client = context.client().await?;
    let format = printer.format();
    // A count in a format that does not show it is refused, as are values in one that has fields:
    // after the call, as etcdctl does.
    let is_shown = (!request.count_only || format == Format::Fields)
        && (!values_only || format == Format::Simple);
    if arguments::is_on(given, "stream") && format == Format::Simple && is_shown {
        return as_they_come(&client, request, values_only, printer).await;
    }
    let count_only = request.count_only;
    let answer = if arguments::is_on(given, "stream") {
        client.within(whole_stream(&client, request)).await?
    } else {
        client.within(client.call(&methods::RANGE, request)).await?
    };
    if count_only && format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    if values_only && format != Format::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    printer.show(&Rows { answer: &answer, values_only })
}

/// Prints the messages of a stream one by one, so that a range of any size can be printed. Each has
/// the time that a command may take.
async fn as_they_come(
    client: &Client,
    request: RangeRequest,
    values_only: bool,
    printer: Printer,
) -> Result<(), Failure> {
    let mut answers = client.within(client.answers(&methods::RANGE_STREAM, request)).await?;
    let mut next = async || {
        let next = async { answers.message().await.map_err(Refused::by) };
        client.within(next).await
    };
    while let Some(part) = next().await? {
        let answer = part.range_response.unwrap_or_default();
        printer.show(&Rows { answer: &answer, values_only })?;
    }
    Ok(())
}

/// The messages of a stream as one answer.
async fn whole_stream(client: &Client, request: RangeRequest) -> Result<RangeResponse, Refused> {
    let mut answers = client.answers(&methods::RANGE_STREAM, request).await?;
    let mut whole = RangeResponse::default();
    while let Some(part) = answers.message().await.map_err(Refused::by)? {
        let part = part.range_response.unwrap_or_default();
        whole.header = part.header.or(whole.header);
        whole.kvs.extend(part.kvs);
        whole.more |= part.more;
        whole.count = whole.count.max(part.count);
    }
    Ok(whole)
}

/// What the command line asks for.
///
/// # Errors
///
/// A command line that asks for nothing, or contradicts itself.
pub(super) fn request(given: &ArgMatches) -> Result<RangeRequest, Failure> {
    let is_on = |name| arguments::is_on(given, name);
    let (prefix, from_key) = (is_on("prefix"), is_on("from-key"));
    if prefix && from_key {
        let text = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
        return Err(Failure::arguments(text));
    }
    let mut rest = arguments::bytes_of(given).into_iter();
    let key = rest.next().ok_or_else(|| {
        let text = "get command needs one argument as key and an optional argument as range_end";
        Failure::arguments(text)
    })?;
    if is_on("keys-only") && is_on("count-only") {
        let text = "`--keys-only` and `--count-only` cannot be set at the same time, choose one";
        return Err(Failure::arguments(text));
    }
    let serializable = is_serializable(arguments::text_of(given, "consistency"))?;
    if rest.len() > 0 && (prefix || from_key) {
        return Err(Failure::arguments(TOO_MANY));
    }
    let (key, range_end) = range(key, rest.next(), prefix, from_key);
    let (sort_order, sort_target) = sort(given)?;
    let revision = |name| arguments::number_of(given, name).max(0);
    Ok(RangeRequest {
        key,
        range_end,
        limit: arguments::number_of(given, "limit"),
        revision: revision("rev"),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: is_on("keys-only"),
        count_only: is_on("count-only"),
        min_mod_revision: revision("min-mod-rev"),
        max_mod_revision: revision("max-mod-rev"),
        min_create_revision: revision("min-create-rev"),
        max_create_revision: revision("max-create-rev"),
    })
}

/// What is said of two ends of one range.
pub(super) const TOO_MANY: &str =
    "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

/// A range as the server takes it.
pub(super) fn range(
    key: Bytes,
    end: Option<Bytes>,
    is_prefix: bool,
    is_from_key: bool,
) -> (Bytes, Bytes) {
    let first = if key.is_empty() { Bytes::from_static(b"\0") } else { key.clone() };
    match (is_prefix, is_from_key) {
        (true, _) => (first, end_of_prefix(&key).into()),
        (_, true) => (first, Bytes::from_static(b"\0")),
        _ => (key, end.unwrap_or_default()),
    }
}

/// Whether an answer may be stale.
///
/// # Errors
///
/// A letter that means nothing.
pub(super) fn is_serializable(consistency: &str) -> Result<bool, Failure> {
    match consistency {
        "l" => Ok(false),
        "s" => Ok(true),
        other => {
            let text = format!("unknown consistency flag \"{other}\"");
            Err(Failure::new(Exit::BadFeature, text))
        }
    }
}

/// How rows are sorted.
fn sort(given: &ArgMatches) -> Result<(SortOrder, SortTarget), Failure> {
    let (order, target) =
        (arguments::text_of(given, "order"), arguments::text_of(given, "sort-by"));
    let sort_order = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => {
            return Err(Failure::new(Exit::BadFeature, format!("bad sort order {order}")));
        }
    };
    let sort_target = match target.to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "" | "KEY" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => {
            return Err(Failure::new(Exit::BadFeature, format!("bad sort target {target}")));
        }
    };
    // By key and upwards is how rows come anyway; a stream has no other order.
    if sort_order == SortOrder::Ascend && sort_target == SortTarget::Key {
        return Ok((SortOrder::None, sort_target));
    }
    Ok((sort_order, sort_target))
}
