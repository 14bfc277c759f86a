//! Is the back end there? Asked in the background, so that readiness costs nothing to read and recovers by itself.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use staffetta_proto::auth::v1::auth_service_server::AuthServiceServer;
use staffetta_telemetry::Standing;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::service::Service;

/// Between two probes of a back end that answers.
const WHILE_UP: Duration = Duration::from_secs(5);

/// Between two probes of one that does not.
const WHILE_DOWN: Duration = Duration::from_secs(1);

/// What is known about the back end, for `/readyz`.
#[derive(Clone)]
pub(crate) struct Known(Arc<ArcSwapOption<String>>);

impl Known {
    /// Away until the first probe says something else.
    pub(crate) fn new() -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee("the back end was not asked yet".to_owned())))
    }

    pub(crate) fn standing(&self) -> Standing {
        self.0.load().as_ref().map_or(Standing::Up, |reason| Standing::Away(reason.to_string()))
    }
}

/// Probes, and tells `/readyz`, the gRPC health service, the metrics and the log.
pub(crate) struct Probe {
    pub(crate) directory: Arc<Directory>,
    pub(crate) known: Known,
    pub(crate) health: HealthReporter,
    pub(crate) metrics: Metrics,
}

impl Probe {
    /// Tells what the start found out, then asks until `shutdown`; from then on the health service says no.
    pub(crate) async fn run(self, first: Option<String>, shutdown: CancellationToken) {
        self.tell(first).await;
        loop {
            let pause = if self.known.standing() == Standing::Up { WHILE_UP } else { WHILE_DOWN };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                result = self.directory.probe() => self.tell(result.err().map(|error| error.to_string())).await,
            }
        }
        tracing::info!("shutting down");
        self.serve(ServingStatus::NotServing).await;
    }

    async fn tell(&self, problem: Option<String>) {
        if self.known.0.load().as_deref() == problem.as_ref() {
            return;
        }
        match &problem {
            None => tracing::info!("the back end answers"),
            Some(reason) => tracing::warn!(%reason, "not ready"),
        }
        self.set(problem).await;
    }

    async fn set(&self, problem: Option<String>) {
        let up = problem.is_none();
        self.metrics.backend_up(up);
        self.known.0.store(problem.map(Arc::new));
        self.serve(if up { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
    }

    /// Frontends ask for it, and turn to other pods.
    async fn serve(&self, status: ServingStatus) {
        self.health.set_service_status("", status).await;
        self.health.set_service_status(<AuthServiceServer<Service> as tonic::server::NamedService>::NAME, status).await;
    }
}
