//! Pieces of messages that are not queued yet: how long they live, and when what is charged for them is given back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Cmd;

use super::inside::{Server, accept};
use crate::shared::{Process, Shared};
use crate::value;
use crate::{Budget, Destination, EnqueueError, Incoming, Payer};

/// It is renewed several times in it, also where a busy machine does nothing for seconds.
const LIFE: Duration = Duration::from_secs(6);
const HASTY: Process = Process { chunk_life: LIFE, ..Process::TODAY };
const PATIENCE: Duration = Duration::from_secs(20);
static LARGE: [u8; 300_000] = [b'x'; 300_000];
const STRANGER: Payer = Payer { listener: 0, client: Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))) };

fn budget() -> Arc<Budget> {
    Budget::new(64 << 20, 40 << 20, 1)
}

fn incoming(shared: &Arc<Shared>, budget: &Arc<Budget>) -> Incoming {
    Incoming::new(shared.clone(), Some(budget.purse(STRANGER))).unwrap()
}

/// The lives of all chunks in ms; -1: for ever.
async fn lives(shared: &Shared) -> Vec<i64> {
    let ask = |words: [&str; 2]| {
        let mut command = Cmd::new();
        command.arg(words[0]).arg(words[1]);
        shared.home().admin.ask(command)
    };
    let keys = ask(["KEYS", "*}b:*"]).await.unwrap();
    let mut lives = Vec::new();
    for key in value::array(&keys).iter().filter_map(value::str) {
        lives.push(value::integer(&ask(["PTTL", key]).await.unwrap()).unwrap());
    }
    lives
}

async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !good().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_chunks_of_a_slow_upload_outlive_their_time() {
    let server = Server::start();
    let shared = server.open(HASTY).await;
    let mut incoming = incoming(&shared, &budget());
    incoming.write(&LARGE).await.unwrap();
    assert!(lives(&shared).await.iter().all(|life| (1..=6_000).contains(life)));
    // The client says nothing for longer than a chunk lives.
    tokio::time::sleep(2 * LIFE).await;
    incoming.write(b"the end").await.unwrap();
    let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
    assert_eq!(lives(&shared).await, [-1, -1]);
    let jobs = shared.claim(id.partition(), &Destination::new("x.example"), 10).await.unwrap();
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn a_refresh_that_comes_late_gives_no_end_to_what_is_queued() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    let mut incoming = incoming(&shared, &budget());
    incoming.write(&LARGE).await.unwrap();
    let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
    shared.refresh_chunks(id, 2).await.unwrap();
    assert_eq!(lives(&shared).await, [-1, -1]);
}

#[tokio::test]
async fn what_a_dead_process_leaves_behind_is_gone_after_its_life() {
    let server = Server::start();
    let (shared, other) = (server.open(HASTY).await, server.open(Process::TODAY).await);
    let mut incoming = incoming(&shared, &budget());
    incoming.write(&LARGE).await.unwrap();
    // Nothing is cleared up any more, nor refreshed.
    shared.shutdown.cancel();
    until("the connections end", async || shared.home().bodies.trouble().is_some()).await;
    std::mem::forget(incoming);
    assert_eq!(lives(&other).await.len(), 1);
    until("a chunk stays", async || lives(&other).await.is_empty()).await;
}

#[tokio::test]
async fn a_message_that_is_given_up_leaves_redis_and_its_budget_at_once() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    let budget = budget();
    let mut given_up = incoming(&shared, &budget);
    given_up.write(&LARGE).await.unwrap();
    assert!(budget.unfinished() > 256 * 1024 && budget.memory() > 0);
    let task = tokio::spawn(async move {
        given_up.write(&LARGE).await.unwrap();
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    assert_eq!(budget.memory(), 0);
    until("the budget is not given back", async || budget.unfinished() == 0).await;
    assert_eq!(lives(&shared).await, [0; 0], "what is given back is gone");
}

#[tokio::test]
async fn what_is_packed_is_charged_as_much_as_redis_has() {
    let server = Server::start();
    let shared = server.open_packing().await;
    let budget = budget();
    let mut incoming = incoming(&shared, &budget);
    for _ in 0..10 {
        incoming.write(&LARGE).await.unwrap();
        assert!(incoming.held() as u64 <= budget.memory() && budget.memory() <= 256 * 1024, "{}", budget.memory());
    }
    assert!((1..20_000).contains(&budget.unfinished()), "{}", budget.unfinished());
    drop(incoming);
    until("the budget is not given back", async || budget.unfinished() == 0).await;
}

#[tokio::test]
async fn while_redis_is_away_what_lies_there_stays_charged_but_not_for_ever() {
    let server = Server::start();
    let shared = server.open(HASTY).await;
    let budget = budget();
    let mut given_up = incoming(&shared, &budget);
    given_up.write(&LARGE).await.unwrap();
    server.signal("-STOP");
    drop(given_up);
    tokio::time::sleep(LIFE / 4).await;
    assert!(budget.unfinished() > 0);
    until("the budget is not given back", async || budget.unfinished() == 0).await;
    server.signal("-CONT");
}

/// Else a client could fill a store that deletes nothing, a message after the other.
#[tokio::test]
async fn what_cannot_be_deleted_from_the_store_stays_charged() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let shared = server.open_with_store(folder.path()).await;
    let budget = budget();
    let mut given_up = incoming(&shared, &budget);
    given_up.write(&vec![b'x'; 1_200_000]).await.unwrap();
    let charged = budget.spooled();
    assert!(charged > 1_000_000, "{charged}");
    // Something is in the way where its pieces were.
    let under = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let (pieces, aside) = (under.join(given_up.id().to_string()), folder.path().join("aside"));
    std::fs::rename(&pieces, &aside).unwrap();
    std::fs::write(&pieces, "").unwrap();
    drop(given_up);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.spooled(), charged);
    std::fs::remove_file(&pieces).unwrap();
    std::fs::rename(&aside, &pieces).unwrap();
    until("the budget is not given back", async || budget.spooled() == 0).await;
    assert!(!pieces.exists());
}

#[tokio::test]
async fn every_end_of_a_message_gives_its_budget_back() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    let budget = budget();
    for (recipients, good) in [(&["a@x.example"][..], true), (&[], false)] {
        for octets in [&LARGE[..], b"little"] {
            let mut incoming = incoming(&shared, &budget);
            incoming.write(octets).await.unwrap();
            assert_eq!(incoming.commit(accept(recipients), b"").await.is_ok(), good);
            assert_eq!(budget.memory(), 0);
            until("the budget is not given back", async || budget.unfinished() == 0).await;
        }
    }
    // A purse that is too small, a Redis without memory.
    let small = Budget::new(64 * 1024, 0, 1);
    let mut refused = incoming(&shared, &small);
    assert!(matches!(refused.write(&LARGE).await, Err(EnqueueError::Full)));
    drop(refused);
    assert_eq!((small.memory(), small.unfinished()), (0, 0));
    let mut refused = incoming(&shared, &budget);
    refused.write(&LARGE).await.unwrap();
    let mut command = Cmd::new();
    command.arg("CONFIG").arg("SET").arg("maxmemory").arg("1mb");
    shared.home().admin.ask(command).await.unwrap();
    let refused = refused.commit(accept(&["a@x.example"]), b"").await;
    assert!(matches!(refused, Err(EnqueueError::Full)), "{refused:?}");
    until("the budget is not given back", async || budget.unfinished() == 0).await;
    until("a chunk stays", async || lives(&shared).await.iter().all(|life| *life == -1)).await;
}

#[tokio::test]
async fn a_buffer_is_never_larger_than_what_is_charged() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    let budget = budget();
    let mut incoming = incoming(&shared, &budget);
    for octets in [1, 1_000, 30, 60_000, 16_384, 16_384, 90_000, 40_000, 120_000, 300_000, 5] {
        incoming.write(&LARGE[..octets]).await.unwrap();
        let held = incoming.held() as u64;
        assert!(held <= budget.memory() && held <= 256 * 1024, "{held} {}", budget.memory());
    }
}

#[tokio::test]
async fn many_messages_at_once_wait_with_less() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    let budget = Budget::new(1 << 30, 40 << 20, 1);
    let mut all: Vec<Incoming> = (0..200).map(|_| incoming(&shared, &budget)).collect();
    for _ in 0..20 {
        for incoming in &mut all {
            incoming.write(&LARGE[..16_384]).await.unwrap();
        }
        assert!(budget.memory() <= 20 << 20, "{}", budget.memory());
    }
    let id = all.remove(0).commit(accept(&["a@x.example"]), b"").await.unwrap();
    let jobs = shared.claim(id.partition(), &Destination::new("x.example"), 10).await.unwrap();
    assert_eq!(jobs[0].message.size, 20 * 16_384);
}
