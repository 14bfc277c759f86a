//! The network between two processes, as bad as a test wants it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// They arrive.
    Whole,
    /// Connections break, and new ones with them.
    Cut,
    /// Nothing passes, and nobody hears of it.
    Silent,
    /// What is asked arrives, what is answered does not; the connection breaks when the network is whole again.
    Deaf,
}

/// Takes connections and passes them on; ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<Network>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of loopback for `target`.
    ///
    /// # Errors
    /// Of the system.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, (state, network)) = (listener.local_addr()?, watch::channel(Network::Whole));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // Those that have ended leave nothing behind.
                while connections.try_join_next().is_some() {}
                connections.spawn(pass(client, target, network.clone()));
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network is so.
    pub fn becomes(&self, network: Network) {
        self.state.send_replace(network);
    }
}

async fn pass(client: TcpStream, target: SocketAddr, mut network: watch::Receiver<Network>) {
    // A connection that begins in silence waits for better times.
    let begun = network.wait_for(|now| *now != Network::Silent).await.map(|now| *now);
    let Ok(Network::Whole | Network::Deaf) = begun else { return };
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = copy(from_client, to_server, network.clone(), |_| true) => {}
        _ = copy(from_server, to_client, network.clone(), |now| now != Network::Deaf) => {}
        () = breaks(network) => {}
    }
}

/// Waits for what no connection survives.
async fn breaks(mut network: watch::Receiver<Network>) {
    let bad = |now: &Network| matches!(now, Network::Cut | Network::Deaf);
    if network.wait_for(bad).await.is_ok_and(|now| *now == Network::Deaf) {
        let _ = network.wait_for(|now| *now != Network::Deaf).await;
    }
}

/// Copies until one side ends; drops what does not arrive.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
    arrives: impl Fn(Network) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let now = network.wait_for(|now| *now != Network::Silent).await.map_or(Network::Whole, |now| *now);
        if arrives(now) {
            to.write_all(&buffer[..count]).await?;
        }
    }
}
