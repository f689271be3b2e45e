//! The flags that every verb has: from the command line, the environment, or by default.

use crate::arguments;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal;
use std::time::Duration;

/// Variables whose name begins like this are meant for us.
const PREFIX: &str = "ETCDCTL_";

/// Variables that only `watch` reads.
pub(crate) const WATCH_VARIABLES: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// Bytes of a request that is sent, if the flag does not say otherwise.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// How a flag's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Text,
    Integer,
    Duration,
    List,
}

/// One flag: its name, how it is written, its default, and what it is for.
type Flag = (&'static str, Kind, &'static str, &'static str);

/// Every flag of this kind.
const FLAGS: [Flag; 21] = [
    ("endpoints", Kind::List, "127.0.0.1:2379", "Servers, separated by commas"),
    ("write-out", Kind::Text, "simple", "Output: fields, json, protobuf, simple or table"),
    ("hex", Kind::Switch, "false", "Print bytes as \\x.. and ids in hexadecimal"),
    ("dial-timeout", Kind::Duration, "2s", "How long one attempt to connect may take"),
    ("command-timeout", Kind::Duration, "5s", "How long a command that does not wait may take"),
    ("keepalive-time", Kind::Duration, "2s", "After how long of silence a connection is probed"),
    ("keepalive-timeout", Kind::Duration, "6s", "How long such a probe may be unanswered"),
    ("max-request-bytes", Kind::Integer, "0", "Bytes of a request (0 means 2 MiB)"),
    ("max-recv-bytes", Kind::Integer, "0", "Bytes of an answer (0 means 2^31-1)"),
    ("user", Kind::Text, "", "name[:password]; asks for a password that is not given"),
    ("password", Kind::Text, "", "The password of --user"),
    ("auth-jwt-token", Kind::Text, "", "A token to be sent instead of a user's"),
    ("debug", Kind::Switch, "false", "Tell of every attempt to connect"),
    ("cacert", Kind::Text, "", "Not there yet: TLS"),
    ("cert", Kind::Text, "", "Not there yet: TLS"),
    ("key", Kind::Text, "", "Not there yet: TLS"),
    ("insecure-transport", Kind::Switch, "true", "Without TLS, the only way so far"),
    ("insecure-skip-tls-verify", Kind::Switch, "false", "Not there yet: TLS"),
    ("discovery-srv", Kind::Text, "", "Not there yet: servers found by DNS"),
    ("discovery-srv-name", Kind::Text, "", "Not there yet: servers found by DNS"),
    ("insecure-discovery", Kind::Switch, "true", "Not there yet: servers found by DNS"),
];

/// The flags as clap takes them.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    FLAGS.iter().map(|&(name, kind, default, help)| {
        let arg = match kind {
            Kind::Switch => arguments::switch(name, help)
                .value_parser(|text: &str| go::parse_bool(text).map(|_| text.to_owned())),
            Kind::Text => arguments::text(name, default, help),
            Kind::Integer => arguments::integer(name, help)
                .value_parser(|text: &str| go::parse_int(text, 0).map(|_| text.to_owned())),
            Kind::Duration => arguments::text(name, default, help)
                .value_name("duration")
                .value_parser(|text: &str| go::parse_duration(text).map(|_| text.to_owned())),
            Kind::List => repeated(name, default, help),
        };
        let arg = match name {
            "write-out" => arg.short('w'),
            "discovery-srv" => arg.short('d'),
            _ => arg,
        };
        arg.global(true).help_heading("Options of every verb")
    })
}

/// A flag whose values add up.
fn repeated(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .default_value(default)
        .value_name("strings")
        .allow_hyphen_values(true)
        .action(ArgAction::Append)
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people, and for scripts that know the verb.
    Simple,
    /// One document a line.
    Json,
    /// A field a line.
    Fields,
    /// A drawn table.
    Table,
    /// The message as it was sent.
    Protobuf,
}

/// What the flags say, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) format: Format,
    pub(crate) hex: bool,
    pub(crate) dial_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) keepalive_time: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) request_bytes_max: usize,
    pub(crate) answer_bytes_max: usize,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) debug: bool,
}

/// The raw value of each flag.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name).to_owned()).filter(|text| !text.is_empty())
    }

    fn is_on(&self, name: &str) -> bool {
        go::parse_bool(self.text(name)).is_ok_and(|on| on)
    }

    fn duration(&self, name: &str) -> Duration {
        go::parse_duration(self.text(name)).expect("it was parsed before")
    }

    /// A limit in bytes, `default` for none.
    fn bytes(&self, name: &str, default: usize) -> usize {
        let number = go::parse_int(self.text(name), 0).expect("it was parsed before");
        usize::try_from(number).ok().filter(|&bytes| bytes > 0).unwrap_or(default)
    }
}

impl Settings {
    /// What the command line and the environment say.
    ///
    /// # Errors
    ///
    /// A value that is wrong, a flag that is given in both, or one for what is not there yet.
    pub(crate) fn new(
        given: &ArgMatches,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let values = values(given, variables)?;
        refuse(&values)?;
        let format = match values.text("write-out") {
            "simple" => Format::Simple,
            "json" => Format::Json,
            "fields" => Format::Fields,
            "table" => Format::Table,
            "protobuf" => Format::Protobuf,
            _ => return Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        };
        let endpoints = values.text("endpoints").split(',').map(str::trim);
        let endpoints = endpoints.filter(|text| !text.is_empty()).map(str::to_owned).collect();
        let answers_max = usize::try_from(i32::MAX).expect("a positive number");
        Ok(Self {
            endpoints,
            format,
            hex: values.is_on("hex"),
            dial_timeout: values.duration("dial-timeout"),
            command_timeout: values.duration("command-timeout"),
            keepalive_time: values.duration("keepalive-time"),
            keepalive_timeout: values.duration("keepalive-timeout"),
            request_bytes_max: values.bytes("max-request-bytes", REQUEST_BYTES_MAX),
            answer_bytes_max: values.bytes("max-recv-bytes", answers_max),
            user: values.some("user"),
            password: values.some("password"),
            token: values.some("auth-jwt-token"),
            debug: values.is_on("debug"),
        })
    }
}

impl Settings {
    /// Splits `--user name:password`, and asks for a password that is nowhere.
    ///
    /// # Errors
    ///
    /// That it cannot be asked for.
    pub(crate) fn complete(&mut self) -> Result<(), Failure> {
        let (Some(user), None) = (&self.user, &self.password) else { return Ok(()) };
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.to_owned()),
            None => {
                let why = |error| Failure::new(Exit::BadConnection, format!("--user: {error}"));
                (user.clone(), ask_for_password().map_err(why)?)
            }
        };
        (self.user, self.password) = (Some(name), Some(password));
        Ok(())
    }

    /// What the flags of a command line without flags say, of one server.
    #[cfg(test)]
    pub(crate) fn of(endpoint: &str) -> Self {
        let command = clap::Command::new("x").args(flags());
        let given = command.get_matches_from(["x", "--endpoints", endpoint]);
        Self::new(&given, &BTreeMap::new()).expect("it is right")
    }
}

/// The password that a person types unseen, or that a program writes as a line.
fn ask_for_password() -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("Password: ");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The value of each flag: from the command line, else from its variable, else by default.
fn values(given: &ArgMatches, variables: &BTreeMap<String, String>) -> Result<Values, Failure> {
    let mut values = BTreeMap::new();
    for (name, kind, default, _) in FLAGS {
        let variable = format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"));
        let set = variables.get(&variable).filter(|text| !text.is_empty());
        let is_given = given.value_source(name) == Some(ValueSource::CommandLine);
        let value = match set {
            Some(_) if is_given => {
                let why = "either unset the variable or leave out the flag";
                let text = format!("{variable} and --{name} are both given: {why}");
                return Err(Failure::new(Exit::Error, text));
            }
            Some(text) => {
                let right = match kind {
                    Kind::Switch => go::parse_bool(text).map(drop),
                    Kind::Integer => go::parse_int(text, 0).map(drop),
                    Kind::Duration => go::parse_duration(text).map(drop),
                    Kind::Text | Kind::List => Ok(()),
                };
                let quoted = go::quote(text.as_bytes());
                right.map_err(|why| {
                    Failure::arguments(format!("invalid value {quoted} for {variable}: {why}"))
                })?;
                text.clone()
            }
            None if is_given => {
                let all = given.get_many::<String>(name).into_iter().flatten();
                all.cloned().collect::<Vec<_>>().join(",")
            }
            None => default.to_owned(),
        };
        values.insert(name, value);
    }
    Ok(Values(values))
}

/// Refuses by name what is not there yet.
fn refuse(values: &Values) -> Result<(), Failure> {
    let tls = ["cacert", "cert", "key"].into_iter().find(|name| !values.text(name).is_empty());
    let tls = tls
        .or_else(|| values.is_on("insecure-skip-tls-verify").then_some("insecure-skip-tls-verify"));
    let tls = tls.or_else(|| (!values.is_on("insecure-transport")).then_some("insecure-transport"));
    if let Some(name) = tls {
        let text = format!("--{name}: there is no TLS yet; connections are plain");
        return Err(Failure::arguments(text));
    }
    let mut names = ["discovery-srv", "discovery-srv-name"].into_iter();
    if let Some(name) = names.find(|name| !values.text(name).is_empty()) {
        let text = format!("--{name}: servers are not found by DNS yet; name them in --endpoints");
        return Err(Failure::arguments(text));
    }
    Ok(())
}

/// Variables that look like ours and are not, as warnings.
pub(crate) fn unknown(variables: &BTreeMap<String, String>) -> Vec<String> {
    let known = |variable: &str| {
        let name = variable.strip_prefix(PREFIX).map(|name| name.to_lowercase().replace('_', "-"));
        WATCH_VARIABLES.contains(&variable)
            || FLAGS.iter().any(|(flag, ..)| name.as_deref() == Some(*flag))
    };
    let ours = variables.iter().filter(|(name, _)| name.starts_with(PREFIX));
    ours.filter(|(name, _)| !known(name))
        .map(|(name, value)| format!("unrecognized environment variable {name}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    fn settings(line: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let command = Command::new("x").args(flags()).no_binary_name(true);
        let given = command.try_get_matches_from(line).expect("it is right");
        let variables =
            variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Settings::new(&given, &variables)
    }

    #[test]
    fn a_flag_comes_from_the_command_line_the_environment_or_by_default() {
        let set = settings(&["--endpoints=a,b", "--endpoints", "c"], &[("ETCDCTL_HEX", "1")]);
        let set = set.expect("it is right");
        assert_eq!(set.endpoints, ["a", "b", "c"]);
        assert!(set.hex);
        assert_eq!(set.format, Format::Simple);
        assert_eq!(set.command_timeout, Duration::from_secs(5));
        assert_eq!(set.request_bytes_max, 2 << 20);
        let set = settings(&["-wjson"], &[("ETCDCTL_COMMAND_TIMEOUT", "1m")]).expect("right");
        assert_eq!((set.format, set.command_timeout), (Format::Json, Duration::from_secs(60)));
    }

    #[test]
    fn what_is_wrong_or_not_there_yet_is_told_by_name() {
        for (line, variables, code, part) in [
            (&["--hex"][..], &[("ETCDCTL_HEX", "true")][..], 1, "ETCDCTL_HEX and --hex"),
            (&[], &[("ETCDCTL_DIAL_TIMEOUT", "5")], 128, "missing unit"),
            (&["-w", "xml"], &[], 4, "unsupported output format"),
            (&["--cert", "x"], &[], 128, "--cert: there is no TLS yet"),
            (&["--insecure-transport=false"], &[], 128, "--insecure-transport: there is no TLS"),
            (&["-d", "x"], &[], 128, "--discovery-srv"),
        ] {
            let failure = settings(line, variables).expect_err("it is refused");
            assert_eq!(failure.code, code, "{line:?}");
            assert!(failure.text.as_ref().is_some_and(|text| text.contains(part)), "{failure:?}");
        }
    }

    #[test]
    fn variables_that_nobody_reads_are_told() {
        let variables = ["ETCDCTL_API", "ETCDCTL_ENDPOINTS", "ETCDCTL_WATCH_KEY", "PATH"];
        let variables = variables.iter().map(|&name| (name.to_owned(), "3".to_owned())).collect();
        assert_eq!(unknown(&variables), ["unrecognized environment variable ETCDCTL_API=3"]);
    }
}
