//! The messages of `Watch`.

use crate::failure::Failure;
use crate::message::{self, Fields, Value};

/// Writes the request for a watcher of `key`, or of all keys from there on and before `end`, to
/// `out`, which is cleared first. The server chooses its number.
pub(crate) fn creation(key: &[u8], end: &[u8], out: &mut Vec<u8>) {
    out.clear();
    message::nested(1, out, |out| {
        message::bytes(1, key, out);
        if !end.is_empty() {
            message::bytes(2, end, out);
        }
    });
}

/// One change that a watcher is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Event<'a> {
    /// Whether the key was put, and not deleted.
    pub(crate) put: bool,
    /// The key.
    pub(crate) key: &'a [u8],
    /// Its value.
    pub(crate) value: &'a [u8],
    /// The revision of the change.
    pub(crate) revision: u64,
    /// How often the key was put since it was created.
    pub(crate) version: u64,
}

/// What a watch says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Said<'a> {
    /// The number of the watcher; negative where it is about none.
    pub(crate) watch: i64,
    /// The store's revision.
    pub(crate) revision: u64,
    /// Whether the watcher was created by this.
    pub(crate) created: bool,
    /// Whether the watcher has ended, or never began.
    pub(crate) canceled: bool,
    /// Why it did.
    pub(crate) reason: &'a [u8],
    /// All of it as it came, for its events.
    pub(crate) message: &'a [u8],
}

impl<'a> Said<'a> {
    /// Reads a message, its events aside.
    ///
    /// # Errors
    /// When it is not whole.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Failure> {
        let mut said = Self { message, ..Self::default() };
        let mut fields = Fields::of(message);
        for field in &mut fields {
            match field {
                (1, Value::Bytes(header)) => said.revision = Fields::of(header).number(3),
                (2, Value::Number(watch)) => said.watch = watch.cast_signed(),
                (3, Value::Number(created)) => said.created = created != 0,
                (4, Value::Number(canceled)) => said.canceled = canceled != 0,
                (6, Value::Bytes(reason)) => said.reason = reason,
                (_, Value::Number(_) | Value::Bytes(_)) => {}
            }
        }
        if fields.is_over() { Ok(said) } else { Err(broken()) }
    }

    /// The events in their order.
    pub(crate) fn events(&self) -> impl Iterator<Item = Result<Event<'a>, Failure>> {
        Fields::of(self.message).filter_map(|field| match field {
            (11, Value::Bytes(event)) => Some(read_event(event)),
            (_, Value::Number(_) | Value::Bytes(_)) => None,
        })
    }
}

fn read_event(bytes: &[u8]) -> Result<Event<'_>, Failure> {
    let mut event = Event { put: true, ..Event::default() };
    let (mut fields, mut pair) = (Fields::of(bytes), Fields::of(&[]));
    for field in &mut fields {
        match field {
            (1, Value::Number(kind)) => event.put = kind == 0,
            (2, Value::Bytes(bytes)) => pair = Fields::of(bytes),
            (_, Value::Number(_) | Value::Bytes(_)) => {}
        }
    }
    for field in &mut pair {
        match field {
            (1, Value::Bytes(key)) => event.key = key,
            (3, Value::Number(revision)) => event.revision = revision,
            (4, Value::Number(version)) => event.version = version,
            (5, Value::Bytes(value)) => event.value = value,
            (_, Value::Number(_) | Value::Bytes(_)) => {}
        }
    }
    if fields.is_over() && pair.is_over() { Ok(event) } else { Err(broken()) }
}

fn broken() -> Failure {
    Failure::Peer("sent a watch's message that is not whole".into())
}

/// Writes a message as a server does, for the tests of its readers.
#[cfg(test)]
pub(crate) fn write(said: &Said<'_>, events: &[Event<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    message::nested(1, &mut out, |out| message::number(3, said.revision, out));
    message::number(2, said.watch.cast_unsigned(), &mut out);
    message::number(3, u64::from(said.created), &mut out);
    message::number(4, u64::from(said.canceled), &mut out);
    message::bytes(6, said.reason, &mut out);
    for event in events {
        message::nested(11, &mut out, |out| {
            message::number(1, u64::from(!event.put), out);
            message::nested(2, out, |out| {
                message::bytes(1, event.key, out);
                message::number(3, event.revision, out);
                message::number(4, event.version, out);
                message::bytes(5, event.value, out);
            });
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_written() {
        let events = [
            Event { put: true, key: b"a", value: b"1", revision: 7, version: 3 },
            Event { put: false, key: b"b", value: b"", revision: 8, version: 0 },
        ];
        let said =
            Said { watch: -1, revision: 9, canceled: true, reason: b"no", ..Said::default() };
        let bytes = write(&said, &events);
        let read = Said::read(&bytes).expect("whole");
        assert_eq!(read, Said { message: &bytes, ..said });
        let found: Vec<_> = read.events().map(|event| event.expect("whole")).collect();
        assert_eq!(found, events);
    }

    #[test]
    fn a_creation_asks_for_one_key_or_a_range() {
        let mut out = vec![9];
        creation(b"key", b"", &mut out);
        assert_eq!(out, b"\x0a\x05\x0a\x03key");
        creation(b"k", b"l", &mut out);
        assert_eq!(out, b"\x0a\x06\x0a\x01k\x12\x01l");
    }

    #[test]
    fn half_a_message_is_refused_and_nonsense_never_panics() {
        let event = Event { put: true, key: b"a", value: b"1", revision: 7, version: 3 };
        let bytes = write(&Said::default(), &[event]);
        let whole = |bytes: &[u8]| {
            Said::read(bytes).is_ok_and(|said| said.events().all(|event| event.is_ok()))
        };
        assert!(whole(&bytes));
        for cut in 1..bytes.len() {
            let some = Said::read(&bytes[..cut]).map(|said| said.events().count());
            assert!(some.is_err() || some.is_ok_and(|count| count == 0), "{cut}");
        }
        let mut random = crate::workload::Random::new(5);
        for _ in 0..2000 {
            let noise: Vec<u8> =
                (0..random.below(60)).map(|_| random.next().to_le_bytes()[0]).collect();
            let _ = whole(&noise);
        }
    }
}
