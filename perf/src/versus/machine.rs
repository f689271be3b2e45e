//! What a comparison ran on: a figure without it means nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::clock;
use crate::load::command::command_line;
use crate::server::{Recipe, field_kib};

/// Hardware, kernel, programs and command.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// The day.
    pub(crate) day: String,
    /// The command line of this run.
    pub(crate) command: String,
    /// The processor's name.
    pub(crate) processor: String,
    /// CPUs this process may use.
    pub(crate) cpus: usize,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The file system under the data directories.
    pub(crate) file_system: String,
    /// The load averages at the end of the run: on a quiet machine, what the run itself made.
    pub(crate) load_average: String,
    /// The commit of this tree, where it is a checkout.
    pub(crate) commit: String,
    /// Name and version of each server.
    pub(crate) servers: Vec<(String, String)>,
}

/// Describes the machine and the `servers`, whose data lies under `data`.
pub(crate) fn describe(servers: &[Recipe], data: &Path) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        day: clock::today(),
        command: command_line(),
        processor: processor(&read("/proc/cpuinfo")),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: field_kib(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        file_system: file_system(&read("/proc/mounts"), data),
        load_average: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        commit: commit(),
        servers: servers.iter().map(|s| (s.name.to_owned(), s.version())).collect(),
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).map(|(_, name)| name);
    name.unwrap_or("unknown").to_owned()
}

/// The type of the file system that `path` is on: that of its longest mount point.
fn file_system(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (fields.next(), fields.next())
            && path.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), kind);
        }
    }
    best.1.to_owned()
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "a / ext4 rw 0 0\nb /nowhere/data xfs rw 0 0\nc /nowhere/dat tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/nowhere/data/x")), "xfs");
        assert_eq!(file_system(mounts, Path::new("/nowhere/else")), "ext4");
    }

    #[test]
    fn a_processor_has_a_name() {
        assert_eq!(processor("model name\t: Fast One\nflags\t: a\n"), "Fast One");
        assert_eq!(processor(""), "unknown");
    }
}
