//! What a committed entry does to the keyspace.
//!
//! The same entries give the same keyspace and the same answers on every replica: nothing here
//! looks at anything but the entry and the keyspace.

use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Put;
use crate::mvcc::Refusal;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::shard::Shard;
use crate::shard::command::ArchivedCommand;
use crate::shard::command::CommandError;
use crate::shard::request::Body;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::types::LeaseId;
use crate::types::Revision;
use bytes::Bytes;

impl Shard {
    /// Applies one committed entry and answers whoever waits for it.
    pub(super) fn apply(&mut self, entry: &Entry) {
        assert!(entry.index == self.applied.next(), "entries are applied in order, without a gap");
        self.applied = entry.index;
        self.applied_term = entry.term;
        let (to, lost) = self.proposals.reached(entry.index, entry.term);
        for to in lost {
            self.reply(to, Err(crate::shard::request::Unavailable::LeaderChanged.into()));
        }
        if entry.kind != EntryKind::Normal {
            return;
        }
        match apply(&mut self.keyspace, &entry.data) {
            Err(error) => {
                let text = format!(
                    "entry {} of term {} can not be applied: {error}; start the version of ringd \
                     that wrote it",
                    entry.index, entry.term
                );
                self.halt(text);
            }
            Ok(result) => {
                let Some(to) = to else {
                    return;
                };
                let response = result
                    .map(|(revision, body)| Response { header: self.header_at(revision), body });
                self.reply(to, response.map_err(Into::into));
            }
        }
    }
}

impl Shard {
    /// Answers a transaction of reads from what is applied.
    pub(super) fn read_txn(&mut self, to: RequestId, txn: &[u8]) {
        let result = match ArchivedCommand::open(txn) {
            Ok(ArchivedCommand::Txn(txn)) => self.keyspace.read_txn(txn),
            Ok(_) | Err(_) => unreachable!("the request was made here, of a transaction"),
        };
        let response = result.map(|out| Response { header: self.header(), body: Body::Txn(out) });
        self.reply(to, response.map_err(Into::into));
    }
}

/// What applying a command gives: the revision of its answer, and the answer.
type Applied = Result<(Revision, Body), Refusal>;

/// Applies a command to a keyspace.
///
/// # Errors
/// [`CommandError`] if the data is no command of this format: the replica must not go on.
pub(super) fn apply(keyspace: &mut Keyspace, data: &Bytes) -> Result<Applied, CommandError> {
    let body = match ArchivedCommand::open(data)? {
        ArchivedCommand::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
            let put = Put {
                key,
                value: data.slice_ref(value),
                lease: LeaseId(lease.to_native()),
                prev_kv: *prev_kv,
                ignore_value: *ignore_value,
                ignore_lease: *ignore_lease,
            };
            // Leases come with their own issue; until then none exists.
            keyspace.write().put(&put, |_| false).map(|prev| Body::Put { prev })
        }
        ArchivedCommand::DeleteRange { key, range_end, prev_kv } => {
            let deleted = keyspace.write().delete_range(KeyRange::new(key, range_end), *prev_kv);
            Ok(Body::DeleteRange { deleted: deleted.count, prevs: deleted.rows })
        }
        ArchivedCommand::Txn(txn) => keyspace.txn(txn, data, |_| false).map(Body::Txn),
        ArchivedCommand::Compact { revision, .. } => {
            keyspace.compact(Revision(revision.to_native())).map(|()| Body::Compact)
        }
    };
    let revision = keyspace.revision();
    Ok(body.map(|body| (revision, body)))
}
