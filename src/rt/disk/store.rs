//! One store's directory: segments written once, read at any place, many at a time.
//!
//! Writes are direct and not durable by themselves: a segment is synced once, when all of it is
//! there. So they never make the log's writes wait for a flush of theirs.

use crate::rt::disk::Dir;
use crate::rt::disk::DiskError;
use crate::rt::disk::off_the_core;
use crate::rt::disk::sync_dir;
use crate::store::Command;
use crate::store::FileId;
use bytes::Bytes;
use glommio::io::DmaBuffer;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

/// Segments of one store that are kept open. 256: 16 GiB of the usual size; opening another one
/// costs some ten microseconds.
const FILES_MAX: usize = 256;

/// One store's directory.
#[derive(Debug)]
pub(crate) struct StoreDisk(Dir<FileId>);

impl StoreDisk {
    /// The store's directory, made if need be.
    pub(crate) async fn open(dir: &Path) -> Result<Self, DiskError> {
        let dir = Dir::open(dir, FILES_MAX, 0)?;
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

    /// Removes every file of the store's; others stay, and recovery will name them.
    pub(crate) async fn clear(&self) -> Result<(), DiskError> {
        for (name, _) in self.list()? {
            if let Some(file) = FileId::parse(&name) {
                self.0.remove(file).await?;
            }
        }
        Ok(())
    }

    /// Whether files go through the page cache, the file system having no direct I/O.
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

    /// Reads exactly `size` bytes.
    pub(crate) async fn read_exact(
        &self,
        file: FileId,
        offset: u64,
        size: usize,
    ) -> Result<Bytes, DiskError> {
        let bytes = self.read(file, offset, size).await?;
        if bytes.len() == size {
            return Ok(bytes.into());
        }
        let text = format!("the file ends after {} of {size} bytes", bytes.len());
        let cause = io::Error::new(io::ErrorKind::UnexpectedEof, text);
        Err(self.0.fail_at("read", file, offset)(cause))
    }

    /// Writes a buffer, not yet durably.
    pub(crate) async fn write(
        &self,
        file: FileId,
        offset: u64,
        buffer: DmaBuffer,
    ) -> Result<(), DiskError> {
        self.0.write(file, offset, buffer, false).await
    }

    /// Does what is neither a write nor a read; durable when it returns, but for a file that was
    /// made or removed: each sync of names is a commit of the file system's journal, which the
    /// log's writes wait for.
    pub(crate) async fn perform(&self, command: Command) -> Result<(), DiskError> {
        match command {
            Command::Create { file } => {
                self.0.close(file);
                let path = self.0.path(file);
                let create = move || fs::File::create(path).map(drop);
                off_the_core(create).await.map_err(self.0.fail("create", file))
            }
            Command::Finish { from, to } => {
                self.0.sync_file(from).await?;
                self.0.rename(from, to).await
            }
            Command::Replace { bytes } => self.replace(bytes).await,
            Command::Remove { file, is_urgent } => self.0.remove_by_and_by(file, is_urgent).await,
            Command::Write { .. } | Command::Read { .. } => {
                unreachable!("what moves bytes has a method of its own")
            }
        }
    }

    /// Puts a new manifest in the place of the old one.
    async fn replace(&self, bytes: Vec<u8>) -> Result<(), DiskError> {
        let (draft, manifest) = (self.0.path(FileId::Draft), self.0.path(FileId::Manifest));
        let dir = self.0.path.clone();
        self.0.close(FileId::Manifest);
        let replace = move || {
            let mut file = fs::File::create(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(draft, manifest)?;
            sync_dir(&dir)
        };
        off_the_core(replace).await.map_err(self.0.fail("write", FileId::Draft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;

    /// Runs on an executor of its own, in a folder of the target's file system.
    fn on_a_disk<F: Future<Output = ()>>(test: impl FnOnce(StoreDisk) -> F + Send + 'static) {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target")
            .or_else(|_| tempfile::tempdir())
            .expect("a folder can be made");
        let path = folder.path().join("store");
        let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is here");
        executor.run(async move {
            test(StoreDisk::open(&path).await.expect("it can be written")).await;
        });
    }

    async fn write(disk: &StoreDisk, file: FileId, offset: u64, size: usize) {
        let mut buffer = glommio::allocate_dma_buffer(size);
        let first = usize::try_from(offset).expect("64 bits");
        for (at, byte) in buffer.as_bytes_mut().iter_mut().enumerate() {
            *byte = byte_at(first + at);
        }
        disk.write(file, offset, buffer).await.expect("written");
    }

    fn byte_at(at: usize) -> u8 {
        u8::try_from((at * 7 + at / 4096) % 251).expect("below 251")
    }

    #[test]
    fn a_segment_is_written_finished_and_read_at_any_place() {
        on_a_disk(|disk| async move {
            let (new, segment) = (FileId::New(7), FileId::Segment(7));
            disk.perform(Command::Create { file: new }).await.expect("made");
            write(&disk, new, 0, 8192).await;
            write(&disk, new, 8192, 4096).await;
            disk.perform(Command::Finish { from: new, to: segment }).await.expect("finished");
            assert_eq!(disk.list().expect("listed"), [(segment.to_string(), 12_288)]);
            for (offset, size) in [(0, 12_288), (1, 1), (4095, 2), (5000, 7000), (12_287, 1)] {
                let bytes = disk.read_exact(segment, offset, size).await.expect("read");
                let first = usize::try_from(offset).expect("64 bits");
                let due: Vec<u8> = (first..first + size).map(byte_at).collect();
                assert_eq!(bytes, due, "{size} bytes at {offset}");
            }
            for (offset, size) in [(12_000, 300), (12_288, 1), (90_000, 5)] {
                let error = disk.read_exact(segment, offset, size).await.expect_err("beyond");
                let text = error.to_string();
                assert!(text.contains(&format!("{segment} at byte {offset}: ")), "{text}");
            }
            disk.perform(Command::Remove { file: segment, is_urgent: true })
                .await
                .expect("removed");
            assert!(disk.list().expect("listed").is_empty());
            disk.read_exact(segment, 0, 1).await.expect_err("it is gone");
        });
    }

    #[test]
    fn a_large_file_goes_bit_by_bit_and_whole() {
        on_a_disk(|disk| async move {
            let sizes = [0, 4096, 1 << 20, (3 << 20) + 4096];
            for (size, is_urgent) in
                sizes.into_iter().flat_map(|size| [(size, false), (size, true)])
            {
                let file = FileId::Segment(3);
                disk.perform(Command::Create { file }).await.expect("made");
                if size > 0 {
                    write(&disk, file, 0, size).await;
                }
                disk.perform(Command::Remove { file, is_urgent }).await.expect("removed");
                assert!(disk.list().expect("listed").is_empty(), "{size} bytes");
            }
        });
    }

    #[test]
    fn what_is_made_anew_is_empty_and_a_manifest_takes_the_place_of_the_last() {
        on_a_disk(|disk| async move {
            let new = FileId::New(1);
            for _ in 0..2 {
                disk.perform(Command::Create { file: new }).await.expect("made");
                assert_eq!(disk.list().expect("listed"), [(new.to_string(), 0)]);
                write(&disk, new, 0, 4096).await;
            }
            for size in [8192, 4096] {
                let bytes = vec![1; size];
                disk.perform(Command::Replace { bytes: bytes.clone() }).await.expect("replaced");
                let read = disk.read(FileId::Manifest, 0, 1 << 20).await.expect("read");
                assert_eq!(read, bytes);
            }
            disk.clear().await.expect("cleared");
            assert!(disk.list().expect("listed").is_empty());
        });
    }

    #[test]
    fn more_segments_than_are_kept_open_can_be_read() {
        on_a_disk(|disk| async move {
            let count = u64::try_from(FILES_MAX).expect("few") + 10;
            for number in 0..count {
                fs::write(disk.0.path(FileId::Segment(number)), number.to_le_bytes().repeat(512))
                    .expect("written");
            }
            for number in (0..count).chain(0..count) {
                let read = disk.read_exact(FileId::Segment(number), 8, 8).await.expect("read");
                assert_eq!(read, number.to_le_bytes().as_slice());
                assert!(disk.0.files.borrow().len() <= FILES_MAX);
            }
        });
    }
}
