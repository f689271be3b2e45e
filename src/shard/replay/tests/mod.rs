//! Watchers on a shard, against a list of everything that ever changed.

mod model;
mod watchers;
mod world;

use super::Limits;
use crate::mvcc::KeyRange;
use crate::shard::Input;
use crate::shard::replay::tests::model::Act;
use crate::shard::replay::tests::model::Model;
use crate::shard::replay::tests::watchers::CORES;
use crate::shard::replay::tests::watchers::State;
use crate::shard::replay::tests::watchers::Watcher;
use crate::shard::replay::tests::watchers::Watchers;
use crate::shard::replay::tests::world::Dice;
use crate::shard::replay::tests::world::World;
use crate::shard::watch::Ask;
use crate::shard::watch::Asker;
use crate::shard::watch::Batch;
use crate::shard::watch::Event;
use crate::shard::watch::Past;
use crate::shard::watch::Prev;
use crate::shard::watch::Slice;
use crate::shard::watch::Told;
use crate::store;
use crate::types::Revision;
use std::collections::VecDeque;
use std::sync::Arc;

/// One way for what is told to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The first deletion of the compacted revision is left out.
    TombstoneAtFloor,
    /// A slice ends within a revision.
    CutRevision,
    /// A slice says that it goes further than it does.
    Further,
    /// A batch is told after what came after it.
    Overtaken,
    /// A batch is told to one core less.
    LostCore,
    /// A change is told twice.
    Twice,
    /// What was before is told of another change.
    OtherPrev,
    /// A slice that was to be forgotten keeps what it had pinned.
    Leaked,
}

/// A world, its model and its watchers.
struct Run {
    dice: Dice,
    world: World,
    model: Model,
    watchers: Watchers,
    fault: Option<Fault>,
    /// What is told later than it should be.
    late: Option<Told>,
    keys: usize,
    size: usize,
}

fn limits(dice: &mut Dice) -> Limits {
    if dice.chance(20) {
        return Limits::default();
    }
    Limits {
        open_max: dice.pick(&[1, 2, 4]),
        open_size_max: dice.pick(&[100, 1000, 1 << 20]),
        slice_size_max: dice.pick(&[50, 500, 1 << 20]),
        events_max: dice.pick(&[1, 5, 100]),
        near: dice.pick(&[0, 5, 50]),
        glance: dice.pick(&[1, 3, 20]),
        sample: dice.pick(&[1, 4, 30]),
        walk: dice.pick(&[1, 10, 1000]),
        scan: dice.pick(&[1, 10, 1000]),
        walk_events_max: dice.pick(&[1, 3, 20]),
        fetches_max: dice.pick(&[1, 2, 8]),
        ahead_blocks: dice.pick(&[0, 1, 4]),
        step: dice.pick(&[1, 3, 20]),
    }
}

fn store(dice: &mut Dice) -> store::Config {
    store::Config {
        block_size: dice.pick(&[64, 200, 1000]),
        seal_size: dice.pick(&[300, 2_000, 20_000]),
        segment_size: dice.pick(&[1_000, 5_000]),
        cache_size: dice.pick(&[0, 500, 5_000]),
        reads_max: dice.pick(&[1, 2, 16]),
        write_size: 4096,
        clean_rate: 1 << 20,
        clean_read_size: dice.pick(&[200, 4096]),
        ..store::Config::default()
    }
}

impl Run {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice(seed);
        let mut world = World::new(store(&mut dice));
        world.shard.replays.limits = limits(&mut dice);
        let (keys, size) = (dice.pick(&[2, 8, 40]), dice.pick(&[0, 10, 150]));
        let (model, watchers) = (Model::new(), Watchers::default());
        Self { dice, world, model, watchers, fault, late: None, keys, size }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k{:02}", self.dice.below(self.keys)).into_bytes()
    }

    fn put(&mut self) -> Act {
        let (len, byte) = (self.dice.below(self.size + 1), self.dice.pick(b"abc"));
        Act::Put(self.key(), vec![byte; len])
    }

    fn delete(&mut self) -> Act {
        let end = if self.dice.chance(50) { Vec::new() } else { self.key() };
        Act::Delete(self.key(), end)
    }

    fn act(&mut self) -> Act {
        match self.dice.below(10) {
            0..6 => self.put(),
            6 => Act::Keep(self.key()),
            7 => self.delete(),
            8 => {
                // Which of them a client may not ask for does not matter here.
                let key = self.key();
                let put = Act::Put(key.clone(), b"again".to_vec());
                Act::All(vec![Act::Delete(key, Vec::new()), put, self.delete()])
            }
            _ => {
                let mut acts: Vec<_> = (0..self.dice.below(6)).map(|_| self.put()).collect();
                // A key is put once in a transaction.
                acts.sort_by(|one, other| format!("{one:?}").cmp(&format!("{other:?}")));
                acts.dedup_by_key(|act| match act {
                    Act::Put(key, _) => key.clone(),
                    Act::Keep(_) | Act::Delete(..) | Act::All(_) | Act::Compact(_) => {
                        unreachable!("there are only puts")
                    }
                });
                Act::All(acts)
            }
        }
    }

    /// A past of random keys; from anywhere, before the floor and after the present too.
    fn past(&mut self) -> Past {
        let (first, last) = (self.model.floor.unwrap_or(1) - 2, self.model.revision + 2);
        let from = self.dice.revision(first.max(1), last);
        let end = match self.dice.below(4) {
            0 => Vec::new(),
            1 => b"\0".to_vec(),
            _ => self.key(),
        };
        let size_max = self.dice.pick(&[0, 20, 100, 1000, 1 << 20]);
        let mut past = Past::new(&self.key(), &end, Revision(from), size_max);
        past.prev_kv = self.dice.chance(40);
        (past.puts, past.deletes) = self.dice.pick(&[(true, true); 4]);
        if self.dice.chance(20) {
            (past.puts, past.deletes) = self.dice.pick(&[(true, false), (false, true)]);
        }
        past
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.below(100) {
            0..25 => {
                for _ in 0..self.dice.below(4) {
                    let act = self.act();
                    self.write(&act);
                }
            }
            25..28 => {
                let first = self.model.floor.unwrap_or(0) + 1;
                if first <= self.model.revision {
                    let revision = self.dice.revision(first, self.model.revision);
                    self.write(&Act::Compact(revision));
                }
            }
            28..50 => {
                self.world.complete(&mut self.dice);
            }
            50..65 => {
                self.world.shard.work();
            }
            65..70 => self.world.tick(10),
            70..80 => {
                if let Some(at) = self.watchers.any(&mut self.dice, |it| it == State::Behind) {
                    let ask = self.watchers.ask(at);
                    self.world.shard.handle(Input::Watch(ask));
                }
            }
            80..85 => {
                let asks = |state| matches!(state, State::Asks(_));
                if let Some(at) = self.watchers.any(&mut self.dice, asks)
                    && let Some(ask) = self.watchers.forget(at)
                {
                    self.world.shard.handle(Input::Watch(ask));
                    if self.fault == Some(Fault::Leaked) {
                        let revision = self.world.shard.keyspace.revision();
                        self.world.shard.keyspace.pin(revision);
                    }
                }
            }
            85..90 => {
                if let Some(at) = self.watchers.any(&mut self.dice, |it| it == State::Live) {
                    self.watchers.all[at].state = State::Behind;
                }
            }
            90..95 => self.change_watchers()?,
            _ => {
                let core = u32::try_from(self.dice.below(CORES)).expect("few");
                let is_subscribed = self.watchers.is_subscribed(core);
                let watchers = self.watchers.all.iter();
                let prev_kv = watchers.into_iter().any(|it| it.core == core && it.past.prev_kv);
                let ask = if is_subscribed && self.dice.chance(30) {
                    self.watchers.unsubscribe(core)
                } else {
                    self.watchers.subscribe(core, prev_kv)
                };
                self.world.shard.handle(Input::Watch(ask));
            }
        }
        self.settle()
    }

    fn write(&mut self, act: &Act) {
        self.model.act(act);
        self.world.write(act);
    }

    /// A new watcher, perhaps in the place of another.
    fn change_watchers(&mut self) -> Result<(), String> {
        let core = u32::try_from(self.dice.below(CORES)).expect("few");
        let past = self.past();
        if past.prev_kv && self.watchers.is_subscribed(core) {
            let ask = self.watchers.subscribe(core, true);
            self.world.shard.handle(Input::Watch(ask));
            self.settle()?;
        }
        let watcher = Watcher { core, past, state: State::Behind };
        if self.watchers.all.len() < 8 {
            self.watchers.all.push(watcher);
        } else {
            let at = self.dice.below(8);
            if let Some(ask) = self.watchers.forget(at) {
                self.world.shard.handle(Input::Watch(ask));
            }
            self.watchers.all[at] = watcher;
        }
        Ok(())
    }

    /// Takes in all that is told, or what a fault makes of it.
    fn settle(&mut self) -> Result<(), String> {
        let mut told = self.world.settle();
        if let Some(fault) = self.fault {
            self.plant(fault, &mut told);
        }
        self.world.shard.keyspace.check_all();
        told.iter().try_for_each(|told| self.watchers.take(told, &self.model))
    }

    fn plant(&mut self, fault: Fault, told: &mut VecDeque<Told>) {
        if fault == Fault::Overtaken && !told.is_empty() {
            told.extend(self.late.take());
            self.late = told.pop_back_if(|told| matches!(told, Told::Events { .. }));
        }
        for told in told {
            match told {
                Told::Events { cores, batch } => match fault {
                    Fault::LostCore if cores.len() > 1 => drop(cores.pop()),
                    Fault::Twice => {
                        let mut events = batch.events.clone();
                        events.push(events[0].clone());
                        *batch = Arc::new(Batch { events, ..**batch });
                    }
                    Fault::TombstoneAtFloor
                    | Fault::CutRevision
                    | Fault::Further
                    | Fault::Overtaken
                    | Fault::LostCore
                    | Fault::OtherPrev
                    | Fault::Leaked => {}
                },
                Told::Replayed { slice: Slice::Events { header, events, until }, .. } => {
                    self.plant_in_slice(fault, events, until);
                    *until = (*until).min(header.revision);
                }
                Told::Subscribed { .. } | Told::Moved { .. } | Told::Replayed { .. } => {}
            }
        }
    }

    fn plant_in_slice(&self, fault: Fault, events: &mut Vec<Event>, until: &mut Revision) {
        let main = |event: &Event| event.change.location.main;
        match fault {
            Fault::TombstoneAtFloor => {
                let floor = self.model.floor.unwrap_or(0);
                let is_it = |it: &Event| main(it).0 == floor && it.change.version == 0;
                events.iter().position(is_it).map(|at| events.remove(at));
            }
            Fault::CutRevision => {
                if let [.., one, other] = &events[..]
                    && main(one) == main(other)
                {
                    *until = main(other);
                    events.pop();
                }
            }
            Fault::Further => until.0 += 1,
            Fault::OtherPrev => {
                if let [.., one, other] = &mut events[..]
                    && one.prev != Prev::None
                {
                    other.prev = one.prev.clone();
                }
            }
            Fault::Overtaken | Fault::LostCore | Fault::Twice | Fault::Leaked => {}
        }
    }

    /// Lets everything come to the present, and then to an end.
    fn rest(&mut self) -> Result<(), String> {
        for core in 0..u32::try_from(CORES).expect("few") {
            let ask = self.watchers.subscribe(core, true);
            self.world.shard.handle(Input::Watch(ask));
        }
        for _ in 0..5_000 {
            self.settle()?;
            while let Some(at) = self.watchers.any(&mut self.dice, |it| it == State::Behind) {
                let ask = self.watchers.ask(at);
                self.world.shard.handle(Input::Watch(ask));
            }
            let is_more = self.world.complete(&mut self.dice) | self.world.shard.work();
            let is_live = self.watchers.all.iter().all(|it| it.state == State::Live);
            if is_live && !is_more && self.world.settle().is_empty() {
                return Ok(());
            }
        }
        Err("it does not come to rest".into())
    }

    /// Nothing is held that nobody waits for.
    fn check_pins(&mut self) -> Result<(), String> {
        let (replays, keyspace) = (&self.world.shard.replays, &self.world.shard.keyspace);
        let is_free = replays.open.is_empty()
            && replays.waiting.is_empty()
            && replays.names.is_empty()
            && (replays.open_size, replays.waiting_size) == (0, 0)
            && keyspace.oldest_pin().is_none()
            && !self.world.shard.store.is_pinned();
        if is_free { Ok(()) } else { Err(format!("{replays:?}")) }
    }

    /// Replays from every revision, of any keys.
    fn replay_all(&mut self) -> Result<(), String> {
        let (first, last) = (self.model.floor.unwrap_or(1), self.model.revision);
        for from in first..=last {
            let mut past = self.past();
            past.from = Revision(from);
            self.watchers.all = vec![Watcher { core: 0, past, state: State::Behind }];
            self.rest()?;
            let seen = self.watchers.all[0].past.from.0;
            if seen != last + 1 {
                return Err(format!("it has come to {seen} of {last}"));
            }
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..400 {
            self.step()?;
        }
        self.rest()?;
        self.check_pins()?;
        self.replay_all()?;
        self.check_pins()
    }
}

#[test]
fn every_watcher_sees_every_change_once_and_in_order() {
    let (mut slices, mut events, mut compacted, mut cleaned) = (0, 0, 0, 0);
    for seed in 0..150 {
        let mut run = Run::new(seed, None);
        run.live().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        slices += run.watchers.slices;
        events += run.watchers.events;
        compacted += run.watchers.compacted;
        cleaned += run.world.removed;
    }
    assert!(slices > 20_000 && events > 20_000, "{slices} slices, {events} events");
    assert!(compacted > 1000 && cleaned > 500, "{compacted} compacted, {cleaned} cleaned");
}

#[test]
fn planted_faults_are_found() {
    let faults = [
        Fault::TombstoneAtFloor,
        Fault::CutRevision,
        Fault::Further,
        Fault::Overtaken,
        Fault::LostCore,
        Fault::Twice,
        Fault::OtherPrev,
        Fault::Leaked,
    ];
    for fault in faults {
        let found = (0..60).find(|seed| Run::new(*seed, Some(fault)).live().is_err());
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

/// A world at rest, in which nothing is on disk unless it was sealed and fetched from there.
fn world() -> World {
    let store = store::Config { seal_size: 20_000, cache_size: 0, ..store::Config::default() };
    World::new(store)
}

fn put(world: &mut World, key: &str, value: &str) {
    world.write(&Act::Put(key.into(), value.into()));
}

fn replay(world: &mut World, token: u64, past: Past) -> VecDeque<Told> {
    let from = Asker { core: 0, token };
    world.shard.handle(Input::Watch(Ask::Replay { from, past }));
    world.settle()
}

/// The only thing told is this slice.
fn slice(mut told: VecDeque<Told>) -> (Vec<Event>, i64) {
    match (told.pop_front(), told.pop_front()) {
        (Some(Told::Replayed { slice: Slice::Events { events, until, .. }, .. }), None) => {
            (events, until.0)
        }
        other => panic!("{other:?}"),
    }
}

/// Lets everything that has begun come to its end; what is told meanwhile.
fn finish(world: &mut World) -> VecDeque<Told> {
    let mut told = VecDeque::new();
    let mut dice = Dice(1);
    for _ in 0..10_000 {
        world.tick(10);
        let is_more = world.complete(&mut dice) | world.shard.work();
        told.extend(world.settle());
        if !is_more && !world.is_busy() {
            return told;
        }
    }
    panic!("it comes to no end");
}

fn all(from: i64) -> Past {
    Past::new(b"\0", b"\0", Revision(from), 1 << 20)
}

#[test]
fn a_key_that_rarely_changes_is_found_without_passing_over_what_did() {
    let mut world = World::new(store::Config::default());
    for number in 0..20_000 {
        put(&mut world, &format!("often/{number:05}"), "1");
        if number % 4_000 == 0 {
            put(&mut world, "rarely/one", "2");
            put(&mut world, &format!("rarely/{number}"), "3");
        }
    }
    world.settle();
    assert!(!world.shard.work(), "nothing is left to do");
    for past in [
        Past::new(b"rarely/", b"rarely0", Revision(2), 1 << 20),
        Past::new(b"rarely/one", b"", Revision(2), 1 << 20),
    ] {
        let due = if matches!(past.range(), KeyRange::One(_)) { 5 } else { 10 };
        world.shard.work();
        // At once, without a second step.
        let (events, until) = slice(replay(&mut world, 1, past));
        assert_eq!((events.len(), until), (due, world.shard.keyspace.revision().0));
        assert!(world.shard.replays.looked < 100, "{:?}", world.shard.replays.looked);
    }
}

#[test]
fn a_slice_of_everything_takes_short_steps_and_ends_within_its_bounds() {
    let mut world = World::new(store::Config::default());
    for number in 0..10_000 {
        put(&mut world, &format!("{number:05}"), "value");
    }
    world.settle();
    let limits = world.shard.replays.limits;
    let (mut from, mut seen) = (2, 0);
    while from <= 10_001 {
        let mut told = replay(&mut world, 1, all(from));
        for _ in 0..100 {
            if !told.is_empty() {
                break;
            }
            world.shard.work();
            assert!(world.shard.replays.looked < 2 * limits.step);
            told = world.settle();
        }
        let (events, until) = slice(told);
        assert!(events.len() <= limits.events_max && until >= from);
        seen += events.len();
        from = until + 1;
    }
    assert_eq!(seen, 10_000);
}

#[test]
fn a_past_of_nothing_comes_to_the_present_in_bounded_slices() {
    for (keys, end) in [(5000, &b"\0"[..]), (1, b"")] {
        let mut world = World::new(store::Config::default());
        world.shard.replays.limits = Limits { walk: 100, scan: 1000, ..Limits::default() };
        for number in 0..10_000 {
            put(&mut world, &format!("{:05}", number % keys), "value");
        }
        world.settle();
        // Only deletions matter, and there are none: neither way is short.
        let (mut from, mut slices) = (2, 0);
        while from <= 10_001 {
            let mut past = Past::new(b"00000", end, Revision(from), 1 << 20);
            past.puts = false;
            let told = replay(&mut world, 1, past);
            let told = if told.is_empty() { finish(&mut world) } else { told };
            let (events, until) = slice(told);
            assert!(events.is_empty() && until >= from);
            from = until + 1;
            slices += 1;
        }
        assert!((2..12).contains(&slices), "{slices} slices");
    }
}

#[test]
fn slices_take_turns_and_wait_in_order_for_room() {
    let mut world = World::new(store::Config::default());
    for number in 0..10_000 {
        put(&mut world, &format!("{number:05}"), "value");
    }
    world.settle();
    (world.shard.replays.limits.open_max, world.shard.replays.limits.step) = (2, 512);
    world.shard.config.waiting_max = 3;
    assert!(replay(&mut world, 1, all(2)).is_empty(), "it takes more than a step");
    assert!(replay(&mut world, 2, all(9_000)).is_empty(), "it has another's turn to wait for");
    assert_eq!(world.shard.replays.open.len(), 2);
    for token in 3..6 {
        assert!(replay(&mut world, token, all(9_900)).is_empty(), "there is no room");
    }
    let told = replay(&mut world, 6, all(9_990));
    assert!(matches!(told[0], Told::Replayed { slice: Slice::Busy, .. }), "{told:?}");
    let (_, until) = slice(replay(&mut world, 7, all(10_002)));
    assert_eq!(until, 10_001, "what takes no time waits for nobody");
    let to = Asker { core: 0, token: 4 };
    world.shard.handle(Input::Watch(Ask::Forget { from: to }));
    assert!(world.shard.is_idle(), "nobody waits for an answer");
    let mut done = Vec::new();
    for told in finish(&mut world) {
        let Told::Replayed { to, slice: Slice::Events { .. } } = told else { panic!("{told:?}") };
        done.push(to.token);
    }
    assert_eq!(done, [2, 3, 5, 1], "the long one is last, and holds up nobody");
    assert_eq!(world.shard.replays.open_size, 0);
}

#[test]
fn what_happened_at_the_floor_itself_is_told() {
    let mut world = world();
    put(&mut world, "a", "1");
    put(&mut world, "b", "1");
    let delete = |key: &str| Act::Delete(key.into(), Vec::new());
    let again = Act::Put("b".into(), "2".into());
    world.write(&Act::All(vec![delete("a"), delete("b"), again]));
    put(&mut world, "c", "1");
    world.write(&Act::Compact(4));
    finish(&mut world);
    assert!(world.segments() > 0, "it is sealed");
    for prev_kv in [false, true] {
        let mut past = all(4);
        past.prev_kv = prev_kv;
        let told = replay(&mut world, 1, past);
        let told = if told.is_empty() { finish(&mut world) } else { told };
        let (events, until) = slice(told);
        let seen: Vec<_> =
            events.iter().map(|it| (&it.change.key[..], it.change.version)).collect();
        assert_eq!(seen, [(&b"a"[..], 0), (b"b", 0), (b"b", 1), (b"c", 1)]);
        assert_eq!(until, 5);
        assert!(events.iter().all(|event| event.prev == Prev::None), "before it is compacted");
    }
    let told = replay(&mut world, 1, all(3));
    let [Told::Replayed { slice: Slice::Compacted { header, floor }, .. }] = told.as_slices().0
    else {
        panic!("{told:?}")
    };
    assert_eq!((*floor, header.revision), (Revision(4), Revision(5)));
}

#[test]
fn nothing_is_fetched_for_who_watches_the_present() {
    let mut world = world();
    let from = Asker { core: 2, token: 9 };
    put(&mut world, "old", "1");
    put(&mut world, "large", &"x".repeat(20_000));
    world.settle();
    finish(&mut world);
    world.shard.handle(Input::Watch(Ask::Subscribe { from, prev_kv: true }));
    let told = world.settle();
    let [Told::Subscribed { to, header }] = told.as_slices().0 else { panic!("{told:?}") };
    assert_eq!((*to, header.revision), (from, Revision(3)));
    for key in ["old", "new", "new"] {
        put(&mut world, key, "2");
    }
    let told = world.settle();
    let [Told::Events { cores, batch }] = told.as_slices().0 else { panic!("{told:?}") };
    assert_eq!((&cores[..], batch.header.revision), (&[2][..], Revision(6)));
    let prevs: Vec<_> = batch.events.iter().map(|event| &event.prev).collect();
    assert!(
        matches!(prevs[..], [Prev::Away, Prev::None, Prev::Pair { version: 1, .. }]),
        "{prevs:?}"
    );
    assert!(!world.complete(&mut Dice(1)), "the disk was asked for nothing");
    // One of the past fetches it.
    let mut past = Past::new(b"old", b"", Revision(4), 100);
    past.prev_kv = true;
    assert!(replay(&mut world, 1, past).is_empty());
    let (events, _) = slice(finish(&mut world));
    assert!(matches!(&events[0].prev, Prev::Pair { value, .. } if value[..] == b"1"[..]));
}

#[test]
fn a_watch_is_answered_while_the_node_stops_and_holds_nothing_up() {
    let mut world = world();
    put(&mut world, "a", "1");
    world.settle();
    world.shard.handle(Input::Stop);
    let from = Asker { core: 0, token: 1 };
    world.shard.handle(Input::Watch(Ask::Subscribe { from, prev_kv: false }));
    assert_eq!(world.settle().len(), 1);
    assert_eq!(slice(replay(&mut world, 2, all(2))).0.len(), 1);
    assert!(world.shard.is_idle());
}
