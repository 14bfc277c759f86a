//! Whatever a relay stands on dies under load, and each message is accounted for: what was accepted comes, what was refused does not,
//! and what comes twice was under way when something died, and our own metrics say so.
//!
//! Here each fault happens once; `make faults` makes it happen as often as `STAFFETTA_FAULTS` says, and shows the verdicts.

mod clocks;
mod moments;
mod network;
mod processes;
mod replicas;
mod shards;
mod store;

use std::time::Duration;

use anyhow::Context;
use staffetta_cli::sink::Scenario;
use staffetta_tests::{Arrivals, Load, SOON, Service, World, eventually};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";
const SENDERS: usize = 8;
/// Messages that are accepted between two events.
const STEP: usize = 150;
/// Of a worker to one destination, `delivery.destination_concurrency`.
const CONNECTIONS: usize = 20;
/// For what a busy machine makes slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// The lease of a worker, and longer than that.
const LEASE: &str = "\"2s\"";
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(4);

/// So long nothing comes when nothing is queued any more.
const CALM: Duration = Duration::from_secs(1);

/// How often a fault happens.
fn rounds() -> anyhow::Result<usize> {
    match std::env::var("STAFFETTA_FAULTS") {
        Ok(text) => text.parse().with_context(|| format!("STAFFETTA_FAULTS: {text}")),
        Err(_) => Ok(1),
    }
}

/// A relay under load.
struct Siege {
    world: World,
    load: Load,
    arrivals: Arrivals,
    /// Deliveries that were under way when their worker died.
    in_flight: usize,
    /// What workers that are dead had counted.
    counted: f64,
}

impl Siege {
    /// Begins it.
    async fn lay(world: World) -> anyhow::Result<Self> {
        let mut world = world.set("delivery.lease", LEASE).start().await?;
        let arrivals = Arrivals::at(world.mx("example.com", Scenario::default()).await?);
        let load = Load::start(world.smtp(), SENDERS, &MESSAGE.into());
        let siege = Self { world, load, arrivals, in_flight: 0, counted: 0.0 };
        siege.goes_on().await?;
        Ok(siege)
    }

    /// Mail is accepted.
    async fn goes_on(&self) -> anyhow::Result<()> {
        self.load.more(STEP, PATIENCE).await.context("mail does not go on")
    }

    /// Every process of a service dies at once, and what it had under way is noted.
    async fn kill(&mut self, service: Service) -> anyhow::Result<()> {
        if service == Service::Delivery {
            self.counted += possible_duplicates(&self.world).await?;
        }
        self.world.kill(service);
        if service == Service::Delivery {
            self.in_flight += self.under_way().await?;
        }
        Ok(())
    }

    /// The same, and others take their place.
    async fn replace(&mut self, service: Service) -> anyhow::Result<()> {
        self.kill(service).await?;
        self.world.spawn(service)?;
        self.world.until_ready(service).await?;
        self.goes_on().await
    }

    /// Something is about to happen to what is under way now, or begins before it does.
    async fn endanger(&mut self) -> anyhow::Result<()> {
        self.in_flight += self.under_way().await? + CONNECTIONS;
        Ok(())
    }

    /// How many jobs are leased.
    async fn under_way(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.world.queue().await?.counts().await?.leased)?)
    }

    /// Ends it, and judges.
    async fn lift(self) -> anyhow::Result<()> {
        let told = self.load.stop().await?;
        eventually(2 * SOON, || self.world.until_empty()).await?;
        let verdict = self.arrivals.verdict(told, CALM).await?;
        verdict.judge(self.in_flight)?;
        let counted = self.counted + possible_duplicates(&self.world).await?;
        anyhow::ensure!(verdict.duplicates as f64 <= counted, "{verdict}, and {counted} were counted");
        Ok(())
    }
}

/// What the first worker knows of deliveries that may have happened twice.
async fn possible_duplicates(world: &World) -> anyhow::Result<f64> {
    let metrics = world.metrics(Service::Delivery).await?;
    let known = metrics.sum("staffetta_possible_duplicates_total", &[]);
    Ok(known + metrics.sum("staffetta_queue_lease_expired_total", &[]))
}

/// A moment, such as an outage lasts.
async fn a_moment() {
    tokio::time::sleep(SOON / 40).await;
}
