//! From a shard's directories to a shard that runs.

use crate::rt::core::Disks;
use crate::rt::disk::LogDisk;
use crate::rt::disk::StoreDisk;
use crate::rt::server::Plan;
use crate::rt::server::random;
use crate::shard;
use crate::shard::Shard;
use crate::shard::recover::Files;
use crate::shard::recover::Recovery;
use crate::shard::recover::Step;
use crate::store;
use crate::types::ShardId;
use crate::types::Tick;
use crate::wal;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How long a recovery waits between two slices where others wait for the core: they have a turn.
const BREATH: Duration = Duration::from_micros(2);

/// Opens a shard from its files.
///
/// # Errors
/// What is wrong, with which file, and what to do.
pub(super) async fn open(plan: &Plan, id: ShardId) -> Result<(Shard, Rc<Disks>), String> {
    let (dir, store_dir) = (plan.config.shard_wal_dir(id), plan.config.shard_store_dir(id));
    let log = LogDisk::open(&dir).await.map_err(|error| error.to_string())?;
    let store = StoreDisk::open(&store_dir).await.map_err(|error| error.to_string())?;
    if !plan.is_known {
        check_unfinished_log(plan, &log, &dir).await?;
        check_unfinished_store(plan, &store, &store_dir).await?;
        store.clear().await.map_err(|error| error.to_string())?;
        log.clear().await.map_err(|error| error.to_string())?;
    }
    let files = log.list().map_err(|error| error.to_string())?;
    let is_segment = |name: &str| matches!(wal::FileId::parse(name), Some(wal::FileId::Segment(_)));
    if plan.is_known && !files.iter().any(|(name, _)| is_segment(name)) {
        return Err(format!(
            "its log is not in {}; if --wal-dir has changed put it back, else restore this member \
             from a backup, or remove it and add it anew",
            dir.display()
        ));
    }
    let store_files = store.list().map_err(|error| error.to_string())?;
    let files = Files { log: &files, store: &store_files };
    let shard = recover(plan, id, &log, &store, files).await?;
    warn(&dir, log.is_cached(), log.is_in_memory());
    if store.is_cached() && !log.is_cached() || store.is_in_memory() && !log.is_in_memory() {
        warn(&store_dir, store.is_cached(), store.is_in_memory());
    }
    Ok((shard, Rc::new(Disks { log, store })))
}

async fn recover(
    plan: &Plan,
    id: ShardId,
    log: &LogDisk,
    store: &StoreDisk,
    files: Files<'_>,
) -> Result<Shard, String> {
    let config = shard::Config::new(
        &plan.config,
        id,
        plan.identity.cluster,
        plan.identity.member,
        &plan.bootstrap,
    )?;
    let now = plan.clock.now();
    let mut recovery = Recovery::new(config, plan.identity.log_id, files, random(), now);
    if plan.config.cluster.force_new && plan.is_known {
        recovery = recovery.alone();
    }
    let shard = run(recovery, log, store, None).await?;
    tracing::info!(
        shard = id.0,
        applied = shard.applied().0,
        revision = shard.header().revision.0,
        took_ms = plan.clock.now().0,
        "recovered"
    );
    Ok(shard)
}

/// Opens a shard from files that another one on this core has open, and writes no more.
///
/// # Errors
/// As [`open`].
pub(super) async fn again(
    config: shard::Config,
    log_id: u64,
    disks: &Disks,
    now: Tick,
) -> Result<Shard, String> {
    let Disks { log, store } = disks;
    let log_files = log.list().map_err(|error| error.to_string())?;
    let store_files = store.list().map_err(|error| error.to_string())?;
    let files = Files { log: &log_files, store: &store_files };
    let recovery = Recovery::new(config, log_id, files, random(), now).in_slices();
    run(recovery, log, store, Some(BREATH)).await
}

/// Reads for a recovery what it wants, until it has come to something; `breath` is for others
/// between its slices.
async fn run(
    mut recovery: Recovery,
    log: &LogDisk,
    store: &StoreDisk,
    breath: Option<Duration>,
) -> Result<Shard, String> {
    loop {
        match recovery.poll() {
            Step::More => {
                if let Some(breath) = breath {
                    glommio::timer::sleep(breath).await;
                }
            }
            Step::Read { file, offset, size } => {
                let bytes = log.read(file, offset, size).await.map_err(|e| e.to_string())?;
                recovery.handle(&bytes);
            }
            Step::ReadStore { file, offset, size } => {
                let bytes = store.read(file, offset, size).await.map_err(|e| e.to_string())?;
                recovery.handle(&bytes);
            }
            Step::Done(shard) => return Ok(*shard),
            Step::Refused(why) => return Err(format!("{}: {why}", log.path().display())),
            Step::RefusedStore(why) => return Err(format!("{}: {why}", store.path().display())),
        }
    }
}

/// Says what a file system costs.
fn warn(dir: &Path, is_cached: bool, is_in_memory: bool) {
    if is_cached {
        tracing::warn!(
            dir = %dir.display(),
            "this file system has no direct I/O: each write goes through the page cache and a \
             sync, which is slower"
        );
    }
    if is_in_memory {
        tracing::warn!(
            dir = %dir.display(),
            "this file system is in memory: all of it is lost when the machine stops"
        );
    }
}

/// Refuses a log that a start which did not finish has not left: nobody was ever served from such a
/// one, and it is removed.
///
/// A log of another id is not that. It may be all that another member has, met by a wrong
/// --data-dir or --wal-dir, or our own, whose data directory was lost.
async fn check_unfinished_log(plan: &Plan, disk: &LogDisk, dir: &Path) -> Result<(), String> {
    let block = usize::try_from(wal::format::FRAMES_AT).expect("usize is 64 bits");
    for (name, _) in disk.list().map_err(|error| error.to_string())? {
        let Some(file @ wal::FileId::Segment(_)) = wal::FileId::parse(&name) else {
            continue;
        };
        let bytes = disk.read(file, 0, block).await.map_err(|error| error.to_string())?;
        let is_ours = bytes.len() == block
            && wal::format::SegmentHeader::decode(&bytes)
                .is_ok_and(|header| header.identity.log_id == plan.identity.log_id);
        if !is_ours {
            let data_dir = plan.config.data_dir.display();
            return Err(format!(
                "{} holds a log and {data_dir} no identity that it belongs to; give the \
                 --data-dir and --wal-dir that belong together, or move that log away",
                dir.display()
            ));
        }
    }
    Ok(())
}

/// The same of a store.
async fn check_unfinished_store(plan: &Plan, disk: &StoreDisk, dir: &Path) -> Result<(), String> {
    let id = plan.identity.log_id;
    for (name, size) in disk.list().map_err(|error| error.to_string())? {
        let is_ours = match store::FileId::parse(&name) {
            Some(file @ store::FileId::Segment(_)) => {
                let size = store::format::SEGMENT_HEADER_SIZE;
                let bytes = disk.read(file, 0, size).await.map_err(|error| error.to_string())?;
                bytes.len() == size
                    && store::format::SegmentHeader::decode(&bytes)
                        .is_ok_and(|header| header.identity.store_id == id)
            }
            Some(file @ store::FileId::Manifest) => {
                let size = size.min(store::format::MANIFEST_SIZE_MAX);
                let size = usize::try_from(size).expect("usize is 64 bits");
                let bytes = disk.read(file, 0, size).await.map_err(|error| error.to_string())?;
                store::Manifest::decode(&bytes).is_ok_and(|it| it.identity.store_id == id)
            }
            // Unfinished, and so nobody's.
            Some(store::FileId::Draft | store::FileId::New(_)) | None => true,
        };
        if !is_ours {
            return Err(format!(
                "{} holds a revision store and {} no identity that it belongs to; put back the \
                 data directory that it comes from, or move that store away",
                dir.display(),
                plan.config.data_dir.display()
            ));
        }
    }
    Ok(())
}
