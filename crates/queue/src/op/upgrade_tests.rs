//! Two builds on one queue: a new one that writes format 2, and one of yesterday that only knows format 1.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Cmd, Value};
use staffetta_mail::{QueueId, Status};

use super::inside::{Server, accept, put};
use crate::partition::{READERS, REGISTRY};
use crate::shared::{Process, Shared};
use crate::value::{self, count};
use crate::{Body, Destination, Filter, Incoming, Job, Settlement};

const OLD: Process = Process { reads: 1, ..Process::TODAY };

/// Everything that was delivered, with how often.
type Delivered = Arc<Mutex<HashMap<(QueueId, u16), u32>>>;

async fn ask(shared: &Shared, words: &[&str]) -> Value {
    let mut command = Cmd::new();
    words.iter().for_each(|word| {
        command.arg(*word);
    });
    shared.home().admin.ask(command).await.unwrap()
}

/// How many records of each version there are.
async fn versions(shared: &Shared) -> HashMap<u8, usize> {
    let mut versions = HashMap::new();
    for key in value::array(&ask(shared, &["KEYS", "*}m:*"]).await).iter().filter_map(value::str) {
        let head = value::into_bytes(ask(shared, &["GETRANGE", key, "0", "0"]).await).unwrap();
        if let Some(version) = head.first() {
            *versions.entry(*version).or_default() += 1;
        }
    }
    versions
}

/// As if it had said nothing for an hour.
async fn bury(worker: &Shared, by: &Shared) {
    let members = ask(by, &["ZRANGE", READERS, "0", "-1"]).await;
    let old = value::array(&members).iter().filter_map(value::str).find(|member| member.ends_with(" 1")).unwrap();
    worker.shutdown.cancel();
    ask(by, &["ZADD", READERS, "1", old]).await;
}

/// An attempt in vain.
fn later(job: &Job) -> Settlement {
    Settlement::Deferred {
        remaining: job.recipients.clone(),
        after: Duration::ZERO,
        reason: "450 later".into(),
        status: Status::new(4, 0, 0),
        back_off: None,
        notices: Vec::new(),
        delay_noticed: false,
        held: false,
    }
}

/// Delivers whatever is due, the first attempt at every third job in vain, until it is told to stop.
async fn work(shared: Arc<Shared>, delivered: Delivered, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for partition in 0..2 {
            for destination in shared.offer(partition, 10).await.unwrap().destinations {
                for job in shared.claim(partition, &destination, 20).await.unwrap() {
                    idle = false;
                    let late = job.attempts == 0 && job.message.id.unix_millis().is_multiple_of(3);
                    let settlement = if late {
                        later(&job)
                    } else {
                        *delivered.lock().unwrap().entry((job.lease.id, job.lease.job)).or_default() += 1;
                        Settlement::Finished { notices: Vec::new() }
                    };
                    assert!(shared.settle(&job.lease, settlement).await.unwrap().is_done());
                }
            }
        }
        if idle {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Nothing rests, and nothing is left.
async fn drained(shared: &Shared) {
    while shared.counts().await.unwrap().messages > 0 {
        shared.flush(&Filter::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn send(shared: Arc<Shared>, messages: usize) -> Vec<QueueId> {
    let mut ids = Vec::new();
    for _ in 0..messages {
        ids.push(put(&shared, &["a@x.example", "b@y.example"]).await.unwrap());
    }
    ids
}

#[tokio::test]
async fn what_is_written_is_what_every_worker_reads() {
    let server = Server::start();
    let new = server.open(Process::TODAY).await;
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 2, "a queue without workers is a new one");
    new.offer(0, 1).await.unwrap();
    let old = server.open(OLD).await;
    old.home().look_at_readers(false).await.unwrap();
    assert_eq!(old.home().formats.writes(), 1, "never more than it can read");
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 2, "a frontend reads nothing");
    old.offer(0, 1).await.unwrap();
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 1, "a worker does, from its first offer on");
    bury(&old, &new).await;
    new.home().look_at_readers(true).await.unwrap();
    assert_eq!(new.home().formats.writes(), 2, "it is gone");
    assert_eq!(count(&ask(&new, &["ZCARD", READERS]).await), 1, "and nobody remembers it");
    ask(&new, &["HDEL", REGISTRY, "format"]).await;
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 1, "a queue from before there was a list");
}

/// A worker of yesterday reads version 2, and no frames.
#[tokio::test]
async fn bodies_are_packed_once_every_worker_reads_them() {
    let server = Server::start();
    let new = server.open_packing().await;
    for (others, packed) in [
        (&[][..], true),
        (&["00000000000000aa 2"], false),
        (&["00000000000000aa 2 zstd"], true),
        (&["00000000000000aa 2 zstd", "00000000000000bb 2"], false),
        (&["00000000000000aa 1"], false),
    ] {
        ask(&new, &["DEL", READERS]).await;
        for other in others {
            ask(&new, &["ZADD", READERS, &new.home().clock.now().to_string(), other]).await;
        }
        new.home().look_at_readers(false).await.unwrap();
        let mut incoming = Incoming::new(new.clone(), None).unwrap();
        incoming.write(&[b'b'; 100_000]).await.unwrap();
        let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
        let octets = count(&ask(&new, &["STRLEN", &new.partition(id.partition()).chunk(id, 0)]).await);
        assert_eq!(octets < 1_000, packed, "{others:?}: {octets}");
    }
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    new.offer(0, 1).await.unwrap();
    let members = ask(&new, &["ZRANGE", READERS, "0", "-1"]).await;
    let says = |word: &str| value::array(&members).iter().filter_map(value::str).any(|member| member.ends_with(word));
    assert!(says(" 1") && says(" 2 zstd depth offload"), "{members:?}");
}

/// An old worker came while the message did: it is refused, not handed to somebody who would send frames.
#[tokio::test]
async fn what_was_packed_for_others_is_not_queued_for_a_worker_that_came_meanwhile() {
    let server = Server::start();
    let new = server.open_packing().await;
    let mut incoming = Incoming::new(new.clone(), None).unwrap();
    incoming.write(&[b'b'; 300_000]).await.unwrap();
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    new.home().look_at_readers(false).await.unwrap();
    assert!(incoming.commit(accept(&["a@x.example"]), b"X-Added: last\r\n").await.is_err());
    assert_eq!(new.counts().await.unwrap().messages, 0);
}

/// Its first word would be too old after half a minute, and what it cannot read would be written.
#[tokio::test]
async fn a_worker_that_lives_says_so_again() {
    let server = Server::start();
    let new = server.open(Process::TODAY).await;
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    let members = ask(&new, &["ZRANGE", READERS, "0", "-1"]).await;
    let member = value::array(&members).iter().find_map(value::str).unwrap();
    let before = new.home().clock.now() - 20_000;
    ask(&new, &["ZADD", READERS, &before.to_string(), member]).await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let later = (before + 1).to_string();
    while count(&ask(&new, &["ZCOUNT", READERS, &later, "+inf"]).await) == 0 {
        assert!(std::time::Instant::now() < end, "it has said nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_a_downgrade_under_load_lose_nothing_and_hold_nothing() {
    let server = Server::start();
    let (delivered, stop) = (Delivered::default(), Arc::new(AtomicBool::new(false)));
    let start = |worker: &Arc<Shared>, stop: &Arc<AtomicBool>| {
        tokio::spawn(work(worker.clone(), delivered.clone(), stop.clone()))
    };
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    let new = server.open(Process::TODAY).await;
    new.home().look_at_readers(false).await.unwrap();

    // Both write, nobody delivers yet: all is in the old format.
    let mut sent = send(new.clone(), 20).await;
    sent.extend(send(old.clone(), 20).await);
    assert_eq!(versions(&new).await, HashMap::from([(1, 40)]));

    // The upgrade: both work, then the old one goes.
    let old_stop = Arc::new(AtomicBool::new(false));
    let (worker, old_worker) = (start(&new, &stop), start(&old, &old_stop));
    let (a, b) = tokio::join!(send(new.clone(), 100), send(old.clone(), 100));
    sent.extend(a.into_iter().chain(b));
    old_stop.store(true, Ordering::Relaxed);
    old_worker.await.unwrap();
    bury(&old, &new).await;
    new.home().look_at_readers(false).await.unwrap();
    sent.extend(send(new.clone(), 50).await);
    drained(&new).await;
    stop.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    let waiting = send(new.clone(), 30).await;
    assert_eq!(versions(&new).await, HashMap::from([(2, 30)]));
    sent.extend(waiting);

    // The downgrade: an old worker comes back while records of format 2 wait, and what is written now is for it.
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 1);
    let old_stop = Arc::new(AtomicBool::new(false));
    let old_worker = start(&old, &old_stop);
    let (a, b) = tokio::join!(send(new.clone(), 50), send(old.clone(), 50));
    sent.extend(a.into_iter().chain(b));
    for _ in 0..500 {
        let delivered = delivered.lock().unwrap().len();
        if delivered >= 2 * (sent.len() - 30) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    old_stop.store(true, Ordering::Relaxed);
    old_worker.await.unwrap();
    let counts = new.counts().await.unwrap();
    assert_eq!((counts.held, counts.leased), (0, 0), "{counts:?}");
    assert_eq!(counts.messages, 30, "the old worker has delivered all that it can read: {counts:?}");

    // Upgraded again, nothing is left.
    let stop = Arc::new(AtomicBool::new(false));
    let worker = start(&new, &stop);
    drained(&new).await;
    stop.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    let delivered = delivered.lock().unwrap();
    let once = |id: &QueueId| [0, 1].iter().all(|job| delivered.get(&(*id, *job)) == Some(&1));
    assert!(sent.iter().all(once), "each job exactly once");
    assert_eq!(delivered.len(), 2 * sent.len());
}

/// A newer worker has left something in the state of a job; this one defers it once more.
#[tokio::test]
async fn what_a_newer_worker_has_left_in_a_state_outlives_the_next_attempt() {
    let server = Server::start();
    let worker = server.open(Process::TODAY).await;
    worker.home().look_at_readers(false).await.unwrap();
    let id = put(&worker, &["a@x.example"]).await.unwrap();
    let key = worker.partition(id.partition()).state(id, 0);
    for attempt in 1..=3_u32 {
        let job = worker.claim(id.partition(), &Destination::new("x.example"), 1).await.unwrap().pop().unwrap();
        assert_eq!(job.attempts, attempt - 1);
        worker.settle(&job.lease, later(&job)).await.unwrap();
        if attempt == 1 {
            // Number 99, not needed, four octets.
            let mut command = Cmd::new();
            command.arg("APPEND").arg(&key).arg(b"\xc6\x01\x04news");
            worker.home().admin.ask(command).await.unwrap();
        }
        let state = value::into_bytes(ask(&worker, &["GET", &key]).await).unwrap();
        assert!(state.ends_with(b"\xc6\x01\x04news"), "after attempt {attempt}: {state:?}");
    }
}

/// A worker of yesterday knows no prefix in front of chunks: it must get the fields all the same, and in front.
#[tokio::test]
async fn what_is_put_in_front_of_a_body_reaches_a_worker_of_yesterday() {
    let server = Server::start();
    let new = server.open(Process::TODAY).await;
    let old = server.open(OLD).await;
    old.offer(0, 1).await.unwrap();
    new.home().look_at_readers(false).await.unwrap();
    assert_eq!(new.home().formats.writes(), 1);
    for size in [10, 300_000, 600_000] {
        let content = vec![b'b'; size];
        let mut incoming = Incoming::new(new.clone(), None).unwrap();
        incoming.write(&content).await.unwrap();
        let id = incoming.commit(accept(&["a@x.example"]), b"X-Added: last\r\n").await.unwrap();
        let job = old.claim(id.partition(), &Destination::new("x.example"), 1).await.unwrap().pop().unwrap();
        assert_eq!((job.message.size, job.prefix.len()), (15 + size as u64, 0));
        let mut octets = Vec::new();
        match &job.body {
            Body::Inline(body) => octets.extend_from_slice(body),
            Body::Chunks(chunks) => {
                for index in 0..chunks.count {
                    let key = old.partition(id.partition()).chunk(id, index);
                    octets.extend(value::into_bytes(ask(&old, &["GET", &key]).await).unwrap());
                    assert_eq!(ttl(&old, &key).await, -1);
                }
                assert_eq!(chunks.size, job.message.size);
            }
        }
        assert!(octets == [b"X-Added: last\r\n", &*content].concat(), "{size}");
        old.finish(&job.lease, &[]).await.unwrap();
    }
}

async fn ttl(shared: &Shared, key: &str) -> i64 {
    value::integer(&ask(shared, &["TTL", key]).await).unwrap()
}
