//! HTTP/1.1 on the port that speaks gRPC.

use crate::compare::same;
use crate::pair::Pair;
use crate::support::http1::{exchange, raw};
use crate::support::{block_on, http1, say, setting};

#[test]
fn http1_is_answered_alike() {
    let pair = block_on(Pair::start());
    let mut wrong = Vec::new();
    let mut compare = |name: &str, request: &str| {
        let (ours, theirs) =
            (exchange(pair.ours.port(), request), exchange(pair.theirs.port(), request));
        if setting("SHOW").is_some() {
            say(format_args!("{name}\n  {theirs:?}"));
        }
        if let Err(difference) = same(&format!("answers to {name}"), &ours, &theirs) {
            wrong.push(difference);
        }
    };
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/health?serializable=true"),
        ("GET", "/health?exclude=NOSPACE"),
        ("GET", "/health/"),
        ("POST", "/health"),
        ("PUT", "/health"),
        ("HEAD", "/health"),
        ("DELETE", "/health"),
        ("GET", "/version"),
        ("HEAD", "/version"),
        ("POST", "/version"),
        ("GET", "/version/"),
        ("GET", "/"),
        ("GET", "/nope"),
        ("POST", "/nope"),
        ("GET", "/Health"),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        compare(&format!("{method} {path}"), &format!("{head}\r\n"));
        if method != "HEAD" {
            compare(
                &format!("{method} {path} with a body"),
                &format!("{head}Content-Length: 3\r\n\r\nabc"),
            );
        }
    }
    compare("HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n");
    compare("HTTP/1.0 with a host", "GET /version HTTP/1.0\r\nHost: x\r\n\r\n");
    compare("no host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n");
    compare(
        "an absolute target",
        "GET http://x/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn requests_one_after_another_on_one_connection_are_all_answered() {
    let pair = block_on(Pair::start());
    let request = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n\
                   GET /version HTTP/1.1\r\nHost: x\r\n\r\n\
                   GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = |port| {
        let bytes = raw(port, request.as_bytes()).expect("an answer");
        let text = String::from_utf8(bytes).expect("text");
        let lines = text.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
        lines.map(str::to_lowercase).collect::<Vec<_>>()
    };
    let (mut ours, mut theirs) = (answers(pair.ours.port()), answers(pair.theirs.port()));
    ours.sort();
    theirs.sort();
    same("lines of three answers", &ours, &theirs).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn what_is_no_request_is_refused_and_hurts_nobody() {
    let pair = block_on(Pair::start());
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(2 << 20));
    for nonsense in [
        "NONSENSE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /health\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        &long,
    ] {
        for port in [pair.ours.port(), pair.theirs.port()] {
            let answer = raw(port, nonsense.as_bytes()).expect("an answer or the end");
            let text = String::from_utf8_lossy(&answer);
            let start: String = nonsense.chars().take(60).collect();
            assert!(!text.starts_with("HTTP/1.1 2"), "{start:?} is no request, yet: {text}");
        }
    }
    let health = http1::get(pair.ours.port(), "/health").expect("it still answers");
    assert_eq!(health.status, 200);
}
