//! Any cut of the bytes means the same; any bytes at all are survived.

use proptest::prelude::*;

use super::*;

/// A frame that a client may send, right or wrong.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = || prop_oneof![6 => (0_u32..12).prop_map(|n| 2 * n + 1), 1 => 0_u32..9];
    let bytes = |size| prop::collection::vec(any::<u8>(), 0..size);
    let ping = any::<[u8; 8]>().prop_map(|payload| framed(frame::PING, 0, 0, &payload));
    prop_oneof![
        8 => (stream(), any::<bool>()).prop_map(|(stream, end)| head(stream, end)),
        6 => (stream(), bytes(40), any::<bool>()).prop_map(|(s, bytes, end)| data(s, &bytes, end)),
        2 => (stream(), 1_usize..7).prop_map(|(stream, cut)| {
            let block = post(&[("a", "b")]);
            let (front, back) = block.split_at(cut);
            let back = framed(frame::CONTINUATION, frame::END_HEADERS, stream, back);
            [framed(frame::HEADERS, 0, stream, front), back].concat()
        }),
        1 => ping,
        1 => (0_u32..100_000).prop_map(|n| settings(&[(frame::INITIAL_WINDOW_SIZE, n)])),
        1 => (stream(), 0_u32..70_000).prop_map(|(stream, more)| window_update(stream, more)),
        1 => stream().prop_map(rst_stream),
        1 => (stream(), bytes(9)).prop_map(|(s, bytes)| framed(frame::PRIORITY, 0, s, &bytes)),
        1 => (stream(), bytes(60)).prop_map(|(s, block)| headers(s, &block, true)),
        1 => (any::<u8>(), any::<u8>(), stream(), bytes(30))
            .prop_map(|(kind, flags, stream, bytes)| framed(kind, flags, stream, &bytes)),
    ]
}

/// Everything that can be seen of a connection fed with these pieces.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<Closed>, Vec<u8>) {
    let mut world = World::raw(Limits::default());
    let mut result = Ok(());
    for piece in pieces {
        result = result.and_then(|()| world.send(piece));
    }
    for stream in std::mem::take(&mut world.owner.whole) {
        world.answer(stream.0);
    }
    (world.told(), result.err(), world.connection.output().to_vec())
}

proptest! {
    #[test]
    fn any_cut_means_the_same(
        frames in prop::collection::vec(any_frame(), 0..40),
        cuts in prop::collection::vec(1_usize..60, 1..40),
    ) {
        let bytes = [greeting(), frames.concat()].concat();
        let mut rest = &bytes[..];
        let pieces = cuts.iter().cycle().map_while(|size| {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        let cut: Vec<&[u8]> = pieces.collect();
        let whole = run([&bytes[..]].into_iter());
        prop_assert_eq!(&run(cut.into_iter()), &whole);
        prop_assert_eq!(&run(bytes.chunks(1)), &whole);
    }

    #[test]
    fn garbage_is_survived_in_little_memory(
        frames in prop::collection::vec(any_frame(), 0..60),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        times in prop::collection::vec(0_u64..20_000, 1..20),
    ) {
        let mut bytes = frames.concat();
        for (place, byte) in noise {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        let mut world = World::new();
        for (piece, time) in bytes.chunks(97).zip(times.iter().cycle()) {
            world.now = at(world.now.0 + time);
            if world.send(piece).is_err() || world.tick(world.now.0).is_err() {
                break;
            }
            for (stream, size) in std::mem::take(&mut world.owner.taken) {
                world.connection.consumed(stream, size);
            }
            for stream in std::mem::take(&mut world.owner.whole) {
                world.answer(stream.0);
            }
            world.frames();
            prop_assert!(world.connection.partial.capacity() <= 2 * 16_393);
            prop_assert!(world.connection.streams_open() <= frames.len());
        }
        world.connection.lost(&mut world.owner);
        prop_assert_eq!(world.connection.streams_open(), 0);
    }

    #[test]
    fn pure_noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut world = World::new();
        let _ = world.send(&bytes);
        let _ = world.tick(100_000);
    }
}
