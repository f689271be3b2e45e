//! What `--help` and `--version` print.

use crate::config::flags::{Fate, Flag, SECTIONS, all};
use crate::config::{ETCD_VERSION, RINGD_VERSION};
use std::fmt::Write as _;

/// The text of `--version`: etcd's four lines, which tools read, and then our own.
#[must_use]
pub fn version() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {ETCD_VERSION}\n\
         Git SHA: Not provided (ringd {RINGD_VERSION})\n\
         Go Version: none (ringd is written in Rust)\n\
         Go OS/Arch: {}/{architecture}\n\
         ringd Version: {RINGD_VERSION}\n",
        std::env::consts::OS,
    )
}

/// How the program is called; the flags are in [`help`].
#[must_use]
pub fn usage() -> &'static str {
    "Usage:\n\n\
         \x20 ringd [flags]\n    Start a node.\n\n\
         \x20 ringd --version\n    Show the versions of etcd's behaviour and of ringd.\n\n\
         \x20 ringd -h | --help\n    Show this help.\n\n\
         \x20 ringd --config-file PATH\n    Read a YAML or JSON file whose keys are the flags' \
         names (durations in nanoseconds);\n    then other flags and environment variables have no \
         effect.\n\n\
         Each flag may also be given as ETCD_<NAME> in the environment, but not in both places.\n"
}

/// The text of `--help`: the usage and every flag.
#[must_use]
pub fn help() -> String {
    let mut text = usage().to_owned();
    for (title, flags) in SECTIONS.iter().filter(|(title, _)| !title.is_empty()) {
        write_section(&mut text, title, flags).expect("a String grows");
    }
    write_names(&mut text, "Accepted, without effect in ringd", |fate| matches!(fate, Fate::Inert));
    write_names(&mut text, "Of etcd, not implemented yet in ringd", |fate| {
        matches!(fate, Fate::NotYet)
    });
    text
}

/// One heading with its flags.
fn write_section(text: &mut String, title: &str, flags: &[Flag]) -> std::fmt::Result {
    write!(text, "\n{title}:\n")?;
    for flag in flags.iter().filter(|flag| !flag.help.is_empty()) {
        write!(text, "  --{} '{}'\n    {}\n", flag.name, flag.default, flag.help)?;
    }
    Ok(())
}

/// One heading with the names of the flags of a fate, as many to a line as fit.
fn write_names(text: &mut String, title: &str, chosen: fn(&Fate) -> bool) {
    text.push_str(&format!("\n{title}:\n "));
    let mut column = 1;
    for flag in all().filter(|flag| chosen(&flag.fate)) {
        if column + flag.name.len() > 98 {
            text.push_str("\n ");
            column = 1;
        }
        text.push(' ');
        text.push_str(flag.name);
        column += flag.name.len() + 1;
    }
    text.push('\n');
}
