//! `snapshot save`: a server's data as a file.

use crate::arguments;
use crate::client::Client;
use crate::client::Refused;
use crate::client::methods;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::go;
use crate::verbs::Context;
use crate::verbs::progress::Spinner;
use clap::ArgMatches;
use clap::Command;
use ringd::api::proto::etcdserverpb::SnapshotRequest;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// The size of the digest at the end of every snapshot.
const DIGEST_SIZE: u64 = 32;

/// The size of a sector: all but the digest are whole ones.
const SECTOR_SIZE: u64 = 512;

/// The command line of the verb.
pub(super) fn command() -> Command {
    Command::new("snapshot").about("A server's data as a file").subcommand(
        arguments::verb("save", "Write a server's data to a file", "file")
            .override_usage("ringctl snapshot save <file>"),
    )
}

/// Writes it beside the file first, so that the file is whole or not there.
///
/// # Errors
///
/// A file that cannot be written; what the server refuses.
pub(super) async fn run(given: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let [path] = &arguments::rest_of(given)[..] else {
        return Err(Failure::arguments("snapshot save expects one argument <filename>"));
    };
    if context.settings.endpoints.len() != 1 {
        let text = "snapshot must be requested to one selected node, not multiple";
        let text = format!("{text} [{}]", context.settings.endpoints.join(" "));
        return Err(Failure::new(Exit::Interrupted, text));
    }
    let path = Path::new(path);
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let saved = save(context, path, &part).await;
    if saved.is_err() {
        // It is of no use, and whatever keeps it from being removed was told already.
        let _ = fs::remove_file(&part);
    }
    let version = saved.map_err(|why| Failure::new(Exit::Interrupted, why))?;
    context.printer().line(format_args!("Snapshot saved at {}", path.display()))?;
    if version.is_empty() {
        return Ok(());
    }
    context.printer().line(format_args!("Server version {version}"))
}

/// Writes `part` and renames it to `path`; the version of what is in it.
async fn save(context: &Context, path: &Path, part: &Path) -> Result<String, String> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let opened = options.open(part);
    let mut file = opened.map_err(|error| {
        let (part, why) = (part.display(), go::reason(&error));
        format!("could not open {part} (open {part}: {why})")
    })?;
    let client = context.client().await.map_err(|failure| failure.text.unwrap_or_default())?;
    let wrong = |what: &str, error| format!("{what} {}: {error}", part.display());
    let version = receive(&client, &mut file).await?;
    let size = file.metadata().map_err(|error| wrong("cannot read", error))?.len();
    if size % SECTOR_SIZE != DIGEST_SIZE {
        return Err(format!("sha256 checksum not found [bytes: {size}]"));
    }
    file.sync_all().map_err(|error| wrong("cannot sync", error))?;
    fs::rename(part, path).map_err(|error| wrong("cannot rename", error))?;
    // The name is to outlive a power cut as well.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).map_err(|error| wrong("cannot sync", error))?;
    Ok(version)
}

/// Writes what the server sends; the version that it tells. Each message has the time that a
/// command may take.
async fn receive(client: &Client, file: &mut File) -> Result<String, String> {
    let spinner = Spinner::of_bytes("receiving".to_owned());
    let told = |refused: Refused| refused.to_string();
    let call = client.answers(&methods::SNAPSHOT, SnapshotRequest {});
    let mut answers = client.within(call).await.map_err(told)?;
    let (mut bytes, mut version) = (0, String::new());
    loop {
        let next = async { answers.message().await.map_err(Refused::by) };
        let Some(answer) = client.within(next).await.map_err(told)? else { return Ok(version) };
        file.write_all(&answer.blob).map_err(|error| format!("cannot write: {error}"))?;
        bytes += answer.blob.len() as u64;
        spinner.show(bytes, bytes + answer.remaining_bytes);
        if !answer.version.is_empty() {
            version = answer.version;
        }
    }
}
