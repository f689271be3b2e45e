//! A machine that does not give what the server needs: each time a clear message, and no damage.
//!
//! What needs root (mounts, other users) is left out with a message where there is none.

use crate::floods::Attacker;
use crate::life::refusal;
use crate::load::{Acked, Load};
use crate::screen::Started;
use crate::support::call::Client;
use crate::support::dice::Dice;
use crate::support::mount::{Mount, folder, goes_well};
use crate::support::peers::{self, under_test, under_test_is_ours};
use crate::support::server::{PATIENCE, Server, command, free_ports};
use crate::support::{block_on, http1, say};
use ringd::api::proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Small segments, so that a small file system holds some.
const SMALL_SEGMENTS: [&str; 2] = ["--wal-segment-bytes", "8388608"];
/// Larger than any load here comes to: until the server has ended.
pub(crate) const UNTIL_IT_ENDS: usize = 1 << 40;

/// The server's refusal to start on `data`; all `parts` are in it.
pub(crate) fn refused(data: &Path, extra: &[&str], parts: &[&str]) {
    let (client_port, peer_port) = free_ports();
    let extra: Vec<_> = extra.iter().map(|&flag| flag.to_owned()).collect();
    says(refusal(&mut command(&under_test(), data, client_port, peer_port, &extra)), parts);
}

pub(crate) fn says(text: String, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

/// Every acknowledged put is there.
pub(crate) async fn read_back(port: u16, acked: &[Acked]) {
    let client = Client::connect(port).await.expect("it answers");
    for Acked { key, value, revision } in acked {
        let at = RangeRequest { key: key.clone(), revision: *revision, ..RangeRequest::default() };
        let answer: RangeResponse =
            client.unary("/etcdserverpb.KV/Range", &at).await.expect("a read is answered");
        assert_eq!(answer.kvs.first().map(|kv| &kv.value), Some(value), "lost: {key:?}");
    }
}

#[test]
fn file_systems_in_memory_do_and_are_warned_of() {
    if !under_test_is_ours() {
        return;
    }
    for (kind, warning) in [("ramfs", "no direct I/O"), ("tmpfs", "in memory")] {
        let Some(mount) = Mount::new(kind, "mode=0755") else { return };
        let mut server = Server::start_at(&under_test(), Some(mount.data()), &SMALL_SEGMENTS);
        let log = server.log();
        assert_eq!(log.matches(warning).count(), 1, "one warning of {kind}:\n{log}");
        let history = block_on(async {
            let mut load = Load::start(server.port(), kind, &mut Dice::new(1)).await;
            assert!(load.acked(300).await, "{}", server.log());
            server.kill();
            load.ended().await
        });
        server.restart();
        block_on(read_back(server.port(), &history.acked));
        server.kill();
    }
}

#[test]
fn a_full_disk_is_named_at_the_start() {
    let Some(mount) = Mount::new("tmpfs", "size=8m") else { return };
    if !under_test_is_ours() {
        return;
    }
    let data = mount.data();
    let parts = [data.to_str().expect("text"), "No space left on device", "make space"];
    refused(&data, &[], &parts);
    mount.remount("size=400m");
    drop(Server::start_at(&under_test(), Some(data), &[]));
    // Not a byte more: not even for the file that says who holds the directory.
    let Some(mount) = Mount::new("tmpfs", "size=4k") else { return };
    fs::write(mount.path().join("full"), [0; 4096]).expect("it just fits");
    refused(&mount.path().join("data"), &[], &["No space left on device", "make space"]);
}

#[test]
fn a_disk_that_fills_up_loses_nothing_acknowledged() {
    if !under_test_is_ours() {
        return;
    }
    let Some(mount) = Mount::new("tmpfs", "size=50m") else { return };
    let mut server = Server::start_at(&under_test(), Some(mount.data()), &SMALL_SEGMENTS);
    let history = block_on(async {
        let mut load = Load::start(server.port(), "full", &mut Dice::new(1)).await;
        assert!(!load.acked(UNTIL_IT_ENDS).await, "the disk is full some time");
        load.ended().await
    });
    let (status, log) = server.ended_within(PATIENCE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{log}");
    says(log, &["fatal", "shard-0/wal", "No space left on device", "make space"]);
    assert!(history.acked.len() > 100, "some were acknowledged");
    mount.remount("size=200m");
    server.restart();
    block_on(async {
        read_back(server.port(), &history.acked).await;
        let mut load = Load::start(server.port(), "more", &mut Dice::new(2)).await;
        assert!(load.acked(100).await, "it goes on: {}", server.log());
    });
}

#[test]
fn a_directory_that_can_not_be_written_is_refused() {
    if !under_test_is_ours() {
        return;
    }
    let Some(mount) = Mount::new("tmpfs", "size=64m") else { return };
    let data = mount.data();
    drop(Server::start_at(&under_test(), Some(data.clone()), &SMALL_SEGMENTS));
    mount.remount("ro");
    let parts = [data.to_str().expect("text"), "Read-only file system", "must be writable"];
    refused(&data, &SMALL_SEGMENTS, &parts);
}

#[test]
fn the_data_of_an_etcd_is_refused_and_left_alone() {
    if !under_test_is_ours() {
        return;
    }
    let mut etcd = Server::start(&peers::etcd());
    etcd.kill();
    refused(&etcd.data(), &[], &["etcd server", "--data-dir", "make-mirror"]);
    etcd.restart();
}

/// A folder that other users may reach, with the server in it.
fn for_everyone() -> (TempDir, PathBuf) {
    let dir = TempDir::with_prefix("ringd-").expect("a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let program = dir.path().join("ringd");
    fs::copy(under_test(), &program).expect("there is room");
    (dir, program)
}

#[test]
fn too_little_locked_memory_is_told_with_the_remedy() {
    if !under_test_is_ours() {
        return;
    }
    let (dir, program) = for_everyone();
    let nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups";
    for (user, kib) in [("exec", 64), (nobody, 64), (nobody, 600)] {
        if user == nobody && !goes_well(Command::new("sh").args(["-c", &format!("{user} true")])) {
            say("locked memory of other users: skipped, setpriv does not work here");
            continue;
        }
        let (data, (client_port, peer_port)) = (dir.path().join("data"), free_ports());
        let extra = ["--cores".to_owned(), "2".to_owned()];
        if kib == 600 && std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
            continue;
        }
        let server = command(&program, &data, client_port, peer_port, &extra);
        let mut limited = Command::new("sh");
        let script = format!("ulimit -l {kib} && {user} \"$0\" \"$@\"");
        limited.args(["-c", &script]).arg(&program).args(server.get_args()).current_dir(dir.path());
        let text = refusal(&mut limited);
        let limit = format!("limit is {kib} KiB");
        says(text, &["too little locked memory", &limit, "ulimit -l", "LimitMEMLOCK"]);
    }
}

/// Runs what follows with `io_uring_setup` answered by the error whose number comes first.
const WITHOUT_IO_URING: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def rule(code, jt, jf, k):
    return struct.pack('HBBI', code, jt, jf, k)
# Load the call's number; is it io_uring_setup?
rules = rule(0x20, 0, 0, 0) + rule(0x15, 0, 1, 425)
rules += rule(0x06, 0, 0, 0x00050000 | int(sys.argv[1])) + rule(0x06, 0, 0, 0x7fff0000)
kept = ctypes.create_string_buffer(rules)
program = struct.pack('HxxxxxxP', 4, ctypes.addressof(kept))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(77)
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn forbidden_io_uring_is_told_with_the_remedy() {
    if !under_test_is_ours() {
        return;
    }
    let python = |errno: &str, program: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", WITHOUT_IO_URING, errno, program]);
        command
    };
    if !goes_well(&mut python("1", "/bin/true")) {
        return say("io_uring forbidden: skipped, python3 can not set a filter here");
    }
    let dir = folder("forbidden-");
    for (errno, part) in [("1", "not permitted"), ("13", "not permitted"), ("38", "Linux 5.8")] {
        let program = under_test();
        let (client_port, peer_port) = free_ports();
        let server = command(&program, &dir.path().join("data"), client_port, peer_port, &[]);
        let mut filtered = python(errno, program.to_str().expect("text"));
        let text = refusal(filtered.args(server.get_args()));
        says(text, &["io_uring", part]);
        assert!(!dir.path().join("data").exists(), "nothing was begun");
    }
}

/// The files of a stopped node's log, in order.
fn segments(server: &Server) -> Vec<PathBuf> {
    let wal = server.data().join("shard-0/wal");
    let entries = fs::read_dir(wal).expect("the log is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files.retain(|file| {
        let mut magic = [0; 64];
        let file = fs::File::open(file).expect("readable");
        file.read_exact_at(&mut magic, 0).is_ok() && magic.iter().any(|byte| *byte != 0)
    });
    files
}

/// A stopped node that has written a few segments.
fn stopped() -> Server {
    let mut server = Server::start_with(&under_test(), &SMALL_SEGMENTS);
    block_on(async {
        let client = Client::connect(server.port()).await.expect("it answers");
        // Three segments of the log, and less than what the store seals: all of it is needed.
        for number in 0..15 {
            let (key, value) = (format!("k{number}").into(), vec![b'v'; 1 << 20].into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            let put: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
            put.expect("a put is answered");
        }
    });
    server.kill();
    server
}

#[test]
fn damage_to_the_log_is_named_by_file_and_offset() {
    if !under_test_is_ours() {
        return;
    }
    let server = stopped();
    let files = segments(&server);
    assert!(files.len() >= 3, "some segments: {files:?}");
    let first = files[0].to_str().expect("text");
    let name = first.rsplit('/').next().expect("a name");

    let bytes = fs::read(&files[0]).expect("readable");
    let mut bent = bytes.clone();
    bent[3 * 4096 + 100] ^= 4;
    fs::write(&files[0], &bent).expect("writable");
    refused(&server.data(), &SMALL_SEGMENTS, &["shard-0/wal", name, "at byte 12288"]);
    fs::write(&files[0], &bytes[..bytes.len() / 2]).expect("writable");
    refused(&server.data(), &SMALL_SEGMENTS, &["shard-0/wal", name]);

    // A segment that is missing: the first, and one in the middle.
    fs::remove_file(&files[0]).expect("removable");
    refused(&server.data(), &SMALL_SEGMENTS, &["shard-0/wal"]);
    fs::write(&files[0], &bytes).expect("writable");
    let middle = fs::read(&files[1]).expect("readable");
    fs::remove_file(&files[1]).expect("removable");
    refused(&server.data(), &SMALL_SEGMENTS, &["shard-0/wal"]);
    fs::write(&files[1], middle).expect("writable");

    // All of them, and the folder.
    let wal = server.data().join("shard-0/wal");
    fs::rename(&wal, server.data().join("away")).expect("movable");
    refused(&server.data(), &SMALL_SEGMENTS, &["shard-0/wal", "log is not in", "backup"]);
    fs::remove_dir_all(&wal).expect("removable");
    fs::rename(server.data().join("away"), &wal).expect("movable");

    let identity = server.data().join("identity");
    let text = fs::read(&identity).expect("readable");
    for len in [0, 10, text.len() - 1] {
        fs::write(&identity, &text[..len]).expect("writable");
        refused(&server.data(), &SMALL_SEGMENTS, &["identity", "backup"]);
    }
    fs::write(&identity, [0xff; 30]).expect("writable");
    refused(&server.data(), &SMALL_SEGMENTS, &["identity", "backup"]);
    fs::write(&identity, text).expect("writable");
    let mut server = server;
    server.restart();
}

#[test]
fn log_outputs_that_can_not_be_opened_are_named_and_full_ones_passed_over() {
    if !under_test_is_ours() {
        return;
    }
    let dir = folder("outputs-");
    let nowhere = dir.path().join("no/where.log");
    let nowhere = nowhere.to_str().expect("text");
    refused(&dir.path().join("data"), &["--log-outputs", nowhere], &["--log-outputs", nowhere]);
    if Path::new("/dev/full").exists() {
        let server = Server::start_with(&under_test(), &["--log-outputs", "/dev/full,stderr"]);
        assert_eq!(http1::get(server.port(), "/health").expect("it answers").status, 200);
    }
}

#[test]
fn out_of_files_it_serves_whom_it_has_and_takes_others_later() {
    if !under_test_is_ours() {
        return;
    }
    let (dir, (client_port, peer_port)) = (folder("files-"), free_ports());
    let program = under_test();
    let server = command(&program, &dir.path().join("data"), client_port, peer_port, &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]).arg(&program);
    let server = Started::new(limited.args(server.get_args()));
    let connect = || Attacker::new(client_port, &[]);
    block_on(async {
        let client = Client::connect(client_port).await.expect("it answers");
        let many: Vec<_> = (0..150).map(|_| connect()).collect();
        for number in 0..20 {
            let (key, value) = (format!("k{number}").into(), "v".into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            let put: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
            put.expect("who is in is served");
        }
        drop(many);
        assert!((0..100).any(|_| connect().read()), "there is room again");
    });
    let log = server.end();
    let advice = log.matches("ulimit -n").count();
    assert!((1..=25).contains(&advice), "told, and not all the time:\n{log}");
}
