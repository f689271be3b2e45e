//! Several shards on the same members: one that joins is added to each.

use crate::support::block_on;
use crate::support::members::{Members, TWO_SHARDS};
use crate::{add, go_on_without_the_leader, one_truth_at, promote, put_through};
use std::collections::BTreeMap;

/// A member got an id of its own in each shard, and so was a stranger in all but the first.
#[test]
fn a_member_that_joins_is_the_same_in_every_shard_and_has_the_whole_truth() {
    for is_added_first in [true, false] {
        let flags = [TWO_SHARDS, "--strict-reconfig-check=false"];
        let mut members = Members::start(3, &flags);
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        block_on(put_through(&members.ports(), "first", &mut first));
        block_on(put_through(&members.second_ports(), "second", &mut second));

        let (nth, url) = members.grow();
        let (ports, others) = (members.ports(), members.second_ports());
        let id = block_on(add(&ports, &url));
        if is_added_first {
            assert_eq!(block_on(add(&others, &url)), id, "it is one member");
            members.restart(nth);
        } else {
            // It waits for the shard that does not know it yet.
            members.restart_until(nth, "recovered");
            assert_eq!(block_on(add(&others, &url)), id, "it is one member");
            members.wait_until_ready(nth);
        }
        block_on(promote(&ports, id, &mut first));
        block_on(promote(&others, id, &mut second));
        block_on(put_through(&members.second_ports(), "joined", &mut second));
        block_on(one_truth_at(&members.second_ports(), &second));
        block_on(one_truth_at(&members.ports(), &first));
        // It counts in both.
        members.kill(0);
        block_on(put_through(&members.second_ports(), "without", &mut second));
        block_on(one_truth_at(&members.second_ports(), &second));
        members.restart(0);
        go_on_without_the_leader(&mut members, &mut first);
        block_on(one_truth_at(&members.second_ports(), &second));
    }
}
