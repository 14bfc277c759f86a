//! Bodies that wait move from Redis to the store.

use std::path::PathBuf;
use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{
    Body, Codec, Compression, Deleted, Destination, Filter, Finding, Job, Kept, Problem, Queue, Settlement,
};
use tempfile::TempDir;

use crate::world::{World, accept, bodies, text, world_with};

/// Of two pieces.
const BODY: usize = 400_000;

struct Aging {
    world: World,
    folder: TempDir,
}

impl Aging {
    /// A queue whose bodies are old as soon as they are there, and belong into Redis at first.
    async fn start(server: &[(&str, &str)], compression: Compression, after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Some(format!("file://{}/spool", folder.path().display()));
        let world = world_with(server, |settings| {
            (settings.spool, settings.redis_limit, settings.partitions) = (spool, 1 << 30, 1);
            (settings.offload_after, settings.compression) = (Some(after), compression);
        })
        .await;
        let aging = Self { world, folder };
        // A worker, so that somebody can tell what is read.
        aging.world.queue.offer(0, 1).await.unwrap();
        aging.until_heard(&aging.world.queue).await;
        aging
    }

    /// It looks once a second who can tell what; only then it takes a turn.
    async fn until_heard(&self, walker: &Queue) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while walker.offload(0).await.unwrap() == 0 && self.world.keys("{L:offload:*").is_empty() {
            assert!(std::time::Instant::now() < end);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.delete("{L:offload:*");
    }

    async fn at_once() -> Self {
        Self::start(&[], Compression::None, Duration::ZERO).await
    }

    /// A walk from the beginning, whoever's turn it is.
    async fn walk(&self) -> u64 {
        self.delete("{L:offload:*");
        self.delete("*}off");
        self.ripen(&self.world.queue).await;
        self.world.queue.offload(0).await.unwrap()
    }

    /// All messages are in the past of whoever walks: two of them know the time of Redis with an error each.
    async fn ripen(&self, walker: &Queue) {
        let ids = |key: &String| -> Vec<String> {
            redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query(&mut self.world.redis()).unwrap()
        };
        let ids: Vec<String> = self.world.keys("{kq:*}ids").iter().flat_map(ids).collect();
        let newest = ids.iter().map(|id| id.parse::<QueueId>().unwrap().unix_millis()).max().unwrap();
        while walker.now() <= newest {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn delete(&self, pattern: &str) {
        for key in self.world.keys(pattern) {
            redis::cmd("DEL").arg(key).exec(&mut self.world.redis()).unwrap();
        }
    }

    /// Octets of memory.
    fn used(&self) -> u64 {
        let memory: String = redis::cmd("INFO").arg("memory").query(&mut self.world.redis()).unwrap();
        memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        bodies(&self.folder)
    }

    /// Nothing of anything.
    async fn is_empty(&self) {
        self.world.reap().await;
        self.delete("{L:*");
        self.delete("*}off");
        assert_eq!((self.files(), self.world.remains()), (vec![], vec![]));
    }

    async fn read(&self, job: &Job) -> Vec<u8> {
        let Body::Chunks(chunks) = job.body else { panic!("{:?}", job.body) };
        let mut octets = job.prefix.to_vec();
        for index in 0..chunks.count {
            octets.extend(self.world.queue.chunk(job.message.id, &chunks, index).await.unwrap());
        }
        octets
    }

    async fn findings(&self) -> Vec<(Problem, Option<QueueId>)> {
        let mut findings = Vec::new();
        let mut tell = |finding: &Finding| findings.push((finding.problem, finding.id));
        self.world.queue.verify(false, &mut tell).await.unwrap();
        findings
    }
}

fn is_offloaded(job: &Job) -> bool {
    matches!(&job.body, Body::Chunks(chunks) if matches!(chunks.kept, Kept::Offloaded(_)))
}

#[tokio::test]
async fn a_body_that_has_waited_lies_in_the_store_and_is_what_it_was() {
    for compression in [Compression::None, Compression::Zstd] {
        let aging = Aging::start(&[], compression, Duration::ZERO).await;
        let content = text(BODY);
        let mut incoming = aging.world.queue.receive().unwrap();
        incoming.write(&content).await.unwrap();
        let id = incoming.commit(accept(&["a@x.example", "b@y.example"]), b"X-First: 1\r\n").await.unwrap();
        aging.world.put(&["a@small.example"], b"small").await;
        assert_eq!((aging.world.keys("*}b:*").len(), aging.files().len()), (2, 0));

        assert_eq!(aging.walk().await, 1);
        assert_eq!((aging.world.keys("*}b:*").len(), aging.files().len()), (0, 2));
        assert_eq!(aging.findings().await, []);
        assert_eq!(aging.walk().await, 0, "it is there");
        for (domain, left) in [("x.example", 2), ("y.example", 0)] {
            let job = aging.world.claim_one(domain).await;
            assert!(is_offloaded(&job), "{:?}", job.body);
            let Body::Chunks(chunks) = job.body else { panic!() };
            assert_eq!(chunks.codec == Codec::Zstd, compression == Compression::Zstd);
            assert_eq!(aging.read(&job).await, [b"X-First: 1\r\n", &*content].concat());
            let head = aging.world.queue.head(id, &job.prefix, &job.body).await.unwrap();
            assert!(head.starts_with(b"X-First: 1\r\n") && head.len() > 100_000);
            aging.world.finish(&job).await;
            aging.world.reap().await;
            assert_eq!(aging.files().len(), left, "{domain}");
        }
        let job = aging.world.claim_one("small.example").await;
        assert_eq!(job.body, Body::Inline("small".into()));
        aging.world.finish(&job).await;
        aging.is_empty().await;
    }
}

#[tokio::test]
async fn who_has_a_job_of_it_reads_to_the_end_where_it_began() {
    let aging = Aging::at_once().await;
    aging.world.put(&["a@x.example", "b@y.example"], &text(BODY)).await;
    let job = aging.world.claim_one("x.example").await;
    assert_eq!((aging.walk().await, aging.files().len()), (0, 2), "a copy was in vain");
    assert_eq!(aging.read(&job).await, text(BODY));
    aging.world.reap().await;
    assert_eq!((aging.files().len(), aging.world.keys("*}b:*").len()), (0, 2));
    // It waits again, the other is held.
    aging.world.defer(&job, Duration::from_secs(600)).await;
    let y = Filter { destination: Some(Destination::new("y.example")), ..Filter::default() };
    aging.world.queue.hold(&y).await.unwrap();
    assert_eq!(aging.walk().await, 1);
    aging.world.queue.release(&y).await.unwrap();
    for domain in ["x.example", "y.example"] {
        let job = aging.world.attempt(domain).await;
        assert!(is_offloaded(&job));
        assert_eq!(aging.read(&job).await, text(BODY));
        aging.world.finish(&job).await;
    }
    aging.is_empty().await;
}

/// What it has of the message is for the moment before it moved.
#[tokio::test]
async fn a_worker_that_knows_the_record_of_many_jobs_hears_of_the_move() {
    let aging = Aging::at_once().await;
    let to: Vec<String> = (0..40).map(|n| format!("{}@d{n}.example", "a".repeat(60))).collect();
    let long: Vec<String> = (0..200).map(|n| format!("{}{n}@d1.example", "b".repeat(50))).collect();
    let to: Vec<&str> = to.iter().chain(&long).map(String::as_str).collect();
    aging.world.put(&to, &text(BODY)).await;
    let job = aging.world.claim_one("d0.example").await;
    assert!(!is_offloaded(&job));
    aging.world.finish(&job).await;
    assert_eq!(aging.walk().await, 1);
    let job = aging.world.claim_one("d1.example").await;
    assert!(is_offloaded(&job), "{:?}", job.body);
    assert_eq!(aging.read(&job).await, text(BODY));
}

#[tokio::test]
async fn only_what_has_waited_long_enough_moves_or_everything_while_memory_is_short() {
    let aging = Aging::start(&[], Compression::None, Duration::from_secs(900)).await;
    aging.world.put(&["a@x.example"], &text(BODY)).await;
    assert_eq!(aging.walk().await, 0);

    // Four fifths of 85 % of it are 21.8 MiB, and new mail is taken up to 27.2.
    let aging = Aging::start(&[("maxmemory", "32mb")], Compression::None, Duration::from_secs(900)).await;
    let noted = aging.world.put(&["a@x.example"], &text(BODY)).await;
    while aging.used() < 24 << 20 {
        aging.world.put(&["a@x.example"], &text(BODY)).await;
    }
    let before = aging.world.keys("*}b:*").len();
    // The next look at its memory is within a second or so.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while aging.files().is_empty() {
        assert!(std::time::Instant::now() < end, "everything goes to Redis");
        aging.world.put(&["b@y.example"], &text(20_000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is as large as it was before memory was short goes elsewhere now; what fits into a record does not.
    let (chunks, bodies) = (aging.world.keys("*}b:*").len(), aging.files().len());
    aging.world.put(&["b@y.example"], &text(20_000)).await;
    aging.world.put(&["b@y.example"], &text(1_000)).await;
    assert_eq!((aging.world.keys("*}b:*").len(), aging.files().len()), (chunks, bodies + 1));
    assert!(chunks >= before);
    // Two minutes old at least.
    assert_eq!(aging.walk().await, 0);
    assert!(aging.world.keys(&format!("*}}b:{noted}:0")).len() == 1);
}

/// That is when it is needed most.
#[tokio::test]
async fn bodies_leave_a_redis_that_has_no_room_at_all() {
    let aging = Aging::at_once().await;
    for _ in 0..3 {
        aging.world.put(&["a@x.example"], &text(BODY)).await;
    }
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec(&mut aging.world.redis()).unwrap();
    assert_eq!((aging.walk().await, aging.world.keys("*}b:*").len()), (3, 0));
}

#[tokio::test]
async fn nothing_moves_while_a_worker_is_there_that_would_not_find_it() {
    let aging = Aging::at_once().await;
    aging.world.put(&["a@x.example"], &text(BODY)).await;
    let now: (u64, u64) = redis::cmd("TIME").query(&mut aging.world.redis()).unwrap();
    let add = |score: u64| {
        let mut redis = aging.world.redis();
        redis::cmd("ZADD").arg("{kq:cfg}readers").arg(score).arg("old 2 zstd depth").exec(&mut redis).unwrap();
    };
    add(now.0 * 1_000 + 3_600_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(aging.walk().await, 0);
    add(1);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while aging.walk().await == 0 {
        assert!(std::time::Instant::now() < end);
    }
}

#[tokio::test]
async fn one_worker_walks_at_a_time_and_goes_on_where_another_has_ended() {
    let aging = Aging::at_once().await;
    let other = aging.world.another().await;
    other.offer(0, 1).await.unwrap();
    aging.until_heard(&other).await;
    for _ in 0..3 {
        aging.world.put(&["a@x.example"], &text(BODY)).await;
    }
    aging.ripen(&aging.world.queue).await;
    aging.ripen(&other).await;
    let (a, b) = tokio::join!(aging.world.queue.offload(0), other.offload(0));
    assert_eq!((a.unwrap() + b.unwrap(), aging.files().len()), (3, 6));
    aging.world.put(&["a@x.example"], &text(BODY)).await;
    aging.ripen(&other).await;
    aging.delete("{L:offload:*");
    assert_eq!(other.offload(0).await.unwrap(), 1);
    let ttl: i64 = redis::cmd("TTL").arg(&aging.world.keys("*}off")[0]).query(&mut aging.world.redis()).unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_store_that_is_away_keeps_what_waits_in_redis() {
    let aging = Aging::at_once().await;
    aging.world.put(&["a@x.example"], &text(BODY)).await;
    let (there, away) = (aging.folder.path().join("spool"), aging.folder.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    std::fs::create_dir(&there).unwrap();
    aging.delete("{L:offload:*");
    aging.ripen(&aging.world.queue).await;
    assert!(aging.world.queue.offload(0).await.is_err(), "a directory without the mark is no store");
    assert_eq!(aging.world.keys("*}off"), Vec::<String>::new(), "nobody has passed it by");
    let job = aging.world.claim_one("x.example").await;
    assert_eq!(aging.read(&job).await, text(BODY));
    aging.world.finish(&job).await;
}

#[tokio::test]
async fn what_operators_do_goes_on_as_before() {
    let aging = Aging::at_once().await;
    let id = aging.world.put(&["a@x.example", "b@x.example"], &text(BODY)).await;
    let gone = aging.world.put(&["a@x.example"], &text(BODY)).await;
    assert_eq!((aging.walk().await, aging.files().len()), (2, 4));
    assert_eq!(aging.world.queue.delete(gone).await.unwrap(), Deleted::Removed);
    aging.world.reap().await;
    assert_eq!(aging.files().len(), 2);
    // One recipient of two becomes a delivery of its own.
    let b = Filter { recipient: Some("b@x.example".to_owned()), ..Filter::default() };
    aging.world.queue.hold(&b).await.unwrap();
    let job = aging.world.claim_one("x.example").await;
    assert_eq!((job.recipients.len(), aging.read(&job).await), (1, text(BODY)));
    let settlement = Settlement::Finished { notices: Vec::new() };
    aging.world.queue.settle(&job.lease, settlement).await.unwrap();
    std::fs::remove_file(aging.files().pop().unwrap()).unwrap();
    assert_eq!(aging.findings().await, [(Problem::Torn, Some(id))]);
    aging.world.queue.delete(id).await.unwrap();
    aging.is_empty().await;
}
