//! All keys, page after page, at the revision of the first: what a page costs.

use std::time::Duration;

use crate::client::Caller;
use crate::failure::Failure;
use crate::load::measure::{Latency, histogram};
use crate::message::Range;
use crate::scenario::{Stage, in_order};
use crate::workload::{Order, Shape};

/// Bytes in a value.
const VALUE_SIZE: usize = 100;

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let keys = stage.args.scaled(stage.args.keys);
    let shape = Shape { value_size: VALUE_SIZE, order: Order::Shuffled, ..in_order(keys) };
    let server = stage.start()?;
    stage.fill(&server, &shape, keys)?;
    stage.say("is paged through");
    let (clock, subject) = (stage.clock, server.subject());
    let mut caller = Caller::connect(server.address, PATIENCE)?;
    let limit = stage.args.page_size;
    let mut range = Range { key: vec![0], end: vec![0], limit, revision: 0 };
    let (mut rows, mut pages, mut latency) = (0, 0_u64, histogram());
    subject.forget_peak();
    let begin = (clock.now(), subject.usage());
    loop {
        let start = clock.now();
        let page = caller.list(&range, &mut |_, _| {})?;
        latency.saturating_record(clock.now().since(start));
        (rows, pages) = (rows + page.rows, pages + 1);
        if page.last < range.key {
            return Err(Failure::Wrong(format!("page {pages} goes back")));
        }
        if !page.more {
            break;
        }
        if range.revision == 0 {
            range.revision = page.revision;
        }
        range.key = page.last;
        range.key.push(0);
    }
    let (seconds, after) = (clock.now().since(begin.0) as f64 / 1e9, subject.usage());
    if rows != keys {
        return Err(Failure::Wrong(format!("{rows} of {keys} keys in {pages} pages")));
    }
    let latency = Latency::of(&latency);
    let cpu = after.cpu.saturating_sub(begin.1.cpu).as_secs_f64();
    stage.figure("pages", "rate /s", pages as f64 / seconds);
    stage.figure("pages", "p50 us", latency.p50_us);
    stage.figure("pages", "p99 us", latency.p99_us);
    stage.figure("pages", "CPU us/page", cpu * 1e6 / pages as f64);
    stage.figure("pages", "RSS MiB", after.rss_mib());
    let growth = after.peak_kib.saturating_sub(begin.1.rss_kib) as f64 / 1024.0;
    stage.figure("pages", "RSS growth MiB", growth);
    Ok(())
}
