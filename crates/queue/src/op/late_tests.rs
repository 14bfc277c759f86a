//! Redis answers late, or not at all: what the client is told is what happens. These cases need a short patience and a
//! process that dies right after its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::inside::{Server, accept, put, settings, signal};
use crate::pulse::{SETTLING, STALL};
use crate::record::{Content, Encoded};
use crate::server::{LocalServer, Options};
use crate::shared::{Process, Shared};
use crate::{Destination, Durability, EnqueueError, Settings};

const PATIENCE: Duration = Duration::from_secs(2);
const HASTY: Process = Process { patience: PATIENCE, ..Process::TODAY };
/// After ten seconds without an answer every connection is given up, so that no withdrawal waits in Redis' sockets.
const DISCONNECTED: Duration = Duration::from_secs(13);

/// Every message that workers could get now, or anybody later.
async fn messages(shared: &Shared) -> u64 {
    shared.counts().await.unwrap().messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_that_waits_in_the_socket_of_a_redis_that_stands_still_is_refused_when_it_goes_on() {
    let server = Server::start();
    let frontend = server.open(Process { patience: DISCONNECTED, ..Process::TODAY }).await;
    let other = server.open(Process::TODAY).await;
    put(&frontend, &["before@x.example"]).await.unwrap();
    server.signal("-STOP");
    let start = Instant::now();
    let answers = (0..20).map(|_| {
        let frontend = frontend.clone();
        tokio::spawn(async move { put(&frontend, &["a@x.example", "b@y.example"]).await })
    });
    for answer in answers.collect::<Vec<_>>() {
        assert!(matches!(answer.await.unwrap(), Err(EnqueueError::Unavailable(_))));
    }
    let took = start.elapsed();
    assert!((DISCONNECTED..DISCONNECTED + Duration::from_secs(6)).contains(&took), "{took:?}");
    // The process dies: nobody withdraws anything.
    frontend.shutdown.cancel();
    server.signal("-CONT");
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if let Ok(counts) = other.counts().await {
            assert_eq!(counts.messages, 1, "what was refused is queued");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(messages(&other).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_stall_ends_in_an_acceptance() {
    let server = Server::start();
    let frontend = server.open(Process::TODAY).await;
    server.signal("-STOP");
    let sending = tokio::spawn({
        let frontend = frontend.clone();
        async move { put(&frontend, &["a@x.example"]).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("-CONT");
    sending.await.unwrap().unwrap();
    assert_eq!(messages(&frontend).await, 1);
}

#[tokio::test]
async fn a_message_that_a_worker_has_was_accepted_and_stays_whole() {
    let server = Server::start();
    let shared = server.open(HASTY).await;
    let record = record(&shared, &["a@x.example", "b@y.example"]);
    shared.enqueue(&record).await.unwrap();
    let jobs = shared.claim(record.id.partition(), &Destination::new("x.example"), 10).await.unwrap();
    assert_eq!(jobs.len(), 1);
    // Its answer was lost, and the patience has ended.
    shared.pursue(&record).await.unwrap();
    assert_eq!(shared.renew(&[jobs[0].lease.clone()]).await.unwrap(), [true]);
    let counts = shared.counts().await.unwrap();
    assert_eq!((counts.messages, counts.leased, counts.ready), (1, 1, 1), "nothing was done to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_goes_on_while_the_client_waits_is_asked_once_more_before_the_client_is_refused() {
    let server = Server::start();
    let shared = server.open(HASTY).await;
    let record = record(&shared, &["a@x.example"]);
    shared.enqueue(&record).await.unwrap();
    assert_eq!(shared.claim(record.id.partition(), &Destination::new("x.example"), 10).await.unwrap().len(), 1);
    server.signal("-STOP");
    tokio::time::sleep(DISCONNECTED).await;
    assert!(shared.home().admin.trouble().is_some());
    let pursuing = tokio::spawn({
        let shared = shared.clone();
        async move { shared.pursue(&record).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("-CONT");
    pursuing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stall_workers_give_whoever_refused_a_message_the_time_to_withdraw_it() {
    let server = Server::start();
    let frontend = server.open(Process::TODAY).await;
    let worker = server.open(Process::TODAY).await;
    put(&frontend, &["a@x.example"]).await.unwrap();
    server.signal("-STOP");
    let (stop, got) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    // The first claim waits in the socket all the time, and before any withdrawal.
    let looking = look(&worker, &stop, &got);
    tokio::time::sleep(STALL + Duration::from_secs(1)).await;
    let start = Instant::now();
    server.signal("-CONT");
    while got.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    assert!(took >= SETTLING, "{took:?}");
    stop.cancel();
    looking.await.unwrap();
}

/// A worker that claims what there is for `x.example` all the time.
fn look(worker: &Arc<Shared>, stop: &CancellationToken, got: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<()> {
    let (worker, stop, got) = (worker.clone(), stop.clone(), got.clone());
    let destination = Destination::new("x.example");
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            for partition in 0..2 {
                let jobs = worker.claim(partition, &destination, 10).await.map_or(0, |jobs| jobs.len());
                got.fetch_add(jobs, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

fn record(shared: &Shared, recipients: &[&str]) -> Encoded {
    Encoded::new(2, shared.new_id(), &accept(recipients), shared.home().clock.now(), Content::inline(b"body")).unwrap()
}

/// A primary whose replica can be stopped.
struct Pair {
    settings: Settings,
    replica: LocalServer,
    _primary: LocalServer,
    _dirs: [tempfile::TempDir; 2],
}

impl Pair {
    fn start() -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = free();
        let primary =
            LocalServer::start_with(dirs[0].path(), Options { port: Some(port), settings: Vec::new() }).unwrap();
        let follow = vec![("replicaof".to_owned(), format!("127.0.0.1 {port}"))];
        let replica =
            LocalServer::start_with(dirs[1].path(), Options { port: Some(free()), settings: follow }).unwrap();
        let settings = Settings { durability: Durability::Replicated, replicas: 1, ..settings(primary.url()) };
        Self { settings, replica, _primary: primary, _dirs: dirs }
    }

    async fn open(&self, process: Process) -> Arc<Shared> {
        super::inside::open(&self.settings, process).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_replicas_do_not_have_is_refused_and_was_never_given_to_a_worker() {
    let pair = Pair::start();
    let frontend = pair.open(HASTY).await;
    let worker = pair.open(Process::TODAY).await;
    put(&frontend, &["a@x.example"]).await.unwrap();
    let destination = Destination::new("x.example");
    let mut claimed = 0;
    for partition in 0..2 {
        claimed += worker.claim(partition, &destination, 10).await.unwrap().len();
    }
    assert_eq!(claimed, 1, "with its replica everything is as usual");

    signal("-STOP", pair.replica.pid());
    let sending = tokio::spawn({
        let frontend = frontend.clone();
        async move { put(&frontend, &["b@x.example"]).await }
    });
    // Until the client has its answer, and after it.
    let (stop, got) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let looking = look(&worker, &stop, &got);
    let answer = sending.await.unwrap();
    signal("-CONT", pair.replica.pid());
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.cancel();
    assert!(matches!(answer, Err(EnqueueError::Unavailable(_))), "{answer:?}");
    looking.await.unwrap();
    assert_eq!(got.load(Ordering::Relaxed), 0);
    assert_eq!(messages(&frontend).await, 1, "the one that is leased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_gone_before_the_replicas_are_back_however_the_connections_fared() {
    let pair = Pair::start();
    let frontend = pair.open(HASTY).await;
    put(&frontend, &["a@x.example"]).await.unwrap();
    let mut redis = redis::Client::open(&*pair.settings.url).unwrap().get_connection().unwrap();
    let records = |redis: &mut redis::Connection| redis::cmd("KEYS").arg("*}m:*").query::<Vec<String>>(redis).unwrap();

    signal("-STOP", pair.replica.pid());
    let sending = tokio::spawn({
        let frontend = frontend.clone();
        async move { put(&frontend, &["b@x.example"]).await }
    });
    while records(&mut redis).len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It is queued, and as long as the replica says nothing no new connection is fit for mail.
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut redis).unwrap();
    let answer = sending.await.unwrap();
    let left = records(&mut redis);
    signal("-CONT", pair.replica.pid());
    assert!(matches!(answer, Err(EnqueueError::Unavailable(_))), "{answer:?}");
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_gone_however_many_messages_wait_for_a_replica_that_stands_still() {
    let pair = Pair::start();
    let frontend = pair.open(HASTY).await;
    put(&frontend, &["a@x.example"]).await.unwrap();
    signal("-STOP", pair.replica.pid());
    let sending = (0..200).map(|_| {
        let frontend = frontend.clone();
        tokio::spawn(async move { put(&frontend, &["b@x.example"]).await })
    });
    for answer in sending.collect::<Vec<_>>() {
        assert!(matches!(answer.await.unwrap(), Err(EnqueueError::Unavailable(_))));
    }
    let left = messages(&frontend).await;
    signal("-CONT", pair.replica.pid());
    assert_eq!(left, 1);
}
