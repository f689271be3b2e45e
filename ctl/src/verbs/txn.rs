//! `txn`: conditions, what to do if all are true, and what if one is not; read line by line.

use crate::arguments;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::del;
use crate::verbs::get;
use crate::verbs::put;
use crate::verbs::txn_compare::comparison;
use crate::words::words;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::RequestOp;
use ringd::api::proto::etcdserverpb::TxnRequest;
use ringd::api::proto::etcdserverpb::request_op::Request;
use std::io::BufRead;

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("txn", "Do several requests at once, if conditions hold", "")
        .override_usage("ringctl txn [flags]  (the transaction from standard input)")
        .after_help(
            "Standard input has three parts, each ended by an empty line: conditions, requests for \
             when all are true, requests for when one is not.\n\n\
             mod(\"key\") > \"0\"\n\
             val(\"key\") = \"old\"\n\n\
             put key new\n\n\
             get key --rev 2\n\
             del other --prefix\n\n\
             A condition compares mod, create, version, value or lease by =, !=, < or >.",
        )
        .arg(interactive("Say which part is read"))
}

/// The flag `-i`.
pub(super) fn interactive(help: &'static str) -> Arg {
    arguments::switch("interactive", help).short('i')
}

/// Reads a transaction and asks for it.
///
/// # Errors
///
/// A line that means nothing; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    if !arguments::rest_of(given).is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let printer = context.printer();
    let is_interactive = arguments::is_on(given, "interactive");
    let ask = |part: &str| if is_interactive { printer.line(part) } else { Ok(()) };
    let mut request = TxnRequest::default();
    ask("compares:")?;
    while let Some(line) = line()? {
        request.compare.push(comparison(&line)?);
    }
    ask("success requests (get, put, del):")?;
    while let Some(line) = line()? {
        request.success.push(operation(&line).await?);
    }
    ask("failure requests (get, put, del):")?;
    while let Some(line) = line()? {
        request.failure.push(operation(&line).await?);
    }
    let client = context.client().await?;
    let answer = client.within(client.call(&methods::TXN, request)).await?;
    printer.show(&answer)
}

/// The next line of standard input without space around it; none at an empty one.
fn line() -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    let read = std::io::stdin().lock().read_until(b'\n', &mut line);
    read.map_err(|error| Failure::new(Exit::InvalidInput, error))?;
    if line.last() != Some(&b'\n') {
        return Err(Failure::new(Exit::InvalidInput, "EOF"));
    }
    let line = line.trim_ascii();
    Ok(Some(line.to_vec()).filter(|line| !line.is_empty()))
}

/// The request of a line.
async fn operation(line: &[u8]) -> Result<RequestOp, Failure> {
    let told = String::from_utf8_lossy(line);
    let wrong = || Failure::new(Exit::InvalidInput, format!("invalid txn request: {told}"));
    let mut words = words(line)?;
    if words.len() < 2 {
        // As etcdctl has it.
        let text = format!("invalid txn compare request: {told}");
        return Err(Failure::new(Exit::InvalidInput, text));
    }
    let name = words.remove(0);
    let command = match name.to_str() {
        Some("put") => put::command(),
        Some("get") => get::command(),
        Some("del") => del::command(),
        _ => return Err(wrong()),
    };
    let given = command.no_binary_name(true).try_get_matches_from(&words).map_err(|error| {
        tell(arguments::complaint(&error, &words));
        wrong()
    })?;
    let request = match name.to_str() {
        Some("put") => Request::RequestPut(put::request(&given, || Ok(Vec::new()))?),
        Some("get") => Request::RequestRange(get::request(&given)?),
        _ => Request::RequestDeleteRange(del::request(&given).await?),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_spelled_as_on_the_command_line() {
        let op = operation(b"put --prev-kv a 'x y' --lease=1f").await.expect("it is right");
        let Some(Request::RequestPut(put)) = op.request else { panic!("{op:?}") };
        assert_eq!((&put.key[..], &put.value[..], put.lease), (&b"a"[..], &b"x y"[..], 31));
        assert!(put.prev_kv);
        let op = operation(b"get \"\" --prefix --limit 3").await.expect("it is right");
        let Some(Request::RequestRange(get)) = op.request else { panic!("{op:?}") };
        assert_eq!((&get.key[..], &get.range_end[..], get.limit), (&b"\0"[..], &b"\0"[..], 3));
        let op = operation(b"del a b --range").await.expect("it is right");
        let Some(Request::RequestDeleteRange(del)) = op.request else { panic!("{op:?}") };
        assert_eq!((&del.key[..], &del.range_end[..]), (&b"a"[..], &b"b"[..]));
    }

    #[tokio::test]
    async fn a_line_that_means_nothing_is_told() {
        for (line, code, text) in [
            ("foo a", 3, "invalid txn request: foo a"),
            ("get", 3, "invalid txn compare request: get"),
            ("put --bogus a b", 3, "invalid txn request: put --bogus a b"),
            ("put a", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
            ("get --consistency x a", 4, "unknown consistency flag \"x\""),
        ] {
            let failure = operation(line.as_bytes()).await.expect_err("it means nothing");
            assert_eq!((failure.code, failure.text.as_deref()), (code, Some(text)), "{line}");
        }
    }
}
