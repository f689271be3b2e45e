use super::*;

/// A server's half of the wire, written by hand.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Head { size: payload.len(), kind, flags, stream }.write(&mut out);
    out.extend_from_slice(payload);
    out
}

fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(values, &mut out);
    out
}

fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<Answer>, Failure> {
    let mut ended = Vec::new();
    connection.space()[..bytes.len()].copy_from_slice(bytes);
    connection.on_received(bytes.len(), &mut ended)?;
    Ok(ended)
}

/// A connection whose greetings are over.
fn open(values: &[(u16, u32)]) -> Connection {
    let mut connection = Connection::new("a");
    feed(&mut connection, &settings(values)).expect("valid");
    connection.on_sent(connection.output().len());
    connection
}

/// The frames in the output, which is then taken as sent.
fn sent(connection: &mut Connection) -> Vec<(Head, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut rest = connection.output();
    while let Some(head) = Head::read(rest) {
        let end = frame::HEAD_SIZE + head.size;
        frames.push((head, rest[frame::HEAD_SIZE..end].to_vec()));
        rest = &rest[end..];
    }
    let size = connection.output().len();
    connection.on_sent(size);
    frames
}

const HEADERS: &[u8] = &[0x88];
/// `grpc-status: 0`, spelled out.
const OK: &[u8] = b"\x00\x0bgrpc-status\x010";

fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).expect("short")];
    body.extend_from_slice(message);
    [
        frame(kind::HEADERS, flag::END_HEADERS, stream, HEADERS),
        frame(kind::DATA, 0, stream, &body),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, OK),
    ]
    .concat()
}

#[test]
fn answers_find_their_requests_in_any_order_and_in_pieces() {
    let mut connection = open(&[]);
    for token in 0..3 {
        connection.request(Method::Put, token, b"x").expect("open");
    }
    let bytes = [answer(5, b"abc"), answer(1, b""), answer(3, b"z")].concat();
    let mut ended = Vec::new();
    for byte in bytes {
        ended.extend(feed(&mut connection, &[byte]).expect("valid"));
    }
    let tokens: Vec<_> = ended.iter().map(|a| (a.token, a.message_size)).collect();
    assert_eq!(tokens, vec![(2, 3), (0, 0), (1, 1)]);
    assert!(ended.iter().all(|a| a.outcome == Outcome::Status(0)));
    assert!(connection.streams.is_empty());
    assert_eq!(connection.first, 7);
}

#[test]
fn a_stream_of_messages_is_put_together_and_kept_as_far_as_asked() {
    let body = b"\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02de";
    let end = flag::END_HEADERS | flag::END_STREAM;
    for cut in 0..body.len() {
        let bytes = [
            frame(kind::HEADERS, flag::END_HEADERS, 1, HEADERS),
            frame(kind::DATA, 0, 1, &body[..cut]),
            frame(kind::DATA, 0, 1, &body[cut..]),
            frame(kind::HEADERS, end, 1, OK),
        ];
        let mut connection = open(&[]);
        connection.keep(4);
        connection.request(Method::RangeStream, 0, b"x").expect("open");
        let ended = feed(&mut connection, &bytes.concat()).expect("valid");
        assert_eq!((ended[0].message_size, ended[0].body.as_slice()), (5, &b"abcd"[..]));
        let mut connection = open(&[]);
        connection.request(Method::Range, 0, b"x").expect("open");
        let failure = feed(&mut connection, &bytes.concat()).expect_err("three messages");
        assert!(failure.to_string().contains("not whole"), "{failure}");
    }
}

/// What has been heard in talks.
fn heard(connection: &mut Connection) -> Vec<(u32, Vec<u8>)> {
    let mut heard = Heard::default();
    connection.hear(&mut heard);
    heard.messages().map(|(token, message)| (token, message.to_vec())).collect()
}

#[test]
fn what_is_said_in_a_talk_is_handed_over_message_by_message() {
    let body = b"\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02de";
    let expected = [&b"abc"[..], b"", b"de"].map(|message| (7, message.to_vec()));
    for cut in 0..=body.len() {
        let mut connection = open(&[]);
        connection.open(Method::Watch, 7).expect("open");
        let mut all = Vec::new();
        for part in [&body[..cut], &body[cut..], body] {
            let ended = feed(&mut connection, &frame(kind::DATA, 0, 1, part)).expect("valid");
            assert!(ended.is_empty());
            all.extend(heard(&mut connection));
        }
        assert_eq!(all[..3], expected, "{cut}");
        assert_eq!(all[3..], expected, "{cut}");
        let end = flag::END_HEADERS | flag::END_STREAM;
        let ended = feed(&mut connection, &frame(kind::HEADERS, end, 1, OK)).expect("valid");
        assert_eq!((ended[0].token, ended[0].outcome), (7, Outcome::Status(0)));
        sent(&mut connection);
        connection.say(1, b"too late");
        assert!(sent(&mut connection).is_empty());
    }
}

#[test]
fn a_talk_may_end_without_a_message_but_not_inside_one() {
    let end = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, OK);
    let mut connection = open(&[]);
    connection.open(Method::KeepAlive, 0).expect("open");
    assert_eq!(feed(&mut connection, &end).expect("valid").len(), 1);
    let half = [frame(kind::DATA, 0, 1, &[0, 0, 0, 0, 9, 1]), end].concat();
    let mut connection = open(&[]);
    connection.open(Method::KeepAlive, 0).expect("open");
    feed(&mut connection, &half).expect_err("half a message");
}

#[test]
fn messages_of_a_talk_wait_for_its_window_in_their_order() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 20)]);
    let stream = connection.open(Method::Watch, 0).expect("open");
    for message in [b"0123456789", b"abcdefghij", b"ABCDEFGHIJ"] {
        connection.say(stream, message);
    }
    let mut bytes: Vec<u8> = Vec::new();
    for window in [0, 1, 11, 100] {
        if window > 0 {
            let more = frame(kind::WINDOW_UPDATE, 0, stream, &u32::to_be_bytes(window));
            feed(&mut connection, &more).expect("valid");
        }
        for (head, payload) in sent(&mut connection) {
            assert_eq!(head.flags & flag::END_STREAM, 0, "a talk goes on");
            if head.kind == kind::DATA {
                bytes.extend(payload);
            }
        }
        assert_eq!(bytes.len(), [20, 21, 32, 45][[0, 1, 11, 100].binary_search(&window).unwrap()]);
    }
    let prefix = b"\x00\x00\x00\x00\x0a";
    let whole = [&prefix[..], b"0123456789", prefix, b"abcdefghij", prefix, b"ABCDEFGHIJ"];
    assert_eq!(bytes, whole.concat());
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let stream = connection.open(Method::Watch, 0).expect("open");
    connection.say(stream, b"x");
    feed(&mut connection, &frame(kind::RST_STREAM, 0, stream, &[0; 4])).expect("valid");
    assert!(connection.stalled.is_empty(), "nobody waits on a stream that has ended");
}

/// The streams whose windows are renewed when 40,000 bytes have come on the first.
fn renewed(connection: &mut Connection) -> Vec<u32> {
    for _ in 0..4 {
        feed(connection, &frame(kind::DATA, 0, 1, &[0; 10_000])).expect("valid");
    }
    let frames = sent(connection).into_iter();
    let renewed = frames.filter(|(head, _)| head.kind == kind::WINDOW_UPDATE);
    renewed.map(|(head, _)| head.stream).collect()
}

#[test]
fn windows_are_renewed_unless_they_are_withheld() {
    let mut wide = open(&[]);
    wide.open(Method::Watch, 0).expect("open");
    wide.streams[0].received = STREAM_WINDOW_SIZE / 2 - 30_000;
    wide.received = CONNECTION_WINDOW_SIZE / 2 - 20_000;
    sent(&mut wide);
    assert_eq!(renewed(&mut wide), [0, 1]);

    let mut narrow = Connection::with_windows("a", Windows::Withheld);
    let ours = settings(&[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, 65_535)]);
    assert!(narrow.output()[frame::PREFACE.len()..].starts_with(&ours));
    feed(&mut narrow, &settings(&[])).expect("valid");
    narrow.open(Method::Watch, 0).expect("open");
    narrow.received = CONNECTION_WINDOW_SIZE / 2 - 20_000;
    narrow.on_sent(narrow.output().len());
    assert_eq!(renewed(&mut narrow), [0], "the connection's own is no stream's");
    narrow.streams[0].received = 65_535;
    let failure = feed(&mut narrow, &frame(kind::DATA, 0, 1, &[0])).expect_err("no window is left");
    assert!(failure.to_string().contains("more than the window"), "{failure}");
    narrow.streams[0].received = 40_000;
    narrow.give_windows();
    let frames = sent(&mut narrow);
    assert_eq!((frames[0].0.stream, frames[0].1.as_slice()), (1, &40_000_u32.to_be_bytes()[..]));
    assert_eq!(renewed(&mut narrow), [1]);
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let mut connection = Connection::new("a");
    connection.on_sent(connection.output().len());
    feed(&mut connection, &settings(&[(setting::MAX_CONCURRENT_STREAMS, 7)])).expect("valid");
    feed(&mut connection, &frame(kind::PING, 0, 0, b"12345678")).expect("valid");
    feed(&mut connection, &frame(kind::PING, flag::ACK, 0, b"12345678")).expect("valid");
    let frames = sent(&mut connection);
    assert_eq!(connection.streams_max(), 7);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].0.kind, frames[0].0.flags), (kind::SETTINGS, flag::ACK));
    assert_eq!((frames[1].0.kind, frames[1].0.flags), (kind::PING, flag::ACK));
    assert_eq!(frames[1].1, b"12345678");
}

#[test]
fn bodies_wait_for_windows() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    connection.request(Method::Put, 0, &[7; 20]).expect("open");
    let frames = sent(&mut connection);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[1].0.size, frames[1].0.flags), (10, 0));
    feed(&mut connection, &frame(kind::WINDOW_UPDATE, 0, 1, &4u32.to_be_bytes())).expect("valid");
    assert_eq!(sent(&mut connection)[0].0.size, 4);
    feed(&mut connection, &settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)])).expect("valid");
    let frames = sent(&mut connection);
    assert_eq!((frames[1].0.size, frames[1].0.flags), (11, flag::END_STREAM));
}

#[test]
fn the_connections_window_is_shared() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    for token in 0..5 {
        connection.request(Method::Put, token, &[7; 15_000]).expect("open");
    }
    let data = |frames: &[(Head, Vec<u8>)]| -> usize {
        frames.iter().filter(|f| f.0.kind == kind::DATA).map(|f| f.0.size).sum()
    };
    assert_eq!(data(&sent(&mut connection)), 65_535);
    let more = frame(kind::WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes());
    feed(&mut connection, &more).expect("valid");
    assert_eq!(data(&sent(&mut connection)), 5 * 15_005 - 65_535);
}

#[test]
fn our_own_window_is_renewed() {
    let mut connection = open(&[]);
    connection.received = CONNECTION_WINDOW_SIZE / 2 - 10;
    connection.request(Method::Range, 0, b"x").expect("open");
    sent(&mut connection);
    feed(&mut connection, &answer(1, b"0123456789")).expect("valid");
    let frames = sent(&mut connection);
    assert_eq!(frames[0].0.kind, kind::WINDOW_UPDATE);
    assert_eq!(frames[0].1, (CONNECTION_WINDOW_SIZE / 2 + 5).to_be_bytes());
}

#[test]
fn errors_and_resets_end_their_call_only() {
    let mut connection = open(&[]);
    connection.request(Method::Put, 0, b"x").expect("open");
    connection.request(Method::Put, 1, b"x").expect("open");
    let block = b"\x88\x00\x0bgrpc-status\x018\x00\x0cgrpc-message\x04full";
    let refused = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block);
    let reset = frame(kind::RST_STREAM, 0, 3, &11u32.to_be_bytes());
    let ended = feed(&mut connection, &[refused, reset].concat()).expect("valid");
    assert_eq!(ended[0].outcome, Outcome::Status(8));
    assert_eq!(ended[1].outcome, Outcome::Reset(11));
    assert_eq!(connection.last_message(), Some("full"));
}

#[test]
fn a_header_block_may_come_in_pieces() {
    let mut connection = open(&[]);
    connection.request(Method::Put, 0, b"x").expect("open");
    let bytes = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, HEADERS),
        frame(kind::DATA, 0, 1, &[0; 5]),
        frame(kind::HEADERS, flag::END_STREAM, 1, &OK[..4]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &OK[4..]),
    ];
    let ended = feed(&mut connection, &bytes.concat()).expect("valid");
    assert_eq!(ended[0].outcome, Outcome::Status(0));
}

#[test]
fn what_breaks_the_protocol_ends_the_run() {
    let half = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, HEADERS),
        frame(kind::DATA, 0, 1, &[0, 0, 0, 0, 9, 1]),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, OK),
    ]
    .concat();
    let goodbye = frame(kind::GOAWAY, 0, 0, b"\x00\x00\x00\x01\x00\x00\x00\x0bslow down");
    let cases: [(Vec<u8>, &str); 5] = [
        (half, "not whole"),
        (goodbye, "GOAWAY, error code 11) \"slow down\""),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "is this HTTP/2?"),
        (frame(kind::DATA, flag::END_STREAM, 1, &[0; 5]), "without a gRPC status"),
        (frame(kind::DATA, flag::PADDED, 1, &[9]), "padding"),
    ];
    for (bytes, text) in cases {
        let mut connection = open(&[]);
        connection.request(Method::Put, 0, b"x").expect("open");
        let failure = feed(&mut connection, &bytes).expect_err("a broken protocol");
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[test]
fn random_frames_never_panic() {
    let mut random = crate::workload::Random::new(11);
    for _ in 0..3000 {
        let mut connection = open(&[]);
        for token in 0..3 {
            connection.request(Method::Put, token, &[7; 100]).expect("open");
        }
        let talk = connection.open(Method::Watch, 3).expect("open");
        for _ in 0..20 {
            let mut pick = |bound| u8::try_from(random.below(bound)).expect("small");
            let (kind, flags, stream) = (pick(11), pick(64), u32::from(pick(9)));
            let payload: Vec<u8> = (0..pick(40)).map(|_| pick(256)).collect();
            let bytes = frame(kind, flags, stream, &payload);
            if feed(&mut connection, &bytes).is_err() {
                break;
            }
            connection.say(talk, &[7; 100]);
            heard(&mut connection);
            sent(&mut connection);
        }
    }
}
