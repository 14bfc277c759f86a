//! What must survive: a crash of Redis under load, a full Redis, the rules of Redis Cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;
use staffetta_queue::server::{LocalServer, Options};
use staffetta_queue::{Chunks, Deleted, Destination, EnqueueError, Error, Filter, Health, Queue, Settlement};
use tokio_util::sync::CancellationToken;

use crate::world::{claim, deferred, notice, put, settings, world, world_with};

const ROUNDS: usize = 3;
const SENDERS: usize = 12;

/// Promise 1, 2 and 3: what was acknowledged is there, what was refused is not, each exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_nothing_that_was_acknowledged() {
    let mut world = world().await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..ROUNDS {
        let stop = CancellationToken::new();
        let senders: Vec<_> =
            (0..SENDERS).map(|_| tokio::spawn(send_until(world.queue.clone(), stop.clone()))).collect();
        // Some must be through and others under way.
        while world.queue.counts().await.map_or(0, |counts| counts.messages) < (acknowledged.len() + 50) as u64 {
            tokio::task::yield_now().await;
        }
        world.server.kill().unwrap();
        world.server.restart().unwrap();
        world.queue.ready(Duration::from_secs(20)).await.unwrap();
        stop.cancel();
        for sender in senders {
            acknowledged.extend(sender.await.unwrap());
        }
    }
    let mut found = Vec::new();
    loop {
        let jobs = world.claim("x.example").await;
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            assert!(world.finish(&job).await.is_done());
            found.push(job.lease.id);
        }
    }
    assert_eq!(found.len(), found.iter().collect::<BTreeSet<_>>().len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), acknowledged);
    for job in world.claim("y.example").await {
        world.finish(&job).await;
    }
}

/// Enqueues until told to stop; the ids that were acknowledged.
async fn send_until(queue: Queue, stop: CancellationToken) -> Vec<QueueId> {
    let mut acknowledged = Vec::new();
    while !stop.is_cancelled() {
        match put(&queue, &["a@x.example", "b@y.example"], &[b'b'; 2_000]).await {
            Ok(id) => acknowledged.push(id),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    acknowledged
}

/// Room is left for what drains the queue.
#[tokio::test]
async fn mail_is_refused_before_redis_is_at_its_limit() {
    let world = world_with(&[], |settings| settings.max_memory_ratio = 0.5).await;
    let limit = |octets: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(octets).exec(&mut world.redis()).unwrap();
    };
    // So much that buffers of connections, which come and go, make no difference.
    redis::cmd("SET").arg("ballast").arg(vec![b'x'; 8 << 20]).exec(&mut world.redis()).unwrap();
    let used: String = redis::cmd("INFO").arg("memory").query(&mut world.redis()).unwrap();
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse::<u64>().unwrap();
    let health = async |wanted: Health| {
        let end = Instant::now() + Duration::from_secs(20);
        while world.queue.health() != wanted {
            assert!(Instant::now() < end, "{:?}, not {wanted:?}", world.queue.health());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    limit(&(used + used / 2).to_string());
    health(Health::Full).await;
    assert!(matches!(world.queue.receive().map(drop), Err(EnqueueError::Full)));
    limit(&(used * 4).to_string());
    health(Health::Ready).await;
    world.put(&["a@x.example"], b"x").await;
}

/// Promise 8: a full Redis takes nothing new and drains what it has.
#[tokio::test]
async fn a_full_redis_refuses_mail_and_drains() {
    let world = world_with(&[], |settings| settings.max_memory_ratio = 1.0).await;
    for _ in 0..5 {
        world.put(&["a@x.example", "b@y.example"], &[b'b'; 2_000]).await;
    }
    let set =
        |limit: &str| redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).exec(&mut world.redis()).unwrap();
    set("1mb");
    // Before the next look at the memory it is the script that is refused, afterwards the health says so.
    assert!(matches!(put(&world.queue, &["a@x.example"], b"x").await, Err(EnqueueError::Full)));
    let end = Instant::now() + Duration::from_secs(20);
    while world.queue.health() != Health::Full {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(world.queue.receive().map(drop), Err(EnqueueError::Full)));

    let offered: usize = {
        let mut offered = 0;
        for partition in 0..world.queue.partitions() {
            offered += world.queue.offer(partition, 10).await.unwrap().destinations.len();
        }
        offered
    };
    assert!(offered >= 2);
    for destination in [None, Some(Destination::new("y.example"))] {
        let filter = Filter { destination, ..Filter::default() };
        assert!(world.queue.list(&filter, None, 100).await.unwrap().entries.len() >= 5, "operators see it");
    }
    let jobs = world.claim("x.example").await;
    assert_eq!(jobs.len(), 5);
    let leases: Vec<_> = jobs.iter().map(|job| job.lease.clone()).collect();
    assert_eq!(world.queue.renew(&leases).await.unwrap(), [true; 5]);
    for job in &jobs {
        assert!(world.queue.settle(&job.lease, deferred(vec![0], Duration::ZERO)).await.unwrap().is_done());
    }
    for job in world.claim("x.example").await {
        // One that is large, too: what drains the queue needs no leave.
        let settlement = Settlement::Finished { notices: vec![notice(&[b'n'; 60_000])] };
        assert!(world.queue.settle(&job.lease, settlement).await.unwrap().is_done());
        world.queue.note_bounced(job.lease.id, false, &["a@x.example"]).await.unwrap();
    }
    let (held, rest) = (world.claim("y.example").await, world.claim("example.org").await);
    assert_eq!((held.len(), rest.len()), (5, 5));
    assert_eq!(world.queue.delete(held[0].lease.id).await.unwrap(), Deleted::Leased);
    for job in held.iter().chain(&rest) {
        assert!(world.finish(job).await.is_done());
    }
    assert_eq!(world.remains(), Vec::<String>::new());
    set("0");
    world.queue.ready(Duration::from_secs(20)).await.unwrap();
    while world.queue.health() == Health::Full {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.put(&["a@x.example"], b"x").await;
}

/// A transaction that is at its content goes on when Redis is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_asked_for_again_while_redis_starts() {
    let mut world = world().await;
    let id = world.put(&["a@x.example"], &[b'b'; 600_000]).await;
    world.server.kill().unwrap();
    let queue = world.queue.clone();
    let asked = tokio::spawn(async move { queue.chunk(id, &Chunks::default(), 0).await });
    // It has been told that nobody is there.
    while !matches!(world.queue.health(), Health::Down(_)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asked.is_finished());
    world.server.restart().unwrap();
    assert!(asked.await.unwrap().unwrap().iter().all(|octet| *octet == b'b'));
    assert!(
        matches!(world.queue.chunk(id, &Chunks::default(), 9).await, Err(Error::Damaged(..))),
        "what is not there is not waited for"
    );
}

/// So many that no call of Lua takes them in hand at once.
#[tokio::test]
async fn a_message_may_have_as_many_destinations_as_recipients() {
    let world = world().await;
    let recipients: Vec<String> = (0..65_535).map(|n| format!("a@d{n}.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    world.put(&recipients, b"x").await;
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.messages, counts.ready), (1, 65_535));
    let last = world.claim_one("d65534.example").await;
    assert_eq!(last.recipients.len(), 1);
    assert!(world.finish(&last).await.is_done());
    assert_eq!(world.queue.counts().await.unwrap().ready, 65_534);
}

/// Every operation on a server in cluster mode, which refuses a script that touches two slots.
#[tokio::test]
async fn all_keys_of_an_operation_share_a_slot() {
    let dir = tempfile::tempdir().unwrap();
    let server = cluster_server(dir.path());
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec(&mut connection).unwrap();
    let shutdown = CancellationToken::new();
    let queue = Queue::open(settings(server.url()), shutdown.clone()).unwrap();
    queue.ready(Duration::from_secs(20)).await.unwrap();

    let id = put(&queue, &["a@x.example", "b@y.example"], &[b'b'; 600_000]).await.unwrap();
    put(&queue, &["a@x.example"], b"small").await.unwrap();
    queue.offer(id.partition(), 10).await.unwrap();
    let jobs = claim(&queue, "x.example").await;
    assert_eq!(jobs.len(), 2);
    queue.renew(&[jobs[0].lease.clone()]).await.unwrap();
    let mut settlement = deferred(vec![0], Duration::ZERO);
    if let Settlement::Deferred { notices: slot, back_off, .. } = &mut settlement {
        *slot = vec![notice(&[b'n'; 300_000])];
        *back_off = Some(Duration::from_secs(60));
    }
    assert!(queue.settle(&jobs[0].lease, settlement).await.unwrap().is_done());
    assert!(queue.settle(&jobs[1].lease, Settlement::Released).await.unwrap().is_done());
    queue.flush(&Filter::default()).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().messages, 3);
    assert_eq!(queue.list(&Filter::default(), None, 10).await.unwrap().entries.len(), 3);
    claim(&queue, "y.example").await;
    let leases = format!("{{{}}}lease", tag(&mut connection, id));
    let members: Vec<String> = redis::cmd("ZRANGE").arg(&leases).arg(0).arg(-1).query(&mut connection).unwrap();
    redis::cmd("ZADD").arg(&leases).arg(1).arg(&members[0]).exec(&mut connection).unwrap();
    let mut reclaimed = 0;
    for partition in 0..queue.partitions() {
        reclaimed += queue.reclaim(partition).await.unwrap();
    }
    assert_eq!(reclaimed, 1);
    for job in claim(&queue, "x.example").await {
        let settlement = Settlement::Finished { notices: vec![notice(&[b'n'; 300_000])] };
        assert!(queue.settle(&job.lease, settlement).await.unwrap().is_done());
    }
    assert_eq!(queue.delete(id).await.unwrap(), Deleted::Removed);
    shutdown.cancel();
}

/// The hash tag of the partition that holds this message.
fn tag(connection: &mut redis::Connection, id: QueueId) -> String {
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*m:{id}")).query(connection).unwrap();
    keys[0].split(['{', '}']).nth(1).unwrap().to_owned()
}

/// A cluster needs a port, and another one 10000 above for its bus.
fn cluster_server(dir: &std::path::Path) -> LocalServer {
    for _ in 0..20 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = vec![("cluster-enabled".to_owned(), "yes".to_owned())];
        if port < 55_000
            && let Ok(server) = LocalServer::start_with(dir, Options { port: Some(port), settings })
        {
            return server;
        }
    }
    panic!("no server in cluster mode");
}

/// While Redis pauses, claims give up or are repeated; what their tries lease later has no owner and must not wait for
/// the end of the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_whose_answers_were_lost_leave_no_lease_behind() {
    let world = world().await;
    for _ in 0..200 {
        put(&world.queue, &["a@x.example"], b"body").await.unwrap();
    }
    let destination = Destination::new("x.example");
    let signal = |name: &str| {
        let pid = world.server.pid().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let claims: Vec<_> = (0..world.queue.partitions())
        .flat_map(|partition| (0..8).map(move |_| partition))
        .map(|partition| {
            let (queue, destination) = (world.queue.clone(), destination.clone());
            tokio::spawn(async move { queue.claim(partition, &destination, 5).await })
        })
        .collect();
    // Longer than a claim waits for its answer; what was sent is still carried out.
    tokio::time::sleep(Duration::from_secs(12)).await;
    signal("-CONT");
    let mut owned = 0;
    for claim in claims {
        owned += claim.await.unwrap().map_or(0, |jobs| jobs.len() as u64);
    }
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let leased = world.queue.counts().await.map(|counts| counts.leased);
        if leased.as_ref().is_ok_and(|leased| *leased == owned) {
            return;
        }
        assert!(Instant::now() < end, "{leased:?} leased, {owned} of them owned");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
