//! The command line: how flags are declared and read, and what is said of one that is wrong.
//!
//! clap parses; the spelling of values and the words of complaints are those of etcdctl's parser.

use crate::go;
use bytes::Bytes;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use clap::value_parser;
use std::error::Error;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The name under which a verb keeps what is no flag.
const REST: &str = "arguments";

/// A flag that is on or off; `--name=false` puts it off.
pub(crate) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("bool")
        .value_parser(go::parse_bool)
        .overrides_with(name)
}

/// A flag with a text.
pub(crate) fn text(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .default_value(default)
        .hide_default_value(default.is_empty())
        .value_name("string")
        .allow_hyphen_values(true)
        .overrides_with(name)
}

/// A flag with a whole number, 0 if it is not given.
pub(crate) fn integer(name: &'static str, help: &'static str) -> Arg {
    text(name, "0", help)
        .hide_default_value(true)
        .value_name("int")
        .value_parser(|text: &str| go::parse_int(text, 0))
}

/// A verb with what is no flag, any number of it, of any bytes; `rest` is its name for the help,
/// empty if the verb has no use for it.
pub(crate) fn verb(name: &'static str, about: &'static str, rest: &'static str) -> Command {
    Command::new(name).about(about).arg(
        Arg::new(REST)
            .value_name(rest)
            .hide(rest.is_empty())
            .num_args(0..)
            .action(ArgAction::Append)
            .value_parser(value_parser!(OsString)),
    )
}

/// Whether a [`switch`] is on.
pub(crate) fn is_on(given: &ArgMatches, name: &str) -> bool {
    given.get_one::<bool>(name).copied().unwrap_or_default()
}

/// The number of an [`integer`].
pub(crate) fn number_of(given: &ArgMatches, name: &str) -> i64 {
    given.get_one::<i64>(name).copied().unwrap_or_default()
}

/// The text of a [`text`].
pub(crate) fn text_of<'a>(given: &'a ArgMatches, name: &str) -> &'a str {
    given.get_one::<String>(name).map_or("", String::as_str)
}

/// What is no flag, as it was written.
pub(crate) fn rest_of(given: &ArgMatches) -> Vec<OsString> {
    given.get_many::<OsString>(REST).map_or_else(Vec::new, |rest| rest.cloned().collect())
}

/// What is no flag, as bytes.
pub(crate) fn bytes_of(given: &ArgMatches) -> Vec<Bytes> {
    rest_of(given).iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// What is no flag, as text; bytes that are none show as such.
pub(crate) fn texts_of(given: &ArgMatches) -> Vec<String> {
    rest_of(given).iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// What etcdctl says of a command line that clap refuses.
pub(crate) fn complaint(error: &clap::Error, line: &[OsString]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // `--name <value>`, `--name[=<value>]`, `-n`: the flag alone.
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split([' ', '=', '[']).next().unwrap_or(argument);
    let value = context(ContextKind::InvalidValue);
    let kind = error.kind();
    if kind == ErrorKind::UnknownArgument && flag.starts_with("--") {
        format!("unknown flag: {flag}")
    } else if kind == ErrorKind::UnknownArgument {
        let letter = flag.chars().nth(1).unwrap_or('-');
        let mut words = line.iter().map(|word| word.to_string_lossy());
        let is_short = |word: &str| word.starts_with('-') && !word.starts_with("--");
        let word = words.find(|word| is_short(word) && word.contains(letter));
        let word = word.unwrap_or_else(|| flag.into());
        format!("unknown shorthand flag: '{letter}' in {word}")
    } else if kind == ErrorKind::InvalidValue && value.is_empty() {
        format!("flag needs an argument: {flag}")
    } else if kind == ErrorKind::ValueValidation {
        let why = error.source().map_or_else(String::new, ToString::to_string);
        format!("invalid argument {} for \"{flag}\" flag: {why}", go::quote(value.as_bytes()))
    } else {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verb with a flag of each kind.
    fn command() -> Command {
        verb("v", "A verb.", "[key]").no_binary_name(true).args([
            switch("on", ""),
            text("name", "x", ""),
            integer("count", ""),
        ])
    }

    fn parse(line: &[&str]) -> Result<ArgMatches, String> {
        let line: Vec<_> = line.iter().map(OsString::from).collect();
        command().try_get_matches_from(&line).map_err(|error| complaint(&error, &line))
    }

    #[test]
    fn flags_stand_anywhere_and_the_last_one_counts() {
        let line = ["a", "--on", "b", "--name", "-5", "--count=0x10", "--name=y", "--", "--on"];
        let given = parse(&line).expect("it is right");
        assert!(is_on(&given, "on"));
        assert_eq!(text_of(&given, "name"), "y");
        assert_eq!(number_of(&given, "count"), 16);
        assert_eq!(texts_of(&given), ["a", "b", "--on"]);
        let given = parse(&["--on", "--on=false"]).expect("it is right");
        assert!(!is_on(&given, "on"));
        assert_eq!(text_of(&given, "name"), "x");
        assert!(bytes_of(&given).is_empty());
    }

    #[test]
    fn complaints_are_etcdctls() {
        let number = "strconv.ParseInt: parsing \"x\": invalid syntax";
        for (line, said) in [
            (&["--bogus=1"][..], "unknown flag: --bogus".to_owned()),
            (&["a", "-5"], "unknown shorthand flag: '5' in -5".to_owned()),
            (&["-qz"], "unknown shorthand flag: 'q' in -qz".to_owned()),
            (&["--name"], "flag needs an argument: --name".to_owned()),
            (&["--count", "x"], format!("invalid argument \"x\" for \"--count\" flag: {number}")),
            (
                &["--on=x"],
                "invalid argument \"x\" for \"--on\" flag: \
                 strconv.ParseBool: parsing \"x\": invalid syntax"
                    .to_owned(),
            ),
        ] {
            assert_eq!(parse(line).expect_err("it is wrong"), said, "{line:?}");
        }
    }
}
