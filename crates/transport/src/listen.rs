//! Listening sockets, and an accept loop that no single connection and no shortage of descriptors can stop.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait for the accept loop; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A silent peer is probed after this long, and given up after three probes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to leave the kernel alone when it has no descriptors or memory for a connection.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// How long a shortage is not told of again.
const SHORTAGE_SILENCE: Duration = Duration::from_secs(60);

/// Binds and listens. `SO_REUSEADDR` lets a restarted service take its port back at once.
///
/// `TCP_NODELAY` and keepalive are set here: Linux hands them down to each connection that is accepted, which saves
/// five calls a connection.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection, and its peer with IPv4-mapped addresses unwrapped.
///
/// Never fails: a connection that is gone already is skipped; when descriptors or memory are short, the loop pauses and
/// says so in the log. Cancel safe.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = persist(|| listener.accept()).await;
    (stream, canonical(peer))
}

/// Tries until it works out. What belongs to one connection costs no pause, a shortage does.
async fn persist<T, F: Future<Output = io::Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if is_news(&LAST_SHORTAGE) {
                    tracing::warn!(%error, "cannot accept connections, pausing");
                }
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

/// When a shortage was last told of.
static LAST_SHORTAGE: Mutex<Option<Instant>> = Mutex::new(None);

/// A shortage that lasts is told of now and then, not at each try.
fn is_news(last: &Mutex<Option<Instant>>) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let news = last.is_none_or(|at| at.elapsed() >= SHORTAGE_SILENCE);
    if news {
        *last = Some(Instant::now());
    }
    news
}

/// `::ffff:192.0.2.1` is 192.0.2.1: networks in the configuration are written that way.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Errors of accept(2) that belong to the one connection that was next (`man 2 accept`, "Error handling").
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_of_descriptors_does_not_make_the_loop_spin() {
        const EMFILE: i32 = 24;
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let mut outcomes = vec![Ok("at last"), Err(io::Error::from_raw_os_error(EMFILE)), Err(reset())];
        outcomes.extend((0..2).map(|_| Err(io::Error::from_raw_os_error(EMFILE))));
        let began = tokio::time::Instant::now();
        assert_eq!(persist(|| std::future::ready(outcomes.pop().unwrap())).await, "at last");
        assert_eq!(began.elapsed(), SHORTAGE_PAUSE * 3);
    }

    #[tokio::test]
    async fn an_accepted_connection_has_nodelay_and_keepalive() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = accept(&listener).await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE / 3);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    /// Trusted networks are written as 127.0.0.0/8; a client that came in as ::ffff:127.0.0.1 would be a stranger.
    #[tokio::test]
    async fn a_listener_on_all_addresses_sees_ipv4_clients_as_such() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let client = TcpStream::connect(address).await.unwrap();
        let (_stream, peer) = accept(&listener).await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(peer.ip().to_string(), "127.0.0.1");
    }

    #[tokio::test]
    async fn mapped_addresses_are_unwrapped() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:25".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.1:25");
    }
}
