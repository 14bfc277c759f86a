//! Who is there: the step between accepting a connection and the session on it.
//!
//! Behind a load balancer the answer is in the PROXY header, which must come from the networks in `proxy_from` and
//! from nobody else: whoever may send one can claim to be any client. What the client is called is looked up while it
//! waits for the greeting.

use std::io;
use std::net::SocketAddr;

use staffetta_transport::proxy::{self, Origin, ProxyError};
use tokio::net::TcpStream;

use crate::door::{Door, Peer};
use crate::limits::{Full, Guest, Slot};

/// Why there is nobody to talk to.
pub(crate) enum Turned {
    /// Without a word: the header was bad, late, or not to be sent. Told and counted already.
    Away,
    /// An operator has blocked this client.
    Blocked(SocketAddr),
    /// There is no place for the client that the header names.
    Full(SocketAddr, Full),
}

/// Finds out who is at the other end, and what that client is called. `slot` is what the connection holds, and holds for a client from then on.
pub(crate) async fn identify(
    door: &Door,
    tcp: &mut TcpStream,
    address: SocketAddr,
    slot: &mut Slot,
) -> Result<Peer, Turned> {
    let mut peer = locate(door, tcp, address, slot).await?;
    if !peer.nameless && door.shared.revocations.is_client_blocked(peer.address.ip()) {
        return Err(Turned::Blocked(peer.address));
    }
    Box::pin(slot.confirm()).await.map_err(|full| Turned::Full(peer.address, full))?;
    if let Some(names) = door.shared.names.as_ref().filter(|_| !peer.nameless) {
        peer.name = Box::pin(names.of(peer.address.ip())).await;
    }
    Ok(peer)
}

async fn locate(door: &Door, tcp: &mut TcpStream, address: SocketAddr, slot: &mut Slot) -> Result<Peer, Turned> {
    if !door.is_proxy(address.ip()) {
        return direct(door, tcp, address).await;
    }
    match proxy::read(tcp).await {
        Ok(Origin::Client(client)) => {
            let peer = door.peer(client);
            slot.pass_on(peer.guest()).map_err(|full| Turned::Full(client, full))?;
            Ok(peer)
        }
        // Anybody may stand behind it: the proxy's own rights are not theirs.
        Ok(Origin::Unknown) => {
            slot.pass_on(Guest::Nameless).map_err(|full| Turned::Full(address, full))?;
            Ok(Peer::nameless(address))
        }
        Ok(Origin::Proxy) => Ok(door.peer(address)),
        Err(error) => Err(no_header(door, address, &error)),
    }
}

/// A connection without a proxy. A header that is there already is refused here; a later one is read as a command,
/// or as the beginning of a TLS handshake.
async fn direct(door: &Door, tcp: &TcpStream, address: SocketAddr) -> Result<Peer, Turned> {
    if has_spoken(tcp) {
        let mut first = [0; 12];
        let seen = tcp.peek(&mut first).await.unwrap_or(0);
        if proxy::announces(&first[..seen]) {
            door.metrics.proxy.forbidden.increment(1);
            tracing::info!(listener = door.name(), peer = %address, "PROXY header from outside proxy_from, closing");
            return Err(Turned::Away);
        }
    }
    Ok(door.peer(address))
}

fn no_header(door: &Door, proxy: SocketAddr, error: &ProxyError) -> Turned {
    let counter = match error {
        ProxyError::Malformed(_) => &door.metrics.proxy.malformed,
        ProxyError::Late => &door.metrics.proxy.late,
        ProxyError::Lost(_) => {
            // A probe of the port, most of the time.
            tracing::debug!(listener = door.name(), peer = %proxy, "connection closed before its PROXY header");
            return Turned::Away;
        }
    };
    counter.increment(1);
    tracing::info!(listener = door.name(), peer = %proxy, %error, "closing a proxy's connection");
    Turned::Away
}

/// Has the other side sent something that nobody has read yet? Asks the kernel, and does not wait.
pub(crate) fn has_spoken(tcp: &TcpStream) -> bool {
    let waiting: io::Result<u64> = rustix::io::ioctl_fionread(tcp).map_err(Into::into);
    waiting.is_ok_and(|octets| octets > 0)
}
