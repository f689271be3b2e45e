//! A connection with its socket, for loops that wait for many of them at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::failure::Failure;
use crate::h2::connection::{Answer, Connection};

/// What one receive found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// Nothing is there now.
    Nothing,
    /// Less than there was room for.
    Some,
    /// As much as there was room for: more may be there.
    Full,
}

/// A socket that does not block, and the machine that knows what its bytes mean.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The socket.
    pub(crate) socket: TcpStream,
    /// The machine.
    pub(crate) machine: Connection,
}

impl Wire {
    /// Gives `machine` a connected socket.
    pub(crate) fn new(socket: TcpStream, machine: Connection) -> Self {
        Self { socket, machine }
    }

    /// Takes in what is there, at most once the machine's space; ended calls go to `ended`.
    ///
    /// # Errors
    /// When the server ended the connection, or broke the protocol.
    pub(crate) fn receive(&mut self, ended: &mut Vec<Answer>) -> Result<Received, Failure> {
        let space = self.machine.space();
        let room = space.len();
        let size = loop {
            match self.socket.read(space) {
                Ok(0) => return Err(Failure::Peer("closed the connection".into())),
                Ok(size) => break size,
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing);
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(Failure::io("receive")(cause)),
            }
        };
        self.machine.on_received(size, ended)?;
        Ok(if size < room { Received::Some } else { Received::Full })
    }

    /// Sends what there is to send, as far as the socket takes it.
    ///
    /// # Errors
    /// When the server ended the connection.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        while !self.machine.output().is_empty() {
            match self.socket.write(self.machine.output()) {
                Ok(size) => self.machine.on_sent(size),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.last_words(Failure::io("send")(cause))),
            }
        }
        Ok(())
    }

    /// Why the server ended the connection, if it said so before `failure` showed that it had.
    fn last_words(&mut self, failure: Failure) -> Failure {
        let mut ended = Vec::new();
        while let Ok(size @ 1..) = self.socket.read(self.machine.space()) {
            if let Err(goodbye) = self.machine.on_received(size, &mut ended) {
                return goodbye;
            }
        }
        failure
    }
}

/// A socket connected to `address` that does not block.
///
/// # Errors
/// When nobody listens there.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = TcpStream::connect(address).map_err(Failure::io(format!("connect {address}")))?;
    socket.set_nodelay(true).map_err(Failure::io("set TCP_NODELAY"))?;
    socket.set_nonblocking(true).map_err(Failure::io("set O_NONBLOCK"))?;
    Ok(socket)
}
