//! `ringctl`: the client and offline tool of ringd, with the commands of etcdctl.
//!
//! What one would do with etcdctl is spelled the same here, prints the same and exits the same:
//!
//! - [`settings`], [`arguments`]: the command line and the environment;
//! - [`client`]: the calls, and the servers that are asked;
//! - [`verbs`]: one module per command;
//! - [`mod@print`]: what is shown of an answer;
//! - [`words`], [`go`]: etcdctl's small languages, and the notations of the one it is written in;
//! - [`inspect`], [`playground`]: the commands of our own, which need no server that runs.

mod arguments;
mod client;
mod failure;
mod go;
mod inspect;
mod playground;
mod print;
mod settings;
mod verbs;
mod words;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::verbs::Context;
use clap::ArgMatches;
use clap::Command;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::io::Write;
use std::process::ExitCode;

/// Says something to whoever watches, beside what is printed.
fn tell(line: impl fmt::Display) {
    // Nobody is left to be told that this failed.
    let _ = writeln!(io::stderr(), "{line}");
}

/// The whole command line.
fn command() -> Command {
    Command::new("ringctl")
        .about("The client and offline tool of ringd, with the commands of etcdctl.")
        .version(env!("CARGO_PKG_VERSION"))
        .args(settings::flags())
        .subcommands(verbs::commands())
        .subcommand(inspect::command())
}

fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let outcome = match command().try_get_matches_from(&line) {
        Ok(given) => run(&given, &line),
        Err(error) => refuse(&error, &line),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            if let Some(text) = text {
                tell(format_args!("Error: {text}"));
            }
            ExitCode::from(code)
        }
    }
}

/// Answers a command line that clap does not take: help that was asked for, or what is wrong.
fn refuse(error: &clap::Error, line: &[OsString]) -> Result<(), Failure> {
    let kind = error.kind();
    if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&kind) {
        return error.print().map_err(|error| Failure::new(Exit::Error, error));
    }
    let text = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => verbs::unknown(name),
        _ => arguments::complaint(error, line),
    };
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => format!("\n{usage}"),
        _ => String::new(),
    };
    Err(Failure::new(Exit::Error, format!("{text}{usage}\nRun 'ringctl --help' for usage.")))
}

/// Runs what was asked for.
fn run(given: &ArgMatches, line: &[OsString]) -> Result<(), Failure> {
    let Some((name, mut given_here)) = given.subcommand() else { return help(&[]) };
    if name == "inspect" {
        return inspect::run(given_here);
    }
    let mut path = vec![name];
    while let Some((name, given)) = given_here.subcommand() {
        path.push(name);
        given_here = given;
    }
    let variables: BTreeMap<_, _> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    for warning in settings::unknown(&variables) {
        tell(format_args!("ringctl: {warning}"));
    }
    if path.len() == 1 && verbs::is_group(name) {
        return help(&path);
    }
    let mut settings = Settings::new(given_here, &variables)?;
    settings.complete()?;
    let context =
        Context { settings, variables, has_separator: line.iter().any(|word| word == "--") };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Error, error))?;
    let outcome = runtime.block_on(verbs::run(&path, given_here, &context));
    // A thread may still be reading standard input; nobody waits for what it would find.
    runtime.shutdown_background();
    outcome
}

/// Prints the help of a command.
fn help(path: &[&str]) -> Result<(), Failure> {
    let mut command = command();
    command.build();
    let mut wanted = &mut command;
    for name in path {
        wanted = wanted.find_subcommand_mut(name).expect("it was given");
    }
    wanted.print_help().map_err(|error| Failure::new(Exit::Error, error))
}
