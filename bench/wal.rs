//! The log's own cost: append and fill per entry, and recovery per byte. No disk is involved.
//!
//! Run plainly it is a smoke test; `cargo bench --bench wal` measures.
#![expect(clippy::print_stdout, reason = "a benchmark prints its numbers")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use ringd::frame::checksum;
use ringd::types::{LogIndex, ShardId, Term};
use ringd::wal::{Command, Config, Event, FileId, Record, Recovery, Step, Writer};

/// Bytes of an entry: a put of a 256-byte value.
const ENTRY_SIZE: usize = 350;

/// The segments as the log has written them.
struct Disk {
    segments: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    hash: u32,
    keep: bool,
}

impl Disk {
    fn settle(&mut self, writer: &mut Writer) {
        while let Some(command) = writer.poll() {
            match command {
                Command::Write { id, file, offset, size } => {
                    self.write(writer, id, file, offset, size);
                }
                Command::Activate { header, .. } => {
                    if self.keep {
                        let size = usize::try_from(Config::default().segment_size).expect("64 bit");
                        let mut segment = vec![0; size];
                        segment[..header.len()].copy_from_slice(&header);
                        self.segments.push(segment);
                    }
                    writer.handle(Event::Done);
                }
                Command::Read { .. } => unreachable!("nobody lags"),
                Command::Create { .. }
                | Command::Recycle { .. }
                | Command::Remove { .. }
                | Command::Sync { .. } => writer.handle(Event::Done),
            }
        }
        while writer.durable().is_some() {}
    }

    fn write(&mut self, writer: &mut Writer, id: u64, file: FileId, offset: u64, size: usize) {
        if let (true, FileId::Segment(segment)) = (self.keep, file) {
            let segment = usize::try_from(segment).expect("few");
            let at = usize::try_from(offset).expect("64 bits");
            writer.fill(id, &mut self.segments[segment][at..at + size]);
        } else {
            writer.fill(id, &mut self.buffer[..size]);
            self.hash ^= checksum(&[&self.buffer[..64]]);
        }
        writer.handle(Event::Written { id });
    }
}

fn open(disk: &Disk) -> (Writer, usize) {
    let size = Config::default().segment_size;
    let files: Vec<_> =
        (0..disk.segments.len()).map(|n| (FileId::Segment(n as u64).to_string(), size)).collect();
    let mut recovery = Recovery::new(Config::default(), ShardId(0), 7, &files);
    let mut records = 0;
    loop {
        match recovery.poll() {
            Step::Read { file: FileId::Segment(segment), offset, size } => {
                let segment = &disk.segments[usize::try_from(segment).expect("few")];
                let at = usize::try_from(offset).expect("64 bits");
                recovery.handle(&segment[at..at + size]);
            }
            Step::Read { file, .. } => unreachable!("{file} holds no frames"),
            Step::Records => records += recovery.records().map(black_box).count(),
            Step::Done(recovered) => return (recovered.writer, records),
            Step::Refused(damage) => unreachable!("{damage}"),
        }
    }
}

fn append(disk: &mut Disk, writer: &mut Writer, entries: u64, batch: u64) {
    let data = vec![0xa5; ENTRY_SIZE];
    for index in 1..=entries {
        let (term, index) = (Term(1), LogIndex(index));
        writer.append(&Record::Entry { term, index, kind: 0, data: &data });
        if index.0 % batch == 0 {
            writer.submit(index.0);
            disk.settle(writer);
        }
    }
    disk.settle(writer);
}

fn main() {
    let real = std::env::args().any(|argument| argument == "--bench");
    for (batch, entries) in [(1, 100_000), (10, 400_000), (100, 1_000_000), (1000, 1_000_000)] {
        let entries = if real { entries } else { 2_000 };
        let buffer = vec![0; Config::default().frame_size_max];
        let mut disk = Disk { segments: Vec::new(), buffer, hash: 0, keep: false };
        let (mut writer, _) = open(&disk);
        disk.settle(&mut writer);
        let start = Instant::now();
        append(&mut disk, &mut writer, entries, batch);
        let nanos = start.elapsed().as_nanos() / u128::from(entries);
        println!("append+fill, {batch:4} a batch: {nanos} ns an entry, hash {:08x}", disk.hash);
    }
    let mut disk = Disk { segments: Vec::new(), buffer: Vec::new(), hash: 0, keep: true };
    let (mut writer, _) = open(&disk);
    append(&mut disk, &mut writer, if real { 400_000 } else { 2_000 }, 100);
    let start = Instant::now();
    let (writer, records) = open(&disk);
    let micros = start.elapsed().as_micros().max(1);
    let bytes = records * (ENTRY_SIZE + 24);
    let rate = bytes as u128 / micros;
    println!("recover: {rate} MB/s, {records} records, last {}", writer.last());
}
