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

use crate::arrival::{self, Turned};
use crate::connection;
use crate::door::{Door, Peer};
use crate::limits::{Full, Guest, Slot};
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
        // A proxy stands for many clients; whose connection it is shows in its header.
        let guest = if door.is_proxy(address.ip()) { Guest::Trusted } else { door.peer(address).guest() };
        match door.shared.limits.take(door.source.index, guest) {
            Ok(slot) => {
                sessions.spawn(arrive(Arc::clone(&door), tcp, address, slot));
            }
            Err(full) => refuse_full(&door, &tcp, address, full),
        }
    }
}

async fn arrive(door: Arc<Door>, mut tcp: TcpStream, address: SocketAddr, mut slot: Slot) {
    let who = tokio::select! {
        biased;
        who = arrival::identify(&door, &mut tcp, address, &mut slot) => who,
        () = door.kill.cancelled() => return,
    };
    match who {
        Ok(peer) => session(&door, tcp, peer, &mut slot).await,
        Err(Turned::Full(client, full)) => refuse_full(&door, &tcp, client, full),
        Err(Turned::Blocked(client)) => {
            refuse(&door, &tcp, client, &Reply::client_rejected(&client.ip().to_string()), "client_blocked");
        }
        Err(Turned::Away) => {}
    }
    drop(slot);
}

async fn session(door: &Door, tcp: TcpStream, peer: Peer, slot: &mut Slot) {
    door.metrics.connections.increment(1);
    door.metrics.active.increment(1.0);
    let client = maillog::Client { address: peer.address, name: peer.name.as_deref().map(Into::into) };
    maillog::connected(&maillog::Connected { listener: door.name(), client });
    tokio::select! {
        biased;
        () = connection::run(door, tcp, peer, slot) => {}
        () = door.kill.cancelled() => {}
    }
    door.metrics.active.decrement(1.0);
}

fn refuse_full(door: &Door, tcp: &TcpStream, address: SocketAddr, full: Full) {
    refuse(door, tcp, address, &door.over_limit(full, address.ip()), "connections");
}

/// Says why and hangs up. Never waits: the answer fits into an empty send buffer, or the client does not get it.
fn refuse(door: &Door, tcp: &TcpStream, address: SocketAddr, reply: &Reply, reason: &'static str) {
    metrics::rejection("CONNECT", reply.code(), reason).increment(1);
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
        trace: None,
    });
}
