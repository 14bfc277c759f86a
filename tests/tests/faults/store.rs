//! Redis dies, stands still, has no memory, has no disk; and so does whoever moves bodies out of it.

use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use staffetta_testkit::redis_server::RedisServer;
use staffetta_testkit::s3::files;
use staffetta_tests::{Disk, Service, World, eventually};
use tokio::time::sleep;

use crate::{LONGER_THAN_A_LEASE, PATIENCE, Siege, a_moment, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed() -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    for _ in 0..3 * rounds()? {
        siege.world.redis.kill()?;
        a_moment().await;
        siege.world.redis.restart()?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stands_still() -> anyhow::Result<()> {
    stands_still(Duration::from_secs(1)).await
}

/// Then workers may have sent what they could not settle in time.
#[tokio::test(flavor = "multi_thread")]
async fn redis_stands_still_for_longer_than_a_lease() -> anyhow::Result<()> {
    stands_still(LONGER_THAN_A_LEASE).await
}

async fn stands_still(so_long: Duration) -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    let pid = Pid::from_raw(siege.world.redis.pid().cast_signed());
    let pid = pid.context("Redis does not run")?;
    for _ in 0..rounds()? {
        siege.endanger().await?;
        kill_process(pid, Signal::STOP)?;
        sleep(so_long).await;
        kill_process(pid, Signal::CONT)?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// While no mail leaves, until nothing more is accepted; then it drains without new room.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_full() -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    for _ in 0..rounds()? {
        siege.kill(Service::Delivery).await?;
        let used = siege.world.queue().await?.counts().await?.memory.0;
        let limit = (used + 512 * 1024).to_string();
        siege.world.store()?.ask(&["CONFIG", "SET", "maxmemory", &limit])?;
        let is_full = async || {
            let (used, limit) = siege.world.queue().await?.counts().await?.memory;
            anyhow::ensure!(used * 100 > limit * 85, "{used} of {limit}");
            Ok(())
        };
        eventually(PATIENCE, is_full).await?;
        siege.world.spawn(Service::Delivery)?;
        siege.goes_on().await?;
        siege.world.store()?.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// At every line of it, while what waits has nobody else, and while workers deliver what was moved.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_moves_bodies_to_the_store_dies() -> anyhow::Result<()> {
    let world = World::new().await?;
    let spool = world.folder().join("spool");
    let world = world.set("spool.url", format!("\"file://{}\"", spool.display()));
    let world = world.set("spool.inline_limit", "\"1B\"").set("spool.offload_after", "\"0s\"");
    let mut siege = Siege::lay(world).await?;
    for _ in 0..2 * rounds()? {
        siege.kill(Service::Delivery).await?;
        siege.goes_on().await?;
        move_bodies(&siege.world).await?;
        let moved = files(spool.clone())?;
        anyhow::ensure!(moved.iter().any(|path| !path.to_string_lossy().contains("/mark-")), "{moved:?}");
        siege.world.spawn(Service::Delivery)?;
        move_bodies(&siege.world).await?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// By forty workers one after the other, none of which lives for longer than a moment.
async fn move_bodies(world: &World) -> anyhow::Result<()> {
    let queue = world.queue().await?;
    for life in (0..40).map(|number| Duration::from_millis(number * 2)) {
        // Whoever's turn it is.
        let forget = "for _, key in ipairs(redis.call('KEYS', '*off*')) do redis.call('DEL', key) end";
        world.store()?.ask(&["EVAL", forget, "0"])?;
        let all = async {
            for partition in 0..queue.partitions() {
                queue.offload(partition).await?;
            }
            anyhow::Ok(())
        };
        if let Ok(moved) = tokio::time::timeout(life, all).await {
            moved?;
        }
    }
    Ok(())
}

/// A server that syncs its file before it answers ends when it cannot write.
#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_redis_is_full() -> anyhow::Result<()> {
    let world = World::new().await?;
    let disk = Disk::new(world.folder())?;
    let mut redis = RedisServer::start_in(&world.folder().join("full"), &[], disk.environment())?;
    let siege = Siege::lay(world.set("redis.url", format!("\"{}\"", redis.url()))).await?;
    for _ in 0..rounds()? {
        disk.fill()?;
        while redis.is_running() {
            a_moment().await;
        }
        disk.clear()?;
        redis.revive()?;
        siege.goes_on().await?;
    }
    siege.lift().await
}
