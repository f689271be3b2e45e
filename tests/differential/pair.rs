//! The server under test and an etcd, side by side on fresh directories.

use crate::compare;
use crate::generate::Op;
use crate::support::call::{Answer, Client};
use crate::support::peers;
use crate::support::server::Server;
use prost::Message;

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
        Self { ours, theirs, to_ours, to_theirs }
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
    pub(crate) async fn compare(&self, op: &Op) -> Result<Option<i64>, String> {
        let (ours, theirs) = match op {
            Op::Put(put) => self.call(op.path(), put).await,
            Op::Range(range) => self.call(op.path(), range).await,
            Op::Delete(delete) => self.call(op.path(), delete).await,
        };
        compare::answers(op, &ours, &theirs)
    }
}
