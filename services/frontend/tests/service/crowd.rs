//! Connections of one client, in this pod and in others.

use std::process::Command;
use std::time::{Duration, Instant};

use staffetta_queue::{Headcount, Heads};

use crate::client::{Client, MESSAGE};
use crate::world::World;

const LIMITS: &str = "trusted_networks = [\"127.0.0.9/32\"]\nconnections_per_client = 4\nreverse_dns = false";
const REFUSED: &str = "421 4.7.0 mail.test Error: too many connections from 127.0.0.1\r\n";

/// As the other pod says it.
fn heads(count: u32, version: u64) -> Heads {
    Heads { client: "127.0.0.1".to_owned(), count, version }
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A connection that is let in.
async fn comes(world: &World) -> Option<Client> {
    let (client, greeting) = Client::connect(world.relay).await;
    if greeting.starts_with("220 ") {
        return Some(client);
    }
    assert_eq!(greeting, REFUSED);
    None
}

async fn claims(other: &Headcount, version: &mut u64, count: u32) -> u32 {
    *version += 1;
    other.claim(&heads(count, *version), 4).await.unwrap()
}

#[tokio::test]
async fn connections_of_a_client_are_counted_over_all_pods() {
    let world = World::start(LIMITS).await;
    let other = world.queue().await.headcount();
    other.tell(&[heads(3, 1)]).await.unwrap();
    let mut open = vec![comes(&world).await.unwrap()];
    assert!(comes(&world).await.is_none(), "three there and one here");
    let _another = Client::from("127.0.0.2", world.relay).await;
    for _ in 0..8 {
        open.push(Client::from("127.0.0.9", world.relay).await);
    }
    open.truncate(1);
    other.tell(&[heads(1, 2)]).await.unwrap();
    eventually("places that are free again", async || {
        open.extend(comes(&world).await);
        open.len() == 3
    })
    .await;
    assert!(comes(&world).await.is_none());
    let mut version = 2;
    assert_eq!(claims(&other, &mut version, 4).await, 1, "three are here");
    open.truncate(1);
    eventually("places that were given up", async || claims(&other, &mut version, 4).await == 4).await;
    open.clear();
}

/// Of fifty at once no more come in than may; who was refused takes nothing.
#[tokio::test]
async fn a_crowd_at_the_same_time_gets_what_is_left_and_no_more() {
    let world = World::start(&LIMITS.replace("client = 4", "client = 20")).await;
    world.queue().await.headcount().tell(&[heads(10, 1)]).await.unwrap();
    let all = futures_util::future::join_all((0..50).map(|_| comes(&world))).await;
    let open: Vec<Client> = all.into_iter().flatten().collect();
    assert_eq!(open.len(), 10);
}

/// The one thing that it must not do is to keep clients waiting.
#[tokio::test]
async fn a_redis_that_stands_still_holds_no_greeting() {
    let mut world = World::start(&LIMITS.replace("client = 4", "client = 20")).await;
    let signal = |name: &str| {
        let status = Command::new("kill").arg(name).arg(world.redis.pid().to_string()).status().unwrap();
        assert!(status.success());
    };
    signal("-STOP");
    let began = Instant::now();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(comes(&world).await.unwrap());
    }
    let elapsed = began.elapsed();
    signal("-CONT");
    assert!(elapsed < Duration::from_millis(900), "{elapsed:?}");
    assert!(comes(&world).await.is_none(), "the pod counts by itself");
    world.redis.kill().unwrap();
    open.truncate(1);
    eventually("room again", async || {
        open.extend(comes(&world).await);
        open.len() == 20
    })
    .await;
}

/// Usual clients: one connection at a time, or a few.
#[tokio::test]
async fn a_client_with_one_connection_at_a_time_is_unknown_to_redis() {
    let world = World::start(&format!("{LIMITS}\nrelay_domains = [\"example.com\"]\nverify_recipients = false")).await;
    for _ in 0..3 {
        let mut client = comes(&world).await.unwrap();
        client.expect(&[("EHLO x", "250-")]).await;
        client.expect(MESSAGE).await;
        client.expect(&[("QUIT", "221 ")]).await;
        drop(client);
    }
    let other = world.queue().await.headcount();
    assert_eq!(claims(&other, &mut 0, 4).await, 4);
}
