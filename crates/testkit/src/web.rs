//! What web servers in tests have in common: loopback, in TLS or in the clear, one request a connection.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Either kind of connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection whose handshake is done, if there is one.
pub type Connection = BufReader<Box<dyn Io>>;

/// Without `tls` it is in the clear. Gives each connection to `answer`, until the tasks are dropped; where it listens. Port 0 is any free port.
///
/// # Errors
/// The port is taken.
pub async fn serve<F>(
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
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
                let stream: Box<dyn Io> = match tls {
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                    None => Box::new(stream),
                };
                answer(BufReader::new(stream)).await;
            });
        }
    });
    Ok((address, tasks))
}
