//! Each known attack, with what it would cost without its limit; and clients that mean well.

use super::*;

impl Connection<u32> {
    /// Bytes that this connection holds on to, roughly.
    fn size(&self) -> usize {
        let streams = self.streams.slot_count() * 150;
        self.partial.capacity()
            + self.block.capacity()
            + self.output.capacity()
            + self.queued
            + self.ready.capacity() * 4
            + streams
    }
}

/// Sends until the connection closes; the client reads all answers on the way.
///
/// Returns how often it was sent.
#[track_caller]
fn flood(world: &mut World, mut next: impl FnMut(u32) -> Vec<u8>, reason: &str) -> u32 {
    for n in 0..200_000 {
        if let Err(found) = world.send(&next(n)) {
            assert_eq!((found.code, found.reason), (ErrorCode::ENHANCE_YOUR_CALM, reason));
            let goaway = world.frames().pop().expect("a last frame");
            assert_eq!(&goaway.payload[8..], reason.as_bytes());
            return n;
        }
        world.frames();
        assert!(world.connection.size() < 4 << 20, "bounded");
    }
    panic!("the flood was never stopped");
}

#[test]
fn rapid_reset() {
    let mut world = World::new();
    let pair = |n| [head(2 * n + 1, true), rst_stream(2 * n + 1)].concat();
    let count = flood(&mut world, pair, "too many resets");
    assert_eq!(count, Limits::default().resets_max);
    assert_eq!(world.connection.streams.slot_count(), 1);
}

/// A lease that is renewed once is a stream that is cancelled after its one answer: five hundred of
/// these a second ended the connection.
#[test]
fn cancelled_streams_whose_answer_has_begun_are_welcome() {
    let mut world = World::new();
    world.send(&window_update(0, 1 << 30)).expect("open");
    let (block, _) = blocks();
    let answer = |world: &mut World, id| {
        assert_eq!(world.connection.reply_head(StreamId(id), &block, false), None);
        assert_eq!(world.connection.reply_data(StreamId(id), b"renewed", false), None);
    };
    let limit = Limits::default().resets_max;
    for id in (0..2 * limit).map(|n| 2 * n + 1) {
        world.send(&[head(id, false), data(id, b"renew", false)].concat()).expect("open");
        answer(&mut world, id);
        world.frames();
        world.send(&rst_stream(id)).expect("open");
    }
    // And all at once.
    let ids = (2 * limit..4 * limit).map(|n| 2 * n + 1);
    world.send(&ids.clone().flat_map(|id| head(id, false)).collect::<Vec<u8>>()).expect("open");
    ids.clone().for_each(|id| answer(&mut world, id));
    world.send(&ids.flat_map(rst_stream).collect::<Vec<u8>>()).expect("open");
    assert_eq!(world.connection.streams_open(), 0);
}

/// While one stream was open, all slots that there had ever been were kept, and gone through for
/// each look at all streams.
#[test]
fn streams_that_are_gone_leave_few_slots_behind() {
    let mut world = World::new();
    let streams = || (0..1_000).map(|n| 2 * n + 1);
    streams().for_each(|id| world.send(&head(id, true)).expect("it is open"));
    streams().skip(1).for_each(|id| world.send(&rst_stream(id)).expect("it is gone"));
    world.tick(1).expect("no fault");
    assert_eq!(world.connection.streams.slot_count(), 1);
    world.connection.check_all();
    world.frames();
    assert!(world.answer(1).is_some(), "the one that is open is answered");
}

#[test]
fn resets_that_we_are_made_to_send() {
    let mut world = World::new();
    let bad = |id| framed(frame::PRIORITY, 0, id, &[0; 4]);
    let pair = |n| [head(2 * n + 1, false), bad(2 * n + 1)].concat();
    let count = flood(&mut world, pair, "too many stream errors");
    assert_eq!(count, Limits::default().stream_errors_max);
}

#[test]
fn malformed_requests() {
    let mut world = World::new();
    let count = flood(&mut world, |n| headers(2 * n + 1, &[0x82], true), "too many stream errors");
    assert_eq!(count, Limits::default().stream_errors_max);
}

#[test]
fn continuation_without_end() {
    let mut world = World::new();
    world.send(&framed(frame::HEADERS, 0, 1, &post(&[]))).expect("open");
    let next = |_| framed(frame::CONTINUATION, 0, 1, &[]);
    assert_eq!(flood(&mut world, next, "header block too large"), 16);
    let mut world = World::new();
    world.send(&framed(frame::HEADERS, 0, 1, &post(&[]))).expect("open");
    let next = |_| framed(frame::CONTINUATION, 0, 1, &[0; 16_000]);
    assert_eq!(flood(&mut world, next, "header block too large"), 4);
}

#[test]
fn header_bombs() {
    let mut bomb = post(&[]);
    bomb.extend([0x40, 1, b'a', 0x7f, 0x80 + 81, 30]);
    bomb.resize(bomb.len() + 4048, b'x');
    bomb.resize(bomb.len() + 40, 0xbe);
    let mut world = World::new();
    world.send(&headers(1, &bomb, true)).expect("a list too large is not read");
    assert_eq!(world.frames()[0].number(), ErrorCode::ENHANCE_YOUR_CALM.0);
    assert!(world.told().is_empty());
    world.send(&head(3, true)).expect("open");
    assert_eq!(world.told(), ["3 head /p end"]);
    bomb.resize(16_000, 0xbe);
    let found = world.send(&headers(5, &bomb, true)).expect_err("closed");
    assert_eq!(found.code, ErrorCode::ENHANCE_YOUR_CALM);
    assert!(world.connection.size() < 1 << 20);
}

#[test]
fn settings_without_end() {
    let mut world = World::new();
    let window = |n| settings(&[(frame::INITIAL_WINDOW_SIZE, n)]);
    // One came with the greeting.
    let expected = Limits::default().settings_max - 1;
    assert_eq!(flood(&mut world, window, "too many settings"), expected);
}

#[test]
fn settings_of_many_windows_cost_one_walk() {
    let mut world = World::new();
    world.send(&head(1, true)).expect("open");
    let window =
        |n: u32| (frame::INITIAL_WINDOW_SIZE, if n.is_multiple_of(2) { 0 } else { 1 << 30 });
    let many: Vec<_> = (0..2700).map(window).collect();
    world.send(&settings(&many)).expect("open");
    assert_eq!(world.connection.streams.get(0).send_window, 1 << 30);
}

#[test]
fn pings_without_end() {
    let mut world = World::new();
    let ping = |_| framed(frame::PING, 0, 0, &[0; 8]);
    assert_eq!(flood(&mut world, ping, "too_many_pings"), 3);
}

#[test]
fn pings_now_and_then_and_pings_about_data_are_welcome() {
    let mut world = World::new();
    let ping = framed(frame::PING, 0, 0, &[0; 8]);
    for n in 0..100 {
        world.now = at(5000 * n);
        world.send(&ping).expect("every five seconds");
    }
    for n in 0..1000 {
        world.send(&head(2 * n + 1, true)).expect("open");
        world.answer(2 * n + 1);
        world.send(&ping.repeat(3)).expect("to measure the round trip of what was sent");
        world.frames();
    }
}

#[test]
fn frames_of_no_use() {
    let limits = || Limits { useless_frames_max: 2000, ..<_>::default() };
    type Kind = (&'static str, fn(u32) -> Vec<u8>);
    let kinds: [Kind; 6] = [
        ("priority", |n| framed(frame::PRIORITY, 0, 2 * n + 3, &[0, 0, 0, 1, 1])),
        ("unknown", |_| framed(0xee, 0, 0, &[])),
        ("empty data", |_| data(1, &[], false)),
        ("padding", |_| framed(frame::DATA, frame::PADDED, 1, &[0])),
        ("pongs", |_| framed(frame::PING, frame::ACK, 0, &[0; 8])),
        ("acknowledgements", |_| framed(frame::SETTINGS, frame::ACK, 0, &[])),
    ];
    for (name, kind) in kinds {
        let mut world = World::with(limits());
        world.send(&head(1, false)).expect("open");
        let count = flood(&mut world, kind, "too many useless frames");
        assert_eq!(count, 2000, "{name}");
    }
}

#[test]
fn frames_for_streams_that_are_gone() {
    for rest in [window_update(1, 1000), rst_stream(1), data(1, b"x", false)] {
        for is_answered in [true, false] {
            let mut world = World::with(Limits { useless_frames_max: 2000, ..<_>::default() });
            world.send(&head(1, true)).expect("open");
            if is_answered {
                world.answer(1);
            } else {
                world.send(&rst_stream(1)).expect("open");
            }
            flood(&mut world, |_| rest.clone(), "too many useless frames");
        }
    }
}

#[test]
fn late_frames_of_a_busy_client_are_welcome() {
    let limits = Limits { useless_frames_max: 10, resets_max: 3, ..<_>::default() };
    let mut world = World::with(limits);
    for n in 0..1000 {
        let (stream, cancelled) = (4 * n + 1, 4 * n + 3);
        world.send(&[head(stream, true), head(cancelled, true)].concat()).expect("open");
        world.send(&rst_stream(cancelled)).expect("open");
        world.answer(stream);
        let late = [window_update(stream, 20_000), window_update(0, 6), rst_stream(stream)];
        world.send(&late.concat()).expect("open");
        world.frames();
    }
}

#[test]
fn tiny_windows() {
    let limits = Limits { tiny_updates_max: 1000, ..<_>::default() };
    let mut world = World::with(limits);
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 1)])).expect("open");
    world.send(&head(1, true)).expect("open");
    let (head, trailers) = blocks();
    world.connection.reply_unary(StreamId(1), &head, &[7; 100_000], &trailers);
    let count = flood(&mut world, |_| window_update(1, 1), "too many tiny window updates");
    assert_eq!(count, 1000);
}

#[test]
fn a_tiny_window_for_all_streams() {
    let limits = Limits { tiny_updates_max: 1000, ..<_>::default() };
    let mut world = World::with(limits);
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 1 << 20)])).expect("open");
    world.send(&head(1, true)).expect("open");
    let (head, trailers) = blocks();
    world.connection.reply_unary(StreamId(1), &head, &[7; 100_000], &trailers);
    let count = flood(&mut world, |_| window_update(0, 1), "too many tiny window updates");
    assert_eq!(count, 1000);
}

#[test]
fn small_windows_returned_for_what_was_read_are_welcome() {
    let mut world = World::new();
    for n in 0..5000 {
        world.send(&head(2 * n + 1, true)).expect("open");
        world.answer(2 * n + 1);
        world.frames();
        world.send(&window_update(0, 6)).expect("what was read is given back");
    }
}

/// gRPC's C core (Python, C++, Ruby, PHP) sends two small updates with each call. Both were counted
/// and an answer excused one, or none if it was a refusal: after a thousand calls such a client was
/// hung up on.
#[test]
fn small_windows_opened_for_what_is_to_come_are_welcome() {
    let mut world = World::new();
    let (_, trailers) = blocks();
    for n in 0..5000 {
        let stream = 2 * n + 1;
        let updates = [window_update(stream, 5), window_update(0, 40)];
        world.send(&[head(stream, false), updates.concat()].concat()).expect("open");
        world.send(&data(stream, b"request", true)).expect("open");
        if n % 2 == 0 {
            world.answer(stream);
        } else {
            world.connection.reply_head(StreamId(stream), &trailers, true);
        }
        world.frames();
    }
    // And all at once, before any is answered.
    let call = |id| [head(id, true), window_update(id, 5), window_update(0, 5)].concat();
    let ids = (5000..35_000).map(|n| 2 * n + 1);
    world.send(&ids.flat_map(call).collect::<Vec<u8>>()).expect("open");
}

#[test]
fn a_client_that_opens_no_window() {
    let limits = Limits { queued_size_max: 1 << 20, ..<_>::default() };
    let mut world = World::with(limits);
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 0)])).expect("open");
    let (block, trailers) = blocks();
    for n in 0..300 {
        let stream = 2 * n + 1;
        world.send(&head(stream, true)).expect("open");
        let call = world.connection.reply_unary(StreamId(stream), &block, &[7; 10_000], &trailers);
        assert_eq!(call, Some(stream));
        assert!(world.connection.queued_total() < (1 << 20) + 10_100);
    }
    assert!(world.connection.is_congested());
    let frames = world.frames();
    let calm = ErrorCode::ENHANCE_YOUR_CALM.0;
    let is_reset = |seen: &&Seen| seen.kind == frame::RST_STREAM && seen.number() == calm;
    assert_eq!(frames.iter().filter(is_reset).count(), 300 - 105);
    assert_eq!(world.connection.queued(StreamId(1)), 10_000 + trailers.len());
    // An owner that received nothing now would never hear of a window.
    assert!(!world.connection.is_congested());
    world.tick(1000).expect("open");
    assert_eq!(world.tick(61_000).expect_err("closed").reason, "too slow to read");
    assert_eq!(world.connection.queued_total(), 0);
}

#[test]
fn a_client_that_never_reads() {
    let limits = Limits { output_size_max: 1 << 16, requests_open_max: 100, ..<_>::default() };
    let bounds = limits.clone();
    for is_short in [true, false] {
        let mut world = World::with(limits.clone());
        let (block, _) = blocks();
        let mut result = Ok(());
        let mut count = 0;
        while result.is_ok() {
            result = world.send(&head(2 * count + 1, true));
            let stream = StreamId(2 * count + 1);
            if is_short {
                world.connection.reply_head(stream, &block, true);
            } else {
                world.connection.reply_unary(stream, &block, &[7; 1000], &block);
            }
            count += 1;
            assert!(world.connection.size() < 1 << 20, "bounded");
        }
        let refused = bounds.stream_errors_max + bounds.requests_open_max;
        let (least, reason) = if is_short {
            ((1 << 18) / 10, "reads none of the answers")
        } else {
            (refused, "too many stream errors")
        };
        assert!((least..least + 1500).contains(&count), "{count}");
        assert_eq!(result.expect_err("closed").reason, reason);
        assert!(world.connection.is_congested(), "an owner that asks does not come so far");
    }
}

#[test]
fn every_open_request_may_be_answered_at_once() {
    let mut world = World::with(Limits { requests_open_max: 20_000, ..<_>::default() });
    let ids = (0..20_000).map(|n| 2 * n + 1);
    world.send(&ids.clone().flat_map(|id| head(id, true)).collect::<Vec<u8>>()).expect("open");
    assert_eq!(ids.filter(|id| world.answer(*id).is_some()).count(), 20_000);
    world.send(&head(50_001, true)).expect("open");
}

#[test]
fn a_reader_that_stops_is_dropped_in_time() {
    let mut world = World::new();
    world.tick(100_000).expect("nothing to read");
    world.send(&head(1, true)).expect("open");
    world.answer(1);
    world.tick(159_999).expect("open");
    world.connection.sent(1);
    world.tick(219_998).expect("it still reads");
    assert_eq!(world.tick(219_999).expect_err("closed").reason, "too slow to read");
}

#[test]
fn a_sender_that_drips_is_dropped_in_time() {
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec();
    let half_block = framed(frame::HEADERS, 0, 1, &post(&[]));
    for bytes in [cut(head(1, true)), half_block, vec![0]] {
        let mut world = World::new();
        world.send(&bytes).expect("open");
        world.tick(29_999).expect("open");
        assert_eq!(world.tick(30_000).expect_err("closed").reason, "too slow to send a frame");
    }
    let mut world = World::raw(Limits { settings_timeout: 0, ..<_>::default() });
    world.send(&PREFACE[..10]).expect("open");
    assert!(world.tick(30_000).is_err());
    // One that is always in the middle of some frame but gets on is none.
    let mut world = World::new();
    let bytes = [head(1, false), data(1, b"x", false).repeat(100)].concat();
    for (n, piece) in (0..).zip(bytes.chunks(10)) {
        world.tick(n * 5_000).expect("open");
        world.send(piece).expect("open");
        world.frames();
    }
}

#[test]
fn an_idle_connection_gives_its_memory_back() {
    let mut world = World::new();
    let ids = (0..2000).map(|n| 2 * n + 1);
    world.send(&ids.clone().flat_map(|id| head(id, true)).collect::<Vec<u8>>()).expect("open");
    let (block, trailers) = blocks();
    world.send(&window_update(0, 1 << 30)).expect("open");
    for id in ids {
        world.connection.reply_unary(StreamId(id), &block, &[7; 500], &trailers);
    }
    world.send(&head(5001, true)[..20]).expect("open");
    world.frames();
    world.send(&head(5001, true)[20..]).expect("open");
    world.answer(5001);
    world.frames();
    assert!(world.connection.size() > 1 << 20);
    world.tick(1000).expect("open");
    assert!(world.connection.size() < 1 << 10, "{}", world.connection.size());
}

#[test]
fn a_busy_client_that_cancels_a_few_is_served() {
    let mut world = World::new();
    for round in 0..10 {
        let ids = (0..1000).map(|n| 2 * (1000 * round + n) + 1);
        let open: Vec<u8> = ids.clone().flat_map(|id| head(id, false)).collect();
        world.send(&open).expect("open");
        let body: Vec<u8> = ids.clone().flat_map(|id| data(id, b"body", true)).collect();
        world.send(&body).expect("open");
        for id in ids.clone().step_by(10) {
            world.send(&rst_stream(id)).expect("open");
        }
        let answered = ids.filter(|id| world.answer(*id).is_some()).count();
        assert_eq!(answered, 900);
        let whole = world.frames().iter().filter(|seen| seen.kind == frame::DATA).count();
        assert_eq!(whole, 900);
        world.send(&window_update(0, 6 * 900)).expect("open");
    }
    assert_eq!(world.connection.streams_open(), 0);
}
