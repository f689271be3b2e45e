// Put, get, delete, a transaction and a compaction with grpc-js: node client.js ADDRESS FOLDER_OF_PROTOS
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const OWN = "node/";
const END = "node0";

async function main(address, protos) {
  const definition = loader.loadSync(path.join(protos, "etcdserverpb.proto"), {
    includeDirs: [protos],
    keepCase: true,
    longs: Number,
    defaults: true,
  });
  const { etcdserverpb } = grpc.loadPackageDefinition(definition);
  const kv = new etcdserverpb.KV(address, grpc.credentials.createInsecure());
  const call = (method, request) =>
    new Promise((resolve, reject) =>
      kv[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
    );
  const refused = async (method, request, code, details) => {
    await assert.rejects(call(method, request), (error) => {
      assert.equal(error.code, code);
      assert.equal(error.details, details);
      return true;
    });
  };
  const key = (name) => Buffer.from(OWN + name);
  const all = { key: Buffer.from(OWN), range_end: Buffer.from(END) };

  const first = (await call("Put", { key: key("a"), value: Buffer.from("1") })).header.revision;
  const again = await call("Put", { key: key("a"), value: Buffer.from("2"), prev_kv: true });
  assert.equal(again.header.revision, first + 1);
  assert.equal(again.prev_kv.value.toString(), "1");
  await call("Put", { key: Buffer.concat([key(""), Buffer.from([0, 255])]) });

  const [pair] = (await call("Range", { key: key("a") })).kvs;
  assert.equal(pair.value.toString(), "2");
  assert.deepEqual([pair.version, pair.create_revision, pair.mod_revision], [2, first, first + 1]);
  const old = await call("Range", { key: key("a"), revision: first });
  assert.equal(old.kvs[0].value.toString(), "1");
  const page = await call("Range", { ...all, limit: 1 });
  assert.deepEqual([page.count, page.more, page.kvs.length], [2, true, 1]);

  const future = "etcdserver: mvcc: required revision is a future revision";
  await refused("Range", { key: key("a"), revision: 2 ** 40 }, grpc.status.OUT_OF_RANGE, future);
  const keyless = "etcdserver: key is not provided";
  await refused("Put", {}, grpc.status.INVALID_ARGUMENT, keyless);

  const value = Buffer.alloc(1000, "v");
  const puts = [...Array(200).keys()].map((n) => call("Put", { key: key("n" + n), value }));
  const revisions = (await Promise.all(puts)).map((put) => put.header.revision);
  assert.equal(new Set(revisions).size, 200);
  const full = await call("Range", all);
  assert.deepEqual([full.count, full.kvs.length], [202, 202]);

  const gone = await call("DeleteRange", { key: key("a"), prev_kv: true });
  assert.deepEqual([gone.deleted, gone.prev_kvs[0].value.toString()], [1, "2"]);
  assert.equal((await call("DeleteRange", all)).deleted, 201);
  const empty = await call("Range", all);
  assert.deepEqual([empty.count, empty.kvs.length], [0, 0]);

  const put = (n) => ({
    request_put: { key: key("l" + String(n).padStart(2, "0")), value: Buffer.from("old") },
  });
  const get = { request_range: { key: key("l00") } };
  const absent = { result: "EQUAL", target: "VERSION", key: key("l00"), version: 0 };
  const puts50 = [...Array(50).keys()].map(put);
  const txn = { compare: [absent], success: [...puts50, get], failure: [get] };
  const made = await call("Txn", txn);
  assert.equal(made.succeeded, true);
  assert.equal(made.responses[50].response_range.kvs[0].value.toString(), "old");
  const other = await call("Txn", txn);
  assert.deepEqual([other.succeeded, other.responses.length], [false, 1]);
  const duplicate = "etcdserver: duplicate key given in txn request";
  const twice = { success: [put(0), put(0)] };
  await refused("Txn", twice, grpc.status.INVALID_ARGUMENT, duplicate);

  const then = made.header.revision;
  let listed = 0;
  for (let start = all.key, more = true; more; ) {
    const page = await call("Range", { ...all, key: start, limit: 7, revision: then });
    listed += page.kvs.length;
    assert.ok(page.kvs.every((pair) => pair.value.toString() === "old"));
    const last = page.kvs.at(-1).key;
    await call("Put", { key: last, value: Buffer.from("new") });
    start = Buffer.concat([last, Buffer.from([0])]);
    more = page.more;
  }
  assert.equal(listed, 50);
  const chunks = await kv.RangeStream({ ...all, revision: then }).toArray();
  assert.equal(chunks.flatMap((chunk) => chunk.range_response.kvs).length, 50);
  assert.equal(chunks.at(-1).range_response.count, 50);

  const now = (await call("Range", all)).header.revision;
  await call("Compact", { revision: now, physical: true });
  const compacted = "etcdserver: mvcc: required revision has been compacted";
  await refused("Range", { ...all, revision: then }, grpc.status.OUT_OF_RANGE, compacted);
  await refused("Compact", { revision: now }, grpc.status.OUT_OF_RANGE, compacted);
  assert.equal((await call("Range", { ...all, revision: now })).count, 50);
  kv.close();
  console.log("ok");
}

main(process.argv[2], process.argv[3]).catch((error) => {
  console.error(error);
  process.exit(1);
});
