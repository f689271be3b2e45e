//! What was put, and what each watcher has been told of it: everything once, and in order.
//!
//! A put that is under way has no place yet among the others; the server gives it one. So events
//! are not held against the order of sending, but against what must hold whatever the order: a
//! key's versions rise by one, and so do the store's revisions, for nobody else changes it. That
//! all values came, each once, is held by a sum that each put adds its own number to.

use crate::clock::Nanos;
use crate::message::watch::Event;

/// Bytes that a value has at least: when it was sent, its number, and its key.
pub(crate) const VALUE_SIZE_MIN: usize = 24;

/// What a watcher watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// One key.
    Key(u64),
    /// All keys.
    All,
}

/// What has been put, to one key or to all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sent {
    count: u64,
    /// The numbers of these puts, added up.
    sum: u64,
}

/// Whether a watcher is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It is told, and what it is told counts.
    Listening,
    /// Nobody reads what it is told, so it need not be told yet.
    Stalled,
    /// It has ended.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Watcher {
    scope: Scope,
    standing: Standing,
    /// Of all keys: the store's revision before the first put.
    base: u64,
    /// The number of its last event: how many puts in its scope there were up to that.
    seen: u64,
    sum: u64,
    /// The revision of its last event.
    revision: u64,
}

/// What went wrong, how often, and the first of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Wrongs {
    /// Events that were left out.
    lost: u64,
    /// Events that came once more, or after later ones.
    late: u64,
    /// Events of other keys, without the value that was put, or out of the order of revisions.
    foreign: u64,
    first: Option<String>,
}

/// The account of all puts and events.
#[derive(Debug)]
pub(crate) struct Ledger {
    keys: Vec<Sent>,
    /// How many listen to each key alone.
    fans: Vec<u64>,
    /// How many listen to all.
    fans_of_all: u64,
    all: Sent,
    watchers: Vec<Watcher>,
    /// Events that listeners should have had by now.
    due: u64,
    /// Events that listeners have had, or have lost.
    settled: u64,
    wrongs: Wrongs,
}

impl Ledger {
    /// The account of puts to keys `0..keys`, which the store does not have.
    pub(crate) fn new(keys: u64) -> Self {
        let count = usize::try_from(keys).expect("keys are counted in memory");
        Self {
            keys: vec![Sent::default(); count],
            fans: vec![0; count],
            fans_of_all: 0,
            all: Sent::default(),
            watchers: Vec::new(),
            due: 0,
            settled: 0,
            wrongs: Wrongs::default(),
        }
    }

    /// A new watcher, created at `revision` while no put was under way.
    pub(crate) fn watch(&mut self, scope: Scope, revision: u64) -> usize {
        let Sent { count: seen, sum } = self.sent(scope);
        let base = revision.wrapping_sub(self.all.count);
        let standing = Standing::Listening;
        self.watchers.push(Watcher { scope, standing, base, seen, sum, revision });
        *self.fans(scope) += 1;
        self.watchers.len() - 1
    }

    /// Nobody reads what this one is told from now on.
    pub(crate) fn stall(&mut self, watcher: usize) {
        self.set(watcher, Standing::Stalled);
    }

    /// Somebody reads on: all it has not had is due.
    pub(crate) fn resume(&mut self, watcher: usize) {
        self.set(watcher, Standing::Listening);
        self.due += self.missing(watcher);
    }

    /// The watcher has ended, whatever it has not had.
    pub(crate) fn forget(&mut self, watcher: usize) {
        self.set(watcher, Standing::Gone);
    }

    fn set(&mut self, watcher: usize, standing: Standing) {
        let scope = self.watchers[watcher].scope;
        let before = std::mem::replace(&mut self.watchers[watcher].standing, standing);
        match (before, standing) {
            (Standing::Listening, Standing::Stalled | Standing::Gone) => {
                *self.fans(scope) -= 1;
                self.settled += self.missing(watcher);
            }
            (Standing::Stalled | Standing::Gone, Standing::Listening) => *self.fans(scope) += 1,
            _ => {}
        }
    }

    fn sent(&self, scope: Scope) -> Sent {
        match scope {
            Scope::Key(key) => self.keys[index(key)],
            Scope::All => self.all,
        }
    }

    fn fans(&mut self, scope: Scope) -> &mut u64 {
        match scope {
            Scope::Key(key) => &mut self.fans[index(key)],
            Scope::All => &mut self.fans_of_all,
        }
    }

    /// How many events a watcher has not had.
    pub(crate) fn missing(&self, watcher: usize) -> u64 {
        let Watcher { scope, seen, .. } = self.watchers[watcher];
        self.sent(scope).count.saturating_sub(seen)
    }

    /// How many events listeners have not had.
    pub(crate) fn owed(&self) -> u64 {
        self.due.saturating_sub(self.settled)
    }

    /// How many events listeners have had, or have lost.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// The number of the next put.
    pub(crate) fn next(&self) -> u64 {
        self.all.count
    }

    /// Takes note that the next put was sent, to `key`.
    pub(crate) fn on_sent(&mut self, key: u64) {
        let number = self.next();
        for sent in [&mut self.keys[index(key)], &mut self.all] {
            sent.count += 1;
            sent.sum = sent.sum.wrapping_add(number);
        }
        self.due += self.fans[index(key)] + self.fans_of_all;
    }

    /// Takes note of an event that `watcher` was told; returns when its put was sent, if all is
    /// well with it.
    pub(crate) fn on_event(&mut self, watcher: usize, event: &Event<'_>) -> Option<Nanos> {
        let Watcher { scope, standing, base, seen, revision, .. } = self.watchers[watcher];
        let number = match scope {
            Scope::Key(_) => event.version,
            Scope::All => event.revision.wrapping_sub(base),
        };
        if number > self.sent(scope).count {
            self.on_foreign(watcher, event);
            return None;
        }
        if number <= seen {
            let name = if number == seen { "once more" } else { "after later ones" };
            self.wrongs.late += 1;
            self.note(|| format!("watcher {watcher} got event {number} {name}"));
            return None;
        }
        if number > seen + 1 {
            self.wrongs.lost += number - seen - 1;
            self.note(|| format!("watcher {watcher} got event {number} after event {seen}"));
        }
        if standing == Standing::Listening {
            self.settled += number - seen;
        }
        let value = self.value(scope, event).filter(|_| event.revision > revision);
        let found = &mut self.watchers[watcher];
        found.seen = number;
        found.revision = event.revision;
        let Some((sent, own)) = value else {
            self.on_foreign(watcher, event);
            return None;
        };
        found.sum = found.sum.wrapping_add(own);
        Some(sent)
    }

    /// When an event's put was sent, and its number; none if that put cannot be ours.
    fn value(&self, scope: Scope, event: &Event<'_>) -> Option<(Nanos, u64)> {
        let (sent, rest) = event.value.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let key = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        let number = u64::from_le_bytes(*number);
        let right = event.put
            && number < self.all.count
            && key == read_key(event.key)?
            && (scope == Scope::All || scope == Scope::Key(key));
        right.then_some((Nanos(u64::from_le_bytes(*sent)), number))
    }

    fn on_foreign(&mut self, watcher: usize, event: &Event<'_>) {
        self.wrongs.foreign += 1;
        let Event { put, key, value, revision, version } = *event;
        let (key, size) = (String::from_utf8_lossy(key), value.len());
        self.note(|| {
            format!(
                "watcher {watcher} got an event that cannot be: key {key}, put {put}, value of \
                 {size} bytes, revision {revision}, version {version}"
            )
        });
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.wrongs.first.is_none() {
            self.wrongs.first = Some(what());
        }
    }

    /// All that went wrong since the last time, in words; what listeners have not had by now is
    /// taken as lost.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let (mut behind, mut missing, mut other) = (0_u64, 0, 0_u64);
        for index in 0..self.watchers.len() {
            let watcher = self.watchers[index];
            if watcher.standing != Standing::Listening {
                continue;
            }
            let (lacks, sent) = (self.missing(index), self.sent(watcher.scope));
            behind += u64::from(lacks > 0);
            missing += lacks;
            other += u64::from(lacks == 0 && watcher.sum != sent.sum);
        }
        let wrongs = std::mem::take(&mut self.wrongs);
        let first = wrongs.first.map_or(String::new(), |first| format!(" (first: {first})"));
        let clean = wrongs.lost + wrongs.late + wrongs.foreign == 0;
        let counts = [
            (missing, format!("{behind} watchers lack {missing} events at the end")),
            (wrongs.lost, format!("{} events were left out{first}", wrongs.lost)),
            (wrongs.late, format!("{} events came twice or too late{first}", wrongs.late)),
            (wrongs.foreign, format!("{} events cannot be{first}", wrongs.foreign)),
            (if clean { other } else { 0 }, format!("{other} watchers got other values than put")),
        ];
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect()
    }
}

fn index(key: u64) -> usize {
    usize::try_from(key).expect("keys are counted in memory")
}

/// The number that a key's digits are; none when they are not digits.
fn read_key(key: &[u8]) -> Option<u64> {
    let start = key.iter().position(|digit| *digit != b'0').unwrap_or(key.len());
    key[start..].iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Writes what a value begins with.
pub(crate) fn write_value(sent: Nanos, number: u64, key: u64, out: &mut Vec<u8>) {
    for part in [sent.0, number, key] {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
