//! Binds, serves, drains: the gRPC port with its health service, and the HTTP port for probes and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use staffetta_config::Config;
use staffetta_proto::auth::v1::auth_service_server::AuthServiceServer;
use staffetta_queue::Revocations;
use staffetta_telemetry::Readiness;
use staffetta_transport::shutdown::Hangup;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::{Router, TcpIncoming};

use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::probe::{Known, Probe};
use crate::service::Service;
use crate::tls::MutualTls;

/// Connections end after this, so that frontends spread over new pods.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What an open exchange on such a connection still gets.
const AGE_GRACE: Duration = Duration::from_secs(360);

/// How often the certificate files are looked at.
const RELOAD: Duration = Duration::from_secs(10);

/// How long a start waits for the journal of revocations. Without it the pod works, and believes less.
const JOURNAL: Duration = Duration::from_secs(1);

/// How long calls that are under way may take after `auth.drain_delay`.
pub const DRAIN: Duration = Duration::from_secs(20);

/// How long of it clients are waited for that have a challenge to answer. Programs do that in a moment; the others are told to
/// come again (`454`).
const CHALLENGED: Duration = Duration::from_secs(2);

/// Streams of one frontend at a time.
const MAX_STREAMS: u32 = 2048;

/// Largest message accepted; SASL messages are far below.
const MAX_MESSAGE: usize = 64 * 1024;

/// The service with its ports taken, not serving yet.
pub struct Server {
    grpc: TcpListener,
    http: TcpListener,
    tls: Option<Arc<MutualTls>>,
    directory: Arc<Directory>,
    /// What the back end said at the start, if it was not there.
    problem: Option<String>,
    metrics: Metrics,
    drain_delay: Duration,
    /// Ends what goes on beside the calls.
    background: DropGuard,
}

impl Server {
    /// Checks the configuration and takes the two ports. A back end that is down is no error; it is waited for while
    /// serving.
    ///
    /// # Errors What an operator has to change: a URL or a query that cannot work, certificates that cannot be read, a
    /// port that is taken, and queries that the back end, if it is there, refuses.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let auth = &config.auth;
        let metrics = Metrics::new();
        let background = CancellationToken::new();
        let revocations = Revocations::follow(&config.into(), background.clone()).context("redis")?;
        // What is found out before this pod has read the journal would have to be found out again.
        revocations.is_current_within(JOURNAL).await;
        let directory = Arc::new(Directory::new(auth, &metrics, revocations)?);
        let tls = MutualTls::load(&config.rpc).context("[rpc]")?;
        let grpc = listen(auth.listen, "auth.listen").await?;
        let http = listen(auth.http, "auth.http").await?;
        let problem = match directory.probe().await {
            Ok(()) => None,
            Err(error) if error.is_permanent() => anyhow::bail!("{error}"),
            Err(error) => Some(error.to_string()),
        };
        if problem.is_none() {
            directory.look_at_accounts(&auth.sql).await;
        }
        let background = background.drop_guard();
        let drain_delay = auth.drain_delay;
        Ok(Self { grpc, http, tls, directory, problem, metrics, drain_delay, background })
    }

    /// Where gRPC is served; of use when the configuration leaves the port to the system.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until `shutdown` and `auth.drain_delay` longer, lets calls under way finish, and closes the back end.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { grpc, http, tls, directory, problem, metrics, drain_delay, background: _background } = self;
        let known = Known::new();
        let (health, health_service) = tonic_health::server::health_reporter();
        let probe = Probe { directory: Arc::clone(&directory), known: known.clone(), health, metrics: metrics.clone() };

        // The HTTP port outlives the drain: it tells that we are not ready.
        let drained = CancellationToken::new();
        let readiness = Readiness::new(shutdown.clone()).needs("accounts", move || known.standing());
        let http = tokio::spawn(staffetta_telemetry::http::serve("auth", http, readiness, drained.clone()));
        let probing = tokio::spawn(probe.run(problem, shutdown.clone()));
        let closing = after(shutdown.clone(), drain_delay);
        tokio::spawn(reload(tls.clone(), Hangup::subscribe()?, closing.clone()));

        let ending = after(closing.clone(), CHALLENGED);
        let service = AuthServiceServer::new(Service::new(Arc::clone(&directory), metrics, ending))
            .max_decoding_message_size(MAX_MESSAGE);
        let router = builder().add_service(health_service).add_service(service);
        tracing::info!(address = %grpc.local_addr()?, mutual_tls = tls.is_some(), "serving");
        let result = drain_within(serve(router, grpc, tls, closing.clone()), &closing).await;

        drained.cancel();
        shutdown.cancel();
        // Both end by themselves now; a panic in one of them is in the log already.
        let _ = tokio::join!(http, probing);
        directory.close().await;
        result
    }
}

/// Cancelled so long after `shutdown`.
fn after(shutdown: CancellationToken, delay: Duration) -> CancellationToken {
    let closing = CancellationToken::new();
    let later = closing.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(delay).await;
        later.cancel();
    });
    closing
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_connection_age(MAX_AGE)
        .max_connection_age_grace(AGE_GRACE)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(MAX_STREAMS)
        .tcp_nodelay(true)
}

async fn serve(
    router: Router,
    listener: TcpListener,
    tls: Option<Arc<MutualTls>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    match tls {
        None => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await?;
        }
        Some(tls) => {
            let incoming = ReceiverStream::new(tls.accept(listener, shutdown.clone())).fuse();
            router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await?;
        }
    }
    Ok(())
}

/// Follows the certificate files by themselves and on SIGHUP, which must not end the process even if there is nothing
/// to reload.
async fn reload(tls: Option<Arc<MutualTls>>, mut hangup: Hangup, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = hangup.wait() => {}
            () = tokio::time::sleep(RELOAD) => {}
        }
        match tls.as_ref().map(|tls| tls.reload()).transpose() {
            Ok(Some(true)) => tracing::info!("the certificates of [rpc] were read again"),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the certificates of [rpc] changed and cannot be used; the old ones stay");
            }
        }
    }
}

/// Waits for `serving`, from `closing` on at most [`DRAIN`] more.
async fn drain_within(
    serving: impl Future<Output = anyhow::Result<()>>,
    closing: &CancellationToken,
) -> anyhow::Result<()> {
    let patience = async {
        closing.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serving => result.context("serve gRPC"),
        () = patience => {
            tracing::warn!("calls were still open at the end of the drain");
            Ok(())
        }
    }
}
