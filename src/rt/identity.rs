//! Who this member is, kept in its data directory; and that nobody else uses that directory.
//!
//! The identity is written as an intention before the first shard makes a log, and takes its own
//! name after every shard has a durable one and before the first client is served. So a directory
//! with an identity and without a log has lost it; a log that bears the intention's id has never
//! served anybody; and any other log is somebody else's, and must not be touched.

use crate::identity::Identity;
use crate::rt::disk::advice;
use rustix::fs::FlockOperation;
use rustix::fs::flock;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// File that holds the identity.
const IDENTITY: &str = "identity";
/// File that holds the identity until the first start has come through.
const INTENTION: &str = "identity.new";
/// Name under which an intention is written.
const UNFINISHED: &str = "identity.tmp";
/// File whose lock is the directory's.
const LOCK: &str = "lock";
/// What the names of the shards' folders begin with.
const SHARD: &str = "shard-";

/// Why a data directory can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    #[error("{operation} {}: {cause}{}", path.display(), advice(cause))]
    Io { operation: &'static str, path: PathBuf, cause: io::Error },
    #[error(
        "{} is in use by another process ({holder}); stop it, or give this one its own --data-dir",
        dir.display()
    )]
    Locked { dir: PathBuf, holder: String },
    #[error(
        "{} holds the data of an etcd server, which ringd does not read; start ringd with another \
         --data-dir and copy the keys over (etcdctl make-mirror)",
        dir.display()
    )]
    Etcd { dir: PathBuf },
    #[error("{} is no directory; give another --data-dir, or move it away", dir.display())]
    NoDirectory { dir: PathBuf },
    #[error(
        "{} is one shard's part of the data directory {}; give that as --data-dir",
        dir.display(),
        whole.display()
    )]
    Part { dir: PathBuf, whole: PathBuf },
    #[error(
        "{} is not a data directory of ringd, and holds {}, which ringd has not made; give a \
         --data-dir that is new or empty",
        dir.display(),
        found.display()
    )]
    Foreign { dir: PathBuf, found: PathBuf },
    #[error(
        "{}: {why}; restore this member from a backup, or remove it and add it anew",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
}

/// A data directory that this process holds until it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: fs::File,
}

impl DataDir {
    /// Takes the directory, made if need be (etcd's mode 0700). What is told to lie in it besides
    /// (`others`) may be there before.
    pub(crate) fn open(path: &Path, others: &[&Path]) -> Result<Self, DirError> {
        let fail = |operation, path: &Path| {
            let path = path.to_owned();
            move |cause| DirError::Io { operation, path, cause }
        };
        if path.exists() && !path.is_dir() {
            return Err(DirError::NoDirectory { dir: path.to_owned() });
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(fail("make data directory", path))?;
        if let Some(parent) = path.parent() {
            crate::rt::disk::sync_parent(parent).map_err(fail("sync the parent of", path))?;
        }
        check_ours(path, others)?;
        let lock_path = path.join(LOCK);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(fail("open", &lock_path))?;
        if let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(fail("lock", &lock_path)(errno.into()));
            }
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
            return Err(DirError::Locked { dir: path.to_owned(), holder: holder.to_owned() });
        }
        let text = format!("process {}\n", std::process::id());
        lock.set_len(0).map_err(fail("write", &lock_path))?;
        lock.write_all(text.as_bytes()).map_err(fail("write", &lock_path))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Who this directory's member is; none if it never served.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, DirError> {
        let path = self.path.join(IDENTITY);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(DirError::Io { operation: "read", path, cause }),
        };
        Identity::parse(&text).map(Some).map_err(|why| DirError::Damaged { path, why })
    }

    /// What an earlier start set out to become here, if one did and did not come through.
    pub(crate) fn intention(&self) -> Option<Identity> {
        fs::read(self.path.join(INTENTION)).ok().and_then(|it| Identity::parse(&it).ok())
    }

    /// Notes what this start is about to become, in one step; durable when it returns.
    pub(crate) fn intend(&self, identity: &Identity) -> Result<(), DirError> {
        let (path, new) = (self.path.join(INTENTION), self.path.join(UNFINISHED));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&new)?;
            file.write_all(identity.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            crate::rt::disk::sync_dir(&self.path)
        };
        write().map_err(|cause| DirError::Io { operation: "write", path: path.clone(), cause })
    }

    /// Makes the intention the identity; durable when it returns.
    pub(crate) fn keep(&self) -> Result<(), DirError> {
        let path = self.path.join(IDENTITY);
        fs::rename(self.path.join(INTENTION), &path)
            .and_then(|()| crate::rt::disk::sync_dir(&self.path))
            .map_err(|cause| DirError::Io { operation: "write", path, cause })
    }
}

/// Refuses a directory that belongs to something else, before anything in it is touched.
fn check_ours(path: &Path, others: &[&Path]) -> Result<(), DirError> {
    let dir = path.to_owned();
    let is_etcd = |path: &Path| path.join("snap").is_dir() && path.join("wal").is_dir();
    let is_backup = |path: &Path| path.join("snap").join("db").is_file();
    let member = path.join("member");
    if [path, &member].into_iter().any(|path| is_etcd(path) || is_backup(path)) || member.is_dir() {
        return Err(DirError::Etcd { dir });
    }
    if path.join(IDENTITY).exists() || path.join(INTENTION).exists() {
        return Ok(());
    }
    let is_named = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SHARD))
    };
    if let Some(whole) = path.ancestors().skip(1).take(2).find(|it| it.join(IDENTITY).is_file())
        && path.ancestors().take(2).any(is_named)
    {
        return Err(DirError::Part { dir, whole: whole.to_owned() });
    }
    let fail = |cause| DirError::Io { operation: "list", path: dir.clone(), cause };
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let others: Vec<_> = others.iter().map(|other| whole(other)).collect();
    for entry in fs::read_dir(path).map_err(fail)? {
        let found = entry.map_err(fail)?.path();
        let is_used = others.iter().any(|other| other.starts_with(whole(&found)));
        // A file beside is no harm, and a mount point comes with a folder of its own.
        let is_told = found.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with('.') || name.starts_with(SHARD) || name == "lost+found"
        });
        if found.is_dir() && !is_used && !is_told {
            return Err(DirError::Foreign { dir: path.to_owned(), found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClusterId;
    use crate::types::NodeId;

    fn identity() -> Identity {
        let (cluster, member) = (ClusterId(0xc), NodeId(0xab));
        let (founders, known) = (Vec::new(), Vec::new());
        Identity { cluster, member, shards: 2, log_id: 7, joined: false, founders, known }
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = DataDir::open(dir.path(), &[]).expect("free");
        let error = DataDir::open(dir.path(), &[]).expect_err("held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        let held = DataDir::open(dir.path(), &[]).expect("free again");
        assert_eq!(held.identity().expect("readable"), None);
        assert_eq!(held.intention(), None);
        held.intend(&identity()).expect("writable");
        assert_eq!(held.identity().expect("readable"), None);
        assert_eq!(held.intention(), Some(identity()));
        held.keep().expect("writable");
        assert_eq!(held.identity().expect("readable"), Some(identity()));
    }

    #[test]
    fn an_etcd_directory_is_recognised() {
        for made in ["member/snap", "member/wal/0", "member", "snap/db/../../wal", "member/snap/db"]
        {
            let dir = tempfile::tempdir().expect("a temporary directory");
            fs::create_dir_all(dir.path().join(made)).expect("made");
            let error = DataDir::open(dir.path(), &[]).expect_err("foreign").to_string();
            assert!(error.contains("etcd server"), "{made}: {error}");
            assert!(!dir.path().join(LOCK).exists(), "nothing was touched");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_and_what_lies_beside_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for made in [".cache", "lost+found", "shard-0/wal"] {
            fs::create_dir_all(dir.path().join(made)).expect("made");
        }
        fs::write(dir.path().join("ringd.log"), "").expect("written");
        drop(DataDir::open(dir.path(), &[]).expect("a file beside is no harm"));

        let file = dir.path().join("ringd.log");
        let error = DataDir::open(&file, &[]).expect_err("a file").to_string();
        assert!(error.contains("is no directory"), "{error}");

        let (logs, music) = (dir.path().join("logs"), dir.path().join("music"));
        fs::create_dir_all(&logs).expect("made");
        let deep = logs.join("deep").join("wal");
        drop(DataDir::open(dir.path(), &[&deep]).expect("it is told of"));
        let error = DataDir::open(dir.path(), &[&music]).expect_err("foreign").to_string();
        assert!(error.contains("logs, which ringd has not made"), "{error}");

        fs::remove_dir_all(&logs).expect("removed");
        let ours = DataDir::open(dir.path(), &[]).expect("free");
        ours.intend(&identity()).expect("writable");
        ours.keep().expect("writable");
        drop(ours);
        fs::create_dir_all(&music).expect("made");
        drop(DataDir::open(dir.path(), &[]).expect("it is known to be ours"));
        for part in ["shard-0", "shard-0/wal"] {
            let error = DataDir::open(&dir.path().join(part), &[]).expect_err("a part").to_string();
            let whole = format!("the data directory {};", dir.path().display());
            assert!(error.contains(&whole), "{error}");
        }
    }
}
