//! Our own processes die, stand still, or are replaced.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use staffetta_tests::{Service, World};
use tokio::time::sleep;

use crate::{LONGER_THAN_A_LEASE, Siege, a_moment, possible_duplicates, rounds};

async fn is_killed(service: Service) -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    for _ in 0..rounds()? {
        siege.replace(service).await?;
    }
    siege.lift().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_killed() -> anyhow::Result<()> {
    is_killed(Service::Delivery).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_is_killed() -> anyhow::Result<()> {
    is_killed(Service::Frontend).await
}

/// Redis too.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once() -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    for _ in 0..rounds()? {
        for service in [Service::Frontend, Service::Auth, Service::Delivery] {
            siege.kill(service).await?;
        }
        siege.world.redis.kill()?;
        siege.world.redis.restart()?;
        for service in [Service::Auth, Service::Delivery, Service::Frontend] {
            siege.world.spawn(service)?;
            siege.world.until_ready(service).await?;
        }
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// The other one takes over, and the first wakes up in the middle of what it did.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stands_still_for_longer_than_its_lease() -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    siege.world.second_worker().await?;
    let pid = siege.world.pids(Service::Delivery).last().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pid = pid.context("no second worker")?;
    for _ in 0..rounds()? {
        siege.goes_on().await?;
        kill_process(pid, Signal::STOP)?;
        siege.endanger().await?;
        sleep(LONGER_THAN_A_LEASE).await;
        kill_process(pid, Signal::CONT)?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// Its clients wait, and what they say meanwhile is in its socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_stands_still() -> anyhow::Result<()> {
    let siege = Siege::lay(World::new().await?).await?;
    for _ in 0..rounds()? {
        siege.world.signal(Service::Frontend, Signal::STOP)?;
        sleep(LONGER_THAN_A_LEASE).await;
        siege.world.signal(Service::Frontend, Signal::CONT)?;
        siege.goes_on().await?;
    }
    siege.lift().await
}

/// Nothing is under way when a service has ended as it was asked to.
#[tokio::test(flavor = "multi_thread")]
async fn each_service_is_replaced_in_turn() -> anyhow::Result<()> {
    let mut siege = Siege::lay(World::new().await?).await?;
    for _ in 0..rounds()? {
        for service in [Service::Auth, Service::Delivery, Service::Frontend] {
            if service == Service::Delivery {
                siege.counted += possible_duplicates(&siege.world).await?;
            }
            siege.world.stop(service)?;
            a_moment().await;
            siege.world.spawn(service)?;
            siege.world.until_ready(service).await?;
            siege.goes_on().await?;
        }
    }
    siege.lift().await
}
