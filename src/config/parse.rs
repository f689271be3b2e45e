//! From the command line, the environment and a file to a [`Config`].

use crate::config::Config;
use crate::config::error::{ConfigError, Source};
use crate::config::features::Gates;
use crate::config::file;
use crate::config::flags::{self, Fate, Flag, Kind};
use crate::config::url::Url;
use crate::config::value::ValueError;
use core::net::IpAddr;
use std::collections::BTreeSet;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The text of [`crate::config::help`], on standard output.
    Help,
    /// The text of [`crate::config::version`], on standard output.
    Version,
    /// A node.
    Run(Box<Start>),
}

/// A node to run, and what to say about how it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The node.
    pub config: Config,
    /// Lines for the log, once there is one.
    pub notices: Vec<Notice>,
}

/// A line for the log about how the node was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Everything came from this file.
    File(String),
    /// This variable stood for a flag.
    VariableUsed {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// This variable looks like one of ours and is none; a warning.
    VariableUnknown {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// What is told by default names this host, as all of the machine's addresses are listened on.
    Host(String),
    /// It would, and the machine has no default route.
    NoHost,
    /// This key of the file is none of ours, nor of etcd's; a warning.
    KeyUnknown {
        /// Its name, behind that of its block.
        key: String,
        /// The nearest that is known, if one is near.
        nearest: Option<&'static str>,
    },
    /// This flag sets something that ringd does not heed yet; a warning.
    NotHeeded {
        /// Its name.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// This flag changes nothing in ringd; a warning.
    NoEffect {
        /// Its name.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// This flag is one of an earlier etcd; a warning.
    Former {
        /// Its name.
        flag: &'static str,
        /// What etcd has in its place.
        instead: &'static str,
    },
}

/// A configuration on its way: what was said, before what follows from it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) listen_client: Vec<Url>,
    pub(super) advertise_client: Vec<Url>,
    pub(super) shards: u32,
    pub(super) shard_listen: Vec<(String, Url)>,
    pub(super) shard_advertise: Vec<(String, Url)>,
    pub(super) quota_bytes: i64,
    pub(super) learners_max: i64,
    pub(super) compaction_mode: String,
    pub(super) compaction_retention: String,
    pub(super) logger: String,
    pub(super) log_level: String,
    pub(super) log_format: String,
    pub(super) log_default: bool,
    pub(super) no_sync: bool,
    pub(super) gates: Gates,
    pub(super) config_file: String,
    pub(super) version: bool,
    /// The flags that were given, wherever.
    pub(super) given: BTreeSet<&'static str>,
    pub(super) notices: Vec<Notice>,
}

/// Reads a command line, an environment and, if they name one, a file.
///
/// # Shape
/// `arguments` has no program name. `environment` may hold anything; only `ETCD_*` counts.
/// `read` gives the text of the file at a path, or the system's reason why not; `host` the
/// machine's address on its default route, if there is one. With a file, flags and variables must
/// still be well-formed but have no effect.
///
/// # Errors
/// The first [`ConfigError`]; arguments come before variables, and both before rules between them.
pub fn parse(
    arguments: &[String],
    environment: &[(String, String)],
    read: impl FnOnce(&str) -> Result<String, String>,
    host: impl FnOnce() -> Option<IpAddr>,
) -> Result<Command, ConfigError> {
    let mut draft = Draft::new();
    if draft.take_arguments(arguments)? {
        return Ok(Command::Help);
    }
    if draft.version {
        return Ok(Command::Version);
    }
    if draft.config_file.is_empty() {
        let named = environment.iter().find(|(name, _)| name == "ETCD_CONFIG_FILE");
        draft.config_file = named.map(|(_, value)| value.clone()).unwrap_or_default();
    }
    if draft.config_file.is_empty() {
        draft.take_environment(environment)?;
    } else {
        let path = draft.config_file;
        let text =
            read(&path).map_err(|why| ConfigError::FileUnreadable { path: path.clone(), why })?;
        draft = Draft::new();
        for (flag, value) in file::values(&path, &text, &mut draft.notices)? {
            draft.take(flag, &value).map_err(|why| ConfigError::FileValue {
                path: path.clone(),
                key: flag.name.to_owned(),
                found: format!("{value:?}"),
                expected: why.to_string(),
            })?;
            draft.refuse(flag, &value)?;
        }
        draft.notices.push(Notice::File(path));
    }
    let start = draft.finish(host)?;
    Ok(Command::Run(Box::new(start)))
}

/// The variable that stands for a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

impl Draft {
    /// Everything as it is when nothing is said.
    fn new() -> Self {
        let url = |text: &str| vec![Url::parse(text).expect("a default is well-formed")];
        Self {
            config: Config::default(),
            listen_client: url("http://localhost:2379"),
            advertise_client: url("http://localhost:2379"),
            shards: 1,
            shard_listen: Vec::new(),
            shard_advertise: Vec::new(),
            quota_bytes: 0,
            learners_max: 1,
            compaction_mode: "periodic".to_owned(),
            compaction_retention: "0".to_owned(),
            logger: "zap".to_owned(),
            log_level: "info".to_owned(),
            log_format: "json".to_owned(),
            log_default: false,
            no_sync: false,
            gates: Gates::default(),
            config_file: String::new(),
            version: false,
            given: BTreeSet::new(),
            notices: Vec::new(),
        }
    }

    /// Takes in the command line; true if it asks for help.
    fn take_arguments(&mut self, arguments: &[String]) -> Result<bool, ConfigError> {
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
                return Err(stray(argument));
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            if body.is_empty() {
                // Go stops at `--`; etcd then refuses what follows it.
                return rest.next().map_or(Ok(false), |next| Err(stray(next)));
            }
            if body.starts_with(['-', '=']) {
                return Err(ConfigError::BadSyntax(argument.clone()));
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let Some(flag) = flags::find(name) else {
                if name == "help" || name == "h" {
                    return Ok(true);
                }
                let nearest = flags::nearest(name);
                return Err(ConfigError::UnknownFlag { name: name.to_owned(), nearest });
            };
            let value = match value {
                Some(value) => value,
                None if flag.kind == Kind::Boolean => "true",
                None => rest.next().ok_or(ConfigError::NoValue(flag.name))?,
            };
            let kind = if flag.kind == Kind::Boolean { Source::BooleanFlag } else { Source::Flag };
            self.take(flag, value).map_err(|why| bad_value(kind, flag, value, why))?;
            self.refuse(flag, value)?;
        }
        Ok(false)
    }

    /// Takes in the environment, after the command line.
    fn take_environment(&mut self, all: &[(String, String)]) -> Result<(), ConfigError> {
        let mut ours: Vec<_> = all.iter().filter(|(name, _)| name.starts_with("ETCD_")).collect();
        ours.sort();
        for (name, value) in ours {
            if ["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY", "ETCD_CONFIG_FILE"]
                .contains(&name.as_str())
            {
                continue;
            }
            let Some(flag) = flags::all().find(|flag| variable(flag.name) == *name) else {
                let (name, value) = (name.clone(), value.clone());
                self.notices.push(Notice::VariableUnknown { name, value });
                continue;
            };
            if self.given.contains(flag.name) {
                return Err(ConfigError::Shadowed(name.clone()));
            }
            if value.is_empty() {
                continue;
            }
            self.take(flag, value).map_err(|why| bad_value(Source::Variable, flag, value, why))?;
            self.refuse(flag, value)?;
            let (name, value) = (name.clone(), value.clone());
            self.notices.push(Notice::VariableUsed { name, value });
        }
        Ok(())
    }

    /// Takes in one value of one flag.
    fn take(&mut self, flag: &'static Flag, value: &str) -> Result<(), ValueError> {
        self.given.insert(flag.name);
        match flag.fate {
            Fate::Set(apply) => apply(self, value),
            Fate::Early(apply) => {
                if !flags::is_default(flag, value) {
                    let value = value.to_owned();
                    self.notices.push(Notice::NotHeeded { flag: flag.name, value });
                }
                apply(self, value)
            }
            Fate::Inert => {
                let value_given = value.to_owned();
                self.notices.push(Notice::NoEffect { flag: flag.name, value: value_given });
                flags::check(flag.kind, value)
            }
            Fate::NotYet => flags::check(flag.kind, value),
        }
    }

    /// Refuses what was well said but cannot be had.
    fn refuse(&self, flag: &Flag, value: &str) -> Result<(), ConfigError> {
        if matches!(flag.fate, Fate::NotYet) && !flags::is_default(flag, value) {
            return Err(ConfigError::NotYet {
                name: flag.name.to_owned(),
                value: value.to_owned(),
            });
        }
        if self.no_sync { Err(ConfigError::NoSync) } else { Ok(()) }
    }
}

/// The error of an argument that is no flag.
fn stray(argument: &str) -> ConfigError {
    match argument {
        "gateway" | "grpc-proxy" => ConfigError::SubCommand(argument.to_owned()),
        _ => ConfigError::Stray(argument.to_owned()),
    }
}

/// The error of a value.
fn bad_value(kind: Source, flag: &Flag, value: &str, why: ValueError) -> ConfigError {
    ConfigError::BadValue { kind, name: flag.name, value: value.to_owned(), why }
}
