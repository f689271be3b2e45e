//! Many connections in one loop, some of which may be left unread.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::clock::{self, Clock, Nanos};
use crate::failure::Failure;
use crate::h2::connection::{Answer, Connection, Heard, Windows};
use crate::wire::{self, Received, Wire};

/// How long a server may take to greet all connections.
const GREETING_TIME_MAX: Duration = Duration::from_secs(30);

/// The longest wait without a look at the interruption.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// Receives from one connection before the others have their turn.
const RECEIVES_MAX: usize = 4;

/// Events taken per turn.
const EVENTS_MAX: usize = 256;

/// Bytes that the kernel may hold of what an unread connection was sent.
const UNREAD_SIZE_MAX: usize = 64 * 1024;

/// A connection, and what the kernel is asked to tell of it.
#[derive(Debug)]
struct Entry {
    wire: Wire,
    reads: bool,
    writes: bool,
}

/// What one receive brought.
pub(crate) struct Brought<'a> {
    /// The connection's number here.
    pub(crate) index: usize,
    /// When.
    pub(crate) now: Nanos,
    /// For what is to be said in return; it is sent afterwards.
    pub(crate) machine: &'a mut Connection,
    /// Messages of talks.
    pub(crate) heard: &'a Heard,
    /// Ends of calls and talks.
    pub(crate) ended: &'a mut Vec<Answer>,
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Wires {
    address: SocketAddr,
    clock: Clock,
    poll: OwnedFd,
    /// Closed ones leave a hole, so that numbers stay what they are.
    entries: Vec<Option<Entry>>,
    heard: Heard,
    ended: Vec<Answer>,
    /// When the last byte came.
    heard_at: Nanos,
}

impl Wires {
    /// No connections yet, to `address`.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn create(address: SocketAddr, clock: Clock) -> Result<Self, Failure> {
        Ok(Self {
            address,
            clock,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Failure::io("epoll"))?,
            entries: Vec::new(),
            heard: Heard::default(),
            ended: Vec::new(),
            heard_at: clock.now(),
        })
    }

    /// Opens `count` connections and waits for the server's greeting on each.
    ///
    /// # Errors
    /// When one cannot be opened, or is not greeted in time.
    pub(crate) fn connect(
        &mut self,
        count: usize,
        windows: Windows,
        interrupt: &AtomicBool,
    ) -> Result<Range<usize>, Failure> {
        let start = self.entries.len();
        for index in start..start + count {
            let socket = wire::connect(self.address)?;
            let machine = Connection::with_windows(&self.address.to_string(), windows);
            let flags = interest(true, false);
            epoll::add(&self.poll, &socket, EventData::new_u64(index as u64), flags)
                .map_err(Failure::io("epoll"))?;
            let wire = Wire::new(socket, machine);
            self.entries.push(Some(Entry { wire, reads: true, writes: false }));
            self.flush(index)?;
        }
        let deadline = self.clock.now().plus(GREETING_TIME_MAX);
        let made = start..self.entries.len();
        while !made.clone().all(|index| self.machine(index).is_ready()) {
            if self.clock.now() > deadline {
                return Err(Failure::Peer(format!("did not greet within {GREETING_TIME_MAX:?}")));
            }
            self.turn(WAIT_MAX, interrupt, |_| Ok(()))?;
        }
        Ok(made)
    }

    /// The machine of a connection; what it has to say is sent by [`Self::flush`].
    ///
    /// # Panics
    /// When it was closed.
    pub(crate) fn machine(&mut self, index: usize) -> &mut Connection {
        &mut self.entry(index).wire.machine
    }

    fn entry(&mut self, index: usize) -> &mut Entry {
        self.entries[index].as_mut().expect("nobody uses a connection after closing it")
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, index: usize) {
        // Closing the socket takes it out of the poll.
        self.entries[index] = None;
    }

    /// When the server last said anything.
    pub(crate) fn heard_at(&self) -> Nanos {
        self.heard_at
    }

    /// What silence there was until now counts no more.
    pub(crate) fn listen(&mut self) {
        self.heard_at = self.clock.now();
    }

    /// Reads nothing of a connection from now on; the kernel is to hold little of it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn leave_unread(&mut self, index: usize) -> Result<(), Failure> {
        let entry = self.entry(index);
        entry.reads = false;
        rustix::net::sockopt::set_socket_recv_buffer_size(&entry.wire.socket, UNREAD_SIZE_MAX)
            .map_err(Failure::io("set SO_RCVBUF"))?;
        self.ask(index)
    }

    /// Reads a connection again.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn read_again(&mut self, index: usize) -> Result<(), Failure> {
        self.entry(index).reads = true;
        self.ask(index)
    }

    /// Tells the kernel what we want to be told of a connection.
    fn ask(&mut self, index: usize) -> Result<(), Failure> {
        let entry = self.entries[index].as_mut().expect("it is not closed");
        let flags = interest(entry.reads, entry.writes);
        epoll::modify(&self.poll, &entry.wire.socket, EventData::new_u64(index as u64), flags)
            .map_err(Failure::io("epoll"))
    }

    /// Sends what a connection has to say, now or when its socket has room.
    ///
    /// # Errors
    /// When the server ended the connection.
    pub(crate) fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let entry = self.entry(index);
        entry.wire.flush()?;
        let writes = !entry.wire.machine.output().is_empty();
        if writes == entry.writes {
            return Ok(());
        }
        entry.writes = writes;
        self.ask(index)
    }

    /// Waits until something comes, at most `wait`, and hands over what came.
    ///
    /// # Errors
    /// When the server ended a connection or broke the protocol, when `on` fails, or when
    /// interrupted.
    pub(crate) fn turn(
        &mut self,
        wait: Duration,
        interrupt: &AtomicBool,
        mut on: impl FnMut(Brought<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        let nanos = i64::try_from(clock::nanos(wait.min(WAIT_MAX))).expect("below a second");
        let wait = Timespec { tv_sec: 0, tv_nsec: nanos };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.poll, spare, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(cause) => return Err(Failure::io("epoll")(cause)),
        }
        for event in events {
            let index = usize::try_from(event.data.u64()).expect("as registered");
            // Of one that is left unread the kernel tells when it is over, which reading shows.
            let flags = event.flags;
            let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if over || self.entry(index).reads {
                self.receive(index, &mut on)?;
            }
            self.flush(index)?;
        }
        Ok(())
    }

    /// Takes in what a connection has.
    fn receive(
        &mut self,
        index: usize,
        on: &mut impl FnMut(Brought<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let entry = self.entries[index].as_mut().expect("a closed one has no events");
        for _ in 0..RECEIVES_MAX {
            let received = entry.wire.receive(&mut self.ended)?;
            if received == Received::Nothing {
                break;
            }
            let now = self.clock.now();
            self.heard_at = now;
            let machine = &mut entry.wire.machine;
            machine.hear(&mut self.heard);
            let (heard, ended) = (&self.heard, &mut self.ended);
            on(Brought { index, now, machine, heard, ended })?;
            self.ended.clear();
            if received == Received::Some {
                break;
            }
        }
        Ok(())
    }
}

/// What the kernel tells: level by level, so that what is left is told again.
fn interest(reads: bool, writes: bool) -> EventFlags {
    let mut flags = EventFlags::empty();
    if reads {
        flags |= EventFlags::IN | EventFlags::RDHUP;
    }
    if writes {
        flags |= EventFlags::OUT;
    }
    flags
}
