//! Names to addresses, on a thread of its own: the system's way to ask blocks, and a core must not.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::thread;

/// Questions that may wait; beyond it a peer's name is not found this time.
const QUESTIONS_MAX: usize = 256;

/// A name that somebody wants the addresses of.
struct Question {
    host: String,
    port: u16,
    answer: flume::Sender<Vec<SocketAddr>>,
}

/// Asks the thread.
#[derive(Clone)]
pub(crate) struct Resolver {
    questions: flume::Sender<Question>,
}

impl Resolver {
    /// Starts the thread; it ends when nobody can ask any more.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (questions, asked) = flume::bounded::<Question>(QUESTIONS_MAX);
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while let Ok(Question { host, port, answer }) = asked.recv() {
                // Who asked may have given up meanwhile.
                if !answer.is_disconnected() {
                    let found = (host.as_str(), port).to_socket_addrs();
                    let _ = answer.send(found.map(Iterator::collect).unwrap_or_default());
                }
            }
        })?;
        Ok(Self { questions })
    }

    /// The addresses of a host, IPv4 first; a name is asked for anew each time, as names move.
    pub(crate) async fn find(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, port)];
        }
        let (answer, answered) = flume::bounded(1);
        let question = Question { host: host.to_owned(), port, answer };
        if self.questions.try_send(question).is_err() {
            return Vec::new();
        }
        let mut found = answered.recv_async().await.unwrap_or_default();
        found.sort_by_key(SocketAddr::is_ipv6);
        found
    }
}
