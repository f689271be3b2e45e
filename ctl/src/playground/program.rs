//! Which server is started.

use crate::failure::Exit;
use crate::failure::Failure;
use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// What the server is called.
const NAME: &str = "ringd";

/// The server: as the flag says, else the one beside this program, else the first on `PATH`.
///
/// # Errors
///
/// That there is none.
pub(super) fn find(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return match whole(path) {
            Some(path) => Ok(path),
            None => Err(Failure::arguments(format!("--ringd: {} is no program", path.display()))),
        };
    }
    let beside = env::current_exe().ok().and_then(|own| whole(&own.with_file_name(NAME)));
    let folders = env::var_os("PATH").unwrap_or_default();
    let on_path = || env::split_paths(&folders).find_map(|folder| whole(&folder.join(NAME)));
    beside.or_else(on_path).ok_or_else(|| {
        let text = "there is no ringd beside ringctl or on PATH; name it with --ringd";
        Failure::new(Exit::Error, text)
    })
}

/// The whole path of a file that can be run; none if it is no such.
fn whole(path: &Path) -> Option<PathBuf> {
    let about = path.metadata().ok()?;
    let is_program = about.is_file() && about.permissions().mode() & 0o111 != 0;
    if is_program { path.canonicalize().ok() } else { None }
}
