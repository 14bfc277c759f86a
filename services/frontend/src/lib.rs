//! The SMTP frontend: takes mail from users and trusted networks and puts it into the queue.
//!
//! ```text
//! listener ─ accept ─▶ connection ──── drives ───▶ smtp::server::Session (no I/O)
//!                        │ asks
//!                        ├─ SASL ────▶ auth service
//!                        └─ intake (no SMTP) ─ relay policy ─▶ auth service (sender, domain, recipient), DNS,
//!                                            │                  the recipient's own server (verify)
//!                                            └ content ──────▶ queue: durable before the 250
//! ```
//!
//! Stateless: everything that must survive is in the queue before it is acknowledged. [`run`] is the whole service.

mod advance;
mod allowance;
mod arrival;
mod asked;
mod auth;
mod connection;
mod depth;
mod door;
mod evidence;
mod failures;
mod intake;
mod limits;
mod metrics;
mod names;
mod quota;
mod readiness;
mod server;
mod setup;
mod sparing;
mod stream;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use staffetta_config::{Config, Listener};
use staffetta_telemetry::spans::Tracer;
use staffetta_telemetry::{http, maillog};
use staffetta_transport::listen;
use staffetta_transport::live::Live;
use staffetta_transport::shutdown::Hangup;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use door::Door;
use setup::Shared;

pub use setup::{certificates, pairs};

/// Begins our spans.
pub(crate) const TRACER: Tracer = Tracer::of("frontend");
/// How long sessions may go on after the listeners are closed.
pub const HARD_STOP: Duration = Duration::from_secs(60);

/// Runs the service until `shutdown` is cancelled and the drain is over.
///
/// An error means that it could not start: a port is taken, a certificate cannot be used, a setting makes no sense.
/// Redis, the auth service and the DNS may be away at the start; `/readyz` says so until each was there once, and tells of
/// them later, and clients are asked to come back.
///
/// The drain: `/readyz` fails at once, so that load balancers look elsewhere; connections are still taken for
/// `drain_delay`; then the listeners close, idle sessions get `421 4.3.2`, and messages under way are finished.
///
/// What `config` becomes later holds for what begins then.
pub async fn run(config: impl Into<Live>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let live = config.into();
    let config = live.current();
    setup::raise_descriptor_limit(config.frontend.connection_limit);
    let background = CancellationToken::new();
    let _ends_with_us = background.clone().drop_guard();
    let (http_listener, doors) = take_ports(&config)?;
    let certificates = certificates(&config)?;
    let shared = Arc::new(Shared::new(&config, certificates.as_ref(), background.clone())?);

    let auth = setup::needs_auth(&config).then(|| shared.auth.clone());
    if let Some(auth) = &auth {
        tokio::spawn(auth.clone().maintain(background.clone()));
    }
    let (limits, end) = (Arc::clone(&shared.limits), background.clone());
    tokio::spawn(async move { end.run_until_cancelled(limits.share()).await });
    let (allowance, end) = (Arc::clone(&shared.allowance), background.clone());
    tokio::spawn(async move { end.run_until_cancelled(allowance.settle()).await });
    let (conduct, end) = (Arc::clone(&shared.conduct), background.clone());
    tokio::spawn(async move { end.run_until_cancelled(conduct.run(true, maillog::conspicuous)).await });
    let draining = CancellationToken::new();
    let readiness = readiness::readiness(shared.queue.clone(), shared.revocations.clone(), auth, draining.clone());
    tokio::spawn(http::serve("frontend", http_listener, readiness, background.clone()));
    // Also without certificates: SIGHUP must not end the process.
    let hangup = Hangup::subscribe()?;
    if let Some(certificates) = certificates {
        tokio::spawn(certificates.watch(hangup, background.clone()));
    }
    let clients = Arc::clone(shared.examiner.clients());
    tokio::spawn(clients.watch(Hangup::subscribe()?, background.clone()));

    let (sessions, stop, kill) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let mut open = Vec::new();
    for (index, (listener, config)) in doors.into_iter().enumerate() {
        let door = Arc::new(Door::new(index, config, Arc::clone(&shared), stop.clone(), kill.clone())?);
        tracing::info!(listener = config.name, address = %listener.local_addr()?, "listening");
        open.push(Arc::clone(&door));
        sessions.spawn(server::serve(door, listener, sessions.clone()));
    }
    let renewed = Arc::clone(&shared);
    tokio::spawn(live.clone().follow(move |config| renew(&renewed, &open, config), background.clone()));

    shutdown.cancelled().await;
    draining.cancel();
    let delay = live.current().frontend.drain_delay;
    tracing::info!(?delay, "draining");
    tokio::time::sleep(delay).await;
    stop.cancel();
    sessions.close();
    if tokio::time::timeout(HARD_STOP, sessions.wait()).await.is_err() {
        tracing::warn!(sessions = sessions.len(), "sessions did not end in time and are cut off");
        kill.cancel();
        sessions.wait().await;
    }
    shared.allowance.end().await;
    shared.intake.end().await;
    // What the last second has brought.
    shared.conduct.flush(&maillog::conspicuous).await;
    tracing::info!("drained");
    Ok(())
}

/// Another configuration is in force.
fn renew(shared: &Shared, doors: &[Arc<Door>], config: &Config) {
    match shared.renew(config) {
        Ok(()) => doors.iter().for_each(|door| door.renew()),
        Err(error) => tracing::error!(error = format!("{error:#}"), "the settings in use stay"),
    }
}

/// The HTTP port and all listeners, or what is wrong with each that cannot be had.
fn take_ports(config: &Config) -> anyhow::Result<(TcpListener, Vec<(TcpListener, &Listener)>)> {
    let mut refused = Vec::new();
    let mut take = |what: &str, address: SocketAddr| {
        let taken = listen::bind(address);
        taken.map_err(|error| refused.push(format!("{what}: cannot listen on {address}: {error}"))).ok()
    };
    let http = take("frontend.http", config.frontend.http);
    let mut doors = Vec::new();
    for listener in &config.frontend.listener {
        let door = take(&format!("listener \"{}\"", listener.name), listener.bind);
        doors.extend(door.map(|door| (door, listener)));
    }
    match http {
        Some(http) if refused.is_empty() => Ok((http, doors)),
        _ => anyhow::bail!("{}", refused.join("; ")),
    }
}

/// Declares every family of metrics with its series, for docs/metrics.md.
pub fn declare_metrics() {
    metrics::declare();
}
