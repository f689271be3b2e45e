//! What happened, a line each: `tracing` events in the form of etcd's log.
//!
//! An event's message is its `msg`, and its fields follow in the order they were written. Error
//! events with the target [`PANIC`] or [`FATAL`] carry those levels. A field recorded with `?`
//! whose text is a list of texts or numbers becomes a list.
//!
//! Spans are not printed: one turn of a core serves many calls at once.

use crate::config::{Log, LogFormat, LogLevel, LogOutput};
use crate::rt::clock;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

/// The target of an error event that says why the process ends.
pub(crate) const FATAL: &str = "fatal";

/// The target of an error event that says which assertion failed.
pub(crate) const PANIC: &str = "panic";

/// A file that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot open --log-outputs {path}: {cause}")]
pub(crate) struct LogError {
    path: PathBuf,
    cause: io::Error,
}

/// Sends every event of the process to where `log` says, from here on; only the first call counts.
///
/// # Errors
/// [`LogError`] if a file cannot be opened.
pub(crate) fn start(log: &Log) -> Result<(), LogError> {
    let sinks = log.outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let lines =
        Lines { level: log.level, format: log.format, now: clock::wall, sinks: sinks.into() };
    if tracing::subscriber::set_global_default(registry().with(lines)).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(target: PANIC, "{panic}");
        }));
    }
    Ok(())
}

/// Somewhere that lines go.
type Sink = Box<dyn Write + Send>;

/// Opens one output.
fn open(output: &LogOutput) -> Result<Sink, LogError> {
    match output {
        LogOutput::Stderr => Ok(Box::new(io::stderr())),
        LogOutput::Stdout => Ok(Box::new(io::stdout())),
        LogOutput::File(path) => File::options()
            .append(true)
            .create(true)
            .open(path)
            .map(|file| Box::new(file) as Sink)
            .map_err(|cause| LogError { path: path.clone(), cause }),
    }
}

/// Events as lines.
struct Lines {
    level: LogLevel,
    format: LogFormat,
    now: fn() -> Duration,
    sinks: Mutex<Vec<Sink>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && level(metadata) >= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = match self.format {
            LogFormat::Json => line.json(event.metadata(), (self.now)()),
            LogFormat::Console => line.console(event.metadata(), (self.now)()),
        };
        text.push('\n');
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter_mut() {
            // A line that cannot be written has nobody to be reported to.
            let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
        }
    }
}

/// An event's level.
fn level(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => LogLevel::Fatal,
        Level::ERROR if metadata.target() == PANIC => LogLevel::Panic,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// A level's name.
fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Panic => "panic",
        LogLevel::Fatal => "fatal",
    }
}

/// Where in the source an event stands: the last two parts of the path, and the line.
fn caller(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or("unknown");
    let from = path.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &path[from..], metadata.line().unwrap_or(0))
}

/// What one event says.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

/// A field's value as JSON.
enum Value {
    One(String),
    Many(Vec<String>),
}

impl Line {
    /// The event as an object of JSON.
    fn json(&self, metadata: &Metadata<'_>, now: Duration) -> String {
        let mut text = format!(
            "{{\"level\":{},\"ts\":{},\"caller\":{},\"msg\":{}",
            quoted(name(level(metadata))),
            quoted(&timestamp(now)),
            quoted(&caller(metadata)),
            quoted(&self.message),
        );
        for (field, value) in &self.fields {
            write!(text, ",{}:{}", quoted(field), value.text(",")).expect("a String grows");
        }
        text.push('}');
        text
    }

    /// The event as columns parted by tabs.
    fn console(&self, metadata: &Metadata<'_>, now: Duration) -> String {
        let mut text = format!(
            "{}\t{}\t{}\t{}",
            timestamp(now),
            name(level(metadata)),
            caller(metadata),
            self.message
        );
        for (at, (field, value)) in self.fields.iter().enumerate() {
            let before = if at == 0 { "\t{" } else { ", " };
            write!(text, "{before}{}: {}", quoted(field), value.text(", "))
                .expect("a String grows");
        }
        if !self.fields.is_empty() {
            text.push('}');
        }
        text
    }

    /// Takes in one field.
    fn take(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl Value {
    /// The value, its items parted by `comma`.
    fn text(&self, comma: &str) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(items) => format!("[{}]", items.join(comma)),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
            return;
        }
        let items = text
            .starts_with('[')
            .then(|| serde_json::from_str::<Vec<serde_json::Value>>(&text).ok())
            .flatten();
        let value = match items {
            Some(items) => Value::Many(items.iter().map(ToString::to_string).collect()),
            None => Value::One(quoted(&text)),
        };
        self.take(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.take(field, Value::One(quoted(value)));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::One(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::One(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::One(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        self.take(field, Value::One(if value.is_finite() { text } else { quoted(&text) }));
    }
}

/// A text of JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

/// A time as `2006-01-02T15:04:05.000000Z`.
fn timestamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let us = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

/// The Gregorian date so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that a leap day is the last of its year; 0000-03-01 is
    // 719,468 days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// An output that a test can read.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics here").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what `act` says.
    fn written(level: LogLevel, format: LogFormat, act: impl FnOnce()) -> String {
        let memory = Memory::default();
        let now = || Duration::from_micros(1_795_397_762_110_229);
        let sinks = Mutex::new(vec![Box::new(memory.clone()) as Sink]);
        let lines = Lines { level, format, now, sinks };
        tracing::subscriber::with_default(registry().with(lines), act);
        let bytes = memory.0.lock().expect("no test panics here").clone();
        String::from_utf8(bytes).expect("lines are text")
    }

    /// `text` without the line numbers of this file.
    fn without_lines(text: &str) -> String {
        let (before, after) = text.split_once("rt/log.rs:").expect("the caller is told");
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{before}rt/log.rs:0{after}")
    }

    #[test]
    fn a_line_is_an_object_as_etcds() {
        let text = written(LogLevel::Info, LogFormat::Json, || {
            tracing::info!(
                "local-member-id" = %"8e9e05c52164694d",
                "listen-client-urls" = ?["http://localhost:2379", "http://a:1"],
                shards = 1,
                ready = true,
                share = 0.5,
                error = ?Some("x"),
                "ready to serve \"client\" requests"
            );
        });
        let expected = "{\"level\":\"info\",\"ts\":\"2026-11-23T01:36:02.110229Z\",\
            \"caller\":\"rt/log.rs:0\",\"msg\":\"ready to serve \\\"client\\\" requests\",\
            \"local-member-id\":\"8e9e05c52164694d\",\
            \"listen-client-urls\":[\"http://localhost:2379\",\"http://a:1\"],\
            \"shards\":1,\"ready\":true,\"share\":0.5,\"error\":\"Some(\\\"x\\\")\"}\n";
        assert_eq!(without_lines(&text), expected);
    }

    #[test]
    fn a_line_for_people_has_columns() {
        let text = written(LogLevel::Info, LogFormat::Console, || {
            tracing::warn!(name = "default", cores = ?[0, 1], "beware");
        });
        let expected = "2026-11-23T01:36:02.110229Z\twarn\trt/log.rs:0\tbeware\t\
            {\"name\": \"default\", \"cores\": [0, 1]}\n";
        assert_eq!(without_lines(&text), expected);
        let text = written(LogLevel::Info, LogFormat::Console, || tracing::info!("bare"));
        assert!(text.ends_with("\tbare\n"), "{text}");
    }

    #[test]
    fn what_is_below_the_level_is_not_written() {
        let act = || {
            tracing::debug!("1");
            tracing::info!("2");
            tracing::warn!("3");
            tracing::error!("4");
            tracing::error!(target: PANIC, "5");
            tracing::error!(target: FATAL, "6");
        };
        let levels = [
            (LogLevel::Debug, 6),
            (LogLevel::Info, 5),
            (LogLevel::Warn, 4),
            (LogLevel::Error, 3),
            (LogLevel::Panic, 2),
            (LogLevel::Fatal, 1),
        ];
        for (level, count) in levels {
            let text = written(level, LogFormat::Json, act);
            assert_eq!(text.lines().count(), count, "{level:?}: {text}");
            assert!(text.contains("\"level\":\"fatal\""), "{level:?}: {text}");
        }
    }

    #[test]
    fn every_line_is_json_whatever_it_says() {
        let text = written(LogLevel::Info, LogFormat::Json, || {
            tracing::info!(key = "\u{0}\n\"\\", list = ?["[", "\u{1f600}"], nan = f64::NAN, "a\tb");
        });
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("an object");
        assert_eq!(parsed["key"], "\u{0}\n\"\\");
        assert_eq!(parsed["nan"], "NaN");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn dates_are_right_over_leap_days_and_centuries() {
        let cases = [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (10_956, (1999, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_780, (2026, 11, 23)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
