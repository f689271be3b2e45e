//! What belongs together and what does not: members, directories, and the flags that found them.

use crate::support::http1;
use crate::support::peers::under_test;
use crate::support::server::Server;

/// Of flags that found a cluster only the first start takes note. With another token a later one
/// took itself for another member, and waited for ever to be elected by the one it had been.
#[test]
fn flags_that_found_a_cluster_mean_nothing_later() {
    let mut server = Server::start(&under_test());
    server.kill();
    server.restart_with(&["--initial-cluster-token", "another"]);
    server.kill();
    server.restart_with(&["--initial-cluster-state", "existing"]);
    let health = http1::get(server.port(), "/health").expect("it answers");
    assert_eq!(health.status, 200);
}
