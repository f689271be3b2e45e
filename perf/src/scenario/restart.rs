//! Kill -9 with many keys: how long until it answers, and what it holds in memory then.

use std::time::Duration;

use crate::client::Caller;
use crate::failure::Failure;
use crate::message::Range;
use crate::scenario::{Stage, in_order};
use crate::server::Server;
use crate::workload::{Order, Random, Shape, keyed_value, write_key};

/// Bytes in a key.
const KEY_SIZE: usize = 64;

/// Keys whose values are looked at after a restart.
const LOOKS: u64 = 200;

/// How long one of those calls may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let keys = stage.args.scaled(stage.args.keys);
    let shape = Shape { key_size: KEY_SIZE, order: Order::Shuffled, keyed: true, ..in_order(keys) };
    let mut server = stage.start()?;
    let load = stage.fill(&server, &shape, keys)?;
    stage.figure("fill", "rate /s", load.measured.rate);
    stage.figure("fill", "CPU us/put", load.cpu_us);
    stage.figure("fill", "RSS MiB", server.usage().rss_mib());
    stage.figure("fill", "disk MiB", server.subject().disk_use() as f64 / 1_048_576.0);
    restart(stage, &mut server, &shape, "warm", false)?;
    if stage.args.cold {
        restart(stage, &mut server, &shape, "cold", true)?;
    }
    Ok(())
}

fn restart(
    stage: &mut Stage<'_>,
    server: &mut Server,
    shape: &Shape,
    case: &'static str,
    cold: bool,
) -> Result<(), Failure> {
    stage.say("is killed and starts again");
    let ready = server.restart(cold, stage.interrupt)?;
    let then = server.usage();
    stage.pause(stage.args.settle)?;
    let later = server.usage();
    stage.figure(case, "ready s", ready.as_secs_f64());
    stage.figure(case, "CPU s", then.cpu.as_secs_f64());
    stage.figure(case, "RSS MiB", then.rss_mib());
    stage.figure(case, "RSS settled MiB", later.rss_mib());
    stage.figure(case, "of it no file's MiB", later.anonymous_kib as f64 / 1024.0);
    stage.say("is looked through");
    look_through(server, shape)
}

/// Whether all is there: the count of keys, and the values of some.
fn look_through(server: &Server, shape: &Shape) -> Result<(), Failure> {
    let mut caller = Caller::connect(server.address, PATIENCE)?;
    let all = Range { key: vec![0], end: vec![0], limit: 1, ..Range::default() };
    let count = caller.list(&all, &mut |_, _| {})?.count;
    if count != shape.keys {
        return Err(Failure::Wrong(format!("{count} of {} keys after a restart", shape.keys)));
    }
    look_at_some(&mut caller, shape, LOOKS)
}

/// Gets `count` random keys of a store filled with keyed values, and compares each value.
///
/// # Errors
/// When one is wrong or missing.
pub(super) fn look_at_some(caller: &mut Caller, shape: &Shape, count: u64) -> Result<(), Failure> {
    let mut random = Random::new(count);
    for _ in 0..count {
        let key = random.below(shape.keys);
        let mut name = Vec::new();
        write_key(key, shape.key_size, &mut name);
        let value = caller.get(&name)?;
        if value.as_deref() != Some(keyed_value(shape, key).as_slice()) {
            let size = value.map(|value| value.len());
            return Err(Failure::Wrong(format!("key {key} has another value, of {size:?} bytes")));
        }
    }
    Ok(())
}
