//! Parts die at the worst moment; nothing that was accepted is lost.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use staffetta_cli::sink::{Action, Scenario, Stage};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};
use tokio::time::{Instant, timeout};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_during_its_lease_is_replaced_in_time() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("delivery.lease", "\"3s\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default().act(Stage::End, Action::Stall).times(1)).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    eventually(SOON, || async {
        anyhow::ensure!(mx.deviations() == 1, "the final dot has not come");
        Ok(())
    })
    .await?;
    world.kill(Service::Delivery);
    let killed = Instant::now();
    world.spawn(Service::Delivery)?;
    let received = next(&mut mx).await.with_context(|| world.log(Service::Delivery))?;
    assert_eq!(received.recipients, ["lisa@example.com"]);
    assert!(killed.elapsed() < Duration::from_secs(3 + 5), "after {:?}", killed.elapsed());
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_killed_during_data_queues_nothing() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = client(&world).await?;
    client.expect("MAIL FROM:<john@example.org>", 250).await?;
    client.expect("RCPT TO:<lisa@example.com>", 250).await?;
    client.expect("DATA", 354).await?;
    client.write("Subject: half\r\n\r\n".as_bytes()).await?;
    client.write("x".repeat(600_000).as_bytes()).await?;
    world.kill(Service::Frontend);
    assert!(client.reply().await.is_err());
    assert_eq!(world.queue().await?.counts().await?.messages, 0);
    assert_eq!(mx.count(), 0);
    Ok(())
}

/// Messages that each of the senders gets accepted; Redis dies whenever so many more of all have been.
const LOAD: usize = 200;
const SENDERS: usize = 8;
const BETWEEN_KILLS: usize = LOAD * SENDERS / 4;

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_loses_nothing_that_was_accepted() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let address = world.smtp();
    let accepted = Arc::new(Mutex::new(HashSet::new()));
    let senders: Vec<_> =
        (0..SENDERS).map(|n| tokio::spawn(send_until_accepted(address, n, accepted.clone()))).collect();
    for kill in 1..=3 {
        eventually(SOON, || async {
            let count = accepted.lock().unwrap_or_else(PoisonError::into_inner).len();
            anyhow::ensure!(count >= kill * BETWEEN_KILLS, "only {count} were accepted before kill {kill}");
            Ok(())
        })
        .await?;
        world.redis.kill()?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.redis.restart()?;
    }
    for sender in senders {
        timeout(SOON, sender).await???;
    }
    let mut missing = accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(missing.len(), LOAD * SENDERS);
    while !missing.is_empty() {
        let received = next(&mut mx).await.with_context(|| format!("accepted and never came: {missing:?}"))?;
        received.recipients.iter().for_each(|recipient| {
            missing.remove(recipient);
        });
    }
    world.until_empty().await
}

/// Sends until so many were accepted; notes the recipients whose final dot was answered with 250.
async fn send_until_accepted(
    address: std::net::SocketAddr,
    sender: usize,
    accepted: Arc<Mutex<HashSet<String>>>,
) -> anyhow::Result<()> {
    let (mut sent, mut taken) = (0, 0);
    while taken < LOAD {
        let mut client = Client::connect_from("127.0.0.9", address).await?;
        client.expect("EHLO client.test", 250).await?;
        while taken < LOAD {
            sent += 1;
            let recipient = format!("s{sender}-{sent}@example.com");
            match client.send("john@example.org", &[&recipient], MESSAGE).await {
                Ok(reply) if reply.code == 250 => {
                    taken += 1;
                    accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(recipient);
                }
                Ok(_) => {}
                // Refused before the final dot, because the queue is away: start anew.
                Err(_) => break,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_binary_killed_in_turn_loses_nothing() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("delivery.lease", "\"2s\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut accepted = HashSet::new();
    for round in 0..6 {
        let service = [Service::Delivery, Service::Frontend, Service::Auth][round % 3];
        let mut client = client(&world).await?;
        for n in 0..10 {
            let recipient = format!("r{round}-{n}@example.com");
            assert_eq!(client.send("john@example.org", &[&recipient], MESSAGE).await?.code, 250);
            accepted.insert(recipient);
        }
        world.kill(service);
        world.spawn(service)?;
        world.until_ready(service).await?;
    }
    while !accepted.is_empty() {
        for recipient in next(&mut mx).await?.recipients {
            accepted.remove(&recipient);
        }
    }
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs_and_sends_the_rest_away() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut busy = client(&world).await?;
    busy.expect("MAIL FROM:<john@example.org>", 250).await?;
    busy.expect("RCPT TO:<lisa@example.com>", 250).await?;
    busy.expect("DATA", 354).await?;
    let mut idle = client(&world).await?;
    let finish = tokio::spawn(async move {
        assert_eq!(idle.reply().await?.text().get(..9), Some("421 4.3.2"));
        busy.write(format!("{MESSAGE}\r\n.\r\n").as_bytes()).await?;
        busy.reply().await
    });
    let stop = tokio::task::spawn_blocking(move || world.stop(Service::Frontend).map(|()| world));
    assert_eq!(finish.await??.code, 250);
    let mut world = stop.await??;
    next(&mut mx).await?;
    world.until_empty().await?;
    world.stop(Service::Delivery)?;
    world.stop(Service::Auth)
}
