//! Watches, leases, locks and elections with etcd-client: client ADDRESS.
//!
//! Prints what it is at; `restart` where the server is to be killed and started again, and reads a
//! line once that is done.
//!
//! With ADDRESS,ADDRESS,... puts and gets while members of a cluster are away: it prints `kill` and
//! `restart` where one is to be killed and to be started again.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, Error, Event, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions,
    ResignOptions, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use std::time::Duration;
use tokio::io::AsyncBufReadExt;

type Outcome = Result<(), Error>;

/// Keys of each part of the work on a cluster.
const COUNT: i64 = 100;
/// How long one answer of a cluster may take, and what passes until it is asked again.
const ANSWER: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);
/// The codes of gRPC for what may pass: tonic has the first two for a connection that broke.
const PASSING: [i32; 3] = [1, 2, 14];

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let address = std::env::args().nth(1).expect("an address is given");
    let addresses: Vec<_> = address.split(',').collect();
    let mut client = Client::connect(&addresses, None).await?;
    let all = async {
        if addresses.len() > 1 { cluster(&mut client).await } else { parts(&mut client).await }
    };
    tokio::time::timeout(LIMIT, all).await.expect("it does not take that long")?;
    println!("ok");
    Ok(())
}

async fn cluster(client: &mut Client) -> Outcome {
    work(client, 0).await?;
    for turn in 0..3 {
        ask("kill").await;
        work(client, 2 * turn + 1).await?;
        ask("restart").await;
        work(client, 2 * turn + 2).await?;
    }
    let every = GetOptions::new().with_prefix();
    let found =
        persist(client, async |client: &mut Client| client.get("rust/", Some(every.clone())).await);
    assert_eq!(found.await?.count(), 7 * COUNT);
    Ok(())
}

/// Prints a word, and waits until that is done.
async fn ask(word: &str) {
    println!("{word}");
    let mut line = String::new();
    let read = tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut line).await;
    read.expect("it is told");
}

/// Calls until it is answered; what may have been done is done again.
async fn persist<T>(
    client: &mut Client,
    call: impl AsyncFn(&mut Client) -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        match tokio::time::timeout(ANSWER, call(client)).await {
            Ok(Err(Error::GRpcStatus(status))) if !PASSING.contains(&(status.code() as i32)) => {
                return Err(Error::GRpcStatus(status));
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(_)) | Err(_) => {
                let _ = tokio::time::timeout(AGAIN, std::future::pending::<()>()).await;
            }
        }
    }
}

/// Puts so many keys, each once, and reads each.
async fn work(client: &mut Client, part: i64) -> Outcome {
    for number in part * COUNT..(part + 1) * COUNT {
        let (key, value) = (format!("rust/{number}"), number.to_string());
        persist(client, async |client: &mut Client| {
            client.put(key.clone(), value.clone(), None).await
        })
        .await?;
        let found =
            persist(client, async |client: &mut Client| client.get(key.clone(), None).await)
                .await?;
        assert_eq!(found.kvs()[0].value_str()?, value);
    }
    Ok(())
}

async fn parts(client: &mut Client) -> Outcome {
    println!("watches");
    watches(client).await?;
    println!("compacted");
    compacted(client).await?;
    println!("leases");
    leases(client).await?;
    println!("locks");
    locks(client).await?;
    println!("elections");
    elections(client).await?;
    println!("interrupted");
    interrupted(client).await
}

async fn put(client: &mut Client, key: &str, value: &str, lease: i64) -> Result<i64, Error> {
    let options = PutOptions::new().with_lease(lease);
    Ok(client.put(key, value, Some(options)).await?.header().expect("a header").revision())
}

async fn next(stream: &mut WatchStream) -> Result<WatchResponse, Error> {
    Ok(stream.message().await?.expect("the stream goes on"))
}

/// The answer to a request for a watcher: its id, and the store's revision.
async fn created(stream: &mut WatchStream) -> Result<(i64, i64), Error> {
    let answer = next(stream).await?;
    assert!(answer.created() && !answer.canceled(), "{answer:?}");
    Ok((answer.watch_id(), answer.header().expect("a header").revision()))
}

/// Events of one watcher until there are so many, as text.
async fn events(stream: &mut WatchStream, id: i64, count: usize) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    while found.len() < count {
        let answer = next(stream).await?;
        assert_eq!(answer.watch_id(), id, "{answer:?}");
        found.extend(answer.events().iter().map(text));
    }
    Ok(found)
}

fn text(event: &Event) -> String {
    let kv = event.kv().expect("an event has a pair");
    let kind = if event.event_type() == EventType::Put { "put" } else { "delete" };
    let pair = format!("{}={}", kv.key_str().expect("text"), kv.value_str().expect("text"));
    match event.prev_kv() {
        Some(previous) => format!("{kind} {pair} was {}", previous.value_str().expect("text")),
        None => format!("{kind} {pair}"),
    }
}

async fn watches(client: &mut Client) -> Outcome {
    let first = put(client, "watch/a", "1", 0).await?;
    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(first);
    let mut stream = client.watch("watch/", Some(options)).await?;
    let (all, _) = created(&mut stream).await?;
    assert_eq!(events(&mut stream, all, 1).await?, ["put watch/a=1"]);

    // More on the same stream, under ids of the client's choice or of the server's.
    let filters = vec![WatchFilterType::NoPut];
    let options = WatchOptions::new().with_watch_id(7).with_from_key().with_filters(filters);
    stream.watch("watch/b", Some(options)).await?;
    assert_eq!(created(&mut stream).await?.0, 7);
    let options = WatchOptions::new().with_watch_id(7);
    stream.watch("watch/c", Some(options)).await?;
    let twice = next(&mut stream).await?;
    assert!(twice.created() && twice.canceled() && twice.watch_id() == -1, "{twice:?}");
    assert_eq!(twice.cancel_reason(), "mvcc: duplicate watch ID provided on the WatchStream");

    let put_revision = put(client, "watch/b", "2", 0).await?;
    assert_eq!(events(&mut stream, all, 1).await?, ["put watch/b=2"]);
    let options = DeleteOptions::new().with_prefix();
    client.delete("watch/", Some(options)).await?;
    let (mut of_all, mut of_seven) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let answer = next(&mut stream).await?;
        assert_eq!(answer.header().expect("a header").revision(), put_revision + 1);
        let found = answer.events().iter().map(text);
        if answer.watch_id() == 7 { of_seven.extend(found) } else { of_all.extend(found) }
    }
    assert_eq!(of_all, ["delete watch/a= was 1", "delete watch/b= was 2"]);
    assert_eq!(of_seven, ["delete watch/b="]);

    stream.request_progress().await?;
    let told = next(&mut stream).await?;
    assert_eq!((told.watch_id(), told.events().len()), (-1, 0));
    assert_eq!(told.header().expect("a header").revision(), put_revision + 1);
    stream.cancel(7).await?;
    let gone = next(&mut stream).await?;
    assert!(gone.canceled() && gone.watch_id() == 7, "{gone:?}");
    let options = WatchOptions::new().with_progress_notify();
    stream.watch("watch/quiet", Some(options)).await?;
    let (quiet, _) = created(&mut stream).await?;
    let told = next(&mut stream).await?;
    assert_eq!((told.watch_id(), told.events().len()), (quiet, 0));
    Ok(())
}

async fn compacted(client: &mut Client) -> Outcome {
    let first = put(client, "old", "1", 0).await?;
    let last = put(client, "old", "2", 0).await?;
    let options = CompactionOptions::new().with_physical();
    client.compact(last, Some(options)).await?;
    let options = WatchOptions::new().with_start_revision(first);
    let mut stream = client.watch("old", Some(options)).await?;
    let (id, _) = created(&mut stream).await?;
    let gone = next(&mut stream).await?;
    assert!(gone.canceled() && gone.watch_id() == id, "{gone:?}");
    assert_eq!((gone.compact_revision(), gone.cancel_reason()), (last, ""));
    Ok(())
}

async fn leases(client: &mut Client) -> Outcome {
    let options = LeaseGrantOptions::new().with_id(0x77);
    let lease = client.lease_grant(600, Some(options.clone())).await?;
    assert_eq!((lease.id(), lease.ttl()), (0x77, 600));
    let twice = client.lease_grant(600, Some(options)).await.expect_err("it is there");
    assert!(twice.to_string().contains("etcdserver: lease already exists"), "{twice}");
    let other = client.lease_grant(600, None).await?.id();
    for key in ["lease/b", "lease/a"] {
        put(client, key, "v", 0x77).await?;
    }
    let mut stream = client.watch("lease/", Some(WatchOptions::new().with_prefix())).await?;
    let (id, _) = created(&mut stream).await?;

    let options = LeaseTimeToLiveOptions::new().with_keys();
    let told = client.lease_time_to_live(0x77, Some(options)).await?;
    let mut keys = told.keys().to_vec();
    keys.sort();
    assert_eq!(keys, [b"lease/a", b"lease/b"]);
    assert!((1..=600).contains(&told.ttl()) && told.granted_ttl() == 600);
    let all = client.leases().await?;
    assert!([0x77, other].iter().all(|id| all.leases().iter().any(|it| it.id() == *id)));
    let (mut keeper, mut kept) = client.lease_keep_alive(0x77).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = kept.message().await?.expect("an answer to each");
        assert_eq!((answer.id(), answer.ttl()), (0x77, 600));
    }
    client.lease_revoke(0x77).await?;
    assert_eq!(events(&mut stream, id, 2).await?, ["delete lease/a=", "delete lease/b="]);
    keeper.keep_alive().await?;
    assert_eq!(kept.message().await?.expect("an answer").ttl(), 0);
    let gone = client.lease_time_to_live(0x77, None).await?;
    assert_eq!((gone.ttl(), gone.granted_ttl()), (-1, 0));
    let gone = client.lease_revoke(0x77).await.expect_err("it is gone");
    assert!(gone.to_string().contains("etcdserver: requested lease not found"), "{gone}");

    // Nobody keeps this one.
    let short = client.lease_grant(1, None).await?;
    assert_eq!(short.ttl(), 2, "the least that a server grants");
    put(client, "lease/short", "v", short.id()).await?;
    let found = events(&mut stream, id, 2).await?;
    assert_eq!(found, ["put lease/short=v", "delete lease/short="]);
    client.lease_revoke(other).await?;
    Ok(())
}

/// The server's own locks: whoever came first has it, and what holds it is a key.
async fn locks(client: &mut Client) -> Outcome {
    let (one, two) = (grant(client).await?, grant(client).await?);
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let held = client.lock("lock", with(one)).await?;
    assert_eq!(held.key(), format!("lock/{one:x}").as_bytes());
    let again = client.lock("lock", with(one)).await?;
    assert_eq!(again.key(), held.key(), "who has it gets it");
    let mut waiting = client.clone();
    let mut waiter = tokio::spawn(async move { waiting.lock("lock", with(two)).await });
    // It is waiting when its key is there.
    let waiter_key = format!("lock/{two:x}");
    while client.get(waiter_key.as_str(), None).await?.kvs().is_empty() {
        assert!(!waiter.is_finished(), "two hold the same lock");
    }
    client.unlock(held.key()).await?;
    let next = (&mut waiter).await.expect("it does not panic")?;
    assert_eq!(next.key(), waiter_key.as_bytes());
    // The end of a lease is the end of its locks.
    client.lease_revoke(two).await?;
    let last = client.lock("lock", with(one)).await?;
    client.unlock(last.key()).await?;

    // Without a lease the server grants one, which nobody keeps alive.
    let own = client.lock("lock", None).await?;
    let lease = client.get(own.key(), None).await?.kvs()[0].lease();
    assert_eq!(client.lease_time_to_live(lease, None).await?.granted_ttl(), 60);
    client.unlock(own.key()).await?;

    // A lock whose lease ends while it waits is not given.
    let (one, two) = (grant(client).await?, grant(client).await?);
    let held = client.lock("lost", with(one)).await?;
    let mut waiting = client.clone();
    let waiter = tokio::spawn(async move { waiting.lock("lost", with(two)).await });
    while client.get(format!("lost/{two:x}"), None).await?.kvs().is_empty() {}
    client.lease_revoke(two).await?;
    client.unlock(held.key()).await?;
    let refused = waiter.await.expect("it does not panic").expect_err("its session is over");
    assert!(refused.to_string().contains("session is expired"), "{refused}");
    Ok(())
}

async fn grant(client: &mut Client) -> Result<i64, Error> {
    Ok(client.lease_grant(600, None).await?.id())
}

/// The server's own elections.
async fn elections(client: &mut Client) -> Outcome {
    let nobody = client.leader("job").await.expect_err("nobody leads");
    assert!(nobody.to_string().contains("election: no leader"), "{nobody}");
    let (one, two) = (grant(client).await?, grant(client).await?);
    let first = client.campaign("job", "first", one).await?;
    let leader = first.leader().expect("a leader").clone();
    assert_eq!(leader.key(), format!("job/{one:x}").as_bytes());
    assert_eq!((leader.name(), leader.lease()), (&b"job"[..], one));
    let mut seen = client.observe("job").await?;
    let mut observed = async |expected: &str| {
        let answer = seen.message().await?.expect("it goes on");
        let kv = answer.kv().expect("a pair");
        assert_eq!(kv.value_str()?, expected);
        Ok::<_, Error>(())
    };
    observed("first").await?;
    let of =
        |leader: &etcd_client::LeaderKey| Some(ProclaimOptions::new().with_leader(leader.clone()));
    client.proclaim("first again", of(&leader)).await?;
    observed("first again").await?;

    let mut other = client.clone();
    let campaign = tokio::spawn(async move { other.campaign("job", "second", two).await });
    while client.get(format!("job/{two:x}"), None).await?.kvs().is_empty() {
        assert!(!campaign.is_finished(), "two lead");
    }
    let told = client.leader("job").await?;
    assert_eq!(told.kv().expect("a pair").value_str()?, "first again");
    client.resign(Some(ResignOptions::new().with_leader(leader.clone()))).await?;
    let second = campaign.await.expect("it does not panic")?;
    observed("second").await?;
    let late = client.proclaim("late", of(&leader)).await.expect_err("it has resigned");
    assert!(late.to_string().contains("election: not leader"), "{late}");
    // Who resigns for the second time changes nothing.
    client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    let told = client.leader("job").await?;
    assert_eq!(told.kv().expect("a pair").key(), second.leader().expect("a leader").key());
    client.lease_revoke(two).await?;
    client.leader("job").await.expect_err("nobody leads again");
    client.campaign("job", "third", one).await?;
    observed("third").await?;
    Ok(())
}

/// A stream ends with its server; the next one begins where it was.
async fn interrupted(client: &mut Client) -> Outcome {
    let lease = grant(client).await?;
    let first = put(client, "restart/a", "1", lease).await?;
    let prefix = WatchOptions::new().with_prefix().with_start_revision(first);
    let mut stream = client.watch("restart/", Some(prefix.clone())).await?;
    let (id, _) = created(&mut stream).await?;
    assert_eq!(events(&mut stream, id, 1).await?, ["put restart/a=1"]);
    println!("restart");
    let mut line = String::new();
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    assert!(!matches!(stream.message().await, Ok(Some(_))), "the server was killed");
    let from = prefix.with_start_revision(first + 1);
    let mut stream = loop {
        if let Ok(stream) = client.watch("restart/", Some(from.clone())).await {
            break stream;
        }
    };
    let (id, _) = created(&mut stream).await?;
    put(client, "restart/b", "2", lease).await?;
    assert_eq!(events(&mut stream, id, 1).await?, ["put restart/b=2"]);
    client.lease_revoke(lease).await?;
    assert_eq!(events(&mut stream, id, 2).await?, ["delete restart/a=", "delete restart/b="]);
    Ok(())
}
