//! The store's own cost: a segment built, checked and recovered, and changes pushed, sealed and
//! read, per record. No disk is involved.
//!
//! Run plainly it is a smoke test; `cargo bench --bench store` measures.
#![expect(clippy::print_stdout, reason = "a benchmark prints its numbers")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use ringd::frame::checksum;
use ringd::store::{
    Builder, ChangeRef, Command, Config, Event, FileId, Identity, Lookup, Manifest, Parts,
    Recovery, Sealed, Step, Store,
};
use ringd::types::{Change, LeaseId, Location, Revision, ShardId};

const IDENTITY: Identity = Identity { store_id: 7, shard: ShardId(0) };
const KEY_SIZE: usize = 64;
const VALUE_SIZE: usize = 256;

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes one segment of the next changes.
fn build(number: u64, main: &mut i64, end: i64, files: &mut Files) -> Sealed {
    let config = Config::default();
    let mut builder = Builder::new(IDENTITY, number, config.block_size);
    let (mut file, value) = (Vec::new(), [b'v'; VALUE_SIZE]);
    let take = |builder: &mut Builder, file: &mut Vec<u8>| {
        let at = file.len();
        file.resize(at + builder.ready(), 0);
        builder.fill(&mut file[at..]);
    };
    while *main < end && builder.data_size() < config.seal_size {
        let key = format!("{:0KEY_SIZE$}", u64::try_from(*main).expect("positive") * 0x9e37);
        builder.push(&ChangeRef {
            location: Location { main: Revision(*main), sub: 0 },
            key: key.as_bytes(),
            value: &value,
            lease: LeaseId(0),
            created: Revision(*main),
            version: 1,
        });
        *main += 1;
        if builder.ready() >= config.write_size {
            take(&mut builder, &mut file);
        }
    }
    builder.finish();
    take(&mut builder, &mut file);
    let sealed = builder.into_sealed();
    files.insert(sealed.file().to_string(), file);
    sealed
}

/// Reads the files as a start does.
fn recover(files: &Files) -> (Parts, usize) {
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    let mut recovery = Recovery::new(Config::default(), IDENTITY.shard, IDENTITY.store_id, &list);
    let mut told = 0;
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                let at = usize::try_from(offset).expect("64 bits");
                recovery.handle(&files[&file.to_string()][at..at + size]);
            }
            Step::Entries => {
                for entry in recovery.entries() {
                    told += 1;
                    black_box(entry);
                }
            }
            Step::Done(recovered) => return (recovered.parts, told),
            Step::Refused(damage) => panic!("{damage}"),
        }
    }
}

/// A store without a file.
fn empty(config: Config) -> Store {
    match Recovery::new(config, IDENTITY.shard, IDENTITY.store_id, &[]).poll() {
        Step::Done(recovered) => Store::new(*recovered),
        step @ (Step::Read { .. } | Step::Entries | Step::Refused(_)) => unreachable!("{step:?}"),
    }
}

/// Does what the store asks for, without a disk, until it is sealed.
fn settle(store: &mut Store, buffer: &mut Vec<u8>) {
    while let Some(command) = store.poll() {
        let event = match command {
            Command::Write { id, size, .. } => {
                buffer.resize(size, 0);
                store.fill(id, buffer);
                Event::Written { id }
            }
            Command::Create { .. }
            | Command::Finish { .. }
            | Command::Replace { .. }
            | Command::Remove { .. } => Event::Done,
            Command::Read { .. } => unreachable!("everything is in memory"),
        };
        store.handle(event).expect("nothing was read");
    }
    assert!(store.sealed().is_some(), "it was asked to seal");
}

/// Reads all values in an order of no use to the cache of the processor.
fn read(store: &Store, records: i64) -> usize {
    let mut found = 0;
    for step in 0..records {
        let main = Revision((step * 7_919) % records + 1);
        match store.value(Location { main, sub: 0 }) {
            Some(Lookup::Here(value)) => found += value.as_slice().len(),
            Some(Lookup::Away(_)) | None => unreachable!("everything is in memory"),
        }
    }
    found
}

/// Changes pushed, read, sealed, and read again, in runs of `records`.
fn machine(records: i64) {
    let config = Config { cache_size: 1 << 30, tail_size_max: 1 << 30, ..Config::default() };
    let mut store = empty(config);
    let key = Bytes::from(vec![b'k'; KEY_SIZE]);
    let value = Bytes::from(vec![b'v'; VALUE_SIZE]);
    let per = |began: Instant| began.elapsed().as_nanos() / u128::try_from(records).expect("some");
    let began = Instant::now();
    for main in 1..=records {
        let (main, lease) = (Revision(main), LeaseId(0));
        let (key, value) = (key.clone(), value.clone());
        let location = Location { main, sub: 0 };
        store.push(Change { location, key, value, lease, created: main, version: 1 });
    }
    println!("push     {:6} ns per record", per(began));
    let began = Instant::now();
    let found = read(&store, records);
    println!("tail     {:6} ns per value read, {found} bytes", per(began));
    let began = Instant::now();
    store.seal(1, vec![1]);
    settle(&mut store, &mut Vec::new());
    println!("seal     {:6} ns per record", per(began));
    let began = Instant::now();
    while store.work(1000) {}
    println!("shed     {:6} ns per record", per(began));
    let began = Instant::now();
    let found = read(&store, records);
    println!("cached   {:6} ns per value read, {found} bytes", per(began));
}

fn main() {
    let records: i64 = if std::env::args().any(|it| it == "--bench") { 1_000_000 } else { 2_000 };
    let (mut files, mut segments, mut main) = (Files::new(), Vec::new(), 1);
    let per = |began: Instant| began.elapsed().as_nanos() / u128::try_from(records).expect("some");

    let began = Instant::now();
    while main <= records {
        segments.push(build(segments.len() as u64, &mut main, records + 1, &mut files).listed());
    }
    println!("build    {:6} ns per record", per(began));

    let number_next = segments.len() as u64;
    let manifest = Manifest {
        identity: IDENTITY,
        sequence: 1,
        number_next,
        segments,
        state: Vec::new(),
        arrived: false,
    };
    files.insert(FileId::Manifest.to_string(), manifest.encode());
    let began = Instant::now();
    let (parts, told) = recover(&files);
    println!("recover  {:6} ns per record, {told} of them", per(began));
    let memory: usize = parts.segments.iter().map(Sealed::memory_size).sum();
    println!("memory   {:6} bytes in all", memory);

    let began = Instant::now();
    let mut found = 0;
    for step in 0..records {
        let main = Revision((step * 7_919) % records + 1);
        let location = Location { main, sub: 0 };
        let at = parts.segments.partition_point(|it| it.summary().last < location);
        let sealed = &parts.segments[at];
        let ordinal = sealed.find(location).expect("it is there");
        found ^= sealed.place(ordinal).start;
    }
    println!("find     {:6} ns per record", per(began));

    let (began, mut size) = (Instant::now(), 0);
    for sealed in &parts.segments {
        let file = &files[&sealed.file().to_string()];
        for block in 0..sealed.block_count() {
            let (offset, length) = sealed.block_extent(block);
            let at = usize::try_from(offset).expect("64 bits");
            sealed.check(block, &file[at..at + length]).expect("it is whole");
            size += length;
        }
    }
    println!("check    {:6} ns per record, {size} bytes", per(began));
    let hash = checksum(&[&files["manifest"], &found.to_le_bytes()]);
    println!("hash     {hash:08x}");
    machine(records);
}
