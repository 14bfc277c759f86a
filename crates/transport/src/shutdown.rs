//! Signals: SIGTERM and SIGINT start the drain, SIGHUP asks for a reload.
//!
//! [`on_signal`] belongs in `main`; [`Hangup`] may be subscribed to by any number of services in one process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. Must be called inside a runtime.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        cancel.cancel();
    });
    Ok(token)
}

/// A subscription to SIGHUP.
#[derive(Debug)]
pub struct Hangup(Signal);

impl Hangup {
    /// Subscribes; from now on SIGHUP no longer ends the process.
    pub fn subscribe() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next SIGHUP. Several that arrive together count as one. Cancel safe.
    pub async fn wait(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime stops delivering signals: there will be no other.
            std::future::pending::<()>().await;
        }
    }
}
