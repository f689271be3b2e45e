"""All endpoints of a cluster in one channel, which goes on while one member is away: cluster.py ADDRESS,ADDRESS,...

Prints `kill` where a member is to be killed and `restart` where it is to be started again, and reads a line once that is done.
"""

import sys
import time

import etcdserverpb_pb2 as pb
import etcdserverpb_pb2_grpc as rpc
import grpc

PATIENCE = 60
COUNT = 100


def persist(call):
    """Calls until it is answered; what may have been done is done again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call(timeout=3)
        except grpc.RpcError as error:
            passes = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if not passes or time.monotonic() > end:
                raise


def work(kv, start):
    # Each key is put once, so that what was done twice, and late, is seen by nobody.
    for number in range(start, start + COUNT):
        key, value = b"python/%04d" % number, b"%d" % number
        put = persist(lambda timeout: kv.Put(pb.PutRequest(key=key, value=value), timeout=timeout))
        get = persist(lambda timeout: kv.Range(pb.RangeRequest(key=key), timeout=timeout))
        (pair,) = get.kvs
        assert pair.value == value and get.header.revision >= put.header.revision, (put, get)


def ask(word):
    print(word, flush=True)
    sys.stdin.readline()


def main():
    options = [("grpc.lb_policy_name", "round_robin")]
    channel = grpc.insecure_channel("ipv4:" + sys.argv[1], options=options)
    kv = rpc.KVStub(channel)
    work(kv, 0)
    for turn in range(3):
        ask("kill")
        work(kv, (2 * turn + 1) * COUNT)
        ask("restart")
        work(kv, (2 * turn + 2) * COUNT)
    every = pb.RangeRequest(key=b"python/", range_end=b"python0")
    pairs = persist(lambda timeout: kv.Range(every, timeout=timeout)).kvs
    assert [int(pair.value) for pair in pairs] == list(range(7 * COUNT)), len(pairs)
    print("ok")


main()
