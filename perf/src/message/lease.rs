//! The messages of `Lease`.

use crate::message::{self, Fields, Value};

/// Writes the request that grants lease `id` for `seconds` to `out`, which is cleared first.
pub(crate) fn grant(id: u64, seconds: u64, out: &mut Vec<u8>) {
    out.clear();
    message::number(1, seconds, out);
    message::number(2, id, out);
}

/// The number and the seconds that an answer to a grant or a keep-alive has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lived {
    /// The lease.
    pub(crate) id: u64,
    /// Its seconds from now on; zero when there is no such lease.
    pub(crate) seconds: u64,
}

/// Reads an answer to a grant or a keep-alive.
pub(crate) fn lived(answer: &[u8]) -> Lived {
    let mut lived = Lived::default();
    for field in Fields::of(answer) {
        match field {
            (2, Value::Number(id)) => lived.id = id,
            (3, Value::Number(seconds)) => lived.seconds = seconds,
            (_, Value::Number(_) | Value::Bytes(_)) => {}
        }
    }
    lived
}

/// Writes the request that keeps lease `id` alive to `out`, which is cleared first.
pub(crate) fn keep_alive(id: u64, out: &mut Vec<u8>) {
    out.clear();
    message::number(1, id, out);
}

/// The request for what is left of lease `id`.
pub(crate) fn time_to_live(id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    message::number(1, id, &mut out);
    out
}

/// Whether the lease that was asked for is there.
pub(crate) fn is_there(answer: &[u8]) -> bool {
    // What is left of a lease that is not there is -1 second.
    Fields::of(answer).number(3).cast_signed() >= 0
}

/// How many leases an answer to `LeaseLeases` has.
pub(crate) fn count(answer: &[u8]) -> u64 {
    let leases = Fields::of(answer).filter(|field| matches!(field, (2, Value::Bytes(_))));
    leases.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with a header, such as all have.
    fn answer(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        message::nested(1, &mut out, |out| message::number(3, 7, out));
        fill(&mut out);
        out
    }

    #[test]
    fn what_is_asked_is_the_protocols_bytes() {
        let mut out = vec![9];
        grant(300, 60, &mut out);
        assert_eq!(out, b"\x08\x3c\x10\xac\x02");
        keep_alive(300, &mut out);
        assert_eq!(
            (out.as_slice(), time_to_live(300).as_slice()),
            (&b"\x08\xac\x02"[..], &out[..])
        );
    }

    #[test]
    fn answers_are_read() {
        let alive = answer(|out| {
            message::number(2, 300, out);
            message::number(3, 60, out);
        });
        assert_eq!(lived(&alive), Lived { id: 300, seconds: 60 });
        assert_eq!(lived(&answer(|_| {})), Lived::default());
        assert!(is_there(&alive) && is_there(&answer(|_| {})));
        assert!(!is_there(&answer(|out| message::number(3, u64::MAX, out))));
        let three = answer(|out| {
            for id in 1..=3 {
                message::nested(2, out, |out| message::number(1, id, out));
            }
        });
        assert_eq!((count(&three), count(&alive)), (3, 0));
    }
}
