//! The connection under a session: plain TCP, or TLS over it. One type, so that STARTTLS changes no signature.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::intake::Tls;
use crate::metrics;

/// Longest TLS handshake, however patient the session is.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The server's side of the handshake, counted. It may take as long as a command.
    pub(crate) async fn encrypt(tcp: TcpStream, config: &Arc<ServerConfig>, patience: Duration) -> io::Result<Self> {
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(tcp);
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        match tokio::time::timeout(patience.min(HANDSHAKE), handshake).await.unwrap_or_else(late) {
            Ok(stream) => {
                metrics::handshake(version(&stream), "ok").increment(1);
                Ok(Self::Tls(Box::new(stream)))
            }
            Err(error) => {
                metrics::handshake("none", "failed").increment(1);
                Err(error)
            }
        }
    }

    /// What was agreed upon; `None` in clear.
    pub(crate) fn tls(&self) -> Option<Tls> {
        let Self::Tls(stream) = self else { return None };
        let suite = stream.get_ref().1.negotiated_cipher_suite()?;
        // rustls writes TLS13_AES_…; the registry's name is TLS_AES_…
        let cipher = format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
        let version = version(stream);
        Some(Tls { version, text: format!("{version} {cipher}"), cipher })
    }
}

fn version(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "none",
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
