//! Mutual TLS towards the frontends: our certificate, and only clients whose certificate our authority has signed.
//!
//! [`MutualTls::reload`] reads the three files again; when they changed and make sense, new connections use them, else
//! the old ones stay in use. TLS 1.3 only: both ends are ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use staffetta_config::Rpc;
use staffetta_transport::tls::{RpcContents, RpcError, RpcFiles};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// The longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at a time.
const HANDSHAKES: usize = 256;

/// Connections with a finished handshake that wait to be served.
const BACKLOG: usize = 64;

/// What tonic serves.
type Connection = std::io::Result<TlsStream<TcpStream>>;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Files(#[from] RpcError),
    #[error("{path} holds no usable {what}: {problem}")]
    Pem { path: PathBuf, what: &'static str, problem: String },
    #[error("use the certificate and the key together: {0}")]
    Pair(#[from] rustls::Error),
    #[error("use the authority: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// The configuration in use.
pub(crate) struct MutualTls {
    files: RpcFiles,
    contents: ArcSwap<RpcContents>,
    config: ArcSwap<ServerConfig>,
}

impl MutualTls {
    /// `None` if `[rpc]` is not used.
    pub(crate) fn load(rpc: &Rpc) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(files) = RpcFiles::new(rpc)? else { return Ok(None) };
        let contents = files.read()?;
        let config = server_config(&files, &contents)?;
        Ok(Some(Arc::new(Self {
            files,
            contents: ArcSwap::from_pointee(contents),
            config: ArcSwap::from_pointee(config),
        })))
    }

    /// Reads the files again; true if they changed.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let contents = self.files.read()?;
        if **self.contents.load() == contents {
            return Ok(false);
        }
        self.config.store(Arc::new(server_config(&self.files, &contents)?));
        self.contents.store(Arc::new(contents));
        Ok(true)
    }

    /// Accepts connections and does their handshakes side by side, so that a slow client delays nobody. Ends with
    /// `shutdown`.
    pub(crate) fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> mpsc::Receiver<Connection> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.accept_all(&listener, &sender) => {}
            }
        });
        receiver
    }

    async fn accept_all(&self, listener: &TcpListener, sender: &mpsc::Sender<Connection>) {
        let places = Arc::new(Semaphore::new(HANDSHAKES));
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (acceptor, sender) = (TlsAcceptor::from(self.config.load_full()), sender.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        handshake(acceptor, stream, peer, sender).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others must end first.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    sender: mpsc::Sender<Connection>,
) {
    // Without it small answers wait for an acknowledgement; a failure costs only time.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            // Closed only while shutting down.
            let _ = sender.send(Ok(stream)).await;
        }
        Ok(Err(error)) => tracing::warn!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::warn!(%peer, "TLS handshake timed out"),
    }
}

fn server_config(files: &RpcFiles, contents: &RpcContents) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca, &contents.ca)? {
        roots.add(certificate)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| pem(&files.key, "private key", &error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&files.certificate, &contents.certificate)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = read.map_err(|error| pem(path, "certificate", &error))?;
    if found.is_empty() {
        return Err(pem(path, "certificate", &"there is none"));
    }
    Ok(found)
}

fn pem(path: &Path, what: &'static str, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::Pem { path: path.to_owned(), what, problem: problem.to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_testkit::certs::Authority;

    use super::*;

    #[test]
    fn changed_files_are_used_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        let leaf = authority.leaf("auth", &["localhost"]).unwrap();
        let rpc = Rpc { ca: Some(authority.ca()), certificate: Some(leaf.certificate), key: Some(leaf.key.clone()) };
        let tls = MutualTls::load(&rpc).unwrap().unwrap();
        let first = tls.config.load_full();
        assert!(!tls.reload().unwrap());
        authority.leaf("auth", &["localhost"]).unwrap();
        assert!(tls.reload().unwrap());
        let second = tls.config.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&leaf.key, "half a file").unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("auth.key holds no usable private key"));
        assert!(Arc::ptr_eq(&second, &tls.config.load_full()));
    }
}
