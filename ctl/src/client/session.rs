//! A lease that is kept alive for as long as its owner wants it.

use crate::client::Client;
use crate::client::Duplex;
use crate::client::Refused;
use crate::client::Stopwatch;
use crate::client::methods;
use ringd::api::proto::etcdserverpb::LeaseGrantRequest;
use ringd::api::proto::etcdserverpb::LeaseKeepAliveRequest;
use ringd::api::proto::etcdserverpb::LeaseKeepAliveResponse;
use std::time::Duration;

/// The wait before a lost stream is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// Renews one lease, on a stream of its own.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    client: Client,
    lease: i64,
    stream: Option<Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>>,
}

impl KeepAlive {
    /// For a lease that somebody has.
    pub(crate) fn new(client: &Client, lease: i64) -> Self {
        Self { client: client.clone(), lease, stream: None }
    }

    /// Renews it, as often as it takes; a TTL of 0 says that it is gone.
    ///
    /// # Errors
    ///
    /// What the server refuses for good.
    pub(crate) async fn renew(&mut self) -> Result<LeaseKeepAliveResponse, Refused> {
        loop {
            match self.try_to_renew().await {
                Ok(Some(answer)) => return Ok(answer),
                Err(refused) if !refused.is_passing() => return Err(refused),
                Ok(None) | Err(_) => {
                    self.stream = None;
                    self.client.lose_current().await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// How long to wait until the next renewal of a lease with this TTL.
    pub(crate) fn pause(seconds: i64) -> Duration {
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) / 3
    }

    async fn try_to_renew(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Refused> {
        let request = LeaseKeepAliveRequest { id: self.lease };
        let (_, answers) = match &mut self.stream {
            Some(stream) => {
                if stream.0.send(request).await.is_err() {
                    return Ok(None);
                }
                stream
            }
            stream @ None => {
                let opened = self.client.duplex(&methods::LEASE_KEEP_ALIVE, request).await?;
                stream.insert(opened)
            }
        };
        answers.message().await.map_err(Refused::by)
    }
}

/// A lease of our own that lives while it is waited on.
#[derive(Debug)]
pub(crate) struct Session {
    lease: i64,
    seconds: i64,
    keep_alive: KeepAlive,
}

impl Session {
    /// Takes a lease.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub(crate) async fn open(client: &Client, seconds: i64) -> Result<Self, Refused> {
        let request = LeaseGrantRequest { ttl: seconds, id: 0 };
        let granted = client.call(&methods::LEASE_GRANT, request).await?;
        let keep_alive = KeepAlive::new(client, granted.id);
        Ok(Self { lease: granted.id, seconds: granted.ttl, keep_alive })
    }

    /// The lease.
    pub(crate) fn lease(&self) -> i64 {
        self.lease
    }

    /// Keeps the lease alive; returns when it is lost.
    pub(crate) async fn lost(&mut self) {
        loop {
            let since = Stopwatch::start();
            let life = Duration::from_secs(u64::try_from(self.seconds).unwrap_or(0));
            match tokio::time::timeout(life, self.keep_alive.renew()).await {
                Ok(Ok(answer)) if answer.ttl > 0 => self.seconds = answer.ttl,
                Ok(Ok(_) | Err(_)) | Err(_) => return,
            }
            let pause = KeepAlive::pause(self.seconds);
            tokio::time::sleep(pause.saturating_sub(since.elapsed())).await;
        }
    }
}
