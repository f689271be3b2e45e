//! Reads that must see all that was there before them: they wait for a read point, which all of a
//! turn share, and until that is applied.

use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::request::Body;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::types::Tick;

impl Shard {
    pub(super) fn wait_for_read_point(
        &mut self,
        from: RequestId,
        request: Request,
    ) -> Option<Unavailable> {
        let size = self.reads.size() + request.size();
        let waiting = self.reads.len() + self.answers_waiting();
        if waiting >= self.config.waiting_max || size > self.config.waiting_size_max {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        self.reads.push(from, request, deadline);
        None
    }

    /// Asks for one read point for all reads that came since the last one was asked for.
    pub(super) fn ask_read_point(&mut self) {
        let Some(context) = self.reads.next_batch() else {
            return;
        };
        if self.raft.read(context).is_err() {
            self.reads.lost(context);
        }
    }

    pub(super) fn serve_reads(&mut self) {
        while let Some((to, request)) = self.reads.ready(self.applied) {
            match request {
                Request::Range(range) => {
                    self.outputs.push_back(Output::Reply { to, ready: Ready::Range(range) });
                }
                Request::RangeStream(range) => self.open_list(to, range, None),
                Request::MemberList { .. } => self.reply(to, Ok(self.member_list())),
                Request::Alarms => {
                    self.reply(to, Ok(Response { header: self.header(), body: Body::Alarms }));
                }
                Request::ReadTxn { txn, .. } => self.read_txn(to, txn),
                Request::Write(_)
                | Request::Status
                | Request::HashKv { .. }
                | Request::Hash
                | Request::LeaseGrant { .. }
                | Request::LeaseRevoke { .. }
                | Request::LeaseKeepAlive { .. }
                | Request::LeaseTimeToLive { .. }
                | Request::LeaseLeases
                | Request::MemberAdd { .. }
                | Request::MemberRemove { .. }
                | Request::MemberUpdate { .. }
                | Request::MemberPromote { .. }
                | Request::MoveLeader { .. }
                | Request::Defragment => {
                    unreachable!("only reads wait here for a read point")
                }
            }
        }
    }
}
