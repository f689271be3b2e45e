//! What a committed entry does to the keyspace.
//!
//! The same entries give the same keyspace and the same answers on every replica: nothing here
//! looks at anything but the entry and the keyspace.

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Keyspace;
use crate::mvcc::Put;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::shard::Shard;
use crate::shard::command::ArchivedCommand;
use crate::shard::command::CommandError;
use crate::shard::request::Body;
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
        match apply(&mut self.keyspace, &mut self.records, &entry.data) {
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

/// What applying a command gives: the revision of its answer, and the answer.
type Applied = Result<(Revision, Body), Refusal>;

/// Applies a command to a keyspace.
///
/// # Errors
/// [`CommandError`] if the data is no command of this format: the replica must not go on.
pub(super) fn apply(
    keyspace: &mut Keyspace,
    records: &mut impl Records,
    data: &Bytes,
) -> Result<Applied, CommandError> {
    let command = ArchivedCommand::open(data)?;
    let mut write = keyspace.write();
    let body = match command {
        ArchivedCommand::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
            let put = Put {
                key: data.slice_ref(key),
                value: data.slice_ref(value),
                lease: LeaseId(lease.to_native()),
                ignore_value: *ignore_value,
                ignore_lease: *ignore_lease,
            };
            // Leases come with their own issue; until then none exists.
            let prior = write.put(put, records, |_| false);
            let prior = prior.map(|found| found.filter(|_| *prev_kv));
            prior.map(|found| Body::Put { prev: found.map(|found| pair(key, found, records)) })
        }
        ArchivedCommand::DeleteRange { key, range_end, prev_kv } => {
            let mut gone = Vec::new();
            let range = KeyRange::new(key, range_end);
            let deleted = write.delete_range(range, records, |key, found| {
                if *prev_kv {
                    gone.push((Bytes::copy_from_slice(key), found));
                }
            });
            let prevs = gone.into_iter().map(|(key, found)| pair(&key, found, records));
            Ok(Body::DeleteRange { deleted, prevs: prevs.collect() })
        }
    };
    let revision = write.finish();
    let revision = revision.unwrap_or_else(|| keyspace.revision());
    Ok(body.map(|body| (revision, body)))
}

fn pair(key: &[u8], found: Found, records: &impl Records) -> KeyValue {
    let location = found.location;
    Row::new(key, found).to_key_value(records.lease(location), Some(records.value(location)))
}
