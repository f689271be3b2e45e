//! Single calls, one after the other: for what is not a load, such as a compaction, one long list,
//! or a look at what the server holds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::failure::Failure;
use crate::h2::connection::{Answer, Connection, Outcome};
use crate::h2::hpack::Method;
use crate::message::{self, Listed, Range, Status};

/// How long connecting may take, on this machine.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A connection that asks one thing at a time and waits for the answer.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: TcpStream,
    machine: Connection,
    ended: Vec<Answer>,
}

impl Caller {
    /// Connects; an answer may keep silent for `patience`.
    ///
    /// # Errors
    /// When nobody listens, or nobody greets in time.
    pub(crate) fn connect(address: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)
            .map_err(Failure::io(format!("connect {address}")))?;
        socket.set_nodelay(true).map_err(Failure::io("set TCP_NODELAY"))?;
        socket.set_read_timeout(Some(patience)).map_err(Failure::io("set SO_RCVTIMEO"))?;
        let machine = Connection::new(&address.to_string());
        let mut caller = Self { socket, machine, ended: Vec::new() };
        caller.flush()?;
        while !caller.machine.is_ready() {
            caller.receive()?;
        }
        Ok(caller)
    }

    /// Calls `method` and waits; keeps at most `keep` bytes of the answer.
    ///
    /// # Errors
    /// When the server refuses, breaks the protocol, or keeps silent for too long.
    pub(crate) fn call(
        &mut self,
        method: Method,
        message: &[u8],
        keep: usize,
    ) -> Result<Answer, Failure> {
        self.machine.keep(keep);
        self.machine.request(method, 0, message)?;
        self.flush()?;
        let answer = loop {
            if let Some(answer) = self.ended.pop() {
                break answer;
            }
            self.receive()?;
            self.flush()?;
        };
        match answer.outcome {
            Outcome::Status(0) => Ok(answer),
            Outcome::Status(status) => {
                let text = self.machine.last_message().unwrap_or_default();
                Err(Failure::Refused(format!("{} (status {status}): {text}", method.path())))
            }
            Outcome::Reset(code) => {
                Err(Failure::Refused(format!("{}: stream reset, error {code}", method.path())))
            }
        }
    }

    /// The value of `key`, linearizable.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let mut found = None;
        let range = Range { key: key.to_vec(), ..Range::default() };
        self.list(&range, &mut |_, value| found = Some(value.to_vec()))?;
        Ok(found)
    }

    /// What `range` asks for, linearizable; `visit` sees each key with its value.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub(crate) fn list(
        &mut self,
        range: &Range,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Listed, Failure> {
        let answer = self.call(Method::Range, &range.to_bytes(), usize::MAX)?;
        message::listed(&answer.body, visit)
    }

    /// The store's revision.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub(crate) fn revision(&mut self) -> Result<u64, Failure> {
        let range = Range { key: vec![0], limit: 1, ..Range::default() };
        Ok(self.list(&range, &mut |_, _| {})?.revision)
    }

    /// Compacts up to `revision`; if `physical`, waits until all is done.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub(crate) fn compact(&mut self, revision: u64, physical: bool) -> Result<(), Failure> {
        self.call(Method::Compact, &message::compaction(revision, physical), 0).map(|_| ())
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub(crate) fn status(&mut self) -> Result<Status, Failure> {
        let answer = self.call(Method::Status, &[], usize::MAX)?;
        Ok(message::status(&answer.body))
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let size = loop {
            match self.socket.read(self.machine.space()) {
                Ok(0) => return Err(Failure::Peer("closed the connection".into())),
                Ok(size) => break size,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(Failure::io("wait for an answer")(cause)),
            }
        };
        self.machine.on_received(size, &mut self.ended)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let size = self.machine.output().len();
        self.socket.write_all(self.machine.output()).map_err(Failure::io("send"))?;
        self.machine.on_sent(size);
        Ok(())
    }
}
