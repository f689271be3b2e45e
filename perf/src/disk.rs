//! What one durable write costs on this disk right now, and one random read.
//!
//! Virtual disks have noisy hours; a comparison says how its disk behaved meanwhile. The probe
//! overwrites blocks that were written before, directly and durably, as a good log does.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::load::measure::{Latency, Sample, histogram};
use crate::workload::{Kind, Random};

/// Bytes in one write; also its alignment.
const BLOCK_SIZE: usize = 4096;

/// Blocks in the probe's file.
const BLOCKS: u64 = 256;

/// Writes that are measured.
const WRITES: u64 = 400;

/// Time between writes beside a run: few enough that the server does not feel them.
const BESIDE_INTERVAL: Duration = Duration::from_millis(20);

/// A block as direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; BLOCK_SIZE]);

/// Latency of durable writes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Flush {
    /// Median in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile in microseconds.
    pub(crate) p99_us: f64,
    /// Whether the file system took direct I/O; if not, writes went through the page cache.
    pub(crate) direct: bool,
}

/// Measures durable overwrites of 4 KiB in a file made in `dir`, and removes it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn probe(dir: &Path) -> Result<Flush, Failure> {
    let path = dir.join(format!("probe-{}", std::process::id()));
    fs::create_dir_all(dir).map_err(Failure::io(format!("create {}", dir.display())))?;
    let result = measure(&path).map_err(Failure::io(format!("probe {}", path.display())));
    let _ = fs::remove_file(&path);
    result
}

fn measure(path: &Path) -> std::io::Result<Flush> {
    let (mut file, direct) = blocks(path)?;
    let mut latency = histogram();
    let clock = Clock::start();
    for write in 0..WRITES {
        latency.saturating_record(overwrite(&mut file, write, clock)?);
    }
    let Latency { p50_us, p99_us, .. } = Latency::of(&latency);
    Ok(Flush { p50_us, p99_us, direct })
}

/// A new file whose blocks were all written, open for durable writes, direct ones if that is told.
fn blocks(path: &Path) -> std::io::Result<(File, bool)> {
    let mut file = File::create(path)?;
    for _ in 0..BLOCKS {
        file.write_all(&[0; BLOCK_SIZE])?;
    }
    file.sync_all()?;
    drop(file);
    match open(path, OFlags::DIRECT | OFlags::DSYNC) {
        Ok(file) => Ok((file, true)),
        Err(_) => Ok((open(path, OFlags::DSYNC)?, false)),
    }
}

/// Overwrites one block, the next each time, and says how many nanoseconds that took.
fn overwrite(file: &mut File, write: u64, clock: Clock) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(write % BLOCKS * BLOCK_SIZE as u64))?;
    let start = clock.now();
    file.write_all(&Block([7; BLOCK_SIZE]).0)?;
    Ok(clock.now().since(start))
}

/// Overwrites a block of a file made in `dir` every [`BESIDE_INTERVAL`] for as long as `run` takes,
/// and removes the file: what the disk did meanwhile to others than the server. Each write is one
/// [`Sample`].
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn beside<R>(
    dir: &Path,
    clock: Clock,
    run: impl FnOnce() -> R,
) -> Result<(R, Vec<Sample>), Failure> {
    let path = dir.join(format!("beside-{}", std::process::id()));
    let (end, ended) = channel::<()>();
    let (result, samples) = std::thread::scope(|scope| {
        let path = &path;
        let writer = scope.spawn(move || -> std::io::Result<_> {
            let (mut file, _) = blocks(path)?;
            let mut samples = Vec::new();
            while clock::passes(&ended, BESIDE_INTERVAL) {
                let (due, write) = (clock.now(), samples.len() as u64);
                samples.push(Sample::of(due, overwrite(&mut file, write, clock)?, Kind::Put));
            }
            Ok(samples)
        });
        let result = run();
        drop(end);
        (result, writer.join().expect("no thread panics"))
    });
    let samples = samples.map_err(Failure::io(format!("probe {}", path.display())));
    let _ = fs::remove_file(&path);
    Ok((result, samples?))
}

fn open(path: &Path, flags: OFlags) -> std::io::Result<File> {
    let flags = i32::try_from(flags.bits()).expect("flags are a C int");
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// Bytes in one random read, about what a store reads to answer a get; also its alignment.
const READ_SIZE: usize = 8192;

/// Files below this size are not read from: the large ones are where values lie.
const FILE_SIZE_MIN: u64 = 1 << 20;

/// A place to read to, as direct I/O wants it.
#[repr(align(4096))]
struct Place([u8; READ_SIZE]);

/// Latency of direct random reads of 8 KiB from the files under `dir`, as many at a time as
/// `threads`, for as long as `duration`. Logs are left out: they may be long and never written.
///
/// # Errors
/// When there is nothing to read, or the file system does not take direct I/O.
pub(crate) fn reads(dir: &Path, threads: u64, duration: Duration) -> Result<Latency, Failure> {
    let mut files = Vec::new();
    large_files(dir, &mut files);
    let opened: std::io::Result<Vec<_>> = files
        .iter()
        .map(|path| {
            let flags = i32::try_from(OFlags::DIRECT.bits()).expect("flags are a C int");
            let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            let places = file.metadata()?.len() / READ_SIZE as u64;
            Ok((file, places))
        })
        .collect();
    let opened = opened.map_err(Failure::io(format!("read from {}", dir.display())))?;
    let places: u64 = opened.iter().map(|(_, places)| places).sum();
    if places == 0 {
        return Err(Failure::Usage(format!("{} has no large file to read from", dir.display())));
    }
    let clock = Clock::start();
    let one = |thread: u64| -> std::io::Result<Histogram<u64>> {
        let (mut random, mut latency) = (Random::new(thread), histogram());
        let mut place = Box::new(Place([0; READ_SIZE]));
        while clock.now().0 < clock::nanos(duration) {
            let (file, offset) = spot(&opened, random.below(places));
            let start = clock.now();
            file.read_exact_at(&mut place.0, offset)?;
            latency.saturating_record(clock.now().since(start));
        }
        Ok(latency)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..threads).map(|t| scope.spawn(move || one(t))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let mut total = histogram();
    for result in results {
        let latency = result.map_err(Failure::io(format!("read from {}", dir.display())))?;
        total.add(latency).expect("the bounds are the same");
    }
    Ok(Latency::of(&total))
}

/// The file and offset of place number `place`, counted through all files.
fn spot(files: &[(File, u64)], mut place: u64) -> (&File, u64) {
    for (file, places) in files {
        if place < *places {
            return (file, place * READ_SIZE as u64);
        }
        place -= places;
    }
    unreachable!("a place is below their sum")
}

fn large_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() && entry.file_name() != "wal" {
            large_files(&entry.path(), found);
        } else if about.is_file() && about.len() >= FILE_SIZE_MIN {
            found.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_reads_come_from_large_files_and_not_from_logs() {
        let dir = std::env::temp_dir().join(format!("ringd-perf-reads-{}", std::process::id()));
        fs::create_dir_all(dir.join("wal")).expect("a writable folder");
        fs::create_dir_all(dir.join("store")).expect("a writable folder");
        let large = vec![7; 3 << 20];
        for (name, size) in [("wal/0", 3 << 20), ("store/0", 2 << 20), ("store/1", 4096)] {
            fs::write(dir.join(name), &large[..size]).expect("a writable folder");
        }
        let mut files = Vec::new();
        large_files(&dir, &mut files);
        assert_eq!(files, [dir.join("store/0")]);
        // A temporary folder may be in memory, where there is no direct I/O.
        if let Ok(latency) = reads(&dir, 2, Duration::from_millis(20)) {
            assert!(latency.count > 0 && latency.p50_us <= latency.p99_us);
        }
        fs::remove_dir_all(dir.join("store")).expect("it is ours");
        assert!(reads(&dir, 1, Duration::from_millis(1)).is_err());
        fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    fn the_disk_is_watched_for_as_long_as_a_run_takes() {
        let dir = std::env::temp_dir().join(format!("ringd-perf-beside-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable folder");
        let clock = Clock::start();
        let run = || clock::pause(BESIDE_INTERVAL * 5);
        let ((), samples) = beside(&dir, clock, run).expect("a writable folder");
        assert!(samples.iter().all(|sample| sample.latency_us > 0));
        assert_eq!(fs::read_dir(&dir).expect("it is there").count(), 0);
        fs::remove_dir(&dir).expect("it is ours");
        let nowhere = beside(&dir.join("none"), clock, || 7);
        assert!(nowhere.is_err());
    }

    #[test]
    fn the_probe_measures_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("ringd-perf-disk-{}", std::process::id()));
        let flush = probe(&dir).expect("a writable folder");
        assert!(flush.p50_us > 0.0 && flush.p50_us <= flush.p99_us);
        assert_eq!(fs::read_dir(&dir).expect("it is there").count(), 0);
        fs::remove_dir(&dir).expect("it is ours");
    }
}
