//! One log's directory: turns the log's commands into direct, durable writes.
//!
//! A file is opened with O_DIRECT and O_DSYNC, so that one write is one durable write. In the page
//! cache a sync follows each write.

use crate::rt::disk::Dir;
use crate::rt::disk::DiskError;
use crate::rt::disk::File;
use crate::wal::Command;
use crate::wal::FileId;
use glommio::io::DmaBuffer;
use std::fs;
use std::io;
use std::path::Path;

/// Bytes of zeros written at a time into a new segment.
const ZERO_SIZE: usize = 1 << 20;
/// Files of one log that are kept open: those in use and the spare ones are a few.
const FILES_MAX: usize = 64;

/// One log's directory.
#[derive(Debug)]
pub(crate) struct LogDisk(Dir<FileId>);

impl LogDisk {
    /// The log's directory, made if need be.
    pub(crate) async fn open(dir: &Path) -> Result<Self, DiskError> {
        let dir = Dir::open(dir, FILES_MAX, libc::O_DSYNC)?;
        dir.probe().await?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Names and sizes of all files in it.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, DiskError> {
        self.0.list()
    }

    /// Removes every file of the log's; others stay, and recovery will name them.
    pub(crate) async fn clear(&self) -> Result<(), DiskError> {
        for (name, _) in self.list()? {
            if let Some(file) = FileId::parse(&name) {
                self.0.remove(file).await?;
            }
        }
        Ok(())
    }

    /// Whether writes go through the page cache, the file system having no direct I/O.
    pub(crate) fn is_cached(&self) -> bool {
        self.0.cached.get()
    }

    /// Whether the file system is one that the machine's end takes with it.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.0.is_in_memory()
    }

    /// Reads up to `size` bytes; fewer at the file's end.
    pub(crate) async fn read(
        &self,
        file: FileId,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, DiskError> {
        self.0.read(file, offset, size).await
    }

    /// Writes a buffer; durable when it returns.
    pub(crate) async fn write(
        &self,
        file: FileId,
        offset: u64,
        buffer: DmaBuffer,
    ) -> Result<(), DiskError> {
        self.0.write(file, offset, buffer, true).await
    }

    /// Does what moves no bytes of frames; durable when it returns.
    pub(crate) async fn perform(&self, command: Command) -> Result<(), DiskError> {
        match command {
            Command::Create { file, size } => self.create(file, size).await,
            Command::Activate { from, to, header } => {
                let mut buffer = glommio::allocate_dma_buffer(header.len());
                buffer.as_bytes_mut().copy_from_slice(&header);
                self.write(from, 0, buffer).await?;
                self.0.rename(from, to).await
            }
            Command::Recycle { from, to } => self.0.rename(from, to).await,
            Command::Remove { file } => self.0.remove(file).await,
            Command::Sync { file } => self.0.sync_file(file).await,
            Command::Write { .. } | Command::Read { .. } => {
                unreachable!("what moves bytes has a method of its own")
            }
        }
    }

    /// Makes a file of zeros, durable with its name.
    async fn create(&self, file: FileId, size: u64) -> Result<(), DiskError> {
        let path = self.0.path(file);
        drop(fs::File::create(&path).map_err(self.0.fail("create", file))?);
        let open = self.0.open_file(file, 0).await?;
        let mut offset = 0;
        while offset < size {
            let left = usize::try_from(size - offset).unwrap_or(ZERO_SIZE).min(ZERO_SIZE);
            let written = match &open {
                File::Direct(direct) => {
                    let mut zeros = direct.alloc_dma_buffer(left);
                    zeros.as_bytes_mut().fill(0);
                    direct.write_at(zeros, offset).await
                }
                File::Cached(cached) => cached.write_at(vec![0; left], offset).await,
            };
            let written = written.map_err(self.0.fail("fill", file))?;
            if written == 0 {
                return Err(self.0.fail("fill", file)(io::Error::from(io::ErrorKind::WriteZero)));
            }
            offset += u64::try_from(written).expect("usize is 64 bits");
        }
        open.sync().await.map_err(self.0.fail("sync", file))?;
        self.0.sync().await
    }
}

const _: () = assert!(ZERO_SIZE.is_multiple_of(4096), "zeros are written in whole blocks");
