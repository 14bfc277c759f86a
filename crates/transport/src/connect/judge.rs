//! The certificate of a host that may have any, looked at nevertheless: its domain wants to hear what is wrong with it
//! (RFC 8461 section 5.1, mode `testing`; RFC 8460).

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::tls::{AcceptAny, Fault};

/// Takes every certificate, and remembers what the web's roots say of it.
#[derive(Debug)]
pub(super) struct Judging {
    web: Arc<WebPkiServerVerifier>,
    signatures: AcceptAny,
    verdict: OnceLock<Option<Fault>>,
}

impl Judging {
    pub(super) fn new(web: Arc<WebPkiServerVerifier>, provider: Arc<CryptoProvider>) -> Self {
        Self { web, signatures: AcceptAny(provider), verdict: OnceLock::new() }
    }

    /// What is wrong with the certificate; `None` also before there was one.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.verdict.get().cloned().flatten()
    }
}

impl ServerCertVerifier for Judging {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.web.verify_server_cert(leaf, intermediates, name, ocsp, now);
        self.verdict.get_or_init(|| verified.err().as_ref().map(Fault::of));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
