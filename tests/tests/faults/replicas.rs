//! A primary with two replicas, watched by a Sentinel, and a message is accepted when one of the replicas has it.

use std::path::Path;

use anyhow::Context;
use rustix::process::Signal;
use staffetta_testkit::redis_server::{RedisServer, Sentinel, until};
use staffetta_tests::World;
use tokio::time::sleep;

use crate::{LONGER_THAN_A_LEASE, Siege, rounds};

struct Watched {
    servers: Vec<RedisServer>,
    sentinel: Sentinel,
}

impl Watched {
    fn start(folder: &Path, replicas: usize) -> anyhow::Result<Self> {
        let primary = RedisServer::start(&folder.join("primary"), &[])?;
        let number = primary.port().number();
        let of = format!("127.0.0.1 {number}");
        let mut servers = vec![primary];
        for replica in 0..replicas {
            servers.push(RedisServer::start(&folder.join(replica.to_string()), &[("replicaof", &of)])?);
        }
        let sentinel = Sentinel::start(folder, number, "")?;
        until("the Sentinel knows all", || sentinel.replicas() == replicas)?;
        Ok(Self { servers, sentinel })
    }

    /// Which one is the primary now.
    fn primary(&self) -> anyhow::Result<usize> {
        let port = self.sentinel.primary().context("the Sentinel does not answer")?;
        self.servers.iter().position(|server| server.port().number() == port).context("an unknown server")
    }

    async fn under_load(&self, world: World) -> anyhow::Result<Siege> {
        let url = format!("\"redis-sentinel://127.0.0.1:{}/mail\"", self.sentinel.port());
        let world = world.set("redis.url", url).set("redis.durability", "\"replicated\"");
        Siege::lay(world.set("redis.replicas", "1")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_killed_and_sentinels_replace_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut watched = Watched::start(&world.folder().join("servers"), 2)?;
    let mut siege = watched.under_load(world).await?;
    for _ in 0..rounds()? {
        let old = watched.primary()?;
        siege.endanger().await?;
        watched.servers[old].kill();
        until("another one takes its place", || watched.primary().is_ok_and(|now| now != old))?;
        siege.goes_on().await?;
        watched.servers[old].revive()?;
        let follows = |said: String| said.contains("role:slave") && said.contains("master_link_status:up");
        until("the old one follows", || watched.servers[old].ask(&["INFO", "replication"]).is_ok_and(follows))?;
    }
    siege.lift().await
}

/// Nothing is accepted until it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_replica_is_cut_off() -> anyhow::Result<()> {
    let world = World::new().await?;
    let watched = Watched::start(&world.folder().join("servers"), 1)?;
    let siege = watched.under_load(world).await?;
    for _ in 0..rounds()? {
        watched.servers[1].signal(Signal::STOP)?;
        // What was confirmed before it stood still may be answered now.
        sleep(LONGER_THAN_A_LEASE / 2).await;
        let before = siege.load.accepted();
        sleep(LONGER_THAN_A_LEASE / 2).await;
        anyhow::ensure!(siege.load.accepted() == before, "accepted without a replica");
        watched.servers[1].signal(Signal::CONT)?;
        siege.goes_on().await?;
    }
    siege.lift().await
}
