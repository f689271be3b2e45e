//! What the tests of the running server share: a server under test or an etcd as a process, a
//! client that shows every byte of an answer, and dice with a seed.

#![allow(dead_code, reason = "each test binary uses the parts it needs")]

pub(crate) mod call;
pub(crate) mod dice;
pub(crate) mod http1;
pub(crate) mod members;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod stream;

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// A knob that whoever runs the tests may set, from the environment.
///
/// `SEED`, `OPS`, `ROUNDS` steer the random tests; `UNDER_TEST` names another server than our own,
/// and `PAIR=etcd-etcd` takes an etcd for it, which tests the tests; `RINGD_PEERS` names a folder
/// with etcd's binaries.
#[expect(clippy::disallowed_methods, reason = "tests take their knobs from the environment")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The number that [`setting`] `name` holds, or `default`.
///
/// # Panics
///
/// If it is set and no number.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

/// Tells whoever runs the tests something even when the test passes.
///
/// Goes past the capture of the test harness, which swallows what the print macros write.
pub(crate) fn say(line: impl Display) {
    writeln!(std::io::stderr(), "{line}").expect("standard error is open");
}

/// Waits before something is tried again. Nothing is true because of it.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Runs a future to its end on a runtime of its own, on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs no more than a file descriptor or two")
        .block_on(future)
}
