//! What web servers in tests have in common: TLS on loopback, one request a connection.

use std::net::SocketAddr;

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection whose handshake is done.
pub type Connection = BufReader<TlsStream<TcpStream>>;

/// Gives each connection to `answer`, until the tasks are dropped; where it listens. Port 0 is any free port.
///
/// # Errors
/// The port is taken.
pub async fn serve<F>(
    address: SocketAddr,
    tls: TlsAcceptor,
    answer: impl Fn(Connection) -> F + Send + Sync + 'static,
) -> anyhow::Result<(SocketAddr, JoinSet<()>)>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let answer = std::sync::Arc::new(answer);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), answer.clone());
            connections.spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    answer(BufReader::new(stream)).await;
                }
            });
        }
    });
    Ok((address, tasks))
}
