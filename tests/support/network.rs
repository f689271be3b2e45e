//! What lies between the members of a cluster, in the test's hands: a relay in front of each peer
//! port, and a fault for each direction from one member to another.
//!
//! A member speaks to another on the connection that it has dialled, so one connection is one
//! direction; its greeting says who dialled. What the other side answers there (greetings, pongs)
//! passes unless the connection is cut.

use super::dice::Dice;
use super::server::{listen, port_of};
use ringd::peer::{GREETING_SIZE, MAGIC};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that are passed on at once.
const CHUNK_SIZE: usize = 16 << 10;
/// Bytes that a torn connection still passes on, at most.
const TORN_AFTER_MAX: u64 = 20_000;
/// Where in a greeting the id of the sender is.
const FROM: std::ops::Range<usize> = 24..32;

/// What is wrong with one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Connections are closed, and none is made.
    Cut,
    /// Nothing arrives; once the fault is over, all of it does.
    Held,
    /// Each piece takes up to so long.
    Slow(Duration),
    /// Each connection breaks after some bytes, in the middle of a frame as like as not.
    Torn,
}

/// The id of who speaks, and the number of who listens.
type Link = (u64, usize);

/// The faults that there are.
type Faults = BTreeMap<Link, Fault>;

/// Relays on a thread of their own; gone when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    ports: Vec<u16>,
    faults: watch::Sender<Faults>,
}

impl Network {
    /// A relay in front of each of these ports of the loopback.
    pub(crate) fn start(targets: &[u16], seed: u64) -> Self {
        let listeners: Vec<_> = targets.iter().map(|_| listen()).collect();
        let ports = listeners.iter().map(port_of).collect();
        let (faults, told) = watch::channel(Faults::new());
        let relays: Vec<_> = listeners.into_iter().zip(targets.iter().copied()).collect();
        spawn(move || super::block_on(serve(relays, told, seed)));
        Self { ports, faults }
    }

    /// Where the relays are, in the order of their targets.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Puts these faults in the place of all others.
    pub(crate) fn set(&self, faults: impl IntoIterator<Item = (Link, Fault)>) {
        self.faults.send_replace(faults.into_iter().collect());
    }
}

#[expect(clippy::disallowed_methods, reason = "relays run beside the test")]
fn spawn(work: impl FnOnce() + Send + 'static) {
    drop(std::thread::spawn(work));
}

/// Relays until the test lets go of the network.
async fn serve(relays: Vec<(StdListener, u16)>, mut told: watch::Receiver<Faults>, seed: u64) {
    for (number, (listener, target)) in relays.into_iter().enumerate() {
        listener.set_nonblocking(true).expect("a socket can be made to");
        let listener = TcpListener::from_std(listener).expect("there is a runtime");
        let told = told.clone();
        let mut dice = Dice::new(seed + u64::try_from(number).expect("small"));
        tokio::spawn(async move {
            while let Ok((dialled, _)) = listener.accept().await {
                let dice = Dice::new(dice.next());
                tokio::spawn(relay(dialled, number, target, told.clone(), dice));
            }
        });
    }
    while told.changed().await.is_ok() {}
}

/// Passes on what one connection says, until one side closes it or it is cut.
async fn relay(
    mut dialled: TcpStream,
    number: usize,
    target: u16,
    told: watch::Receiver<Faults>,
    dice: Dice,
) {
    let mut first = vec![0; MAGIC.len()];
    if dialled.read_exact(&mut first).await.is_err() {
        return;
    }
    let mut link = None;
    if first == MAGIC {
        first.resize(GREETING_SIZE, 0);
        if dialled.read_exact(&mut first[MAGIC.len()..]).await.is_err() {
            return;
        }
        let from = u64::from_le_bytes(first[FROM].try_into().expect("eight bytes"));
        link = Some((from, number));
    }
    if fault(&told, link) == Some(Fault::Cut) {
        return;
    }
    let Ok(mut listening) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let is_fast = dialled.set_nodelay(true).and_then(|()| listening.set_nodelay(true));
    if is_fast.is_err() || listening.write_all(&first).await.is_err() {
        return;
    }
    let (from_dialler, to_dialler) = dialled.into_split();
    let (from_listener, to_listener) = listening.into_split();
    tokio::select! {
        () = pass(from_dialler, to_listener, told.clone(), link, dice.clone()) => {}
        () = pass(from_listener, to_dialler, told.clone(), None, dice) => {}
        () = cut(told, link) => {}
    }
}

fn fault(told: &watch::Receiver<Faults>, link: Option<Link>) -> Option<Fault> {
    told.borrow().get(&link?).copied()
}

/// Waits until a direction is cut.
async fn cut(mut told: watch::Receiver<Faults>, link: Option<Link>) {
    while fault(&told, link) != Some(Fault::Cut) {
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// Passes on bytes as far as the faults let it.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut told: watch::Receiver<Faults>,
    link: Option<Link>,
    mut dice: Dice,
) {
    let (mut chunk, mut left) = (vec![0; CHUNK_SIZE], None);
    loop {
        told.mark_unchanged();
        let now = fault(&told, link);
        let size = tokio::select! {
            changed = told.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut chunk), if now != Some(Fault::Held) => match read {
                Ok(size) if size > 0 => size,
                Ok(_) | Err(_) => return,
            },
        };
        if let Some(Fault::Slow(most)) = now {
            let most = u64::try_from(most.as_micros()).expect("it is short");
            tokio::time::sleep(Duration::from_micros(dice.below(most + 1))).await;
        }
        let room = match now {
            Some(Fault::Torn) => *left.get_or_insert_with(|| dice.below(TORN_AFTER_MAX)),
            Some(Fault::Cut | Fault::Held | Fault::Slow(_)) | None => u64::MAX,
        };
        let part = usize::try_from(room).unwrap_or(usize::MAX).min(size);
        if to.write_all(&chunk[..part]).await.is_err() || part < size {
            return;
        }
        left = left.map(|left| left.saturating_sub(u64::try_from(size).expect("small")));
    }
}
