//! Questions about leases that only a leader may answer: renewals, and what is left of one.
//!
//! They come by streams, each of which gets its answers in the order of its questions; a call that
//! asks once is a stream of one. A question waits until it is confirmed, by a read point asked for
//! after it came, that this replica leads and has applied all that was committed before. One read
//! point confirms all that came before it was asked for.
//!
//! A replica that does not lead *sends* each question to the leader, and keeps what the leader says
//! until it is that question's turn. What is not answered is sent again, as nothing comes of asking
//! twice; and so is what was answered too long before its turn, as a lease's time runs meanwhile.
//!
//! A question at the head of its stream may then be *held* by a lease: one that has ended is
//! answered once it is gone. Those behind it in the stream wait with it, other streams do not.

use crate::shard::peer::LeaseTold;
use crate::shard::request::Header;
use crate::shard::request::RequestId;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::Tick;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

/// Read points of questions are told apart from those of reads by this bit.
const CONTEXT: u64 = 1 << 63;

/// Questions that are gone and still to be sent, beyond which they are sorted out.
const UNSENT_SLACK: usize = 64;

/// Before every stream.
pub(super) const FIRST: RequestId = RequestId { core: 0, connection: 0, generation: 0, stream: 0 };

/// What is asked about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// That it may live on. The answer's header is of the time of asking.
    KeepAlive(LeaseId, Header),
    /// How long it lives, and which its keys are if they are wanted.
    TimeToLive(LeaseId, bool),
}

/// A question, by its number.
#[derive(Debug)]
struct Ask {
    number: u64,
    what: What,
    deadline: Tick,
    /// What the leader says, before it is this question's turn, and when it was heard.
    told: Option<(LeaseTold, Tick)>,
}

/// The questions of one stream; never empty.
#[derive(Debug, Default)]
struct Stream {
    asks: VecDeque<Ask>,
    /// The lease that holds the first.
    held: Option<LeaseId>,
}

impl Stream {
    /// The place of a question, if it waits here: numbers ascend.
    fn find(&self, number: u64) -> Option<usize> {
        let number_of = |ask: &Ask| {
            #[cfg(test)]
            tests::LOOKS.set(tests::LOOKS.get() + 1);
            ask.number
        };
        self.asks.binary_search_by_key(&number, number_of).ok()
    }
}

/// A read point that was asked for.
#[derive(Debug)]
struct Point {
    context: u64,
    /// The last question that it confirms.
    until: u64,
    /// Once known.
    index: Option<LogIndex>,
}

/// All questions.
///
/// # Shape
/// Each stream is in `free` or in `held`, by the number of its first question, and with that in
/// `by_lease` if it is held. `confirmed <= asked <= last`. Deadlines ascend with numbers.
#[derive(Debug, Default)]
pub(super) struct Asks {
    streams: BTreeMap<RequestId, Stream>,
    free: BTreeMap<u64, RequestId>,
    held: BTreeMap<u64, RequestId>,
    by_lease: BTreeSet<(LeaseId, RequestId)>,
    count: usize,
    /// The last question.
    last: u64,
    /// The last question that a read point was asked for.
    asked: u64,
    /// The last question that is confirmed.
    confirmed: u64,
    points: VecDeque<Point>,
    context_last: u64,
    /// A read point was lost: ask again later, not in the same turn.
    paused: bool,
    /// Whether another replica answers.
    is_remote: bool,
    /// Questions to be sent there, some of which may be gone; and those that were.
    unsent: VecDeque<(u64, RequestId)>,
    sent: BTreeMap<u64, RequestId>,
}

impl Asks {
    /// None yet, and another replica is to answer them.
    pub(super) fn remote() -> Self {
        Self { is_remote: true, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a read point of this context was asked for here.
    pub(super) fn owns(context: u64) -> bool {
        context & CONTEXT != 0
    }

    pub(super) fn push(&mut self, to: RequestId, what: What, deadline: Tick) {
        self.last += 1;
        self.count += 1;
        let number = self.last;
        let stream = self.streams.entry(to).or_default();
        if stream.asks.is_empty() {
            self.free.insert(number, to);
        }
        stream.asks.push_back(Ask { number, what, deadline, told: None });
        if self.is_remote {
            self.unsent.push_back((number, to));
            if self.unsent.len() > 2 * self.count + UNSENT_SLACK {
                self.send_again();
            }
        }
    }

    /// All that is not answered is to be sent, again or for the first time.
    pub(super) fn send_again(&mut self) {
        self.sent.clear();
        let streams = self.streams.iter();
        let asks = streams.flat_map(|(to, stream)| stream.asks.iter().map(|ask| (*to, ask)));
        let open = asks.filter(|(_, ask)| ask.told.is_none()).map(|(to, ask)| (ask.number, to));
        let mut open: Vec<(u64, RequestId)> = open.collect();
        open.sort_unstable();
        self.unsent = open.into();
    }

    /// The next question to be sent.
    pub(super) fn next_unsent(&mut self) -> Option<(u64, What)> {
        loop {
            let (number, to) = self.unsent.pop_front()?;
            let Some(stream) = self.streams.get(&to) else { continue };
            if let Some(at) = stream.find(number) {
                self.sent.insert(number, to);
                return Some((number, stream.asks[at].what));
            }
        }
    }

    /// Whether any was sent and is not answered.
    pub(super) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The leader answers question `number`: the stream whose first question that may be.
    pub(super) fn tell(&mut self, number: u64, told: LeaseTold, now: Tick) -> Option<RequestId> {
        let to = self.sent.remove(&number)?;
        let stream = self.streams.get_mut(&to)?;
        let at = stream.find(number)?;
        let ask = &mut stream.asks[at];
        let (What::KeepAlive(lease, _) | What::TimeToLive(lease, _)) = ask.what;
        if lease == told.id {
            ask.told = Some((told, now));
        }
        Some(to)
    }

    /// The first question of this stream, and what the leader says of it, if it does.
    ///
    /// If it was heard before `since`, it is asked again, and so are those behind it.
    pub(super) fn told(&mut self, to: RequestId, since: Tick) -> Option<(What, LeaseTold)> {
        let stream = self.streams.get_mut(&to)?;
        let first = stream.asks.front_mut()?;
        if first.told.as_ref()?.1 >= since {
            return first.told.take().map(|(told, _)| (first.what, told));
        }
        for ask in &mut stream.asks {
            if ask.told.take_if(|(_, at)| *at < since).is_some() {
                self.unsent.push_back((ask.number, to));
            }
        }
        None
    }

    /// The context to ask for a read point with, if there are questions that none was asked for.
    pub(super) fn next_context(&mut self) -> Option<u64> {
        if self.asked == self.last || self.is_empty() || self.paused {
            return None;
        }
        self.context_last += 1;
        let context = self.context_last | CONTEXT;
        self.asked = self.last;
        self.points.push_back(Point { context, until: self.last, index: None });
        Some(context)
    }

    /// A read point is known.
    pub(super) fn point(&mut self, context: u64, index: LogIndex) {
        if let Some(point) = self.points.iter_mut().find(|point| point.context == context) {
            point.index = Some(index);
        }
    }

    /// A read point will not come.
    pub(super) fn lost(&mut self, context: u64) {
        self.points.retain(|point| point.context != context);
        self.asked = self.points.back().map_or(self.confirmed, |point| point.until);
        self.paused = true;
    }

    /// Another replica is to answer, or this one, which leads anew: nothing is confirmed, and no
    /// lease holds anyone.
    pub(super) fn restart(&mut self, is_remote: bool) {
        self.is_remote = is_remote;
        (self.asked, self.confirmed, self.paused) = (0, 0, false);
        self.points.clear();
        self.by_lease.clear();
        self.free.append(&mut self.held);
        self.streams.values_mut().for_each(|stream| stream.held = None);
        self.send_again();
        if !is_remote {
            self.unsent.clear();
        }
    }

    /// The next stream whose first question is confirmed and not held, and that question.
    pub(super) fn ready(&mut self, applied: LogIndex) -> Option<(RequestId, What)> {
        let is_reached = |point: &Point| point.index.is_some_and(|index| index <= applied);
        while let Some(at) = self.points.iter().rposition(is_reached) {
            self.confirmed = self.confirmed.max(self.points[at].until);
            self.points.drain(..=at);
        }
        let (number, to) = self.free.first_key_value().map(|(number, to)| (*number, *to))?;
        (number <= self.confirmed).then(|| (to, self.streams[&to].asks[0].what))
    }

    /// The first question of this stream is answered.
    pub(super) fn answered(&mut self, to: RequestId) {
        let stream = self.streams.get_mut(&to).expect("a stream of questions");
        let ask = stream.asks.pop_front().expect("a stream is not empty");
        self.count -= 1;
        self.sent.remove(&ask.number);
        match stream.held.take() {
            None => self.free.remove(&ask.number),
            Some(lease) => {
                self.by_lease.remove(&(lease, to));
                self.held.remove(&ask.number)
            }
        };
        match stream.asks.front() {
            Some(next) => {
                self.free.insert(next.number, to);
            }
            None => {
                self.streams.remove(&to);
            }
        }
    }

    /// The first question of this stream waits for something to come of a lease.
    pub(super) fn hold(&mut self, to: RequestId, lease: LeaseId) {
        let stream = self.streams.get_mut(&to).expect("a stream of questions");
        let number = stream.asks[0].number;
        stream.held = Some(lease);
        self.free.remove(&number);
        self.held.insert(number, to);
        self.by_lease.insert((lease, to));
    }

    /// Something has come of a lease.
    pub(super) fn release(&mut self, lease: LeaseId) {
        while let Some(&(held, to)) = self.by_lease.range((lease, FIRST)..).next()
            && held == lease
        {
            self.by_lease.remove(&(lease, to));
            let stream = self.streams.get_mut(&to).expect("a stream of questions");
            stream.held = None;
            self.held.remove(&stream.asks[0].number);
            self.free.insert(stream.asks[0].number, to);
        }
    }

    /// Nobody waits for the answers of this stream any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        while self.streams.contains_key(&to) {
            self.answered(to);
        }
    }

    /// All who wait, once for each question; nobody does any more.
    pub(super) fn drain(&mut self) -> Vec<RequestId> {
        let streams = std::mem::take(self).streams.into_iter();
        streams.flat_map(|(to, stream)| std::iter::repeat_n(to, stream.asks.len())).collect()
    }

    /// Takes out the questions whose time is over; one more is worth asking for a read point then.
    pub(super) fn expired(&mut self, now: Tick) -> Vec<RequestId> {
        self.paused = false;
        let mut out = Vec::new();
        loop {
            let heads = [self.free.first_key_value(), self.held.first_key_value()];
            let late = |to: &RequestId| self.streams[to].asks[0].deadline <= now;
            let first = heads.into_iter().flatten().map(|(_, to)| *to).find(late);
            let Some(to) = first else { return out };
            self.answered(to);
            out.push(to);
        }
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    #[cfg(test)]
    fn check(&self) {
        assert!(self.confirmed <= self.asked && self.asked <= self.last);
        let asks = self.streams.values().map(|stream| stream.asks.len());
        assert!(asks.sum::<usize>() == self.count, "questions are counted");
        assert!(self.streams.len() == self.free.len() + self.held.len());
        assert!(self.held.len() == self.by_lease.len());
        for (to, stream) in &self.streams {
            let number = stream.asks[0].number;
            let (heads, is_held) = match stream.held {
                None => (&self.free, true),
                Some(lease) => (&self.held, self.by_lease.contains(&(lease, *to))),
            };
            assert!(is_held && heads.get(&number) == Some(to), "a stream is known by its first");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn id(stream: u32) -> RequestId {
        RequestId { core: 0, connection: 0, generation: 0, stream }
    }

    fn ask(asks: &mut Asks, stream: u32, lease: i64, deadline: u64) {
        asks.push(id(stream), What::TimeToLive(LeaseId(lease), false), Tick(deadline));
    }

    fn lease(what: What) -> i64 {
        match what {
            What::KeepAlive(lease, _) | What::TimeToLive(lease, _) => lease.0,
        }
    }

    #[test]
    fn a_read_point_confirms_all_that_came_before_it_was_asked_for() {
        let mut asks = Asks::default();
        ask(&mut asks, 1, 10, 9);
        ask(&mut asks, 3, 30, 9);
        let first = asks.next_context().expect("two are new");
        assert_eq!(asks.next_context(), None);
        ask(&mut asks, 5, 50, 9);
        let second = asks.next_context().expect("one is new");
        asks.point(first, LogIndex(4));
        assert_eq!(asks.ready(LogIndex(3)), None);
        let mut found = Vec::new();
        while let Some((to, what)) = asks.ready(LogIndex(4)) {
            found.push((to.stream, lease(what)));
            asks.answered(to);
        }
        assert_eq!(found, [(1, 10), (3, 30)]);
        asks.lost(second);
        assert_eq!(asks.next_context(), None, "not in the same turn");
        assert_eq!(asks.expired(Tick(8)), []);
        assert!(asks.next_context().is_some());
        assert_eq!(asks.expired(Tick(9)), [id(5)]);
        assert!(asks.is_empty() && asks.next_context().is_none());
    }

    #[test]
    fn a_stream_waits_behind_what_holds_its_first_question() {
        let mut asks = Asks::default();
        for (stream, lease) in [(1, 10), (1, 11), (3, 12)] {
            ask(&mut asks, stream, lease, 9);
        }
        let context = asks.next_context().expect("all are new");
        asks.point(context, LogIndex(1));
        let (to, what) = asks.ready(LogIndex(1)).expect("it is confirmed");
        assert_eq!((to, lease(what)), (id(1), 10));
        asks.hold(to, LeaseId(10));
        let (to, what) = asks.ready(LogIndex(1)).expect("another stream");
        assert_eq!((to, lease(what)), (id(3), 12));
        asks.answered(to);
        assert_eq!(asks.ready(LogIndex(1)), None);
        asks.release(LeaseId(11));
        assert_eq!(asks.ready(LogIndex(1)), None);
        asks.release(LeaseId(10));
        for due in [10, 11] {
            let (to, what) = asks.ready(LogIndex(1)).expect("it is free");
            assert_eq!((to, lease(what)), (id(1), due));
            asks.answered(to);
        }
        assert!(asks.is_empty());
    }

    #[test]
    fn a_new_leader_asks_anew_and_holds_nobody() {
        let mut asks = Asks::default();
        ask(&mut asks, 1, 10, 9);
        let context = asks.next_context().expect("it is new");
        asks.point(context, LogIndex(1));
        let (to, _) = asks.ready(LogIndex(1)).expect("it is confirmed");
        asks.hold(to, LeaseId(10));
        asks.restart(false);
        assert_eq!(asks.ready(LogIndex(1)), None);
        let again = asks.next_context().expect("it is to be confirmed again");
        assert_ne!(context, again);
        asks.point(context, LogIndex(1));
        assert_eq!(asks.ready(LogIndex(1)), None, "an old read point confirms nothing");
        asks.point(again, LogIndex(1));
        assert!(asks.ready(LogIndex(1)).is_some());
    }

    fn told(lease: i64) -> LeaseTold {
        LeaseTold { id: LeaseId(lease), ttl: lease, granted: 0, keys: Vec::new() }
    }

    #[test]
    fn what_another_answers_waits_for_its_turn() {
        let mut asks = Asks::default();
        asks.restart(true);
        for (stream, lease) in [(1, 10), (1, 11), (3, 12)] {
            ask(&mut asks, stream, lease, 9);
        }
        let mut sent = Vec::new();
        while let Some((number, what)) = asks.next_unsent() {
            sent.push((number, lease(what)));
        }
        assert_eq!(sent, [(1, 10), (2, 11), (3, 12)]);
        assert_eq!(asks.tell(2, told(11), Tick(1)), Some(id(1)));
        assert_eq!(asks.told(id(1), Tick(0)), None, "the one before is not answered");
        asks.send_again();
        assert_eq!(asks.next_unsent().map(|it| it.0), Some(1));
        assert_eq!(asks.next_unsent().map(|it| it.0), Some(3));
        assert_eq!(asks.tell(1, told(10), Tick(2)), Some(id(1)));
        for due in [10, 11] {
            assert_eq!(asks.told(id(1), Tick(1)).map(|it| it.1), Some(told(due)));
            asks.answered(id(1));
        }
        assert_eq!(asks.expired(Tick(9)), [id(3)]);
        assert_eq!(asks.tell(3, told(12), Tick(9)), None);
        assert!(asks.is_empty() && !asks.has_sent());
        asks.check();
    }

    /// A client was told of a whole time to live that had begun long before: the answer had waited
    /// behind one that was lost.
    #[test]
    fn what_was_answered_too_long_ago_is_asked_again() {
        let mut asks = Asks::default();
        asks.restart(true);
        for lease in [10, 11, 12, 13] {
            ask(&mut asks, 1, lease, 900);
        }
        while asks.next_unsent().is_some() {}
        for (number, now) in [(2, 1), (3, 2), (4, 500), (1, 501)] {
            assert_eq!(asks.tell(number, told(9 + number.cast_signed()), Tick(now)), Some(id(1)));
        }
        assert_eq!(asks.told(id(1), Tick(401)).map(|it| it.1), Some(told(10)));
        asks.answered(id(1));
        assert_eq!(asks.told(id(1), Tick(401)), None, "it is too old");
        assert_eq!(asks.next_unsent().map(|it| it.0), Some(2));
        assert_eq!(asks.next_unsent().map(|it| it.0), Some(3));
        assert_eq!(asks.next_unsent(), None, "the last one is not");
        assert_eq!(asks.tell(3, told(12), Tick(502)), Some(id(1)));
        assert_eq!(asks.told(id(1), Tick(402)), None, "it is not its turn");
        assert_eq!(asks.tell(2, told(11), Tick(502)), Some(id(1)));
        for due in [11, 12, 13] {
            assert_eq!(asks.told(id(1), Tick(402)).map(|it| it.1), Some(told(due)));
            asks.answered(id(1));
        }
        asks.check();
    }

    thread_local! {
        /// Questions that were looked at to find one.
        pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// Each was looked for from the front of its stream: with 65,536 a member was away for minutes.
    #[test]
    fn a_question_of_a_long_stream_is_found_without_looking_at_all_before_it() {
        let count = 1 << 12;
        let mut asks = Asks::remote();
        for _ in 0..count {
            ask(&mut asks, 1, 7, 9);
        }
        asks.send_again();
        LOOKS.set(0);
        for number in 1..=count {
            assert_eq!(asks.next_unsent().map(|it| it.0), Some(number));
        }
        // As long as the first is not answered, the others stay.
        for number in 2..=count {
            assert_eq!(asks.tell(number, told(7), Tick(1)), Some(id(1)));
        }
        assert!(LOOKS.get() <= 2 * count * 16, "{}", LOOKS.get());
        assert_eq!(asks.len(), 1 << 12);
    }

    #[test]
    fn questions_that_are_gone_are_not_kept() {
        let mut asks = Asks::default();
        asks.restart(true);
        for stream in 0..1_000 {
            ask(&mut asks, stream, 1, 9);
            asks.forget(id(stream));
        }
        assert!(asks.unsent.len() <= UNSENT_SLACK + 2);
    }

    proptest! {
        #[test]
        fn each_stream_is_answered_in_its_order(
            ops in proptest::collection::vec((0..8_u8, 0..4_u32, 0..3_i64), 0..120),
        ) {
            let mut asks = Asks::default();
            let mut waiting: BTreeMap<u32, VecDeque<i64>> = BTreeMap::new();
            let (mut contexts, mut now) = (Vec::new(), 0);
            for (op, stream, which) in ops {
                match op {
                    0 | 1 => {
                        ask(&mut asks, stream, which, now + 5);
                        waiting.entry(stream).or_default().push_back(which);
                    }
                    2 => contexts.extend(asks.next_context()),
                    3 if !contexts.is_empty() => {
                        let at = usize::try_from(stream).expect("small") % contexts.len();
                        let context = contexts.remove(at);
                        if which == 0 {
                            asks.lost(context);
                        } else {
                            asks.point(context, LogIndex(1));
                        }
                    }
                    4 => {
                        let mut rounds = 0;
                        while let Some((to, what)) = asks.ready(LogIndex(1)) {
                            let due = &mut waiting.get_mut(&to.stream).expect("it asked");
                            prop_assert_eq!(due.front(), Some(&lease(what)));
                            rounds += 1;
                            if lease(what) == which && rounds < 50 {
                                asks.hold(to, LeaseId(which));
                            } else {
                                due.pop_front();
                                asks.answered(to);
                            }
                        }
                    }
                    5 => asks.release(LeaseId(which)),
                    6 if which == 0 => {
                        asks.forget(id(stream));
                        waiting.remove(&stream);
                    }
                    6 if which == 1 => {
                        asks.restart(false);
                        contexts.clear();
                    }
                    _ => {
                        now += 1;
                        for to in asks.expired(Tick(now)) {
                            waiting.get_mut(&to.stream).expect("it asked").pop_front();
                        }
                    }
                }
                asks.check();
                prop_assert_eq!(asks.len(), waiting.values().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
