//! Where the programs that we compare with are: etcd, etcdctl, h2spec.

use super::{say, setting};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The project's own script that puts them into [`folder`].
const INSTALL: &str = "tests/tools/install-etcd";

/// The server under test: ours, or what `UNDER_TEST` names, or another etcd if `PAIR` is
/// `etcd-etcd`.
pub(crate) fn under_test() -> PathBuf {
    match setting("PAIR").as_deref() {
        Some("etcd-etcd") => return etcd(),
        Some(other) => panic!("PAIR={other} is no pair: etcd-etcd, or nothing"),
        None => {}
    }
    setting("UNDER_TEST").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ringd")), PathBuf::from)
}

/// True if the server under test is ringd, by what it says of itself.
pub(crate) fn under_test_is_ours() -> bool {
    let told = Command::new(under_test()).arg("--version").output();
    told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("ringd Version"))
}

/// A program by its name, looked for in `target/peers/bin`, then in `RINGD_PEERS`; if it is in
/// neither, the project's script is asked to fetch it.
///
/// # Errors
///
/// What is missing and how to get it, in words for whoever runs the tests.
pub(crate) fn find(name: &str) -> Result<PathBuf, String> {
    if let Some(path) = present(name) {
        return Ok(path);
    }
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()?;
    present(name).ok_or_else(|| format!("{INSTALL} ran, but {name} is not in {:?}", folder()))
}

/// `etcd`, or a panic that says how to get it.
pub(crate) fn etcd() -> PathBuf {
    find("etcd").unwrap_or_else(|missing| panic!("{missing}"))
}

/// A program by its name if it is there, without fetching it.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    present(name)
}

/// `ringctl`, of the same build as the server; built now if it is older than its sources, as cargo
/// builds programs of other packages only when it is asked to.
pub(crate) fn ringctl() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_ringctl).clone()
}

fn build_ringctl() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_ringd")).with_file_name("ringctl");
    let sources = ["src", "proto", "ctl", "Cargo.toml"].map(|name| newest(&root().join(name)));
    let changed = sources.into_iter().flatten().max();
    if changed_at(&program) > changed {
        return program;
    }
    say("building ringctl");
    let folder = program.parent().expect("a program is in a folder");
    let profile = folder.file_name().and_then(|name| name.to_str());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "ringctl", "--manifest-path"]);
    cargo.arg(root().join("Cargo.toml"));
    cargo.arg("--target-dir").arg(folder.parent().expect("a build is in a folder"));
    if let Some(profile) = profile.filter(|&profile| profile != "debug") {
        cargo.args(["--profile", profile]);
    }
    let status = cargo.status().expect("the cargo that runs the tests runs");
    assert!(status.success(), "{cargo:?}: {status}");
    program
}

/// When a file was changed last, if it is there.
fn changed_at(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

/// When a file, or the newest in a folder, was changed last.
fn newest(path: &Path) -> Option<SystemTime> {
    let Ok(entries) = path.read_dir() else { return changed_at(path) };
    entries.filter_map(|entry| newest(&entry.ok()?.path())).max()
}

fn folder() -> PathBuf {
    root().join("target/peers")
}

/// The project's top folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn present(name: &str) -> Option<PathBuf> {
    let own = folder().join("bin").join(name);
    let given = setting("RINGD_PEERS").map(|folder| Path::new(&folder).join(name));
    [Some(own), given].into_iter().flatten().find(|path| path.is_file())
}

fn install() -> Result<(), String> {
    let script = root().join(INSTALL);
    say(format_args!("fetching etcd with {INSTALL}; this takes a minute or two, once"));
    let ran = Command::new(&script)
        .arg(folder())
        .output()
        .map_err(|error| format!("etcd is needed, and {INSTALL} does not run: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!(
        "etcd is needed to compare with, and {INSTALL} could not fetch it ({}).\n\
         Install Go 1.26 or newer, or set RINGD_PEERS to a folder with etcd and etcdctl.\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr)
    ))
}
