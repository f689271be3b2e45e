//! From a command line to a running node.

use crate::config::{self, Command, ConfigError, Notice, Start};
use crate::rt::log;
use crate::rt::machine;
use crate::rt::notify;
use crate::rt::server;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the server as its command line and environment ask, until it ends.
///
/// # Shape
/// `arguments` has no program name. The answer is what the process exits with: 0 after help and a
/// clean end, 2 for a command line that cannot be read, 1 for everything else.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    // Only texts have a meaning here; what is not UTF-8 is refused as the text it resembles.
    let text = |os: OsString| os.to_string_lossy().into_owned();
    let arguments: Vec<_> = arguments.map(text).collect();
    let environment: Vec<_> = environment.collect();
    let waits = environment.iter().find(|(name, _)| name == notify::VARIABLE);
    let waits = waits.map(|(_, socket)| socket.clone()).filter(|socket| !socket.is_empty());
    let texts = environment.into_iter().map(|(name, value)| (text(name), text(value)));
    let environment: Vec<_> = texts.collect();
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| plain(&error));
    match config::parse(&arguments, &environment, read, machine::default_host) {
        Ok(Command::Help) => print(&config::help()),
        Ok(Command::Version) => print(&config::version()),
        Ok(Command::Run(start)) => serve(*start, waits.as_deref()),
        Err(error) => refuse(&error),
    }
}

/// Starts the log, then the node; tells it to who waits for it at a socket.
fn serve(start: Start, waits: Option<&OsStr>) -> ExitCode {
    if let Err(error) = log::start(&start.config.log) {
        let _ = writeln!(io::stderr(), "{error}");
        return ExitCode::FAILURE;
    }
    for notice in &start.notices {
        tell(notice);
    }
    match server::run(start.config, waits) {
        Ok(signal) => {
            // The exit code says by which signal, as etcd's does.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(target: log::FATAL, "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs what there is to say about the configuration.
fn tell(notice: &Notice) {
    match notice {
        Notice::File(path) => tracing::info!(
            path,
            "loaded server configuration, other configuration command line flags and environment \
             variables will be ignored if provided"
        ),
        Notice::VariableUsed { name, value } => tracing::info!(
            "variable-name" = name,
            "variable-value" = value,
            "recognized and used environment variable"
        ),
        Notice::VariableUnknown { name, value } => tracing::warn!(
            "environment-variable" = format!("{name}={value}"),
            "unrecognized environment variable"
        ),
        Notice::Host(host) => tracing::info!(host, "detected default host for advertise"),
        Notice::NoHost => {
            tracing::info!(error = "could not find default route", "failed to detect default host");
        }
        Notice::KeyUnknown { key, nearest } => {
            tracing::warn!(key, nearest, "unrecognized key of the configuration file");
        }
        Notice::NotHeeded { flag, value } => {
            tracing::warn!(flag, value, "flag is not heeded by ringd yet");
        }
        Notice::NoEffect { flag, value } => {
            tracing::warn!(flag, value, "flag has no effect in ringd");
        }
        Notice::Former { flag, instead } => {
            tracing::warn!(flag, instead, "flag is of an earlier etcd");
        }
    }
}

/// Says why the node cannot run: plainly if the command line cannot be read, else as etcd logs it.
fn refuse(error: &ConfigError) -> ExitCode {
    if error.shows_usage() {
        let _ = write!(io::stderr(), "{error}\n{}", config::usage());
    } else if log::start(&config::Config::default().log).is_ok() {
        tracing::error!(target: log::FATAL, error = %error, "failed to verify flags");
    }
    ExitCode::from(error.exit_code())
}

/// Writes to the standard output; a reader that left early is no failure.
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// A system error in the words that etcd's users know: lower case, no number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
