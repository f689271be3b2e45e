//! A watch that outlives its connection: it goes on behind the last event that it has shown.

use crate::client::Client;
use crate::client::Duplex;
use crate::client::Refused;
use crate::client::methods;
use ringd::api::proto::etcdserverpb::WatchCreateRequest;
use ringd::api::proto::etcdserverpb::WatchProgressRequest;
use ringd::api::proto::etcdserverpb::WatchRequest;
use ringd::api::proto::etcdserverpb::WatchResponse;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use std::time::Duration;

/// The wait before a lost watch is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// One watch on a stream of its own.
#[derive(Debug)]
pub(crate) struct Watcher {
    client: Client,
    /// What is asked for; its start moves behind what was shown.
    request: WatchCreateRequest,
    stream: Option<Duplex<WatchRequest, WatchResponse>>,
    /// A progress was asked for while there was no stream.
    owes_progress: bool,
}

impl Watcher {
    /// A watch that is asked for with the first [`Self::next`].
    pub(crate) fn new(client: &Client, request: WatchCreateRequest) -> Self {
        Self { client: client.clone(), request, stream: None, owes_progress: false }
    }

    /// What there is to show next: events, progress, or that the server has cancelled the watch.
    ///
    /// May be dropped at any time without loss.
    ///
    /// # Errors
    ///
    /// What the server refuses for good.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Refused> {
        loop {
            let Some((_, answers)) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match answers.message().await {
                Ok(Some(response)) => {
                    self.moves_behind(&response);
                    if !response.created || response.canceled {
                        return Ok(response);
                    }
                }
                Ok(None) => self.lose().await,
                Err(status) => {
                    let refused = Refused::by(status);
                    if !refused.is_passing() {
                        return Err(refused);
                    }
                    self.lose().await;
                }
            }
        }
    }

    /// Asks the server how far it has come; it answers when every event up to there was sent.
    pub(crate) fn ask_for_progress(&mut self) {
        let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
        let request = WatchRequest { request_union: Some(request) };
        self.owes_progress = match &self.stream {
            Some((requests, _)) => requests.try_send(request).is_err(),
            None => true,
        };
    }

    async fn open(&mut self) -> Result<(), Refused> {
        let create = RequestUnion::CreateRequest(self.request.clone());
        let first = WatchRequest { request_union: Some(create) };
        match self.client.duplex(&methods::WATCH, first).await {
            Ok(stream) => {
                self.stream = Some(stream);
                if self.owes_progress {
                    self.ask_for_progress();
                }
                Ok(())
            }
            Err(refused) if refused.is_passing() => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    async fn lose(&mut self) {
        self.stream = None;
        self.client.lose_current().await;
    }

    /// Where a new stream would have to start.
    fn moves_behind(&mut self, response: &WatchResponse) {
        let now = response.header.as_ref().map_or(0, |header| header.revision);
        if let Some(event) = response.events.last() {
            let revision = event.kv.as_ref().map_or(now, |kv| kv.mod_revision);
            self.request.start_revision = revision + 1;
        } else if (response.created && self.request.start_revision == 0)
            || (!response.created && !response.canceled && now >= self.request.start_revision)
        {
            self.request.start_revision = now + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use ringd::api::proto::etcdserverpb::ResponseHeader;
    use ringd::api::proto::mvccpb::Event;
    use ringd::api::proto::mvccpb::KeyValue;

    /// A response of the server's revision `now`, with events of other revisions.
    fn response(now: i64, events: &[i64]) -> WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision, ..Default::default() }),
            ..Default::default()
        };
        WatchResponse {
            header: Some(ResponseHeader { revision: now, ..Default::default() }),
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_watch_goes_on_behind_what_it_has_shown() {
        let client = Client::open(&Settings::of("127.0.0.1:1")).await.expect("it is an address");
        let mut watcher = Watcher::new(&client, WatchCreateRequest::default());
        let mut after = |response: WatchResponse| {
            watcher.moves_behind(&response);
            watcher.request.start_revision
        };
        assert_eq!(after(WatchResponse { created: true, ..response(7, &[]) }), 8);
        assert_eq!(after(response(20, &[9, 10])), 11, "history may be behind the header");
        assert_eq!(after(response(15, &[])), 16, "progress");
        assert_eq!(after(response(12, &[])), 16, "progress that is behind");
        assert_eq!(after(WatchResponse { created: true, ..response(30, &[]) }), 16);
        assert_eq!(after(WatchResponse { canceled: true, ..response(30, &[]) }), 16);
    }
}
