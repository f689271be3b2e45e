//! From two directories to a running shard, as the server does it, and what can be read of one.

use crate::disk::{self, Disk};
use crate::store::disk as store_disk;
use crate::store::node as store_node;
use bytes::Bytes;
use ringd::api::proto::mvccpb;
use ringd::mvcc::{KeyRange, RangeQuery, Row};
use ringd::shard::list::{ListHead, NotNow, RowShape, Rows};
use ringd::shard::recover::{Files, Recovery, Step};
use ringd::shard::request::{Body, Range, Request, RequestId, Response};
use ringd::shard::{Config, Input, Output, Ready, Shard};
use ringd::store;
use ringd::types::{LeaseId, Tick};
use ringd::wal::{self, Command};
use std::fmt;

/// The log's own number, drawn once.
pub(crate) const LOG_ID: u64 = 0x0dd_ba11;
/// Outputs that an opening, or a read of everything, may take: a bound on what should take a few.
const OUTPUTS_MAX: usize = 10_000;
/// Where the answers go that nobody but the test asked for.
const ASKER: RequestId = RequestId { core: 0, connection: u32::MAX, generation: 0, stream: 1 };

/// Both directories of a shard.
#[derive(Clone, Default)]
pub(crate) struct Disks {
    pub(crate) log: Disk,
    pub(crate) store: store_disk::Disk,
}

impl fmt::Debug for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {:?}; store {:?}", self.log, self.store)
    }
}

impl Disks {
    /// Name and size of every file.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        [self.log.list(), self.store.list()].concat()
    }

    /// Whether a crash now could leave more than one thing.
    pub(crate) fn is_busy(&self) -> bool {
        self.log.is_busy() || self.store.is_busy()
    }

    /// The power goes; `choose` gives a number below its argument.
    pub(crate) fn lose_power(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        self.log.lose_power(choose);
        self.store.lose_power(choose);
    }

    /// The process goes.
    pub(crate) fn lose_process(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        self.log.lose_process(choose);
        self.store.lose_process(choose);
    }

    /// Makes all names durable, as opening the directories does.
    pub(crate) fn sync_names(&mut self) {
        self.log.sync_names();
        self.store.sync_names();
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&mut self, name: &str, bit: u64) {
        if self.store.has(name) {
            self.store.flip(name, bit);
        } else {
            self.log.flip(name, usize::try_from(bit).expect("64 bits"));
        }
    }
}

/// Recovers a shard from what lies on its disks.
///
/// # Errors
/// Why it refused.
pub(crate) fn recover(
    config: &Config,
    disks: &Disks,
    seed: u64,
    now: Tick,
) -> Result<Box<Shard>, String> {
    recover_as(config, disks, LOG_ID, seed, now)
}

/// Recovers a shard whose log has this id from what lies on its disks.
///
/// # Errors
/// Why it refused.
pub(crate) fn recover_as(
    config: &Config,
    disks: &Disks,
    log_id: u64,
    seed: u64,
    now: Tick,
) -> Result<Box<Shard>, String> {
    recover_with(config, disks, log_id, (seed, now), |recovery| recovery)
}

/// As [`recover_as`], of a member that may be told to go on alone.
///
/// # Errors
/// Why it refused.
pub(crate) fn recover_with(
    config: &Config,
    disks: &Disks,
    log_id: u64,
    (seed, now): (u64, Tick),
    change: impl FnOnce(Recovery) -> Recovery,
) -> Result<Box<Shard>, String> {
    let (log, store) = (disks.log.list(), disks.store.list());
    let files = Files { log: &log, store: &store };
    let mut recovery = change(Recovery::new(config.clone(), log_id, files, seed, now));
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                recovery.handle(disks.log.read(&file.to_string(), offset, size));
            }
            Step::ReadStore { file, offset, size } => {
                recovery.handle(disks.store.read(&file.to_string(), offset, size));
            }
            Step::More => {}
            Step::Done(shard) => return Ok(shard),
            Step::Refused(why) | Step::RefusedStore(why) => return Err(why),
        }
    }
}

/// Lets a recovered shard do what it wants on disks that do everything at once, until it leads
/// and has applied its log.
///
/// # Errors
/// What it did instead.
pub(crate) fn open(shard: &mut Shard, disks: &mut Disks) -> Result<(), String> {
    match drive(shard, disks, |_| false)? {
        None if shard.is_ready() => Ok(()),
        None => Err("it never leads".to_owned()),
        Some(output) => Err(format!("{output:?}, and nobody asked")),
    }
}

/// Lets a shard go on until there is an output that `is_due`, or none at all.
fn drive(
    shard: &mut Shard,
    disks: &mut Disks,
    mut is_due: impl FnMut(&Output) -> bool,
) -> Result<Option<Output>, String> {
    for _ in 0..OUTPUTS_MAX {
        match shard.poll() {
            Some(output) if is_due(&output) => return Ok(Some(output)),
            Some(Output::Wal(command)) => {
                let event = perform(shard, &mut disks.log, command);
                shard.handle(Input::Wal(event));
            }
            Some(Output::Store(command)) => {
                let event = perform_store(shard, &mut disks.store, command)?;
                shard.handle(Input::Store(event));
            }
            Some(Output::Halt(why)) => return Err(format!("it halted: {why}")),
            Some(Output::Role(_)) => {}
            Some(
                output @ (Output::Reply { .. }
                | Output::Rows { .. }
                | Output::Watch(_)
                | Output::Send { .. }
                | Output::Peers(_)
                | Output::Reopen),
            ) => {
                return Err(format!("{output:?}, and nobody asked"));
            }
            None => return Ok(None),
        }
    }
    Err("it goes on for ever".to_owned())
}

pub(crate) fn perform(shard: &mut Shard, disk: &mut Disk, command: Command) -> wal::Event {
    if let Command::Write { id, file, offset, size } = command {
        let mut buffer = vec![0xee; size];
        shard.fill(id, &mut buffer);
        let write = disk.begin(&file.to_string(), offset, buffer);
        disk.complete(write);
        return wal::Event::Written { id };
    }
    if let Command::Read { id, file, offset, size } = command {
        let bytes = Bytes::copy_from_slice(disk.read(&file.to_string(), offset, size));
        return wal::Event::Read { id, bytes };
    }
    disk.begin_change(change(command));
    disk.complete_change();
    wal::Event::Done
}

pub(crate) fn perform_store(
    shard: &mut Shard,
    disk: &mut store_disk::Disk,
    command: store::Command,
) -> Result<store::Event, String> {
    match command {
        store::Command::Write { id, file, offset, size } => {
            let mut buffer = vec![0xee; size];
            shard.fill_store(id, &mut buffer);
            let write = disk.begin(&file.to_string(), offset, buffer);
            disk.complete(write);
            Ok(store::Event::Written { id })
        }
        store::Command::Read { id, file, offset, size } => {
            let bytes = Bytes::copy_from_slice(disk.read(&file.to_string(), offset, size));
            if bytes.len() < size {
                return Err(format!("{file} at byte {offset} has no {size} bytes"));
            }
            Ok(store::Event::Read { id, bytes })
        }
        store::Command::Create { .. }
        | store::Command::Finish { .. }
        | store::Command::Replace { .. }
        | store::Command::Remove { .. } => {
            disk.begin_change(store_node::change(command), None);
            disk.complete_change();
            Ok(store::Event::Done)
        }
    }
}

/// What a command that is no write does to whole files.
pub(crate) fn change(command: Command) -> disk::Change {
    match command {
        Command::Create { file, size, .. } => {
            let size = usize::try_from(size).expect("64 bits");
            disk::Change::Create { name: file.to_string(), size }
        }
        Command::Activate { from, to, header } => {
            disk::Change::Activate { from: from.to_string(), to: to.to_string(), header }
        }
        Command::Recycle { from, to } => {
            disk::Change::Rename { from: from.to_string(), to: to.to_string() }
        }
        Command::Remove { file } => disk::Change::Remove { name: file.to_string() },
        Command::Sync { file } => disk::Change::Sync { name: file.to_string() },
        Command::Write { .. } | Command::Read { .. } => {
            unreachable!("what moves bytes is no change of files")
        }
    }
}

/// All rows at a revision, whatever has to be read from the disk for them.
///
/// # Errors
/// Why it can not be, or what does not fit together.
pub(crate) fn rows(
    shard: &mut Shard,
    disks: &mut Disks,
    revision: i64,
) -> Result<Vec<mvccpb::KeyValue>, String> {
    let mut query = RangeQuery::new(KeyRange::new(b"\0", b"\0"));
    query.revision = revision;
    let range = Range::new(b"\0", b"\0", &query, true);
    let mut rows = Vec::new();
    let mut keep = |row: Row<'_>, lease: LeaseId, value: &[u8]| rows.push(pair(row, lease, value));
    match shard.read(&range, usize::MAX, &mut keep) {
        Ok(summary) if usize::try_from(summary.count) == Ok(rows.len()) => return Ok(rows),
        Ok(summary) => return Err(format!("{} rows of {}", rows.len(), summary.count)),
        Err(NotNow::Refused(refusal)) => return Err(refusal.to_string()),
        Err(NotNow::Long) => rows.clear(),
    }
    let shape = |row: &RowShape| row.key_len + row.value_len;
    shard.handle(Input::List { to: ASKER, range, shape });
    let head = head(shard, disks)?;
    loop {
        let mut keep =
            |row: Row<'_>, lease: LeaseId, value: &[u8]| rows.push(pair(row, lease, value));
        match shard.rows(ASKER, 1_000, 7, &mut keep) {
            Rows::More => {}
            Rows::Wait => {
                let output = drive(shard, disks, |output| matches!(output, Output::Rows { .. }))?;
                output.ok_or("a list waits for nothing")?;
            }
            Rows::Done(_) => break,
            Rows::Lost(failure) => return Err(format!("a list is lost: {failure:?}")),
        }
    }
    let size: usize = rows.iter().map(|row| row.key.len() + row.value.len()).sum();
    if head.rows != rows.len() as u64 || head.size != size as u64 {
        return Err(format!("{head:?}, and then {} rows of {size} bytes", rows.len()));
    }
    Ok(rows)
}

/// Bytes that a shard says its files have.
///
/// # Errors
/// What it says instead.
pub(crate) fn size_allocated(shard: &mut Shard, disks: &mut Disks) -> Result<u64, String> {
    shard.handle(Input::Request { from: ASKER, request: Request::Status });
    match drive(shard, disks, |output| matches!(output, Output::Reply { .. }))? {
        Some(Output::Reply {
            ready: Ready::Result(Ok(Response { body: Body::Status(status), .. })),
            ..
        }) => Ok(status.size_allocated),
        output => Err(format!("{output:?} in place of a status")),
    }
}

/// The head of the list that was asked for.
fn head(shard: &mut Shard, disks: &mut Disks) -> Result<ListHead, String> {
    for _ in 0..OUTPUTS_MAX {
        match drive(shard, disks, |output| matches!(output, Output::Reply { .. }))? {
            Some(Output::Reply { ready: Ready::List(head), .. }) => return Ok(head),
            Some(output) => return Err(format!("{output:?} in place of a list")),
            None => shard.work(),
        };
    }
    Err("a list is never measured".to_owned())
}

fn pair(row: Row<'_>, lease: LeaseId, value: &[u8]) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(row.key),
        create_revision: row.create_revision.0,
        mod_revision: row.location.main.0,
        version: row.version,
        value: Bytes::copy_from_slice(value),
        lease: lease.0,
    }
}
