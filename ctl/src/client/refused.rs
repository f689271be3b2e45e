//! Why a call came to nothing, in the words that etcd's own client has for it.

use std::error::Error;
use std::fmt;
use tonic::Code;
use tonic::Status;

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The time that it may take is over.
    TimeOver,
    /// The server said so, or the connection did not hold.
    By(Box<Status>),
}

impl Refused {
    /// What a status says.
    pub(crate) fn by(status: Status) -> Self {
        Self::By(Box::new(status))
    }

    /// True if the server said exactly this.
    pub(crate) fn is(&self, message: &str) -> bool {
        matches!(self, Self::By(status) if status.message() == message)
    }

    /// True if the server refused for want of permission.
    pub(crate) fn is_permission(&self) -> bool {
        matches!(self, Self::By(status) if status.code() == Code::PermissionDenied)
    }

    /// True if the same may well succeed a little later, or elsewhere.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::TimeOver => false,
            Self::By(status) => status.code() == Code::Unavailable || is_broken(status),
        }
    }
}

/// True if no server said this: the connection failed.
pub(super) fn is_broken(status: &Status) -> bool {
    status.source().is_some()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeOver => f.write_str("context deadline exceeded"),
            Self::By(status) if is_plain(status.message()) => f.write_str(status.message()),
            Self::By(status) => {
                let (code, text) = match too_large(status) {
                    Some(text) => ("ResourceExhausted", text),
                    None => (code(status.code()), told(status)),
                };
                write!(f, "rpc error: code = {code} desc = {text}")
            }
        }
    }
}

/// The message, with what stands behind it if it was made on this side.
fn told(status: &Status) -> String {
    let mut told = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        cause = error.source();
        let text = error.to_string();
        if cause.is_none() && !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
    }
    told
}

/// What grpc-go says of an answer above the limit.
fn too_large(status: &Status) -> Option<String> {
    let sizes = status.message().strip_prefix("Error, decoded message length too large: found ")?;
    let (size, rest) = sizes.split_once(" bytes, the limit is: ")?;
    let max = rest.strip_suffix(" bytes")?;
    Some(format!("grpc: received message larger than max ({size} vs. {max})"))
}

/// The name that Go has for a code.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// True for the messages that etcd's client shows without their code: all of the server's own but
/// these few.
fn is_plain(message: &str) -> bool {
    let shown_with_code = [
        "etcdserver: invalid client api version",
        "etcdserver: permission not given",
        "etcdserver: request timed out, waiting for the applied index took too long",
        "etcdserver: watch canceled",
        "etcdserver: request canceled",
        "etcdserver: context deadline exceeded",
        "etcdserver: unknown method",
        "etcdserver: request timed out, leader transfer took too long",
    ];
    message.starts_with("etcdserver: ") && !shown_with_code.contains(&message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_as_etcds_client_tells_it() {
        for (status, text) in [
            (Status::invalid_argument("etcdserver: key not found"), "etcdserver: key not found"),
            (Status::unimplemented("no"), "rpc error: code = Unimplemented desc = no"),
            (
                Status::cancelled("etcdserver: watch canceled"),
                "rpc error: code = Canceled desc = etcdserver: watch canceled",
            ),
            (
                Status::out_of_range(
                    "Error, decoded message length too large: found 28 bytes, \
                     the limit is: 10 bytes",
                ),
                "rpc error: code = ResourceExhausted desc = \
                 grpc: received message larger than max (28 vs. 10)",
            ),
        ] {
            assert_eq!(Refused::by(status).to_string(), text);
        }
        assert_eq!(Refused::TimeOver.to_string(), "context deadline exceeded");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(Refused::by(Status::unavailable("etcdserver: no leader")).is_passing());
        assert!(!Refused::by(Status::unimplemented("no")).is_passing());
        assert!(!Refused::TimeOver.is_passing());
        assert!(Refused::by(Status::permission_denied("x")).is_permission());
        assert!(Refused::by(Status::unknown("x")).is("x"));
    }
}
