//! The server under test and an etcd, side by side on fresh directories.

use crate::bugs::Bug;
use crate::compare;
use crate::generate::{Op, Seen};
use crate::keepers::Keepers;
use crate::streams::Streams;
use crate::support::call::{Answer, Client};
use crate::support::peers;
use crate::support::server::Server;
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, LeaseLeasesRequest, RangeRequest,
    RangeResponse,
};
use std::collections::BTreeMap;

/// Two servers, and a connection to each.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The one under test.
    pub(crate) ours: Server,
    /// etcd.
    pub(crate) theirs: Server,
    /// A connection to the one under test.
    pub(crate) to_ours: Client,
    /// A connection to etcd.
    pub(crate) to_theirs: Client,
    /// The hash of ours at a revision, as of a compaction.
    hashes: BTreeMap<(i64, i64), u32>,
    streams: Streams,
    keepers: Keepers,
}

impl Pair {
    /// Starts both. Of etcd only the answers are wanted, so it need not sync.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], both with further flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let theirs = Server::start_with(&peers::etcd(), &[flags, &["--unsafe-no-fsync"]].concat());
        let ours = Server::start_with(&peers::under_test(), flags);
        let to_ours = Client::connect(ours.port()).await.expect("ours answers");
        let to_theirs = Client::connect(theirs.port()).await.expect("theirs answers");
        let streams = Streams::new(&to_ours, &to_theirs);
        let (hashes, keepers) = (BTreeMap::new(), Keepers::default());
        Self { ours, theirs, to_ours, to_theirs, hashes, streams, keepers }
    }

    /// Asks both the same.
    pub(crate) async fn call(&self, path: &str, request: &impl Message) -> (Answer, Answer) {
        tokio::join!(self.to_ours.call(path, request), self.to_theirs.call(path, request))
    }

    /// Asks both and compares.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn compare(&mut self, op: &Op) -> Result<Seen, String> {
        self.compare_with(op, |_| {}).await
    }

    /// As [`Self::compare`], but ours is asked what `bug` makes of it.
    ///
    /// # Errors
    ///
    /// What differs.
    pub(crate) async fn compare_with(&mut self, op: &Op, bug: Bug) -> Result<Seen, String> {
        let mut changed = op.clone();
        bug(&mut changed);
        let seen = self.compare_both(&changed, op).await;
        let seen = seen.map_err(|difference| difference + &self.ends())?;
        if let Some(revision) = seen.revision {
            self.streams.learn(revision);
            if let Op::Compact(compact) = op {
                self.streams.learn_floor(compact.revision);
            }
        }
        Ok(seen)
    }

    /// Which server is not there any more, or has ended its connection, and why.
    fn ends(&mut self) -> String {
        let sides = [
            ("ours", &mut self.ours, &self.to_ours),
            ("theirs", &mut self.theirs, &self.to_theirs),
        ];
        let mut text = String::new();
        for (name, server, client) in sides {
            let Some(why) = client.ended() else { continue };
            text += &format!("\n  the connection to {name} has ended: {why}");
            let log = server.log_at_end();
            if !server.is_running() {
                text += &format!("\n  and so has its process; its log ends:\n{log}");
            }
        }
        text
    }

    async fn compare_both(&mut self, op_of_ours: &Op, op: &Op) -> Result<Seen, String> {
        let clients = (&self.to_ours, &self.to_theirs);
        match (op_of_ours, op) {
            (_, Op::Restart) => {
                self.streams.settle().await?;
                self.restart().await.map(|()| Seen::default())
            }
            (Op::Watch(_, ours), Op::Watch(number, theirs)) => {
                let created = self.streams.send(*number, ours, theirs).await?;
                Ok(Seen { created, ..Seen::default() })
            }
            (_, Op::HalfClose(number)) => {
                self.streams.half_close(*number).map(|()| Seen::default())
            }
            (_, Op::GiveUp(number)) => {
                self.streams.give_up(*number);
                Ok(Seen::default())
            }
            (_, Op::Settle) => self.streams.settle().await.map(|()| Seen::default()),
            (Op::KeepAlive(ours), Op::KeepAlive(theirs)) => {
                self.keepers.compare(clients, ours, theirs).await
            }
            (Op::Brief(ours), Op::Brief(theirs)) => self.keepers.brief(clients, ours, theirs).await,
            (_, Op::Compact(compact)) => {
                self.streams.prepare(compact.revision).await?;
                self.compare_answers(op_of_ours, op).await
            }
            _ => self.compare_answers(op_of_ours, op).await,
        }
    }

    async fn compare_answers(&mut self, op_of_ours: &Op, op: &Op) -> Result<Seen, String> {
        let (ours, theirs) = (ask(&self.to_ours, op_of_ours), ask(&self.to_theirs, op));
        let (ours, theirs) = tokio::join!(ours, theirs);
        if let Op::HashKv(_) = op {
            self.remember(&ours)?;
        }
        let outcome = compare::answers(op, &ours, &theirs);
        // Over no keys, etcd hashes what it is about to remove.
        if outcome.is_err() && matches!(op, Op::HashKv(_)) && self.is_empty_at(&theirs).await {
            return Ok(Seen::default());
        }
        outcome
    }

    /// Asks both the same, of which all must be taken alike.
    ///
    /// # Panics
    ///
    /// If an answer differs.
    pub(crate) async fn fill(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            let outcome = self.compare(&op).await;
            outcome.unwrap_or_else(|difference| panic!("{op:?}: {difference}"));
        }
    }

    /// As [`Streams::notified`].
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn notified(&mut self, wanted: &[(usize, i64)]) -> Result<(), String> {
        self.streams.notified(wanted).await
    }

    /// As [`Streams::parts`].
    pub(crate) fn parts(&self) -> (usize, usize) {
        self.streams.parts()
    }

    /// Opens its watch streams over other connections from now on.
    pub(crate) fn watch_over(&mut self, to_ours: &Client, to_theirs: &Client) {
        self.streams.reconnect(to_ours, to_theirs);
    }

    /// Sees that ours always has the same hash at one revision as of one compaction.
    fn remember(&mut self, ours: &Answer) -> Result<(), String> {
        let Ok(told) = ours.message::<HashKvResponse>() else { return Ok(()) };
        let at = (told.hash_revision, told.compact_revision);
        match self.hashes.insert(at, told.hash) {
            Some(before) if before != told.hash => {
                Err(format!("the hash of ours was {before} before: {told:?}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// True if etcd has no keys at the revision that this is the hash of.
    async fn is_empty_at(&self, hash: &Answer) -> bool {
        let Ok(hash) = hash.message::<HashKvResponse>() else { return false };
        let zero = Bytes::from_static(b"\0");
        let (revision, range_end) = (hash.hash_revision, zero.clone());
        let request =
            RangeRequest { key: zero, range_end, revision, count_only: true, ..Default::default() };
        let path = "/etcdserverpb.KV/Range";
        let found = self.to_theirs.unary::<RangeResponse>(path, &request).await;
        found.is_ok_and(|answer| answer.count == 0)
    }

    /// Kills ours and starts it again.
    ///
    /// # Errors
    ///
    /// If its hashes are not what they were.
    async fn restart(&mut self) -> Result<(), String> {
        let before = self.own_hashes().await;
        self.ours.kill();
        self.ours.restart();
        self.to_ours = Client::connect(self.ours.port()).await?;
        self.streams.reconnect(&self.to_ours, &self.to_theirs);
        self.keepers = Keepers::default();
        if !peers::under_test_is_ours() {
            // What etcd still had to remove is in the one and not in the other.
            return Ok(());
        }
        compare::same("hashes before and after a restart", &before, &self.own_hashes().await)
    }

    /// Sees that theirs gives, for the hash of a revision, one as of this compaction and revision:
    /// what it remembers, and not what is there.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) async fn theirs_remembers(&self, revision: i64, remembered: (i64, i64)) {
        let path = "/etcdserverpb.Maintenance/HashKV";
        let told = self.to_theirs.unary(path, &HashKvRequest { revision }).await;
        let told: HashKvResponse = told.expect("it answers");
        assert_eq!((told.compact_revision, told.hash_revision), remembered, "{told:?}");
    }

    /// Kills theirs and starts it again.
    ///
    /// # Errors
    ///
    /// If it does not answer then.
    pub(crate) async fn restart_theirs(&mut self) -> Result<(), String> {
        self.theirs.kill();
        self.theirs.restart();
        self.to_theirs = Client::connect(self.theirs.port()).await?;
        self.streams.reconnect(&self.to_ours, &self.to_theirs);
        self.keepers = Keepers::default();
        Ok(())
    }

    async fn own_hashes(&self) -> [Result<u32, String>; 2] {
        let text = |status| format!("{status:?}");
        let (path, all) = ("/etcdserverpb.Maintenance/HashKV", HashKvRequest { revision: 0 });
        let keys = self.to_ours.unary::<HashKvResponse>(path, &all).await;
        let path = "/etcdserverpb.Maintenance/Hash";
        let whole = self.to_ours.unary::<HashResponse>(path, &HashRequest {}).await;
        [keys.map(|it| it.hash).map_err(text), whole.map(|it| it.hash).map_err(text)]
    }
}

async fn ask(client: &Client, op: &Op) -> Answer {
    match op {
        Op::Put(put) => client.call(op.path(), put).await,
        Op::Range(range) | Op::Stream(range) => client.call(op.path(), range).await,
        Op::Delete(delete) => client.call(op.path(), delete).await,
        Op::Txn(txn) => client.call(op.path(), txn).await,
        Op::Compact(compact) => client.call(op.path(), compact).await,
        Op::HashKv(hash) => client.call(op.path(), hash).await,
        Op::Hash => client.call(op.path(), &HashRequest {}).await,
        Op::Grant(grant) => client.call(op.path(), grant).await,
        Op::Revoke(revoke) => client.call(op.path(), revoke).await,
        Op::TimeToLive(request) => client.call(op.path(), request).await,
        Op::Leases => client.call(op.path(), &LeaseLeasesRequest {}).await,
        Op::Restart
        | Op::Brief(_)
        | Op::KeepAlive(_)
        | Op::Watch(..)
        | Op::HalfClose(_)
        | Op::GiveUp(_)
        | Op::Settle => unreachable!("it is no unary call"),
    }
}
