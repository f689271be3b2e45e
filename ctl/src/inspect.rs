//! The files of a ringd data directory, printed for a person.

use crate::failure::Exit;
use crate::failure::Failure;
use crate::tell;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use clap::value_parser;
use ringd::frame::BLOCK_SIZE;
use ringd::identity::Identity;
use ringd::inspect::Inspector;
use ringd::inspect::directory;
use ringd::inspect::revisions;
use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The command line of the verb.
pub(crate) fn command() -> Command {
    Command::new("inspect")
        .about("Print a file of a ringd data directory, or check a whole directory")
        .long_about(
            "Print a file of a ringd data directory for a person: a segment of the log or of the \
             store, a manifest, the identity, the lock. Or check a whole data directory, or one of \
             its folders: every checksum, and whether ringd would start from it. Nothing is \
             written.",
        )
        .arg(
            Arg::new("file")
                .help("The file or folder")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
}

/// Prints what was asked for.
///
/// # Errors
///
/// A file that cannot be read, is damaged, or is nothing of ours.
pub(crate) fn run(given: &ArgMatches) -> Result<(), Failure> {
    let file = given.get_one::<PathBuf>("file").expect("it is required");
    let mut lines = Lines { out: io::BufWriter::new(io::stdout().lock()), error: None };
    let found =
        if file.is_dir() { folder(file, None, &mut lines) } else { inspect(file, &mut lines) };
    let flushed = lines.out.flush();
    match lines.error.map_or(found, Err).and_then(|found| flushed.map(|()| found)) {
        Ok(Found::Whole) => Ok(()),
        Ok(Found::Damaged) => Err(Failure::told(Exit::Error)),
        Ok(Found::Foreign) => {
            tell(format_args!(
                "ringctl: {}: nothing of a ringd data directory; what can be printed are that \
                 directory, the files of a log (shard-0/wal/*) and of a store (shard-0/store/*), \
                 the identity and the lock",
                file.display()
            ));
            Err(Failure::told(Exit::Error))
        }
        // Whoever reads our lines has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            tell(format_args!("ringctl: {}: {error}", file.display()));
            Err(Failure::told(Exit::Error))
        }
    }
}

/// What was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What is ours, and as it was written as far as it can be told.
    Whole,
    /// What is ours, and damaged.
    Damaged,
    /// Nothing of ours.
    Foreign,
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

/// Where to print.
type Out<'a> = &'a mut dyn fmt::Write;

/// The lines could not be written; they know why.
fn unwritten(_: fmt::Error) -> io::Error {
    io::ErrorKind::Other.into()
}

/// Bytes of a file, as many as there are; what goes wrong is kept in `error`.
fn bytes_of(file: &File, offset: u64, size: usize, error: &mut Option<io::Error>) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; size.min(1 << 20)]);
    while bytes.len() < size {
        let wanted = chunk.len().min(size - bytes.len());
        match file.read_at(&mut chunk[..wanted], offset + bytes.len() as u64) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => {
                error.get_or_insert(why);
                break;
            }
        }
    }
    bytes
}

/// Prints a file.
fn inspect(path: &Path, out: Out<'_>) -> io::Result<Found> {
    let file = File::open(path)?;
    let mut error = None;
    if revisions::is_like(&bytes_of(&file, 0, 4, &mut error)) {
        let mut read = |offset, size| bytes_of(&file, offset, size, &mut error);
        let is_whole =
            revisions::print(file.metadata()?.len(), true, &mut read, out).map_err(unwritten)?;
        return error.map_or(Ok(if is_whole { Found::Whole } else { Found::Damaged }), Err);
    }
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut inspector = Inspector::new();
    let mut block = Vec::with_capacity(BLOCK_SIZE);
    loop {
        block.clear();
        file.by_ref().take(BLOCK_SIZE as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            break;
        }
        inspector.block(&block, out).map_err(unwritten)?;
    }
    let is_ours = !inspector.is_foreign();
    inspector.finish(out).map_err(unwritten)?;
    Ok(if is_ours { Found::Whole } else { Found::Foreign })
}

/// Prints what is in a data directory or one of its folders, of the log `id` if it is known.
fn folder(path: &Path, id: Option<u64>, out: Out<'_>) -> io::Result<Found> {
    let (mut files, mut folders, mut id) = (Vec::new(), Vec::new(), id);
    for entry in fs::read_dir(path)? {
        let (entry, name) = entry.map(|it| (it.metadata(), it.file_name()))?;
        match entry? {
            about if about.is_dir() => folders.push(path.join(name)),
            about => files.push((name.to_string_lossy().into_owned(), about.len())),
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    let mut found = Found::Foreign;
    if directory::is_like(&files) {
        writeln!(out, "{}:", path.display()).map_err(unwritten)?;
        found = together(path, id, &files, out)?;
    } else {
        for (name, _) in &files {
            if !matches!(name.as_str(), "identity" | "lock") {
                continue;
            }
            writeln!(out, "{}:", path.join(name).display()).map_err(unwritten)?;
            let bytes = fs::read(path.join(name))?;
            let identity = Identity::parse(&bytes);
            let is_damaged = Identity::is_like(&bytes) && identity.is_err();
            id = identity.ok().map(|identity| identity.log_id).or(id);
            let printed = inspect(&path.join(name), out)?;
            found = worse(found, if is_damaged { Found::Damaged } else { printed });
        }
    }
    for folder_path in folders {
        found = worse(found, folder(&folder_path, id, out)?);
    }
    Ok(found)
}

/// Of two findings the one that tells more.
fn worse(one: Found, other: Found) -> Found {
    match (one, other) {
        (Found::Damaged, _) | (_, Found::Damaged) => Found::Damaged,
        (Found::Whole, _) | (_, Found::Whole) => Found::Whole,
        (Found::Foreign, Found::Foreign) => Found::Foreign,
    }
}

/// Prints the files of one log or one store.
fn together(
    path: &Path,
    id: Option<u64>,
    files: &[(String, u64)],
    out: Out<'_>,
) -> io::Result<Found> {
    let (mut error, mut open) = (None, None::<(String, File)>);
    let mut read = |name: &str, offset: u64, size: usize| {
        if open.as_ref().is_none_or(|(opened, _)| opened != name) {
            open = match File::open(path.join(name)) {
                Ok(file) => Some((name.to_owned(), file)),
                Err(why) => {
                    error.get_or_insert(why);
                    None
                }
            };
        }
        let file = open.as_ref().map(|(_, file)| file);
        file.map_or_else(Vec::new, |file| bytes_of(file, offset, size, &mut error))
    };
    let is_whole = directory::print(id, files, &mut read, out).map_err(unwritten)?;
    error.map_or(Ok(if is_whole { Found::Whole } else { Found::Damaged }), Err)
}
