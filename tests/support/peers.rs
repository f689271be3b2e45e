//! Where the programs that we compare with are: etcd, etcdctl, h2spec.

use super::{say, setting};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The project's own script that puts them into [`folder`].
const INSTALL: &str = "tests/tools/install-etcd";

/// The server under test: ours, or what `UNDER_TEST` names.
pub(crate) fn under_test() -> PathBuf {
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
