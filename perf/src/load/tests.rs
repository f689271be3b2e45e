use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::h2::frame::{HEAD_SIZE, Head, PREFACE, flag, kind, settings};
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
        address,
        connections: 2,
        in_flight: 8,
        threads: 2,
        rate: None,
        end: End::Count(500),
        warm_up: Duration::ZERO,
        shape: Shape {
            workload: Workload::Put,
            keys: 10,
            key_size: 8,
            value_size: 16,
            sequential: false,
            serializable: false,
            reads_percent: 0,
            limit: 1,
            seed: 1,
        },
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
    ] {
        let mut plan = plan("127.0.0.1:1".parse().expect("an address"));
        change(&mut plan);
        assert!(matches!(check(&plan), Err(Failure::Usage(_))));
    }
}
