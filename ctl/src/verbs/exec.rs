//! The commands of other programs that `watch` and `lock` run.

use crate::go;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::process::Stdio;
use tokio::process::Command;

/// A command without input, with our outputs and some variables more.
pub(super) async fn run(
    words: &[OsString],
    variables: &[(&str, OsString)],
) -> Result<ExitStatus, String> {
    let [program, arguments @ ..] = words else { return Err("no command".to_owned()) };
    let ended = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .status()
        .await;
    let name = program.to_string_lossy();
    ended.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound && !name.contains('/') {
            format!("exec: \"{name}\": executable file not found in $PATH")
        } else {
            format!("fork/exec {name}: {}", go::reason(&error))
        }
    })
}

/// How a command ended, in Go's words.
pub(super) fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                1 => "hangup",
                2 => "interrupt",
                3 => "quit",
                6 => "aborted",
                9 => "killed",
                11 => "segmentation fault",
                13 => "broken pipe",
                15 => "terminated",
                _ => return format!("signal: signal {signal}"),
            };
            format!("signal: {name}")
        }
        (None, None) => status.to_string(),
    }
}
