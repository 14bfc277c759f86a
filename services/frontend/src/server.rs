//! One listener: its accept loop, and what is decided before a session begins.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use staffetta_config::{Listener, ListenerTls};
use staffetta_smtp::Reply;
use staffetta_smtp::server::Settings;
use staffetta_telemetry::maillog;
use staffetta_transport::listen;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Peer};
use crate::limits::{Full, Slot};
use crate::metrics::{self, ListenerMetrics};
use crate::setup::{self, Shared};

/// All that the sessions of one listener have in common.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) kind: staffetta_policy::relay::Listener,
    pub(crate) tls: ListenerTls,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: ListenerMetrics,
    /// No new sessions; those that wait for a command end.
    pub(crate) stop: CancellationToken,
    /// All sessions end now.
    kill: CancellationToken,
}

impl Door {
    pub(crate) fn new(
        listener: &Listener,
        shared: Arc<Shared>,
        stop: CancellationToken,
        kill: CancellationToken,
    ) -> Self {
        let tls = match listener.tls {
            ListenerTls::Starttls => "starttls",
            ListenerTls::Implicit => "implicit",
            ListenerTls::Off => "off",
        };
        Self {
            kind: setup::kind(listener),
            tls: listener.tls,
            settings: Arc::new(setup::session(listener, &shared)),
            metrics: ListenerMetrics::new(&listener.name, tls),
            shared,
            stop,
            kill,
        }
    }

    /// The listener's name.
    pub(crate) fn name(&self) -> &str {
        self.metrics.name()
    }
}

/// Takes connections until the door stops.
pub(crate) async fn serve(door: Arc<Door>, listener: TcpListener, sessions: TaskTracker) {
    let stop = door.stop.clone();
    let mut stopped = std::pin::pin!(stop.cancelled());
    loop {
        let (tcp, address) = tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listen::accept(&listener) => accepted,
        };
        let trusted = door.shared.is_trusted(address.ip());
        match door.shared.limits.take(address.ip(), trusted) {
            Ok(slot) => {
                sessions.spawn(session(Arc::clone(&door), tcp, Peer { address, trusted }, slot));
            }
            Err(full) => refuse(&door, &tcp, address, full),
        }
    }
}

async fn session(door: Arc<Door>, tcp: TcpStream, peer: Peer, slot: Slot) {
    door.metrics.connections.increment(1);
    door.metrics.active.increment(1.0);
    let client = maillog::Client { address: peer.address, name: None };
    maillog::connected(&maillog::Connected { listener: door.name(), client });
    tokio::select! {
        biased;
        () = connection::run(&door, tcp, peer) => {}
        () = door.kill.cancelled() => {}
    }
    door.metrics.active.decrement(1.0);
    drop(slot);
}

/// Says why and hangs up. Never waits: the answer fits into an empty send buffer, or the client does not get it.
fn refuse(door: &Door, tcp: &TcpStream, address: SocketAddr, full: Full) {
    match full {
        Full::Pod => door.metrics.over_limit.increment(1),
        Full::Client => door.metrics.over_client_limit.increment(1),
    }
    let reply = Reply::too_many_connections(&door.shared.hostname, &address.ip().to_string());
    metrics::rejection("CONNECT", reply.code(), "connections").increment(1);
    if door.tls != ListenerTls::Implicit {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        let _ = tcp.try_write(&out);
    }
    let text = reply.to_string();
    maillog::rejected(&maillog::Rejected {
        listener: door.name(),
        client: maillog::Client { address, name: None },
        stage: "CONNECT",
        reply: text.as_str().into(),
        from: None,
        to: None,
        proto: "SMTP",
        helo: None,
        sasl: None,
    });
}
