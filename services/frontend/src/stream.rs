//! The connection under a session: plain TCP, or TLS over it. One type, so that STARTTLS changes no signature.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{AlertDescription, PeerIncompatible, ServerConfig, ServerConnection};
use staffetta_transport::connect::TlsSession;
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

/// Why a handshake failed; labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client speaks no version of TLS that we do.
    Version,
    /// No cipher suite in common.
    Cipher,
    /// No key exchange or signature in common, or something else that one side cannot do.
    Incompatible,
    /// The client does not know who signed our certificate.
    UnknownCa,
    /// The client does not like our certificate for another reason, such as its name or its time.
    Certificate,
    /// The client ended it with another alert.
    Alert,
    /// What came is no TLS.
    NotTls,
    /// Something against the protocol.
    Protocol,
    /// The client went away.
    Closed,
    /// The client took too long.
    Timeout,
}

impl Broken {
    pub(crate) const ALL: [Self; 10] = [
        Self::Version,
        Self::Cipher,
        Self::Incompatible,
        Self::UnknownCa,
        Self::Certificate,
        Self::Alert,
        Self::NotTls,
        Self::Protocol,
        Self::Closed,
        Self::Timeout,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Incompatible => "incompatible",
            Self::UnknownCa => "unknown_ca",
            Self::Certificate => "certificate",
            Self::Alert => "alert",
            Self::NotTls => "not_tls",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        }
    }
}

impl From<&io::Error> for Broken {
    fn from(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) else {
            return if error.kind() == io::ErrorKind::TimedOut { Self::Timeout } else { Self::Closed };
        };
        match error {
            rustls::Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::Version,
            rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => Self::Cipher,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            rustls::Error::AlertReceived(AlertDescription::UnknownCA) => Self::UnknownCa,
            rustls::Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown,
            ) => Self::Certificate,
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::Version,
            rustls::Error::AlertReceived(_) => Self::Alert,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Protocol,
        }
    }
}

impl Stream {
    /// The server's side of the handshake. It may take as long as a command. A client that goes away without having
    /// begun, such as a probe of the port, is no failed handshake.
    ///
    /// # Errors
    /// With the reason, unless it never began.
    pub(crate) async fn encrypt(
        tcp: TcpStream,
        config: &Arc<ServerConfig>,
        patience: Duration,
    ) -> Result<Self, (io::Error, Option<Broken>)> {
        let handshake = async {
            if tcp.peek(&mut [0]).await.map_err(|error| (error, None))? == 0 {
                return Err((io::ErrorKind::UnexpectedEof.into(), None));
            }
            TlsAcceptor::from(Arc::clone(config)).accept(tcp).await.map_err(with_reason)
        };
        let late = |_| Err(with_reason(io::ErrorKind::TimedOut.into()));
        let stream = tokio::time::timeout(patience.min(HANDSHAKE), handshake).await.unwrap_or_else(late)?;
        metrics::handshake(TlsSession::of(stream.get_ref().1).version).increment(1);
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The TLS connection; `None` in clear.
    pub(crate) fn connection(&self) -> Option<&ServerConnection> {
        let Self::Tls(stream) = self else { return None };
        Some(stream.get_ref().1)
    }

    /// What was agreed upon; `None` in clear.
    pub(crate) fn tls(&self) -> Option<Tls> {
        let TlsSession { version, cipher } = TlsSession::of(self.connection()?);
        Some(Tls { version, text: format!("{version} {cipher}"), cipher })
    }
}

fn with_reason(error: io::Error) -> (io::Error, Option<Broken>) {
    let reason = Broken::from(&error);
    (error, Some(reason))
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
