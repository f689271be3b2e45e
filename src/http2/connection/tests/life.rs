//! A connection's life: requests and replies in order, heads known again, time, and the end.

use super::*;

fn kinds(frames: &[Seen]) -> Vec<(u8, u8, u32)> {
    frames.iter().map(|seen| (seen.kind, seen.flags, seen.stream)).collect()
}

const BOTH: u8 = frame::END_HEADERS | frame::END_STREAM;

#[test]
fn a_unary_reply_is_three_frames_and_gives_the_call_back() {
    let mut world = World::new();
    world.send(&[head(1, false), data(1, b"hello", true)].concat()).expect("open");
    assert_eq!(world.told(), ["1 head /p", "1 data 5 hello end"]);
    assert_eq!(world.connection.call_mut(StreamId(1)), Some(&mut 1));
    assert_eq!(world.answer(1), Some(1));
    let frames = world.frames();
    let expected =
        [(frame::HEADERS, frame::END_HEADERS, 1), (frame::DATA, 0, 1), (frame::HEADERS, BOTH, 1)];
    assert_eq!(kinds(&frames), expected);
    assert_eq!(frames[1].payload, b"answer");
    assert_eq!(world.answer(1), None, "a reply to a stream that is gone is ignored");
    assert_eq!(world.connection.reply_data(StreamId(7), b"x", true), None);
    assert_eq!(world.connection.streams_open(), 0);
}

#[test]
fn an_owner_that_is_full_takes_the_rest_later() {
    let mut world = World::new();
    world.owner.full_at = Some(2);
    let bytes = (0..5).flat_map(|n| head(2 * n + 1, true)).collect::<Vec<u8>>();
    let size = head(1, true).len();
    // What comes, how many bytes of it are taken, and how many requests are whole then.
    let steps = [(0..5, 5, 0), (5..3 * size, 2 * size - 5, 2), (2 * size..5 * size, 2 * size, 2)];
    for (piece, taken, whole) in steps {
        let found = world.connection.receive(&bytes[piece], at(0), &mut world.owner);
        assert_eq!((found, world.owner.whole.len()), (Ok(taken), whole));
        world.owner.whole.clear();
    }
    world.send(&bytes[4 * size..]).expect("open");
    let told = [1, 3, 5, 7, 9].map(|stream| format!("{stream} head /p end"));
    assert_eq!(world.told(), told);
}

#[test]
fn a_streaming_reply_keeps_its_order() {
    let mut world = World::new();
    world.send(&head(1, false)).expect("open");
    let (head, trailers) = blocks();
    let stream = StreamId(1);
    assert_eq!(world.connection.reply_head(stream, &head, false), None);
    for text in [&b"one"[..], b"two"] {
        assert_eq!(world.connection.reply_data(stream, text, false), None);
    }
    world.send(&data(1, b"more", true)).expect("a stream goes both ways");
    assert_eq!(world.connection.reply_trailers(stream, &trailers), Some(1));
    let frames = world.frames();
    let expected = [
        (frame::HEADERS, frame::END_HEADERS, 1),
        (frame::DATA, 0, 1),
        (frame::DATA, 0, 1),
        (frame::HEADERS, BOTH, 1),
    ];
    assert_eq!(kinds(&frames), expected);
    assert_eq!((&frames[1].payload[..], &frames[2].payload[..]), (&b"one"[..], &b"two"[..]));
}

#[test]
fn a_reply_before_the_request_is_whole_ends_the_stream() {
    let mut world = World::new();
    world.send(&[head(1, false), head(3, false)].concat()).expect("open");
    assert_eq!(world.answer(1), Some(1));
    let last = world.frames().pop().expect("frames");
    assert_eq!((last.kind, last.number()), (frame::RST_STREAM, ErrorCode::NO_ERROR.0));
    let (head, _) = blocks();
    assert_eq!(world.connection.reply_head(StreamId(3), &head, true), Some(3));
    let frames = world.frames();
    assert_eq!(kinds(&frames), [(frame::HEADERS, BOTH, 3), (frame::RST_STREAM, 0, 3)]);
}

#[test]
fn a_cancelled_request_is_told_and_its_reply_ignored() {
    let mut world = World::new();
    world.send(&[head(1, true), rst_stream(1)].concat()).expect("open");
    assert_eq!(world.told(), ["1 head /p end", "1 reset CANCEL"]);
    assert_eq!(world.answer(1), None);
    assert!(world.frames().is_empty());
}

#[test]
fn equal_heads_have_equal_ids_however_they_were_sent() {
    let mut world = World::new();
    let indexed = |name: &str, value: &str| {
        let mut bytes = block(&[(name, value)]);
        bytes[0] = 0x40;
        bytes
    };
    let first = [post(&[]), indexed("a", "b")].concat();
    let again = [post(&[]), vec![0xbe]].concat();
    let other = [post(&[]), indexed("a", "c")].concat();
    // After the other head the old field has moved one place on.
    let moved = [post(&[]), vec![0xbf]].concat();
    for (stream, block) in [&first, &again, &again, &other, &again, &moved].iter().enumerate() {
        let stream = 2 * u32::try_from(stream).expect("small") + 1;
        world.send(&headers(stream, block, true)).expect("open");
    }
    let ids = &world.owner.heads;
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] == ids[5], "{ids:?}");
    assert!(ids[3] == ids[4] && ids[3] != ids[0], "{ids:?}");
}

#[test]
fn a_head_is_found_again_among_many() {
    let mut world = World::new();
    let mut first = Vec::new();
    for round in 0..3 {
        for path in 0..6 {
            let path = format!("/{path}");
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", &path)];
            let stream = (world.connection.last + 1) | 1;
            world.send(&headers(stream, &block(&fields), true)).expect("open");
        }
        let ids = std::mem::take(&mut world.owner.heads);
        if round == 0 {
            first = ids.clone();
        }
        assert_eq!(ids, first);
    }
    assert_eq!(world.told()[8], "17 head /2 end");
}

/// A block that is known is not decoded again, and one that only set the size of an empty table
/// counted as known though the size had changed since: what came into the table next was lost.
#[test]
fn a_known_head_that_sets_the_size_of_the_table_sets_it_again() {
    let mut world = World::new();
    let plain = post(&[]);
    let resized = |update: &[u8]| [update, &plain].concat();
    let (full, empty) = (resized(&[0x3f, 0xe1, 0x1f]), resized(&[0x20]));
    for (stream, block) in [(1, &full), (3, &empty), (5, &full)] {
        world.send(&headers(stream, block, true)).expect("open");
    }
    let field = [0x40, 1, b'a', 1, b'b'];
    let remembered = [&plain[..], &field].concat();
    let named = [&plain[..], &[0xbe]].concat();
    world.send(&headers(7, &remembered, true)).expect("open");
    world.send(&headers(9, &named, true)).expect("a field that was told to be remembered");
    let ids = std::mem::take(&mut world.owner.heads);
    assert_eq!(ids[3], ids[4], "the same field, by its name and by its index");
}

#[test]
fn a_head_shows_its_fields() {
    struct Looker;
    impl Calls for Looker {
        type Call = ();
        fn on_head(&mut self, _stream: StreamId, head: &Head, _end: bool) {
            assert_eq!((head.method(), head.scheme()), (&b"POST"[..], &b"http"[..]));
            assert_eq!((head.path(), head.authority()), (&b"/p"[..], &b"me"[..]));
            assert_eq!(head.content_type(), Some(&b"application/grpc"[..]));
            assert_eq!(head.grpc_timeout(), Some(&b"1S"[..]));
            assert_eq!(head.get(b"token"), Some(&b"abc"[..]));
            assert_eq!((head.get(b"none"), head.content_length()), (None, None));
            assert_eq!(head.fields().count(), 7);
        }
        fn on_data(&mut self, _: StreamId, (): &mut (), _: &[u8], _: bool) {}
        fn on_trailers(&mut self, _: StreamId, (): &mut (), _: &Head) {}
        fn on_reset(&mut self, _: StreamId, (): (), _: ErrorCode) {}
    }
    let mut connection = Connection::new(Limits::default(), at(0));
    let more = [
        (":authority", "me"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "1S"),
        ("token", "abc"),
    ];
    let bytes = [greeting(), headers(1, &post(&more), true)].concat();
    connection.receive(&bytes, at(0), &mut Looker).expect("open");
}

#[test]
fn a_graceful_end_answers_what_came_before_it() {
    let mut world = World::new();
    world.send(&head(1, true)).expect("open");
    world.connection.shutdown(at(10));
    world.connection.shutdown(at(11));
    let frames = world.frames();
    assert_eq!(kinds(&frames), [(frame::GOAWAY, 0, 0), (frame::PING, 0, 0)]);
    assert_eq!(frames[0].payload[..4], 0x7fff_ffff_u32.to_be_bytes());
    world.send(&head(3, true)).expect("under way when the client saw the first GOAWAY");
    assert_eq!(world.told(), ["1 head /p end", "3 head /p end"]);
    world.send(&framed(frame::PING, frame::ACK, 0, &frames[1].payload)).expect("open");
    let last = world.frames();
    assert_eq!((last[0].kind, &last[0].payload[..4]), (frame::GOAWAY, &[0, 0, 0, 3][..]));
    world.send(&[head(5, false), data(5, b"x", true)].concat()).expect("ignored");
    assert!(world.told().is_empty() && world.frames().is_empty());
    assert!(!world.connection.is_drained());
    world.answer(1);
    world.answer(3);
    assert!(world.connection.is_drained());
}

#[test]
fn a_graceful_end_waits_neither_for_the_ping_nor_for_ever() {
    let mut world = World::new();
    world.send(&head(1, true)).expect("open");
    world.connection.shutdown(at(0));
    world.tick(999).expect("open");
    assert_eq!(world.frames().len(), 2);
    world.tick(1000).expect("open");
    assert_eq!(kinds(&world.frames()), [(frame::GOAWAY, 0, 0)]);
    world.tick(29_999).expect("open");
    assert_eq!(world.tick(30_000).expect_err("closed").code, ErrorCode::NO_ERROR);
    assert_eq!(world.told(), ["1 head /p end", "1 reset NO_ERROR"]);
}

#[test]
fn a_client_that_leaves_is_served_to_the_end() {
    let mut world = World::new();
    world.send(&[head(1, true), framed(frame::GOAWAY, 0, 0, &[0; 8])].concat()).expect("open");
    assert!(!world.connection.is_drained());
    assert_eq!(world.answer(1), Some(1));
    assert!(!world.connection.is_drained());
    world.send(&framed(frame::PING, 0, 0, &[7; 8])).expect("open");
    assert_eq!(kinds(&world.frames()).last(), Some(&(frame::PING, frame::ACK, 0)));
    world.tick(1000).expect("open");
    assert!(world.connection.is_drained());
}

#[test]
fn a_lost_connection_gives_every_call_back() {
    let mut world = World::new();
    world.send(&[head(1, true), head(3, false)].concat()).expect("open");
    world.told();
    world.connection.lost(&mut world.owner);
    assert_eq!(world.told(), ["1 reset CANCEL", "3 reset CANCEL"]);
    assert!(world.send(&head(5, true)).is_err());
    assert!(world.connection.is_drained());
}

#[test]
fn a_silent_client_is_pinged_and_a_dead_one_dropped() {
    let limits = Limits { keepalive_interval: 1000, ..<_>::default() };
    let mut world = World::with(limits);
    world.tick(999).expect("open");
    assert!(world.frames().is_empty());
    world.tick(1000).expect("open");
    let frames = world.frames();
    assert_eq!(kinds(&frames), [(frame::PING, 0, 0)]);
    world.now = at(2000);
    world.send(&framed(frame::PING, frame::ACK, 0, &frames[0].payload)).expect("alive");
    world.tick(2999).expect("open");
    world.tick(3000).expect("open");
    assert_eq!(world.frames().len(), 1);
    world.tick(22_999).expect("open");
    assert_eq!(world.tick(23_000).expect_err("closed").reason, "keepalive ping not answered");
}

#[test]
fn an_idle_connection_drains_when_asked_to() {
    let mut world = World::with(Limits { idle_timeout: 1000, ..<_>::default() });
    world.send(&head(1, true)).expect("open");
    world.tick(5000).expect("a request is open");
    world.answer(1);
    world.frames();
    world.tick(5999).expect("open");
    assert!(world.frames().is_empty());
    world.tick(6000).expect("open");
    assert_eq!(world.frames()[0].kind, frame::GOAWAY);
}

#[test]
fn settings_must_be_acknowledged_in_time() {
    let mut world = World::raw(Limits::default());
    world.send(&[&PREFACE[..], &settings(&[])].concat()).expect("open");
    world.frames();
    world.tick(29_999).expect("open");
    assert_eq!(world.tick(30_000).expect_err("closed").code, ErrorCode::SETTINGS_TIMEOUT);
}

/// While its answers wait to be read nothing is received, so a frame cut by the last receive
/// stayed cut: after half a minute the client was told that it was too slow to send it.
#[test]
fn a_slow_reader_is_not_taken_for_a_slow_sender() {
    let mut world = World::with(Limits { output_size_max: 1 << 16, ..<_>::default() });
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 1 << 20)])).expect("open");
    world.send(&window_update(0, 1 << 20)).expect("open");
    world.frames();
    world.send(&head(1, true)).expect("open");
    let (block, trailers) = blocks();
    world.connection.reply_unary(StreamId(1), &block, &[7; 100_000], &trailers);
    let next = head(3, true);
    world.send(&next[..5]).expect("open");
    for ms in (0..60_000).step_by(1000) {
        world.connection.sent(1);
        assert!(world.connection.is_congested(), "it reads slowly");
        world.tick(ms).expect("but it reads");
    }
    while !world.connection.output().is_empty() {
        world.connection.sent(world.connection.output().len());
    }
    world.tick(88_000).expect("there is time to send the rest");
    world.send(&next[5..]).expect("a frame is whole at last");
}
