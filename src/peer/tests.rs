//! Both sides of a connection against each other, and against strangers.

use super::format::FORMAT_VERSION;
use super::format::FrameKind;
use super::format::HelloError;
use super::format::header;
use super::format::start;
use super::*;
use crate::types::ClusterId;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Tick;
use bytes::Bytes;
use proptest::prelude::*;

/// The card of a member.
pub(super) fn card(node: u64) -> Card {
    Card {
        cluster: ClusterId(0xc1),
        node: NodeId(node),
        shard: ShardId(1),
        shards: 2,
        log: 100 + node,
        run: 200 + node,
        version: Version { major: 1, minor: 2, patch: 3 },
    }
}

const A: u64 = 0xa;
const B: u64 = 0xb;

/// A link of A's to B.
fn link(kind: Kind) -> Link {
    Link::new(card(A), NodeId(B), kind, Limits::default(), 7, Tick(0))
}

/// All that a link has to say.
fn told(link: &mut Link) -> Vec<LinkOutput> {
    std::iter::from_fn(|| link.poll()).collect()
}

/// What B makes of A.
fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.set([NodeId(A)]);
    roster
}

/// Moves all that a link has to say to an inlet, and its packets' payloads to `heard`.
fn forth(link: &mut Link, inlet: &mut Inlet, now: Tick, heard: &mut Vec<Bytes>) {
    let bytes = link.output().to_vec();
    link.sent(bytes.len(), now);
    inlet.receive(&bytes, now, &mut |payload| heard.push(payload)).expect("it is whole");
}

/// Moves all that an inlet has to say to a link.
fn back(inlet: &mut Inlet, link: &mut Link, now: Tick) {
    let bytes = inlet.output().to_vec();
    inlet.sent(bytes.len(), now);
    link.receive(link.attempt(), &bytes, now);
}

/// A link and an inlet that have greeted each other.
fn up(kind: Kind) -> (Link, Inlet) {
    up_within(kind, Limits::default())
}

/// The same within these limits.
fn up_within(kind: Kind, limits: Limits) -> (Link, Inlet) {
    let mut link = Link::new(card(A), NodeId(B), kind, limits, 7, Tick(0));
    let mut inlet = Inlet::new(limits, Tick(0));
    if kind == Kind::Bulk {
        assert!(link.send(Bytes::from_static(b"first"), Tick(0)));
    }
    link.tick(Tick(0));
    assert_eq!(told(&mut link), [LinkOutput::Connect { attempt: 0 }]);
    assert!(link.connected(0, Tick(0)));
    forth(&mut link, &mut inlet, Tick(0), &mut Vec::new());
    let hello = *inlet.asked().expect("a greeting has come");
    let verdict = roster().judge(&card(B), &hello, false);
    inlet.answer(card(B), verdict);
    back(&mut inlet, &mut link, Tick(0));
    assert_eq!(told(&mut link), [LinkOutput::Up]);
    assert_eq!(inlet.peer(), Some((NodeId(A), kind)));
    (link, inlet)
}

#[test]
fn packets_come_in_order_after_a_welcome() {
    let (mut link, mut inlet) = up(Kind::Raft);
    let said = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![3; 100_000])];
    assert!(said.iter().all(|payload| link.send(payload.clone(), Tick(1))));
    let mut heard = Vec::new();
    forth(&mut link, &mut inlet, Tick(1), &mut heard);
    assert_eq!(heard, said);
    assert_eq!(link.counts(), Counts { queued: 3, ..Counts::default() });
}

#[test]
fn a_raft_link_that_is_down_drops_and_a_bulk_link_is_dialled_when_it_has_something() {
    let mut raft = link(Kind::Raft);
    assert!(!raft.send(Bytes::from_static(b"x"), Tick(0)));
    assert_eq!(raft.counts().down, 1);
    let mut bulk = link(Kind::Bulk);
    bulk.tick(Tick(0));
    assert_eq!(told(&mut bulk), [], "it has nothing to say");
    let (mut bulk, mut inlet) = up(Kind::Bulk);
    let mut heard = Vec::new();
    forth(&mut bulk, &mut inlet, Tick(1), &mut heard);
    assert_eq!(heard, [Bytes::from_static(b"first")]);
    bulk.failed(0, Tick(1));
    let due = [LinkOutput::Close { attempt: 0 }, LinkOutput::Lost(Fault::Ended)];
    assert_eq!(told(&mut bulk), due);
    bulk.tick(Tick(100_000));
    assert_eq!(told(&mut bulk), [], "it has nothing more to say");
}

#[test]
fn a_full_queue_takes_no_more_and_an_empty_one_takes_any_packet() {
    let limits = Limits { raft_queue_size_max: 100, payload_size_max: 500, ..Limits::default() };
    let (mut link, _) = up_within(Kind::Raft, limits);
    assert!(link.send(Bytes::from(vec![0; 400]), Tick(1)), "it is alone");
    assert!(!link.send(Bytes::from(vec![0; 1]), Tick(1)));
    let size = link.output().len();
    link.sent(size, Tick(1));
    assert!(!link.send(Bytes::from(vec![0; 501]), Tick(1)), "it is too large");
    assert!(link.send(Bytes::from(vec![0; 50]), Tick(1)));
    assert!(link.send(Bytes::from(vec![0; 20]), Tick(1)));
    assert_eq!(link.counts(), Counts { queued: 3, down: 0, full: 2 });
}

#[test]
fn the_wait_between_attempts_doubles_within_bounds_and_members_differ() {
    let waits = |seed| {
        let limits = Limits::default();
        let mut link = Link::new(card(A), NodeId(B), Kind::Raft, limits, seed, Tick(0));
        let (mut now, mut waits) = (0, Vec::new());
        for attempt in 0..12 {
            let mut waited = 0;
            while link.poll() != Some(LinkOutput::Connect { attempt }) {
                link.tick(Tick(now));
                (now, waited) = (now + 1, waited + 1);
            }
            waits.push(waited);
            link.failed(attempt, Tick(now));
        }
        waits
    };
    let some = waits(1);
    for (at, wait) in some.iter().enumerate().skip(1) {
        let most = (50 << (at - 1)).min(2_000);
        assert!((most / 2 - 2..=most + 2).contains(wait), "attempt {at} after {wait} ms");
    }
    assert_eq!(some, waits(1), "luck is a seed");
    assert_ne!(some, waits(2));
    let mut link = link(Kind::Raft);
    link.tick(Tick(0));
    link.failed(0, Tick(0));
    link.hasten(Tick(1));
    link.tick(Tick(1));
    assert!(told(&mut link).contains(&LinkOutput::Connect { attempt: 1 }), "it was heard");
}

#[test]
fn what_becomes_of_an_earlier_attempt_is_of_no_account() {
    let mut link = link(Kind::Raft);
    link.tick(Tick(0));
    let late = Limits::default().connect_max + 1;
    link.tick(Tick(late));
    let due = [LinkOutput::Connect { attempt: 0 }, LinkOutput::Close { attempt: 0 }];
    assert_eq!(told(&mut link), due);
    assert!(!link.connected(0, Tick(late)));
    link.tick(Tick(late + 50));
    link.failed(0, Tick(late + 50));
    assert_eq!(told(&mut link), [LinkOutput::Connect { attempt: 1 }]);
    assert!(link.connected(1, Tick(late + 50)));
}

#[test]
fn silence_is_asked_about_and_then_an_end() {
    let Limits { ping_after, silence_max, .. } = Limits::default();
    let (mut link, mut inlet) = up(Kind::Raft);
    let later = Tick(ping_after + 1);
    link.tick(later);
    assert!(!link.output().is_empty(), "a ping is due");
    forth(&mut link, &mut inlet, later, &mut Vec::new());
    back(&mut inlet, &mut link, later);
    let later = Tick(later.0 + silence_max);
    link.tick(later);
    assert!(link.is_up(), "its pong was heard, and it was asked anew");
    assert_eq!(inlet.tick(later), Ok(()));
    let size = inlet.output().len();
    inlet.sent(size, later);
    let last = Tick(later.0 + silence_max + 1);
    link.tick(last);
    assert!(told(&mut link).contains(&LinkOutput::Lost(Fault::Silent)));
    assert_eq!(inlet.tick(last), Err(Fault::Silent));
}

#[test]
fn a_ping_behind_a_long_queue_has_time_from_when_it_leaves() {
    let Limits { ping_after, silence_max, .. } = Limits::default();
    let (mut link, _) = up(Kind::Raft);
    assert!(link.send(Bytes::from(vec![0; 10_000]), Tick(1)));
    let mut now = ping_after + 1;
    link.tick(Tick(now));
    // A thousand bytes leave now and then: slow, and not dead.
    while link.output().len() > 1_000 {
        now += silence_max;
        link.sent(1_000, Tick(now));
        link.tick(Tick(now));
        assert!(link.is_up());
    }
    link.sent(link.output().len(), Tick(now));
    link.tick(Tick(now + silence_max));
    assert!(link.is_up());
    link.tick(Tick(now + silence_max + 1));
    assert!(!link.is_up());
}

#[test]
fn each_verdict_is_told_once_with_what_to_do() {
    let other = card(A);
    let hello = |card| Hello { card, to: NodeId(B), kind: Kind::Raft, verdict: Verdict::Welcome };
    let far = Version { minor: 9, ..other.version };
    let cases = [
        (Card { cluster: ClusterId(1), ..other }, Verdict::Cluster, "--initial-cluster-token"),
        (Card { node: NodeId(B), ..other }, Verdict::Addressee, "member update"),
        (Card { shard: ShardId(0), ..other }, Verdict::Addressee, "member update"),
        (Card { shards: 1, ..other }, Verdict::Shards, "same --shards"),
        (Card { version: far, ..other }, Verdict::Version, "one minor version"),
        (Card { log: 5, ..other }, Verdict::Log, "put its data directory back"),
    ];
    for (card_of, due, advice) in cases {
        let mut roster = roster();
        assert_eq!(roster.judge(&card(B), &hello(other), false), Verdict::Welcome);
        assert_eq!(roster.judge(&card(B), &hello(card_of), false), due);
        let text = explain(due, &card_of, &card(B)).expect("a reason");
        assert!(text.contains(advice), "{text}");
        assert_eq!(
            roster.judge(&card(B), &hello(other), false),
            Verdict::Welcome,
            "it is still heard"
        );
    }
    let mut link = link(Kind::Raft);
    for attempt in 0..3 {
        link.tick(Tick(10_000 * (attempt + 1)));
        assert!(link.connected(attempt, Tick(0)));
        let verdict = if attempt < 2 { Verdict::Unknown } else { Verdict::Log };
        let answer = Hello { card: card(B), to: NodeId(A), kind: Kind::Raft, verdict };
        link.receive(attempt, &answer.encode(), Tick(0));
        let is_told = told(&mut link).contains(&LinkOutput::Refused { verdict, by: card(B) });
        assert_eq!(is_told, attempt != 1, "once for each reason");
    }
}

#[test]
fn a_process_that_was_succeeded_is_not_heard_again() {
    let mut roster = roster();
    let mut judge = |run| {
        let card_of = Card { run, ..card(A) };
        let (to, kind, verdict) = (NodeId(B), Kind::Raft, Verdict::Welcome);
        roster.judge(&card(B), &Hello { card: card_of, to, kind, verdict }, false)
    };
    for run in [1, 1, 2, 3, 3] {
        assert_eq!(judge(run), Verdict::Welcome, "run {run}");
    }
    assert_eq!(judge(2), Verdict::Twice, "two live side by side");
    assert_eq!(judge(3), Verdict::Welcome);
    roster.set([NodeId(1)]);
    roster.set([NodeId(A)]);
    let (to, kind, verdict) = (NodeId(B), Kind::Raft, Verdict::Welcome);
    let hello = Hello { card: Card { log: 9, ..card(A) }, to, kind, verdict };
    assert_eq!(
        roster.judge(&card(B), &hello, false),
        Verdict::Welcome,
        "it was removed and added anew"
    );
}

#[test]
fn who_is_not_known_is_heard_unless_it_was_removed_or_there_are_too_many() {
    let mut roster = roster();
    let hello = |node, to| {
        let (to, kind, verdict) = (NodeId(to), Kind::Raft, Verdict::Welcome);
        Hello { card: card(node), to, kind, verdict }
    };
    assert_eq!(roster.judge(&card(B), &hello(1, B), false), Verdict::Welcome);
    assert!(roster.hears(NodeId(1)) && roster.is_guest(NodeId(1)) && !roster.is_guest(NodeId(A)));
    assert!(roster.heard().next().is_none(), "a guest has not been up as a member");
    assert_eq!(roster.judge(&card(B), &hello(2, B), true), Verdict::Removed);
    assert!(!roster.hears(NodeId(2)));
    // It called where somebody lived that it knew, and is told by who lives there now.
    assert_eq!(roster.judge(&card(B), &hello(2, 9), true), Verdict::Removed);
    assert_eq!(roster.judge(&card(B), &hello(3, 9), false), Verdict::Addressee);
    // Who has left is still to hear of it.
    assert_eq!(roster.judge(&card(B), &hello(A, B), true), Verdict::Welcome);
    for node in 100..163 {
        assert_eq!(roster.judge(&card(B), &hello(node, B), false), Verdict::Welcome);
    }
    assert_eq!(roster.judge(&card(B), &hello(200, B), false), Verdict::Unknown);
    assert_eq!(roster.judge(&card(B), &hello(1, B), false), Verdict::Welcome, "it is here");
    roster.dismiss(NodeId(100));
    assert_eq!(roster.judge(&card(B), &hello(200, B), false), Verdict::Welcome);
    // A guest that turns out to be a member is one that was heard.
    roster.set([NodeId(A), NodeId(1)]);
    assert!(roster.heard().any(|id| id == NodeId(1)) && !roster.is_guest(NodeId(1)));
    let wiped = Hello { card: Card { log: 5, ..card(1) }, ..hello(1, B) };
    assert_eq!(roster.judge(&card(B), &wiped, false), Verdict::Log);
    for (verdict, advice) in [(Verdict::Removed, "member add"), (Verdict::Unknown, "too many")] {
        let text = explain(verdict, &card(2), &card(B)).expect("a reason");
        assert!(text.contains(advice), "{text}");
    }
}

#[test]
fn a_link_first_says_where_its_member_is_reached() {
    let urls = ["http://a:1".to_owned(), "http://b:2".to_owned()];
    let mut link = link(Kind::Raft).with_urls(&urls);
    let mut inlet = Inlet::new(Limits::default(), Tick(0));
    link.tick(Tick(0));
    assert!(link.connected(0, Tick(0)));
    forth(&mut link, &mut inlet, Tick(0), &mut Vec::new());
    inlet.answer(card(B), Verdict::Welcome);
    back(&mut inlet, &mut link, Tick(0));
    assert!(link.send(Bytes::from_static(b"one"), Tick(0)));
    let mut heard = Vec::new();
    forth(&mut link, &mut inlet, Tick(0), &mut heard);
    assert_eq!(heard, [Bytes::from_static(b"one")]);
    assert_eq!(inlet.take_urls(), Some(urls.to_vec()));
    assert_eq!(inlet.take_urls(), None, "once");
    let bent = [9, 0, b'x'];
    let bent = [&header(2, FrameKind::Urls, &bent)[..], &bent].concat();
    assert_eq!(inlet.receive(&bent, Tick(0), &mut |_| {}), Err(Fault::Urls));
}

#[test]
fn who_answers_must_be_whom_one_meant() {
    let mut link = link(Kind::Raft);
    link.tick(Tick(0));
    assert!(link.connected(0, Tick(0)));
    let verdict = Verdict::Welcome;
    let answer = Hello { card: card(0xc), to: NodeId(A), kind: Kind::Raft, verdict };
    link.receive(0, &answer.encode(), Tick(0));
    assert!(!link.is_up());
    assert!(told(&mut link).contains(&LinkOutput::Close { attempt: 0 }));
}

#[test]
fn a_stranger_is_told_apart_at_its_first_byte_and_another_format_is_answered() {
    let mut inlet = Inlet::new(Limits::default(), Tick(0));
    let fault = inlet.receive(b"G", Tick(0), &mut |_| {}).expect_err("a stranger");
    assert_eq!(fault, Fault::Hello(HelloError::Magic));
    let mut inlet = Inlet::new(Limits::default(), Tick(0));
    let verdict = Verdict::Welcome;
    let mut bytes = Hello { card: card(A), to: NodeId(B), kind: Kind::Raft, verdict }.encode();
    bytes[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let fault = inlet.receive(&bytes, Tick(0), &mut |_| {}).expect_err("another format");
    inlet.answer_fault(card(B), fault);
    let answer = inlet.output().try_into().expect("a greeting");
    assert_eq!(Hello::decode(answer).map(|hello| hello.verdict), Ok(Verdict::Format));
}

#[test]
fn who_does_not_greet_or_speaks_too_early_is_closed() {
    let late = Tick(Limits::default().greeting_max + 1);
    let mut inlet = Inlet::new(Limits::default(), Tick(0));
    assert_eq!(inlet.tick(late), Err(Fault::NoGreeting));
    let verdict = Verdict::Welcome;
    let hello = Hello { card: card(A), to: NodeId(B), kind: Kind::Raft, verdict }.encode();
    let mut inlet = Inlet::new(Limits::default(), Tick(0));
    let early = [&hello[..], b"x"].concat();
    assert_eq!(inlet.receive(&early, Tick(0), &mut |_| {}), Err(Fault::Early));
    let mut link = link(Kind::Raft);
    link.tick(Tick(0));
    assert!(link.connected(0, Tick(0)));
    link.tick(late);
    assert!(told(&mut link).contains(&LinkOutput::Close { attempt: 0 }));
}

/// A member waited for the rest of a frame whose size a flipped bit had made larger, and took
/// whatever came for it. The pings of each kept the other from ending the connection, and two
/// members of two elected nobody. Found by a seed of the simulated clusters, 3412 then.
#[test]
fn a_size_that_is_wrong_ends_the_connection_at_once() {
    for bit in 0..32 {
        let (_, mut inlet) = up(Kind::Raft);
        let mut frame = header(0, FrameKind::Packet, b"some bytes");
        frame[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(inlet.receive(&frame, Tick(1), &mut |_| {}), Err(Fault::Header(0)), "{bit}");
    }
}

#[test]
fn a_flood_of_pings_is_answered_within_bounds() {
    let (_, mut inlet) = up(Kind::Raft);
    for number in 0..10_000 {
        let ping = header(number, FrameKind::Ping, &[]);
        inlet.receive(&ping, Tick(1), &mut |_| {}).expect("it is whole");
    }
    assert!(inlet.output().len() < 8 << 10);
}

/// The frames of some payloads, as a link would send them.
fn frames(payloads: &[Vec<u8>]) -> Vec<u8> {
    let frame = |(number, payload): (u64, &Vec<u8>)| {
        [&header(number, FrameKind::Packet, payload)[..], payload].concat()
    };
    (0..).zip(payloads).flat_map(frame).collect()
}

proptest! {
    /// Cut anywhere, the same packets come.
    #[test]
    fn bytes_may_come_in_any_pieces(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        cuts in prop::collection::vec(1_usize..64, 1..40),
    ) {
        let (mut inlet, mut heard) = (up(Kind::Raft).1, Vec::new());
        let (all, mut at) = (frames(&payloads), 0);
        for cut in cuts.iter().cycle() {
            if at == all.len() {
                break;
            }
            let end = (at + cut).min(all.len());
            let result = inlet.receive(&all[at..end], Tick(1), &mut |it| heard.push(it.to_vec()));
            prop_assert_eq!(result, Ok(()));
            at = end;
        }
        prop_assert_eq!(heard, payloads);
    }

    /// One wrong bit, and nothing from there on is heard.
    #[test]
    fn what_is_damaged_is_not_heard(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        bit in any::<prop::sample::Index>(),
    ) {
        let (mut inlet, mut heard) = (up(Kind::Raft).1, Vec::new());
        let mut all = frames(&payloads);
        let bit = bit.index(all.len() * 8);
        all[bit / 8] ^= 1 << (bit % 8);
        let result = inlet.receive(&all, Tick(1), &mut |it| heard.push(it.to_vec()));
        prop_assert!(heard.len() < payloads.len());
        prop_assert!(payloads.starts_with(&heard));
        prop_assert!(result.is_err());
    }

    /// No bytes make either side panic, or hold more than has come.
    #[test]
    fn strangers_cost_what_they_send(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        greets in any::<bool>(),
        sizes in prop::collection::vec(any::<u32>(), 0..4),
    ) {
        let fresh = Inlet::new(Limits::default(), Tick(0));
        let mut inlet = if greets { up(Kind::Raft).1 } else { fresh };
        let mut link = up(Kind::Raft).0;
        let claims = sizes.iter().map(|size| start(0, FrameKind::Packet, *size).to_vec());
        let mut came = GREETING_SIZE;
        for piece in claims.chain(pieces) {
            came += piece.len();
            let _ = inlet.receive(&piece, Tick(1), &mut |_| {});
            link.receive(link.attempt(), &piece, Tick(1));
            if inlet.asked().is_some() {
                inlet.answer(card(B), Verdict::Welcome);
            }
            prop_assert!(inlet.held() <= 2 * came + 64, "{} of {came}", inlet.held());
            let _ = inlet.tick(Tick(2));
            link.tick(Tick(2));
        }
    }
}
