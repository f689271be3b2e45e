//! From a disk to a running shard, as the server does it.

use crate::disk::{Change, Disk};
use ringd::shard::recover::{Files, Recovery, Step};
use ringd::shard::{Config, Input, Output, Shard};
use ringd::types::Tick;
use ringd::wal::{self, Command};

/// The log's own number, drawn once.
pub(crate) const LOG_ID: u64 = 0x0dd_ba11;
/// Commands of the log that an opening may take: a bound on what should take a few.
const OPENING_STEPS_MAX: usize = 10_000;

/// Recovers a shard from what lies on a disk.
///
/// # Errors
/// Why it refused.
pub(crate) fn recover(
    config: &Config,
    disk: &Disk,
    seed: u64,
    now: Tick,
) -> Result<Box<Shard>, String> {
    let log = disk.list();
    let files = Files { log: &log, store: &[] };
    let mut recovery = Recovery::new(config.clone(), LOG_ID, files, seed, now);
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                recovery.handle(disk.read(&file.to_string(), offset, size));
            }
            Step::Done(shard) => return Ok(shard),
            Step::ReadStore { file, .. } => return Err(format!("no store yet: {file}")),
            Step::Refused(why) | Step::RefusedStore(why) => return Err(why),
        }
    }
}

/// Lets a recovered shard do what it wants on a disk that does everything at once, until it leads
/// and has applied its log.
///
/// # Errors
/// What it did instead.
pub(crate) fn open(shard: &mut Shard, disk: &mut Disk) -> Result<(), String> {
    for _ in 0..OPENING_STEPS_MAX {
        match shard.poll() {
            Some(Output::Wal(command)) => {
                let event = perform(shard, disk, command);
                shard.handle(Input::Wal(event));
            }
            Some(Output::Store(command)) => return Err(format!("no store yet: {command:?}")),
            Some(Output::Halt(why)) => return Err(format!("halted while opening: {why}")),
            Some(Output::Reply { .. }) => return Err("an answer nobody asked for".to_owned()),
            Some(Output::Role(_) | Output::Rows { .. }) => {}
            None if shard.is_ready() => return Ok(()),
            None => return Err("it never leads".to_owned()),
        }
    }
    Err("it opens for ever".to_owned())
}

fn perform(shard: &mut Shard, disk: &mut Disk, command: Command) -> wal::Event {
    if let Command::Write { id, file, offset, size } = command {
        let mut buffer = vec![0xee; size];
        shard.fill(id, &mut buffer);
        let write = disk.begin(&file.to_string(), offset, buffer);
        disk.complete(write);
        return wal::Event::Written { id };
    }
    disk.begin_change(change(command));
    disk.complete_change();
    wal::Event::Done
}

/// What a command that is no write does to whole files.
pub(crate) fn change(command: Command) -> Change {
    match command {
        Command::Create { file, size } => {
            let size = usize::try_from(size).expect("64 bits");
            Change::Create { name: file.to_string(), size }
        }
        Command::Activate { from, to, header } => {
            Change::Activate { from: from.to_string(), to: to.to_string(), header }
        }
        Command::Recycle { from, to } => {
            Change::Rename { from: from.to_string(), to: to.to_string() }
        }
        Command::Remove { file } => Change::Remove { name: file.to_string() },
        Command::Sync { file } => Change::Sync { name: file.to_string() },
        Command::Write { .. } => unreachable!("a write is no change of files"),
    }
}
