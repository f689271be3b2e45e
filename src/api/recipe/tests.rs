use super::*;
use crate::api::proto::mvccpb;
use crate::api::proto::v3electionpb;
use crate::api::proto::v3lockpb;
use crate::api::recipe::ask::key_of;
use crate::api::recipe::ask::prefix_of;
use mvccpb::event::EventType;
use pb::response_op::Response;

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn pair(key: &str, created: i64) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key.to_owned().into(),
        create_revision: created,
        mod_revision: created,
        version: 1,
        value: "v".into(),
        ..Default::default()
    }
}

fn range(kvs: Vec<mvccpb::KeyValue>) -> pb::RangeResponse {
    pb::RangeResponse { header: header(20), kvs, ..Default::default() }
}

/// The answer of a transaction at a revision, with what its reads found.
fn txn(succeeded: bool, revision: i64, reads: Vec<Option<mvccpb::KeyValue>>) -> Vec<u8> {
    let put = || Response::ResponsePut(pb::PutResponse::default());
    let responses = reads.into_iter().map(|read| pb::ResponseOp {
        response: Some(read.map_or_else(put, |kv| Response::ResponseRange(range(vec![kv])))),
    });
    let responses = responses.collect();
    pb::TxnResponse { header: header(revision), succeeded, responses }.encode_to_vec()
}

fn gone(key: &str, watch_id: i64) -> pb::WatchResponse {
    let kv = Some(mvccpb::KeyValue { mod_revision: 21, ..pair(key, 0) });
    let r#type = EventType::Delete.into();
    let events = vec![mvccpb::Event { r#type, kv, prev_kv: None }];
    pb::WatchResponse { header: header(21), watch_id, events, ..Default::default() }
}

fn begin(goal: Goal, message: &impl Message) -> (Recipe, Vec<Do>) {
    Recipe::begin(goal, &message.encode_to_vec()).expect("it begins")
}

fn asks(todo: &[Do]) -> bool {
    matches!(todo, [Do::Ask(_)])
}

fn message<M: Message + Default>(todo: &[Do]) -> M {
    match todo {
        [Do::Last(bytes) | Do::Send(bytes), ..] => M::decode(&bytes[PREFIX_SIZE..]).expect("it"),
        other => panic!("no message: {other:?}"),
    }
}

fn watched_key(todo: &[Do]) -> &WatchRequest {
    match todo {
        [Do::Watch(request)] | [_, Do::Watch(request)] => request,
        other => panic!("nothing is watched: {other:?}"),
    }
}

#[test]
fn the_oldest_key_holds_the_lock_at_once() {
    let request = v3lockpb::LockRequest { name: "n".into(), lease: 0xab };
    let (mut lock, first) = begin(Goal::Lock, &request);
    assert!(asks(&first));
    let next = lock.answered(Ok(&txn(true, 5, vec![None, Some(pair("n/ab", 5))])));
    let held: v3lockpb::LockResponse = message(&next);
    assert_eq!((&held.key[..], held.header), (&b"n/ab"[..], header(5)));
}

#[test]
fn a_lock_waits_for_each_that_came_before_and_looks_whether_its_own_key_is_there() {
    for is_there in [true, false] {
        let request = v3lockpb::LockRequest { name: "n".into(), lease: 0xab };
        let (mut lock, _) = begin(Goal::Lock, &request);
        let next = lock.answered(Ok(&txn(true, 15, vec![None, Some(pair("n/1", 3))])));
        assert!(asks(&next), "who is before it? {next:?}");
        let next = lock.answered(Ok(&range(vec![pair("n/2", 9)]).encode_to_vec()));
        let first = watched_key(&next).clone();
        assert_eq!(first, ask::watch_of("n/2".into(), "".into(), 20, 1));
        assert_eq!(lock.watched(&pb::WatchResponse { created: true, ..gone("x", 9) }), []);
        let next = lock.watched(&gone("n/2", 1));
        assert!(matches!(next[..], [Do::Unwatch, Do::Ask(_)]), "{next:?}");
        assert_eq!(lock.watched(&gone("n/2", 1)), [], "what comes late means nothing");
        let next = lock.answered(Ok(&range(vec![pair("n/1", 3)]).encode_to_vec()));
        assert_eq!(watched_key(&next), &ask::watch_of("n/1".into(), "".into(), 20, 2));
        let next = lock.watched(&gone("n/1", 2));
        assert!(matches!(next[..], [Do::Unwatch, Do::Ask(_)]), "{next:?}");
        assert!(asks(&lock.answered(Ok(&range(vec![]).encode_to_vec()))));
        let own = if is_there { vec![pair("n/ab", 15)] } else { vec![] };
        let next = lock.answered(Ok(&range(own).encode_to_vec()));
        if is_there {
            assert_eq!(message::<v3lockpb::LockResponse>(&next).header, header(20));
        } else {
            let status = Status::fixed(Code::Unknown, "mutex: session is expired");
            assert_eq!(next, [Do::Unwatch, Do::End(status)]);
        }
    }
}

#[test]
fn who_gives_up_while_it_waits_leaves_the_queue() {
    let request = v3lockpb::LockRequest { name: "n".into(), lease: 1 };
    let (mut lock, _) = begin(Goal::Lock, &request);
    assert_eq!(lock.given_up(), None, "its key may not be there yet");
    lock.answered(Ok(&txn(true, 15, vec![None, Some(pair("n/1", 3))])));
    let deletes = match ask::delete(key_of(&prefix_of(b"n"), 1)) {
        Ok(Do::Ask(request)) => request,
        other => panic!("{other:?}"),
    };
    assert_eq!(lock.given_up(), Some(deletes));
}

#[test]
fn a_failure_keeps_its_text_and_loses_its_code() {
    let request = v3lockpb::LockRequest { name: "n".into(), lease: 1 };
    let (mut lock, _) = begin(Goal::Lock, &request);
    let status = Status::fixed(Code::NotFound, "etcdserver: requested lease not found");
    let told = Status { code: Code::Unknown, ..status.clone() };
    assert_eq!(lock.answered(Err(status)), [Do::Unwatch, Do::End(told)]);
}

#[test]
fn keys_have_their_lease_as_go_writes_it() {
    let prefix = prefix_of(b"a");
    assert_eq!(key_of(&prefix, 0x694d_71dd), "a/694d71dd");
    assert_eq!(key_of(&prefix, -255), "a/-ff");
    assert_eq!(key_of(&prefix, i64::MIN), "a/-8000000000000000");
}

#[test]
fn a_campaign_with_a_new_value_proclaims_it_first() {
    let request = v3electionpb::CampaignRequest { name: "n".into(), lease: 7, value: "w".into() };
    let (mut election, _) = begin(Goal::Campaign, &request);
    let own = pair("n/7", 4);
    assert!(asks(&election.answered(Ok(&txn(false, 9, vec![Some(own)])))), "its value is another");
    assert!(asks(&election.answered(Ok(&txn(true, 10, vec![None])))), "who is before it?");
    let next = election.answered(Ok(&range(vec![]).encode_to_vec()));
    let won: v3electionpb::CampaignResponse = message(&next);
    let leader = won.leader.expect("a leader");
    assert_eq!((&leader.key[..], leader.rev, leader.lease), (&b"n/7"[..], 4, 7));
    assert_eq!(won.header, header(9));
}

#[test]
fn who_leads_no_more_is_told_and_one_that_leaves_is_not() {
    let leader = v3electionpb::LeaderKey { name: "n".into(), key: "n/7".into(), rev: 4, lease: 7 };
    let leader = Some(leader);
    let proclaim = v3electionpb::ProclaimRequest { leader: leader.clone(), value: "w".into() };
    let (mut election, _) = begin(Goal::Proclaim, &proclaim);
    let status = Status::fixed(Code::Unknown, "election: not leader");
    let next = election.answered(Ok(&txn(false, 9, vec![])));
    assert_eq!(next, [Do::Unwatch, Do::End(status)]);
    let (mut election, _) = begin(Goal::Resign, &v3electionpb::ResignRequest { leader });
    let next = election.answered(Ok(&txn(false, 9, vec![])));
    assert_eq!(message::<v3electionpb::ResignResponse>(&next).header, header(9));
    let nobody = v3electionpb::ResignRequest { leader: None }.encode_to_vec();
    let status = Recipe::begin(Goal::Resign, &nobody).expect_err("a leader is missing");
    assert_eq!(status.message, "\"leader\" field must be provided");
}

#[test]
fn an_observer_is_told_of_each_leader_and_each_of_its_values() {
    let (mut election, first) =
        begin(Goal::Observe, &v3electionpb::LeaderRequest { name: "n".into() });
    assert!(asks(&first));
    let next = election.answered(Ok(&range(vec![]).encode_to_vec()));
    assert_eq!(watched_key(&next), &ask::watch_of("n/".into(), "n0".into(), 20, 1));
    let put = |created, watch_id| {
        let event = mvccpb::Event { kv: Some(pair("n/1", created)), ..Default::default() };
        let events = vec![event];
        pb::WatchResponse { header: header(30), watch_id, events, ..Default::default() }
    };
    let next = election.watched(&put(25, 1));
    assert_eq!(next[0], Do::Unwatch);
    let told: v3electionpb::LeaderResponse = message(&next[1..]);
    assert_eq!((told.header, told.kv), (header(25), Some(pair("n/1", 25))));
    assert_eq!(watched_key(&next[1..]), &ask::watch_of("n/1".into(), "".into(), 26, 2));
    let told: v3electionpb::LeaderResponse = message(&election.watched(&put(28, 2)));
    assert_eq!(told.header, header(28));
    let next = election.watched(&gone("n/1", 2));
    assert!(matches!(next[..], [Do::Unwatch, Do::Ask(_)]), "{next:?}");
    let next = election.answered(Ok(&range(vec![pair("n/2", 20)]).encode_to_vec()));
    assert_eq!(message::<v3electionpb::LeaderResponse>(&next).kv, Some(pair("n/2", 20)));
}
