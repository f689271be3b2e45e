//! One log's directory: turns the log's commands into direct, durable writes.
//!
//! A file is opened with O_DIRECT and O_DSYNC, so that one write is one durable write. Where the
//! file system has no direct I/O the page cache is used, and a sync follows each write.

use crate::wal::Command;
use crate::wal::FileId;
use glommio::GlommioError;
use glommio::io::BufferedFile;
use glommio::io::DmaBuffer;
use glommio::io::DmaFile;
use glommio::io::OpenOptions;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

/// Bytes of zeros written at a time into a new segment.
const ZERO_SIZE: usize = 1 << 20;
/// Alignment of what is written directly, in bytes.
const ALIGNMENT: u64 = 4096;

/// A failed operation on a file: what, which, why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {cause}{}", path.display(), advice(cause))]
pub(crate) struct DiskError {
    operation: &'static str,
    path: PathBuf,
    cause: io::Error,
}

/// What to do about an error of the data directory, to follow what it is.
pub(crate) fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            " (nothing acknowledged is lost: make space on this file system and start again)"
        }
        Some(libc::EACCES | libc::EPERM) => " (the server's user must own the data directory)",
        Some(libc::EROFS) => " (the data directory must be writable)",
        _ => "",
    }
}

/// A file of the log, open for writing.
#[derive(Debug, Clone)]
enum File {
    Direct(Rc<DmaFile>),
    Cached(Rc<BufferedFile>),
}

/// One log's directory.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    files: RefCell<BTreeMap<FileId, File>>,
    cached: Cell<bool>,
}

impl Disk {
    /// The log's directory, made if need be.
    pub(crate) fn open(dir: &Path) -> Result<Self, DiskError> {
        let fail = |operation| {
            let path = dir.to_owned();
            move |cause| DiskError { operation, path, cause }
        };
        fs::create_dir_all(dir).map_err(fail("make directory"))?;
        // What was made may be two levels: --wal-dir and the shard's, or the shard's and its log's.
        for parent in dir.ancestors().skip(1).take(2) {
            sync_parent(parent).map_err(fail("sync the parent of"))?;
        }
        // A process that ended between a rename and its sync has left a name that can be seen and
        // that a loss of power takes back, with all that is written under it.
        sync_dir(dir).map_err(fail("sync"))?;
        let (files, cached) = (RefCell::default(), Cell::new(false));
        Ok(Self { dir: dir.to_owned(), files, cached })
    }

    /// Finds out what the file system can do, before any file of the log is touched.
    ///
    /// glommio asks a device once whether it completes I/O by polling, by reading the first file it
    /// opens there. A file that is empty answers yes whatever the device can do, and from then on
    /// the executor would spin through every write. So the first file it opens is one with bytes.
    pub(crate) async fn probe(&self) -> Result<(), DiskError> {
        let path = self.dir.join("probe");
        let fail = |operation| {
            let path = path.clone();
            move |cause| DiskError { operation, path, cause }
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
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, DiskError> {
        let read = || -> io::Result<Vec<(String, u64)>> {
            let mut out = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                out.push((name, entry.metadata()?.len()));
            }
            out.sort();
            Ok(out)
        };
        read().map_err(|cause| DiskError { operation: "list", path: self.dir.clone(), cause })
    }

    /// Removes every file of the log's; others stay, and recovery will name them.
    pub(crate) async fn clear(&self) -> Result<(), DiskError> {
        for (name, _) in self.list()? {
            if let Some(file) = FileId::parse(&name) {
                self.remove(file).await?;
            }
        }
        Ok(())
    }

    /// Whether writes go through the page cache, the file system having no direct I/O.
    pub(crate) fn is_cached(&self) -> bool {
        self.cached.get()
    }

    /// Whether the file system is one that the machine's end takes with it.
    pub(crate) fn is_in_memory(&self) -> bool {
        rustix::fs::statfs(&self.dir)
            .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|it| IN_MEMORY.contains(&it)))
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.dir.join(file.to_string())
    }

    fn fail(
        &self,
        operation: &'static str,
        file: FileId,
    ) -> impl FnOnce(GlommioError<()>) -> DiskError {
        let path = self.path(file);
        move |error| DiskError { operation, path, cause: into_io(error) }
    }

    fn fail_io(
        &self,
        operation: &'static str,
        file: FileId,
    ) -> impl FnOnce(io::Error) -> DiskError {
        let path = self.path(file);
        move |cause| DiskError { operation, path, cause }
    }

    /// Reads up to `size` bytes; fewer at the file's end.
    pub(crate) async fn read(
        &self,
        file: FileId,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, DiskError> {
        let fail = || self.fail("read", file);
        match self.file(file).await? {
            File::Direct(direct) => {
                let bytes = direct.read_at_aligned(offset, size).await.map_err(fail())?;
                Ok(bytes.to_vec())
            }
            File::Cached(cached) => {
                let bytes = cached.read_at(offset, size).await.map_err(fail())?;
                Ok(bytes.to_vec())
            }
        }
    }

    /// Writes a buffer; durable when it returns.
    pub(crate) async fn write(
        &self,
        file: FileId,
        offset: u64,
        buffer: DmaBuffer,
    ) -> Result<(), DiskError> {
        let size = buffer.len();
        let written = match self.file(file).await? {
            File::Direct(direct) => {
                direct.write_at(buffer, offset).await.map_err(self.fail("write", file))?
            }
            File::Cached(cached) => {
                let bytes = buffer.as_bytes().to_vec();
                let n = cached.write_at(bytes, offset).await.map_err(self.fail("write", file))?;
                cached.fdatasync().await.map_err(self.fail("sync", file))?;
                n
            }
        };
        if written == size {
            return Ok(());
        }
        let cause = io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {size} bytes"));
        Err(self.fail_io("write", file)(cause))
    }

    /// Does what is not a write of a frame; durable when it returns.
    pub(crate) async fn perform(&self, command: Command) -> Result<(), DiskError> {
        match command {
            Command::Write { file, offset, size, .. } => {
                self.write(file, offset, glommio::allocate_dma_buffer(size)).await
            }
            Command::Create { file, size } => self.create(file, size).await,
            Command::Activate { from, to, header } => {
                let mut buffer = glommio::allocate_dma_buffer(header.len());
                buffer.as_bytes_mut().copy_from_slice(&header);
                self.write(from, 0, buffer).await?;
                self.rename(from, to).await
            }
            Command::Recycle { from, to } => self.rename(from, to).await,
            Command::Remove { file } => self.remove(file).await,
            Command::Sync { file } => self.sync_file(file).await,
        }
    }

    /// Makes a file of zeros, durable with its name.
    async fn create(&self, file: FileId, size: u64) -> Result<(), DiskError> {
        let path = self.path(file);
        drop(fs::File::create(&path).map_err(self.fail_io("create", file))?);
        let open = self.open_file(file, 0).await?;
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
            let written = written.map_err(self.fail("fill", file))?;
            if written == 0 {
                return Err(self.fail_io("fill", file)(io::ErrorKind::WriteZero.into()));
            }
            offset += u64::try_from(written).expect("usize is 64 bits");
        }
        match &open {
            File::Direct(direct) => direct.fdatasync().await,
            File::Cached(cached) => cached.fdatasync().await,
        }
        .map_err(self.fail("sync", file))?;
        self.sync().await
    }

    /// Gives `from` the name `to`; durable when it returns.
    pub(crate) async fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        fs::rename(self.path(from), self.path(to)).map_err(self.fail_io("rename", from))?;
        let file = self.files.borrow_mut().remove(&from);
        if let Some(file) = file {
            self.files.borrow_mut().insert(to, file);
        }
        self.sync().await
    }

    /// Removes a file; durable when it returns.
    pub(crate) async fn remove(&self, file: FileId) -> Result<(), DiskError> {
        self.files.borrow_mut().remove(&file);
        fs::remove_file(self.path(file)).map_err(self.fail_io("remove", file))?;
        self.sync().await
    }

    /// Makes what a file holds durable, whoever wrote it.
    pub(crate) async fn sync_file(&self, file: FileId) -> Result<(), DiskError> {
        match self.file(file).await? {
            File::Direct(direct) => direct.fdatasync().await,
            File::Cached(cached) => cached.fdatasync().await,
        }
        .map_err(self.fail("sync", file))
    }

    /// Makes the directory's names durable.
    async fn sync(&self) -> Result<(), DiskError> {
        let dir = self.dir.clone();
        let result = glommio::executor().spawn_blocking(move || sync_dir(&dir)).await;
        let path = self.dir.clone();
        result.map_err(|cause| DiskError { operation: "sync directory", path, cause })
    }

    /// The file, opened once: each direct write of it is durable by itself.
    async fn file(&self, file: FileId) -> Result<File, DiskError> {
        if let Some(open) = self.files.borrow().get(&file) {
            return Ok(open.clone());
        }
        let open = self.open_file(file, libc::O_DSYNC).await?;
        self.files.borrow_mut().insert(file, open.clone());
        Ok(open)
    }

    async fn open_file(&self, file: FileId, flags: i32) -> Result<File, DiskError> {
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

const _: () = assert!(ZERO_SIZE.is_multiple_of(4096), "zeros are written in whole blocks");

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

/// The system's own error, with its number, where there is one.
fn into_io(error: GlommioError<()>) -> io::Error {
    if let GlommioError::EnhancedIoError { source, .. } = error {
        return source;
    }
    io::Error::from(error)
}

/// File systems that are gone with the machine's memory: tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
