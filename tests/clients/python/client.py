"""Put, get and delete with grpcio: client.py ADDRESS, beside the modules made from proto/."""

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
    print("ok")


main(sys.argv[1])
