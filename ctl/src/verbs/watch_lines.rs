//! Interactive `watch`: what to watch is read line by line, and each watch goes on beside the rest.

use crate::arguments;
use crate::client::Client;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::settings::WATCH_VARIABLES;
use crate::tell;
use crate::verbs::Context;
use crate::verbs::watch;
use crate::words::words;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Watches at once, so that a runaway input does not take the machine with it.
const WATCHES_MAX: usize = 10_000;

/// The watches that run.
#[derive(Debug, Default)]
struct Watches {
    running: JoinSet<Result<(), Failure>>,
    /// One for each watch, to ask for its progress.
    progress: Vec<mpsc::Sender<()>>,
}

/// Reads lines, until there are none.
///
/// # Errors
///
/// The end of the input; a line with a flag that there is not; a watch's own failure.
pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut watches = Watches::default();
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = Vec::new();
    loop {
        let read = tokio::select! {
            read = input.read_until(b'\n', &mut line) => read,
            Some(ended) = watches.running.join_next() => {
                ended.expect("a watch does not panic")?;
                continue;
            }
        };
        let why = match read {
            Ok(_) if line.last() == Some(&b'\n') => None,
            Ok(_) => Some("EOF".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            let text = format!("error reading watch request line: {why}");
            return Err(Failure::new(Exit::InvalidInput, text));
        }
        line.pop();
        obey(&line, &mut watches, &client, context)?;
        line.clear();
    }
}

/// Does what a line says.
fn obey(
    line: &[u8],
    watches: &mut Watches,
    client: &Client,
    context: &Context,
) -> Result<(), Failure> {
    let told = String::from_utf8_lossy(line);
    let words = words(line)?;
    let has_key = context.variables.get(WATCH_VARIABLES[0]).is_some_and(|key| !key.is_empty());
    match words.first().and_then(|word| word.to_str()) {
        None if words.is_empty() => {
            tell(format_args!("Invalid command: {told} (watch and progress supported)"));
        }
        Some("watch") if words.len() < 2 && !has_key => {
            tell(format_args!("Invalid command {told} (command type or key is not provided)"));
        }
        Some("watch") => {
            let command = watch::flags(arguments::verb("watch", "", "key [range_end]"));
            let given = command.no_binary_name(true).try_get_matches_from(&words[1..]);
            let given = given
                .map_err(|error| Failure::arguments(arguments::complaint(&error, &words[1..])))?;
            let has_separator = words.iter().any(|word| word == "--");
            match watch::wanted(&given, &context.variables, has_separator) {
                Ok(_) if watches.running.len() >= WATCHES_MAX => {
                    tell(format_args!("Invalid command {told} (too many watches)"));
                }
                Ok(wanted) => {
                    let (ask, asked) = mpsc::channel(1);
                    watches.progress.retain(|progress| !progress.is_closed());
                    watches.progress.push(ask);
                    let (client, printer) = (client.clone(), context.printer());
                    watches
                        .running
                        .spawn(async move { watch::show(&client, wanted, asked, printer).await });
                }
                Err(failure) => {
                    let why = failure.text.unwrap_or_default();
                    tell(format_args!("Invalid command {told} ({why})"));
                }
            }
        }
        Some("progress") => {
            for progress in &watches.progress {
                // One that has not yet asked will do so for both.
                let _ = progress.try_send(());
            }
        }
        _ => tell(format_args!("Invalid command {told} (only support watch)")),
    }
    Ok(())
}
