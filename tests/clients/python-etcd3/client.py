"""Watches, leases, locks and an election with etcd3: client.py ADDRESS.

Prints what it is at; `restart` where the server is to be killed and started again, and reads a line once that is done.
"""

import sys
import threading

import etcd3
from etcd3.events import DeleteEvent, PutEvent
from etcd3.exceptions import ConnectionFailedError, RevisionCompactedError

PATIENCE = 60


def connect():
    host, port = sys.argv[1].rsplit(":", 1)
    return etcd3.client(host=host, port=int(port), timeout=PATIENCE)


def put(etcd, key, value, **options):
    return etcd.put(key, value, **options).header.revision


def seen(event):
    return (type(event), event.key, event.value)


def watches(etcd):
    first = put(etcd, "watch/a", "1")
    # History from a revision on, then what happens, in order.
    events, cancel = etcd.watch_prefix("watch/", start_revision=first, prev_kv=True)
    put(etcd, "watch/b", "2")
    put(etcd, "other", "3")
    put(etcd, "watch/a", "4")
    etcd.delete("watch/a")
    expected = [
        (PutEvent, b"watch/a", b"1"),
        (PutEvent, b"watch/b", b"2"),
        (PutEvent, b"watch/a", b"4"),
        (DeleteEvent, b"watch/a", b""),
    ]
    found = [next(events) for _ in expected]
    assert [seen(event) for event in found] == expected, found
    assert [event.prev_value for event in found] == [b"", b"", b"1", b"4"]
    assert [event.mod_revision - first for event in found] == [0, 1, 3, 4]
    assert found[2].create_revision == first and found[2].version == 2
    cancel()
    assert next(events, None) is None

    # One key, and only what comes from now on; then one event and no more.
    responses, cancel = etcd.watch_response("watch/b")
    put(etcd, "watch/bb", "4")
    last = put(etcd, "watch/b", "5")
    response = next(responses)
    assert [seen(event) for event in response.events] == [(PutEvent, b"watch/b", b"5")]
    assert response.header.revision == last
    cancel()
    once = etcd.watch_once("watch/b", timeout=PATIENCE, start_revision=last)
    assert seen(once) == (PutEvent, b"watch/b", b"5")

    # A message without events says how far the watch has come.
    responses, cancel = etcd.watch_response("watch/quiet", progress_notify=True)
    response = next(responses)
    assert not response.events and response.header.revision >= last
    cancel()

    # What was compacted cannot be watched.
    etcd.compact(last, physical=True)
    events, cancel = etcd.watch("watch/b", start_revision=first)
    try:
        next(events)
    except RevisionCompactedError as error:
        assert error.compacted_revision == last
    else:
        raise AssertionError("history before a compaction was watched")


def leases(etcd):
    lease = etcd.lease(600)
    assert lease.ttl == 600 and lease.granted_ttl == 600
    chosen = etcd.lease(600, lease_id=77)
    assert chosen.id == 77
    start = put(etcd, "lease/a", "1", lease=lease)
    put(etcd, "lease/b", "2", lease=lease)
    put(etcd, "lease/c", "3", lease=chosen)
    assert sorted(lease.keys) == [b"lease/a", b"lease/b"] and list(chosen.keys) == [b"lease/c"]
    assert 0 < lease.remaining_ttl <= 600
    (kept,) = lease.refresh()
    assert (kept.ID, kept.TTL) == (lease.id, 600)
    _, meta = etcd.get("lease/a")
    assert meta.lease_id == lease.id
    # A key moves to the lease of its last put.
    put(etcd, "lease/b", "4", lease=chosen)
    lease.revoke()
    assert etcd.get("lease/a") == (None, None) and etcd.get("lease/b")[0] == b"4"
    chosen.revoke()
    events, cancel = etcd.watch_prefix("lease/", start_revision=start)
    found = [next(events) for _ in range(7)]
    cancel()
    gone = [(event.key, event.mod_revision) for event in found[4:]]
    assert [key for key, _ in gone] == [b"lease/a", b"lease/b", b"lease/c"], gone
    assert gone[1][1] == gone[2][1] == gone[0][1] + 1, "all keys of a lease go at once"
    (kept,) = lease.refresh()
    assert kept.TTL == 0 and lease.remaining_ttl == -1

    # Nobody refreshes this one.
    short = etcd.lease(2)
    start = put(etcd, "lease/short", "1", lease=short)
    events, cancel = etcd.watch("lease/short", start_revision=start + 1)
    assert isinstance(next(events), DeleteEvent)
    cancel()
    assert etcd.get("lease/short") == (None, None)


def locks(etcd):
    with etcd.lock("held", ttl=600) as lock:
        assert lock.is_acquired()
        (kept,) = lock.refresh()
        assert kept.TTL == 600
        other = connect().lock("held", ttl=600)
        assert not other.acquire(timeout=1) and not other.is_acquired()
    assert not lock.is_acquired()
    assert other.acquire(timeout=PATIENCE) and other.release()

    # No two in there at the same time.
    inside, entered, failures = [0], [0], []

    def work():
        own = connect()
        try:
            for _ in range(5):
                lock = own.lock("counted", ttl=600)
                assert lock.acquire(timeout=PATIENCE)
                inside[0] += 1
                assert inside[0] == 1, "two hold the same lock"
                count = int(own.get("count")[0] or 0)
                own.put("count", str(count + 1))
                entered[0] += 1
                inside[0] -= 1
                assert lock.release()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert entered == [20] and etcd.get("count")[0] == b"20"

    # A holder that is silent loses it.
    silent = etcd.lock("silent", ttl=2)
    assert silent.acquire(timeout=PATIENCE)
    after = connect().lock("silent", ttl=600)
    assert after.acquire(timeout=PATIENCE) and not silent.is_acquired()
    assert not silent.release() and after.release()


def election(etcd):
    """Who creates the key leads, for as long as its lease lives; the others watch it."""
    leaders, turns = [], threading.Semaphore(0)

    def campaign(name):
        own = connect()
        lease = own.lease(600)
        while not own.put_if_not_exists("leader", name, lease=lease):
            _, meta = own.get("leader")
            if meta is not None:
                events, cancel = own.watch("leader", start_revision=meta.mod_revision + 1)
                while not isinstance(next(events), DeleteEvent):
                    pass
                cancel()
        leaders.append(own.get("leader")[0].decode())
        assert leaders[-1] == name
        turns.acquire()
        lease.revoke()

    candidates = [threading.Thread(target=campaign, args=(name,)) for name in "abc"]
    for candidate in candidates:
        candidate.start()
        turns.release()
    for candidate in candidates:
        candidate.join()
    assert sorted(leaders) == ["a", "b", "c"], leaders
    assert etcd.get("leader") == (None, None)


def interrupted(etcd):
    """A watch ends with the server; the next one begins where it was."""
    lease = etcd.lease(600)
    start = put(etcd, "restart/a", "1", lease=lease)
    events, _ = etcd.watch_prefix("restart/", start_revision=start)
    last = next(events)
    print("restart", flush=True)
    sys.stdin.readline()
    try:
        next(events)
    except ConnectionFailedError:
        pass
    else:
        raise AssertionError("the server was killed")
    while True:
        try:
            events, cancel = etcd.watch_prefix("restart/", start_revision=last.mod_revision + 1)
            break
        except ConnectionFailedError:
            pass
    put(etcd, "restart/b", "2", lease=lease)
    assert seen(next(events)) == (PutEvent, b"restart/b", b"2")
    lease.revoke()
    assert [next(events).key, next(events).key] == [b"restart/a", b"restart/b"]
    cancel()


def main():
    etcd = connect()
    for part in (watches, leases, locks, election, interrupted):
        print(part.__name__, flush=True)
        part(etcd)
    print("ok")


main()
