//! The configuration is changed while the services run.

use std::fs;

use anyhow::ensure;
use staffetta_tests::{Client, SOON, Service, World, eventually};

const SERVICES: [Service; 3] = [Service::Auth, Service::Frontend, Service::Delivery];
const TAKEN: &str = "staffetta_config_last_reload_successful";
const TAKEN_AT: &str = "staffetta_config_last_reload_success_timestamp_seconds";

/// Writes the file anew and asks all services to read it.
fn rewrite(world: &World, change: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let file = world.config_file();
    fs::write(&file, change(&fs::read_to_string(&file)?))?;
    SERVICES.iter().try_for_each(|service| world.hang_up(*service))
}

async fn told(world: &World, service: Service, text: &str) -> anyhow::Result<()> {
    eventually(SOON, || async {
        ensure!(world.log(service).contains(text), "{service:?} does not say {text:?}: {}", world.log(service));
        Ok(())
    })
    .await
}

/// Waits until the metric says whether the configuration was taken.
async fn is(world: &World, service: Service, taken: bool) -> anyhow::Result<()> {
    eventually(SOON, || async {
        let value = world.metrics(service).await?.sum(TAKEN, &[]);
        ensure!(value.to_bits() == f64::from(u8::from(taken)).to_bits(), "{service:?}: {value}");
        Ok(())
    })
    .await
}

/// Does a new session hear of this limit?
async fn announces(world: &World, size: &str) -> anyhow::Result<()> {
    let ehlo = Client::connect(world.smtp()).await?.expect("EHLO x", 250).await?;
    ensure!(ehlo.lines.iter().any(|line| line == size), "{ehlo:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_take_over_what_they_may_and_refuse_what_is_wrong_as_a_whole() -> anyhow::Result<()> {
    let world = World::new().await?.set("log.level", "\"warn\"").set("frontend.size_limit", "\"1MiB\"").start().await?;
    for service in SERVICES {
        is(&world, service, true).await?;
    }
    // One mistake is enough: the size, which is right, does not count either.
    rewrite(&world, |text| text.replace("1MiB", "2MiB").replace("log.level = \"warn\"", "log.level = \"loud\""))?;
    for service in SERVICES {
        is(&world, service, false).await?;
        told(&world, service, "the configuration is refused, the one before stays in use").await?;
        told(&world, service, ": log.level: \\\"loud\\\" is not a log level").await?;
    }
    announces(&world, "SIZE 1048576").await?;
    let since = world.metrics(Service::Frontend).await?.sum(TAKEN_AT, &[]);
    ensure!(since > 1.6e9, "{since}");

    rewrite(&world, |text| format!("redis.name = \"another\"\n{}", text.replace("\"loud\"", "\"debug\"")))?;
    for service in SERVICES {
        is(&world, service, true).await?;
        told(&world, service, "needs a restart: redis.name").await?;
    }
    eventually(SOON, || announces(&world, "SIZE 2097152")).await?;
    // The mail log has connections from `debug` on.
    told(&world, Service::Frontend, "\"event\":\"connected\"").await?;
    told(&world, Service::Delivery, "settings reloaded").await?;

    // A mistake that is taken back leaves nothing to reload, and is over all the same.
    rewrite(&world, |text| text.replace("\"debug\"", "\"loud\""))?;
    for service in SERVICES {
        is(&world, service, false).await?;
    }
    rewrite(&world, |text| text.replace("\"loud\"", "\"debug\"").replace("redis.name = \"another\"\n", ""))?;
    for service in SERVICES {
        told(&world, service, "the configuration is good again").await?;
    }
    Ok(())
}
