//! What flags about keys and history lead to, and how bad ones are refused.

use crate::compare::same;
use crate::generate::Op;
use crate::pair::Pair;
use crate::support::block_on;
use crate::support::call::Client;
use crate::support::peers;
use crate::support::process::run;
use crate::support::server::{PATIENCE, command, free_ports};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, PutRequest, PutResponse, RangeRequest, RequestOp, TxnRequest,
};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const PUT: &str = "/etcdserverpb.KV/Put";
const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";

/// Bytes of `--max-request-bytes` by default.
const REQUEST_BYTES: usize = 1_572_864;
/// Bytes that etcd counts of a proposal beside its request, at most.
const PROPOSAL_HEAD: usize = 20;

fn put(number: usize, size: usize) -> RequestOp {
    let (key, value) = (format!("key/{number:06}").into(), vec![b'v'; size].into());
    let put = PutRequest { key, value, ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

fn puts(count: usize, size: usize) -> TxnRequest {
    TxnRequest { success: (0..count).map(|it| put(it, size)).collect(), ..TxnRequest::default() }
}

fn everything() -> Op {
    let zero = Bytes::from_static(b"\0");
    Op::Range(RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() })
}

/// What a transaction takes is counted in the bytes that its client has sent, however many
/// operations they are.
#[test]
fn the_largest_transactions_are_taken_or_refused_alike() {
    use prost::Message;
    block_on(async {
        let mut pair = Pair::start_with(&["--max-txn-ops", "3000"]).await;
        for count in [1, 128, 3000] {
            let room = REQUEST_BYTES - PROPOSAL_HEAD;
            let whole = puts(count, 100).encoded_len() - 100 * count;
            let mut txn = puts(count, (room - whole) / count - 10);
            // What is still free goes to the last value.
            let free = room - txn.encoded_len();
            let Some(Request::RequestPut(last)) = &mut txn.success[count - 1].request else {
                unreachable!("it is a put")
            };
            last.value = vec![b'v'; last.value.len() + free.saturating_sub(8)].into();
            let size = txn.encoded_len();
            assert!((room - 16..=room).contains(&size), "{size} of {room}");
            let seen = pair.compare(&Op::Txn(txn.clone())).await;
            let seen = seen.unwrap_or_else(|why| panic!("{count} operations: {why}"));
            assert!(seen.revision.is_some(), "{count} operations are taken");
            pair.fill([everything()]).await;
            txn.failure = vec![put(0, 40)];
            pair.fill([Op::Txn(txn)]).await;
        }
    });
}

#[test]
fn no_operations_may_be_allowed_alike() {
    let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let read = RequestOp { request: Some(Request::RequestRange(read)) };
    block_on(async {
        let mut pair = Pair::start_with(&["--max-txn-ops", "0"]).await;
        let reads = TxnRequest { success: vec![read], ..TxnRequest::default() };
        pair.fill([puts(0, 1), puts(1, 1), reads].map(Op::Txn)).await;
    });
}

/// Why a program did not start: the first error in its log, or the first line that is text.
fn reason(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut reasons = lines.filter_map(|line| match serde_json::from_str(line) {
        Ok(Value::Object(log)) => log.get("error").and_then(Value::as_str).map(str::to_owned),
        // What was probably meant is ours to say.
        Ok(_) | Err(_) => line.split(" (did you mean").next().map(str::to_owned),
    });
    reasons.next()
}

/// How a program ends that is started so: its exit code and why.
fn refusal(
    program: &Path,
    flags: &[&str],
    variable: (&str, &str),
) -> (Option<i32>, Option<String>) {
    let folder = TempDir::with_prefix_in("flags-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let (client, peer) = free_ports();
    let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let mut command = command(program, &folder.path().join("data"), client, peer, &flags);
    command.env(variable.0, variable.1).current_dir(folder.path());
    let output = run(&mut command, PATIENCE).unwrap_or_else(|why| panic!("{why}"));
    (output.status.code(), reason(&output.stderr))
}

#[test]
fn bad_flags_are_refused_alike() {
    let retentions = ["x", "-1", "1d", "1h5", "1.5", " 1", "1_0", "0x10", "1h 5m", "h", ".s", "+"];
    let retentions = retentions.map(|it| format!("--auto-compaction-retention={it}"));
    let large = format!("--auto-compaction-retention={}", "9".repeat(20));
    let mut cases: Vec<Vec<&str>> = Vec::new();
    for retention in retentions.iter().chain([&large]) {
        for mode in ["periodic", "revision"] {
            cases.push(vec!["--auto-compaction-mode", mode, retention]);
        }
    }
    for flag in [
        "--auto-compaction-mode=x",
        "--auto-compaction-mode=",
        "--auto-compaction-mode=Periodic",
        "--auto-compaction-retention",
        "--max-txn-ops=x",
        "--max-txn-ops=-1",
        "--max-txn-ops=",
        "--max-txn-ops=1.5",
        "--max-request-bytes=1k",
        "--max-request-bytes=-1",
        "--max-request-bytes=99999999999999999999",
        "--quota-backend-bytes=x",
        "--quota-backend-bytes=1.5",
        "--quota-backend-bytes=2G",
        "--quota-backend-bytes=9223372036854775808",
        "--compaction-batch-limit=x",
        "--compaction-sleep-interval=10",
        "--experimental-compaction-batch-limit=10",
        "--experimental-compaction-sleep-interval=10ms",
        "--experimental-compact-hash-check-enabled",
        "--experimental-compact-hash-check-time=1m",
        "--experimental-corrupt-check-time=1m",
        "--experimental-initial-corrupt-check",
        "--experimental-txn-mode-write-with-shared-buffer=false",
        "--experimental-warning-apply-duration=1s",
        "--feature-gates=CompactHashCheck",
        "--feature-gates=Nothing=true",
    ] {
        cases.push(vec![flag]);
    }
    let mut wrong = Vec::new();
    let mut compare = |flags: &[&str], variable| {
        let ours = refusal(&peers::under_test(), flags, variable);
        let theirs = refusal(&peers::etcd(), flags, variable);
        assert_ne!(theirs.0, Some(0), "{flags:?} {variable:?}");
        wrong.extend(same(&format!("{flags:?} {variable:?}"), &ours, &theirs).err());
    };
    for flags in cases {
        compare(&flags, ("NOTHING", ""));
    }
    for variable in [
        ("ETCD_AUTO_COMPACTION_RETENTION", "x"),
        ("ETCD_AUTO_COMPACTION_MODE", "x"),
        ("ETCD_MAX_TXN_OPS", "x"),
        ("ETCD_QUOTA_BACKEND_BYTES", "x"),
    ] {
        compare(&[], variable);
    }
    assert!(wrong.is_empty(), "{} are refused differently:\n{}", wrong.len(), wrong.join("\n"));
}

/// Puts that are made until history has been forgotten three times.
const PUTS_MAX: usize = 200_000;
/// Puts between two looks.
const PUTS: usize = 20;

/// Writes until history was forgotten by itself three times: each floor that there was, and the
/// revision when it was seen.
async fn floors(client: &Client) -> Vec<(i64, i64)> {
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    let mut floors: Vec<(i64, i64)> = Vec::new();
    for number in 0..PUTS_MAX {
        client.unary::<PutResponse>(PUT, &put).await.expect("a put is answered");
        if number % PUTS != 0 {
            continue;
        }
        let told = client.unary(HASH_KV, &HashKvRequest { revision: 0 }).await;
        let told: HashKvResponse = told.expect("a hash is answered");
        let floor = told.compact_revision;
        if floor > 0 && floors.last().is_none_or(|last| last.0 != floor) {
            floors.push((floor, told.hash_revision));
        }
        if floors.len() == 3 {
            break;
        }
    }
    floors
}

/// The first time it is all up to the revision at the start, when nothing was written; later, up to
/// what was a period ago.
#[test]
fn history_is_forgotten_by_itself_alike() {
    for mode in [
        &["--auto-compaction-retention", "1s"][..],
        &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1000ms"],
    ] {
        block_on(async {
            let pair = Pair::start_with(mode).await;
            let (ours, theirs) = tokio::join!(floors(&pair.to_ours), floors(&pair.to_theirs));
            for floors in [ours, theirs] {
                assert!(floors.len() == 3 && floors[0].0 == 1, "{floors:?}");
                assert!(floors.is_sorted_by(|one, next| one.0 < next.0), "{floors:?}");
                assert!(floors.iter().all(|(floor, now)| floor < now), "{floors:?}");
            }
        });
    }
}
