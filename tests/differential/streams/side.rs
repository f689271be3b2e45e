//! One server's side of a watch stream: what it says, held against what it must say.

use super::history::{History, Watcher};
use crate::compare::level;
use crate::support::stream::Stream;
use prost::Message;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    ResponseHeader, WatchProgressRequest, WatchRequest, WatchResponse,
};
use ringd::api::proto::mvccpb::Event;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The id in answers that are about no watcher, or about all.
pub(super) const NOBODY: i64 = -1;

/// The size from which a response is sent in parts to those who asked for that.
const SPLIT_SIZE: usize = 2 << 20;

/// How long to wait for more before the server is asked how far it is.
const NUDGE: Duration = Duration::from_millis(300);
/// How often it is asked before what is missing is held to be so for good.
const NUDGES_MAX: usize = 100;
/// How long to wait for an answer about progress: one that is not given at once never is.
const PROGRESS: Duration = Duration::from_millis(50);
/// How often progress is asked for; every time, etcd may not be done catching up.
const PROGRESS_MAX: usize = 400;

/// The connection's end of a stream, and what came of it.
#[derive(Debug)]
pub(super) struct Side {
    stream: Stream,
    /// What came before anyone asked whether it is right.
    waiting: VecDeque<WatchResponse>,
    told: BTreeMap<i64, Told>,
    /// Responses that were parts, with others to follow.
    pub(super) parts: usize,
}

/// What one watcher was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Events since they were last taken.
    pub(super) events: Vec<Event>,
    /// Ends since they were last taken: a compaction's, the client's.
    pub(super) ends: Vec<WatchResponse>,
    /// All events.
    pub(super) count: usize,
    /// The revision of the last event.
    pub(super) revision: i64,
    /// The revision that it was last said to know without an event.
    pub(super) notified: i64,
    /// The last response was a part, and another is to follow.
    pub(super) is_partial: bool,
    has_ended: bool,
}

/// A message of one kind.
pub(super) fn message(request: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(request) }
}

impl Side {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, waiting: VecDeque::new(), told: BTreeMap::new(), parts: 0 }
    }

    /// Sends a message.
    pub(super) fn send(&mut self, request: &WatchRequest) -> Result<(), String> {
        self.stream.send(request)
    }

    /// Says that nothing more will be sent.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.stream.end()
    }

    /// Asks how far all watchers are; it may go unanswered.
    pub(super) fn ask_progress(&mut self) -> Result<(), String> {
        self.send(&message(RequestUnion::ProgressRequest(WatchProgressRequest {})))
    }

    /// The next answer that `is_it`; all that come before are kept.
    pub(super) async fn answer(
        &mut self,
        is_it: impl Fn(&WatchResponse) -> bool,
    ) -> Result<WatchResponse, String> {
        loop {
            let mut response = self.stream.next().await.map_err(|end| format!("{end:?}"))?;
            level(&mut response)?;
            if is_it(&response) {
                return Ok(response);
            }
            self.waiting.push_back(response);
        }
    }

    /// Sees that nobody was told anything before it was there.
    pub(super) fn is_new(&self, id: i64) -> Result<(), String> {
        match self.waiting.iter().find(|response| response.watch_id == id) {
            Some(early) => Err(format!("watcher {id} is told before it is there: {early:?}")),
            None => Ok(()),
        }
    }

    /// Takes in what comes until `is_done`, and sees that it is right.
    pub(super) async fn until(
        &mut self,
        watchers: &BTreeMap<i64, Watcher>,
        history: &History,
        is_done: impl Fn(&BTreeMap<i64, Told>) -> Result<(), String>,
    ) -> Result<(), String> {
        while let Some(response) = self.waiting.pop_front() {
            self.judge(response, watchers, history)?;
        }
        let mut nudges = 0;
        while let Err(missing) = is_done(&self.told) {
            match self.stream.next_within::<WatchResponse>(NUDGE).await {
                Ok(Some(mut response)) => {
                    level(&mut response)?;
                    self.judge(response, watchers, history)?;
                }
                Ok(None) if nudges < NUDGES_MAX => {
                    nudges += 1;
                    // After a half-close it cannot be asked any more.
                    let _ = self.ask_progress();
                }
                Ok(None) => return Err(format!("it does not come: {missing}")),
                Err(end) => return Err(format!("the stream has ended: {end:?}; {missing}")),
            }
        }
        Ok(())
    }

    /// Asks how far all watchers are until that is told.
    pub(super) async fn progress(&mut self, revision: i64) -> Result<(), String> {
        let bare = WatchResponse {
            header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
            watch_id: NOBODY,
            ..WatchResponse::default()
        };
        for _ in 0..PROGRESS_MAX {
            self.ask_progress()?;
            // An answer to an earlier question may still be under way.
            while let Some(mut response) =
                self.stream.next_within(PROGRESS).await.map_err(|end| format!("{end:?}"))?
            {
                level(&mut response)?;
                if response == bare {
                    return Ok(());
                }
                self.waiting.push_back(response);
            }
        }
        Err(format!("progress is not told; what came: {:?}", self.waiting))
    }

    /// Keeps an answer that was taken, to be judged in its turn.
    pub(super) fn keep(&mut self, response: WatchResponse) {
        self.waiting.push_back(response);
    }

    /// What a watcher was told; events and ends are those since this was last asked.
    pub(super) fn take(&mut self, id: i64) -> Told {
        let told = self.told.entry(id).or_default();
        let (events, ends) = (std::mem::take(&mut told.events), std::mem::take(&mut told.ends));
        Told { events, ends, ..*told }
    }

    /// Forgets a watcher that is no more.
    pub(super) fn forget(&mut self, id: i64) {
        self.told.remove(&id);
    }

    fn judge(
        &mut self,
        response: WatchResponse,
        watchers: &BTreeMap<i64, Watcher>,
        history: &History,
    ) -> Result<(), String> {
        let id = response.watch_id;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            return Err(format!("nobody asked for it: {response:?}"));
        }
        self.parts += usize::from(response.fragment);
        let silent = response.events.is_empty() && !response.canceled;
        if silent && (response.compact_revision != 0 || !response.cancel_reason.is_empty()) {
            return Err(format!("neither an end nor events: {response:?}"));
        }
        if revision > history.latest() {
            return Err(format!("the store is only at {}: {response:?}", history.latest()));
        }
        if silent && id == NOBODY {
            return watchers.iter().try_for_each(|(id, watcher)| {
                let told = self.told.get(id).map_or(0, |told| told.count);
                let known = knows(watcher, told, history, revision);
                known.map_err(|why| format!("watcher {id} {why}: {response:?}"))
            });
        }
        let watcher = watchers.get(&id).ok_or_else(|| format!("nobody's: {response:?}"))?;
        let told = self.told.entry(id).or_default();
        let outcome = if silent {
            told.notified = revision;
            match (watcher.is_notified, told.has_ended) {
                (false, _) => Err("is told how far it is".to_owned()),
                (true, true) => Err("is told how far it is after its end".to_owned()),
                (true, false) => knows(watcher, told.count, history, revision),
            }
        } else {
            told.take_in(&response, watcher, revision)
        };
        outcome.map_err(|why| {
            let cut: String = format!("{response:?}").chars().take(3000).collect();
            format!("watcher {id} {why}: {cut}")
        })
    }
}

impl Told {
    /// Takes in events or an end.
    fn take_in(
        &mut self,
        response: &WatchResponse,
        watcher: &Watcher,
        revision: i64,
    ) -> Result<(), String> {
        if response.canceled {
            self.has_ended = true;
            self.ends.push(response.clone());
            return if response.events.is_empty() {
                Ok(())
            } else {
                Err("ends with events".into())
            };
        }
        if self.has_ended {
            return Err("goes on after its end".to_owned());
        }
        if response.fragment && !watcher.may_be_split {
            return Err("is sent a part".to_owned());
        }
        let size = response.encoded_len();
        if watcher.may_be_split && size >= SPLIT_SIZE && response.events.len() > 1 {
            return Err(format!("is sent {size} bytes at once"));
        }
        for (number, event) in response.events.iter().enumerate() {
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let may_repeat = number > 0 || self.is_partial;
            if at < self.revision || at == self.revision && !may_repeat {
                return Err(format!("is told of {at} after {}", self.revision));
            }
            self.revision = at;
        }
        if revision < self.revision {
            return Err(format!("is told of {} under {revision}", self.revision));
        }
        self.count += response.events.len();
        self.is_partial = response.fragment;
        self.events.extend_from_slice(&response.events);
        Ok(())
    }
}

/// That a watcher was told all that it must know at a revision.
fn knows(watcher: &Watcher, told: usize, history: &History, revision: i64) -> Result<(), String> {
    if !watcher.is_bound_at(revision) {
        return Ok(());
    }
    if watcher.is_ahead_of(revision) {
        return Err("is said to know a revision before its first".to_owned());
    }
    let wanted = watcher.count_at(history, revision);
    if told < wanted {
        return Err(format!("was told {told} events, and not yet all {wanted}"));
    }
    Ok(())
}
