//! What one durable write costs on this disk right now.
//!
//! Virtual disks have noisy hours; a comparison says how its disk behaved meanwhile. The probe
//! overwrites blocks that were written before, directly and durably, as a good log does.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::failure::Failure;
use crate::load::measure::{Latency, histogram};

/// Bytes in one write; also its alignment.
const BLOCK_SIZE: usize = 4096;

/// Blocks in the probe's file.
const BLOCKS: u64 = 256;

/// Writes that are measured.
const WRITES: u64 = 400;

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
    let mut file = File::create(path)?;
    for _ in 0..BLOCKS {
        file.write_all(&[0; BLOCK_SIZE])?;
    }
    file.sync_all()?;
    drop(file);
    let (mut file, direct) = match open(path, OFlags::DIRECT | OFlags::DSYNC) {
        Ok(file) => (file, true),
        Err(_) => (open(path, OFlags::DSYNC)?, false),
    };
    let block = Block([7; BLOCK_SIZE]);
    let mut latency = histogram();
    let clock = Clock::start();
    for write in 0..WRITES {
        file.seek(SeekFrom::Start(write % BLOCKS * BLOCK_SIZE as u64))?;
        let start = clock.now();
        file.write_all(&block.0)?;
        latency.saturating_record(clock.now().since(start));
    }
    let Latency { p50_us, p99_us, .. } = Latency::of(&latency);
    Ok(Flush { p50_us, p99_us, direct })
}

fn open(path: &Path, flags: OFlags) -> std::io::Result<File> {
    let flags = i32::try_from(flags.bits()).expect("flags are a C int");
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_measures_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("ringd-perf-disk-{}", std::process::id()));
        let flush = probe(&dir).expect("a writable folder");
        assert!(flush.p50_us > 0.0 && flush.p50_us <= flush.p99_us);
        assert_eq!(fs::read_dir(&dir).expect("it is there").count(), 0);
        fs::remove_dir(&dir).expect("it is ours");
    }
}
