//! From a disk to a store and what lies above it.

use crate::store::disk::{Change, Disk};
use crate::store::index::{Index, Past};
use bytes::Bytes;
use ringd::store::{BlockId, Command, Config, Event, FileId, Lookup, Recovery, Step, Store};
use ringd::types::{Change as Item, ShardId};

/// The store's own number, drawn once.
pub(crate) const STORE_ID: u64 = 0x0057_04ed;
/// Whose it is.
pub(crate) const SHARD: ShardId = ShardId(3);
/// Commands that may follow one another without anything having happened in between.
const COMMANDS_MAX: usize = 100_000;

/// What is kept with a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// How many entries of the log the store holds.
    pub(crate) applied: usize,
    /// The floor after them.
    pub(crate) floor: i64,
}

impl State {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = (self.applied as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.floor.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (applied, floor) = bytes.split_first_chunk::<8>().ok_or("a state is short")?;
        let floor = floor.try_into().map_err(|_| "a state is short")?;
        let applied = usize::try_from(u64::from_le_bytes(*applied)).expect("64 bits");
        Ok(Self { applied, floor: i64::from_le_bytes(floor) })
    }
}

/// A store just recovered.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) index: Index,
    pub(crate) state: State,
}

/// Recovers a store from what lies on a disk; `keeps` may leave out what recovery tells.
///
/// # Errors
/// Why it refused.
pub(crate) fn recover(
    config: &Config,
    disk: &Disk,
    mut keeps: impl FnMut(&Index, &Bytes, Past) -> bool,
) -> Result<Node, String> {
    let mut recovery = Recovery::new(*config, SHARD, STORE_ID, &disk.list());
    let (mut index, mut told, mut last) = (Index::default(), Vec::new(), None);
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                recovery.handle(disk.read(&file.to_string(), offset, size));
            }
            Step::Entries => {
                for entry in recovery.entries() {
                    if last.replace(entry.location) >= Some(entry.location) {
                        return Err(format!("{:?} is told after {last:?}", entry.location));
                    }
                    let key = Bytes::copy_from_slice(entry.key);
                    let (location, created) = (entry.location, entry.created.0);
                    let past = Past { location, created, version: entry.version };
                    if keeps(&index, &key, past) {
                        index.restore(&key, past, &mut told);
                    }
                }
                told.drain(..).for_each(|location| recovery.forget(location));
            }
            Step::Done(recovered) => {
                let state = match &recovered.state {
                    Some(state) if !state.is_empty() => State::decode(state)?,
                    Some(_) | None => State::default(),
                };
                return Ok(Node { store: Store::new(*recovered), index, state });
            }
            Step::Refused(damage) => return Err(damage.to_string()),
        }
    }
}

fn perform(store: &mut Store, disk: &mut Disk, command: Command) -> Result<Event, String> {
    match command {
        Command::Write { id, file, offset, size } => {
            let mut buffer = vec![0xee; size];
            store.fill(id, &mut buffer);
            let write = disk.begin(&file.to_string(), offset, buffer);
            disk.complete(write);
            Ok(Event::Written { id })
        }
        Command::Read { id, file, offset, size } => {
            let bytes = Bytes::copy_from_slice(disk.read(&file.to_string(), offset, size));
            if bytes.len() < size {
                return Err(format!("{file} at byte {offset} has no {size} bytes"));
            }
            Ok(Event::Read { id, bytes })
        }
        Command::Create { .. }
        | Command::Finish { .. }
        | Command::Replace { .. }
        | Command::Remove { .. } => {
            disk.begin_change(change(command), None);
            disk.complete_change();
            Ok(Event::Done)
        }
    }
}

/// What a command that is neither a write nor a read does to whole files.
pub(crate) fn change(command: Command) -> Change {
    match command {
        Command::Create { file } => Change::Create { name: file.to_string() },
        Command::Finish { from, to } => {
            Change::Finish { from: from.to_string(), to: to.to_string() }
        }
        Command::Replace { bytes } => Change::Replace { bytes },
        Command::Remove { file, .. } => Change::Remove { name: file.to_string() },
        Command::Write { .. } | Command::Read { .. } => unreachable!("no change of whole files"),
    }
}

/// Holds what a store has of a change against it, with the value unless that is in a file; then
/// it is asked for, and its block told.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(store: &mut Store, due: &Item) -> Result<Option<BlockId>, String> {
    let at = due.location;
    let lease = store.lease(at);
    if lease != Some(due.lease) {
        return Err(format!("{at:?} has lease {lease:?}, due {:?}", due.lease));
    }
    let size = store.value_size(at, due.key.len());
    if size != Some(due.value.len()) {
        return Err(format!("{at:?} has {size:?} bytes, due {}", due.value.len()));
    }
    match store.value(at) {
        None => Err(format!("{at:?} is not known")),
        Some(Lookup::Here(held))
            if held.as_slice() == due.value && held.to_bytes() == due.value =>
        {
            Ok(None)
        }
        Some(Lookup::Here(_)) => Err(format!("{at:?} has another value in memory")),
        Some(Lookup::Away(block)) => {
            store.fetch(block);
            Ok(Some(block))
        }
    }
}

/// Reads all of these changes, whatever has to be fetched, and holds them against what is due.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_all<'a>(
    store: &mut Store,
    disk: &mut Disk,
    due: impl Iterator<Item = &'a Item>,
) -> Result<(), String> {
    let mut away = Vec::new();
    for item in due {
        if let Some(block) = check(store, item)? {
            away.push((block, item));
        }
    }
    for _ in 0..COMMANDS_MAX {
        while let Some(fetched) = store.fetched() {
            let mut wrong = None;
            away.retain(|(block, item)| {
                if *block != fetched.id {
                    return true;
                }
                let value = store.value_in(&fetched, item.location);
                if value.as_ref() != Some(&item.value) {
                    wrong = Some(item.location);
                }
                false
            });
            if let Some(location) = wrong {
                return Err(format!("{location:?} has another value in its block"));
            }
        }
        let Some(command) = store.poll() else {
            let missing: Vec<_> = away.iter().map(|(_, item)| item.location).collect();
            return if missing.is_empty() { Ok(()) } else { Err(format!("not read: {missing:?}")) };
        };
        let event = perform(store, disk, command)?;
        store.handle(event).map_err(|damage| damage.to_string())?;
    }
    Err("it never comes to rest".to_owned())
}

/// Whether a name is a segment's.
pub(crate) fn is_segment(name: &str) -> bool {
    matches!(FileId::parse(name), Some(FileId::Segment(_)))
}
