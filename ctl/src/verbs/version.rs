//! `version`: whose commands these are, and what of.

use crate::failure::Failure;
use crate::verbs::Context;
use clap::Command;
use ringd::config::ETCD_VERSION;

/// The command line of the verb.
pub(super) fn command() -> Command {
    crate::arguments::verb("version", "Print versions", "")
}

/// The versions, a line each: etcdctl's first two lines are what scripts read.
fn text() -> String {
    let (api, _) = ETCD_VERSION.rsplit_once('.').expect("a version has three parts");
    let own = env!("CARGO_PKG_VERSION");
    format!("etcdctl version: {ETCD_VERSION}\nAPI version: {api}\nringctl version: {own}")
}

/// Prints them.
///
/// # Errors
///
/// A standard output that cannot be written.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.printer().line(text())
}
