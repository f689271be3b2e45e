//! Leases that are kept alive, and such as do not live long, on both servers.

use crate::compare::{level, messages, same, times_to_live};
use crate::generate::Seen;
use crate::support::call::{Client, Status};
use crate::support::stream::Stream;
use ringd::api::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";

/// The code of what is not found.
const NOT_FOUND: i32 = 5;

/// A stream of keep-alives to each server, once there was one.
#[derive(Debug, Default)]
pub(crate) struct Keepers(Option<(Stream, Stream)>);

impl Keepers {
    /// Keeps leases alive by one message each, sent together.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn compare(
        &mut self,
        (to_ours, to_theirs): (&Client, &Client),
        ours: &[i64],
        theirs: &[i64],
    ) -> Result<Seen, String> {
        if self.0.is_none() {
            self.0 = Some((to_ours.open(KEEP_ALIVE).await?, to_theirs.open(KEEP_ALIVE).await?));
        }
        let (to_ours, to_theirs) = self.0.as_mut().expect("they were opened");
        let (ours, theirs) = tokio::join!(keep_alive(to_ours, ours), keep_alive(to_theirs, theirs));
        let (ours, theirs) = (ours?, theirs?);
        same("keep-alives", &ours, &theirs)?;
        let revision = theirs.last().and_then(|answer| Some(answer.header.as_ref()?.revision));
        Ok(Seen { revision, ..Seen::default() })
    }

    /// A lease that may expire any time: granted, looked at, and revoked if it is still there.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn brief(
        &mut self,
        (to_ours, to_theirs): (&Client, &Client),
        ours: &LeaseGrantRequest,
        theirs: &LeaseGrantRequest,
    ) -> Result<Seen, String> {
        let (ours, theirs) = tokio::join!(to_ours.call(GRANT, ours), to_theirs.call(GRANT, theirs));
        let bare = |answer: &LeaseGrantResponse| LeaseGrantResponse { id: 0, ..answer.clone() };
        let seen = messages::<LeaseGrantResponse>(&ours, &theirs, |a, b| bare(a) == bare(b))?;
        let ids = (granted(&ours.message()), granted(&theirs.message()));
        let (Some(ours), Some(theirs)) = ids else { return Ok(seen) };
        let (ours, theirs) = tokio::join!(passed(to_ours, ours), passed(to_theirs, theirs));
        let (ours, theirs) = (ours?, theirs?);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && !times_to_live(&ours, &theirs)
        {
            same("times to live", &ours, &theirs)?;
        }
        Ok(seen)
    }
}

async fn keep_alive(
    stream: &mut Stream,
    ids: &[i64],
) -> Result<Vec<LeaseKeepAliveResponse>, String> {
    for &id in ids {
        stream.send(&LeaseKeepAliveRequest { id })?;
    }
    let mut answers = Vec::new();
    for _ in ids {
        let mut answer = stream.next().await.map_err(|end| format!("{end:?}"))?;
        level(&mut answer)?;
        answers.push(answer);
    }
    Ok(answers)
}

fn granted(answer: &Result<LeaseGrantResponse, Status>) -> Option<i64> {
    answer.as_ref().ok().map(|answer| answer.id)
}

/// What is told of a lease that is there, without its id; none if it is not there any more. It is
/// not there afterwards.
async fn passed(client: &Client, id: i64) -> Result<Option<LeaseTimeToLiveResponse>, String> {
    if id == 0 {
        return Err("a lease has id 0".to_owned());
    }
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let told: Result<LeaseTimeToLiveResponse, _> = client.unary(TIME_TO_LIVE, &request).await;
    let mut told = told.map_err(|status| format!("{status:?}"))?;
    level(&mut told)?;
    if told.id != id {
        return Err(format!("asked of lease {id}: {told:?}"));
    }
    for _ in 0..2 {
        let revoked: Result<LeaseRevokeResponse, Status> =
            client.unary(REVOKE, &LeaseRevokeRequest { id }).await;
        match revoked {
            Ok(_) => {}
            Err(status) if status.code == NOT_FOUND => {}
            Err(status) => return Err(format!("{status:?}")),
        }
    }
    told.id = 0;
    Ok((told.ttl != -1).then_some(told))
}
