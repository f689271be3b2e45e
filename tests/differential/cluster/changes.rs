//! Members come, change and go; and changes that are refused.
//!
//! To an update with URLs that are none etcd does not answer: it ends. Ours says that they are
//! none. So no such thing is compared.

use super::*;

const BAD_URLS: &str = "etcdserver: given member URLs are invalid";
const EXISTS: &str = "etcdserver: Peer URLs already exists";
const NOT_FOUND: &str = "etcdserver: member not found";
const NOT_LEARNER: &str = "etcdserver: can only promote a learner member";
const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";
const TOO_MANY: &str = "etcdserver: too many learner members in cluster";
const BAD_TRANSFEREE: &str = "etcdserver: bad leader transferee";
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const NOT_STARTED: &str = "etcdserver: re-configuration failed due to not enough started members";

fn add(urls: Vec<String>, is_learner: bool) -> impl Fn(&Cluster) -> pb::MemberAddRequest {
    move |_| pb::MemberAddRequest { peer_ur_ls: urls.clone(), is_learner }
}

/// A new member where another is.
fn add_taken(is_learner: bool) -> impl Fn(&Cluster) -> pb::MemberAddRequest {
    move |of| pb::MemberAddRequest { peer_ur_ls: vec![of.url(1)], is_learner }
}

fn update(name: &str, urls: Vec<String>) -> impl Fn(&Cluster) -> pb::MemberUpdateRequest {
    move |of| pb::MemberUpdateRequest { id: of.id(name), peer_ur_ls: urls.clone() }
}

fn remove(name: &str) -> impl Fn(&Cluster) -> pb::MemberRemoveRequest {
    move |of| pb::MemberRemoveRequest { id: of.id(name) }
}

fn promote(name: &str) -> impl Fn(&Cluster) -> pb::MemberPromoteRequest {
    move |of| pb::MemberPromoteRequest { id: of.id(name) }
}

/// Both tell the same of the members, as of now and as this one knows.
async fn same_lists(pair: &Pair, nth: usize) {
    for linearizable in [true, false] {
        let list = |_: &Cluster| pb::MemberListRequest { linearizable };
        pair.well::<pb::MemberListResponse, _>(nth, LIST, list).await;
    }
}

#[test]
fn members_are_changed_alike() {
    alone(async {
        let mut pair = Pair::start(&[&CALM[..], &["--strict-reconfig-check=false"]].concat()).await;
        for nth in [0, 2, 1] {
            same_lists(&pair, nth).await;
            refusals(&pair, nth).await;
            // etcd makes an id of the URLs and the second, and one that is gone does not come back.
            let port = 10 + 10 * u16::try_from(nth).expect("small");
            let name = format!("LEARNER{nth}");
            a_learner(&mut pair, nth, &name, port).await;
            let name = format!("VOTER{nth}");
            a_voter(&mut pair, nth, &name, port + 5).await;
        }
    });
}

/// Changes that cannot be.
async fn refusals(pair: &Pair, nth: usize) {
    for urls in [
        &[][..],
        &[""],
        &["a"],
        &["a:1"],
        &["http://a"],
        &["ftp://a:1"],
        &["http://a:1/b"],
        &["http://a:1", ""],
        &["http://a:1", "a:2"],
    ] {
        let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
        for is_learner in [false, true] {
            let bad = add(urls.clone(), is_learner);
            pair.refused::<pb::MemberAddResponse, _>(nth, ADD, BAD_URLS, bad).await;
        }
    }
    for is_learner in [false, true] {
        let taken = add_taken(is_learner);
        pair.refused::<pb::MemberAddResponse, _>(nth, ADD, EXISTS, taken).await;
    }
    let taken =
        |of: &Cluster| pb::MemberUpdateRequest { id: of.id("M0"), peer_ur_ls: vec![of.url(1)] };
    pair.refused::<pb::MemberUpdateResponse, _>(nth, UPDATE, EXISTS, taken).await;
    for id in [1, u64::MAX] {
        let update = |_: &Cluster| pb::MemberUpdateRequest { id, peer_ur_ls: nowhere(&[1]) };
        pair.refused::<pb::MemberUpdateResponse, _>(nth, UPDATE, NOT_FOUND, update).await;
        let remove = |_: &Cluster| pb::MemberRemoveRequest { id };
        pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, NOT_FOUND, remove).await;
        let promote = |_: &Cluster| pb::MemberPromoteRequest { id };
        pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_FOUND, promote).await;
    }
    for name in ["M0", "M1", "M2"] {
        let promote = promote(name);
        pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_LEARNER, promote).await;
    }
}

/// One without a vote is added, is asked for what it cannot do, is changed, and goes again.
async fn a_learner(pair: &mut Pair, nth: usize, name: &str, port: u16) {
    let urls = nowhere(&[port + 1, port]);
    pair.add(nth, name, [&urls, &urls], true).await;
    same_lists(pair, nth).await;
    let another = add(nowhere(&[port + 2]), true);
    pair.refused::<pb::MemberAddResponse, _>(nth, ADD, TOO_MANY, another).await;
    for is_learner in [false, true] {
        let taken = add(nowhere(&[port + 2, port]), is_learner);
        pair.refused::<pb::MemberAddResponse, _>(nth, ADD, EXISTS, taken).await;
    }
    let promote = promote(name);
    pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_READY, promote).await;
    let to = |of: &Cluster| pb::MoveLeaderRequest { target_id: of.id(name) };
    pair.refused::<pb::MoveLeaderResponse, _>(0, MOVE, BAD_TRANSFEREE, to).await;
    for urls in [&[port + 3][..], &[port + 4, port + 2], &[port + 2, port + 4], &[port]] {
        let update = update(name, nowhere(urls));
        pair.well::<pb::MemberUpdateResponse, _>(nth, UPDATE, update).await;
        same_lists(pair, nth).await;
    }
    goes(pair, nth, name).await;
}

/// One with a vote is added, which never starts, is changed, and goes again.
async fn a_voter(pair: &mut Pair, nth: usize, name: &str, port: u16) {
    let urls = nowhere(&[port]);
    pair.add(nth, name, [&urls, &urls], false).await;
    same_lists(pair, nth).await;
    pair.well::<pb::PutResponse, _>(nth, PUT, |_| put("with one more")).await;
    let update = update(name, nowhere(&[port + 2, port + 1]));
    pair.well::<pb::MemberUpdateResponse, _>(nth, UPDATE, update).await;
    goes(pair, nth, name).await;
}

async fn goes(pair: &Pair, nth: usize, name: &str) {
    pair.well::<pb::MemberRemoveResponse, _>(nth, REMOVE, remove(name)).await;
    pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, NOT_FOUND, remove(name)).await;
    let update = update(name, nowhere(&[9]));
    pair.refused::<pb::MemberUpdateResponse, _>(nth, UPDATE, NOT_FOUND, update).await;
    pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_FOUND, promote(name)).await;
    same_lists(pair, nth).await;
}

#[test]
fn changes_that_would_cost_the_majority_are_refused_alike() {
    alone(async {
        let mut pair = Pair::start(&CALM).await;
        for nth in [0, 1] {
            becomes(&pair, nth, EXISTS, UNHEALTHY).await;
        }
        too_few_have_started(&mut pair).await;
        for cluster in pair.both_mut() {
            cluster.members.kill(2);
        }
        for nth in [0, 1] {
            becomes(&pair, nth, UNHEALTHY, EXISTS).await;
            too_few_are_up(&pair, nth).await;
        }
        // Who is down is no part of the majority there is, and may go; so may all but the last.
        pair.well::<pb::MemberRemoveResponse, _>(1, REMOVE, remove("M2")).await;
        same_lists(&pair, 1).await;
        pair.well::<pb::MemberRemoveResponse, _>(0, REMOVE, remove("M1")).await;
        let last = remove("M0");
        pair.refused::<pb::MemberRemoveResponse, _>(0, REMOVE, NOT_STARTED, last).await;
        same_lists(&pair, 0).await;
        pair.well::<pb::PutResponse, _>(0, PUT, |_| put("alone")).await;
    });
}

/// What a member answers to one that asks for a place that is taken becomes this one, and is that
/// one before: members are healthy some seconds after they are there.
async fn becomes(pair: &Pair, nth: usize, due: &str, before: &str) {
    for cluster in pair.both() {
        until(due, async || {
            let taken = add_taken(true)(cluster);
            let told = cluster.ask::<pb::MemberAddResponse>(nth, ADD, &taken).await;
            let told = told.expect_err("it is taken").message;
            assert!(told == due || told == before, "{told} at {nth} of {:?}", cluster.names);
            told == due
        })
        .await;
    }
    let taken = add_taken(true);
    pair.refused::<pb::MemberAddResponse, _>(nth, ADD, due, taken).await;
}

/// Of three members two more are known that never start.
async fn too_few_have_started(pair: &mut Pair) {
    for (nth, name, port) in [(1, "FOURTH", 14), (0, "FIFTH", 15)] {
        let urls = nowhere(&[port]);
        pair.add(nth, name, [&urls, &urls], false).await;
    }
    for nth in [0, 1] {
        let sixth = add(nowhere(&[16]), false);
        pair.refused::<pb::MemberAddResponse, _>(nth, ADD, NOT_STARTED, sixth).await;
        let taken = add_taken(false);
        pair.refused::<pb::MemberAddResponse, _>(nth, ADD, NOT_STARTED, taken).await;
        for name in ["M0", "M1", "M2"] {
            let one = remove(name);
            pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, NOT_STARTED, one).await;
        }
        let unknown = |_: &Cluster| pb::MemberRemoveRequest { id: 1 };
        pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, NOT_FOUND, unknown).await;
        let promote = promote("FIFTH");
        pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_READY, promote).await;
    }
    for (nth, name) in [(0, "FOURTH"), (1, "FIFTH")] {
        pair.well::<pb::MemberRemoveResponse, _>(nth, REMOVE, remove(name)).await;
    }
}

/// One of three is down.
async fn too_few_are_up(pair: &Pair, nth: usize) {
    for is_learner in [false, true] {
        let fourth = add(nowhere(&[17]), is_learner);
        pair.refused::<pb::MemberAddResponse, _>(nth, ADD, UNHEALTHY, fourth).await;
    }
    let bad = add(vec!["a".to_owned()], true);
    pair.refused::<pb::MemberAddResponse, _>(nth, ADD, BAD_URLS, bad).await;
    for name in ["M0", "M1"] {
        let one = remove(name);
        pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, UNHEALTHY, one).await;
    }
    let unknown = |_: &Cluster| pb::MemberRemoveRequest { id: 1 };
    pair.refused::<pb::MemberRemoveResponse, _>(nth, REMOVE, NOT_FOUND, unknown).await;
    let promote = promote("M1");
    pair.refused::<pb::MemberPromoteResponse, _>(nth, PROMOTE, NOT_LEARNER, promote).await;
}
