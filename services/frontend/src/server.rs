//! The accept loop of a listener, and what is decided before a session begins.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use staffetta_config::ListenerTls;
use staffetta_smtp::Reply;
use staffetta_telemetry::maillog;
use staffetta_transport::listen;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::door::{Door, Peer};
use crate::limits::{Full, Slot};
use crate::metrics;

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
