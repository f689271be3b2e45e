//! HTTP/1.1 as one sends it by hand: any bytes out, what comes back taken apart.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Headers that say when and how, not what: left out of comparisons. That the connection is closed
/// is seen; an answer need not say so to HTTP/1.0.
const NOT_COMPARED: [&str; 2] = ["connection", "date"];

/// An answer: status, headers by lower-case name in order of name, body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The code on the first line.
    pub(crate) status: u16,
    /// Lower-case name and value, sorted, without those that differ from call to call.
    pub(crate) headers: Vec<(String, String)>,
    /// All that followed the headers until the server closed.
    pub(crate) body: String,
}

/// What the server sends back for `request` until it closes the connection.
///
/// # Errors
///
/// If it cannot be reached or neither answers nor closes in time.
pub(crate) fn raw(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server may well close before it has read nonsense to its end.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}

/// As [`raw`], taken apart.
///
/// # Errors
///
/// As [`raw`], or what came back is not HTTP/1.
pub(crate) fn exchange(port: u16, request: &str) -> Result<Answer, String> {
    let bytes = raw(port, request.as_bytes()).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(format!("not an answer: {text:?}"))?;
    let (first, lines) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut headers: Vec<_> = lines
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()))
        .collect();
    headers.sort();
    let status = status.ok_or(format!("no status in {first:?}"))?;
    Ok(Answer { status, headers, body: body.to_owned() })
}

/// A plain GET that asks the server to close afterwards.
///
/// # Errors
///
/// As [`exchange`].
pub(crate) fn get(port: u16, path: &str) -> Result<Answer, String> {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}
