//! The addresses that clients and peers reach: bound once, each connection handed on as it comes.

use crate::config::Config;
use crate::config::Scheme;
use crate::config::ShardConfig;
use crate::config::Url;
use crate::rt::signals::Signals;
use crate::types::ShardId;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::process::Resource;
use rustix::process::getrlimit;
use socket2::TcpKeepalive;
use std::io;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::ToSocketAddrs;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Connections that may wait to be accepted; Go's servers use the system's bound, commonly this.
const BACKLOG: i32 = 4096;
/// Silence before the system asks whether a connection's other side is still there; etcd's, as are
/// the two below. Without it nobody learns of a machine that has lost its power.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long it waits before it asks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// Questions without an answer that end a connection.
const QUESTIONS_MAX: u32 = 9;
/// Open files that clients leave to the log, which must stop the node when it gets none. etcd keeps
/// 150 for itself.
const RESERVED_FILES: u64 = 150;
/// How long one wait lasts at most: how late a failed core is noticed.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why an address can not be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("listen tcp {address}: bind: {cause}{}", advice(cause, flag))]
    Bind { address: String, flag: &'static str, cause: io::Error },
    #[error("{url}: only http:// addresses are served yet")]
    Scheme { url: String },
}

fn advice(cause: &io::Error, flag: &str) -> String {
    match cause.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            format!(" (another process has it; stop that one, or choose another --{flag})")
        }
        Some(libc::EADDRNOTAVAIL) => " (no interface of this machine has that address)".to_owned(),
        Some(libc::EACCES) => " (ports below 1024 need privileges)".to_owned(),
        _ => String::new(),
    }
}

/// One address of one shard, or of the node for its peers.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The shard whose clients come here; none where peers do.
    shard: Option<ShardId>,
    socket: TcpListener,
}

impl Listener {
    /// Binds every client address of every shard.
    pub(crate) fn open_clients(config: &Config) -> Result<Vec<Self>, ListenError> {
        let urls = |shard: &ShardConfig| shard.listen_client_urls.clone();
        let all = config.shards().flat_map(|(id, it)| urls(it).into_iter().map(move |it| (id, it)));
        all.map(|(id, url)| Self::open(Some(id), &url, "listen-client-urls", config)).collect()
    }

    /// Binds every address for peers.
    pub(crate) fn open_peers(config: &Config) -> Result<Vec<Self>, ListenError> {
        let urls = config.listen_peer_urls.iter();
        urls.map(|url| Self::open(None, url, "listen-peer-urls", config)).collect()
    }

    fn open(
        shard: Option<ShardId>,
        url: &Url,
        flag: &'static str,
        config: &Config,
    ) -> Result<Self, ListenError> {
        if url.scheme() != Scheme::Http {
            return Err(ListenError::Scheme { url: url.text().to_owned() });
        }
        let address = format!("{}:{}", url.host(), url.port());
        let bound = (url.host().trim_matches(['[', ']']), url.port()).to_socket_addrs().and_then(
            |mut found| {
                let found = found.by_ref().min_by_key(SocketAddr::is_ipv6);
                let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
                bind(found.ok_or_else(none)?, config)
            },
        );
        let socket = bound.map_err(|cause| ListenError::Bind { address, flag, cause })?;
        Ok(Self { shard, socket })
    }

    /// Waits a moment for connections, and takes all that have come.
    pub(crate) fn wait(
        listeners: &[Self],
        signals: &Signals,
    ) -> Vec<(socket2::Socket, Option<ShardId>)> {
        let signal = signals.fd();
        let mut waits: Vec<_> =
            listeners.iter().map(|one| PollFd::new(&one.socket, PollFlags::IN)).collect();
        waits.push(PollFd::new(&signal, PollFlags::IN));
        // An interrupted wait is one that brought nothing.
        let _ = poll(&mut waits, Some(&WAIT));
        let mut out = Vec::new();
        for listener in listeners {
            if let Err(cause) = listener.accept_all(&mut out) {
                tracing::warn!(%cause, "a connection can not be accepted{}", files(&cause));
                // It still waits to be: asked at once, it would be refused at once.
                let _ = poll(&mut [PollFd::new(&signal, PollFlags::IN)], Some(&WAIT));
                break;
            }
        }
        out
    }

    fn accept_all(&self, out: &mut Vec<(socket2::Socket, Option<ShardId>)>) -> io::Result<()> {
        // What peers need comes out of what is kept from clients.
        let most = if self.shard.is_some() { files_for_clients() } else { u64::MAX };
        loop {
            match self.socket.accept() {
                // The system gives the lowest number that is free.
                Ok((stream, _)) if u64::try_from(stream.as_raw_fd()).is_ok_and(|it| it >= most) => {
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                Ok((stream, _)) => out.push((socket2::Socket::from(stream), self.shard)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(cause) => return Err(cause),
            }
        }
    }
}

/// How many of the process's files may be open before clients get no more of them.
fn files_for_clients() -> u64 {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    most - RESERVED_FILES.min(most / 2)
}

/// What to do where it is files that lack.
fn files(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EMFILE) => {
            ": too many files are open; raise the limit (ulimit -n, LimitNOFILE= in a systemd unit)"
        }
        _ => "",
    }
}

/// Binds an address.
fn bind(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let bind_one = |address: SocketAddr| {
        let socket = prepare(address, config)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    let (first, instead) = candidates(address);
    bind_one(first).or_else(|error: io::Error| match (error.raw_os_error(), instead) {
        (Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL), Some(instead)) => bind_one(instead),
        _ => Err(error),
    })
}

/// What is bound for an address, and what where the system has no IPv6: all of the machine's IPv4
/// addresses stand for its IPv6 ones as well, as in Go.
fn candidates(address: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    if !address.ip().is_unspecified() || address.is_ipv6() {
        return (address, None);
    }
    (SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())), Some(address))
}

/// A socket for an address.
fn prepare(address: SocketAddr, config: &Config) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // As every server does, so that connections in TIME_WAIT do not hold up a restart.
    socket.set_reuse_address(true)?;
    if config.connections.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // What is accepted inherits it.
    let silence = TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(ASK_AGAIN_AFTER);
    socket.set_tcp_keepalive(&silence.with_retries(QUESTIONS_MAX))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::TcpStream;

    fn listener(address: impl Into<SocketAddr>) -> Listener {
        let socket = bind(address.into(), &Config::default()).expect("a free port");
        Listener { shard: None, socket }
    }

    /// A connection to `to` at a listener's port, as the listener accepted it.
    fn accepted(listener: &Listener, to: IpAddr) -> (TcpStream, socket2::Socket) {
        let port = listener.socket.local_addr().expect("it is bound").port();
        let client = TcpStream::connect((to, port)).expect("it listens");
        let mut out = Vec::new();
        while out.is_empty() {
            listener.accept_all(&mut out).expect("files are free");
        }
        (client, out.pop().expect("one").0)
    }

    /// A client whose machine has lost its power kept its place for ever.
    #[test]
    fn the_system_looks_whether_who_is_silent_is_still_there() {
        let listener = listener((Ipv4Addr::LOCALHOST, 0));
        let (_client, socket) = accepted(&listener, Ipv4Addr::LOCALHOST.into());
        assert!(socket.keepalive().expect("it is open"));
        assert_eq!(socket.keepalive_time().expect("it is open"), SILENCE_MAX);
        assert_eq!(socket.keepalive_interval().expect("it is open"), ASK_AGAIN_AFTER);
        assert_eq!(socket.keepalive_retries().expect("it is open"), QUESTIONS_MAX);
    }

    /// It listened on IPv4 alone. A test binds no address that others reach, so the socket is
    /// looked at before that.
    #[test]
    fn all_addresses_are_those_of_ipv6_as_well() {
        let one = |ip: IpAddr| SocketAddr::from((ip, 5));
        let (all, old) = (one(Ipv6Addr::UNSPECIFIED.into()), one(Ipv4Addr::UNSPECIFIED.into()));
        assert_eq!(candidates(old), (all, Some(old)));
        assert_eq!(candidates(all), (all, None));
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(candidates(one(ip)), (one(ip), None));
        }
        match prepare(all, &Config::default()) {
            Ok(socket) => assert!(!socket.only_v6().expect("it is open")),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT)),
        }
    }
}
