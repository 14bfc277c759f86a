//! What services tell of an outage of Redis: a line when it begins, a line when it is over, and what an operator has to mend.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use staffetta_tests::{SOON, Service, World, eventually};

const SERVICES: [Service; 3] = [Service::Frontend, Service::Auth, Service::Delivery];
const LOST: &str = "Redis cannot be used";
const FOUND: &str = "Redis can be used again";
/// Longer than any connection waits before it tries again.
const OUTAGE: Duration = Duration::from_secs(2);

/// What a service tells of what is wrong, or of Redis, from this line of its log on: level, message, reason.
fn told(world: &World, service: Service, from: usize) -> anyhow::Result<Vec<[String; 3]>> {
    let mut told = Vec::new();
    for line in world.log(service).split_inclusive('\n').skip(from).filter(|line| line.ends_with('\n')) {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let [level, message, reason] =
            ["level", "message", "reason"].map(|key| record[key].as_str().unwrap_or_default().to_owned());
        if level != "info" || message.contains("Redis") {
            told.push([level, message, reason]);
        }
    }
    Ok(told)
}

/// Waits until a service has told this.
async fn until_told(world: &World, service: Service, from: usize, message: &str) -> anyhow::Result<()> {
    eventually(SOON, || async {
        let told = told(world, service, from)?;
        ensure!(told.iter().any(|[_, said, _]| said == message), "{service:?} has told {told:?}");
        Ok(())
    })
    .await
}

/// A dozen connections find out, each in its own way, and a reader of revocations.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_a_line_of_each_service_and_its_end_another() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    for outage in ["the first", "the second"] {
        let begin = SERVICES.map(|service| world.log(service).lines().count());
        world.redis.kill()?;
        for (service, begin) in SERVICES.into_iter().zip(begin) {
            until_told(&world, service, begin, LOST).await?;
        }
        tokio::time::sleep(OUTAGE).await;
        world.redis.restart()?;
        for (service, begin) in SERVICES.into_iter().zip(begin) {
            until_told(&world, service, begin, FOUND).await?;
            world.until_ready(service).await?;
        }
        for (service, begin) in SERVICES.into_iter().zip(begin) {
            let told = told(&world, service, begin)?;
            let [[level, lost, reason], [_, found, _]] = &*told else {
                anyhow::bail!("{outage} outage is no two lines for {service:?}: {told:#?}");
            };
            ensure!(level == "warn" && lost == LOST && found == FOUND, "{service:?}: {told:?}");
            ensure!(reason.contains("redis.sock: Connection refused"), "{service:?}: {reason}");
        }
    }
    Ok(())
}

/// It answers and must not be used: an operator reads why.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_redis_that_answers_is_told() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let users = [Service::Frontend, Service::Delivery];
    let begin = users.map(|service| world.log(service).lines().count());
    let synced = |world: &World, how: &str| world.store()?.ask(&["CONFIG", "SET", "appendfsync", how]).map(drop);
    synced(&world, "everysec")?;
    for (service, begin) in users.into_iter().zip(begin) {
        until_told(&world, service, begin, LOST).await?;
    }
    // An outage within: it comes back as it should be.
    world.redis.kill()?;
    tokio::time::sleep(OUTAGE).await;
    world.redis.restart()?;
    for (service, begin) in users.into_iter().zip(begin) {
        until_told(&world, service, begin, FOUND).await?;
        let told = told(&world, service, begin)?;
        let wrong = |[level, message, reason]: &[String; 3]| {
            level == "error" && message == LOST && reason.contains("appendfsync")
        };
        ensure!(told.len() <= 3 && told.iter().filter(|line| wrong(line)).count() == 1, "{service:?}: {told:#?}");
    }
    Ok(())
}
