//! What is lost on the way: an answer, a replica, a connection, a chunk, a server; and what may be said then.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use staffetta_queue::{Durability, Health, Queue, Settlement};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{World, accept, put, world, world_with};

/// Sends a signal to a server of ours.
fn signal(world: &World, name: &str) {
    assert!(Command::new("kill").args([name, &world.server.pid().to_string()]).status().unwrap().success());
}

fn keys(world: &World, pattern: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(pattern).query(&mut world.redis()).unwrap()
}

#[tokio::test]
async fn a_message_whose_outcome_is_unknown_is_withdrawn() {
    let world = world().await;
    signal(&world, "-STOP");
    let refused = put(&world.queue, &["a@x.example"], b"x").await;
    signal(&world, "-CONT");
    refused.unwrap_err();
    let end = Instant::now() + Duration::from_secs(30);
    while keys(&world, "*}x:*").is_empty() {
        assert!(Instant::now() < end, "nobody has withdrawn it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.remains(), Vec::<String>::new());
}

/// A replica of a server, and a queue that wants its word.
async fn replicated(world: &World) -> (World, Queue) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    redis::cmd("CONFIG").arg("SET").arg("port").arg(port).exec(&mut world.redis()).unwrap();
    let replica = world_with(&[], |settings| settings.durability = Durability::None).await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut replica.redis()).unwrap();
    let mut settings = world.settings.clone();
    settings.durability = Durability::Replicated;
    settings.replicas = 1;
    let queue = Queue::open(settings, CancellationToken::new()).unwrap();
    queue.ready(Duration::from_secs(20)).await.unwrap();
    put(&queue, &["a@x.example"], b"x").await.unwrap();
    (replica, queue)
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_not_counted() {
    let world = world().await;
    let (replica, queue) = replicated(&world).await;
    signal(&replica, "-STOP");
    let refused = put(&queue, &["a@y.example"], b"x").await;
    signal(&replica, "-CONT");
    refused.unwrap_err();
    assert_eq!(keys(&world, "*}w:y.example"), Vec::<String>::new(), "and it is withdrawn");
}

fn all_confirmed(world: &World) -> bool {
    let info: String = redis::cmd("INFO").arg("replication").query(&mut world.redis()).unwrap();
    let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap();
    info.lines().any(|line| line.starts_with("slave0:") && line.contains(&format!(",offset={offset},")))
}

#[tokio::test]
async fn a_replica_is_waited_for_when_redis_has_forgotten_the_scripts() {
    let world = world().await;
    let (replica, queue) = replicated(&world).await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut world.redis()).unwrap();
    // All that the replica has not confirmed is the enqueue itself.
    let end = Instant::now() + Duration::from_secs(20);
    while !all_confirmed(&world) {
        assert!(Instant::now() < end, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(&replica, "-STOP");
    let mut putting = Box::pin(put(&queue, &["a@y.example"], b"x"));
    let early = tokio::time::timeout(Duration::from_millis(1_500), &mut putting).await;
    signal(&replica, "-CONT");
    assert!(early.is_err(), "said without the word of the replica: {early:?}");
    putting.await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_back_unfit_takes_no_mail() {
    let world = world().await;
    redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("no").exec(&mut world.redis()).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").exec(&mut world.redis()).unwrap();
    while world.queue.health() == Health::Ready {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let end = Instant::now() + Duration::from_millis(700);
    while Instant::now() < end {
        put(&world.queue, &["a@x.example"], b"x").await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_settlement_goes_on_as_long_as_redis_is_away() {
    let mut world = world().await;
    world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    world.server.kill().unwrap();
    while world.queue.health() == Health::Ready {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let queue = world.queue.clone();
    let settlement = Settlement::Finished { notices: Vec::new() };
    let mut settling = tokio::spawn(async move { queue.settle(&job.lease, settlement).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut settling).await;
    assert!(early.is_err(), "it has not waited: {early:?}");
    world.server.restart().unwrap();
    assert!(settling.await.unwrap().unwrap().is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_delivered_is_settled_also_while_no_replica_confirms() {
    let world = world().await;
    let (replica, queue) = replicated(&world).await;
    let job = world.claim_one("x.example").await;
    signal(&replica, "-STOP");
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut world.redis()).unwrap();
    let settling = queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() });
    let settled = tokio::time::timeout(Duration::from_secs(10), settling).await;
    signal(&replica, "-CONT");
    let Ok(settled) = settled else { panic!("it waits for the replica") };
    assert!(settled.unwrap().is_done());
    assert_eq!(keys(&world, "*}m:*"), Vec::<String>::new());
}

#[tokio::test]
async fn a_chunk_that_cannot_be_stored_is_said_at_once() {
    let world = world().await;
    let mut incoming = world.queue.receive().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut world.redis()).unwrap();
    incoming.write(&[b'x'; 600_000]).await.unwrap_err();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut world.redis()).unwrap();
    drop(incoming);
    assert_eq!(world.remains(), Vec::<String>::new());

    let mut incoming = world.queue.receive().unwrap();
    incoming.write(&[b'x'; 600_000]).await.unwrap();
    let chunks = keys(&world, "*}b:*");
    assert_eq!(chunks.len(), 2);
    redis::cmd("DEL").arg(&chunks[0]).exec(&mut world.redis()).unwrap();
    incoming.commit(accept(&["a@x.example"]), b"").await.unwrap_err();
    assert_eq!(world.queue.counts().await.unwrap().messages, 0, "not without its body");
}

#[tokio::test]
async fn a_renewal_gives_a_lease_its_whole_time_again() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    let [lease]: [String; 1] = keys(&world, "*}lease").try_into().unwrap();
    let (member, end): (String, f64) = {
        let all: Vec<(String, f64)> =
            redis::cmd("ZRANGE").arg(&lease).arg(0).arg(-1).arg("WITHSCORES").query(&mut world.redis()).unwrap();
        all.into_iter().next().unwrap()
    };
    assert!(member.starts_with(&id.to_string()));
    redis::cmd("ZADD").arg(&lease).arg(end - 50_000.0).arg(&member).exec(&mut world.redis()).unwrap();
    assert_eq!(world.queue.renew(std::slice::from_ref(&job.lease)).await.unwrap(), [true]);
    let renewed: f64 = redis::cmd("ZSCORE").arg(&lease).arg(&member).query(&mut world.redis()).unwrap();
    assert!(renewed >= end, "{renewed} after {end}");
}

#[tokio::test]
async fn mail_takes_the_partitions_in_turn() {
    let world = world().await;
    let mut used = BTreeSet::new();
    for _ in 0..world.queue.partitions() {
        used.insert(world.put(&["a@x.example"], b"x").await.partition());
    }
    assert_eq!(used.len(), usize::from(world.queue.partitions()));
}
