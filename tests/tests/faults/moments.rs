//! Single messages: something dies at the moment that is worst for them.

use std::time::Duration;

use anyhow::Context;
use staffetta_cli::sink::{Action, Scenario, Stage};
use staffetta_testkit::redis_server::RedisServer;
use staffetta_tests::{Client, Content, SOON, Service, World, eventually, next, skew};
use tokio::time::Instant;

use crate::MESSAGE;

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

/// By its clock all leases are over; the one who holds this one is at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_an_hour_ahead_takes_no_lease_away() -> anyhow::Result<()> {
    let world = World::new().await?;
    skew::build(world.folder())?;
    let mut redis = RedisServer::start(&world.folder().join("early"), &[])?;
    let url = format!("\"{}\"", redis.url());
    let mut world = world.set("redis.url", url).set("delivery.lease", "\"20s\"").start().await?;
    let hand = world.hand("example.com").await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    let mut visit = hand.accept().await?;
    visit.until_data().await?;
    redis.revive_in(skew::environment(world.folder(), 3_600).into())?;
    // Longer than between two looks for expired leases.
    let other = hand.accept_within(Duration::from_secs(9)).await?;
    anyhow::ensure!(other.is_none(), "a second copy: {}", world.log(Service::Delivery));
    anyhow::ensure!(world.log(Service::Delivery).contains("has leapt ahead"), "{}", world.log(Service::Delivery));
    visit.say("354 go on").await?;
    anyhow::ensure!(matches!(visit.content().await?, Content::Whole(_)), "it was not ended");
    visit.say("250 2.0.0 Ok").await?;
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
