//! A primary that Sentinels replace: its place in the queue is taken by the replica that has everything.

use std::time::{Duration, Instant};

use staffetta_queue::server::{LocalServer, Options};
use staffetta_queue::{Announcer, Durability, EnqueueError, Queue, Revocations};
use staffetta_testkit::redis_server::{PATIENCE, Sentinel};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::world::{claim, free_port, put, settings};

fn server(dir: &TempDir, name: &str, port: u16, more: &[(&str, &str)]) -> LocalServer {
    let settings = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    LocalServer::start_with(&dir.path().join(name), Options { port: Some(port), settings }).unwrap()
}

async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !good().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn open(url: String, replicas: u32) -> Queue {
    let mut settings = settings(url);
    (settings.durability, settings.replicas) = (Durability::Replicated, replicas);
    Queue::open(settings, CancellationToken::new()).unwrap()
}

#[tokio::test]
async fn the_queue_follows_its_primary_and_what_was_accepted_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (free_port(), free_port());
    let mut first = server(&dir, "one", one, &[]);
    let of = format!("127.0.0.1 {one}");
    let _second = server(&dir, "two", two, &[("replicaof", &of), ("repl-diskless-sync-delay", "0")]);
    let sentinel = Sentinel::start(dir.path(), one, "").unwrap();
    until("the Sentinel knows the replica", async || sentinel.replicas() == 1).await;
    // The first Sentinel of the list is not there.
    let queue = open(format!("redis-sentinel://127.0.0.1:{},127.0.0.1:{}/mail", free_port(), sentinel.port()), 1);
    queue.ready(PATIENCE).await.unwrap();
    let mut accepted = Vec::new();
    for _ in 0..20 {
        accepted.push(put(&queue, &["a@x.example"], b"x").await.unwrap());
    }

    let url = format!("redis-sentinel://127.0.0.1:{}/mail", sentinel.port());
    let pod = Revocations::follow(&settings(url.clone()), CancellationToken::new()).unwrap();
    assert!(pod.is_current_within(PATIENCE).await);
    let before = pod.version();

    first.kill().unwrap();
    until("the replica is promoted", async || sentinel.primary() == Some(two)).await;
    // Alone it confirms nothing, so nothing is accepted.
    assert!(matches!(put(&queue, &["a@x.example"], b"x").await, Err(EnqueueError::Unavailable(_))));
    first.restart().unwrap();
    until("mail is accepted again", async || match put(&queue, &["a@x.example"], b"x").await {
        Ok(id) => {
            accepted.push(id);
            true
        }
        Err(_) => false,
    })
    .await;
    Announcer::connect(&settings(url)).await.unwrap().revoke("john").await.unwrap();
    until("the new primary is followed", async || pod.is_revoked("john", before)).await;
    assert!(pod.is_current());
    // After a while without a primary nothing is begun for a moment.
    let mut there = Vec::new();
    while there.is_empty() {
        there.extend(claim(&queue, "x.example").await.into_iter().map(|job| job.lease.id));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    there.sort();
    accepted.sort();
    assert_eq!(there, accepted);
}

/// Servers and Sentinels that want the same login; a name that nobody knows.
#[tokio::test]
async fn sentinels_may_want_the_login_of_the_servers() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = server(&dir, "one", port, &[]);
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let rights = ["on", ">s3cret", "~*", "&*", "+@all"];
    redis::cmd("ACL").arg("SETUSER").arg("relay").arg(&rights).exec(&mut redis).unwrap();
    let login = format!("requirepass other\nuser relay {}\n", rights.join(" "));
    let sentinel = Sentinel::start(dir.path(), port, &login).unwrap();
    let host = format!("127.0.0.1:{}", sentinel.port());
    let fsync = |url: String| Queue::open(settings(url), CancellationToken::new()).unwrap();
    let queue = fsync(format!("redis-sentinel://relay:s3cret@{host}/mail"));
    queue.ready(PATIENCE).await.unwrap();
    put(&queue, &["a@x.example"], b"x").await.unwrap();
    for (url, text) in [
        (format!("redis-sentinel://relay:s3cret@{host}/other"), "no Sentinel names a primary for \"other\""),
        (format!("redis-sentinel://{host}/mail"), "no Sentinel names a primary for \"mail\""),
    ] {
        let queue = fsync(url);
        let error = queue.ready(Duration::from_secs(3)).await.unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains("s3cret"), "{error}");
    }
}
