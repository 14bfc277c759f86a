//! Outbound connections: dial an address, turn the connection to TLS, speak over either.
//!
//! [`open`] connects to an endpoint, be it a unix socket; [`dial`] opens a TCP connection with a time limit, from a chosen source address, without Nagle's delay and with
//! keep-alive. [`TlsClient`] holds the client configurations that mail needs and upgrades a connection after
//! STARTTLS (RFC 3207). [`Stream`] is either kind. Nothing here decides whether plaintext is acceptable; the caller's
//! TLS policy does, on the facts of [`ConnectError`] and [`TlsError`].

mod dane;
mod stream;
mod tested;
mod tls;
mod verify;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use staffetta_policy::classify::Endpoint;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

pub use staffetta_policy::tls::Trust;
pub use stream::Stream;
pub use tls::{Fault, TlsClient, TlsError, TlsSession, TlsSetupError};

/// First keep-alive probe after this much silence; a dead peer is found before the longest SMTP time-out.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// A port to ask for a route with; no datagram is sent (RFC 863).
const DISCARD: u16 = 9;
/// Between unanswered probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Why there is no connection. Completes "failed to connect to …".
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time.
    #[error("Connection timed out")]
    Timeout,
    /// Refused, unreachable.
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    /// This machine does not have the address to connect from.
    #[error("cannot connect from {from}: {}", reason(.error))]
    Source {
        /// The address.
        from: IpAddr,
        /// Why.
        error: io::Error,
    },
}

/// Connects to an endpoint; over TCP from `source`, if it is of the same address family.
pub async fn open(peer: &Endpoint, source: Option<IpAddr>, timeout: Duration) -> Result<Stream, ConnectError> {
    match peer {
        Endpoint::Tcp(address) => {
            let source = source.filter(|source| source.is_ipv4() == address.is_ipv4());
            dial(*address, source, timeout).await.map(Stream::Plain)
        }
        Endpoint::Unix(path) => {
            let connected = tokio::time::timeout(timeout, UnixStream::connect(&**path)).await;
            Ok(Stream::Unix(connected.map_err(|_| ConnectError::Timeout)??))
        }
    }
}

/// Connects to `peer`, from `source` if given (same address family), within `timeout`.
pub async fn dial(peer: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| match error.kind() {
            ErrorKind::AddrNotAvailable => ConnectError::Source { from: source, error },
            // All its ports are in use, say.
            _ => ConnectError::Io(error),
        })?;
    }
    let stream = tokio::time::timeout(timeout, socket.connect(peer)).await.map_err(|_| ConnectError::Timeout)??;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Does this machine have a way to `ip`? Asks the system by connecting a UDP socket, which sends nothing.
///
/// On a machine without IPv6 this spares a delivery the addresses that cannot work.
pub fn has_route(ip: IpAddr) -> bool {
    let any = if ip.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    // No socket of this family, no way.
    let Ok(socket) = std::net::UdpSocket::bind((any, 0)) else { return false };
    let no_way = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::AddrNotAvailable];
    !socket.connect((ip, DISCARD)).is_err_and(|error| no_way.contains(&error.kind()))
}

/// The system's text without Rust's `(os error 111)`, as mail operators know it.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_has_no_nagle_delay_and_the_chosen_source() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let source = "127.0.0.2".parse().unwrap();
        let stream = dial(peer, Some(source), Duration::from_secs(5)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(stream.local_addr().unwrap().ip(), source);
    }

    #[test]
    fn loopback_has_a_route() {
        // That others have none depends on the machine.
        assert!(has_route("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_refused_connection_says_so_in_postfix_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        drop(listener);
        let error = dial(peer, None, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "Connection refused");
    }
}
