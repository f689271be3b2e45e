//! Whether everybody was told the same, and all of it.
//!
//! From what was acknowledged and from what watchers were told the audit puts together one history:
//! which revision changed what. It replays it on a plain map and asks of each revision who did it
//! and whether it was allowed, of each read whether the rows were those, and of each watcher
//! whether it was told of every change of its keys once, in order, as it was, and of no progress
//! ahead of them. It knows nothing of the load, and nothing of time but that a lease lives for as
//! long as was granted.

use crate::record::{Attempt, Change, Entry, Lease, Log, Outcome, Read, Record, Span};
use bytes::Bytes;
use ringd::api::proto::mvccpb::event::EventType;
use ringd::api::proto::mvccpb::{Event, KeyValue};
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// Problems that are told of; one is enough.
const PROBLEMS_MAX: usize = 12;

/// What is wrong.
type Problems = Vec<String>;

/// What the history has at one revision.
#[derive(Clone, Debug, Default)]
struct Turn {
    changes: BTreeMap<Bytes, Change>,
    /// When a watcher was first told of it.
    seen: Option<Instant>,
}

/// A change as watchers of its key are to be told of it.
#[derive(Clone, Debug)]
struct Due {
    revision: i64,
    kind: EventType,
    kv: KeyValue,
    previous: Option<KeyValue>,
}

/// How far one watcher has been followed.
#[derive(Clone, Debug)]
struct Position {
    name: String,
    span: Span,
    has_previous: bool,
    /// It was told of every change up to this revision.
    at: i64,
    /// What happened to it since.
    entries: VecDeque<Entry>,
}

/// How much was judged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Revisions.
    pub(crate) commits: usize,
    /// Writes that were refused since their condition did not hold.
    pub(crate) refused: usize,
    /// Writes that were done though nobody was told so.
    pub(crate) unknown: usize,
    /// Leases that ended with keys.
    pub(crate) expired: usize,
    /// Reads.
    pub(crate) reads: usize,
    /// Events that watchers were told of.
    pub(crate) events: usize,
    /// Answers that say how far a watcher has come.
    pub(crate) progress: usize,
    /// Watchers that were told that they came too late.
    pub(crate) compacted: usize,
    /// Watchers that were taken on.
    pub(crate) opened: usize,
}

/// The audit, which has followed everything up to a revision.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    revision: i64,
    rows: BTreeMap<Bytes, KeyValue>,
    positions: Vec<Position>,
    /// Reads of later revisions.
    reads: Vec<Read>,
    leases: BTreeMap<i64, Lease>,
    compacted_max: i64,
    pub(crate) counts: Counts,
}

impl Audit {
    /// Before anything has happened to a new server.
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            rows: BTreeMap::new(),
            positions: Vec::new(),
            reads: Vec::new(),
            leases: BTreeMap::new(),
            compacted_max: 0,
            counts: Counts::default(),
        }
    }

    /// Judges what happened up to a revision, which every watcher was told of; what happened
    /// later is kept for the next time. What is wrong, if anything is.
    pub(crate) fn judge(&mut self, record: Record, horizon: i64) -> Problems {
        let mut problems = Problems::new();
        let Record { attempts, reads, logs, leases, compacted_max } = record;
        self.leases.extend(leases);
        self.compacted_max = compacted_max.max(self.compacted_max);
        self.reads.extend(reads);
        self.take_in(logs);
        let history = self.history(&attempts, horizon, &mut problems);
        let dues = self.replay(&attempts, &history, horizon, &mut problems);
        for position in &mut self.positions {
            let walk = position.walk(&dues, horizon, self.compacted_max, &mut self.counts);
            if let Err(problem) = walk {
                problems.push(format!("{}: {problem}", position.name));
            }
        }
        problems.truncate(PROBLEMS_MAX);
        problems
    }

    fn take_in(&mut self, logs: Vec<Log>) {
        if self.positions.is_empty() {
            let position = |log: &Log| Position {
                name: log.name.clone(),
                span: log.span.clone(),
                has_previous: log.has_previous,
                at: 0,
                entries: VecDeque::new(),
            };
            self.positions = logs.iter().map(position).collect();
        }
        for (position, log) in self.positions.iter_mut().zip(logs) {
            position.entries.extend(log.entries);
        }
    }

    /// What was changed at each revision up to the horizon, by all that is known.
    fn history(
        &self,
        attempts: &[Attempt],
        horizon: i64,
        problems: &mut Problems,
    ) -> BTreeMap<i64, Turn> {
        let mut history: BTreeMap<i64, Turn> = BTreeMap::new();
        let mut add = |revision: i64, key: &Bytes, change: Change, seen: Option<Instant>| {
            let turn = history.entry(revision).or_default();
            turn.seen = turn.seen.into_iter().chain(seen).min();
            let known = turn.changes.entry(key.clone()).or_insert_with(|| change.clone());
            if *known != change {
                problems.push(format!(
                    "revision {revision}: some were told {}, others {}",
                    told(key, known),
                    told(key, &change)
                ));
            }
        };
        for attempt in attempts {
            if let Outcome::Done(revision) = attempt.outcome {
                add(revision, &attempt.key, attempt.change.clone(), None);
            }
        }
        for position in &self.positions {
            for entry in &position.entries {
                let Entry::Events { events, seen, .. } = entry else { continue };
                for event in events {
                    let kv = pair(event);
                    if kv.mod_revision <= horizon {
                        add(kv.mod_revision, &kv.key, change(event), Some(*seen));
                    }
                }
            }
        }
        history
    }

    /// Replays the history; every change as watchers are to be told of it.
    fn replay(
        &mut self,
        attempts: &[Attempt],
        history: &BTreeMap<i64, Turn>,
        horizon: i64,
        problems: &mut Problems,
    ) -> Vec<Due> {
        let early = history.range(..=self.revision).next();
        problems.extend(early.map(|(revision, _)| format!("revision {revision}: used again")));
        let mut by_change: BTreeMap<(&Bytes, &Change), Vec<&Attempt>> = BTreeMap::new();
        let mut refused: BTreeMap<i64, Vec<&Attempt>> = BTreeMap::new();
        for attempt in attempts {
            let key = (&attempt.key, &attempt.change);
            match attempt.outcome {
                Outcome::Done(_) | Outcome::Unknown => {
                    by_change.entry(key).or_default().push(attempt);
                }
                Outcome::Refused { revision, .. } => {
                    refused.entry(revision).or_default().push(attempt);
                }
                Outcome::Invalid => {}
            }
        }
        let mut reads: BTreeMap<i64, Vec<Read>> = BTreeMap::new();
        for read in std::mem::take(&mut self.reads) {
            match read.revision <= horizon {
                true => reads.entry(read.revision).or_default().push(read),
                false => self.reads.push(read),
            }
        }
        let mut dues = Vec::new();
        for revision in self.revision..=horizon {
            // At the first, what was read of it since the last audit is all that there is to do.
            if revision > self.revision {
                let nothing = Turn::default();
                let turn = history.get(&revision).unwrap_or(&nothing);
                if let Err(problem) = self.explain(revision, turn, &by_change) {
                    problems.push(format!("revision {revision}: {problem}"));
                }
                for (key, change) in &turn.changes {
                    dues.push(self.apply(revision, key, change));
                }
            }
            for read in reads.remove(&revision).unwrap_or_default() {
                self.counts.reads += 1;
                if let Err(problem) = self.shows(&read) {
                    let by = &read.by;
                    problems.push(format!("{by}: {:?} at {revision}: {problem}", read.span));
                }
            }
            for attempt in refused.remove(&revision).unwrap_or_default() {
                self.counts.refused += 1;
                if let Err(problem) = self.refuses(attempt, revision) {
                    problems.push(format!("{:?} at {revision}: {problem}", attempt.key));
                }
            }
        }
        let lost = reads.keys().chain(refused.keys());
        problems.extend(lost.map(|at| format!("revision {at}: not one that can be judged")));
        self.revision = horizon;
        dues
    }

    /// Whether somebody made these changes, and was allowed to.
    fn explain(
        &mut self,
        revision: i64,
        turn: &Turn,
        by_change: &BTreeMap<(&Bytes, &Change), Vec<&Attempt>>,
    ) -> Result<(), String> {
        let first = turn.changes.first_key_value().ok_or("nobody was told of it")?;
        self.counts.commits += 1;
        let row = self.rows.get(first.0);
        let attempts = by_change.get(&first).map_or(&[][..], Vec::as_slice);
        let done = attempts.iter().find(|it| it.outcome == Outcome::Done(revision));
        if let Some(attempt) = done {
            if attempt.floor >= revision {
                return Err(format!("{} was known before", attempt.floor));
            }
            if !attempt.condition.holds(row) {
                let condition = attempt.condition;
                return Err(format!("done though {condition:?} does not hold of {row:?}"));
            }
        }
        let unknown = |it: &&&Attempt| it.outcome == Outcome::Unknown && it.condition.holds(row);
        if turn.changes.len() == 1 {
            if done.is_some() {
                return Ok(());
            }
            if attempts.iter().find(unknown).is_some() {
                self.counts.unknown += 1;
                return Ok(());
            }
        }
        self.expires(row.map_or(0, |row| row.lease), turn).map_err(|problem| {
            let all: Vec<_> = turn.changes.iter().map(|(key, it)| told(key, it)).collect();
            format!("nobody did {all:?}, nor was it the end of a lease: {problem}")
        })
    }

    /// Whether a lease that ended, at its time, did this.
    fn expires(&mut self, id: i64, turn: &Turn) -> Result<(), String> {
        let lease = self.leases.get(&id).ok_or_else(|| format!("{id} was not granted"))?;
        if turn.changes.values().any(|change| *change != Change::Delete) {
            return Err("it puts something".to_owned());
        }
        let attached = self.rows.values().filter(|row| row.lease == id).map(|row| &row.key);
        if !attached.eq(turn.changes.keys()) {
            return Err(format!("not all of the keys of {id}, or others"));
        }
        if turn.seen.is_some_and(|seen| seen < lease.asked + lease.ttl) {
            return Err(format!("{id} had time left"));
        }
        self.counts.expired += 1;
        Ok(())
    }

    fn apply(&mut self, revision: i64, key: &Bytes, change: &Change) -> Due {
        let previous = self.rows.get(key).cloned();
        let (kind, kv) = match change.clone() {
            Change::Put { value, lease } => {
                let before = previous.as_ref();
                let kv = KeyValue {
                    key: key.clone(),
                    create_revision: before.map_or(revision, |row| row.create_revision),
                    mod_revision: revision,
                    version: before.map_or(1, |row| row.version + 1),
                    value,
                    lease,
                };
                self.rows.insert(key.clone(), kv.clone());
                (EventType::Put, kv)
            }
            Change::Delete => {
                self.rows.remove(key);
                let key = key.clone();
                let kv = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
                (EventType::Delete, kv)
            }
        };
        Due { revision, kind, kv, previous }
    }

    /// Whether a read has the rows that there are now.
    fn shows(&self, read: &Read) -> Result<(), String> {
        let Read { header, floor, revision, .. } = read;
        if header < floor {
            return Err(format!("answered at {header}, when {floor} was known"));
        }
        if header < revision {
            return Err(format!("answered at {header}, which is older"));
        }
        let all: Vec<_> = self.rows.values().filter(|row| read.span.holds(&row.key)).collect();
        let count = i64::try_from(all.len()).expect("few");
        let limit = if read.limit == 0 { all.len() } else { usize_of(read.limit) };
        if read.count != count {
            return Err(format!("{} counted, and there are {count}", read.count));
        }
        let Some(rows) = &read.rows else { return Ok(()) };
        if read.more != (all.len() > limit) {
            return Err(format!("more: {}, of {count} rows", read.more));
        }
        let due = all.iter().take(limit).copied();
        match rows.iter().eq(due) {
            true => Ok(()),
            false => Err(format!("{} rows that are not those", rows.len())),
        }
    }

    /// Whether a write was refused since its condition does not hold now.
    fn refuses(&self, attempt: &Attempt, revision: i64) -> Result<(), String> {
        let row = self.rows.get(&attempt.key);
        if attempt.condition.holds(row) {
            return Err(format!("refused though {:?} holds", attempt.condition));
        }
        if attempt.floor > revision {
            return Err(format!("refused at {revision}, when {} was known", attempt.floor));
        }
        if let Outcome::Refused { rows: Some(rows), .. } = &attempt.outcome
            && !rows.iter().eq(row)
        {
            return Err(format!("refused with {rows:?}, and there is {row:?}"));
        }
        Ok(())
    }
}

impl Position {
    /// Follows the watcher up to the horizon.
    fn walk(
        &mut self,
        dues: &[Due],
        horizon: i64,
        compacted_max: i64,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let mut dues = dues.iter().filter(|due| self.span.holds(&due.kv.key)).peekable();
        while let Some(entry) = self.entries.pop_front() {
            while dues.next_if(|due| due.revision <= self.at).is_some() {}
            let next = dues.peek().map_or(i64::MAX, |due| due.revision);
            match entry {
                Entry::Listed(revision) if revision < self.at => {
                    return Err(format!("listed at {revision}, when it was at {}", self.at));
                }
                Entry::Listed(revision) => self.at = revision,
                Entry::Opened(start) if start != self.at + 1 => {
                    return Err(format!("goes on from {start}, when it was at {}", self.at));
                }
                Entry::Opened(_) => counts.opened += 1,
                Entry::Progress(revision) if next <= revision.min(horizon) => {
                    return Err(format!("told of progress to {revision}, and not of {next}"));
                }
                Entry::Progress(revision) if revision < self.at => {
                    return Err(format!("progress back to {revision} from {}", self.at));
                }
                Entry::Progress(revision) if revision > horizon => {
                    self.entries.push_front(entry);
                    break;
                }
                Entry::Progress(revision) => {
                    counts.progress += 1;
                    self.at = revision;
                }
                Entry::Compacted(revision) => {
                    if revision <= self.at + 1 || revision > compacted_max {
                        let at = self.at;
                        return Err(format!("at {at}, and {revision} is called compacted"));
                    }
                    counts.compacted += 1;
                }
                Entry::Cut => {}
                Entry::Events { header, mut events, seen } => {
                    let now = events.partition_point(|it| pair(it).mod_revision <= horizon);
                    let later = events.split_off(now);
                    counts.events += events.len();
                    for event in &events {
                        self.at = self.check(header, event, dues.next(), compacted_max)?;
                    }
                    let last = events.last().map_or(0, |event| pair(event).mod_revision);
                    if let Some(torn) = dues.peek().filter(|due| due.revision == last) {
                        return Err(format!("of {last} it was told without {:?}", torn.kv.key));
                    }
                    if !later.is_empty() {
                        self.entries.push_front(Entry::Events { header, events: later, seen });
                        break;
                    }
                }
            }
        }
        match dues.find(|due| due.revision > self.at) {
            Some(due) => Err(format!("never told of {}: {:?}", due.revision, due.kv.key)),
            None => Ok(()),
        }
    }

    /// Whether an event is the one that was due; its revision.
    fn check(
        &self,
        header: i64,
        event: &Event,
        due: Option<&Due>,
        compacted_max: i64,
    ) -> Result<i64, String> {
        let kv = pair(event);
        let revision = kv.mod_revision;
        let what = format!("{:?} of {:?} at {revision}", event.r#type(), kv.key);
        let Some(due) = due else { return Err(format!("{what}, which it knew or never was")) };
        if (due.revision, &due.kv.key) != (revision, &kv.key) {
            let (missed, key) = (due.revision, &due.kv.key);
            return Err(format!("{what}, when {key:?} at {missed} was due"));
        }
        if event.r#type() != due.kind || *kv != due.kv {
            return Err(format!("{what} is {kv:?}, not {:?}", due.kv));
        }
        if header < revision {
            return Err(format!("{what}, in an answer of {header}"));
        }
        let due_previous = if self.has_previous { due.previous.as_ref() } else { None };
        // What was before may have been compacted by the time that it is asked for.
        let may_lack = event.prev_kv.is_none() && revision - 1 < compacted_max;
        if event.prev_kv.as_ref() != due_previous && !may_lack {
            return Err(format!("{what} was {:?}, not {due_previous:?}", event.prev_kv));
        }
        Ok(revision)
    }
}

fn pair(event: &Event) -> &KeyValue {
    event.kv.as_ref().expect("an event has a pair")
}

fn change(event: &Event) -> Change {
    let kv = pair(event);
    match event.r#type() {
        EventType::Put => Change::Put { value: kv.value.clone(), lease: kv.lease },
        EventType::Delete => Change::Delete,
    }
}

/// A change in words.
fn told(key: &Bytes, change: &Change) -> String {
    match change {
        Change::Put { value, lease } => {
            let start = value.get(..value.len().min(24)).expect("within its length");
            format!("put {key:?} = {:?} with lease {lease:x}", String::from_utf8_lossy(start))
        }
        Change::Delete => format!("delete {key:?}"),
    }
}

fn usize_of(limit: i64) -> usize {
    usize::try_from(limit).expect("a limit is not below zero")
}
