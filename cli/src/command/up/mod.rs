//! `staffetta up`: the three services in one process, each as it runs in its own pod, with the same code and the same
//! gRPC call between them.
//!
//! Without a configuration everything is made under the data directory ([`home`]): a `redis-server` child, SQLite
//! accounts, a self-signed certificate, the configuration file itself. [`demo`] sends one message through it.

mod demo;
mod home;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use staffetta_auth::accounts::Accounts;
use staffetta_config::{Config, Service};
use staffetta_telemetry::{Build, spans};
use staffetta_transport::live::Live;
use staffetta_transport::{launch, shutdown};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arguments::Up;
use crate::terminal::{complain, say};
use home::{Home, Ports};

/// What other commands read their configuration from.
const CONFIG: &str = "STAFFETTA_CONFIG";
/// How long the parts may take until all of them are ready.
const START_UP: Duration = Duration::from_secs(30);

pub(super) async fn run(arguments: Up, build: Build) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    match &arguments.config {
        Some(path) => with_config(path, build, &stop).await?,
        None => {
            if std::env::var_os(CONFIG).is_some_and(|path| !path.is_empty()) {
                let data = arguments.data.display();
                complain(&format!(
                    "warning: {CONFIG} does not count here: without --config everything is made under {data}"
                ));
            }
            with_home(&arguments, build, &stop).await?;
        }
    }
    spans::finish().await;
    Ok(ExitCode::SUCCESS)
}

async fn with_config(path: &Path, build: Build, stop: &CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(Config::load(path)?);
    look_for_taken(&config)?;
    let _telemetry = launch::start_telemetry(&config, Service::All, build)?;
    launch::start_traces(&config, build)?;
    launch::warn(&config, Service::All);
    let live = launch::keep(path, Service::All, config, stop)?;
    let cluster = Cluster::start(&live, stop.child_token());
    cluster.run(stop, std::future::pending()).await
}

/// Fails if somebody listens already where a service is about to, and names all of these: before anything is accepted.
fn look_for_taken(config: &Config) -> anyhow::Result<()> {
    let (auth, frontend, delivery) = (&config.auth, &config.frontend, &config.delivery);
    let named = [("auth.listen", auth.listen), ("auth.http", auth.http), ("frontend.http", frontend.http)];
    let listeners = frontend.listener.iter().map(|listener| (listener.name.as_str(), listener.bind));
    let all = named.into_iter().chain([("delivery.http", delivery.http)]).chain(listeners);
    let taken: Vec<String> = all
        .filter(|(_, address)| home::is_taken(*address))
        .map(|(name, address)| format!("{name} {address}"))
        .collect();
    anyhow::ensure!(taken.is_empty(), "somebody listens there already: {}", taken.join(", "));
    Ok(())
}

async fn with_home(arguments: &Up, build: Build, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut home = Home::open(&arguments.data, Ports::new(arguments.port_offset)?, arguments.demo).await?;
    let config = Arc::new(Config::load(&home.config_file())?);
    home.begin_queue(&config).await?;
    let _telemetry = launch::start_telemetry(&config, Service::All, build)?;
    launch::start_traces(&config, build)?;
    launch::warn(&config, Service::All);
    let accounts = Accounts::open(&config.auth.sql).await.context("cannot make the accounts")?;
    let demo = if arguments.demo { Some(demo::Demo::prepare(&home, &accounts).await?) } else { None };
    drop(accounts);

    let live = launch::keep(&home.config_file(), Service::All, Arc::clone(&config), stop)?;
    let mut cluster = Cluster::start(&live, stop.child_token());
    let begun = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        failed = cluster.failed() => Err(failed),
        begun = begin(&home, &config, demo) => begun,
    };
    let outcome = match begun {
        Ok(()) => {
            let kept = home.keep_redis();
            cluster.run(stop, kept).await
        }
        Err(error) => {
            cluster.drain().await;
            Err(error)
        }
    };
    home.close();
    if outcome.is_ok() {
        say("Stopped.");
    }
    outcome
}

/// Waits until every `/readyz` says yes, says so, and gives the demonstration.
async fn begin(home: &Home, config: &Config, demo: Option<demo::Demo>) -> anyhow::Result<()> {
    home::until_ready(&[config.auth.http, config.frontend.http, config.delivery.http], START_UP).await?;
    home.describe(config);
    if let Some(demo) = demo {
        demo.run(config).await.context("the demonstration failed")?;
    }
    say("Ready. Ctrl-C stops everything.");
    Ok(())
}

/// The three services as tasks.
struct Cluster {
    services: JoinSet<(&'static str, anyhow::Result<()>)>,
    drain: CancellationToken,
}

impl Cluster {
    /// Auth drains once the frontend has ended: who logs in during the frontend's drain is still answered.
    fn start(live: &Live, drain: CancellationToken) -> Self {
        let mut services = JoinSet::new();
        let (auth, frontend, delivery) = (live.clone(), live.clone(), live.clone());
        let (a, f, d) = (CancellationToken::new(), drain.clone(), drain.clone());
        // Also when the frontend panics.
        let unused = a.clone().drop_guard();
        services.spawn(async move { ("auth", staffetta_auth::run(auth, a).await) });
        services.spawn(async move {
            let _unused = unused;
            ("frontend", staffetta_frontend::run(frontend, f).await)
        });
        services.spawn(async move { ("delivery", staffetta_delivery::run(delivery, d).await) });
        Self { services, drain }
    }

    /// Resolves when a service ends although nobody asked it to.
    async fn failed(&mut self) -> anyhow::Error {
        match self.services.join_next().await {
            Some(Ok((name, Err(error)))) => error.context(format!("the {name} service ended")),
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("the {name} service ended"),
            Some(Err(panic)) => anyhow::anyhow!("a service panicked: {panic}"),
            None => anyhow::anyhow!("no service runs"),
        }
    }

    /// Runs until `stop`, or until a service fails or what they stand on; then drains the others.
    async fn run(
        mut self,
        stop: &CancellationToken,
        ground: impl Future<Output = anyhow::Error>,
    ) -> anyhow::Result<()> {
        let failed = tokio::select! {
            failed = self.failed() => Some(failed),
            failed = ground => Some(failed),
            () = stop.cancelled() => None,
        };
        self.drain().await;
        match failed {
            Some(error) if !stop.is_cancelled() => Err(error),
            _ => Ok(()),
        }
    }

    async fn drain(&mut self) {
        self.drain.cancel();
        while let Some(ended) = self.services.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!(service = name, error = format!("{error:#}"), "the service ended with an error");
            }
        }
    }
}
