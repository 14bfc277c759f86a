//! A Redis Cluster of three primaries: mail and all else is spread over them, and one that dies, is demoted, or gives a partition
//! away takes nothing along.

mod failover;
mod moved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;
use staffetta_queue::{
    Announcer, Beginning, Destination, Heads, Queue, Rate, Revocations, Settings, Settlement, Target, Verification,
    begin, exists,
};
use staffetta_testkit::redis_cluster::{PRIMARIES, RedisCluster};
use staffetta_testkit::redis_server::PATIENCE;
use tokio_util::sync::CancellationToken;

use crate::world::{accept, put, settings};

const PARTITIONS: u16 = 8;

struct Shards {
    cluster: RedisCluster,
    queue: Queue,
    settings: Settings,
    shutdown: CancellationToken,
}

impl Shards {
    async fn start(with_replicas: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let cluster = RedisCluster::start(with_replicas, &[]).unwrap();
        let mut settings = Settings { partitions: PARTITIONS, ..settings(cluster.url()) };
        change(&mut settings);
        let shutdown = CancellationToken::new();
        let queue = Queue::open(settings.clone(), shutdown.clone()).unwrap();
        queue.ready(PATIENCE).await.unwrap();
        Self { cluster, queue, settings, shutdown }
    }

    /// Which member has a partition.
    fn member_of(&self, partition: u16) -> usize {
        self.cluster.primary_of(self.slot_of(partition)).unwrap()
    }

    fn slot_of(&self, partition: u16) -> u16 {
        self.cluster.slot(&self.identity(partition)).unwrap()
    }

    fn identity(&self, partition: u16) -> String {
        let of = |member| self.cluster.ask(member, &["KEYS", &format!("{{kq:{partition}.*}}id")]).unwrap_or_default();
        (0..self.cluster.len()).map(of).find(|key| !key.is_empty()).unwrap()
    }

    /// As a client does, who tries again when a connection breaks under his message.
    async fn put(&self) -> QueueId {
        let end = Instant::now() + PATIENCE;
        loop {
            match put(&self.queue, &["a@x.example"], b"x").await {
                Ok(id) => return id,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Delivers what is there until nothing has come for so long; how often each message was delivered.
    async fn drain(&self, calm: Duration) -> BTreeMap<QueueId, u32> {
        let delivered = Arc::new(Mutex::new(BTreeMap::new()));
        let mut last = Instant::now();
        while last.elapsed() < calm {
            if deliver_once(&self.queue, &delivered).await > 0 {
                last = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
        delivered.clone()
    }
}

type Ledger = Arc<Mutex<BTreeMap<QueueId, u32>>>;

/// One round of a worker over all partitions. What is under way when a server goes away is settled again and again.
async fn deliver_once(queue: &Queue, delivered: &Ledger) -> usize {
    let mut count = 0;
    for partition in 0..queue.partitions() {
        let Ok(jobs) = queue.claim(partition, &Destination::new("x.example"), 50).await else { continue };
        for job in jobs {
            let id = job.lease.id;
            *delivered.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(0) += 1;
            let _ = queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() }).await;
            count += 1;
        }
    }
    count
}

/// The same, which does not wait for what is settled: a settlement in a partition that is being moved takes until it has moved,
/// and the others go on meanwhile.
async fn deliver_aside(queue: &Queue, delivered: &Ledger) {
    for partition in 0..queue.partitions() {
        let Ok(jobs) = queue.claim(partition, &Destination::new("x.example"), 50).await else { continue };
        for job in jobs {
            *delivered.lock().unwrap_or_else(PoisonError::into_inner).entry(job.lease.id).or_insert(0) += 1;
            let queue = queue.clone();
            tokio::spawn(async move { queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() }).await });
        }
    }
}

/// Puts messages one after the other until it is told to stop: what was accepted, how many were refused.
async fn send(queue: Queue, stop: CancellationToken, body: &'static [u8]) -> (BTreeSet<QueueId>, BTreeSet<QueueId>) {
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    while !stop.is_cancelled() {
        let sent = async {
            let mut incoming = queue.receive().map_err(|_| None)?;
            let id = incoming.id();
            incoming.write(body).await.map_err(|_| Some(id))?;
            incoming.commit(accept(&["a@x.example"]), b"").await.map_err(|_| Some(id))
        };
        match sent.await {
            Ok(id) => drop(accepted.insert(id)),
            Err(id) => {
                refused.extend(id);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    (accepted, refused)
}

async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !good().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn mail_limits_and_all_else_are_spread_over_the_primaries() {
    let shards = Shards::start(false, |_| {}).await;
    let queue = &shards.queue;
    for _ in 0..PARTITIONS * 2 {
        shards.put().await;
    }
    let hourly = Rate { count: 1, per: Duration::from_secs(3_600) };
    let limiter = queue.limiter("auth", hourly);
    let verifications = queue.verifications();
    let (policies, tokens) = (queue.policies(), queue.tokens());
    for number in 0..24 {
        let who = format!("192.0.2.{number}");
        assert_eq!(limiter.acquire(&who, 1).await.unwrap().tokens, 1);
        assert_eq!(limiter.acquire(&who, 1).await.unwrap().tokens, 0, "it is counted at one place");
        verifications.remember(&who, &Verification::Deliverable, Duration::from_secs(60)).await.unwrap();
        assert_eq!(verifications.recall(&who).await.unwrap(), Some(Verification::Deliverable));
        policies.keep(&who, "version: STSv1", Duration::from_secs(60)).await.unwrap();
        assert_eq!(policies.recall(&who).await.unwrap().unwrap().text, "version: STSv1");
        tokens.keep(&who, Some((b"t", Duration::from_secs(60))), Some(b"r")).await.unwrap();
        assert!(tokens.look(&who).await.unwrap().refresh.is_some());
    }
    let clients: Vec<(Heads, u32)> = (0..24)
        .map(|number| (Heads { client: format!("192.0.2.{number}"), count: 2, version: 1 }, number + 1))
        .collect();
    let granted = queue.headcount().claim_all(&clients).await.unwrap();
    assert_eq!(
        granted,
        (1..=24).map(|limit| 2.min(limit)).collect::<Vec<u32>>(),
        "answers in the order of the questions"
    );
    let guesses = queue.guesses(Some(hourly), Some(hourly));
    assert!(guesses.take(Some("client"), None).await.unwrap().client);
    for pattern in ["*}m:*", "{L:*", "{V:*", "{T:*", "{C:*", "{O:*"] {
        let counts = (0..PRIMARIES).map(|member| {
            shards.cluster.ask(member, &["KEYS", pattern]).unwrap().lines().filter(|key| !key.is_empty()).count()
        });
        assert!(counts.clone().all(|count| count > 0), "{pattern}: {:?}", counts.collect::<Vec<_>>());
    }
    let verified = queue.verify(false, &mut |finding| panic!("{finding}")).await.unwrap();
    assert_eq!((verified.messages, queue.counts().await.unwrap().messages), (16, 16));
    assert_eq!(shards.drain(Duration::from_millis(500)).await.len(), 16);
}

#[tokio::test]
async fn all_pods_hear_of_blocks_and_workers_of_mail_in_every_partition() {
    let shards = Shards::start(false, |_| {}).await;
    let pod = Revocations::follow(&shards.settings, shards.shutdown.clone()).unwrap();
    until("the journal is read", async || pod.is_current()).await;
    let john = Target::login("john").unwrap();
    let announcer = Announcer::connect(&shards.settings).await.unwrap();
    assert!(announcer.block(&john, None, "a thief").await.unwrap());
    until("the block is heard", async || pod.is_login_blocked("john")).await;
    Revocations::try_following(&shards.settings).await.unwrap();

    let wakes = shards.queue.wakes().unwrap();
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    for partition in 0..PARTITIONS {
        let (wakes, heard) = (wakes.clone(), heard.clone());
        tokio::spawn(async move {
            wakes.of(partition).await;
            heard.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
        });
    }
    // Only mail for a partition that has nothing due is told of, and only to who listens by then.
    until("every partition is heard of", async || {
        shards.drain(Duration::ZERO).await;
        deliver_once(&shards.queue, &Ledger::default()).await;
        shards.put().await;
        heard.lock().unwrap_or_else(PoisonError::into_inner).len() == usize::from(PARTITIONS)
    })
    .await;
}

#[tokio::test]
async fn a_queue_is_made_once_on_all_servers_and_a_part_that_is_lost_is_noticed() {
    let mut cluster = RedisCluster::start(false, &[]).unwrap();
    let settings = Settings { partitions: PARTITIONS, create: false, ..settings(cluster.url()) };
    assert!(!exists(&settings).await.unwrap());
    assert_eq!(begin(&settings, false).await.unwrap(), Beginning::New);
    assert_eq!(begin(&settings, false).await.unwrap(), Beginning::There);
    assert!(exists(&settings).await.unwrap());
    let more = Settings { partitions: 2 * PARTITIONS, ..settings.clone() };
    assert_eq!(begin(&more, false).await.unwrap(), Beginning::Extended);
    let other = exists(&Settings { name: "theirs".into(), ..settings.clone() }).await.unwrap_err().to_string();
    assert!(other.contains("that of \"staffetta\""), "{other}");

    let shutdown = CancellationToken::new();
    let queue = Queue::open(settings.clone(), shutdown.clone()).unwrap();
    queue.ready(PATIENCE).await.unwrap();
    assert_eq!(queue.partitions(), 2 * PARTITIONS, "as many as are registered");
    let home = cluster.primary_of(cluster.slot("{kq:cfg}").unwrap()).unwrap();
    let lost = (home + 1) % PRIMARIES;
    cluster.ask(lost, &["FLUSHALL"]).unwrap();
    let gone = exists(&settings).await.unwrap_err().to_string();
    assert!(gone.contains("is gone") && gone.contains(&cluster.place(lost)), "{gone}");
    // Mail goes to the others.
    until("it is noticed", async || {
        let id = put(&queue, &["a@x.example"], b"x").await.unwrap();
        let key = cluster.ask(lost, &["KEYS", &format!("{{kq:*m:{id}")]).unwrap();
        key.is_empty() && cluster.ask(lost, &["KEYS", "*}m:*"]).is_ok()
    })
    .await;
    assert_eq!(begin(&settings, true).await.unwrap(), Beginning::Extended);
    until("it is whole again", async || exists(&settings).await.is_ok()).await;
    cluster.kill(lost);
    let away = exists(&settings).await.unwrap_err().to_string();
    assert!(away.contains(&cluster.place(lost)), "{away}");
    shutdown.cancel();
}

/// With a user who may do what the manual says and nothing else, on every member.
#[tokio::test]
async fn the_rights_that_the_manual_names_are_enough_in_a_cluster() {
    let cluster = RedisCluster::start(false, &[]).unwrap();
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md")).unwrap();
    let rule = manual.lines().find_map(|line| line.trim().strip_prefix("ACL ")).unwrap();
    let besides = "+cluster|slots +cluster|info";
    assert!(manual.contains(&format!("`{besides}`")));
    let words: Vec<&str> = ["ACL"].into_iter().chain(rule.split(' ')).chain(besides.split(' ')).collect();
    for member in 0..PRIMARIES {
        cluster.ask(member, &words).unwrap();
    }
    let url = cluster.url().replace("://", "://staffetta:PASSWORD@");
    let settings = Settings { partitions: PARTITIONS, ..settings(url) };
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    let queue = Queue::open(settings.clone(), shutdown.clone()).unwrap();
    queue.ready(PATIENCE).await.unwrap();
    let pod = Revocations::follow(&settings, shutdown).unwrap();
    for _ in 0..PARTITIONS {
        put(&queue, &["a@x.example"], &[b'x'; 300_000]).await.unwrap();
    }
    assert!(pod.is_current_within(PATIENCE).await && exists(&settings).await.unwrap());
    let delivered = Ledger::default();
    assert_eq!(deliver_once(&queue, &delivered).await, usize::from(PARTITIONS));
    assert_eq!(queue.counts().await.unwrap().messages, 0);
    for member in 0..PRIMARIES {
        assert_eq!(cluster.ask(member, &["ACL", "LOG"]).unwrap(), "");
    }
}
