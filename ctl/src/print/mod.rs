//! What is printed of an answer: each kind of answer in each of etcdctl's five formats.

mod endpoint;
mod fields;
mod json;
mod kv;
mod lease;
mod member;
mod shards;
mod table;
mod watch;

pub(crate) use endpoint::Hash;
pub(crate) use endpoint::Health;
pub(crate) use endpoint::Statuses;
pub(crate) use kv::Rows;
pub(crate) use lease::Revoked;
pub(crate) use lease::TimeToLive;
pub(crate) use member::Changed;
pub(crate) use member::Moved;
pub(crate) use member::alarm_name;
pub(crate) use shards::ShardRow;
pub(crate) use watch::kind;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::print::fields::Fields;
use crate::settings::Format;
use crate::settings::Settings;
use std::io;
use std::io::Write;

/// An answer that can be printed.
pub(crate) trait Show {
    /// For people.
    fn simple(&self, out: &mut Vec<u8>, hex: bool);

    /// A field a line.
    fn fields(&self, fields: &mut Fields);

    /// Whether etcdctl has fields for it.
    fn has_fields(&self) -> bool {
        true
    }

    /// One JSON document.
    fn json(&self, hex: bool) -> String;

    /// The message as it was sent.
    ///
    /// # Errors
    ///
    /// That there is none.
    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Err(Failure::new(Exit::BadFeature, "protobuf not supported as output format"))
    }

    /// A table of the answer; none for an answer that has no rows.
    fn table(&self) -> Option<String> {
        None
    }
}

/// Where answers are printed, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
    hex: bool,
}

impl Printer {
    /// As the settings say.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { format: settings.format, hex: settings.hex }
    }

    /// The format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints an answer.
    ///
    /// # Errors
    ///
    /// A format that it does not have; a standard output that cannot be written.
    pub(crate) fn show(&self, answer: &impl Show) -> Result<(), Failure> {
        let mut out = Vec::new();
        match self.format {
            Format::Simple => answer.simple(&mut out, self.hex),
            Format::Json => {
                out = answer.json(self.hex).into_bytes();
                out.push(b'\n');
            }
            Format::Fields if !answer.has_fields() => {
                let text = "fields not supported as output format";
                return Err(Failure::new(Exit::BadFeature, text));
            }
            Format::Fields => {
                let mut fields = Fields::new(self.hex);
                answer.fields(&mut fields);
                out = fields.into_bytes();
            }
            Format::Table => {
                let none =
                    || Failure::new(Exit::BadFeature, "table not supported as output format");
                out = answer.table().ok_or_else(none)?.into_bytes();
            }
            Format::Protobuf => out = answer.protobuf()?,
        }
        self.write(&out)
    }

    /// Prints a line, whatever the format.
    ///
    /// # Errors
    ///
    /// A standard output that cannot be written.
    pub(crate) fn line(&self, line: impl std::fmt::Display) -> Result<(), Failure> {
        self.write(format!("{line}\n").as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) else { return Ok(()) };
        // Whoever reads our lines may have read enough.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Err(Failure::told(Exit::Error));
        }
        Err(Failure::new(Exit::Error, format!("standard output: {error}")))
    }
}

/// Adds bytes and the end of a line.
fn push_line(out: &mut Vec<u8>, bytes: &[u8], hex: bool) {
    if hex {
        for byte in bytes {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'\n');
}
