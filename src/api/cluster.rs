//! Calls about members, and who is to lead.

use crate::api::proto::etcdserverpb;
use crate::api::status;
use crate::api::status::Status;
use crate::config::Url;
use crate::shard::request::MemberRefusal;
use crate::shard::request::Request;
use crate::types::NodeId;
use prost::Message;

/// A `MemberAddRequest`.
///
/// # Errors
/// For bytes that are no message, and URLs that are none of a member's.
pub(crate) fn add(message: &[u8]) -> Result<Request, Status> {
    let asked: etcdserverpb::MemberAddRequest = decode(message)?;
    let mut peer_urls = urls(asked.peer_ur_ls)?;
    // As etcd keeps those of a new member; an update's stay as they are.
    peer_urls.sort_unstable();
    Ok(Request::MemberAdd { peer_urls, learner: asked.is_learner })
}

/// A `MemberRemoveRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn remove(message: &[u8]) -> Result<Request, Status> {
    let asked: etcdserverpb::MemberRemoveRequest = decode(message)?;
    Ok(Request::MemberRemove { id: NodeId(asked.id) })
}

/// A `MemberUpdateRequest`.
///
/// # Errors
/// As [`add`].
pub(crate) fn update(message: &[u8]) -> Result<Request, Status> {
    let asked: etcdserverpb::MemberUpdateRequest = decode(message)?;
    Ok(Request::MemberUpdate { id: NodeId(asked.id), peer_urls: urls(asked.peer_ur_ls)? })
}

/// A `MemberPromoteRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn promote(message: &[u8]) -> Result<Request, Status> {
    let asked: etcdserverpb::MemberPromoteRequest = decode(message)?;
    Ok(Request::MemberPromote { id: NodeId(asked.id) })
}

/// A `MoveLeaderRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn move_leader(message: &[u8]) -> Result<Request, Status> {
    let asked: etcdserverpb::MoveLeaderRequest = decode(message)?;
    Ok(Request::MoveLeader { target: NodeId(asked.target_id) })
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|_| status::MALFORMED)
}

/// These texts, if they are URLs.
fn urls(texts: Vec<String>) -> Result<Vec<String>, Status> {
    let is_bad = texts.is_empty() || texts.iter().any(|text| Url::parse(text).is_err());
    if is_bad { Err(Status::from(&MemberRefusal::BadUrls)) } else { Ok(texts) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Code;
    use proptest::prelude::*;

    #[test]
    fn urls_are_a_members_or_refused() {
        let ask = |urls: &[&str]| {
            let peer_ur_ls = urls.iter().map(|url| (*url).to_owned()).collect();
            let request = etcdserverpb::MemberAddRequest { peer_ur_ls, is_learner: true };
            add(&request.encode_to_vec())
        };
        let peer_urls = vec!["http://a:1".to_owned(), "https://b:2".to_owned()];
        let due = Request::MemberAdd { peer_urls, learner: true };
        assert_eq!(ask(&["https://b:2", "http://a:1"]), Ok(due));
        for bad in [&[][..], &["a:1"], &["http://a"], &["http://a:1/path"], &["http://a:1", ""]] {
            let refused = ask(bad).expect_err("it is none");
            assert_eq!(refused.code, Code::InvalidArgument);
            assert_eq!(refused.message, "etcdserver: given member URLs are invalid");
        }
    }

    #[test]
    fn an_updates_urls_stay_in_order() {
        let peer_ur_ls = vec!["http://b:2".to_owned(), "http://a:1".to_owned()];
        let request = etcdserverpb::MemberUpdateRequest { id: 7, peer_ur_ls: peer_ur_ls.clone() };
        let due = Request::MemberUpdate { id: NodeId(7), peer_urls: peer_ur_ls };
        assert_eq!(update(&request.encode_to_vec()), Ok(due));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for read in [add, remove, update, promote, move_leader] {
                let _ = read(&bytes);
            }
        }
    }
}
