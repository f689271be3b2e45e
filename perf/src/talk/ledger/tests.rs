use super::*;
use crate::workload::{Random, write_key};

/// A server that puts and tells, and breaks whatever a test wants broken.
struct Served {
    ledger: Ledger,
    revision: u64,
    versions: Vec<u64>,
    told: Vec<Told>,
}

/// An event as it goes over the wire.
#[derive(Clone, Debug)]
struct Told {
    key: Vec<u8>,
    value: Vec<u8>,
    revision: u64,
    version: u64,
}

impl Told {
    fn event(&self) -> Event<'_> {
        let Self { ref key, ref value, revision, version } = *self;
        Event { put: true, key, value, revision, version }
    }
}

impl Served {
    fn new(keys: u64) -> Self {
        let versions = vec![0; index(keys)];
        Self { ledger: Ledger::new(keys), revision: 41, versions, told: Vec::new() }
    }

    fn watch(&mut self, scope: Scope) -> usize {
        self.ledger.watch(scope, self.revision)
    }

    fn put(&mut self, key: u64) {
        self.revision += 1;
        self.versions[index(key)] += 1;
        let (mut name, mut value) = (Vec::new(), Vec::new());
        write_key(key, 32, &mut name);
        write_value(Nanos(self.revision * 10), self.ledger.next(), key, &mut value);
        self.ledger.on_sent(key);
        let (revision, version) = (self.revision, self.versions[index(key)]);
        self.told.push(Told { key: name, value, revision, version });
    }

    fn tell(&mut self, watcher: usize, number: usize) -> Option<Nanos> {
        let told = self.told[number].clone();
        self.ledger.on_event(watcher, &told.event())
    }

    fn complaints(&mut self) -> String {
        self.ledger.complaints().join("; ")
    }
}

/// A server with five puts to one key, and a watcher of that key and one of all.
fn five() -> (Served, [usize; 2]) {
    let mut served = Served::new(3);
    let watchers = [served.watch(Scope::Key(2)), served.watch(Scope::All)];
    for _ in 0..5 {
        served.put(2);
    }
    (served, watchers)
}

#[test]
fn everything_once_and_in_order_is_well() {
    let (mut served, watchers) = five();
    assert_eq!(served.ledger.owed(), 10);
    for watcher in watchers {
        for number in 0..5 {
            let sent = served.tell(watcher, number);
            assert_eq!(sent, Some(Nanos((42 + number as u64) * 10)));
        }
        assert_eq!(served.ledger.missing(watcher), 0);
    }
    assert_eq!((served.ledger.owed(), served.ledger.settled()), (0, 10));
    assert_eq!(served.complaints(), "");
}

#[test]
fn a_gap_is_found() {
    for which in 0..2 {
        let (mut served, watchers) = five();
        for number in [0, 1, 3, 4] {
            served.tell(watchers[which], number);
        }
        assert_eq!(served.ledger.owed(), 5, "what is lost is not waited for");
        let told = served.complaints();
        assert!(told.contains("1 watchers lack 5 events at the end"), "{told}");
        assert!(told.contains("1 events were left out"), "{told}");
        assert!(told.contains("got event 4 after event 2"), "{told}");
    }
}

#[test]
fn a_gap_at_the_end_is_found() {
    let (mut served, [one, all]) = five();
    for number in 0..5 {
        served.tell(all, number);
    }
    served.tell(one, 0);
    assert_eq!(served.ledger.owed(), 4);
    assert_eq!(served.complaints(), "1 watchers lack 4 events at the end");
}

#[test]
fn a_repeat_is_found() {
    for which in 0..2 {
        let (mut served, watchers) = five();
        for watcher in watchers {
            for number in 0..5 {
                served.tell(watcher, number);
            }
        }
        assert_eq!(served.tell(watchers[which], 4), None);
        assert_eq!(served.ledger.settled(), 10, "it counts once");
        let told = served.complaints();
        assert!(told.contains("1 events came twice or too late"), "{told}");
        assert!(told.contains("got event 5 once more"), "{told}");
    }
}

#[test]
fn a_changed_order_is_found() {
    let (mut served, [one, all]) = five();
    for number in 0..5 {
        served.tell(all, number);
    }
    for number in [0, 2, 1, 3, 4] {
        served.tell(one, number);
    }
    let told = served.complaints();
    assert!(told.contains("1 events were left out"), "{told}");
    assert!(told.contains("1 events came twice or too late"), "{told}");
}

/// Whether what `change` makes of the second of five events is found to be impossible.
fn is_foreign(which: usize, change: impl Fn(&mut Told, &[Told])) -> bool {
    let (mut served, watchers) = five();
    served.tell(watchers[which], 0);
    let mut told = served.told[1].clone();
    change(&mut told, &served.told);
    assert_eq!(served.ledger.on_event(watchers[which], &told.event()), None);
    served.complaints().contains("1 events cannot be")
}

#[test]
fn what_was_never_put_is_found() {
    for which in 0..2 {
        assert!(is_foreign(which, |told, _| told.value.truncate(23)));
        assert!(is_foreign(which, |told, _| told.value[8] = 99), "no such number");
        assert!(is_foreign(which, |told, _| told.value[16] = 1), "another key's value");
        assert!(is_foreign(which, |told, _| told.key = b"00x".to_vec()));
        assert!(is_foreign(which, |told, _| {
            (told.revision, told.version) = (90, 90);
        }));
    }
    assert!(is_foreign(0, |told, all| told.revision = all[0].revision), "a revision twice");
    let (mut served, [one, _]) = five();
    served.put(1);
    let other = served.told[5].clone();
    assert_eq!(served.ledger.on_event(one, &other.event()), None);
    let told = served.complaints();
    assert!(told.contains("came twice or too late") || told.contains("cannot be"), "{told}");
    let (mut served, [_, all]) = five();
    let deleted = served.told[0].clone();
    let deleted = Event { put: false, value: b"", version: 0, ..deleted.event() };
    served.ledger.on_event(all, &deleted);
    assert!(served.complaints().contains("put false"));
}

#[test]
fn one_value_in_the_place_of_another_is_found() {
    let (mut served, [one, all]) = five();
    for number in 0..5 {
        served.tell(all, number);
        let value = served.told[if number == 3 { 2 } else { number }].value.clone();
        let told = Told { value, ..served.told[number].clone() };
        served.ledger.on_event(one, &told.event());
    }
    assert_eq!(served.complaints(), "1 watchers got other values than put");
}

#[test]
fn a_stalled_watcher_is_waited_for_when_it_reads_again() {
    let (mut served, [one, all]) = five();
    served.tell(one, 0);
    served.tell(all, 0);
    served.ledger.stall(one);
    assert_eq!(served.ledger.owed(), 4, "those of the other");
    served.tell(one, 1);
    for number in 1..5 {
        served.tell(all, number);
    }
    served.put(2);
    served.tell(all, 5);
    assert_eq!(served.complaints(), "");
    served.ledger.resume(one);
    assert_eq!((served.ledger.owed(), served.ledger.missing(one)), (4, 4));
    for number in 2..6 {
        served.tell(one, number);
    }
    assert_eq!((served.complaints().as_str(), served.ledger.owed()), ("", 0));
    served.ledger.forget(one);
    served.put(2);
    assert_eq!(served.ledger.owed(), 1);
}

#[test]
fn a_later_watcher_is_told_of_later_puts_only() {
    let (mut served, watchers) = five();
    for watcher in watchers {
        for number in 0..5 {
            served.tell(watcher, number);
        }
    }
    let late = [served.watch(Scope::Key(2)), served.watch(Scope::All)];
    served.put(2);
    for watcher in watchers.into_iter().chain(late) {
        assert!(served.tell(watcher, 5).is_some());
    }
    assert_eq!(served.complaints(), "");
    assert_eq!(served.tell(late[0], 4), None);
    assert_ne!(served.complaints(), "");
}

#[test]
fn whatever_comes_the_account_is_kept() {
    let mut random = Random::new(9);
    for _ in 0..200 {
        let mut served = Served::new(4);
        let watchers = [served.watch(Scope::Key(1)), served.watch(Scope::All)];
        for _ in 0..100 {
            served.put(random.below(4));
            let watcher = watchers[index(random.below(2))];
            let mut told = served.told[index(random.below(served.told.len() as u64))].clone();
            match random.below(4) {
                0 => told.revision = random.next(),
                1 => told.version = random.next(),
                _ => {}
            }
            served.ledger.on_event(watcher, &told.event());
            assert!(served.ledger.settled() <= 200);
        }
        let _ = served.complaints();
    }
}

#[test]
fn keys_are_read_as_they_are_written() {
    for key in [0, 7, 10, 9_999, 1_000_000] {
        let mut name = Vec::new();
        write_key(key, 32, &mut name);
        assert_eq!(read_key(&name), Some(key));
    }
    assert_eq!((read_key(b"00a"), read_key(&[b'9'; 40])), (None, None));
}
