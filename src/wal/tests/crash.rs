//! Every crash of small runs: whatever lands of the writes in flight, what was acknowledged is
//! there, and of the rest only whole batches in order.

use super::*;
use proptest::prelude::*;

/// All that may land of `sectors` sectors: every subset if there are few, else every subset of
/// the first eight with nothing, everything, and each single one of the others, either way.
fn landings(sectors: usize) -> Vec<Vec<bool>> {
    let rest = sectors.saturating_sub(8);
    let mut tails = vec![vec![false; rest], vec![true; rest]];
    for one in 0..rest {
        tails.push((0..rest).map(|sector| sector == one).collect());
        tails.push((0..rest).map(|sector| sector != one).collect());
    }
    let heads = sectors.min(8);
    let head = |bits: usize| (0..heads).map(move |sector| bits >> sector & 1 == 1);
    let tails = if rest == 0 { vec![Vec::new()] } else { tails };
    (0..1 << heads)
        .flat_map(|bits| tails.iter().map(move |tail| head(bits).chain(tail.clone()).collect()))
        .collect()
}

/// Crashes `node` in every way and checks what is recovered each time.
fn crash_every_way(node: &Node) -> usize {
    let landings = landings(node.disk.sectors_in_flight());
    for landing in &landings {
        let mut disk = node.disk.clone();
        disk.crash(|sector| landing[sector]);
        let (_, found) = recover(small(), &disk).expect("a crash is not damage");
        node.expect(&found);
    }
    landings.len()
}

#[test]
fn any_part_of_a_frame_of_one_block_may_land() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100)]);
    node.append(&[entry(2, 3500)]);
    node.issue();
    assert_eq!(crash_every_way(&node), 256);
}

#[test]
fn any_part_of_two_frames_may_land() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100)]);
    node.append(&[entry(2, 3500)]);
    node.issue();
    node.append(&[entry(2, 100), hard_state(2, Some(1), 1)]);
    node.issue();
    assert_eq!(node.writes.len(), 2);
    assert!(crash_every_way(&node) > 4000);
}

#[test]
fn any_part_of_a_frame_of_two_blocks_may_land() {
    let mut node = Node::new(small());
    node.append(&[entry(1, 5000)]);
    node.issue();
    assert!(crash_every_way(&node) > 4000);
}

#[test]
fn any_part_of_two_frames_across_segments_may_land_over_old_ones() {
    let mut node = Node::new(small());
    for index in 1..=30 {
        node.write(&[entry(index, 900)]);
        node.write(&[Item::Snapshot(1, index, false, Vec::new())]);
        node.writer.release(LogIndex(index));
        node.settle();
    }
    assert!(node.commands.iter().any(|command| command.starts_with("recycle")));
    let mut crossed = false;
    for index in 31..=36 {
        node.append(&[entry(index, 100)]);
        node.issue();
        node.append(&[hard_state(index, None, index)]);
        node.issue();
        crossed |= node.commands.iter().rev().take(4).any(|c| c.contains(".wal 4096 "));
        crash_every_way(&node);
        node.settle();
    }
    assert!(crossed);
}

#[test]
fn a_second_frame_done_first_is_not_there_without_the_first() {
    let mut node = Node::new(small());
    node.append(&[entry(1, 100)]);
    node.issue();
    node.append(&[entry(2, 100)]);
    node.issue();
    node.complete(1);
    assert_eq!(node.acknowledged, 0);
    assert_eq!(crash_every_way(&node), 256);
}

/// The epochs of the sectors in the block where the log ends.
fn epochs(disk: &Disk, (file, offset, _): (FileId, u64, decide::Row)) -> Vec<u32> {
    let seal = Identity { log_id: LOG_ID, shard: ShardId(3) }.seal();
    let block = disk.read(&file.to_string(), offset, 4096);
    let epoch = |sector| match seal.open(sector) {
        crate::frame::Sector::Whole(stamp) => Some(stamp.epoch),
        crate::frame::Sector::Zero | crate::frame::Sector::Broken => None,
    };
    block.chunks(512).filter_map(epoch).collect()
}

/// Nothing that one incarnation left torn is ever taken for a frame of the next, whatever of
/// the next one's open frame lands, again and again.
#[test]
fn a_crash_while_opening_after_a_crash_leaves_the_same_log() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100)]);
    node.append(&[entry(2, 3500)]);
    node.issue();
    for first in landings(8) {
        let mut disk = node.disk.clone();
        disk.crash(|sector| first[sector]);
        let opened = Node::open(small(), disk).expect("a crash is not damage");
        for second in [0x01, 0x80, 0x0f, 0xf0, 0x55, 0xaa, 0xfe, 0x7f, 0x00, 0xff] {
            let mut again = Node::open(small(), opened.disk.clone()).expect("nothing was done");
            again.step();
            again.step();
            assert_eq!(again.writes.len(), 1);
            again.disk.crash(|sector| second >> sector & 1 == 1);
            let recovered = again.recovered.clone();
            let before = epochs(&again.disk, again.end);
            let mut third = Node::open(small(), again.disk).expect("a crash is not damage");
            assert_eq!(third.recovered, recovered);
            third.settle();
            let after = epochs(&third.disk, third.end);
            assert!(before.iter().all(|epoch| *epoch < after[0]), "{before:?} {after:?}");
            third.write(&[entry(recovered.entries.len() as u64 + 1, 10)]);
            let fourth = third.reopen(small());
            assert_eq!(fourth.recovered.entries.len(), recovered.entries.len() + 1);
        }
    }
}

/// After a cut the log is written over what was cut; nothing of that comes back.
#[test]
fn what_was_cut_never_comes_back() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100)]);
    node.append(&[Item::Entry(1, 2, vec![7; 100])]);
    node.issue();
    node.append(&[Item::Entry(1, 3, vec![7; 100])]);
    node.issue();
    node.disk.crash(|sector| sector >= 8);
    let mut node = Node::open(small(), node.disk).expect("cut");
    assert_eq!(node.recovered.entries.len(), 1);
    node.settle();
    assert_eq!(recover(small(), &node.disk).expect("sound").1.entries.len(), 1);
    node.append(&[Item::Entry(2, 2, vec![8; 100])]);
    node.issue();
    assert_eq!(crash_every_way(&node), 256);
}

/// Does one command in part and loses power.
fn crash_in(node: &Node, command: &Command) -> Vec<Disk> {
    let name = |file: &FileId| file.to_string();
    let mut disks = vec![node.disk.clone()];
    let mut with = |change: &dyn Fn(&mut Disk)| {
        let mut disk = node.disk.clone();
        change(&mut disk);
        disks.push(disk);
    };
    match command {
        Command::Create { file, size, .. } => {
            let size = usize::try_from(*size).expect("64 bits");
            for part in [0, 1, 4096, size - 1, size] {
                with(&|disk| disk.create(&name(file), vec![0; part]));
            }
        }
        Command::Activate { from, to, header } => {
            for sector in [0, 1, 7] {
                let range = sector * 512..(sector + 1) * 512;
                let part = header[range.clone()].to_vec();
                with(&|disk| disk.file_mut(&name(from))[range.clone()].copy_from_slice(&part));
            }
            with(&|disk| {
                disk.file_mut(&name(from))[..header.len()].copy_from_slice(header);
                disk.rename(&name(from), &name(to));
            });
        }
        Command::Recycle { from, to } => with(&|disk| disk.rename(&name(from), &name(to))),
        Command::Remove { file } => with(&|disk| disk.remove(&name(file))),
        Command::Write { .. } | Command::Read { .. } | Command::Sync { .. } => {}
    }
    disks
}

#[test]
fn a_crash_in_any_change_of_files_loses_nothing() {
    let mut node = Node::open(small(), Disk::default()).expect("new");
    let (mut index, mut crashes) = (0, 0);
    while index < 40 {
        if let Some(command) = node.writer.poll() {
            for disk in crash_in(&node, &command) {
                let mut again = Node::open(small(), disk).expect("a crash is not damage");
                node.expect(&again.recovered);
                again.settle();
                crashes += 1;
            }
            node.perform(&command);
            continue;
        }
        if !node.writes.is_empty() {
            node.complete(0);
            continue;
        }
        index += 1;
        node.append(&[entry(index, 900), Item::Snapshot(1, index, false, vec![1])]);
        node.writer.release(LogIndex(index - 1));
    }
    assert!(crashes > 100, "{crashes}");
}

/// Sixteen writes in flight, two frames a segment.
fn deep() -> Config {
    Config { writes_in_flight_max: 16, pending_size_max: 1 << 20, ..small() }
}

/// A log with sixteen frames of two blocks in flight, the first the second of its segment.
fn in_flight() -> Node {
    let mut node = Node::new(deep());
    for index in 1..=21 {
        node.write(&[entry(index, 5000)]);
    }
    for index in 22..=40 {
        node.append(&[entry(index, 5000)]);
        node.issue();
    }
    assert_eq!(node.writes.len(), 16);
    node
}

/// Only the last two segments were: where a killed process leaves its writes to the kernel, those
/// in the others were acknowledged before they were durable.
#[test]
fn all_that_may_have_been_in_flight_is_synced_before_the_log_goes_on() {
    let mut node = in_flight();
    let file = |command: &String| command.split(' ').nth(2).expect("a file").to_owned();
    let writes = node.commands.iter().filter(|command| command.starts_with("write"));
    let files: Vec<_> = writes.map(file).collect();
    let mut due = files[files.len() - 16..].to_vec();
    due.dedup();
    assert!(due.len() > 4, "{due:?}");
    node.disk.crash(|_| true);
    let mut node = Node::open(deep(), node.disk).expect("a crash is not damage");
    assert_eq!(node.recovered.entries.len(), files.len() - 1);
    node.settle();
    let syncs = node.commands.iter().take_while(|command| !command.starts_with("write"));
    let synced: Vec<_> = syncs.filter_map(|command| command.strip_prefix("sync ")).collect();
    assert_eq!(synced, due);
}

/// Beyond the next segment recovery looked at one block only.
#[test]
fn a_frame_far_behind_a_lost_one_proves_that_it_was_durable() {
    let mut node = in_flight();
    // One that says of the first of them that it is durable; it is the second of its segment.
    node.complete(0);
    node.issue();
    let place = |command: &String| {
        let part = |nth| command.split(' ').nth(nth).expect("four parts").to_owned();
        let number = |nth| part(nth).parse::<usize>().expect("a number");
        (part(2), number(3)..number(3) + number(4))
    };
    let writes = node.commands.iter().filter(|command| command.starts_with("write"));
    let places: Vec<_> = writes.map(place).collect();
    let (last, lost) = places[places.len() - 17..].split_last().expect("seventeen");
    assert!(last.1.start > 4096, "{last:?}");
    node.disk.crash(|_| true);
    for (file, range) in lost {
        node.disk.file_mut(file)[range.clone()].fill(0);
    }
    let damage = recover(deep(), &node.disk).expect_err("an acknowledged frame is missing");
    assert!(matches!(damage.cause, Cause::Lost(_)), "{damage}");
}

#[derive(Clone, Debug)]
enum Act {
    Append(usize, u64),
    Step,
    Complete(usize),
    Mark,
    Snapshot,
    Crash(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..2600_usize, 0..3_u64).prop_map(|(size, back)| Act::Append(size, back)),
        6 => Just(Act::Step),
        4 => (0..2_usize).prop_map(Act::Complete),
        1 => Just(Act::Mark),
        1 => Just(Act::Snapshot),
        1 => any::<u64>().prop_map(Act::Crash),
    ];
    prop::collection::vec(act, 1..120)
}

/// Other limits than [`small`] has.
fn configs() -> impl Strategy<Value = Config> {
    let one = Config { writes_in_flight_max: 1, spares_target: 0, spares_max: 0, ..small() };
    let many = Config { writes_in_flight_max: 4, segment_size: 9 * 4096, ..small() };
    let wide = Config { frame_size_max: 3 * 4096, read_size: 4096, spares_target: 2, ..small() };
    prop::sample::select(vec![small(), one, many, wide])
}

/// Lives through `acts` and leaves the writes in flight in flight.
fn run(config: Config, acts: &[Act]) -> Node {
    let mut node = Node::open(config, Disk::default()).expect("new");
    let mut term = 1;
    for act in acts {
        match *act {
            Act::Append(size, back) => {
                let next = node.writer.last().0 + 1;
                let base = node.history(node.items.len()).snapshot.map_or(0, |s| s.1);
                let index = next.saturating_sub(back).max(base + 1);
                term += u64::from(index < next);
                node.append(&[Item::Entry(term, index, vec![1; size])]);
            }
            Act::Step => {
                node.step();
            }
            Act::Complete(nth) if nth < node.writes.len() => node.complete(nth),
            Act::Complete(_) => {}
            Act::Mark => node.writer.mark(),
            Act::Snapshot => {
                let index = node.writer.last().0;
                node.append(&[Item::Snapshot(term, index, false, vec![4; 9])]);
                node.writer.release(LogIndex(index));
            }
            Act::Crash(seed) => {
                node.disk.crash(|sector| seed >> (sector % 64) & 1 == 1);
                node = node.reopen(config);
            }
        }
    }
    node
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_life_with_crashes_keeps_what_was_acknowledged(config in configs(), acts in acts()) {
        let mut node = run(config, &acts);
        node.settle();
        prop_assert_eq!(node.acknowledged, node.items.len());
        node.reopen(config);
    }

    #[test]
    fn any_life_and_a_flipped_bit_lose_nothing_in_silence(
        config in configs(),
        acts in acts(),
        landed in any::<u64>(),
        file in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut node = run(config, &acts);
        node.disk.crash(|sector| landed >> (sector % 64) & 1 == 1);
        let files = node.disk.list();
        prop_assume!(!files.is_empty());
        let (name, size) = &files[file.index(files.len())];
        node.disk.flip(name, bit.index(usize::try_from(*size).expect("small") * 8));
        match recover(config, &node.disk) {
            Ok((_, found)) => node.expect(&found),
            Err(damage) => prop_assert_eq!(&damage.file, name),
        }
    }

    #[test]
    fn any_life_is_the_same_twice(config in configs(), acts in acts()) {
        let (one, two) = (run(config, &acts), run(config, &acts));
        prop_assert_eq!(one.commands, two.commands);
        prop_assert_eq!(one.disk.list(), two.disk.list());
        for (name, _) in one.disk.list() {
            prop_assert!(one.disk.file(&name) == two.disk.file(&name));
        }
    }
}
