//! The rules of RFC 9113, each broken once: which end it brings, and that it brings no other.

use super::*;

/// The bytes close a greeted connection with this code, told in GOAWAY.
#[track_caller]
fn closes(bytes: &[u8], code: ErrorCode) {
    let mut world = World::new();
    let found = world.send(bytes).expect_err("a closed connection");
    assert_eq!(found.code, code, "{}", found.reason);
    let goaway = world.frames().pop().expect("a last frame");
    assert_eq!((goaway.kind, goaway.number()), (frame::GOAWAY, code.0));
    assert_eq!(world.connection.streams_open(), 0);
    assert_eq!(world.send(&head(99, true)), Err(found), "closed stays closed");
    assert!(world.connection.output().is_empty());
}

/// The bytes reset this stream and leave the connection usable.
#[track_caller]
fn resets(bytes: &[u8], stream: u32, code: ErrorCode) {
    let mut world = World::new();
    world.send(bytes).expect("an open connection");
    let is_reset = |seen: &&Seen| seen.kind == frame::RST_STREAM && seen.stream == stream;
    let frames = world.frames();
    let found: Vec<u32> = frames.iter().filter(is_reset).map(Seen::number).collect();
    assert_eq!(found, [code.0], "{frames:?}");
    assert_eq!(world.connection.call_mut(StreamId(stream)), None);
    world.told();
    world.send(&head(99, true)).expect("an open connection");
    assert_eq!(world.told(), ["99 head /p end"]);
}

/// The bytes are taken without a word.
#[track_caller]
fn is_fine(bytes: &[u8]) -> World {
    let mut world = World::new();
    world.send(bytes).expect("an open connection");
    let frames = world.frames();
    assert!(frames.iter().all(|seen| seen.kind != frame::RST_STREAM), "{frames:?}");
    world
}

#[test]
fn a_wrong_preface_closes() {
    let mut world = World::raw(Limits::default());
    let found = world.send(b"GET / HTTP/1.1\r\n").expect_err("closed");
    assert_eq!(found.code, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn our_settings_come_first_and_theirs_must() {
    let mut world = World::raw(Limits::default());
    let first = &world.frames()[0];
    assert_eq!((first.kind, first.flags, first.payload.len()), (frame::SETTINGS, 0, 30));
    for bytes in [framed(frame::PING, 0, 0, &[0; 8]), framed(frame::SETTINGS, frame::ACK, 0, &[])] {
        let mut world = World::raw(Limits::default());
        let found = world.send(&[PREFACE, &bytes[..]].concat()).expect_err("closed");
        assert_eq!(found.code, ErrorCode::PROTOCOL_ERROR);
    }
}

#[test]
fn settings_are_acknowledged_and_unknown_ones_ignored() {
    let mut world = World::new();
    world.send(&settings(&[(0xffff, 7), (frame::ENABLE_PUSH, 1)])).expect("open");
    let ack = Seen { kind: frame::SETTINGS, flags: frame::ACK, stream: 0, payload: vec![] };
    assert_eq!(world.frames(), [ack]);
}

#[test]
fn bad_settings_close() {
    closes(&framed(frame::SETTINGS, 0, 1, &[]), ErrorCode::PROTOCOL_ERROR);
    closes(&framed(frame::SETTINGS, 0, 0, &[0; 5]), ErrorCode::FRAME_SIZE_ERROR);
    closes(&framed(frame::SETTINGS, frame::ACK, 0, &[0; 6]), ErrorCode::FRAME_SIZE_ERROR);
    closes(&settings(&[(frame::ENABLE_PUSH, 2)]), ErrorCode::PROTOCOL_ERROR);
    let window = settings(&[(frame::INITIAL_WINDOW_SIZE, 1 << 31)]);
    closes(&window, ErrorCode::FLOW_CONTROL_ERROR);
    for size in [(1 << 14) - 1, 1 << 24] {
        closes(&settings(&[(frame::MAX_FRAME_SIZE, size)]), ErrorCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_frame_larger_than_advertised_closes() {
    closes(&framed(frame::DATA, 0, 1, &[0; 16_385]), ErrorCode::FRAME_SIZE_ERROR);
    closes(&framed(0xee, 0, 0, &[0; 16_385])[..9], ErrorCode::FRAME_SIZE_ERROR);
}

#[test]
fn a_frame_of_a_wrong_size_closes() {
    let open = head(1, false);
    for (kind, stream) in [
        (frame::RST_STREAM, 1),
        (frame::PING, 0),
        (frame::GOAWAY, 0),
        (frame::WINDOW_UPDATE, 1),
        (frame::WINDOW_UPDATE, 0),
    ] {
        let bytes = [&open[..], &framed(kind, 0, stream, &[1; 3])].concat();
        closes(&bytes, ErrorCode::FRAME_SIZE_ERROR);
    }
    resets(&[&open[..], &framed(frame::PRIORITY, 0, 1, &[1; 4])].concat(), 1, {
        ErrorCode::FRAME_SIZE_ERROR
    });
}

#[test]
fn a_frame_on_the_wrong_kind_of_stream_closes() {
    let priority = framed(frame::PRIORITY, 0, 0, &[0; 5]);
    let goaway = framed(frame::GOAWAY, 0, 1, &[0; 8]);
    let cases = [
        data(0, b"x", false),
        head(0, true),
        head(2, true),
        rst_stream(0),
        priority,
        framed(frame::PING, 0, 1, &[0; 8]),
        goaway,
        framed(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[0, 0, 0, 2]),
        framed(frame::CONTINUATION, frame::END_HEADERS, 1, &[]),
    ];
    for bytes in cases {
        closes(&bytes, ErrorCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_frame_on_an_idle_stream_closes() {
    for bytes in [data(5, b"x", false), rst_stream(5), window_update(5, 1), data(4, b"", true)] {
        closes(&[head(1, false), bytes].concat(), ErrorCode::PROTOCOL_ERROR);
    }
    is_fine(&framed(frame::PRIORITY, 0, 5, &[0; 5]));
}

#[test]
fn stream_ids_must_grow() {
    closes(&[head(5, true), head(3, true)].concat(), ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_header_block_may_not_be_interrupted() {
    let open = framed(frame::HEADERS, 0, 1, &post(&[]));
    let others = [
        data(1, b"x", false),
        head(3, true),
        framed(frame::PRIORITY, 0, 1, &[0; 5]),
        framed(frame::PING, 0, 0, &[0; 8]),
        framed(0xee, 0, 1, &[]),
        framed(frame::CONTINUATION, frame::END_HEADERS, 3, &[]),
    ];
    for other in others {
        closes(&[&open[..], &other].concat(), ErrorCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_header_block_may_be_cut_anywhere() {
    let block = post(&[("a", "b")]);
    for (cut, end) in [(0, true), (1, false), (9, true), (block.len(), false)] {
        let flags = if end { frame::END_STREAM } else { 0 };
        let bytes = [
            framed(frame::HEADERS, flags, 1, &block[..cut]),
            framed(frame::CONTINUATION, 0, 1, &block[cut..]),
            framed(frame::CONTINUATION, frame::END_HEADERS, 1, &[]),
        ];
        let told = is_fine(&bytes.concat()).told();
        assert_eq!(told, [if end { "1 head /p end" } else { "1 head /p" }]);
    }
}

#[test]
fn padding_is_removed_and_checked() {
    let padded = |kind, flags, payload: &[u8]| framed(kind, flags | frame::PADDED, 1, payload);
    let block = post(&[]);
    let payload = [&[3, 0, 0, 0, 0, 9][..], &block, &[0; 3]].concat();
    let flags = frame::END_HEADERS | frame::WITH_PRIORITY;
    let opened = padded(frame::HEADERS, flags, &payload);
    let bytes = [&opened[..], &padded(frame::DATA, frame::END_STREAM, b"\x02hi\0\0")].concat();
    assert_eq!(is_fine(&bytes).told(), ["1 head /p", "1 data 2 hi end"]);
    for payload in [&b""[..], b"\x03hi"] {
        closes(&padded(frame::HEADERS, frame::END_HEADERS, payload), ErrorCode::PROTOCOL_ERROR);
        let bytes = [&head(1, false)[..], &padded(frame::DATA, 0, payload)].concat();
        closes(&bytes, ErrorCode::PROTOCOL_ERROR);
    }
    let flags = frame::END_HEADERS | frame::WITH_PRIORITY;
    closes(&framed(frame::HEADERS, flags, 1, &[0; 4]), ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn an_undecodable_block_closes_wherever_it_stands() {
    closes(&headers(1, &[0xff, 0xff], true), ErrorCode::COMPRESSION_ERROR);
    let trailers = headers(1, &[0xbe], true);
    closes(&[&head(1, false)[..], &trailers].concat(), ErrorCode::COMPRESSION_ERROR);
    closes(&[head(1, true), rst_stream(1), headers(1, &[0x80], true)].concat(), {
        ErrorCode::COMPRESSION_ERROR
    });
}

#[test]
fn a_stream_may_not_depend_on_itself() {
    let priority = [0, 0, 0, 1, 7];
    let block = [&priority[..], &post(&[])].concat();
    let flags = frame::END_HEADERS | frame::WITH_PRIORITY;
    resets(&framed(frame::HEADERS, flags, 1, &block), 1, ErrorCode::PROTOCOL_ERROR);
    let bytes = [head(1, false), framed(frame::PRIORITY, 0, 1, &priority)].concat();
    resets(&bytes, 1, ErrorCode::PROTOCOL_ERROR);
    closes(&framed(frame::PRIORITY, 0, 1, &priority), ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_malformed_request_resets_its_stream() {
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| [&get[..], more].concat();
    let cases: [Vec<(&str, &str)>; 27] = [
        vec![],
        get[1..].to_vec(),
        vec![get[0], get[2]],
        get[..2].to_vec(),
        vec![get[0], get[1], (":path", "")],
        vec![get[0], get[1], (":path", "p")],
        with(&[get[0]]),
        with(&[get[1]]),
        with(&[get[2]]),
        with(&[(":authority", "a"), (":authority", "a")]),
        with(&[(":status", "200")]),
        with(&[(":other", "x")]),
        with(&[(":", "x")]),
        vec![get[0], get[1], ("a", "b"), get[2]],
        with(&[("Upper", "x")]),
        with(&[("", "x")]),
        with(&[("a b", "x")]),
        with(&[("a", "x\r\ny")]),
        with(&[("a", " x")]),
        with(&[("a", "x\t")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        with(&[("content-length", "99999999999999999999999")]),
        vec![(":method", "CONNECT"), (":authority", "a"), (":path", "/")],
    ];
    for fields in cases {
        let mut world = World::new();
        world.send(&headers(1, &block(&fields), false)).expect("open");
        let frames = world.frames();
        let [reset] = &frames[..] else { panic!("{fields:?}: {frames:?}") };
        assert_eq!(reset.kind, frame::RST_STREAM, "{fields:?}");
        assert_eq!(reset.number(), ErrorCode::PROTOCOL_ERROR.0, "{fields:?}");
        assert!(world.told().is_empty(), "{fields:?}");
    }
    is_fine(&headers(1, &block(&with(&[("te", "trailers"), ("content-length", "3")])), false));
    is_fine(&headers(1, &block(&[(":method", "CONNECT"), (":authority", "a:1")]), false));
    let options = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")];
    is_fine(&headers(1, &block(&options), false));
}

#[test]
fn a_body_is_as_long_as_it_said() {
    let opened = |end| headers(1, &post(&[("content-length", "4")]), end);
    for rest in [data(1, b"123", true), data(1, b"12345", false), headers(1, &[], true)] {
        resets(&[&opened(false)[..], &rest].concat(), 1, ErrorCode::PROTOCOL_ERROR);
    }
    resets(&opened(true), 1, ErrorCode::PROTOCOL_ERROR);
    is_fine(&[opened(false), data(1, b"12", false), data(1, b"34", true)].concat());
    is_fine(&[opened(false), data(1, b"1234", false), headers(1, &[], true)].concat());
}

#[test]
fn trailers_end_the_request_and_have_no_pseudo_fields() {
    let trailers = block(&[("a", "b"), ("c", "d")]);
    let opened = [head(1, false), data(1, b"x", false)].concat();
    let mut world = is_fine(&[&opened[..], &headers(1, &trailers, true)].concat());
    assert_eq!(world.told(), ["1 head /p", "1 data 1 x", "1 trailers 2"]);
    let bytes = [&opened[..], &headers(1, &trailers, false)].concat();
    resets(&bytes, 1, ErrorCode::PROTOCOL_ERROR);
    let bytes = [&opened[..], &headers(1, &post(&[]), true)].concat();
    resets(&bytes, 1, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_half_closed_stream_takes_neither_data_nor_headers() {
    for rest in [data(1, b"x", false), head(1, true)] {
        resets(&[&head(1, true)[..], &rest].concat(), 1, ErrorCode::STREAM_CLOSED);
    }
    is_fine(&[head(1, true), window_update(1, 1), framed(frame::PRIORITY, 0, 1, &[0; 5])].concat());
}

#[test]
fn a_closed_stream_takes_only_what_may_have_been_under_way() {
    for is_answered in [true, false] {
        let closed = || {
            let mut world = World::new();
            world.send(&head(1, true)).expect("open");
            if is_answered {
                assert_eq!(world.answer(1), Some(1));
            } else {
                world.send(&rst_stream(1)).expect("open");
            }
            world.frames();
            world
        };
        let mut world = closed();
        world.send(&[window_update(1, 1), rst_stream(1)].concat()).expect("open");
        assert!(world.frames().is_empty());
        world.send(&data(1, b"x", true)).expect("open");
        assert_eq!(world.frames()[0].number(), ErrorCode::STREAM_CLOSED.0);
        let found = closed().send(&head(1, true)).expect_err("closed");
        assert_eq!(found.code, ErrorCode::STREAM_CLOSED);
    }
}

#[test]
fn what_was_under_way_when_we_reset_a_stream_is_ignored() {
    let mut world = World::new();
    world.send(&head(1, false)).expect("open");
    assert_eq!(world.connection.reset(StreamId(1), ErrorCode::CANCEL), Some(1));
    world.frames();
    let trailers = block(&[("a", "b")]);
    let bytes = [data(1, b"x", false), headers(1, &trailers, true), rst_stream(1)].concat();
    world.send(&bytes).expect("open");
    assert!(world.frames().is_empty());
    assert_eq!(world.told(), ["1 head /p"]);
}

/// Of the streams that we reset the last 256 were known: the bodies of calls that were refused
/// before counted as errors, of which a thousand end the connection.
#[test]
fn bodies_of_many_calls_that_were_refused_at_once_are_ignored() {
    let mut world = World::new();
    let (_, trailers) = blocks();
    let ids = (0..3000).map(|n| 2 * n + 1);
    world.send(&ids.clone().flat_map(|id| head(id, false)).collect::<Vec<u8>>()).expect("open");
    for id in ids.clone() {
        assert_eq!(world.connection.reply_head(StreamId(id), &trailers, true), Some(id));
    }
    world.frames();
    let trailers = block(&[("a", "b")]);
    let rest = |id| [data(id, b"body", false), headers(id, &trailers, true)].concat();
    world.send(&ids.flat_map(rest).collect::<Vec<u8>>()).expect("open");
    assert!(world.frames().is_empty());
    let found = world.send(&[head(9001, true), head(8999, true)].concat()).expect_err("closed");
    assert_eq!(found.reason, "stream ids must grow");
}

#[test]
fn windows_may_not_be_exceeded_in_either_direction() {
    let limits = || Limits { window_stream: 70_000, window_connection: 100_000, ..<_>::default() };
    let fill = |stream, times| data(stream, &[0; 10_000], false).repeat(times);
    let mut world = World::with(limits());
    world.send(&[head(1, false), fill(1, 8)].concat()).expect("open");
    let is_reset = |seen: &Seen| seen.kind == frame::RST_STREAM;
    let reset = world.frames().into_iter().find(is_reset).expect("a reset");
    assert_eq!(reset.number(), ErrorCode::FLOW_CONTROL_ERROR.0);
    let mut world = World::with(limits());
    world.send(&[head(1, false), head(3, false), fill(1, 5), fill(3, 5)].concat()).expect("open");
    let found = world.send(&fill(3, 1)).expect_err("closed");
    assert_eq!(found.code, ErrorCode::FLOW_CONTROL_ERROR);

    let (open, most) = (head(1, true), (1 << 31) - 1);
    closes(&window_update(0, most), ErrorCode::FLOW_CONTROL_ERROR);
    closes(&window_update(0, 0), ErrorCode::PROTOCOL_ERROR);
    resets(&[&open[..], &window_update(1, most)].concat(), 1, ErrorCode::FLOW_CONTROL_ERROR);
    resets(&[&open[..], &window_update(1, 0)].concat(), 1, ErrorCode::PROTOCOL_ERROR);
    let grow = settings(&[(frame::INITIAL_WINDOW_SIZE, most)]);
    closes(&[&open[..], &window_update(1, 1), &grow].concat(), ErrorCode::FLOW_CONTROL_ERROR);
}

#[test]
fn unknown_frames_are_ignored_and_pings_answered() {
    let mut world = is_fine(&framed(0xee, 0xff, 77, b"whatever"));
    world.send(&framed(frame::PING, 0, 0, b"12345678")).expect("open");
    let payload = b"12345678".to_vec();
    let ack = Seen { kind: frame::PING, flags: frame::ACK, stream: 0, payload };
    assert_eq!(world.frames(), [ack]);
    world.send(&framed(frame::PING, frame::ACK, 0, b"12345678")).expect("open");
    assert!(world.frames().is_empty());
}

#[test]
fn a_request_beyond_the_limit_is_refused() {
    let mut world = World::with(Limits { streams_max: 2, ..<_>::default() });
    world.send(&[head(1, true), head(3, true), head(5, true)].concat()).expect("open");
    assert_eq!(world.told(), ["1 head /p end", "3 head /p end"]);
    let frames = world.frames();
    assert_eq!(frames[0].number(), ErrorCode::REFUSED_STREAM.0);
    world.answer(1);
    world.send(&head(7, true)).expect("open");
    assert_eq!(world.told(), ["7 head /p end"]);
}

#[test]
fn a_client_that_shrinks_the_table_is_told_once_that_it_is_empty() {
    let mut world = World::new();
    world.send(&settings(&[(frame::HEADER_TABLE_SIZE, 0)])).expect("open");
    world.send(&[head(1, true), head(3, true)].concat()).expect("open");
    world.frames();
    world.answer(1);
    world.answer(3);
    let heads: Vec<_> = world.frames().into_iter().map(|seen| seen.payload).collect();
    assert_eq!((&heads[0][..], &heads[3][..]), (&[0x20, 0x88][..], &[0x88][..]));
}
