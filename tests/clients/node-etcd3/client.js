// Watches, leases, locks, elections and software transactions with etcd3: node client.js ADDRESS
//
// Prints what it is at; `restart` where the server is to be killed and started again, and reads a line
// once that is done.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const readline = require("node:readline");
const { Etcd3, EtcdLockFailedError } = require("etcd3");

// The next `count` events of a watcher, in order, as they come.
function events(watcher, count) {
  return new Promise((resolve, reject) => {
    const found = [];
    watcher.on("error", reject);
    watcher.on("data", (answer) => {
      found.push(...answer.events);
      if (found.length >= count) resolve(found);
    });
  });
}

const seen = ({ type, kv }) => [type, kv.key.toString(), kv.value.toString()];
const revision = async (answer) => Number((await answer).header.revision);

async function watches(etcd) {
  const first = await revision(etcd.put("watch/a").value("1"));
  // Who listens late misses what was before: it may come with the answer to the creation.
  const builder = etcd.watch().prefix("watch/").startRevision(String(first)).withPreviousKV();
  const live = builder.watcher();
  const four = events(live, 4);
  await once(live, "connected");
  await etcd.put("watch/b").value("2");
  await etcd.put("other").value("3");
  await etcd.put("watch/a").value("4");
  await etcd.delete().key("watch/a");
  const found = await four;
  assert.deepEqual(found.map(seen), [
    ["Put", "watch/a", "1"],
    ["Put", "watch/b", "2"],
    ["Put", "watch/a", "4"],
    ["Delete", "watch/a", ""],
  ]);
  const previous = found.map((event) => event.prev_kv && event.prev_kv.value.toString());
  assert.deepEqual(previous, [null, null, "1", "4"]);
  assert.deepEqual(found.map((event) => event.kv.mod_revision - first), [0, 1, 3, 4]);
  await live.cancel();

  // Filters, and several watchers on one stream.
  const start = String(first + 1);
  const puts = etcd.watch().prefix("watch/").startRevision(start).only("put").watcher();
  const deletes = etcd.watch().prefix("watch/").startRevision(start).only("delete").watcher();
  const told = [events(puts, 3), events(deletes, 2)];
  await Promise.all([once(puts, "connected"), once(deletes, "connected")]);
  const [put, gone] = await Promise.all([...told, last(etcd)]);
  assert.deepEqual(put.map(seen).map(([, key]) => key), ["watch/b", "watch/a", "watch/b"]);
  assert.deepEqual(gone.map(seen), [["Delete", "watch/a", ""], ["Delete", "watch/b", ""]]);
  assert.equal(puts.lastRevision() <= deletes.lastRevision(), true);
  await Promise.all([puts.cancel(), deletes.cancel()]);

  await etcd.kv.compact({ revision: first + 3, physical: true });
  const late = etcd.watch().key("watch/a").startRevision(String(first)).watcher();
  const [error] = await once(late, "error");
  // The server gives no reason, and says the revision instead, which this client does not show.
  assert.equal(error.message, "Watcher canceled: ");
}

async function last(etcd) {
  await etcd.put("watch/b").value("5");
  await etcd.delete().key("watch/b");
}

async function leases(etcd) {
  const lease = etcd.lease(600);
  await lease.put("lease/a").value("1");
  await lease.put("lease/b").value("2");
  const id = await lease.grant();
  const pair = (await etcd.get("lease/a").exec()).kvs[0];
  assert.equal(pair.lease, id);
  assert.equal(Number((await lease.keepaliveOnce()).TTL), 600);
  const told = await etcd.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(Number(told.grantedTTL), 600);
  assert.deepEqual(told.keys.map(String).sort(), ["lease/a", "lease/b"]);
  assert.ok((await etcd.leaseClient.leaseLeases()).leases.some((other) => other.ID === id));

  const watcher = await etcd.watch().prefix("lease/").create();
  const two = events(watcher, 2);
  await lease.revoke();
  const gone = await two;
  assert.deepEqual(gone.map(seen), [["Delete", "lease/a", ""], ["Delete", "lease/b", ""]]);
  assert.equal(gone[0].kv.mod_revision, gone[1].kv.mod_revision);
  await watcher.cancel();

  // Kept alive by the client for longer than it would live; another that nobody keeps ends.
  const [kept, left] = [etcd.lease(2), etcd.lease(2, { autoKeepAlive: false })];
  await kept.put("lease/kept").value("1");
  await left.put("lease/left").value("1");
  const ended = etcd.watch().key("lease/left").watcher();
  await once(ended, "delete");
  assert.equal(await etcd.get("lease/kept").string(), "1");
  await once(kept, "keepaliveSucceeded");
  await ended.cancel();
  const lost = once(kept, "lost");
  await etcd.leaseClient.leaseRevoke({ ID: await kept.grant() });
  await lost;
  assert.equal(kept.revoked(), true);
}

async function locks(etcd) {
  const held = etcd.lock("held").ttl(600);
  await held.acquire();
  await assert.rejects(etcd.lock("held").ttl(600).acquire(), EtcdLockFailedError);
  await held.release();

  // No two in there at the same time; who does not get in tries again.
  let [inside, entered] = [0, 0];
  const work = async () => {
    for (let turns = 0; turns < 5; ) {
      try {
        await etcd.lock("counted").ttl(600).do(async () => {
          inside += 1;
          assert.equal(inside, 1);
          const count = Number((await etcd.get("count").string()) ?? 0);
          await etcd.put("count").value(count + 1);
          inside -= 1;
        });
        turns += 1;
        entered += 1;
      } catch (error) {
        if (!(error instanceof EtcdLockFailedError)) throw error;
      }
    }
  };
  await Promise.all([work(), work(), work()]);
  assert.equal(entered, 15);
  assert.equal(await etcd.get("count").string(), "15");
}

async function elections(etcd) {
  const election = etcd.election("job", 600);
  assert.equal(await election.leader(), undefined);
  const observer = await election.observe();
  const changes = [];
  observer.on("change", (leader) => changes.push(leader));
  const changed = (leader) =>
    new Promise((resolve) => {
      if (changes.includes(leader)) return resolve();
      observer.on("change", (now) => now === leader && resolve());
    });

  const first = election.campaign("first");
  await first.wait();
  await changed("first");
  assert.equal(await election.leader(), "first");
  const second = election.campaign("second");
  const elected = second.wait();
  await once(second, "_isWaiting");
  await first.proclaim("first again");
  await changed("first again");
  await first.resign();
  await elected;
  await changed("second");
  assert.equal(await election.leader(), "second");
  await assert.rejects(first.proclaim("too late"));
  await second.resign();
  await changed(undefined);
  assert.equal(observer.hasLeader, false);
  assert.deepEqual(changes, ["first", "first again", "second", undefined]);
  await observer.cancel();
}

async function transactions(etcd) {
  // Of one revision, or this client takes the younger for a conflict.
  const both = [etcd.put("stm/a").value(100), etcd.put("stm/b").value(0)];
  assert.equal((await etcd.if("stm/a", "Create", "==", 0).then(...both).commit()).succeeded, true);
  const move = () =>
    etcd.stm({ retries: 100 }).transact(async (tx) => {
      const [a, b] = [Number(await tx.get("stm/a")), Number(await tx.get("stm/b"))];
      await tx.put("stm/a").value(a - 1);
      await tx.put("stm/b").value(b + 1);
    });
  await Promise.all([...Array(10)].map(move));
  assert.equal(await etcd.get("stm/a").string(), "90");
  assert.equal(await etcd.get("stm/b").string(), "10");
}

// A watcher outlives its server: it goes on where it was.
async function interrupted(etcd) {
  const first = await revision(etcd.put("restart/a").value("1"));
  const watcher = etcd.watch().prefix("restart/").startRevision(String(first)).watcher();
  const three = events(watcher, 3);
  await once(watcher, "data");
  const gone = once(watcher, "disconnected");
  const lines = readline.createInterface({ input: process.stdin });
  console.log("restart");
  await Promise.all([gone, once(lines, "line")]);
  lines.close();
  for (const value of ["2", "3"]) {
    await etcd.put("restart/b").value(value);
  }
  const found = (await three).map(seen);
  assert.deepEqual(found.map(([, , value]) => value), ["1", "2", "3"]);
  await watcher.cancel();
}

async function main(address) {
  const etcd = new Etcd3({ hosts: `http://${address}` });
  for (const part of [watches, leases, locks, elections, transactions, interrupted]) {
    console.log(part.name);
    await part(etcd);
  }
  etcd.close();
  console.log("ok");
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
