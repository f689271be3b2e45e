//! What clients do not do unless something is wrong: odd paths, headers, frames and sizes.

use crate::compare::{self, Headed, same};
use crate::pair::Pair;
use crate::support::call::{Answer, Client, Status, framed};
use crate::support::peers;
use crate::support::server::Server;
use crate::support::{block_on, say, setting};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use prost::Message;
use ringd::api::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, MemberListRequest, MemberListResponse, PutRequest, RangeRequest,
    StatusRequest, StatusResponse,
};
use ringd::api::proto::health::{HealthCheckRequest, HealthCheckResponse};
use std::fmt::Debug;

/// Its answer names no member, so it can be compared whole.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Its answers are longer.
const PUT: &str = "/etcdserverpb.KV/Put";

/// A request as the test sends it.
struct Case {
    name: String,
    head: Request<()>,
    body: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

/// Sends every case to both servers, each on a connection of its own; fails with all differences.
fn compare_cases(cases: fn() -> Vec<Case>) {
    compare_cases_with(&[], cases);
}

/// As [`compare_cases`], on servers with these flags.
fn compare_cases_with(flags: &[&str], cases: fn() -> Vec<Case>) {
    block_on(async {
        let pair = Pair::start_with(flags).await;
        let mut wrong = Vec::new();
        for (case, again) in cases().into_iter().zip(cases()) {
            let to_ours = Client::connect(pair.ours.port()).await.expect("ours still answers");
            let to_theirs = Client::connect(pair.theirs.port()).await.expect("theirs answers");
            let (ours, theirs) =
                tokio::join!(send(&to_ours, again), send(&to_theirs, case_head(&case)));
            if setting("SHOW").is_some() {
                say(format_args!("{}\n  {theirs:?}", case.name));
            }
            if let Err(difference) = same("answers", &worded(ours), &worded(theirs)) {
                wrong.push(format!("{}: {difference}", case.name));
            }
        }
        assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    });
}

/// Texts of which the rest is the wording of Go's own libraries.
const WORDED_BY_GO: [&str; 3] = [
    "malformed grpc-timeout: ",
    "grpc: error unmarshalling request: ",
    "grpc: failed to unmarshal the received message: ",
];

/// An answer without what no client can depend on: the rest of [`WORDED_BY_GO`], and the echo of
/// what the client wrote behind `application/grpc`.
pub(crate) fn worded(mut answer: Answer) -> Answer {
    for (name, value) in answer.headers.iter_mut().chain(&mut answer.trailers) {
        let known = WORDED_BY_GO.iter().find(|start| value.starts_with(*start));
        if name == "grpc-message"
            && let Some(start) = known
        {
            *value = (*start).to_owned();
        }
        if name == "content-type" && value.starts_with("application/grpc+") {
            *value = "application/grpc".to_owned();
        }
    }
    answer
}

fn case_head(case: &Case) -> Case {
    Case {
        name: case.name.clone(),
        head: case.head.clone(),
        body: case.body.clone(),
        trailers: case.trailers.clone(),
    }
}

async fn send(client: &Client, case: Case) -> Answer {
    let (mut parts, ()) = case.head.into_parts();
    parts.uri = client.head(parts.uri.path()).uri().clone();
    client.exchange(Request::from_parts(parts, ()), case.body, case.trailers).await
}

/// A plain request for `path` with an empty message.
fn plain(name: &str, path: &str) -> Case {
    let head = Request::builder()
        .method(Method::POST)
        .uri(format!("http://server{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("the parts are well-formed");
    Case { name: name.to_owned(), head, body: Some(framed(0, b"")), trailers: None }
}

/// As [`plain`], for the health check, with one header set.
fn with_header(name: &'static str, value: &str) -> Case {
    let mut case = plain(&format!("{name}: {value}"), CHECK);
    let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header's value");
    case.head.headers_mut().insert(name, value);
    case
}

fn with_body(name: &str, path: &str, body: impl Into<Bytes>) -> Case {
    Case { body: Some(body.into()), ..plain(name, path) }
}

#[test]
fn paths_are_found_or_refused_alike() {
    compare_cases(|| {
        let paths = [
            CHECK,
            "/",
            "//",
            "/x",
            "/x/",
            "/x/y",
            "/x/y/z",
            "/etcdserverpb.KV",
            "/etcdserverpb.KV/",
            "/etcdserverpb.KV/Nope",
            "/etcdserverpb.KV/range",
            "/etcdserverpb.KV//Range",
            "/etcdserverpb.KV/Range/",
            "/etcdserverpb.Nope/Range",
            "/v3lockpb.Lock/Nope",
            "/grpc.health.v1.Health/Nope",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/p%C3%A4th/m%20ethod",
            "/sp%25ice/\u{7e}x",
        ];
        paths.iter().map(|path| plain(path, path)).collect()
    });
}

#[test]
fn methods_and_content_types_are_taken_or_refused_alike() {
    compare_cases(|| {
        let mut cases = Vec::new();
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::HEAD] {
            let mut case = plain(method.as_str(), CHECK);
            *case.head.method_mut() = method;
            cases.push(case);
        }
        for content_type in [
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "application/grpc; charset=utf-8",
            "application/grpc+json",
            "application/grpc+",
            "application/grpcx",
            "application/grpc-web",
            "Application/GRPC",
            "application/json",
            "text/plain",
            "",
        ] {
            cases.push(with_header("content-type", content_type));
        }
        let mut case = plain("no content-type", CHECK);
        case.head.headers_mut().remove("content-type");
        cases.push(case);
        let mut case = plain("no te", CHECK);
        case.head.headers_mut().remove("te");
        cases.push(case);
        cases
    });
}

#[test]
fn deadlines_and_metadata_are_understood_alike() {
    compare_cases(|| {
        let mut cases = Vec::new();
        for timeout in [
            "10S",
            "10H",
            "99999999H",
            "1000m",
            "0n",
            "0S",
            "1n",
            "",
            "S",
            "10",
            "10X",
            "-1S",
            "+1S",
            "1.5S",
            "abcS",
            "100000000S",
            "999999999S",
        ] {
            cases.push(with_header("grpc-timeout", timeout));
        }
        // etcd takes gzip and answers in it, which no client asks for by itself; ours does not.
        for encoding in ["identity", "deflate", "nonsense", ""] {
            let mut case = with_header("grpc-encoding", encoding);
            cases.push(case_head(&case));
            case.name += ", flagged as compressed";
            case.body = Some(framed(1, b""));
            cases.push(case);
        }
        cases.push(with_header("grpc-accept-encoding", "gzip,identity"));
        // What is not base64 there is refused by etcd; ours reads only what it uses.
        cases.push(with_header("some-thing-bin", "AAEC"));
        cases.push(with_header("hasleader", "true"));
        cases.push(with_header("client-api-version", "3.7"));
        cases.push(with_header("token", "nobody's"));
        cases.push(with_header("grpc-status", "7"));
        cases.push(with_header("user-agent", "grpc-go/1.0"));
        cases
    });
}

#[test]
fn bodies_that_are_not_one_message_are_refused_alike() {
    compare_cases(|| {
        let two = [framed(0, b""), framed(0, b"")].concat();
        vec![
            with_body("an empty body", CHECK, ""),
            with_body("half a prefix", CHECK, &b"\0\0\0"[..]),
            with_body("a prefix alone", CHECK, &b"\0\0\0\0\x05"[..]),
            with_body("half a message", CHECK, &b"\0\0\0\0\x05ab"[..]),
            with_body("two messages", CHECK, two),
            with_body("a message and a byte", CHECK, &b"\0\0\0\0\0\0"[..]),
            with_body("not a message", PUT, framed(0, b"\xff\xff\xff\xff\xff")),
            with_body("a field cut short", PUT, framed(0, b"\x0a\x7fab")),
            with_body("a field of number 0", PUT, framed(0, b"\x02\x01a")),
            with_body("a group that never ends", PUT, framed(0, b"\x0b")),
            with_body("an unknown field", CHECK, framed(0, b"\xfa\x3f\x01a")),
            with_body("a string that is no text", CHECK, framed(0, b"\x0a\x01\xff")),
            with_body("flag 1", CHECK, framed(1, b"abc")),
            with_body("flag 2", CHECK, framed(2, b"")),
            with_body("flag 255", CHECK, framed(255, b"")),
            with_body("a length of 4 GiB", CHECK, &b"\0\xff\xff\xff\xff"[..]),
            with_body("a length of 2 GiB", PUT, &b"\0\x80\0\0\0"[..]),
            with_body("a length of 3 MiB", PUT, &b"\0\0\x30\0\0ab"[..]),
        ]
    });
}

#[test]
fn what_makes_etcd_hang_or_hang_up_is_answered() {
    if !peers::under_test_is_ours() {
        return;
    }
    block_on(async {
        let server = Server::start(&peers::under_test());
        let client = Client::connect(server.port()).await.expect("it answers");
        let bare = Case { body: None, ..plain("no body", CHECK) };
        let answer = send(&client, bare).await;
        assert_eq!((answer.http, &answer.failure), (200, &None), "no body: {answer:?}");

        let mut trailers = HeaderMap::new();
        trailers.insert("x-after", HeaderValue::from_static("all"));
        let trailed = Case { trailers: Some(trailers), ..plain("trailers", CHECK) };
        let answer = send(&client, trailed).await;
        assert_eq!(answer.message::<HealthCheckResponse>().map(|health| health.status), Ok(1));

        let answer = send(&client, with_header("grpc-encoding", "gzip")).await;
        let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"".to_owned();
        let refusal = Status { code: 12, message: text };
        assert_eq!(answer.message::<HealthCheckResponse>(), Err(refusal));
    });
}

#[test]
fn health_is_told_alike() {
    compare_cases(|| {
        let services = ["", "etcdserverpb.KV", "nope", "grpc.health.v1.Health", "p\u{e4}%\n"];
        let cases = services.map(|service| {
            let request = HealthCheckRequest { service: service.to_owned() };
            with_body(&format!("{service:?}"), CHECK, framed(0, &request.encode_to_vec()))
        });
        cases.into()
    });
}

#[test]
fn a_watch_of_health_opens_alike() {
    block_on(async {
        let pair = Pair::start().await;
        for service in ["", "nope"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let body = framed(0, &request.encode_to_vec());
            let expected = framed(0, &[0x08, if service.is_empty() { 1 } else { 3 }]);
            for client in [&pair.to_ours, &pair.to_theirs] {
                let head = client.head("/grpc.health.v1.Health/Watch");
                let opening = client.opening(head, body.clone(), expected.len()).await;
                assert_eq!(opening, Ok(expected.clone()), "{service:?}");
            }
        }
    });
}

#[test]
fn refusals_of_reads_and_writes_are_worded_alike() {
    compare_cases(|| {
        let key = Bytes::from_static(b"k");
        let range = |range: RangeRequest| framed(0, &range.encode_to_vec());
        let put = |put: PutRequest| framed(0, &put.encode_to_vec());
        let path = "/etcdserverpb.KV/Range";
        let base = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let own = PutRequest { key: key.clone(), ..PutRequest::default() };
        let value = key.clone();
        vec![
            with_body("an empty key", path, range(RangeRequest::default())),
            with_body(
                "a future revision",
                path,
                range(RangeRequest { revision: 2, ..base.clone() }),
            ),
            with_body("a sort order", path, range(RangeRequest { sort_order: 9, ..base.clone() })),
            with_body(
                "a sort target",
                path,
                range(RangeRequest { sort_target: 9, ..base.clone() }),
            ),
            with_body("no key to put", PUT, put(PutRequest::default())),
            with_body("no such lease", PUT, put(PutRequest { lease: 7, ..own.clone() })),
            with_body(
                "a value beside ignore_value",
                PUT,
                put(PutRequest { ignore_value: true, value, ..own.clone() }),
            ),
            with_body(
                "a lease beside ignore_lease",
                PUT,
                put(PutRequest { ignore_lease: true, lease: 7, ..own.clone() }),
            ),
            with_body(
                "no value to keep",
                PUT,
                put(PutRequest { ignore_value: true, ..own.clone() }),
            ),
            with_body("no key to delete", "/etcdserverpb.KV/DeleteRange", framed(0, b"")),
        ]
    });
}

/// A put whose message is `size` bytes long.
fn put_of(size: usize) -> Case {
    // The lengths are of varying length themselves: a longer key fills a gap.
    let put = [1, 2]
        .iter()
        .flat_map(|&key| (size - 20..size).map(move |value| (key, value)))
        .map(|(key, value)| PutRequest {
            key: vec![b'k'; key].into(),
            value: vec![b'v'; value].into(),
            ..PutRequest::default()
        })
        .find(|put| put.encoded_len() == size)
        .expect("a key of one byte or two makes any size");
    with_body(&format!("a put of {size} bytes"), PUT, framed(0, &put.encode_to_vec()))
}

#[test]
fn sizes_are_limited_alike() {
    const MIB: usize = 1 << 20;
    // The limit of a proposal counts some bytes of a header beside the request, so that the last
    // size that is taken is not compared; the limit of a message is exact.
    compare_cases(|| {
        [3 * MIB / 2 + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB].map(put_of).into()
    });
}

#[test]
fn sizes_are_limited_by_the_flag_alike() {
    const MARGIN: usize = 512 << 10;
    compare_cases_with(&["--max-request-bytes", "1000"], || {
        [1001, 2000, MARGIN + 1000, MARGIN + 1001].map(put_of).into()
    });
}

#[test]
fn a_put_just_below_the_limit_is_taken_by_both() {
    block_on(async {
        let mut pair = Pair::start().await;
        for size in [1 << 20, (1 << 20) + (1 << 19) - 200] {
            let value = vec![b'v'; size].into();
            let key = Bytes::from_static(b"large");
            let op = crate::generate::Op::Put(PutRequest { key, value, ..PutRequest::default() });
            let outcome = pair.compare(&op).await;
            let is_taken = outcome.as_ref().is_ok_and(|seen| seen.revision.is_some());
            assert!(is_taken, "{size} bytes: {outcome:?}");
        }
        let key = Bytes::from_static(b"large");
        let range = RangeRequest { key, ..RangeRequest::default() };
        pair.compare(&crate::generate::Op::Range(range)).await.expect("it is read alike");
    });
}

/// Asks both, takes out of the answers what must differ with `level`, and compares them.
async fn compare_leveled<M: Headed + Debug>(
    pair: &Pair,
    path: &str,
    request: &impl Message,
    level: impl Fn(&mut M, bool),
) {
    let (ours, theirs) = pair.call(path, request).await;
    compare::transport(&ours, &theirs).unwrap_or_else(|why| panic!("{path}: {why}"));
    let mut ours: M = ours.message().expect("ours answers");
    let mut theirs: M = theirs.message().expect("theirs answers");
    level(&mut ours, true);
    level(&mut theirs, false);
    for answer in [&mut ours, &mut theirs] {
        compare::level(answer).unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    same(path, &ours, &theirs).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn the_state_of_the_member_and_the_cluster_is_told_alike() {
    block_on(async {
        let mut pair = Pair::start().await;
        let key = Bytes::from_static(b"k");
        let put = PutRequest { key: key.clone(), value: key, ..PutRequest::default() };
        let mut last = (0, 0);
        for _ in 0..3 {
            pair.compare(&crate::generate::Op::Put(put.clone())).await.expect("puts are alike");
            let indexes = std::cell::Cell::new(last);
            compare_leveled(&pair, "/etcdserverpb.Maintenance/Status", &StatusRequest {}, {
                |status: &mut StatusResponse, ours: bool| {
                    let (a, b) = indexes.get();
                    let index = status.raft_index;
                    assert!(index > if ours { a } else { b }, "a put is an entry: {status:?}");
                    indexes.set(if ours { (index, b) } else { (a, index) });
                    level_status(status);
                }
            })
            .await;
            last = indexes.get();
        }
        for linearizable in [false, true] {
            let path = "/etcdserverpb.Cluster/MemberList";
            let request = MemberListRequest { linearizable };
            compare_leveled(&pair, path, &request, |list: &mut MemberListResponse, ours| {
                let server = if ours { &pair.ours } else { &pair.theirs };
                let header = list.header.as_ref().expect("a header");
                for member in &mut list.members {
                    assert_eq!(member.id, header.member_id, "the one member is the one asked");
                    member.id = 0;
                    for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                        *url = server.without_ports(url);
                    }
                }
            })
            .await;
        }
        // `etcdctl endpoint health` asks for alarms too.
        let path = "/etcdserverpb.Maintenance/Alarm";
        let request = AlarmRequest::default();
        compare_leveled(&pair, path, &request, |_: &mut AlarmResponse, _| {}).await;
    });
}

#[test]
fn the_quota_is_told_alike() {
    for quota in ["0", "-1", "-5", "5000000000", "9223372036854775807"] {
        block_on(async {
            let pair = Pair::start_with(&["--quota-backend-bytes", quota]).await;
            let path = "/etcdserverpb.Maintenance/Status";
            compare_leveled(&pair, path, &StatusRequest {}, |status: &mut StatusResponse, _| {
                level_status(status);
            })
            .await;
        });
    }
}

/// Checks what can only be checked by itself and takes it out.
fn level_status(status: &mut StatusResponse) {
    let header = status.header.as_ref().expect("a header");
    assert_eq!(status.leader, header.member_id, "the one member leads: {status:?}");
    assert_eq!(status.raft_term, header.raft_term, "{status:?}");
    assert!(status.db_size >= status.db_size_in_use, "{status:?}");
    assert!(status.db_size_in_use > 0, "{status:?}");
    assert!(status.raft_applied_index <= status.raft_index, "{status:?}");
    (status.leader, status.raft_term, status.db_size, status.db_size_in_use) = (0, 0, 0, 0);
    (status.raft_index, status.raft_applied_index) = (0, 0);
}
