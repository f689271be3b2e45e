//! Directories of files that are written directly: what the log's and the store's have in common.
//!
//! A file is opened with O_DIRECT. Where the file system has no direct I/O the page cache is used.
//! Whatever may block for long (renames, removals, syncs of a directory) happens on a thread of its
//! own, so that a core goes on with other work.

mod log;
mod removed;
mod store;

pub(crate) use self::log::LogDisk;
use self::removed::Removed;
pub(crate) use self::store::StoreDisk;

use glommio::GlommioError;
use glommio::io::BufferedFile;
use glommio::io::DmaBuffer;
use glommio::io::DmaFile;
use glommio::io::OpenOptions;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::fs::OpenOptions as OpenFile;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

/// Alignment of what is read and written directly, in bytes.
const ALIGNMENT: u64 = 4096;

/// A failed operation on a file: what, which, where, why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}{}: {cause}{}", path.display(), place(*offset), advice(cause))]
pub(crate) struct DiskError {
    operation: &'static str,
    path: PathBuf,
    /// Bytes from the file's start, where there is one place.
    offset: Option<u64>,
    cause: io::Error,
}

impl DiskError {
    /// Whether there was no room on the disk, and nothing else.
    pub(crate) fn is_of_room(&self) -> bool {
        matches!(self.cause.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }
}

/// An offset in words.
fn place(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default()
}

/// What to do about an error of the data directory, to follow what it is.
pub(crate) fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            " (nothing acknowledged is lost: make space on this file system and start again)"
        }
        Some(libc::EACCES | libc::EPERM) => " (the server's user must own the data directory)",
        Some(libc::EROFS) => " (the data directory must be writable)",
        Some(libc::EIO) => {
            " (the disk fails: replace it, then restore this member from a backup, or remove it \
             and add it anew)"
        }
        _ => "",
    }
}

/// An open file.
#[derive(Debug, Clone)]
enum File {
    Direct(Rc<DmaFile>),
    Cached(Rc<BufferedFile>),
}

impl File {
    /// Makes what it holds durable.
    async fn sync(&self) -> Result<(), GlommioError<()>> {
        match self {
            Self::Direct(direct) => direct.fdatasync().await,
            Self::Cached(cached) => cached.fdatasync().await,
        }
    }
}

/// One directory and its open files, named by `F`.
#[derive(Debug)]
struct Dir<F> {
    path: PathBuf,
    /// Open files, and when each was used last.
    files: RefCell<BTreeMap<F, (File, u64)>>,
    uses: Cell<u64>,
    /// Files that are kept open; beyond it the one used longest ago is closed.
    files_max: usize,
    /// The system's flags that files are opened with.
    flags: i32,
    cached: Cell<bool>,
    removed: Rc<Removed>,
}

impl<F: Copy + Ord + fmt::Display> Dir<F> {
    /// The directory, made if need be, durable with its name.
    fn open(path: &Path, files_max: usize, flags: i32) -> Result<Self, DiskError> {
        let fail = |operation| {
            let path = path.to_owned();
            move |cause| DiskError { operation, path, offset: None, cause }
        };
        fs::create_dir_all(path).map_err(fail("make directory"))?;
        // What was made may be two levels: --wal-dir and the shard's, or the shard's and its own.
        for parent in path.ancestors().skip(1).take(2) {
            sync_parent(parent).map_err(fail("sync the parent of"))?;
        }
        // A process that ended between a rename and its sync has left a name that can be seen and
        // that a loss of power takes back, with all that is written under it.
        sync_dir(path).map_err(fail("sync"))?;
        Ok(Self {
            path: path.to_owned(),
            files: RefCell::default(),
            uses: Cell::new(0),
            files_max,
            flags,
            cached: Cell::new(false),
            removed: Rc::default(),
        })
    }

    /// Finds out what the file system can do, before any file of ours is touched.
    ///
    /// glommio asks a device once whether it completes I/O by polling, by reading the first file it
    /// opens there. A file that is empty answers yes whatever the device can do, and from then on
    /// the executor would spin through every write. So the first file it opens is one with bytes.
    async fn probe(&self) -> Result<(), DiskError> {
        let path = self.path.join("probe");
        let fail = |operation| {
            let path = path.clone();
            move |cause| DiskError { operation, path, offset: None, cause }
        };
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&path)?;
            io::Write::write_all(&mut file, &[1; 4096])?;
            file.sync_all()
        };
        write().map_err(fail("write"))?;
        let open = OpenOptions::new().read(true).dma_open(&path).await;
        let is_direct = match open.map_err(into_io) {
            Ok(direct) => direct.alignment() <= ALIGNMENT,
            Err(cause) => match cause.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP) => false,
                // Not the file system's fault.
                _ => return Err(fail("open")(cause)),
            },
        };
        self.cached.set(!is_direct);
        fs::remove_file(&path).map_err(fail("remove"))
    }

    /// Names and sizes of all files in it.
    fn list(&self) -> Result<Vec<(String, u64)>, DiskError> {
        let read = || -> io::Result<Vec<(String, u64)>> {
            let mut out = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                out.push((name, entry.metadata()?.len()));
            }
            out.sort();
            Ok(out)
        };
        read().map_err(|cause| DiskError {
            operation: "list",
            path: self.path.clone(),
            offset: None,
            cause,
        })
    }

    /// Whether the file system is one that the machine's end takes with it.
    fn is_in_memory(&self) -> bool {
        rustix::fs::statfs(&self.path)
            .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|it| IN_MEMORY.contains(&it)))
    }

    fn path(&self, file: F) -> PathBuf {
        self.path.join(file.to_string())
    }

    fn fail<E>(&self, operation: &'static str, file: F) -> impl FnOnce(E) -> DiskError
    where
        Cause: From<E>,
    {
        let path = self.path(file);
        move |error| DiskError { operation, path, offset: None, cause: Cause::from(error).0 }
    }

    fn fail_at<E>(
        &self,
        operation: &'static str,
        file: F,
        offset: u64,
    ) -> impl FnOnce(E) -> DiskError
    where
        Cause: From<E>,
    {
        let fail = self.fail(operation, file);
        move |error| DiskError { offset: Some(offset), ..fail(error) }
    }

    /// Reads up to `size` bytes from any place; fewer at the file's end.
    async fn read(&self, file: F, offset: u64, size: usize) -> Result<Vec<u8>, DiskError> {
        let fail = || self.fail_at("read", file, offset);
        match self.file(file).await? {
            File::Direct(direct) => {
                let start = offset - offset % ALIGNMENT;
                let before = usize::try_from(offset - start).expect("less than a block");
                let block = usize::try_from(ALIGNMENT).expect("usize is 64 bits");
                let whole = (before + size).next_multiple_of(block);
                let read = direct.read_at_aligned(start, whole).await.map_err(fail())?;
                let read = read.get(before..).unwrap_or_default();
                Ok(read[..size.min(read.len())].to_vec())
            }
            File::Cached(cached) => {
                let read = cached.read_at(offset, size).await.map_err(fail())?;
                Ok(read.to_vec())
            }
        }
    }

    /// Writes a buffer, durably if `is_durable` or if files are opened so.
    async fn write(
        &self,
        file: F,
        offset: u64,
        buffer: DmaBuffer,
        is_durable: bool,
    ) -> Result<(), DiskError> {
        let size = buffer.len();
        let fail = || self.fail_at::<GlommioError<()>>("write", file, offset);
        let written = match self.file(file).await? {
            File::Direct(direct) => direct.write_at(buffer, offset).await.map_err(fail())?,
            File::Cached(cached) => {
                let bytes = buffer.as_bytes().to_vec();
                let n = cached.write_at(bytes, offset).await.map_err(fail())?;
                if is_durable {
                    cached.fdatasync().await.map_err(self.fail("sync", file))?;
                }
                n
            }
        };
        if written == size {
            return Ok(());
        }
        // Space ran out in the middle; the system says so only to whoever writes again.
        Err(self.fail_at("write", file, offset)(io::Error::from_raw_os_error(libc::ENOSPC)))
    }

    /// Makes what a file holds durable, whoever wrote it.
    async fn sync_file(&self, file: F) -> Result<(), DiskError> {
        self.file(file).await?.sync().await.map_err(self.fail("sync", file))
    }

    /// Gives `from` the name `to`; durable when it returns.
    async fn rename(&self, from: F, to: F) -> Result<(), DiskError> {
        let (old, new, dir) = (self.path(from), self.path(to), self.path.clone());
        let rename = move || fs::rename(old, new).and_then(|()| sync_dir(&dir));
        off_the_core(rename).await.map_err(self.fail("rename", from))?;
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.remove(&from) {
            files.insert(to, file);
        }
        Ok(())
    }

    /// Removes a file; durable when it returns. Its room is given back bit by bit.
    async fn remove(&self, file: F) -> Result<(), DiskError> {
        let open = self.unlink(file).await?;
        self.sync().await?;
        self.removed.give_back(open);
        Ok(())
    }

    /// Removes a file; a loss of power may bring it back. Its room is given back bit by bit, or at
    /// once.
    async fn remove_by_and_by(&self, file: F, is_urgent: bool) -> Result<(), DiskError> {
        let open = self.unlink(file).await?;
        if is_urgent {
            removed::close(open).await;
        } else {
            self.removed.give_back(open);
        }
        Ok(())
    }

    /// Takes a file's name; the file, without which its room goes.
    async fn unlink(&self, file: F) -> Result<Option<fs::File>, DiskError> {
        self.close(file);
        let path = self.path(file);
        let remove = move || {
            let open = OpenFile::new().write(true).open(&path);
            fs::remove_file(path).map(|()| open.ok())
        };
        off_the_core(remove).await.map_err(self.fail("remove", file))
    }

    /// Makes the directory's names durable.
    async fn sync(&self) -> Result<(), DiskError> {
        let dir = self.path.clone();
        let result = off_the_core(move || sync_dir(&dir)).await;
        let (operation, path) = ("sync directory", self.path.clone());
        result.map_err(|cause| DiskError { operation, path, offset: None, cause })
    }

    /// Keeps a file open no longer.
    fn close(&self, file: F) {
        self.files.borrow_mut().remove(&file);
    }

    /// The file, opened once for as long as it is used.
    async fn file(&self, file: F) -> Result<File, DiskError> {
        if let Some(open) = self.open_already(file) {
            return Ok(open);
        }
        let opened = self.open_file(file, self.flags).await?;
        if let Some(open) = self.open_already(file) {
            // Somebody else was quicker.
            return Ok(open);
        }
        let mut files = self.files.borrow_mut();
        if files.len() >= self.files_max {
            let oldest = files.iter().min_by_key(|(_, (_, used))| *used).map(|(file, _)| *file);
            oldest.and_then(|oldest| files.remove(&oldest));
        }
        files.insert(file, (opened.clone(), self.uses.get()));
        Ok(opened)
    }

    fn open_already(&self, file: F) -> Option<File> {
        let mut files = self.files.borrow_mut();
        let (open, used) = files.get_mut(&file)?;
        self.uses.set(self.uses.get() + 1);
        *used = self.uses.get();
        Some(open.clone())
    }

    async fn open_file(&self, file: F, flags: i32) -> Result<File, DiskError> {
        let path = self.path(file);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        if !self.cached.get() {
            let direct = options.dma_open(&path).await.map_err(self.fail("open", file))?;
            return Ok(File::Direct(Rc::new(direct)));
        }
        options.custom_flags(0);
        let cached = options.buffered_open(&path).await.map_err(self.fail("open", file))?;
        Ok(File::Cached(Rc::new(cached)))
    }
}

/// Does what may block for long on a thread of its own.
async fn off_the_core<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    glommio::executor().spawn_blocking(work).await
}

/// Makes a directory's names durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::File::open(dir)?.sync_all()
}

/// Makes a directory's names durable where that is ours to do: one that we may not read is not, and
/// what was made in it is then as durable as its file system makes it.
pub(crate) fn sync_parent(dir: &Path) -> io::Result<()> {
    match sync_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// The system's own error.
struct Cause(io::Error);

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<GlommioError<()>> for Cause {
    fn from(error: GlommioError<()>) -> Self {
        Self(into_io(error))
    }
}

/// The system's own error, with its number, where there is one.
fn into_io(error: GlommioError<()>) -> io::Error {
    if let GlommioError::EnhancedIoError { source, .. } = error {
        return source;
    }
    io::Error::from(error)
}

/// File systems that are gone with the machine's memory: tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
