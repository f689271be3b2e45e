//! Taking a turn: whoever made the oldest key under a prefix has it. Locks and elections are this.

use crate::client::Client;
use crate::client::Refused;
use crate::client::Session;
use crate::client::Watcher;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::verbs::end_of_prefix;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::etcdserverpb::compare::CompareResult;
use ringd::api::proto::etcdserverpb::compare::CompareTarget;
use ringd::api::proto::etcdserverpb::compare::TargetUnion;
use ringd::api::proto::etcdserverpb::range_request::SortOrder;
use ringd::api::proto::etcdserverpb::range_request::SortTarget;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::mvccpb::event::EventType;

/// A key of ours in a row of such keys.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The prefix of all keys of the row.
    prefix: Vec<u8>,
    /// Our key.
    pub(super) key: Bytes,
    /// The revision that made it.
    pub(super) revision: i64,
    /// The revision of the answer that told us so.
    pub(super) told: i64,
}

impl Place {
    /// Puts our key into the row, with a value, for as long as the session lives.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub(super) async fn take(
        client: &Client,
        session: &Session,
        name: &[u8],
        value: Bytes,
    ) -> Result<Self, Refused> {
        let prefix = [name, b"/"].concat();
        let lease = session.lease();
        let key = Bytes::from([&prefix[..], format!("{lease:x}").as_bytes()].concat());
        let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![is_made_at(&key, 0)],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(get))],
        };
        let answer = client.call(&methods::TXN, request).await?;
        let told = answer.header.unwrap_or_default().revision;
        let revision = match answer.responses.first().and_then(|op| op.response.as_ref()) {
            Some(Response::ResponseRange(range)) if !answer.succeeded => {
                range.kvs.first().map_or(told, |kv| kv.create_revision)
            }
            _ => told,
        };
        Ok(Self { prefix, key, revision, told })
    }

    /// Waits until our key is the oldest, and sees that it is still there.
    ///
    /// # Errors
    ///
    /// That it is not; what the server refuses.
    pub(super) async fn wait(&mut self, client: &Client) -> Result<(), Failure> {
        let mut has_waited = false;
        loop {
            let request = pb::RangeRequest {
                max_create_revision: self.revision - 1,
                ..one_of(&self.prefix, SortOrder::Descend)
            };
            let answer = client.call(&methods::RANGE, request).await?;
            let now = answer.header.unwrap_or_default().revision;
            let Some(before) = answer.kvs.into_iter().next() else { break };
            gone(client, before.key, now + 1).await?;
            has_waited = true;
        }
        if has_waited {
            let request = pb::RangeRequest { key: self.key.clone(), ..Default::default() };
            let answer = client.call(&methods::RANGE, request).await?;
            if answer.kvs.is_empty() {
                return Err(Failure::new(Exit::Error, "session expired"));
            }
            self.told = answer.header.unwrap_or_default().revision;
        }
        Ok(())
    }

    /// Our row as it is printed.
    ///
    /// # Errors
    ///
    /// That it is gone; what the server refuses.
    pub(super) async fn row(&self, client: &Client) -> Result<pb::RangeResponse, Failure> {
        let request = pb::RangeRequest { key: self.key.clone(), ..Default::default() };
        let answer = client.call(&methods::RANGE, request).await?;
        if answer.kvs.is_empty() {
            return Err(Failure::new(Exit::Error, "session expired"));
        }
        Ok(answer)
    }

    /// Takes our key out of the row, if it is still the one that we put there.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub(super) async fn leave(&self, client: &Client) -> Result<(), Refused> {
        let delete = pb::DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![is_made_at(&self.key, self.revision)],
            success: vec![operation(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        client.within(client.call(&methods::TXN, request)).await.map(drop)
    }
}

/// The oldest or the youngest key under a prefix.
pub(super) fn one_of(prefix: &[u8], order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: end_of_prefix(prefix).into(),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The condition that a key was made at a revision; 0 is that it is not there.
fn is_made_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Waits until a key is deleted, from a revision on.
async fn gone(client: &Client, key: Bytes, start_revision: i64) -> Result<(), Failure> {
    let request = pb::WatchCreateRequest { key, start_revision, ..Default::default() };
    let mut watcher = Watcher::new(client, request);
    loop {
        let response = watcher.next().await?;
        if response.canceled {
            return Err(canceled(&response));
        }
        if response.events.iter().any(|event| event.r#type() == EventType::Delete) {
            return Ok(());
        }
    }
}

/// Why a server has cancelled a watch.
pub(super) fn reason(response: &pb::WatchResponse) -> String {
    if response.compact_revision != 0 {
        "etcdserver: mvcc: required revision has been compacted".to_owned()
    } else if response.cancel_reason.is_empty() {
        "etcdserver: mvcc: required revision is a future revision".to_owned()
    } else {
        response.cancel_reason.clone()
    }
}

/// The failure of a watch that the server has cancelled.
pub(super) fn canceled(response: &pb::WatchResponse) -> Failure {
    Failure::new(Exit::Error, reason(response))
}
