//! Watchers that know what they must see.
//!
//! They do what a core does: each is behind at first and asks for slices of the past; once a slice
//! has come to the present it takes its changes from the batches. Each change must come once, and
//! be as it was.

use crate::shard::replay::tests::model::Model;
use crate::shard::replay::tests::world::Dice;
use crate::shard::watch::Ask;
use crate::shard::watch::Asker;
use crate::shard::watch::Event;
use crate::shard::watch::Past;
use crate::shard::watch::Prev;
use crate::shard::watch::Slice;
use crate::shard::watch::Told;
use crate::types::Revision;

/// How many cores have watchers.
pub(super) const CORES: usize = 3;

/// One watcher: what it wants to see, from the revision on that it has not seen.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) core: u32,
    pub(super) past: Past,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Behind,
    /// For a slice, under this name.
    Asks(u64),
    /// Takes what it sees from the batches.
    Live,
}

/// What a core knows of its subscription.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    /// Whether some watcher wants the pair before.
    prev_kv: bool,
    /// The last revision that it was told of, once it was told of any.
    told: Option<i64>,
}

/// All watchers, by their cores.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    pub(super) all: Vec<Watcher>,
    cores: [Option<Subscription>; CORES],
    /// The last revision that anything told.
    told: i64,
    token: u64,
    pub(super) slices: usize,
    pub(super) events: usize,
    pub(super) compacted: usize,
}

/// Complains unless it holds.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn place(core: u32) -> usize {
    usize::try_from(core).expect("64 bits")
}

impl Watchers {
    pub(super) fn subscribe(&mut self, core: u32, prev_kv: bool) -> Ask {
        let subscription =
            self.cores[place(core)].get_or_insert(Subscription { prev_kv, told: None });
        subscription.prev_kv |= prev_kv;
        self.token += 1;
        Ask::Subscribe { from: Asker { core, token: self.token }, prev_kv }
    }

    /// Its watchers are behind from now on.
    pub(super) fn unsubscribe(&mut self, core: u32) -> Ask {
        self.cores[place(core)] = None;
        for watcher in self.all.iter_mut().filter(|watcher| watcher.core == core) {
            if watcher.state == State::Live {
                watcher.state = State::Behind;
            }
        }
        Ask::Unsubscribe { core }
    }

    pub(super) fn is_subscribed(&self, core: u32) -> bool {
        self.cores[place(core)].is_some()
    }

    /// A watcher that is behind asks for what it has not seen.
    pub(super) fn ask(&mut self, at: usize) -> Ask {
        self.token += 1;
        let watcher = &mut self.all[at];
        watcher.state = State::Asks(self.token);
        let from = Asker { core: watcher.core, token: self.token };
        Ask::Replay { from, past: watcher.past.clone() }
    }

    /// A watcher waits no longer.
    pub(super) fn forget(&mut self, at: usize) -> Option<Ask> {
        let watcher = &mut self.all[at];
        let State::Asks(token) = std::mem::replace(&mut watcher.state, State::Behind) else {
            return None;
        };
        Some(Ask::Forget { from: Asker { core: watcher.core, token } })
    }

    /// One of those in this state.
    pub(super) fn any(&self, dice: &mut Dice, is: impl Fn(State) -> bool) -> Option<usize> {
        let found: Vec<_> = (0..self.all.len()).filter(|at| is(self.all[*at].state)).collect();
        (!found.is_empty()).then(|| dice.pick(&found))
    }

    /// Takes in what a core is told.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, told: &Told, model: &Model) -> Result<(), String> {
        match told {
            Told::Subscribed { to, header } => {
                let revision = header.revision.0;
                self.tells(to.core, revision)?;
                let subscription = &mut self.cores[place(to.core)];
                let subscription = subscription.as_mut().ok_or("nobody subscribed")?;
                subscription.told = Some(revision);
                self.told = revision;
                Ok(())
            }
            Told::Events { cores, batch } => {
                self.take_batch(cores, batch.header.revision.0, &batch.events, model)
            }
            Told::Replayed { to, slice } => self.take_slice(*to, slice, model),
            Told::Moved { .. } => panic!("{told:?}, and it is alone"),
        }
    }

    /// A core is told of this as the present revision: it must have been told of all before.
    fn tells(&self, core: u32, revision: i64) -> Result<(), String> {
        let told = self.cores[place(core)].and_then(|it| it.told);
        ensure(told.is_none_or(|told| told == revision), || {
            format!("revision {revision}, and core {core} knows of {told:?}")
        })?;
        ensure(self.told <= revision, || format!("{revision} after {}", self.told))
    }

    fn take_batch(
        &mut self,
        cores: &[u32],
        revision: i64,
        events: &[Event],
        model: &Model,
    ) -> Result<(), String> {
        let subscribed = (0..).zip(&self.cores).filter_map(|(core, it)| it.map(|_| core));
        ensure(subscribed.eq(cores.iter().copied()), || format!("{cores:?} are told"))?;
        let prev_kv = self.cores.iter().flatten().any(|it| it.prev_kv);
        for core in cores {
            let subscription = self.cores[place(*core)].as_mut().ok_or("it left")?;
            let told = subscription.told.ok_or("events before it is subscribed")?;
            subscription.told = Some(revision);
            ensure(told < revision, || format!("{told} to {revision}"))?;
            model.check(
                &Past::new(b"\0", b"\0", Revision(told + 1), 0),
                revision,
                &bare(events),
            )?;
        }
        for event in events {
            model.check_prev(event, prev_kv, true)?;
        }
        self.told = revision;
        let live =
            |watcher: &&mut Watcher| watcher.state == State::Live && cores.contains(&watcher.core);
        for watcher in self.all.iter_mut().filter(live) {
            self.events += watcher.see_batch(revision, events, model)?;
        }
        Ok(())
    }

    fn take_slice(&mut self, to: Asker, slice: &Slice, model: &Model) -> Result<(), String> {
        let (header, until) = match slice {
            Slice::Events { header, until, .. } => (header, until.0),
            Slice::Compacted { header, floor } => (header, floor.0),
            Slice::Busy => return Err("so many do not ask".into()),
        };
        self.tells(to.core, header.revision.0)?;
        self.told = header.revision.0;
        self.slices += 1;
        let asks = State::Asks(to.token);
        let Some(watcher) = self.all.iter_mut().find(|watcher| watcher.state == asks) else {
            return Ok(());
        };
        ensure(watcher.core == to.core, || format!("{watcher:?} is on another core"))?;
        watcher.state = State::Behind;
        let Slice::Events { events, .. } = slice else {
            let is_below = watcher.past.from.0 < until;
            self.compacted += 1;
            ensure(is_below && Some(until) <= model.floor, || {
                format!("{watcher:?} is not below a floor of {until}")
            })?;
            watcher.past.from = Revision(until);
            return Ok(());
        };
        ensure(until >= watcher.past.from.0.min(header.revision.0), || {
            format!("{watcher:?} comes no further than {until}")
        })?;
        ensure(until <= header.revision.0, || format!("{until} is in the future"))?;
        model.check(&watcher.past, until, events)?;
        let last = events.last().map(|event| event.change.location.main);
        let before = events.iter().take_while(|event| Some(event.change.location.main) != last);
        let size: usize = before.map(Event::size).sum();
        ensure(size <= watcher.past.size_max, || format!("{size} bytes and then some"))?;
        self.events += events.len();
        let is_over = until == header.revision.0;
        watcher.past.from = Revision(until + 1).max(watcher.past.from);
        if is_over && self.cores[place(to.core)].is_some_and(|it| it.told.is_some()) {
            watcher.state = State::Live;
        }
        Ok(())
    }
}

impl Watcher {
    /// Takes of a batch what it wants to see; how much that is.
    fn see_batch(
        &mut self,
        revision: i64,
        events: &[Event],
        model: &Model,
    ) -> Result<usize, String> {
        let wants = |event: &&Event| {
            let change = &event.change;
            change.location.main >= self.past.from
                && self.past.range().contains(&change.key)
                && self.past.takes(change.version == 0)
        };
        let mut seen: Vec<_> = events.iter().filter(wants).cloned().collect();
        let mut until = revision;
        if self.past.prev_kv {
            if let Some(away) = seen.iter().find(|event| event.prev == Prev::Away) {
                // From there on it is behind.
                let main = away.change.location.main;
                (self.state, until) = (State::Behind, main.0 - 1);
                seen.retain(|event| event.change.location.main < main);
            }
        } else {
            seen = bare(&seen);
        }
        model.check(&self.past, until, &seen)?;
        self.past.from = Revision(until + 1).max(self.past.from);
        Ok(seen.len())
    }
}

/// Events without what was before.
fn bare(events: &[Event]) -> Vec<Event> {
    events.iter().map(|event| Event { prev: Prev::None, ..event.clone() }).collect()
}
