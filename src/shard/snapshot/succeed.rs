//! One replica takes over from another: whoever waits for an answer, and whoever watches.
//!
//! What can be asked of the new one is: reads, and writes that had no place in the log yet. Of what
//! was on its way nobody here knows what becomes of it, and it is answered so.

use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::request::Unavailable;
use crate::shard::watch::Told;

impl Shard {
    /// Takes over from the replica whose files this one was recovered from, after
    /// [`Output::Reopen`]. What is left of that one is of no use, and may be large.
    ///
    /// # Panics
    /// If the other one has applied more.
    #[must_use = "to let it go takes long"]
    pub fn succeed(&mut self, mut last: Self) -> Self {
        assert!(last.applied <= self.applied, "a snapshot never goes back");
        self.now = self.now.max(last.now);
        last.fail_what_is_open();
        let lists = last.end_lists();
        while let Some(output) = last.outputs.pop_front() {
            if matches!(output, Output::Reply { .. } | Output::Rows { .. } | Output::Watch(_)) {
                self.outputs.push_back(output);
            }
        }
        self.watch_on(&mut last);
        self.ask_on(&mut last);
        for (to, range, size_of) in lists {
            self.open_list(to, range, size_of);
        }
        if last.stopping {
            self.stop();
        }
        last
    }

    /// Answers whoever waits for what ends with this replica.
    fn fail_what_is_open(&mut self) {
        let mut lost = self.proposals.drain_placed();
        lost.extend(self.leases.asks.drain());
        lost.extend(self.transfers.drain());
        for to in lost {
            self.reply(to, Err(Unavailable::Timeout.into()));
        }
        for (to, is_handed) in self.forwards.drain() {
            let why = if is_handed { Unavailable::Timeout } else { self.never() };
            self.reply(to, Err(why.into()));
        }
    }

    /// Those who watch go on where they were: what is between is of the past.
    fn watch_on(&mut self, last: &mut Self) {
        for (core, prev_kv) in last.feed.cores() {
            self.feed.subscribe(core, prev_kv);
        }
        last.refuse_replays();
        while let Some(Output::Watch(told)) = last.outputs.pop_front() {
            self.outputs.push_back(Output::Watch(told));
        }
        let cores: Vec<u32> = self.feed.cores().map(|(core, _)| core).collect();
        if !cores.is_empty() {
            let header = self.header();
            self.outputs.push_back(Output::Watch(Told::Moved { cores, header }));
        }
    }

    /// What can be asked anew is.
    fn ask_on(&mut self, last: &mut Self) {
        while let Some((command, to, deadline)) = last.proposals.next_held() {
            self.proposals.hold(command, to, deadline);
        }
        for (to, request, deadline) in last.reads.drain() {
            self.reads.push(to, request, deadline);
        }
        for (to, txn) in last.parked.drain() {
            match txn {
                Some(txn) => self.read_txn(to, txn),
                // What it answers took place, and the values that it lacks are gone.
                None => self.reply(to, Err(Unavailable::Timeout.into())),
            }
        }
        self.leases.listing.append(&mut last.leases.listing);
        for (to, revision) in last.hashes.drain() {
            if let Some(why) = self.begin_hash(to, revision) {
                self.reply(to, Err(why.into()));
            }
        }
        for to in last.defragments.drain() {
            if let Some(why) = self.begin_defragment(to) {
                self.reply(to, Err(why.into()));
            }
        }
        // Compactions that are applied, there and here: what they leave to do is done here.
        self.seals.physical.append(&mut last.seals.physical);
    }
}
