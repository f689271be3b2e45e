//! One log's directory: turns the log's commands into direct, durable writes.
//!
//! A file is opened with O_DIRECT and O_DSYNC, so that one write is one durable write. In the page
//! cache a sync follows each write.

use crate::rt::clock::Clock;
use crate::rt::disk::Dir;
use crate::rt::disk::DiskError;
use crate::rt::disk::File;
use crate::wal::Command;
use crate::wal::FileId;
use glommio::GlommioError;
use glommio::io::DmaBuffer;
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Bytes of zeros written at a time into a new segment that the log may come to wait for.
const ZERO_SIZE: usize = 1 << 20;
/// Bytes of zeros written at a time into another one, or a multiple where frames come fast: a disk
/// is busy with them for 0.1 ms or so, and frames wait so long.
const ZERO_SIZE_GENTLE: usize = 64 << 10;
/// Bytes of zeros a millisecond that a new segment gets at least, besides one for each of frames:
/// 8 MB/s.
const ZERO_RATE: u64 = 8 << 10;
/// Between two looks at how many more may be written.
const ZERO_PAUSE: Duration = Duration::from_millis(4);
/// Files of one log that are kept open: those in use and the spare ones are a few.
const FILES_MAX: usize = 64;

/// One log's directory.
#[derive(Debug)]
pub(crate) struct LogDisk {
    dir: Dir<FileId>,
    /// Bytes of frames that were written.
    written: Cell<u64>,
    /// The shard moves, for which nothing may be under way, and hears nobody until then.
    is_hurried: Cell<bool>,
}

impl LogDisk {
    /// The log's directory, made if need be.
    pub(crate) async fn open(dir: &Path) -> Result<Self, DiskError> {
        let dir = Dir::open(dir, FILES_MAX, libc::O_DSYNC)?;
        dir.probe().await?;
        Ok(Self { dir, written: Cell::new(0), is_hurried: Cell::new(false) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Names and sizes of all files in it.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, DiskError> {
        self.dir.list()
    }

    /// Removes every file of the log's; others stay, and recovery will name them.
    pub(crate) async fn clear(&self) -> Result<(), DiskError> {
        for (name, _) in self.list()? {
            if let Some(file) = FileId::parse(&name) {
                self.dir.remove(file).await?;
            }
        }
        Ok(())
    }

    /// Whether writes go through the page cache, the file system having no direct I/O.
    pub(crate) fn is_cached(&self) -> bool {
        self.dir.cached.get()
    }

    /// Whether the file system is one that the machine's end takes with it.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.dir.is_in_memory()
    }

    /// Reads up to `size` bytes; fewer at the file's end.
    pub(crate) async fn read(
        &self,
        file: FileId,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, DiskError> {
        self.dir.read(file, offset, size).await
    }

    /// Writes a buffer; durable when it returns.
    pub(crate) async fn write(
        &self,
        file: FileId,
        offset: u64,
        buffer: DmaBuffer,
    ) -> Result<(), DiskError> {
        self.written.set(self.written.get() + buffer.len() as u64);
        self.dir.write(file, offset, buffer, true).await
    }

    /// Does what moves no bytes of frames; durable when it returns.
    pub(crate) async fn perform(&self, command: Command) -> Result<(), DiskError> {
        match command {
            Command::Create { file, size, is_urgent } => self.create(file, size, is_urgent).await,
            Command::Activate { from, to, header } => {
                let mut buffer = glommio::allocate_dma_buffer(header.len());
                buffer.as_bytes_mut().copy_from_slice(&header);
                self.write(from, 0, buffer).await?;
                self.dir.rename(from, to).await
            }
            Command::Recycle { from, to } => self.dir.rename(from, to).await,
            Command::Remove { file } => self.dir.remove(file).await,
            Command::Sync { file } => self.dir.sync_file(file).await,
            Command::Write { .. } | Command::Read { .. } => {
                unreachable!("what moves bytes has a method of its own")
            }
        }
    }

    /// Whether what is under way has no time any more.
    pub(crate) fn hurry(&self, is_hurried: bool) {
        self.is_hurried.set(is_hurried);
    }

    /// Makes a file of zeros, durable with its name.
    async fn create(&self, file: FileId, size: u64, is_urgent: bool) -> Result<(), DiskError> {
        let path = self.dir.path(file);
        drop(fs::File::create(&path).map_err(self.dir.fail("create", file))?);
        let open = self.dir.open_file(file, 0).await?;
        let (clock, before) = (Clock::start(), self.written.get());
        let mut offset = 0;
        while offset < size {
            let due = self.written.get() - before + clock.now().0.saturating_mul(ZERO_RATE);
            let most = match due.checked_sub(offset) {
                _ if is_urgent || self.is_hurried.get() => ZERO_SIZE,
                Some(due) => pieces(due),
                None => {
                    glommio::timer::sleep(ZERO_PAUSE).await;
                    continue;
                }
            };
            let left = usize::try_from(size - offset).unwrap_or(most).min(most);
            let written = write_zeros(&open, offset, left).await;
            let written = written.map_err(self.dir.fail("fill", file))?;
            if written == 0 {
                return Err(self.dir.fail("fill", file)(io::Error::from(io::ErrorKind::WriteZero)));
            }
            offset += u64::try_from(written).expect("usize is 64 bits");
        }
        open.sync().await.map_err(self.dir.fail("sync", file))?;
        self.dir.sync().await
    }
}

/// Bytes of zeros to be written at a time if so many are due: whole blocks.
fn pieces(due: u64) -> usize {
    let due = usize::try_from(due).unwrap_or(ZERO_SIZE);
    due.clamp(ZERO_SIZE_GENTLE, ZERO_SIZE) / ZERO_SIZE_GENTLE * ZERO_SIZE_GENTLE
}

/// Writes up to `size` zeros; how many.
async fn write_zeros(file: &File, offset: u64, size: usize) -> Result<usize, GlommioError<()>> {
    match file {
        File::Direct(direct) => {
            let mut zeros = direct.alloc_dma_buffer(size);
            zeros.as_bytes_mut().fill(0);
            direct.write_at(zeros, offset).await
        }
        File::Cached(cached) => cached.write_at(vec![0; size], offset).await,
    }
}

const _: () = assert!(ZERO_SIZE_GENTLE.is_multiple_of(4096), "zeros are written in whole blocks");
const _: () = assert!(ZERO_SIZE.is_multiple_of(ZERO_SIZE_GENTLE), "both kinds of pieces fit");
const _: () = assert!(ZERO_SIZE.is_multiple_of(4096), "zeros are written in whole blocks");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_whole_however_much_time_it_takes() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target")
            .or_else(|_| tempfile::tempdir())
            .expect("a folder can be made");
        let path = folder.path().join("log");
        let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is here");
        executor.run(async move {
            let disk = LogDisk::open(&path).await.expect("it can be written");
            let mut made = Vec::new();
            for (number, size, is_urgent) in [(1, 5 << 18, false), (2, 3 << 20, true)] {
                let file = FileId::Spare(number);
                disk.perform(Command::Create { file, size, is_urgent }).await.expect("made");
                made.push((file.to_string(), size));
            }
            disk.hurry(true);
            let (file, size) = (FileId::Spare(3), 64 << 20);
            disk.perform(Command::Create { file, size, is_urgent: false }).await.expect("made");
            made.push((file.to_string(), size));
            assert_eq!(disk.list().expect("listed"), made);
            disk.perform(Command::Remove { file }).await.expect("removed");
            assert_eq!(disk.list().expect("listed"), made[..2]);
        });
    }

    #[test]
    fn pieces_are_whole_blocks_within_limits() {
        let due = [0, 1, 65_536, 100_000, 200_000, 1 << 20, u64::MAX];
        let sizes = due.map(pieces);
        assert_eq!(sizes, [1, 1, 1, 1, 3, 16, 16].map(|count| count * ZERO_SIZE_GENTLE));
    }
}
