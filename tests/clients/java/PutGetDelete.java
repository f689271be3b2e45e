import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.kv.PutResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/** Put, get, delete, a transaction and a compaction with jetcd: PutGetDelete ADDRESS. */
public final class PutGetDelete {
  private static final ByteSequence OWN = bytes("java/");

  private PutGetDelete() {}

  public static void main(String[] args) throws Exception {
    try (Client client = Client.builder().endpoints("http://" + args[0]).build()) {
      run(client.getKVClient());
      history(client.getKVClient());
    }
    System.out.println("ok");
    System.exit(0);
  }

  private static void run(KV kv) throws Exception {
    ByteSequence a = bytes("java/a");
    long first = kv.put(a, bytes("1")).get().getHeader().getRevision();
    PutOption previous = PutOption.builder().withPrevKV().build();
    PutResponse again = kv.put(a, bytes("2"), previous).get();
    same(first + 1, again.getHeader().getRevision());
    same(bytes("1"), again.getPrevKv().getValue());
    kv.put(ByteSequence.from(new byte[] {'j', 'a', 'v', 'a', '/', 0, -1}), bytes("")).get();

    KeyValue pair = kv.get(a).get().getKvs().get(0);
    same(bytes("2"), pair.getValue());
    same(List.of(2L, first, first + 1),
        List.of(pair.getVersion(), pair.getCreateRevision(), pair.getModRevision()));
    GetOption past = GetOption.builder().withRevision(first).build();
    same(bytes("1"), kv.get(a, past).get().getKvs().get(0).getValue());
    var page = kv.get(OWN, GetOption.builder().isPrefix(true).withLimit(1).build()).get();
    same(List.of(2L, true, 1), List.of(page.getCount(), page.isMore(), page.getKvs().size()));

    refused(kv.get(a, GetOption.builder().withRevision(1L << 40).build()),
        "etcdserver: mvcc: required revision is a future revision");
    refused(kv.put(bytes(""), bytes("v")), "etcdserver: key is not provided");

    List<CompletableFuture<PutResponse>> puts = new ArrayList<>();
    for (int n = 0; n < 200; n++) {
      puts.add(kv.put(bytes("java/n" + n), bytes("v".repeat(1000))));
    }
    var revisions = new HashSet<Long>();
    for (var put : puts) {
      revisions.add(put.get().getHeader().getRevision());
    }
    same(200, revisions.size());
    var full = kv.get(OWN, GetOption.builder().isPrefix(true).build()).get();
    same(List.of(202L, 202), List.of(full.getCount(), full.getKvs().size()));

    var gone = kv.delete(a, DeleteOption.builder().withPrevKV(true).build()).get();
    same(1L, gone.getDeleted());
    same(bytes("2"), gone.getPrevKvs().get(0).getValue());
    var rest = kv.delete(OWN, DeleteOption.builder().isPrefix(true).build()).get();
    same(201L, rest.getDeleted());
    same(0L, kv.get(OWN, GetOption.builder().isPrefix(true).build()).get().getCount());
  }

  private static void history(KV kv) throws Exception {
    ByteSequence first = bytes("java/l00");
    List<Op> puts = new ArrayList<>();
    for (int n = 0; n < 50; n++) {
      puts.add(Op.put(bytes(String.format("java/l%02d", n)), bytes("old"), PutOption.DEFAULT));
    }
    puts.add(Op.get(first, GetOption.DEFAULT));
    List<TxnResponse> made = new ArrayList<>();
    for (int n = 0; n < 2; n++) {
      made.add(kv.txn()
          .If(new Cmp(first, Cmp.Op.EQUAL, CmpTarget.createRevision(0)))
          .Then(puts.toArray(new Op[0]))
          .Else(Op.get(first, GetOption.DEFAULT))
          .commit().get());
    }
    same(List.of(true, false), made.stream().map(TxnResponse::isSucceeded).toList());
    same(bytes("old"), made.get(1).getGetResponses().get(0).getKvs().get(0).getValue());
    refused(kv.txn().Then(puts.get(0), puts.get(0)).commit(),
        "etcdserver: duplicate key given in txn request");

    long then = made.get(0).getHeader().getRevision();
    int count = 0;
    ByteSequence start = OWN;
    for (boolean more = true; more; ) {
      var page = kv.get(start, GetOption.builder()
          .withRange(bytes("java0")).withLimit(7).withRevision(then).build()).get();
      for (KeyValue pair : page.getKvs()) {
        same(bytes("old"), pair.getValue());
      }
      count += page.getKvs().size();
      ByteSequence last = page.getKvs().get(page.getKvs().size() - 1).getKey();
      kv.put(last, bytes("new")).get();
      start = last.concat(ByteSequence.from(new byte[] {0}));
      more = page.isMore();
    }
    same(50, count);

    long now = kv.get(first).get().getHeader().getRevision();
    kv.compact(now, CompactOption.builder().withCompactPhysical(true).build()).get();
    String compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(kv.get(first, GetOption.builder().withRevision(then).build()), compacted);
    refused(kv.compact(now), compacted);
    GetOption left = GetOption.builder().isPrefix(true).withRevision(now).build();
    same(50L, kv.get(OWN, left).get().getCount());
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
      call.get();
    } catch (ExecutionException error) {
      if (error.getMessage().contains(text)) {
        return;
      }
      throw error;
    }
    throw new AssertionError("expected: " + text);
  }
}
