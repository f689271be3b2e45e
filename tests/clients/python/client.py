"""Put, get, delete, a transaction and a compaction with grpcio: client.py ADDRESS, beside the modules made from proto/."""

import sys

import etcdserverpb_pb2 as pb
import etcdserverpb_pb2_grpc as rpc
import grpc

OWN = b"python/"
END = b"python0"


def refused(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (code, text), error
    else:
        raise AssertionError(f"expected: {text}")


def history(kv):
    put = lambda n: pb.RequestOp(request_put=pb.PutRequest(key=OWN + b"l%02d" % n, value=b"old"))
    get = pb.RequestOp(request_range=pb.RangeRequest(key=OWN + b"l00"))
    absent = pb.Compare(result="EQUAL", target="CREATE", key=OWN + b"l00", create_revision=0)
    txn = pb.TxnRequest(compare=[absent], success=[put(n) for n in range(50)] + [get], failure=[get])
    first = kv.Txn(txn)
    assert first.succeeded, first
    assert first.responses[50].response_range.kvs[0].value == b"old", first
    second = kv.Txn(txn)
    assert not second.succeeded and len(second.responses) == 1, second
    refused(
        lambda: kv.Txn(pb.TxnRequest(success=[put(0), put(0)])),
        grpc.StatusCode.INVALID_ARGUMENT,
        "etcdserver: duplicate key given in txn request",
    )

    then = first.header.revision
    keys, start = [], OWN
    while True:
        page = kv.Range(pb.RangeRequest(key=start, range_end=END, limit=7, revision=then))
        keys += [pair.key for pair in page.kvs]
        assert all(pair.value == b"old" for pair in page.kvs), page
        kv.Put(pb.PutRequest(key=keys[-1], value=b"new"))
        start = keys[-1] + b"\0"
        if not page.more:
            break
    assert len(keys) == 50 and keys == sorted(keys), keys
    chunks = list(kv.RangeStream(pb.RangeRequest(key=OWN, range_end=END, revision=then)))
    streamed = [pair.key for chunk in chunks for pair in chunk.range_response.kvs]
    assert streamed == keys, streamed
    assert chunks[-1].range_response.count == 50, chunks[-1]

    now = kv.Range(pb.RangeRequest(key=OWN, range_end=END)).header.revision
    kv.Compact(pb.CompactionRequest(revision=now, physical=True))
    compacted = "etcdserver: mvcc: required revision has been compacted"
    past = pb.RangeRequest(key=OWN, revision=then)
    refused(lambda: kv.Range(past), grpc.StatusCode.OUT_OF_RANGE, compacted)
    again = pb.CompactionRequest(revision=now)
    refused(lambda: kv.Compact(again), grpc.StatusCode.OUT_OF_RANGE, compacted)
    assert kv.Range(pb.RangeRequest(key=OWN, range_end=END, revision=now)).count == 50


def many(kv):
    # Each call of grpcio's sends two small window updates, of which a flood ends a connection.
    for number in range(1500):
        value = b"%d" % number
        put = kv.Put(pb.PutRequest(key=OWN + b"many", value=value))
        (pair,) = kv.Range(pb.RangeRequest(key=OWN + b"many")).kvs
        assert (pair.value, pair.mod_revision) == (value, put.header.revision), pair


def main(address):
    with grpc.insecure_channel(address) as channel:
        kv = rpc.KVStub(channel)
        first = kv.Put(pb.PutRequest(key=OWN + b"a", value=b"1")).header.revision
        again = kv.Put(pb.PutRequest(key=OWN + b"a", value=b"2", prev_kv=True))
        assert again.header.revision == first + 1, again
        assert again.prev_kv.value == b"1", again
        kv.Put(pb.PutRequest(key=OWN + b"\x00\xff"))

        got = kv.Range(pb.RangeRequest(key=OWN + b"a"), timeout=10)
        (pair,) = got.kvs
        assert (pair.value, pair.version) == (b"2", 2), got
        assert (pair.create_revision, pair.mod_revision) == (first, first + 1), got
        old = kv.Range(pb.RangeRequest(key=OWN + b"a", revision=first))
        assert old.kvs[0].value == b"1", old
        page = kv.Range(pb.RangeRequest(key=OWN, range_end=END, limit=1))
        assert (page.count, page.more, len(page.kvs)) == (2, True, 1), page

        refused(
            lambda: kv.Range(pb.RangeRequest(key=OWN, revision=1 << 40)),
            grpc.StatusCode.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
        )
        refused(
            lambda: kv.Put(pb.PutRequest()),
            grpc.StatusCode.INVALID_ARGUMENT,
            "etcdserver: key is not provided",
        )

        value = b"v" * 1000
        puts = [kv.Put.future(pb.PutRequest(key=OWN + b"n%d" % n, value=value)) for n in range(200)]
        assert len({put.result().header.revision for put in puts}) == 200
        full = kv.Range(pb.RangeRequest(key=OWN, range_end=END))
        assert full.count == len(full.kvs) == 202, full.count

        gone = kv.DeleteRange(pb.DeleteRangeRequest(key=OWN + b"a", prev_kv=True))
        assert (gone.deleted, gone.prev_kvs[0].value) == (1, b"2"), gone
        rest = kv.DeleteRange(pb.DeleteRangeRequest(key=OWN, range_end=END))
        assert rest.deleted == 201, rest
        empty = kv.Range(pb.RangeRequest(key=OWN, range_end=END))
        assert (empty.count, len(empty.kvs)) == (0, 0), empty
        history(kv)
        many(kv)
    print("ok")


main(sys.argv[1])
