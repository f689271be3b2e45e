//! Bytes to and from the sockets of peers.

use crate::config::Scheme;
use crate::config::Url;
use crate::rt::core::Core;
use crate::rt::core::peers::End;
use crate::rt::core::peers::Slot;
use crate::types::Tick;
use futures_lite::AsyncRead;
use futures_lite::AsyncWrite;
use glommio::net::TcpStream;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

/// How long one address may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    /// Opens the connection that a link asked for.
    pub(super) async fn dial(self: Rc<Self>, at: u32, generation: u32) {
        let url = self.url_to_dial(at, generation);
        let opened = match &url {
            Some(url) => self.open(url).await,
            None => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
        };
        let now = self.clock.now();
        let mut peers = self.peers.borrow_mut();
        let Some(slot) = peers.slot(at, generation) else {
            return;
        };
        let End::Link(link) = &mut slot.end else {
            return;
        };
        let attempt = link.attempt();
        match opened {
            Ok(stream) if link.connected(attempt, now) => {
                slot.stream = Some(stream);
                peers.after.read.push((at, generation));
            }
            Ok(_) => {}
            Err(error) => {
                let url = url.map(|url| url.to_string());
                tracing::debug!(url, %error, "a peer can not be reached");
                link.failed(attempt, now);
            }
        }
        peers.settle_link(at);
        peers.mark(at);
        drop(peers);
        self.settle_peers();
        self.turn.set();
    }

    /// Where a link calls this time: its peer's URLs in turn, those that the members know first.
    fn url_to_dial(&self, at: u32, generation: u32) -> Option<Url> {
        let mut peers = self.peers.borrow_mut();
        let slot = peers.slot(at, generation)?;
        let End::Link(link) = &slot.end else {
            return None;
        };
        let (shard, attempt, (to, _)) = (slot.shard, link.attempt(), link.peer());
        let group = peers.groups.get(&shard)?;
        let known = group.urls.get(&to).map_or(&[][..], Vec::as_slice);
        let said = group.said.get(&to).map_or(&[][..], Vec::as_slice);
        let said = said.iter().filter(|url| !known.contains(url));
        let urls: Vec<&Url> = known.iter().chain(said).collect();
        let count = u64::try_from(urls.len()).expect("URLs are few");
        let nth = usize::try_from(attempt.checked_rem(count)?).expect("usize is 64 bits");
        urls.get(nth).copied().cloned()
    }

    async fn open(&self, url: &Url) -> io::Result<TcpStream> {
        if url.scheme() != Scheme::Http {
            return Err(io::Error::other("only http:// peers are called yet"));
        }
        let resolver = self.peers.borrow().settings.resolver.clone();
        let mut last = io::Error::other("its name is not known");
        for address in resolver.find(url.host(), url.port()).await {
            match TcpStream::connect_timeout(address, CONNECT_TIMEOUT).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Reads one connection until it ends.
    pub(super) async fn read_peer(self: Rc<Self>, at: u32, generation: u32) {
        while poll_fn(|cx| self.poll_read_peer(cx, at, generation)).await {
            self.settle_peers();
            self.turn.set();
            // The shard takes what was heard before more is read.
            glommio::executor().yield_task_queue_now().await;
        }
        self.settle_peers();
        self.turn.set();
    }

    /// Receives once; false when the connection has ended, or is another's to read.
    fn poll_read_peer(&self, cx: &mut Context<'_>, at: u32, generation: u32) -> Poll<bool> {
        let mut peers = self.peers.borrow_mut();
        let Some(stream) = peers.slot(at, generation).and_then(|slot| slot.stream.as_mut()) else {
            return Poll::Ready(false);
        };
        let mut buffer = self.receive_buffer.borrow_mut();
        let received = match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => &buffer[..n],
            Poll::Ready(_) => {
                peers.ended(at, self.clock.now());
                return Poll::Ready(false);
            }
        };
        let goes_on = self.take_from_peer(&mut peers, at, received);
        peers.settle_link(at);
        peers.mark(at);
        Poll::Ready(goes_on && peers.slot(at, generation).is_some())
    }

    /// Sends all that one connection has; where the socket takes no more, a task of its own goes
    /// on.
    pub(super) fn send_to_peer(self: &Rc<Self>, at: u32) {
        let mut peers = self.peers.borrow_mut();
        let now = self.clock.now();
        let Some(slot) = peers.slot_at(at) else {
            return;
        };
        slot.dirty = false;
        if slot.sending {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match flush(slot, &mut cx, now) {
            Poll::Ready(goes_on) => peers.after_send(at, goes_on, now),
            Poll::Pending => {
                slot.sending = true;
                let generation = slot.generation;
                drop(peers);
                glommio::spawn_local(self.clone().send_rest_to_peer(at, generation)).detach();
            }
        }
    }

    async fn send_rest_to_peer(self: Rc<Self>, at: u32, generation: u32) {
        poll_fn(|cx| {
            let mut peers = self.peers.borrow_mut();
            let now = self.clock.now();
            let Some(slot) = peers.slot(at, generation) else {
                return Poll::Ready(());
            };
            let Poll::Ready(goes_on) = flush(slot, cx, now) else {
                return Poll::Pending;
            };
            slot.sending = false;
            peers.after_send(at, goes_on, now);
            Poll::Ready(())
        })
        .await;
        self.settle_peers();
        self.turn.set();
    }
}

/// Sends until the output is empty (true), the socket is full (pending) or broken (false).
fn flush(slot: &mut Slot, cx: &mut Context<'_>, now: Tick) -> Poll<bool> {
    let Some(stream) = slot.stream.as_mut() else {
        return Poll::Ready(true);
    };
    loop {
        let output = slot.end.output();
        if output.is_empty() {
            return Poll::Ready(true);
        }
        match Pin::new(&mut *stream).poll_write(cx, output) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => slot.end.sent(n, now),
            Poll::Ready(_) => return Poll::Ready(false),
        }
    }
}
