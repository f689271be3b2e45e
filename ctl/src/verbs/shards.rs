//! `shards`: which member leads which shard.
//!
//! Any member that answers lists all of them; each says where its shards are, and each shard how it
//! is. So what is printed is what every single one says of itself.

use crate::arguments;
use crate::client::Client;
use crate::client::methods;
use crate::client::page;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::print::ShardRow;
use crate::tell;
use crate::verbs::Context;
use clap::Command;
use ringd::api::proto::etcdserverpb::Member;
use ringd::api::proto::etcdserverpb::MemberListRequest;
use ringd::api::proto::etcdserverpb::StatusRequest;
use serde_json::Value;

/// Where a server says which shards it has.
const PAGE: &str = "/shards";

/// The command line of the verb.
pub(super) fn command() -> Command {
    arguments::verb("shards", "Which member leads which shard, of all members", "")
}

/// Prints a row for each member and shard.
///
/// # Errors
///
/// That the members cannot be asked for, or that one of them does not answer; the others' rows are
/// printed all the same.
pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    // Who is away may be why this is asked.
    let call = client.call(&methods::MEMBER_LIST, MemberListRequest { linearizable: false });
    let members = client.within(call).await?.members;
    let (mut rows, mut is_whole) = (Vec::new(), true);
    for member in &members {
        match shards_of(member, context).await {
            Ok(shards) => {
                for (shard, endpoint) in shards {
                    match status_of(member, shard, endpoint, context).await {
                        Ok(row) => rows.push(row),
                        Err(why) => {
                            tell(format_args!("shard {shard} of member {}: {why}", name(member)));
                            is_whole = false;
                        }
                    }
                }
            }
            Err(why) => {
                tell(format_args!("member {}: {why}", name(member)));
                is_whole = false;
            }
        }
    }
    rows.sort_by_key(|row| (row.shard, row.member()));
    context.printer().show(&rows)?;
    if is_whole { Ok(()) } else { Err(Failure::told(Exit::Error)) }
}

/// What a person calls a member.
fn name(member: &Member) -> String {
    format!("{:x} ({:?})", member.id, member.name)
}

/// The shards of a member, and where each is found.
async fn shards_of(member: &Member, context: &Context) -> Result<Vec<(u64, String)>, String> {
    let mut why = "it has not started".to_owned();
    for url in &member.client_ur_ls {
        match page::get(url, PAGE, &context.settings).await {
            Ok(page) => return read(&page).ok_or(format!("{url}{PAGE} does not read: {page}")),
            Err(error) => why = format!("{url}: {error}"),
        }
    }
    Err(why)
}

/// What the page says: the number of each shard, and the first of its addresses.
fn read(page: &str) -> Option<Vec<(u64, String)>> {
    let page: Value = serde_json::from_str(page).ok()?;
    let shards = page["shards"].as_array()?.iter().map(|shard| {
        let url = shard["clientURLs"][0].as_str()?.to_owned();
        Some((shard["shard"].as_u64()?, url))
    });
    shards.collect()
}

async fn status_of(
    member: &Member,
    shard: u64,
    endpoint: String,
    context: &Context,
) -> Result<ShardRow, String> {
    let opened = Client::open_one(&context.settings, &endpoint).await;
    let client = opened.map_err(|failure| failure.text.unwrap_or_default())?;
    let call = client.call(&methods::STATUS, StatusRequest {});
    let status = client.within(call).await.map_err(|refused| format!("{endpoint}: {refused}"))?;
    Ok(ShardRow { shard, name: member.name.clone(), endpoint, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_none_is_not_read() {
        let page = r#"{"shards":[{"clientURLs":["http://a:1","http://b:1"],"shard":0}]}"#;
        assert_eq!(read(page), Some(vec![(0, "http://a:1".to_owned())]));
        for page in ["", "{}", r#"{"shards":[{"shard":0,"clientURLs":[]}]}"#, r#"{"shards":[1]}"#] {
            assert_eq!(read(page), None, "{page}");
        }
    }
}
