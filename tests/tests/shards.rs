//! The services on a Redis Cluster of three primaries, each with a replica, while one of them dies.

use std::time::Duration;

use anyhow::{Context, ensure};
use staffetta_cli::sink::Scenario;
use staffetta_testkit::redis_cluster::RedisCluster;
use staffetta_tests::{Load, SOON, Service, World, eventually, get};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

async fn world(cluster: &RedisCluster, replicas: &'static str) -> anyhow::Result<World> {
    let world = World::new().await?.set("redis.url", format!("\"{}\"", cluster.url()));
    let durability = if replicas == "0" { "\"fsync\"" } else { "\"replicated\"" };
    world.set("redis.durability", durability).set("redis.replicas", replicas).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_under_load_loses_nothing_and_mail_goes_on() -> anyhow::Result<()> {
    let mut cluster = RedisCluster::start(true, &[])?;
    let mut world = world(&cluster, "1").await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let load = Load::start(world.smtp(), 8, &MESSAGE.into());
    load.more(200, 3 * SOON).await?;

    // Not the one with the journal of blocks: what becomes of that has a test of its own.
    let journal = cluster.primary_of(cluster.slot("{R}log")?)?;
    let slot = if cluster.primary_of(0)? == journal { 16_383 } else { 0 };
    let killed = cluster.primary_of(slot)?;
    cluster.kill(killed);
    load.more(200, 3 * SOON).await.context("mail does not go on")?;
    let (answer, text) = get(world.http(Service::Frontend), "/readyz").await?;
    ensure!(answer == 200, "{answer} {text}");
    eventually(3 * SOON, || async {
        ensure!(cluster.primary_of(slot)? != killed, "nobody takes its place");
        Ok(())
    })
    .await?;
    cluster.revive(killed)?;
    load.more(400, 3 * SOON).await?;
    let told = load.stop().await?;
    let verdict = told.verdict(&mut mx, Duration::from_secs(6)).await?;
    // Those that were under way at a third of the queue when it died: no more than it had claimed.
    verdict.judge(50)?;
    world.until_empty().await
}

/// The one that says who is blocked.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_primary_of_the_journal_mail_goes_on_until_its_replica_is_there() -> anyhow::Result<()> {
    let mut cluster = RedisCluster::start(true, &[])?;
    let mut world = world(&cluster, "0").await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let load = Load::start(world.smtp(), 4, &MESSAGE.into());
    load.more(100, 3 * SOON).await?;
    let slot = cluster.slot("{R}log")?;
    let killed = cluster.primary_of(slot)?;
    cluster.kill(killed);
    load.more(100, SOON / 2).await.context("mail does not go on")?;
    eventually(3 * SOON, || async {
        ensure!(cluster.primary_of(slot)? != killed, "nobody takes its place");
        Ok(())
    })
    .await?;
    load.more(200, 3 * SOON).await?;
    let told = load.stop().await?;
    ensure!(!told.accepted.is_empty());
    let verdict = told.verdict(&mut mx, Duration::from_secs(1)).await?;
    ensure!(verdict.though_refused.is_empty(), "{verdict}");
    Ok(())
}
