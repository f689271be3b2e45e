//! The command-line client and offline tool.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringd::frame::BLOCK_SIZE;
use ringd::inspect::Inspector;

/// The command-line client and offline tool of ringd.
#[derive(Debug, Parser)]
#[command(name = "ringctl", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a file of a ringd data directory for a person: a segment of the log, the identity,
    /// the lock.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Inspect { file } = Arguments::parse().command;
    match inspect(&file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            let _ = writeln!(
                io::stderr(),
                "ringctl: {}: not a file of a ringd data directory; what can be printed are the \
                 files of a log (shard-0/wal/*), the identity and the lock",
                file.display()
            );
            ExitCode::FAILURE
        }
        // Whoever reads our lines has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ringctl: {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Lines as bytes, with the error that `fmt` cannot carry.
struct Lines<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> fmt::Write for Lines<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

/// Prints a file; whether it is one of ours.
fn inspect(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut lines = Lines { out: io::BufWriter::new(io::stdout().lock()), error: None };
    let mut inspector = Inspector::new();
    let mut block = Vec::with_capacity(BLOCK_SIZE);
    loop {
        block.clear();
        file.by_ref().take(BLOCK_SIZE as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            break;
        }
        if inspector.block(&block, &mut lines).is_err() {
            return Err(lines.error.unwrap_or_else(|| io::ErrorKind::Other.into()));
        }
    }
    let is_ours = !inspector.is_foreign();
    if inspector.finish(&mut lines).is_err() {
        return Err(lines.error.unwrap_or_else(|| io::ErrorKind::Other.into()));
    }
    lines.out.flush()?;
    Ok(is_ours)
}
