//! A disk that is slow for one process, where the test may have a control group of its own.

use crate::support::say;
use rustix::fs::{major, minor, stat};
use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups of the first kind keep what limits disks.
const GROUPS: &str = "/sys/fs/cgroup/blkio";
/// Writes a second that are left to the process: a few hundred times fewer than it asks for.
const WRITES: u32 = 40;

/// A limit on one process's writes, lifted when dropped.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    group: PathBuf,
    pid: u32,
}

impl SlowDisk {
    /// Makes the disk that holds `data` slow for a process; none, and a message, if one may not.
    pub(crate) fn of(pid: u32, data: &Path) -> Option<Self> {
        let group = Path::new(GROUPS).join(format!("ringd-test-{pid}"));
        let device = stat(data).ok()?.st_dev;
        // Of a part of a disk there is no such limit.
        let limit = format!("{}:{} {WRITES}", major(device), minor(device));
        let made = fs::create_dir(&group)
            .and_then(|()| fs::write(group.join("blkio.throttle.write_iops_device"), limit))
            .and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string()));
        let slow = Self { group, pid };
        match made {
            Ok(()) => Some(slow),
            Err(why) => {
                say(format_args!("skipped: no disk can be made slow here: {why}"));
                None
            }
        }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(GROUPS).join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
