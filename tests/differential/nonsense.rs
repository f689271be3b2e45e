//! Messages of the calls that transactions, compactions and streams came with, as no client
//! encodes them: fields twice, of the wrong kind, cut short, nested without end.
//!
//! Not compared is what Go's protobuf takes and ours refuses as no message: the same member of a
//! union twice, which Go merges.

use crate::compare::{self, Headed};
use crate::generate::Op;
use crate::pair::Pair;
use crate::raw::worded;
use crate::support::call::{Answer, Client, framed};
use crate::support::{block_on, say, setting};
use ringd::api::proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, PutResponse, RangeRequest,
    RangeResponse, TxnResponse,
};
use std::fmt::Debug;

const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const OBSERVE: &str = "/v3electionpb.Election/Observe";
const HASH: &str = "/etcdserverpb.Maintenance/Hash";
const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";

/// A number as protobuf writes it.
pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

/// A field that holds a number.
pub(crate) fn number(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

/// A field that holds bytes, or a message.
pub(crate) fn bytes(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u64::try_from(bytes.len()).expect("a length");
    [varint(field << 3 | 2), varint(length), bytes.to_vec()].concat()
}

/// An operation of a transaction's first list.
fn success(op: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(2, op)
}

/// A put within an operation.
fn put(key: &str) -> Vec<u8> {
    bytes(2, bytes(1, key))
}

/// A range within an operation.
fn range(key: &str) -> Vec<u8> {
    bytes(1, bytes(1, key))
}

/// A transaction of one put, so many transactions deep.
fn deep(depth: usize) -> Vec<u8> {
    let mut txn = success(put("deep"));
    for _ in 1..depth {
        txn = success(bytes(4, txn));
    }
    txn
}

/// A comparison of one key's version with 0, in these further fields.
fn comparing(fields: &[Vec<u8>]) -> Vec<u8> {
    let compare = [bytes(3, "k"), fields.concat()].concat();
    [bytes(1, compare), success(put("then")), bytes(3, put("else"))].concat()
}

/// Transactions by name; the store's revision tells which were taken, and the keys what they did.
fn txns() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: &str, txn: Vec<u8>| cases.push((name.to_owned(), txn));
    add("nothing", Vec::new());
    add("an operation that is none", success(""));
    add("an operation that nobody knows", success(bytes(9, "k")));
    add("a range and then a put", success([range("a"), put("a")].concat()));
    add("a put and then a range", success([put("b"), range("a")].concat()));
    let first = bytes(4, success(put("d")));
    add("a transaction, a range and a transaction", {
        success([first.clone(), range("a"), first].concat())
    });
    add("a put between", {
        success([bytes(2, bytes(1, "f")), range("a"), bytes(2, bytes(2, "v"))].concat())
    });
    add("a put of no key", success(bytes(2, bytes(2, "v"))));
    add("a key twice", success(bytes(2, [bytes(1, "g"), bytes(1, "h")].concat())));
    add("an unknown field", success(bytes(2, [bytes(1, "i"), number(99, 7)].concat())));
    add("unknown fields beside", [number(99, 7), success(put("j")), bytes(77, "x")].concat());
    add("the lists mixed", [success(put("l")), bytes(3, put("m")), success(put("n"))].concat());
    add("previous, by 2", success(bytes(2, [bytes(1, "a"), number(4, 2)].concat())));
    add("an operation cut short", success([0x0a, 0x7f, b'a']));
    add("a group", success([0x4b, 0x4c]));
    add("a group that does not end", success([0x4b]));
    add("a field of number 0", success([0x02, 0x01, b'a']));

    add("a comparison of nothing", comparing(&[]));
    add("no key to compare", [bytes(1, number(2, 1)), success(put("o"))].concat());
    for (name, fields) in [
        ("version 0", vec![number(4, 0)]),
        ("version 1", vec![number(4, 1)]),
        ("a version and a value", vec![number(4, 1), bytes(7, "v")]),
        ("a value and a version", vec![bytes(7, "v"), number(4, 0)]),
        ("two versions", vec![number(4, 1), number(4, 0)]),
        ("a revision for a version", vec![number(6, 1)]),
        ("a value for a version", vec![bytes(7, "v")]),
        ("a version for a value", vec![number(2, 3), number(4, 0)]),
        ("no value", vec![number(2, 3)]),
        ("a lease", vec![number(2, 4), number(8, 0)]),
        ("a wide operator", vec![number(1, 1 << 32)]),
        ("a negative operator", vec![number(1, u64::MAX)]),
        ("operator 4", vec![number(1, 4), number(4, 9)]),
        ("target 5", vec![number(2, 5), number(4, 9)]),
        ("target 5, not equal", vec![number(1, 3), number(2, 5), number(4, 9)]),
        ("target 5, greater", vec![number(1, 1), number(2, 5), number(4, 9)]),
        ("a wide target", vec![number(2, 1 << 32), number(4, 0)]),
        ("a target twice", vec![number(2, 3), number(2, 0), number(4, 0)]),
        ("a negative version", vec![number(4, u64::MAX)]),
        ("another key", vec![bytes(3, "l")]),
        ("an end", vec![bytes(64, "m")]),
        ("an end before", vec![bytes(64, "a")]),
    ] {
        add(&format!("a comparison: {name}"), comparing(&fields));
    }
    for count in [127, 128, 129, 1000] {
        let many = |part: fn(usize) -> Vec<u8>| (0..count).flat_map(part).collect::<Vec<_>>();
        add(&format!("{count} puts"), many(|n| success(put(&format!("many/{n}")))));
        add(&format!("{count} ranges"), many(|_| success(range("a"))));
        add(&format!("{count} ranges otherwise"), many(|_| bytes(3, range("a"))));
        add(&format!("{count} comparisons"), many(|_| bytes(1, bytes(3, "k"))));
    }
    for (outer, inner) in [(64, 64), (64, 65), (100, 28), (100, 29), (127, 1), (127, 2), (128, 1)] {
        let inner_txn: Vec<u8> = (0..inner).flat_map(|_| success(range("a"))).collect();
        let mut txn: Vec<u8> = (1..outer).flat_map(|_| success(range("a"))).collect();
        txn.extend(success(bytes(4, inner_txn)));
        add(&format!("{outer} operations, {inner} in the last"), txn);
    }
    cases
}

/// Both servers, and what is wrong with their answers.
struct Compared {
    pair: Pair,
    wrong: Vec<String>,
}

impl Compared {
    async fn start() -> Self {
        Self { pair: Pair::start().await, wrong: Vec::new() }
    }

    /// Asks both with the same body.
    async fn ask(&self, path: &str, name: &str, body: Vec<u8>) -> (Answer, Answer) {
        let ask = |client: &Client| {
            let (client, body) = (client.clone(), body.clone().into());
            async move { worded(client.exchange(client.head(path), Some(body), None).await) }
        };
        let answers = tokio::join!(ask(&self.pair.to_ours), ask(&self.pair.to_theirs));
        if setting("SHOW").is_some() {
            say(format_args!("{path} {name}\n  {:?}", answers.1));
        }
        answers
    }

    /// Asks a unary call of both and compares.
    async fn body<M: Headed + Debug>(&mut self, path: &str, name: &str, body: Vec<u8>) {
        let (ours, theirs) = self.ask(path, name, body).await;
        let outcome = compare::transport(&ours, &theirs)
            .and_then(|()| compare::messages::<M>(&ours, &theirs, PartialEq::eq));
        self.wrong.extend(outcome.err().map(|why| format!("{path} {name}: {why}")));
    }

    /// As [`Self::body`], of one message.
    async fn message<M: Headed + Debug>(&mut self, path: &str, name: &str, message: &[u8]) {
        self.body::<M>(path, name, framed(0, message).into()).await;
    }

    /// Asks both for what may be answered by many messages, in these frames and, if `end`, no more;
    /// compares how they refuse it.
    async fn refusal(&mut self, path: &str, name: &str, frames: &[Vec<u8>], end: bool) {
        let ask = |client: &Client| {
            let client = client.clone();
            async move {
                let mut stream = client.open(path).await?;
                for frame in frames {
                    // It may have been refused before.
                    let _ = stream.send_bytes(frame.clone());
                }
                let _ = if end { stream.end() } else { Ok(()) };
                stream.rest().await.map(worded)
            }
        };
        let (ours, theirs) = tokio::join!(ask(&self.pair.to_ours), ask(&self.pair.to_theirs));
        if setting("SHOW").is_some() {
            say(format_args!("{path} {name}\n  {theirs:?}"));
        }
        let outcome = compare::same("refusals", &ours, &theirs);
        self.wrong.extend(outcome.err().map(|why| format!("{path} {name}: {why}")));
    }

    /// Asks both for a stream and compares.
    async fn stream(&mut self, name: &str, body: Vec<u8>) {
        let (ours, theirs) = self.ask(STREAM, name, body).await;
        let outcome = compare::answers(&Op::Stream(RangeRequest::default()), &ours, &theirs);
        self.wrong.extend(outcome.err().map(|why| format!("{STREAM} {name}: {why}")));
    }

    /// As [`Self::message`], of a transaction whose answer may be deeper than we care to read: all
    /// but its header is the same, byte for byte.
    async fn deep(&mut self, name: &str, txn: &[u8]) {
        let (ours, theirs) = self.ask(TXN, name, framed(0, txn).into()).await;
        let after_header = |answer: &Answer| {
            let length = answer.body.get(6).map_or(0, |length| usize::from(*length));
            answer.body.get(7 + length..).map(<[u8]>::to_vec)
        };
        let outcome = compare::transport(&ours, &theirs)
            .and_then(|()| compare::same("answers", &after_header(&ours), &after_header(&theirs)));
        self.wrong.extend(outcome.err().map(|why| format!("{TXN} {name}: {why}")));
    }

    /// Sees that both hold the same.
    async fn all(&mut self, after: &str) {
        let everything = [bytes(1, b"\0"), bytes(2, b"\0")].concat();
        let name = format!("after {after}");
        self.message::<RangeResponse>("/etcdserverpb.KV/Range", &name, &everything).await;
    }

    fn end(self) {
        let wrong = self.wrong;
        assert!(
            wrong.is_empty(),
            "{} answers differ:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(8)].join("\n")
        );
    }
}

#[test]
fn transactions_of_odd_bytes_are_taken_or_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        for (name, txn) in txns() {
            both.message::<TxnResponse>(TXN, &name, &txn).await;
            both.all(&name).await;
        }
        both.end();
    });
}

#[test]
fn transactions_within_transactions_are_taken_or_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        let depths = [1, 2, 10, 24, 25, 32, 33, 49, 50, 51, 64, 99, 100, 101, 127, 128, 129, 500];
        for depth in depths {
            let name = format!("{depth} deep");
            both.deep(&name, &deep(depth)).await;
            both.all(&name).await;
        }
        both.end();
    });
}

#[test]
fn compactions_and_hashes_of_odd_bytes_are_taken_or_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        for _ in 0..3 {
            both.message::<TxnResponse>(TXN, "a put", &success(put("k"))).await;
        }
        for (name, message) in [
            ("revision 1", number(1, 1)),
            ("revision -1", number(1, u64::MAX)),
            ("revision 99", number(1, 99)),
            ("a revision cut short", vec![0x08, 0x80]),
            ("a revision of eleven bytes", [vec![0x08], vec![0xff; 11]].concat()),
            ("two revisions", [number(1, 99), number(1, 2)].concat()),
            ("two revisions again", [number(1, 99), number(1, 2)].concat()),
            ("physical by 7", [number(1, 3), number(2, 7)].concat()),
            ("an unknown field", [number(1, 4), number(9, 7)].concat()),
            ("nothing", Vec::new()),
        ] {
            both.message::<CompactionResponse>(COMPACT, name, &message).await;
        }
        for (name, message) in [
            ("nothing", Vec::new()),
            ("revision -1", number(1, u64::MAX)),
            ("the least revision", number(1, 1 << 63)),
            ("revision 99", number(1, 99)),
        ] {
            both.message::<HashKvResponse>(HASH_KV, name, &message).await;
        }
        both.end();
    });
}

/// Bodies that are not one message.
fn odd_bodies() -> [(&'static str, Vec<u8>); 7] {
    [
        ("no message", Vec::new()),
        ("half a prefix", b"\0\0\0".into()),
        ("half a message", b"\0\0\0\0\x05ab".into()),
        ("not a message", framed(0, b"\xff\xff\xff").into()),
        ("flag 1", framed(1, b"").into()),
        ("flag 2", framed(2, b"").into()),
        ("a length of 3 MiB", b"\0\0\x30\0\0ab".into()),
    ]
}

#[test]
fn streams_of_odd_bytes_are_served_or_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        both.message::<TxnResponse>(TXN, "a put", &success(put("k"))).await;
        for (name, body) in odd_bodies() {
            both.stream(name, body).await;
        }
        both.stream("no key", framed(0, b"").into()).await;
        both.stream("an order and no key", framed(0, &number(5, 1)).into()).await;
        for (name, fields) in [
            ("nothing else", Vec::new()),
            ("a future revision", number(4, 3)),
            ("a negative revision", number(4, u64::MAX)),
            ("an order", number(5, 1)),
            ("the other order", number(5, 2)),
            ("no such order", number(5, 3)),
            ("a target and an order", [number(5, 1), number(6, 1)].concat()),
            ("no such target", number(6, 9)),
            ("no such target, ordered", [number(5, 2), number(6, 9)].concat()),
            ("least mod", number(10, 1)),
            ("greatest mod", number(11, 1)),
            ("least create", number(12, 1)),
            ("greatest create", number(13, 1)),
            ("a negative filter", number(13, u64::MAX)),
            ("a filter and a future", [number(13, 1), number(4, 9)].concat()),
            ("a count alone", number(9, 1)),
            ("keys alone", number(8, 1)),
            ("an unknown field", number(99, 1)),
        ] {
            both.stream(name, framed(0, &[bytes(1, "k"), fields].concat()).into()).await;
        }
        both.end();
    });
}

/// A second message, or what may become one, to calls that take one and are answered by many.
#[test]
fn second_messages_are_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        both.message::<TxnResponse>(TXN, "a put", &success(put("k"))).await;
        for (path, message) in [(STREAM, bytes(1, "k")), (HEALTH_WATCH, vec![]), (OBSERVE, vec![])]
        {
            let one: Vec<u8> = framed(0, &message).into();
            let two = || one.repeat(2);
            let cut = || [&one[..], b"\0\0\0\0\x05ab"].concat();
            for (name, frames, end) in [
                ("two messages", vec![one.clone(), one.clone()], true),
                ("two messages, and no end", vec![one.clone(), one.clone()], false),
                ("two messages in a frame", vec![two()], true),
                ("two messages in a frame, and no end", vec![two()], false),
                (
                    "three messages byte by byte",
                    one.repeat(3).chunks(1).map(Vec::from).collect(),
                    true,
                ),
                ("a message and a half", vec![cut()], true),
                (
                    "a message, then half of one",
                    vec![one.clone(), cut().split_off(one.len())],
                    true,
                ),
                ("a message, then flag 2", vec![one.clone(), framed(2, b"").into()], false),
                ("a message, then 3 MiB", vec![one.clone(), b"\0\0\x30\0\0".into()], false),
                ("no message", vec![], true),
                ("half a prefix", vec![b"\0\0\0".into()], true),
                ("half a message", vec![b"\0\0\0\0\x05ab".into()], true),
            ] {
                both.refusal(path, name, &frames, end).await;
            }
        }
        let half = [&framed(0, &bytes(1, "k"))[..], b"\0\0"].concat();
        both.stream("a message and half a prefix", half).await;
        both.end();
    });
}

#[test]
fn bodies_of_the_other_calls_are_served_or_refused_alike() {
    block_on(async {
        let mut both = Compared::start().await;
        for (name, body) in odd_bodies() {
            both.body::<TxnResponse>(TXN, name, body.clone()).await;
            both.body::<CompactionResponse>(COMPACT, name, body.clone()).await;
            both.body::<HashKvResponse>(HASH_KV, name, body.clone()).await;
            both.body::<HashKvResponse>(HASH, name, body).await;
        }
        let two = [framed(0, b""), framed(0, b"")].concat();
        both.body::<TxnResponse>(TXN, "two messages", two.clone()).await;
        both.body::<HashKvResponse>(HASH_KV, "two messages", two).await;
        both.end();
    });
}

/// A field whose value is of another kind than its message says counts as one that nobody knows.
#[test]
fn fields_of_another_kind_are_passed_over_alike() {
    const PUT: &str = "/etcdserverpb.KV/Put";
    const RANGE: &str = "/etcdserverpb.KV/Range";
    const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
    // A number, bytes, eight bytes, four, and a group, whose field is to be another.
    let others = |field: u64| {
        let tag = |kind: u64| varint(field << 3 | kind);
        [
            number(field, 1),
            bytes(field, "k"),
            [tag(1), vec![1; 8]].concat(),
            [tag(5), vec![1; 4]].concat(),
            [tag(3), number(9, 1), tag(4)].concat(),
        ]
    };
    block_on(async {
        let mut both = Compared::start().await;
        for _ in 0..3 {
            both.message::<TxnResponse>(TXN, "a put", &success(put("k"))).await;
        }
        for (path, fields) in [(RANGE, 1..=13), (PUT, 1..=6), (DELETE, 1..=3)] {
            for (field, other) in fields.flat_map(|field| others(field).map(|it| (field, it))) {
                for message in [[bytes(1, "k"), other.clone()].concat(), other.clone()] {
                    let name = format!("field {field}: {message:?}");
                    match path {
                        RANGE => both.message::<RangeResponse>(path, &name, &message).await,
                        PUT => both.message::<PutResponse>(path, &name, &message).await,
                        _ => both.message::<DeleteRangeResponse>(path, &name, &message).await,
                    }
                    // A target without an order is taken by etcd, which then leaves out rows.
                    if path == RANGE && other != number(6, 1) {
                        let body = framed(0, &message).into();
                        both.stream(&name, body).await;
                    } else if path != RANGE {
                        both.all(&name).await;
                    }
                }
            }
        }
        for other in [1, 2].into_iter().flat_map(others) {
            let name = format!("{other:?}");
            both.message::<HashKvResponse>(HASH_KV, &name, &other).await;
        }
        for other in [1, 2].into_iter().flat_map(others) {
            both.message::<CompactionResponse>(COMPACT, &format!("{other:?}"), &other).await;
        }
        for other in (1..=8).chain([64]).flat_map(others) {
            let name = format!("a comparison: {other:?}");
            both.message::<TxnResponse>(TXN, &name, &comparing(&[other])).await;
        }
        for other in (1..=3).flat_map(others) {
            both.message::<TxnResponse>(TXN, &format!("{other:?}"), &other).await;
        }
        for other in (1..=4).flat_map(others) {
            let name = format!("an operation: {other:?}");
            both.message::<TxnResponse>(TXN, &name, &success(other)).await;
        }
        both.all("all").await;
        both.end();
    });
}

/// The one answer here that has no header.
#[test]
fn a_defragmentation_is_answered_alike_whatever_it_says() {
    const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
    block_on(async {
        let mut both = Compared::start().await;
        both.message::<TxnResponse>(TXN, "a put", &success(put("k"))).await;
        both.message::<CompactionResponse>(COMPACT, "revision 2", &number(1, 2)).await;
        let bodies = [
            ("nothing", framed(0, b"").into()),
            ("an unknown field", framed(0, &number(9, 7)).into()),
        ];
        for (name, body) in bodies.into_iter().chain(odd_bodies()) {
            let (ours, theirs) = both.ask(DEFRAGMENT, name, body).await;
            let outcome = compare::transport(&ours, &theirs)
                .and_then(|()| compare::same("bodies", &ours.body, &theirs.body));
            both.wrong.extend(outcome.err().map(|why| format!("{DEFRAGMENT} {name}: {why}")));
        }
        both.end();
    });
}
