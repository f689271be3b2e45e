//! One long list after the other, in one answer and as a stream: what it costs, and whether the
//! server holds all of it at once.

use std::time::Duration;

use crate::client::Caller;
use crate::failure::Failure;
use crate::h2::hpack::Method;
use crate::load::measure::{Latency, histogram};
use crate::message::{self, Fields, Range, Value};
use crate::scenario::{Stage, in_order};
use crate::server::Server;
use crate::workload::Shape;

/// Bytes in a value.
const VALUE_SIZE: usize = 100;

/// How long one list may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let keys = stage.args.scaled(stage.args.few_keys);
    let shape = Shape { value_size: VALUE_SIZE, ..in_order(keys) };
    let server = stage.start()?;
    stage.fill(&server, &shape, keys)?;
    lists(stage, &server, keys, "unary", Method::Range)?;
    lists(stage, &server, keys, "stream", Method::RangeStream)
}

fn lists(
    stage: &mut Stage<'_>,
    server: &Server,
    keys: u64,
    case: &'static str,
    method: Method,
) -> Result<(), Failure> {
    stage.say("lists");
    let (clock, subject) = (stage.clock, server.subject());
    let mut caller = Caller::connect(server.address, PATIENCE)?;
    let request = Range { key: vec![0], end: vec![0], ..Range::default() }.to_bytes();
    subject.forget_peak();
    let before = subject.usage();
    let size = check(&caller.call(method, &request, usize::MAX)?.body, keys, method)?;
    let mut latency = histogram();
    let begin = (clock.now(), subject.usage());
    for _ in 0..stage.args.lists {
        let start = clock.now();
        let answer = caller.call(method, &request, usize::MAX)?;
        latency.saturating_record(clock.now().since(start));
        check(&answer.body, keys, method)?;
    }
    let (seconds, after) = (clock.now().since(begin.0) as f64 / 1e9, subject.usage());
    let latency = Latency::of(&latency);
    let count = f64::from(stage.args.lists.max(1));
    let cpu = after.cpu.saturating_sub(begin.1.cpu).as_secs_f64();
    stage.figure(case, "rate /s", count / seconds);
    stage.figure(case, "p50 ms", latency.p50_us / 1000.0);
    stage.figure(case, "max ms", latency.max_us / 1000.0);
    stage.figure(case, "CPU ms/list", cpu * 1000.0 / count);
    stage.figure(case, "RSS before MiB", before.rss_mib());
    let growth = after.peak_kib.saturating_sub(before.rss_kib) as f64 / 1024.0;
    stage.figure(case, "RSS growth MiB", growth);
    stage.figure(case, "answer MiB", size as f64 / 1_048_576.0);
    Ok(())
}

/// The size of a list's answer in bytes, if all keys are in it with whole values.
fn check(answer: &[u8], keys: u64, method: Method) -> Result<u64, Failure> {
    let mut whole = 0;
    let mut visit = |_: &[u8], value: &[u8]| whole += u64::from(value.len() == VALUE_SIZE);
    if method.is_stream() {
        for (field, part) in Fields::of(answer) {
            if let (1, Value::Bytes(part)) = (field, part) {
                message::listed(part, &mut visit)?;
            }
        }
    } else {
        message::listed(answer, &mut visit)?;
    }
    if whole == keys {
        Ok(answer.len() as u64)
    } else {
        Err(Failure::Wrong(format!("a list has {whole} of {keys} keys")))
    }
}
