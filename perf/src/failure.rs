//! What can go wrong in a run, worded for the person at the terminal.

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A system call failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried, with the path or address.
        what: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The server broke HTTP/2 or gRPC, or ended the connection.
    #[error("the server {0}")]
    Peer(String),
    /// The server refused a single call.
    #[error("the server refused {0}")]
    Refused(String),
    /// The server answered, and wrongly.
    #[error("WRONG ANSWER: {0}")]
    Wrong(String),
    /// The flags do not fit together, or something they name is missing.
    #[error("{0}")]
    Usage(String),
    /// A server under test did not start, or ended by itself.
    #[error("{0}")]
    Server(String),
    /// Ctrl-C, or a request to end.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// An adapter for `map_err`: names what was tried.
    pub(crate) fn io<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause: cause.into() }
    }
}
