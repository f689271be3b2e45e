use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::h2::frame::{HEAD_SIZE, Head, PREFACE, flag, kind, settings};
use crate::load::measure::Sample;
use crate::workload::Workload;

/// Answers every request well, over as many connections as come before `connections` are reached.
///
/// Sends `last_words` and closes once that many requests were answered.
fn serve(listener: &TcpListener, connections: usize, answers_max: usize, last_words: &[u8]) {
    std::thread::scope(|scope| {
        for _ in 0..connections {
            let (socket, _) = listener.accept().expect("the test connects");
            scope.spawn(move || serve_one(socket, answers_max, last_words));
        }
    });
}

fn serve_one(mut socket: TcpStream, answers_max: usize, last_words: &[u8]) {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).expect("a client greets");
    assert_eq!(preface, PREFACE);
    let mut out = Vec::new();
    settings(&[(4, 1 << 20)], &mut out);
    let mut answered = 0;
    loop {
        // The client may be gone already when it has what it wants.
        let mut head = [0; HEAD_SIZE];
        if socket.write_all(&out).is_err() || socket.read_exact(&mut head).is_err() {
            return;
        }
        out.clear();
        let head = Head::read(&head).expect("nine bytes");
        let mut payload = vec![0; head.size];
        socket.read_exact(&mut payload).expect("a whole frame");
        if head.kind == kind::DATA && head.has(flag::END_STREAM) {
            answer(head.stream, &mut out);
            answered += 1;
        }
        if answered == answers_max {
            out.extend_from_slice(last_words);
            // As above. Reading on to the end keeps the last words from being reset away.
            let _ = socket.write_all(&out);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
            return;
        }
    }
}

fn answer(stream: u32, out: &mut Vec<u8>) {
    let end = flag::END_HEADERS | flag::END_STREAM;
    let trailers = b"\x00\x0bgrpc-status\x010";
    Head { size: 1, kind: kind::HEADERS, flags: flag::END_HEADERS, stream }.write(out);
    out.push(0x88);
    Head { size: 5, kind: kind::DATA, flags: 0, stream }.write(out);
    out.extend_from_slice(&[0; 5]);
    Head { size: trailers.len(), kind: kind::HEADERS, flags: end, stream }.write(out);
    out.extend_from_slice(trailers);
}

fn plan(address: SocketAddr) -> Plan {
    Plan {
        addresses: vec![address],
        connections: 2,
        in_flight: 8,
        threads: 2,
        rate: None,
        end: End::Count(500),
        warm_up: Duration::ZERO,
        shape: Shape { keys: 10, key_size: 8, value_size: 16, operations: 1, ..Shape::default() },
        samples: false,
    }
}

/// Runs the plan that `change` makes against a server that ends after `answers_max` answers.
fn run_against(
    answers_max: usize,
    last_words: &[u8],
    change: impl FnOnce(&mut Plan),
) -> (Result<Measured, Failure>, Vec<Moment>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut plan = plan(listener.local_addr().expect("bound"));
    change(&mut plan);
    let mut moments = Vec::new();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener, plan.connections, answers_max, last_words));
        run(&plan, &AtomicBool::new(false), &mut |moment, _| moments.push(moment))
    });
    moments.retain(|moment| *moment != Moment::Progress);
    (result, moments)
}

#[test]
fn a_closed_loop_counts_what_was_answered() {
    let (result, moments) = run_against(usize::MAX, &[], |_| {});
    let measured = result.expect("a good server");
    assert!(measured.operations >= 500);
    assert!(measured.latency.count >= 500);
    assert_eq!(measured.error_count(), 0);
    assert_eq!(moments, vec![Moment::Begin, Moment::End]);
}

#[test]
fn pairs_count_once_and_a_read_that_misses_its_write_is_told() {
    let (result, _) = run_against(usize::MAX, &[], |plan| plan.shape.workload = Workload::Pairs);
    let measured = result.expect("a good server");
    assert!(measured.operations >= 500);
    assert!(measured.kinds["get"].count >= 500 && measured.kinds["put"].count >= 500);
    assert!(measured.error_count() >= 500, "this server keeps nothing");
}

#[test]
fn an_open_loop_accounts_for_all_that_was_due() {
    let (result, _) = run_against(usize::MAX, &[], |plan| {
        plan.rate = Some(2000.0);
        plan.end = End::After(Duration::from_millis(200));
    });
    let measured = result.expect("a good server");
    assert_eq!(measured.latency.count, 400);
}

/// Answers one request, and that only when told to.
fn serve_late(listener: TcpListener, told: Receiver<()>) {
    let (mut socket, _) = listener.accept().expect("the test connects");
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).expect("a client greets");
    let mut out = Vec::new();
    settings(&[], &mut out);
    socket.write_all(&out).expect("a client reads");
    loop {
        let mut head = [0; HEAD_SIZE];
        socket.read_exact(&mut head).expect("a client asks");
        let head = Head::read(&head).expect("nine bytes");
        socket.read_exact(&mut vec![0; head.size]).expect("a whole frame");
        if head.kind == kind::DATA && head.has(flag::END_STREAM) {
            told.recv().expect("the test tells");
            out.clear();
            answer(head.stream, &mut out);
            socket.write_all(&out).expect("a client reads");
            // Until the client has what it wants.
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
            return;
        }
    }
}

#[test]
fn a_stall_is_charged_to_all_that_was_due_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut plan = plan(listener.local_addr().expect("bound"));
    (plan.connections, plan.threads, plan.in_flight) = (1, 1, 1);
    (plan.rate, plan.samples) = (Some(1000.0), true);
    plan.end = End::After(Duration::from_millis(100));
    let (tell, told) = channel();
    let measured = std::thread::scope(|scope| {
        scope.spawn(move || serve_late(listener, told));
        run(&plan, &AtomicBool::new(false), &mut |moment, _| {
            if moment == Moment::End {
                tell.send(()).expect("the server waits");
            }
        })
    });
    // One was sent, and answered late; each later one was due and found no room.
    let measured = measured.expect("a good server");
    assert_eq!((measured.unanswered, measured.latency.count), (99, 100));
    let late = |sample: &Sample| u64::from(sample.due_ms) + u64::from(sample.latency_us) / 1000;
    assert!(measured.samples.iter().all(|sample| late(sample) >= 98), "all wait for the end");
    let mut due: Vec<_> = measured.samples.iter().map(|sample| sample.due_ms).collect();
    due.sort_unstable();
    assert_eq!(due.len(), 100);
    assert!(due[99] - due[0] >= 98, "each at its own time");
}

#[test]
fn a_run_ends_well_when_its_starter_has_seen_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut plan = plan(listener.local_addr().expect("bound"));
    plan.rate = Some(2000.0);
    plan.end = End::After(Duration::from_secs(600));
    plan.samples = true;
    let enough = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener, plan.connections, usize::MAX, &[]));
        let interrupt = AtomicBool::new(false);
        run_until(&plan, Clock::start(), &enough, &interrupt, &mut |_, completed| {
            enough.store(completed > 300, Ordering::Relaxed);
        })
    });
    let measured = measured.expect("a good server");
    assert!(measured.seconds < 600.0 && measured.operations > 300);
    assert_eq!(measured.latency.count, measured.samples.len() as u64);
    assert_eq!(measured.error_count(), 0);
}

#[test]
fn a_goodbye_ends_the_run_with_its_reason() {
    let mut goodbye = Vec::new();
    Head { size: 12, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(&mut goodbye);
    goodbye.extend_from_slice(b"\x00\x00\x00\x01\x00\x00\x00\x0bcalm");
    let (result, _) = run_against(100, &goodbye, |plan| (plan.connections, plan.threads) = (1, 1));
    let failure = result.expect_err("the server left");
    assert!(failure.to_string().contains("error code 11) \"calm\""), "{failure}");
}

#[test]
fn a_server_that_closes_ends_the_run() {
    let (result, _) = run_against(100, &[], |plan| plan.connections = 4);
    let failure = result.expect_err("the server left").to_string();
    assert!(failure.contains("closed") || failure.contains("reset"), "{failure}");
}

#[test]
fn flags_that_do_not_fit_together_are_refused() {
    for change in [
        |plan: &mut Plan| plan.threads = 3,
        |plan: &mut Plan| plan.in_flight = 0,
        |plan: &mut Plan| plan.rate = Some(0.0),
        |plan: &mut Plan| plan.shape.key_size = 0,
        |plan: &mut Plan| plan.shape.operations = 11,
        |plan: &mut Plan| plan.shape.workload = Workload::Update,
    ] {
        let mut plan = plan("127.0.0.1:1".parse().expect("an address"));
        change(&mut plan);
        assert!(matches!(check(&plan), Err(Failure::Usage(_))));
    }
}
