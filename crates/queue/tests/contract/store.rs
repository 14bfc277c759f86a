//! Bodies too large for Redis: in a directory and in what speaks S3.

use std::path::PathBuf;
use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Body, Chunks, Deleted, Error, Finding, Job, Kept, Problem, Queue, Settings, compare_store};
use staffetta_testkit::s3::files;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::world::{World, accept, bodies, claim, notice, put, world_with};

/// Of three pieces.
const LARGE: usize = 1_200_000;

struct Spooled {
    world: World,
    folder: TempDir,
}

fn octets(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

impl Spooled {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = url(&folder);
        let world = world_with(&[], |settings| settings.spool = Some(url)).await;
        Self { world, folder }
    }

    fn files(&self) -> Vec<PathBuf> {
        bodies(&self.folder)
    }

    async fn put(&self, recipients: &[&str], body: &[u8]) -> QueueId {
        self.world.put(recipients, body).await
    }
}

fn url(folder: &TempDir) -> String {
    format!("file://{}/spool", folder.path().display())
}

async fn body(queue: &Queue, job: &Job) -> Vec<u8> {
    let Body::Chunks(chunks) = job.body else { panic!("{:?}", job.body) };
    let mut octets = job.prefix.to_vec();
    for index in 0..chunks.count {
        octets.extend(queue.chunk(job.message.id, &chunks, index).await.unwrap());
    }
    octets
}

#[tokio::test]
async fn what_outgrows_redis_lies_in_the_store_once_and_goes_with_its_last_job() {
    let spooled = Spooled::start().await;
    let content = octets(LARGE);
    let mut incoming = spooled.world.queue.receive().unwrap();
    for piece in content.chunks(9_999) {
        incoming.write(piece).await.unwrap();
    }
    let id = incoming.commit(accept(&["a@x.example", "b@y.example"]), b"X-First: 1\r\n").await.unwrap();
    assert_eq!(spooled.files().len(), 3, "{:?}", spooled.files());
    assert_eq!((spooled.world.keys("*}b:*"), spooled.world.garbage()), (vec![], vec![]));
    for (domain, left) in [("x.example", 3), ("y.example", 0)] {
        let job = spooled.world.claim_one(domain).await;
        let Body::Chunks(Chunks { count, size, kept, .. }) = job.body else { panic!("{:?}", job.body) };
        assert_eq!((count, size, kept, job.message.size), (3, LARGE as u64, Kept::InStore, LARGE as u64 + 12));
        assert_eq!(body(&spooled.world.queue, &job).await, [b"X-First: 1\r\n", &*content].concat());
        let head = spooled.world.queue.head(id, &job.prefix, &job.body).await.unwrap();
        assert!(head.starts_with(b"X-First: 1\r\n") && head.len() > 100_000);
        spooled.world.finish(&job).await;
        spooled.world.reap().await;
        assert_eq!(spooled.files().len(), left, "{domain}");
    }
    assert_eq!(spooled.world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn the_limit_decides_and_what_was_in_redis_moves() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Some(url(&folder));
    let world = world_with(&[], |settings| (settings.spool, settings.redis_limit) = (spool, 600_000)).await;
    let spooled = Spooled { world, folder };
    spooled.put(&["a@small.example"], &octets(600_000)).await;
    assert_eq!((spooled.files().len(), spooled.world.keys("*}b:*").len()), (0, 3));
    let content = octets(600_001);
    let mut incoming = spooled.world.queue.receive().unwrap();
    for piece in content.chunks(100_000) {
        incoming.write(piece).await.unwrap();
    }
    let id = incoming.commit(accept(&["a@large.example"]), b"").await.unwrap();
    assert_eq!(spooled.world.keys(&format!("*}}b:{id}:*")), Vec::<String>::new(), "they are not there twice");
    let job = spooled.world.claim_one("large.example").await;
    assert_eq!(body(&spooled.world.queue, &job).await, content);
}

#[tokio::test]
async fn what_is_given_up_or_deleted_leaves_nothing() {
    let spooled = Spooled::start().await;
    let mut incoming = spooled.world.queue.receive().unwrap();
    incoming.write(&octets(LARGE)).await.unwrap();
    assert_eq!(spooled.files().len(), 2);
    let id = incoming.id();
    let [(entry, due)] = &spooled.world.garbage()[..] else { panic!("{:?}", spooled.world.garbage()) };
    let now: (f64, f64) = redis::cmd("TIME").query(&mut spooled.world.redis()).unwrap();
    let left = due / 1_000.0 - now.0;
    assert!(*entry == format!("{id} a") && (100.0..=121.0).contains(&left), "{entry} {left}");
    drop(incoming);
    while !spooled.files().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    spooled.world.reap().await;
    // Refused at its end.
    let mut incoming = spooled.world.queue.receive().unwrap();
    incoming.write(&octets(LARGE)).await.unwrap();
    assert!(incoming.commit(accept(&[]), b"").await.is_err());
    while !spooled.files().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = spooled.put(&["a@x.example"], &octets(LARGE)).await;
    assert_eq!(spooled.world.queue.delete(id).await.unwrap(), Deleted::Removed);
    spooled.world.reap().await;
    assert_eq!((spooled.files(), spooled.world.remains()), (vec![], vec![]));
}

#[tokio::test]
async fn who_dies_leaves_an_entry_and_a_message_that_was_given_up_is_never_queued() {
    let spooled = Spooled::start().await;
    let mut incoming = spooled.world.queue.receive().unwrap();
    incoming.write(&octets(LARGE)).await.unwrap();
    let id = incoming.id();
    spooled.world.reap().await;
    assert_eq!(spooled.files(), Vec::<PathBuf>::new());
    incoming.write(&octets(LARGE)).await.unwrap();
    let refused = incoming.commit(accept(&["a@x.example"]), b"").await;
    assert!(refused.is_err(), "{id}: a part of it is gone");
    assert!(spooled.world.claim("x.example").await.is_empty());
}

#[tokio::test]
async fn the_body_of_a_queued_message_stays_whatever_stands_in_the_set() {
    let spooled = Spooled::start().await;
    let id = spooled.put(&["a@x.example"], &octets(LARGE)).await;
    let gc = spooled.world.keys("*}id").into_iter().find(|key| key.starts_with(&format!("{{kq:{}.", id.partition())));
    let gc = gc.unwrap().replace("}id", "}gc");
    for kind in ["a", "o"] {
        redis::cmd("ZADD").arg(&gc).arg(1).arg(format!("{id} {kind}")).exec(&mut spooled.world.redis()).unwrap();
        spooled.world.reap().await;
    }
    assert_eq!(spooled.files().len(), 3);
    spooled.world.claim_one("x.example").await;
}

#[tokio::test]
async fn a_store_that_is_away_refuses_large_mail_and_small_mail_goes_on() {
    let spooled = Spooled::start().await;
    let queue = &spooled.world.queue;
    let id = spooled.put(&["a@x.example"], &octets(LARGE)).await;
    let job = spooled.world.claim_one("x.example").await;
    let Body::Chunks(chunks) = job.body else { panic!() };
    assert_eq!((queue.cannot_read(&job.body), queue.cannot_keep(1 << 30)), (None, None));
    // Unmounted: a directory of the same name is there, and it is empty.
    let (there, away) = (spooled.folder.path().join("spool"), spooled.folder.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    std::fs::create_dir(&there).unwrap();
    let refused = put(queue, &["a@z.example"], &octets(LARGE)).await.unwrap_err();
    assert!(refused.to_string().contains("not the store that this queue uses"), "{refused}");
    let unread = queue.chunk(id, &chunks, 0).await.unwrap_err();
    assert!(matches!(unread, Error::StoreAway(_)), "an empty directory is no lost body: {unread}");
    assert!(queue.cannot_read(&job.body).is_some() && queue.cannot_keep(256 * 1024).is_none());
    assert!(queue.cannot_keep(256 * 1024 + 1).is_some());
    assert_eq!(queue.head(id, &job.prefix, &job.body).await.unwrap(), "", "a report is made all the same");
    spooled.put(&["a@small.example"], b"small").await;
    assert_eq!(spooled.files(), Vec::<PathBuf>::new(), "nothing was written there");
    std::fs::remove_dir_all(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    assert_eq!(body(queue, &job).await, octets(LARGE));
    // That it can be read does not say that it can be written; that is tried within seconds.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while let Some(trouble) = queue.cannot_keep(1 << 30) {
        assert!(std::time::Instant::now() < end, "{trouble}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A piece that is gone is gone.
    std::fs::remove_file(spooled.files().pop().unwrap()).unwrap();
    assert!(matches!(queue.chunk(id, &chunks, 2).await, Err(Error::Damaged(..))));
}

/// It is what everybody's chunks and records share.
#[tokio::test]
async fn a_large_message_leaves_the_connection_of_bodies_alone() {
    let spooled = Spooled::start().await;
    let mut redis = spooled.world.redis();
    let mut connections = || -> String {
        let stats: String = redis::cmd("INFO").arg("stats").query(&mut redis).unwrap();
        stats.lines().find(|line| line.starts_with("total_connections_received")).unwrap().to_owned()
    };
    spooled.put(&["a@x.example"], b"small").await;
    let before = connections();
    for _ in 0..3 {
        spooled.put(&["a@x.example"], &octets(LARGE)).await;
    }
    assert_eq!(connections(), before);
}

/// One half lies here, the other there.
#[tokio::test]
async fn a_store_that_is_another_one_in_the_middle_of_a_message_is_no_place_for_it() {
    let spooled = Spooled::start().await;
    let (there, away) = (spooled.folder.path().join("spool"), spooled.folder.path().join("away"));
    for returns in [false, true] {
        let mut incoming = spooled.world.queue.receive().unwrap();
        incoming.write(&octets(LARGE)).await.unwrap();
        std::fs::rename(&there, &away).unwrap();
        std::fs::create_dir(&there).unwrap();
        let written = incoming.write(&octets(LARGE)).await;
        if returns {
            std::fs::remove_dir_all(&there).unwrap();
            std::fs::rename(&away, &there).unwrap();
        }
        let committed = async { incoming.commit(accept(&["a@x.example"]), b"").await.map(drop) };
        assert!(written.is_err() || committed.await.is_err(), "returns: {returns}");
        if !returns {
            std::fs::remove_dir_all(&there).unwrap();
            std::fs::rename(&away, &there).unwrap();
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while spooled.world.queue.cannot_keep(1 << 30).is_some() {
                assert!(std::time::Instant::now() < end);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert!(spooled.world.claim("x.example").await.is_empty());
}

#[tokio::test]
async fn a_pod_with_a_directory_of_its_own_neither_writes_nor_loses_anything() {
    let spooled = Spooled::start().await;
    let id = spooled.put(&["a@x.example"], &octets(LARGE)).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let settings = Settings { spool: Some(url(&elsewhere)), ..spooled.world.settings.clone() };
    let shutdown = CancellationToken::new();
    let other = Queue::open(settings, shutdown.clone()).unwrap();
    other.ready(Duration::from_secs(10)).await.unwrap();
    let refused = put(&other, &["a@z.example"], &octets(LARGE)).await.unwrap_err();
    assert!(refused.to_string().contains("not the store that this queue uses"), "{refused}");
    let job = claim(&other, "x.example").await.remove(0);
    let Body::Chunks(chunks) = job.body else { panic!() };
    assert!(matches!(other.chunk(id, &chunks, 0).await, Err(Error::StoreAway(_))));
    assert!(other.cannot_read(&job.body).is_some());
    assert_eq!(files(elsewhere.path().to_owned()).unwrap(), Vec::<PathBuf>::new());
    // Its reaper leaves what it cannot see to others.
    spooled.world.finish(&job).await;
    for partition in 0..other.partitions() {
        other.reclaim(partition).await.unwrap();
    }
    assert_eq!((spooled.world.garbage().len(), spooled.files().len()), (1, 3));
    spooled.world.reap().await;
    assert_eq!(spooled.files(), Vec::<PathBuf>::new());
    // Without a store at all.
    let id = spooled.put(&["a@x.example"], &octets(LARGE)).await;
    let settings = Settings { spool: None, ..spooled.world.settings.clone() };
    let bare = Queue::open(settings, shutdown.clone()).unwrap();
    bare.ready(Duration::from_secs(10)).await.unwrap();
    let job = claim(&bare, "x.example").await.remove(0);
    assert!(bare.cannot_read(&job.body).is_some());
    assert!(matches!(bare.chunk(id, &chunks, 0).await, Err(Error::StoreAway(_))));
    let missing = compare_store(&bare).await.unwrap_err();
    assert!(format!("{missing:?}").contains("spool.url is not set here"), "{missing:?}");
    shutdown.cancel();
}

#[tokio::test]
async fn while_there_are_workers_one_of_them_begins_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let world = world_with(&[], |_| {}).await;
    // It says so when it first asks for work, and has no store.
    world.queue.offer(0, 1).await.unwrap();
    let settings = Settings { spool: Some(url(&folder)), ..world.settings.clone() };
    let shutdown = CancellationToken::new();
    let open = || Queue::open(settings.clone(), shutdown.clone()).unwrap();
    let (frontend, worker) = (open(), open());
    frontend.ready(Duration::from_secs(10)).await.unwrap();
    worker.ready(Duration::from_secs(10)).await.unwrap();
    let refused = put(&frontend, &["a@x.example"], &octets(LARGE)).await.unwrap_err();
    assert!(refused.to_string().contains("no worker has used it yet"), "{refused}");
    worker.offer(0, 1).await.unwrap();
    let id = loop {
        match put(&frontend, &["a@x.example"], &octets(LARGE)).await {
            Ok(id) => break id,
            Err(error) => assert!(error.to_string().contains("no worker has used it yet"), "{error}"),
        }
    };
    let job = claim(&worker, "x.example").await.remove(0);
    assert_eq!((job.message.id, body(&worker, &job).await), (id, octets(LARGE)));
    shutdown.cancel();
}

#[tokio::test]
async fn a_look_at_the_queue_sees_torn_bodies_and_those_without_a_message() {
    let spooled = Spooled::start().await;
    let look = async |repair| {
        let mut findings = Vec::new();
        let mut tell = |finding: &Finding| findings.push((finding.problem, finding.id, finding.mended));
        spooled.world.queue.verify(repair, &mut tell).await.unwrap();
        findings
    };
    let id = spooled.put(&["a@x.example", "b@y.example"], &octets(LARGE)).await;
    assert_eq!(look(true).await, []);
    // Left by nobody who is known, long ago.
    let orphan: QueueId = id.to_string().parse().unwrap();
    let orphan = QueueId::new(orphan.partition(), orphan.unix_millis() - 1, 7);
    let files = spooled.files();
    let folder = files[0].parent().unwrap().with_file_name(orphan.to_string());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("0"), "x").unwrap();
    assert_eq!(look(true).await, [], "it may be about to get its message");
    let old = std::time::SystemTime::now() - Duration::from_secs(3_700);
    std::fs::File::open(&folder).unwrap().set_modified(old).unwrap();
    assert_eq!(look(false).await, [(Problem::Leftover, Some(orphan), false)]);
    assert_eq!(look(true).await, [(Problem::Leftover, Some(orphan), true)]);
    spooled.world.reap().await;
    assert!(!folder.exists());
    std::fs::remove_file(&files[1]).unwrap();
    assert_eq!(look(true).await, [(Problem::Torn, Some(id), false)]);
}

/// As many as four rounds take in one look of a worker; the others in the next, once their term is over.
#[tokio::test]
async fn bodies_of_many_messages_go_at_a_known_pace() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Some(url(&folder));
    let world = world_with(&[], |settings| {
        (settings.spool, settings.partitions) = (spool, 1);
        (settings.inline_limit, settings.redis_limit) = (100, 200);
    })
    .await;
    let spooled = Spooled { world, folder };
    for _ in 0..150 {
        spooled.put(&["a@x.example"], &octets(300)).await;
    }
    assert_eq!(spooled.files().len(), 150);
    for job in spooled.world.claim("x.example").await.into_iter().chain(spooled.world.claim("x.example").await) {
        spooled.world.finish(&job).await;
    }
    spooled.world.keep_house().await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while spooled.files().len() > 150 - 4 * 32 {
        assert!(std::time::Instant::now() < end, "{} are left", spooled.files().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    spooled.world.reap().await;
    assert_eq!((spooled.files().len(), spooled.world.remains()), (0, vec![]));
}

#[tokio::test]
async fn reports_on_large_messages_stay_in_redis() {
    let spooled = Spooled::start().await;
    spooled.put(&["a@x.example"], &octets(LARGE)).await;
    let job = spooled.world.claim_one("x.example").await;
    const REPORT: &[u8] = &[b'r'; 300_000];
    let settlement = staffetta_queue::Settlement::Finished { notices: vec![notice(REPORT)] };
    assert!(spooled.world.queue.settle(&job.lease, settlement).await.unwrap().is_done());
    let report = spooled.world.claim_one("example.org").await;
    assert_eq!(report.body, Body::Chunks(Chunks::in_redis(2, 300_000)));
    spooled.world.reap().await;
    assert_eq!(spooled.files(), Vec::<PathBuf>::new());
}
