//! How Go reads and writes what stands on etcdctl's command line and in its outputs: numbers,
//! durations, quoted strings, and the words of its complaints.

mod error;
mod number;
mod quote;
mod time;
mod url;

pub(crate) use error::reason;
pub(crate) use number::parse_bool;
pub(crate) use number::parse_int;
pub(crate) use number::parse_uint;
pub(crate) use quote::quote;
pub(crate) use quote::unquote;
pub(crate) use time::format_duration;
pub(crate) use time::parse_duration;
pub(crate) use url::check_urls;
