//! `member`: who belongs to the cluster, and changes of that.

use crate::arguments;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use crate::print::Changed;
use crate::settings::Format;
use crate::verbs::Context;
use crate::verbs::get;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::MemberAddRequest;
use ringd::api::proto::etcdserverpb::MemberAddResponse;
use ringd::api::proto::etcdserverpb::MemberListRequest;
use ringd::api::proto::etcdserverpb::MemberPromoteRequest;
use ringd::api::proto::etcdserverpb::MemberRemoveRequest;
use ringd::api::proto::etcdserverpb::MemberUpdateRequest;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("member").about("The members of the cluster").subcommands([
        arguments::verb("add", "Take in a member", "name")
            .arg(peer_urls())
            .arg(arguments::switch("learner", "Without a vote at first")),
        arguments::verb("remove", "Let a member go", "member"),
        arguments::verb("update", "Where else a member's peers find it", "member").arg(peer_urls()),
        arguments::verb("promote", "Give a learner its vote", "member"),
        arguments::verb("list", "All members", "").arg(arguments::text(
            "consistency",
            "l",
            "Linearizable (l) or serializable (s)",
        )),
    ])
}

/// The flag `--peer-urls`.
fn peer_urls() -> Arg {
    arguments::text("peer-urls", "", "Where its peers find it, separated by commas")
}

/// Does what one of them says.
///
/// # Errors
///
/// A command line without what it needs; what the server refuses.
pub(super) async fn run(name: &str, given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    match name {
        "add" => add(given, context).await,
        "remove" => remove(given, context).await,
        "update" => update(given, context).await,
        "promote" => promote(given, context).await,
        _ => list(given, context).await,
    }
}

async fn list(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let consistency = arguments::text_of(given, "consistency");
    let linearizable = !get::is_serializable(consistency)?;
    let client = context.client().await?;
    let call = client.call(&methods::MEMBER_LIST, MemberListRequest { linearizable });
    context.printer().show(&client.within(call).await?)
}

async fn add(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let rest = arguments::texts_of(given);
    let name = match &rest[..] {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => name,
        many => {
            let urls = many.iter().filter(|word| word.to_lowercase().starts_with("http"));
            let hints = urls.map(|url| format!(", did you mean --peer-urls={url}"));
            let text = format!("too many arguments{}", hints.collect::<String>());
            return Err(Failure::arguments(text));
        }
    };
    let urls = urls(given)?;
    let client = context.client().await?;
    go::check_urls(&urls).map_err(|why| Failure::new(Exit::Error, why))?;
    let is_learner = arguments::is_on(given, "learner");
    let request = MemberAddRequest { peer_ur_ls: urls, is_learner };
    let answer = client.within(client.call(&methods::MEMBER_ADD, request)).await?;
    let printer = context.printer();
    printer.show(&answer)?;
    match printer.format() {
        Format::Simple => printer.line(variables(name, arguments::text_of(given, PEER), &answer)),
        Format::Json | Format::Fields | Format::Table | Format::Protobuf => Ok(()),
    }
}

/// The variables with which the new member is to be started.
fn variables(name: &str, urls: &str, answer: &MemberAddResponse) -> String {
    let id = answer.member.as_ref().map(|member| member.id);
    let all = answer.members.iter().flat_map(|member| {
        let name = if Some(member.id) == id { name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    let all = all.collect::<Vec<_>>().join(",");
    let quoted = |text: &str| go::quote(text.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        quoted(name),
        quoted(&all),
        quoted(urls),
    )
}

async fn remove(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = member(given)?;
    let client = context.client().await?;
    let call = client.call(&methods::MEMBER_REMOVE, MemberRemoveRequest { id });
    let answer = client.within(call).await?;
    context.printer().show(&Changed::removed(id, answer))
}

async fn update(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = member(given)?;
    let urls = urls(given)?;
    let client = context.client().await?;
    go::check_urls(&urls).map_err(|why| Failure::new(Exit::Error, why))?;
    let request = MemberUpdateRequest { id, peer_ur_ls: urls };
    let answer = client.within(client.call(&methods::MEMBER_UPDATE, request)).await?;
    context.printer().show(&Changed::updated(id, answer))
}

async fn promote(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let id = member(given)?;
    let client = context.client().await?;
    let call = client.call(&methods::MEMBER_PROMOTE, MemberPromoteRequest { id });
    let answer = client.within(call).await?;
    context.printer().show(&Changed::promoted(id, answer))
}

/// The member that the command line names, alone.
fn member(given: &ArgMatches) -> Result<u64, Failure> {
    let [text] = &arguments::texts_of(given)[..] else {
        return Err(Failure::arguments("member ID is not provided"));
    };
    go::parse_uint(text, 16).map_err(|why| {
        Failure::arguments(format!("bad member ID arg ({why}), expecting ID in Hex"))
    })
}

/// The name of the flag with the URLs.
const PEER: &str = "peer-urls";

/// Where peers are to find the member.
fn urls(given: &ArgMatches) -> Result<Vec<String>, Failure> {
    match arguments::text_of(given, PEER) {
        "" => Err(Failure::arguments("member peer urls not provided")),
        text => Ok(text.split(',').map(str::to_owned).collect()),
    }
}
