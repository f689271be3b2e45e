//! Flow control both ways, against a client that counts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn windows_reopen_when_half_was_used() {
    let limits = Limits { window_stream: 100_000, window_connection: 150_000, ..<_>::default() };
    let mut world = World::with(limits);
    let send = |world: &mut World| {
        world.send(&data(1, &[0; 10_000], false)).expect("open");
        world.connection.consumed(StreamId(1), 10_000);
        world.frames().iter().map(|seen| (seen.stream, seen.number())).collect::<Vec<_>>()
    };
    world.send(&head(1, false)).expect("open");
    for n in 1..=30 {
        let expected = match n % 5 {
            0 => vec![(1, 50_000)],
            _ if n % 8 == 0 => vec![(0, 80_000)],
            _ => vec![],
        };
        let found = send(&mut world);
        let connection: Vec<_> = found.iter().filter(|(id, _)| *id == 0).collect();
        if n % 5 == 0 {
            assert!(found.contains(&expected[0]), "{n}: {found:?}");
        }
        assert!(connection.iter().all(|(_, more)| *more == 80_000), "{n}: {found:?}");
    }
}

#[test]
fn what_was_not_told_as_used_returns_with_the_stream() {
    let limits = Limits { window_connection: 100_000, ..<_>::default() };
    let mut world = World::with(limits);
    for n in 0..50 {
        let stream = 2 * n + 1;
        world
            .send(&[head(stream, false), data(stream, &[0; 16_000], true)].concat())
            .expect("open");
        world.answer(stream);
        world.send(&window_update(0, 6)).expect("open");
    }
    for n in 50..100 {
        let stream = 2 * n + 1;
        let bytes = [head(stream, false), data(stream, &[0; 16_000], false), rst_stream(stream)];
        world.send(&bytes.concat()).expect("a cancelled request returns its window too");
    }
}

#[test]
fn a_request_that_goes_on_after_its_reply_was_queued_is_dropped() {
    let mut world = World::new();
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 0)])).expect("open");
    world.send(&head(1, false)).expect("open");
    assert_eq!(world.answer(1), Some(1));
    world.told();
    for _ in 0..3000 {
        world.send(&data(1, &[0; 16_000], false)).expect("its window reopens");
        world.frames();
    }
    assert!(world.told().is_empty());
    world.send(&window_update(1, 6)).expect("open");
    let kinds: Vec<_> = world.frames().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [frame::DATA, frame::HEADERS, frame::RST_STREAM]);
}

#[test]
fn streams_take_turns_when_a_window_opens() {
    let mut world = World::new();
    let (block, trailers) = blocks();
    for stream in [1, 3, 5] {
        world.send(&head(stream, true)).expect("open");
    }
    for stream in [1, 3, 5] {
        world.connection.reply_unary(StreamId(stream), &block, &[7; 60_000], &trailers);
    }
    let first: Vec<_> =
        world.frames().iter().filter(|seen| seen.kind == frame::DATA).map(|s| s.stream).collect();
    assert_eq!(first, [1, 1, 1, 1, 3], "the first comes whole, the window ends in the second");
    world.send(&window_update(0, 1 << 20)).expect("open");
    let turns: Vec<_> =
        world.frames().iter().filter(|seen| seen.kind == frame::DATA).map(|s| s.stream).collect();
    assert_eq!(turns, [3, 5, 3, 5, 3, 5, 3, 5]);
    assert_eq!(world.connection.streams_open(), 0);
}

#[test]
fn a_negative_window_must_be_filled_first() {
    let mut world = World::new();
    world.send(&head(1, true)).expect("open");
    let (block, trailers) = blocks();
    world.connection.reply_head(StreamId(1), &block, false);
    world.connection.reply_data(StreamId(1), &[7; 60_000], false);
    world.frames();
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 50_000)])).expect("open");
    world.connection.reply_data(StreamId(1), &[8; 5], false);
    world.connection.reply_trailers(StreamId(1), &trailers);
    world.send(&window_update(1, 10_000)).expect("open");
    assert!(world.frames().iter().all(|seen| seen.kind == frame::SETTINGS), "the window is 0");
    world.send(&window_update(1, 4)).expect("open");
    assert_eq!(world.frames()[0].payload, [8; 4]);
    world.send(&settings(&[(frame::INITIAL_WINDOW_SIZE, 50_001)])).expect("open");
    let kinds: Vec<_> = world.frames().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [frame::SETTINGS, frame::DATA, frame::HEADERS]);
}

/// One thing that happens in a reply's life, on one of eight streams.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Reply(usize, usize),
    Finish(usize),
    Widen(usize, u32),
    WidenAll(u32),
    Resize(u32),
    Cancel(usize),
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0_usize..8;
    prop_oneof![
        3 => Just(Step::Open),
        6 => (stream.clone(), 0_usize..40_000).prop_map(|(s, n)| Step::Reply(s, n)),
        2 => stream.clone().prop_map(Step::Finish),
        3 => (stream.clone(), 600_u32..30_000).prop_map(|(s, n)| Step::Widen(s, n)),
        3 => (600_u32..60_000).prop_map(Step::WidenAll),
        1 => (0_u32..80_000).prop_map(Step::Resize),
        1 => stream.prop_map(Step::Cancel),
        4 => (1_usize..60_000).prop_map(Step::Read),
    ]
}

/// What the client knows of one stream.
#[derive(Debug, Default)]
struct Model {
    window: i64,
    written: Vec<u8>,
    read: Vec<u8>,
    is_finished: bool,
    is_ended: bool,
    is_cancelled: bool,
}

/// The client's book-keeping.
struct Book {
    world: World,
    streams: BTreeMap<u32, Model>,
    window: i64,
    initial: i64,
    unread: Vec<u8>,
}

impl Book {
    fn pick(&self, place: usize) -> Option<u32> {
        let open: Vec<u32> = self.streams.keys().rev().take(8).copied().collect();
        open.get(place).copied()
    }

    fn step(&mut self, step: &Step) {
        let (block, trailers) = blocks();
        match *step {
            Step::Open => {
                let id = self.streams.keys().last().map_or(1, |last| last + 2);
                self.world.send(&head(id, true)).expect("open");
                self.world.connection.reply_head(StreamId(id), &block, false);
                let model = Model { window: self.initial, ..Model::default() };
                self.streams.insert(id, model);
            }
            Step::Resize(size) => {
                let change = i64::from(size) - self.initial;
                self.initial += change;
                self.streams.values_mut().for_each(|model| model.window += change);
                let bytes = settings(&[(frame::INITIAL_WINDOW_SIZE, size)]);
                self.world.send(&bytes).expect("open");
            }
            Step::WidenAll(more) => {
                self.window += i64::from(more);
                self.world.send(&window_update(0, more)).expect("open");
            }
            Step::Read(size) => self.read(size),
            Step::Reply(place, _)
            | Step::Finish(place)
            | Step::Cancel(place)
            | Step::Widen(place, _) => {
                let Some(id) = self.pick(place) else { return };
                let model = self.streams.get_mut(&id).expect("picked");
                let connection = &mut self.world.connection;
                let is_open = !model.is_finished && !model.is_cancelled;
                if let Step::Reply(_, size) = *step {
                    let from = model.written.len();
                    let byte = |n: usize| (n % 251).to_le_bytes()[0];
                    let data: Vec<u8> = (from..from + size).map(byte).collect();
                    connection.reply_data(StreamId(id), &data, false);
                    if is_open {
                        model.written.extend(data);
                    }
                } else if let Step::Widen(_, more) = *step {
                    model.window += i64::from(more);
                    self.world.send(&window_update(id, more)).expect("open");
                } else if matches!(step, Step::Finish(_)) {
                    let call = connection.reply_trailers(StreamId(id), &trailers);
                    assert_eq!(call, is_open.then_some(id));
                    model.is_finished |= is_open;
                } else {
                    model.is_cancelled = true;
                    self.world.send(&rst_stream(id)).expect("open");
                }
            }
        }
    }

    /// The client takes some bytes of output and looks at the frames that are whole.
    fn read(&mut self, size: usize) {
        let output = self.world.connection.output();
        let size = size.min(output.len());
        self.unread.extend(&output[..size]);
        self.world.connection.sent(size);
        let mut rest = &self.unread[..];
        while let Some(header) = Header::read(rest) {
            let Some(payload) = rest.get(9..9 + header.size) else { break };
            rest = &rest[9 + header.size..];
            let Some(model) = self.streams.get_mut(&header.stream) else { continue };
            assert!(!model.is_ended, "nothing comes after the end");
            if header.kind == frame::DATA {
                model.window -= i64::try_from(payload.len()).expect("small");
                self.window -= i64::try_from(payload.len()).expect("small");
                assert!(self.window >= 0, "the connection's window is kept to");
                assert!(payload.len() <= 16_384, "the least frame size is kept to");
                model.read.extend(payload);
            }
            model.is_ended |= header.has(frame::END_STREAM) && header.kind != frame::RST_STREAM;
        }
        self.unread = rest.to_vec();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever windows do: no more is sent than they allow, each reply arrives in order, and all
    /// of it once they open.
    #[test]
    fn replies_arrive_whole_within_their_windows(steps in prop::collection::vec(step(), 1..120)) {
        let limits = Limits {
            output_size_max: 1 << 15,
            settings_max: 1000,
            stall_timeout: 0,
            ..Limits::default()
        };
        let mut book = Book {
            world: World::with(limits),
            streams: BTreeMap::new(),
            window: 65_535,
            initial: 65_535,
            unread: Vec::new(),
        };
        for step in &steps {
            book.step(step);
            let queued: usize =
                book.streams.keys().map(|id| book.world.connection.queued(StreamId(*id))).sum();
            prop_assert_eq!(queued, book.world.connection.queued_total());
        }
        book.step(&Step::WidenAll(1 << 30));
        for id in book.streams.keys().copied().collect::<Vec<_>>() {
            book.world.send(&window_update(id, 1 << 29)).expect("open");
            book.streams.get_mut(&id).expect("open").window += 1 << 29;
        }
        while !book.world.connection.output().is_empty() {
            book.read(50_000);
        }
        for (id, model) in &book.streams {
            prop_assert!(model.window >= 0, "stream {}", id);
            prop_assert!(model.written.starts_with(&model.read), "stream {}", id);
            let is_whole = model.is_cancelled || model.written.len() == model.read.len();
            prop_assert!(is_whole, "stream {}", id);
            prop_assert!(model.is_cancelled || model.is_ended == model.is_finished);
        }
    }
}
