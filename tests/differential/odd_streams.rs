//! Streams of messages as no client sends them: cut into pieces, many at once, nonsense, too large.
//!
//! After what is odd comes a message as clients send it; a stream that is still open answers that.
//! Trailers are not sent: etcd hangs up on them.

use crate::compare::{Headed, level, same};
use crate::nonsense::{bytes, number};
use crate::pair::Pair;
use crate::raw::worded;
use crate::support::call::{Answer, Client, framed};
use crate::support::server::Server;
use crate::support::stream::Stream;
use crate::support::{block_on, say, setting};
use bytes::Bytes;
use http::HeaderValue;
use prost::Message;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use std::fmt::Debug;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The lease that is there, and the watcher that is asked for last.
const LAST: i64 = 4242;

/// How a client's side ends after what it has sent.
#[derive(Debug)]
enum Ending {
    /// With one more message, whose answer is awaited.
    Question,
    /// With nothing more.
    HalfClose,
}

/// What is sent on one stream.
#[derive(Debug)]
struct Case {
    name: String,
    /// Each is a frame of its own.
    frames: Vec<Vec<u8>>,
    /// The first is a message whose answer is taken before the others are sent: etcd may not give
    /// it any more once it has seen nonsense.
    in_turn: bool,
    ending: Ending,
}

fn case(name: impl Into<String>, frames: impl IntoIterator<Item = Vec<u8>>) -> Case {
    let frames = frames.into_iter().collect();
    Case { name: name.into(), frames, in_turn: false, ending: Ending::Question }
}

fn whole(message: impl AsRef<[u8]>) -> Vec<u8> {
    framed(0, message.as_ref()).into()
}

/// The same however the messages are: of the two calls, `one` is a message that is answered.
fn framings(one: &[u8]) -> Vec<Case> {
    let message = whole(one);
    let two = [message.clone(), message.clone()].concat();
    let mut cases = vec![
        case("nothing", []),
        case("a message", [message.clone()]),
        case("two messages in a frame", [two.clone()]),
        case("a hundred messages in a frame", [message.repeat(100)]),
        case("a message byte by byte", message.iter().map(|byte| vec![*byte])),
        case("two messages byte by byte", two.iter().map(|byte| vec![*byte])),
        case("empty frames between", [vec![], message.clone(), vec![], vec![], message.clone()]),
        case("an empty message", [whole("")]),
        case("many empty messages", vec![whole(""); 200]),
        case("an unknown field", [whole([bytes(99, "x"), one.to_vec(), number(98, 1)].concat())]),
        case("flag 1", [framed(1, one).into()]),
        case("flag 2", [framed(2, one).into()]),
        case("flag 255", [framed(255, one).into()]),
        case("no message", [whole(b"\xff\xff\xff\xff\xff")]),
        case("a field cut short", [whole(b"\x0a\x7fab")]),
        case("a field of number 0", [whole(b"\x02\x01a")]),
        case("a group that never ends", [whole(b"\x0b")]),
        case("a group", [whole(b"\xa3\x06\xa4\x06")]),
        case("a length of 4 GiB", [b"\0\xff\xff\xff\xff".to_vec()]),
        case("a length of 2 MiB and a byte", [b"\0\0\x20\0\x01".to_vec()]),
        case("3 MiB", [whole(vec![0; 3 << 20])]),
    ];
    for (name, frame) in [
        ("flag 1", framed(1, one).into()),
        ("none", whole(b"\xff")),
        ("a length of 3 MiB", b"\0\0\x30\0\0".to_vec()),
    ] {
        let after = case(format!("a message, then {name}"), [message.clone(), frame]);
        cases.push(Case { in_turn: true, ..after });
    }
    cases.extend((1..message.len()).map(|at| {
        let (start, end) = two.split_at(at);
        case(format!("two messages, cut at {at}"), [start.to_vec(), end.to_vec()])
    }));
    let endings = [
        ("a message", message.clone()),
        ("half a prefix", message[..3].to_vec()),
        ("a prefix", message[..5].to_vec()),
        ("half a message", message[..6].to_vec()),
        ("a message and a half", two[..two.len() - 1].to_vec()),
    ];
    for (name, frame) in endings {
        let name = format!("{name}, then nothing more");
        cases.push(Case { ending: Ending::HalfClose, ..case(name, [frame]) });
    }
    cases
}

/// What has come of a stream: messages, and its end if it has ended.
type Outcome<M> = (Vec<M>, Option<Answer>);

/// Sends a case and takes what comes until `is_last`, or the end.
async fn converse<M: Headed>(
    server: &Server,
    path: &str,
    case: &Case,
    last: &[u8],
    is_last: fn(&M) -> bool,
) -> Result<Outcome<M>, String> {
    let client = Client::connect(server.port()).await?;
    let mut stream = client.open(path).await?;
    let mut messages = Vec::new();
    let (first, others) = case.frames.split_at(usize::from(case.in_turn));
    for frame in first {
        stream.send_bytes(Bytes::copy_from_slice(frame))?;
        let mut message = stream.next().await.map_err(|end| format!("{end:?}"))?;
        level(&mut message)?;
        messages.push(message);
    }
    send(&mut stream, others, &case.ending, last);
    loop {
        match stream.next::<M>().await {
            Ok(mut message) => {
                level(&mut message)?;
                messages.push(message);
                if matches!(case.ending, Ending::Question) && messages.last().is_some_and(is_last) {
                    return Ok((messages, None));
                }
            }
            Err(end) => {
                let is_late = end.failure.as_ref().is_some_and(|why| why.contains("no message"));
                assert!(!is_late, "neither an end nor more, after {messages:?}");
                return Ok((messages, Some(worded(end))));
            }
        }
    }
}

/// Sends all there is; the server may have ended the call before.
fn send(stream: &mut Stream, frames: &[Vec<u8>], ending: &Ending, last: &[u8]) {
    for frame in frames {
        let _ = stream.send_bytes(Bytes::copy_from_slice(frame));
    }
    let _ = match ending {
        Ending::Question => stream.send_bytes(framed(0, last)),
        Ending::HalfClose => stream.end(),
    };
}

async fn compare<M: Headed + Debug>(
    pair: &Pair,
    path: &str,
    cases: &[Case],
    last: &[u8],
    is_last: fn(&M) -> bool,
) {
    let mut wrong = Vec::new();
    for case in cases {
        let (ours, theirs) = tokio::join!(
            converse(&pair.ours, path, case, last, is_last),
            converse(&pair.theirs, path, case, last, is_last)
        );
        if setting("SHOW").is_some() {
            say(format_args!("{}\n  {theirs:?}", case.name));
        }
        if let Err(difference) = same("what came", &ours, &theirs) {
            wrong.push(format!("{path} {}: {difference}", case.name));
        }
    }
    let shown = wrong[..wrong.len().min(8)].join("\n");
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{shown}", wrong.len(), cases.len());
}

#[test]
fn keep_alives_are_taken_or_refused_alike() {
    block_on(async {
        let pair = Pair::start().await;
        let grant = LeaseGrantRequest { ttl: 100_000, id: LAST };
        for client in [&pair.to_ours, &pair.to_theirs] {
            let granted: LeaseGrantResponse =
                client.unary("/etcdserverpb.Lease/LeaseGrant", &grant).await.expect("a lease");
            assert_eq!(granted.id, LAST);
        }
        let last = LeaseKeepAliveRequest { id: LAST }.encode_to_vec();
        let mut cases = framings(&number(1, 7));
        for (name, message) in [
            ("an id of ten bytes", number(1, u64::MAX)),
            ("an id of eleven bytes", [vec![0x08], vec![0xff; 11]].concat()),
            ("two ids", [number(1, 4242), number(1, 8)].concat()),
            ("id 0", number(1, 0)),
        ] {
            cases.push(case(name, [whole(message)]));
        }
        cases.push(Case { ending: Ending::HalfClose, ..case("nothing at all", []) });
        let is_last = |answer: &LeaseKeepAliveResponse| answer.id == LAST;
        compare(&pair, KEEP_ALIVE, &cases, &last, is_last).await;
    });
}

/// A union with one member of these fields.
fn union(member: u64, fields: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(member, fields)
}

/// Messages of watch streams by name.
fn watch_messages() -> Vec<(&'static str, Vec<u8>)> {
    let key = bytes(1, "k");
    vec![
        ("a watcher of nothing", union(1, "")),
        ("an end of nothing", union(2, "")),
        ("progress", union(3, "")),
        ("a member that nobody knows", union(9, "x")),
        ("an end and a watcher", [union(2, number(1, 5)), union(1, &key)].concat()),
        ("a watcher and an end", [union(1, &key), union(2, number(1, 5))].concat()),
        ("an unknown field in a watcher", union(1, [bytes(99, "x"), key.clone()].concat())),
        ("two keys", union(1, [key.clone(), bytes(1, "l")].concat())),
        ("packed filters", union(1, [key.clone(), bytes(5, [0, 1, 7])].concat())),
        ("filters one by one", union(1, [key.clone(), number(5, 0), number(5, 1)].concat())),
        ("filters both ways", union(1, [key.clone(), number(5, 1), bytes(5, [0])].concat())),
        ("a filter of ten bytes", union(1, [key.clone(), number(5, u64::MAX)].concat())),
        ("filters cut short", union(1, [key.clone(), bytes(5, [0x80])].concat())),
        ("previous, by 2", union(1, [key.clone(), number(6, 2)].concat())),
        ("an id of nobody", union(1, [key.clone(), number(7, u64::MAX)].concat())),
        ("a negative id", union(1, [key.clone(), number(7, u64::MAX - 1)].concat())),
        ("a negative start", union(1, [key.clone(), number(3, u64::MAX)].concat())),
        ("a member cut short", vec![0x0a, 0x7f, b'a']),
        ("a member that is cut short", union(1, [0x0a, 0x7f, b'a'])),
        ("progress with fields", union(3, number(1, 7))),
        ("a long key", union(1, bytes(1, vec![b'k'; 1 << 20]))),
    ]
}

#[test]
fn messages_of_watchers_are_taken_or_refused_alike() {
    block_on(async {
        let pair = Pair::start().await;
        let create = WatchCreateRequest { watch_id: LAST, ..WatchCreateRequest::default() };
        let union = RequestUnion::CreateRequest(create);
        let last = WatchRequest { request_union: Some(union) }.encode_to_vec();
        let mut cases = framings(&self::union(1, bytes(1, "k")));
        // A watcher outlives the half-close of its stream, so that nothing ends it but nonsense.
        cases.retain(|case| match case.ending {
            Ending::Question => true,
            Ending::HalfClose => case.name.contains("half a message"),
        });
        let watches = watch_messages().into_iter();
        cases.extend(watches.map(|(name, message)| case(name, [whole(message)])));
        for size in [(2 << 20) - 1, 2 << 20, (2 << 20) + 1] {
            let key = (size - 30..size)
                .map(|size| self::union(1, bytes(1, vec![b'k'; size])))
                .find(|message| message.len() == size);
            let message = key.expect("a key makes up any size");
            cases.push(case(format!("a message of {size} bytes"), [whole(message)]));
        }
        compare(&pair, WATCH, &cases, &last, |answer: &WatchResponse| answer.watch_id == LAST)
            .await;
    });
}

#[test]
fn a_deadline_ends_a_stream() {
    block_on(async {
        let pair = Pair::start().await;
        for client in [&pair.to_ours, &pair.to_theirs] {
            for path in [WATCH, KEEP_ALIVE] {
                let mut head = client.head(path);
                head.headers_mut().insert("grpc-timeout", HeaderValue::from_static("300m"));
                let mut stream = client.open_with(head).await.expect("it is open");
                let end = stream.rest().await.expect("it ends");
                // etcd resets it, or is faster to say why: which of its two reasons, is luck.
                let (late, given_up) = ("context deadline exceeded", "context canceled");
                let told = end.status().expect_err("it has not gone well");
                let is_told = [(4, late), (1, given_up)].contains(&(told.code, &told.message));
                let is_reset = end.failure.as_deref() == Some("stream reset: CANCEL");
                assert!(is_told || is_reset, "{path}: {end:?}");
            }
        }
    });
}
