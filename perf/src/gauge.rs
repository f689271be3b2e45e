//! What a server uses over time: a look at regular intervals while something else goes on.

use std::sync::mpsc::channel;
use std::time::Duration;

use crate::clock::{self, Clock, Nanos};
use crate::server::{Subject, Usage};

/// One look.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Gauge {
    /// When, on the clock of the run.
    pub(crate) at: Nanos,
    /// CPU and memory.
    pub(crate) usage: Usage,
    /// Open files and sockets.
    pub(crate) descriptors: u64,
    /// Bytes on disk.
    pub(crate) disk: u64,
}

/// Looks once.
pub(crate) fn look(subject: &Subject, clock: Clock) -> Gauge {
    let at = clock.now();
    let (usage, descriptors) = (subject.usage(), subject.descriptors());
    Gauge { at, usage, descriptors, disk: subject.disk_use() }
}

/// Looks at `subject` every `interval` for as long as `run` takes, and once more at its end.
pub(crate) fn during<R>(
    subject: &Subject,
    clock: Clock,
    interval: Duration,
    run: impl FnOnce() -> R,
) -> (R, Vec<Gauge>) {
    let (end, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let mut gauges = vec![look(subject, clock)];
            while clock::passes(&ended, interval) {
                gauges.push(look(subject, clock));
            }
            gauges.push(look(subject, clock));
            gauges
        });
        let result = run();
        drop(end);
        (result, watcher.join().expect("the watcher does not panic"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_looked_at_from_its_beginning_to_its_end() {
        let subject = Subject::this();
        let (result, gauges) = during(&subject, Clock::start(), Duration::from_secs(600), || 7);
        assert_eq!((result, gauges.len()), (7, 2));
        let usage = gauges[1].usage;
        assert!(usage.rss_kib > 0 && gauges[1].descriptors > 0);
        assert!(gauges[0].at <= gauges[1].at);
    }
}
