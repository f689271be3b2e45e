//! How a command ends that did not succeed: what it says, and the exit code that scripts read.

use std::fmt;

/// The exit codes of etcdctl, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something went wrong.
    Error = 1,
    /// No server was to be had.
    BadConnection = 2,
    /// What was read from standard input makes no sense.
    InvalidInput = 3,
    /// What was asked for does not exist.
    BadFeature = 4,
    /// It was given up before it was done.
    Interrupted = 5,
    /// The command line makes no sense.
    BadArguments = 128,
}

/// The end of a command that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process exits with.
    pub(crate) code: u8,
    /// What is printed after `Error: `; none if all was said already.
    pub(crate) text: Option<String>,
}

impl Failure {
    /// A failure that says why.
    pub(crate) fn new(exit: Exit, text: impl fmt::Display) -> Self {
        Self { code: exit as u8, text: Some(text.to_string()) }
    }

    /// A failure of which everything is said already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self { code: exit as u8, text: None }
    }

    /// A command line that makes no sense.
    pub(crate) fn arguments(text: impl fmt::Display) -> Self {
        Self::new(Exit::BadArguments, text)
    }
}
