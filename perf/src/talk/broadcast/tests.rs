use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;
use crate::h2::frame::{HEAD_SIZE, Head, PREFACE, flag, kind, settings};
use crate::message::Fields;
use crate::message::watch::{Event, write};

/// What a server does to the events of one put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Loses,
    Repeats,
    Swaps,
}

/// The put whose events are harmed.
const HARMED: u64 = 20;

/// A watcher of all keys, or of one.
struct Told {
    socket: TcpStream,
    stream: u32,
    watch: i64,
    key: Vec<u8>,
    /// A message that was held back, to come after the next.
    held: Option<Vec<u8>>,
}

/// A store of nothing but counts.
#[derive(Default)]
struct Store {
    revision: u64,
    versions: Vec<(Vec<u8>, u64)>,
    watchers: Vec<Told>,
}

impl Store {
    fn put(&mut self, key: &[u8], value: &[u8], fault: Fault) {
        self.revision += 1;
        let found = self.versions.iter_mut().find(|(name, _)| name == key);
        let version = if let Some((_, version)) = found {
            *version += 1;
            *version
        } else {
            self.versions.push((key.to_vec(), 1));
            1
        };
        let revision = self.revision;
        let event = Event { put: true, key, value, revision, version };
        for told in &mut self.watchers {
            if told.key != [0] && told.key != key {
                continue;
            }
            let said = Said { watch: told.watch, revision, ..Said::default() };
            let message = data(told.stream, 0, &write(&said, &[event]));
            let messages = match if revision == HARMED { fault } else { Fault::None } {
                Fault::None => [Some(message), told.held.take()],
                Fault::Loses => [None, None],
                Fault::Repeats => [Some(message.clone()), Some(message)],
                Fault::Swaps => [None, told.held.replace(message)],
            };
            // The client may be gone when it has seen enough.
            let messages: Vec<_> = messages.into_iter().flatten().collect();
            let _ = told.socket.write_all(&messages.concat());
        }
    }

    fn create(&mut self, socket: &TcpStream, stream: u32, request: &[u8]) {
        let key = Fields::of(Fields::of(request).bytes(1)).bytes(1).to_vec();
        let local = socket.peer_addr().expect("connected");
        let theirs = self.watchers.iter().filter(|told| {
            told.stream == stream && told.socket.peer_addr().is_ok_and(|peer| peer == local)
        });
        let watch = i64::try_from(theirs.count()).expect("few");
        let created = Said { watch, revision: self.revision, created: true, ..Said::default() };
        let mut socket = socket.try_clone().expect("a descriptor");
        socket.write_all(&data(stream, 0, &write(&created, &[]))).expect("the client listens");
        self.watchers.push(Told { socket, stream, watch, key, held: None });
    }
}

/// A DATA frame with one gRPC message.
fn data(stream: u32, flags: u8, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Head { size: message.len() + 5, kind: kind::DATA, flags, stream }.write(&mut out);
    out.push(0);
    out.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    out.extend_from_slice(message);
    out
}

fn serve_one(mut socket: TcpStream, store: &Mutex<Store>, fault: Fault) {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).expect("a client greets");
    assert_eq!(preface, PREFACE);
    let mut out = Vec::new();
    settings(&[(4, 1 << 30)], &mut out);
    socket.write_all(&out).expect("the client listens");
    loop {
        let mut head = [0; HEAD_SIZE];
        if socket.read_exact(&mut head).is_err() {
            return;
        }
        let head = Head::read(&head).expect("nine bytes");
        let mut payload = vec![0; head.size];
        socket.read_exact(&mut payload).expect("a whole frame");
        if head.kind != kind::DATA {
            continue;
        }
        let mut store = store.lock().expect("no thread panics");
        if !head.has(flag::END_STREAM) {
            store.create(&socket, head.stream, &payload[5..]);
            continue;
        }
        let put = Fields::of(&payload[5..]);
        store.put(put.clone().bytes(1), put.bytes(2), fault);
        let mut out = Vec::new();
        let (flags, stream) = (flag::END_HEADERS, head.stream);
        Head { size: 1, kind: kind::HEADERS, flags, stream }.write(&mut out);
        out.push(0x88);
        out.extend_from_slice(&data(head.stream, 0, &[]));
        let (flags, trailers) = (flags | flag::END_STREAM, b"\x00\x0bgrpc-status\x010");
        Head { size: trailers.len(), kind: kind::HEADERS, flags, stream }.write(&mut out);
        out.extend_from_slice(trailers);
        if socket.write_all(&out).is_err() {
            return;
        }
    }
}

/// Connections of watchers.
const CONNECTIONS: usize = 2;

/// Runs `test` with a broadcast to a server that has a fault; two watchers of one key, two of all.
fn with_server<R>(fault: Fault, test: impl FnOnce(&mut Broadcast<'_>, Range<usize>) -> R) -> R {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let (address, store) = (listener.local_addr().expect("bound"), Mutex::default());
    std::thread::scope(|scope| {
        let store = &store;
        let server = scope.spawn(move || {
            let accept = || listener.accept().expect("the test connects").0;
            let sockets: Vec<_> = (0..WRITER_CONNECTIONS + CONNECTIONS).map(|_| accept()).collect();
            sockets
        });
        let threads = scope.spawn(move || {
            std::thread::scope(|scope| {
                for socket in server.join().expect("all connect") {
                    scope.spawn(move || serve_one(socket, store, fault));
                }
            });
        });
        let never = AtomicBool::new(false);
        let result = {
            let (clock, keys) = (Clock::start(), 1);
            // The greeting is sent when all have connected, as one thread accepts them all.
            let mut wires = Wires::create(address, clock).expect("descriptors");
            let all = WRITER_CONNECTIONS + CONNECTIONS;
            let made = wires.connect(all, Windows::Wide, &never).expect("greeted");
            let mut broadcast = Broadcast::over(wires, clock, keys, 64, &never);
            let own = made.start + WRITER_CONNECTIONS..made.end;
            let streams = broadcast.open(own.clone(), 2).expect("allowed");
            let scopes = [Scope::Key(0), Scope::Key(0), Scope::All, Scope::All];
            broadcast.watch(streams, scopes.into_iter()).expect("created");
            test(&mut broadcast, own)
        };
        for told in &store.lock().expect("no thread panics").watchers {
            let _ = told.socket.shutdown(std::net::Shutdown::Both);
        }
        threads.join().expect("the server ends");
        result
    })
}

/// Puts of one run by rate.
const PUTS: u64 = 200;

/// So many puts, whenever they come to be sent.
fn course() -> Course {
    let duration = Duration::from_millis(PUTS);
    Course { pace: Pace::Rate(1000.0), warm_up: Duration::ZERO, duration }
}

fn complaints(fault: Fault) -> String {
    with_server(fault, |broadcast, _| {
        let delivered = broadcast.run(&course(), &mut |_, _| {}).expect("it goes on");
        assert_eq!(delivered.put_latency.count, PUTS);
        delivered.complaints.join("; ")
    })
}

#[test]
fn an_honest_server_is_not_complained_about() {
    let mut moments = Vec::new();
    let delivered = with_server(Fault::None, |broadcast, _| {
        broadcast.run(&course(), &mut |moment, events| moments.push((moment, events)))
    });
    let delivered = delivered.expect("an honest server");
    assert_eq!(delivered.complaints, [""; 0]);
    assert_eq!(delivered.put_latency.count, PUTS);
    moments.retain(|(moment, _)| *moment != Moment::Progress);
    let difference = moments[1].1 - moments[0].1;
    assert_eq!((moments.len(), difference), (2, delivered.events));
}

#[test]
fn what_a_server_loses_repeats_or_swaps_is_told() {
    let lost = complaints(Fault::Loses);
    assert!(lost.contains("4 events were left out"), "{lost}");
    let repeated = complaints(Fault::Repeats);
    assert!(repeated.contains("4 events came twice or too late"), "{repeated}");
    let swapped = complaints(Fault::Swaps);
    assert!(swapped.contains("4 events were left out"), "{swapped}");
    assert!(swapped.contains("4 events came twice or too late"), "{swapped}");
}

#[test]
fn a_closed_loop_waits_for_its_events() {
    let delivered = with_server(Fault::None, |broadcast, _| {
        let course = Course { pace: Pace::Owed(16), ..course() };
        let delivered = broadcast.run(&course, &mut |_, _| {});
        assert_eq!(broadcast.account.ledger.owed(), 0);
        delivered
    });
    assert_eq!(delivered.expect("an honest server").complaints, [""; 0]);
}

#[test]
fn an_unread_connection_is_caught_up_with() {
    with_server(Fault::None, |broadcast, own| {
        let stalled = own.start..own.start + 1;
        broadcast.stall(stalled.clone(), true).expect("allowed");
        let delivered = broadcast.run(&course(), &mut |_, _| {}).expect("the other is told");
        assert_eq!(delivered.complaints, [""; 0]);
        assert_eq!(broadcast.missing(&stalled), 2 * PUTS);
        let (_, complaints) = broadcast.resume(stalled.clone()).expect("it is told, too");
        assert_eq!(complaints, [""; 0]);
        assert_eq!(broadcast.missing(&stalled), 0);
        broadcast.close(stalled);
        let delivered = broadcast.run(&course(), &mut |_, _| {}).expect("the other is told");
        assert_eq!(delivered.complaints, [""; 0]);
    });
}

#[test]
fn a_watcher_that_is_refused_ends_the_run() {
    let said = Said { watch: 3, canceled: true, reason: b"compacted", ..Said::default() };
    with_server(Fault::None, |broadcast, _| {
        let failure = broadcast.account.on_said(0, &write(&said, &[]), Nanos(0));
        assert!(failure.expect_err("refused").to_string().contains("watcher 3: compacted"));
        let other = Said { canceled: false, ..said };
        let failure = broadcast.account.on_said(0, &write(&other, &[]), Nanos(0));
        assert!(failure.expect_err("wrong").to_string().contains("does not exist"));
        let ahead = Event { put: true, key: b"0", value: &[0; 64], revision: 9, version: 1 };
        let said = Said { watch: 0, revision: 8, ..Said::default() };
        let failure = broadcast.account.on_said(0, &write(&said, &[ahead]), Nanos(0));
        assert!(failure.expect_err("wrong").to_string().contains("revision 9 in a message of 8"));
    });
}
