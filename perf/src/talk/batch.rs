//! Many calls of a kind, each made once and made well: what prepares a scenario.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::h2::connection::{Outcome, Windows};
use crate::h2::hpack::Method;
use crate::talk::wires::Wires;

/// Connections, and calls in flight on each.
const CLIENTS: (usize, u64) = (10, 100);

/// Bytes of an answer that are kept.
const ANSWER_SIZE: usize = 256;

/// How long a server with calls in flight may say nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest wait.
const WAIT: Duration = Duration::from_millis(50);

/// Makes `count` calls of `method`, a thousand at a time, with the messages that `write` writes;
/// `read` sees the beginning of each answer.
///
/// # Errors
/// When one call fails, or `read` does.
pub(crate) fn run(
    address: SocketAddr,
    clock: Clock,
    method: Method,
    count: u64,
    interrupt: &AtomicBool,
    mut write: impl FnMut(u64, &mut Vec<u8>),
    mut read: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut wires = Wires::create(address, clock)?;
    let own = wires.connect(CLIENTS.0, Windows::Wide, interrupt)?;
    let mut message = Vec::new();
    let mut free: VecDeque<usize> = VecDeque::new();
    for wire in own.clone() {
        wires.machine(wire).keep(ANSWER_SIZE);
        let allowed = u64::from(wires.machine(wire).streams_max()).min(CLIENTS.1);
        free.extend((0..allowed).map(|_| wire));
    }
    let (mut sent, mut done) = (0, 0);
    while done < count {
        while sent < count
            && let Some(wire) = free.pop_front()
        {
            write(sent, &mut message);
            let token = u32::try_from(sent).expect("fewer calls than 2^32");
            wires.machine(wire).request(method, token, &message)?;
            sent += 1;
        }
        for wire in own.clone() {
            wires.flush(wire)?;
        }
        if clock.now().since(wires.heard_at()) > clock::nanos(SILENCE_MAX) {
            return Err(Failure::Peer(format!("said nothing for {SILENCE_MAX:?}")));
        }
        wires.turn(WAIT, interrupt, |brought| {
            for answer in brought.ended.drain(..) {
                if answer.outcome != Outcome::Status(0) {
                    let text = brought.machine.last_message().unwrap_or_default();
                    let (path, how) = (method.path(), answer.outcome);
                    return Err(Failure::Refused(format!("{path}: {how:?} {text}")));
                }
                read(u64::from(answer.token), &answer.body)?;
                free.push_back(brought.index);
                done += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}
