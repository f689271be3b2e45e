import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Watches, leases, locks and elections with jetcd: Sessions ADDRESS. Prints what it is at;
 * `restart` where the server is to be killed and started again, and reads a line once that is done.
 */
public final class Sessions {
  private static final long PATIENCE_SECONDS = 60;

  private Sessions() {}

  public static void main(String[] args) throws Exception {
    try (Client client = Client.builder().endpoints("http://" + args[0]).build()) {
      System.out.println("watches");
      watches(client);
      System.out.println("leases");
      leases(client);
      System.out.println("locks");
      locks(client);
      System.out.println("elections");
      elections(client);
      System.out.println("interrupted");
      interrupted(client);
    }
    System.out.println("ok");
    System.exit(0);
  }

  /** What a watcher is told of, one thing after the other. */
  private static final class Told implements Watch.Listener {
    private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();

    @Override
    public void onNext(WatchResponse response) {
      queue.add(response);
    }

    /** A lost connection is told of too, and does not end the watcher. */
    @Override
    public void onError(Throwable error) {
      if (error instanceof CompactedException) {
        queue.add(error);
      }
    }

    @Override
    public void onCompleted() {}

    WatchResponse next() throws Exception {
      Object next = Objects.requireNonNull(queue.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
      if (next instanceof Exception error) {
        throw error;
      }
      return (WatchResponse) next;
    }

    List<String> events(int count) throws Exception {
      List<String> events = new ArrayList<>();
      while (events.size() < count) {
        events.addAll(next().getEvents().stream().map(Sessions::text).toList());
      }
      return events;
    }
  }

  private static void watches(Client client) throws Exception {
    KV kv = client.getKVClient();
    Watch watch = client.getWatchClient();
    long first = put(kv, "watch/a", "1");
    Told all = new Told();
    Told puts = new Told();
    Watch.Watcher watcher = watch.watch(bytes("watch/"), WatchOption.builder()
        .isPrefix(true).withPrevKV(true).withRevision(first).build(), all);
    watch.watch(bytes("watch/"), WatchOption.builder()
        .isPrefix(true).withNoDelete(true).withRevision(first).build(), puts);
    put(kv, "watch/b", "2");
    put(kv, "other", "3");
    put(kv, "watch/a", "4");
    kv.delete(bytes("watch/"), DeleteOption.builder().isPrefix(true).build()).get();
    same(List.of("PUT watch/a=1", "PUT watch/b=2", "PUT watch/a=4 was 1", "DELETE watch/a= was 4",
        "DELETE watch/b= was 2"), all.events(5));
    same(List.of("PUT watch/a=1", "PUT watch/b=2", "PUT watch/a=4"), puts.events(3));
    watcher.requestProgress();
    WatchResponse progress = all.next();
    same(0, progress.getEvents().size());
    same(first + 4, progress.getHeader().getRevision());
    watcher.close();

    long last = put(kv, "watch/a", "5");
    kv.compact(last).get();
    Told late = new Told();
    watch.watch(bytes("watch/a"), WatchOption.builder().withRevision(first).build(), late);
    try {
      late.next();
      throw new AssertionError("history before a compaction was watched");
    } catch (CompactedException error) {
      same(last, error.getCompactedRevision());
    }
  }

  private static void leases(Client client) throws Exception {
    KV kv = client.getKVClient();
    Lease lease = client.getLeaseClient();
    var granted = lease.grant(600).get();
    same(600L, granted.getTTL());
    long id = granted.getID();
    long start = put(kv, "lease/a", "1", id);
    put(kv, "lease/b", "2", id);
    var told = lease.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()).get();
    same(600L, told.getGrantedTTL());
    same(List.of("lease/a", "lease/b"),
        told.getKeys().stream().map(ByteSequence::toString).sorted().collect(Collectors.toList()));
    same(600L, lease.keepAliveOnce(id).get().getTTL());
    Told gone = new Told();
    client.getWatchClient().watch(bytes("lease/"),
        WatchOption.builder().isPrefix(true).withRevision(start + 2).build(), gone);
    lease.revoke(id).get();
    same(List.of("DELETE lease/a=", "DELETE lease/b="), gone.events(2));
    refused(lease.revoke(id), "etcdserver: requested lease not found");
    same(-1L, lease.timeToLive(id, LeaseOption.DEFAULT).get().getTTL());

    // Kept by the client for longer than it would live; another that nobody keeps ends.
    long kept = lease.grant(2).get().getID();
    long left = lease.grant(2).get().getID();
    put(kv, "lease/kept", "1", kept);
    put(kv, "lease/left", "1", left);
    BlockingQueue<Long> replies = new LinkedBlockingQueue<>();
    var keeper = lease.keepAlive(kept, new StreamObserver<LeaseKeepAliveResponse>() {
      @Override
      public void onNext(LeaseKeepAliveResponse response) {
        replies.add(response.getTTL());
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {}
    });
    same(2L, replies.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
    same(List.of("PUT lease/kept=1", "PUT lease/left=1", "DELETE lease/left="), gone.events(3));
    same(1L, kv.get(bytes("lease/kept")).get().getCount());
    keeper.close();
    same(List.of("DELETE lease/kept="), gone.events(1));
  }

  private static void locks(Client client) throws Exception {
    KV kv = client.getKVClient();
    Lock lock = client.getLockClient();
    long one = client.getLeaseClient().grant(600).get().getID();
    long two = client.getLeaseClient().grant(600).get().getID();
    ByteSequence held = lock.lock(bytes("lock"), one).get().getKey();
    same(bytes("lock/" + Long.toHexString(one)), held);
    var waiting = lock.lock(bytes("lock"), two);
    ByteSequence waiter = bytes("lock/" + Long.toHexString(two));
    while (kv.get(waiter).get().getCount() == 0) {
      same(false, waiting.isDone());
    }
    same(false, waiting.isDone());
    lock.unlock(held).get();
    same(waiter, waiting.get(PATIENCE_SECONDS, TimeUnit.SECONDS).getKey());
    client.getLeaseClient().revoke(two).get();
    held = lock.lock(bytes("lock"), one).get(PATIENCE_SECONDS, TimeUnit.SECONDS).getKey();
    lock.unlock(held).get();
    var left = GetOption.builder().isPrefix(true).build();
    same(0L, kv.get(bytes("lock/"), left).get().getCount());
  }

  private static void elections(Client client) throws Exception {
    KV kv = client.getKVClient();
    Election election = client.getElectionClient();
    long one = client.getLeaseClient().grant(600).get().getID();
    long two = client.getLeaseClient().grant(600).get().getID();
    ByteSequence job = bytes("job");
    refused(election.leader(job), "election.NoLeaderException");
    BlockingQueue<String> leaders = new LinkedBlockingQueue<>();
    election.observe(job, new Election.Listener() {
      @Override
      public void onNext(LeaderResponse response) {
        leaders.add(response.getKv().getValue().toString());
      }

      @Override
      public void onError(Throwable error) {
        leaders.add(error.toString());
      }

      @Override
      public void onCompleted() {}
    });
    LeaderKey first = election.campaign(job, one, bytes("first")).get().getLeader();
    same("first", leaders.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
    election.proclaim(first, bytes("first again")).get();
    same("first again", leaders.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
    var campaign = election.campaign(job, two, bytes("second"));
    while (kv.get(bytes("job/" + Long.toHexString(two))).get().getCount() == 0) {
      same(false, campaign.isDone());
    }
    same(bytes("first again"), election.leader(job).get().getKv().getValue());
    election.resign(first).get();
    LeaderKey second = campaign.get(PATIENCE_SECONDS, TimeUnit.SECONDS).getLeader();
    same("second", leaders.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
    same(second.getKey(), election.leader(job).get().getKv().getKey());
    refused(election.proclaim(first, bytes("late")), "election.NotLeaderException");
    client.getLeaseClient().revoke(two).get();
    refused(election.leader(job), "election.NoLeaderException");
  }

  /** A watcher outlives its server: it goes on where it was. */
  private static void interrupted(Client client) throws Exception {
    KV kv = client.getKVClient();
    long first = put(kv, "restart/a", "1");
    Told told = new Told();
    client.getWatchClient().watch(bytes("restart/"),
        WatchOption.builder().isPrefix(true).withRevision(first).build(), told);
    same(List.of("PUT restart/a=1"), told.events(1));
    System.out.println("restart");
    while (System.in.read() != '\n') {}
    reach(kv);
    put(kv, "restart/b", "2");
    put(kv, "restart/b", "3");
    same(List.of("PUT restart/b=2", "PUT restart/b=3"), told.events(2));
  }

  /** Reads until there is an answer: a write is not tried again on a connection that was lost. */
  private static void reach(KV kv) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (true) {
      try {
        kv.get(bytes("restart/a")).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
        return;
      } catch (ExecutionException error) {
        if (System.nanoTime() > end) {
          throw error;
        }
        Thread.sleep(10);
      }
    }
  }

  private static long put(KV kv, String key, String value) throws Exception {
    return put(kv, key, value, 0);
  }

  private static long put(KV kv, String key, String value, long lease) throws Exception {
    PutOption option = PutOption.builder().withLeaseId(lease).build();
    return kv.put(bytes(key), bytes(value), option).get().getHeader().getRevision();
  }

  private static String text(WatchEvent event) {
    var pair = event.getKeyValue();
    var previous = event.getPrevKV();
    String text = event.getEventType() + " " + pair.getKey() + "=" + pair.getValue();
    return previous == null || previous.getKey().isEmpty()
        ? text : text + " was " + previous.getValue();
  }

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  private static void same(Object expected, Object found) {
    if (!Objects.equals(expected, found)) {
      throw new AssertionError("expected " + expected + ", found " + found);
    }
  }

  private static void refused(CompletableFuture<?> call, String text) throws Exception {
    try {
      call.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (ExecutionException error) {
      if (error.getMessage().contains(text)) {
        return;
      }
      throw error;
    }
    throw new AssertionError("expected: " + text);
  }
}
