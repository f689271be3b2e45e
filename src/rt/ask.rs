//! Asking the other members who belongs to the cluster, before a node starts for the first time.

use crate::config::Roll;
use crate::config::Scheme;
use crate::config::Url;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::thread;
use std::time::Duration;

/// How long a peer may take to take the connection, to take the question, and to answer; each. A
/// member of a running cluster answers from memory, and one that is not there should not hold up
/// its whole cluster's first start. etcd waits as long for its first connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the largest answer that is read: members by the hundred.
const ANSWER_SIZE_MAX: u64 = 1 << 20;
/// Peers that are asked at a time, each on a thread of its own: as many as there are mostly, so
/// that those which are not there cost one patience together.
const ASKED_MAX: usize = 64;
/// Most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// What each of the peers says that answers, in their order.
///
/// One that has just begun may not know yet what another one does, so all are asked.
pub(super) fn rolls(peers: &[Url]) -> Vec<(Url, Roll)> {
    let mut rolls = Vec::new();
    for some in peers.chunks(ASKED_MAX) {
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|peer| scope.spawn(|| ask(peer))).collect();
            asked.into_iter().map(|it| it.join().expect("asking does not panic")).collect()
        });
        for (peer, answer) in some.iter().zip(answers) {
            match answer {
                Ok(roll) => rolls.push((peer.clone(), roll)),
                Err(why) => tracing::info!(
                    address = %format_args!("{peer}/members"),
                    why,
                    "no peer answers here"
                ),
            }
        }
    }
    rolls
}

/// What one peer says.
fn ask(peer: &Url) -> Result<Roll, String> {
    if peer.scheme() != Scheme::Http {
        return Err("only http:// peers are asked yet".to_owned());
    }
    let answer = get(peer).map_err(|error| error.to_string())?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let size = match head.parse(&answer) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Err("half an answer".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    match head.code {
        Some(200) => {}
        code => return Err(format!("it answers with status {}", code.unwrap_or_default())),
    }
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(found.value).ok().map(str::to_owned)
    };
    Roll::parse(field, &answer[size..])
}

/// The bytes of an answer, to the connection's end.
fn get(peer: &Url) -> io::Result<Vec<u8>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (peer.host(), peer.port()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let (host, port) = (peer.host(), peer.port());
                write!(
                    stream,
                    "GET /members HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
                )?;
                let mut answer = Vec::new();
                stream.take(ANSWER_SIZE_MAX).read_to_end(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
