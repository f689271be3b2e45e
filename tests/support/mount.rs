//! File systems of a test's own, where it may mount them.

use super::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder that is gone when dropped.
pub(crate) fn folder(prefix: &str) -> TempDir {
    TempDir::with_prefix_in(prefix, env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written")
}

/// Whether a command went well.
pub(crate) fn goes_well(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A file system of its own, gone when dropped.
pub(crate) struct Mount(TempDir);

impl Mount {
    /// None, with a message, where one may not mount.
    pub(crate) fn new(kind: &str, options: &str) -> Option<Self> {
        let dir = folder("mount-");
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options, "none"]).arg(dir.path());
        if goes_well(&mut mount) {
            return Some(Self(dir));
        }
        say(format_args!("skipped: a {kind} can not be mounted here"));
        None
    }

    /// Its top folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder in it.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Gives it other options, such as another size.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mut mount = Command::new("mount");
        mount.args(["-o", &options]).arg(self.0.path());
        // What a killed process held open is closed a moment after its end.
        assert!((0..100).any(|_| goes_well(&mut mount)), "{options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}
