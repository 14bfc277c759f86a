//! A Redis Cluster of three primaries, each with a replica.

use anyhow::{Context, ensure};
use staffetta_testkit::redis_cluster::RedisCluster;
use staffetta_tests::{Service, World, eventually, get};

use crate::{PATIENCE, STEP, Siege, rounds};

async fn under_load(cluster: &RedisCluster, replicas: &'static str) -> anyhow::Result<Siege> {
    let world = World::new().await?.set("redis.url", format!("\"{}\"", cluster.url()));
    let durability = if replicas == "0" { "\"fsync\"" } else { "\"replicated\"" };
    Siege::lay(world.set("redis.durability", durability).set("redis.replicas", replicas)).await
}

async fn is_replaced(cluster: &RedisCluster, slot: u16, killed: usize) -> anyhow::Result<()> {
    eventually(PATIENCE, || async {
        ensure!(cluster.primary_of(slot)? != killed, "nobody takes its place");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_a_cluster_is_killed_and_mail_goes_on() -> anyhow::Result<()> {
    let mut cluster = RedisCluster::start(true, &[])?;
    let mut siege = under_load(&cluster, "1").await?;
    for _ in 0..rounds()? {
        // Not the one with the journal of blocks: what becomes of that has a test of its own.
        let journal = cluster.primary_of(cluster.slot("{R}log")?)?;
        let slot = if cluster.primary_of(0)? == journal { 16_383 } else { 0 };
        let killed = cluster.primary_of(slot)?;
        siege.endanger().await?;
        cluster.kill(killed);
        siege.goes_on().await?;
        let (answer, text) = get(siege.world.http(Service::Frontend), "/readyz").await?;
        ensure!(answer == 200, "{answer} {text}");
        is_replaced(&cluster, slot, killed).await?;
        cluster.revive(killed)?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// The one that says who is blocked, where nothing waits for a replica: what only the dead one had is lost, and no more is promised.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_primary_of_the_journal_mail_goes_on_until_its_replica_is_there() -> anyhow::Result<()> {
    let mut cluster = RedisCluster::start(true, &[])?;
    let siege = under_load(&cluster, "0").await?;
    let slot = cluster.slot("{R}log")?;
    let killed = cluster.primary_of(slot)?;
    cluster.kill(killed);
    siege.load.more(STEP, PATIENCE / 6).await.context("mail does not go on")?;
    is_replaced(&cluster, slot, killed).await?;
    siege.goes_on().await?;
    let told = siege.load.stop().await?;
    let verdict = siege.arrivals.verdict(told, std::time::Duration::from_secs(1)).await?;
    ensure!(verdict.though_refused.is_empty(), "{verdict}");
    Ok(())
}
