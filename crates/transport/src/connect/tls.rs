//! Client TLS for mail (RFC 3207, RFC 7435): opportunistic, which takes any certificate, verified by the web's roots, and
//! verified by TLSA records.
//!
//! Opportunistic TLS skips the chain and the name, never the signature: the peer still proves that it holds the key of
//! the certificate it shows. The flavours have separate configurations, so a session resumed in one never vouches
//! for another; with TLSA records nothing is resumed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use rustls::{CertificateError, CipherSuite, ClientConfig, CommonState, RootCertStore};
use staffetta_config::read_file;
use staffetta_mail::tls_report::Flaw;
use staffetta_policy::tls::Trust;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dane::Matching;
use super::tested::Tested;
use super::verify::{AcceptAny, Judge, Verifier};

/// What was negotiated, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's name in the IANA registry.
    pub cipher: &'static str,
}

/// The CA bundle is unusable. Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// Not there, not readable, or not PEM.
    #[error("read the CA bundle {}: {reason}", path.display())]
    Bundle {
        /// The configured file.
        path: PathBuf,
        /// In a few words.
        reason: String,
    },
    /// The crypto provider refused.
    #[error("set up TLS: {0}")]
    Provider(#[from] rustls::Error),
}

/// Why the handshake failed. Completes "failed to start TLS: …".
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer went silent.
    #[error("handshake timed out")]
    Timeout,
    /// The certificate, the versions or ciphers, or the connection.
    #[error("handshake failure: {}", reason(.0))]
    Handshake(io::Error),
    /// With [`Trust::WebPki`]: no certificate can be issued for such a name.
    #[error("{0:?} is no host name that a certificate can carry")]
    Name(String),
    /// The crypto provider refused.
    #[error("{0}")]
    Provider(rustls::Error),
}

/// What is wrong with a handshake, for whoever has to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub flaw: Flaw,
    /// In words.
    pub reason: String,
}

impl Fault {
    /// What rustls, or a verifier of ours, says.
    pub(super) fn of(error: &rustls::Error) -> Self {
        let flaw = match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Flaw::CertificateExpired,
                // It is not what the names, or the TLSA records, ask for.
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }
                | CertificateError::Other(_) => Flaw::CertificateHostMismatch,
                _ => Flaw::CertificateNotTrusted,
            },
            _ => Flaw::ValidationFailure,
        };
        Self { flaw, reason: words(error) }
    }
}

fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        other => other.to_string(),
    }
}

/// What a verifier of ours says comes without the words around it.
fn reason(error: &io::Error) -> String {
    by_rustls(error).map_or_else(|| super::reason(error), words)
}

/// What rustls says, if it was not the connection.
fn by_rustls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl TlsError {
    /// For whoever has to mend it.
    pub fn fault(&self) -> Fault {
        let said = if let Self::Handshake(error) = self { by_rustls(error) } else { None };
        said.map_or_else(|| Fault { flaw: Flaw::ValidationFailure, reason: self.to_string() }, Fault::of)
    }

    /// True if the peer speaks TLS but its certificate is not good enough.
    pub fn is_certificate(&self) -> bool {
        let Self::Handshake(error) = self else { return matches!(self, Self::Name(_)) };
        matches!(by_rustls(error), Some(rustls::Error::InvalidCertificate(_)))
    }
}

/// All flavours, ready for use. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    any: TlsConnector,
    verified: TlsConnector,
    web: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl TlsClient {
    /// Trusts the web's roots (compiled in) and, with `ca`, the certificates of that PEM bundle.
    pub fn new(ca: Option<&Path>) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca {
            add_bundle(&mut roots, path)?;
        }
        let builder = || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        // Without lists of what is revoked there is nothing that could be wrong.
        let web = web.build().map_err(|error| TlsSetupError::Provider(rustls::Error::General(error.to_string())))?;
        let verified = builder()?.with_webpki_verifier(web.clone()).with_no_client_auth();
        let accept = Arc::new(Verifier { judge: AcceptAny, provider: provider.clone() });
        let any = builder()?.dangerous().with_custom_certificate_verifier(accept).with_no_client_auth();
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok(Self { any: connector(any), verified: connector(verified), web, provider })
    }

    /// Upgrades a connection to `host`, whose name goes into SNI; the name to be checked is in `trust`.
    ///
    /// A failure ends the connection: plaintext, where allowed, needs a new one. What is wrong with the certificate is told
    /// beside the stream with [`Trust::Judged`], where it does not matter.
    pub async fn handshake(
        &self,
        trust: &Trust,
        host: &str,
        tcp: TcpStream,
        timeout: Duration,
    ) -> Result<(TlsStream<TcpStream>, TlsSession, Option<Fault>), TlsError> {
        let own;
        let fault = Arc::<OnceLock<Fault>>::default();
        let (connector, name) = match trust {
            Trust::Any => (&self.any, any_name(host, &tcp)?),
            Trust::WebPki { name } => (&self.verified, server_name(name)?),
            Trust::Judged { name } => {
                own = self.verified_by(Tested { web: self.web.clone(), fault: fault.clone() })?;
                (&own, any_name(name, &tcp)?)
            }
            Trust::Dane(pins) => {
                let algorithms = self.provider.signature_verification_algorithms.all;
                own = self.verified_by(Matching { pins: pins.clone(), algorithms })?;
                (&own, any_name(&pins.base, &tcp)?)
            }
        };
        let handshake = tokio::time::timeout(timeout, connector.connect(name, tcp));
        let stream = handshake.await.map_err(|_| TlsError::Timeout)?.map_err(TlsError::Handshake)?;
        let session = TlsSession::of(stream.get_ref().1);
        Ok((stream, session, fault.get().cloned()))
    }
}

impl TlsClient {
    /// For one handshake.
    fn verified_by(&self, judge: impl Judge + 'static) -> Result<TlsConnector, TlsError> {
        let verifier = Arc::new(Verifier { judge, provider: self.provider.clone() });
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl TlsSession {
    /// Of a connection of either side, after its handshake.
    pub fn of(connection: &CommonState) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLS",
        };
        let cipher = connection.negotiated_cipher_suite().map_or("unknown", |suite| cipher_name(suite.suite()));
        Self { version, cipher }
    }
}

/// The registry's name of a cipher suite; rustls puts the version into those of TLS 1.3.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// RFC 6066 section 3: names go into SNI, addresses do not. A name that no certificate can carry still gets
/// opportunistic TLS, under the peer's address.
fn any_name(host: &str, tcp: &TcpStream) -> Result<ServerName<'static>, TlsError> {
    server_name(host).or_else(|error| match tcp.peer_addr() {
        Ok(peer) => Ok(ServerName::IpAddress(IpAddr::from(peer.ip()))),
        Err(_) => Err(error),
    })
}

fn add_bundle(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsSetupError> {
    let fail = |reason: String| TlsSetupError::Bundle { path: path.to_owned(), reason };
    let bundle = read_file(path).map_err(|e| fail(e.to_string()))?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        let certificate = certificate.map_err(|e| fail(e.to_string()))?;
        roots.add(certificate).map_err(|e| fail(e.to_string()))?;
    }
    if roots.len() == before {
        return Err(fail("it holds no certificate".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::connect::dial;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A server with a self-signed certificate for `mx.test` that accepts one connection.
    async fn server() -> (std::net::SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let (tcp, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(tcp).await);
        });
        (address, made.cert.pem())
    }

    #[tokio::test]
    async fn opportunistic_tls_takes_a_self_signed_certificate() {
        let (address, _) = server().await;
        let tcp = dial(address, None, LIMIT).await.unwrap();
        let client = TlsClient::new(None).unwrap();
        let (_, session, _) = client.handshake(&Trust::Any, "other.test", tcp, LIMIT).await.unwrap();
        assert_eq!(session.version, "TLSv1.3");
        assert!(session.cipher.starts_with("TLS"), "{session:?}");
    }

    fn web(name: &str) -> Trust {
        Trust::WebPki { name: name.into() }
    }

    #[tokio::test]
    async fn verified_tls_refuses_a_self_signed_certificate_unless_its_issuer_is_in_the_bundle() {
        let (address, _) = server().await;
        let tcp = dial(address, None, LIMIT).await.unwrap();
        let client = TlsClient::new(None).unwrap();
        let error = client.handshake(&web("mx.test"), "mx.test", tcp, LIMIT).await.unwrap_err();
        assert!(error.is_certificate(), "{error}");

        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("ca.pem");
        for (name, good) in [("mx.test", true), ("other.test", false)] {
            let (address, pem) = server().await;
            std::fs::write(&bundle, pem).unwrap();
            let tcp = dial(address, None, LIMIT).await.unwrap();
            let client = TlsClient::new(Some(&bundle)).unwrap();
            let result = client.handshake(&web(name), name, tcp, LIMIT).await;
            assert_eq!(result.is_ok(), good, "{name}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_only_judged_is_taken_and_its_fault_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("ca.pem");
        for (name, known, flaw) in [
            ("mx.test", true, None),
            ("mx.test", false, Some(Flaw::CertificateNotTrusted)),
            ("other.test", true, Some(Flaw::CertificateHostMismatch)),
        ] {
            let (address, pem) = server().await;
            std::fs::write(&bundle, pem).unwrap();
            let tcp = dial(address, None, LIMIT).await.unwrap();
            let client = TlsClient::new(known.then_some(&*bundle)).unwrap();
            let judged = Trust::Judged { name: name.into() };
            let (.., fault) = client.handshake(&judged, name, tcp, LIMIT).await.unwrap();
            assert_eq!(fault.map(|fault| fault.flaw), flaw, "{name} {known}");
        }
    }

    #[test]
    fn faults_have_the_kinds_that_domains_are_told() {
        let of = |error| Fault::of(&rustls::Error::InvalidCertificate(error)).flaw;
        assert_eq!(of(CertificateError::Expired), Flaw::CertificateExpired);
        assert_eq!(of(CertificateError::NotValidYet), Flaw::CertificateExpired);
        assert_eq!(of(CertificateError::UnknownIssuer), Flaw::CertificateNotTrusted);
        assert_eq!(Fault::of(&rustls::Error::DecryptError).flaw, Flaw::ValidationFailure);
        assert_eq!(TlsError::Timeout.fault().flaw, Flaw::ValidationFailure);
    }

    #[test]
    fn an_empty_or_missing_bundle_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let Err(error) = TlsClient::new(Some(&path)) else { unreachable!() };
        assert!(error.to_string().contains("ca.pem"), "{error}");
        std::fs::write(&path, "nothing").unwrap();
        assert!(TlsClient::new(Some(&path)).is_err());
    }
}
