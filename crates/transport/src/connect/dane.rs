//! The certificate of a host with TLSA records (RFC 6698, RFC 7671, RFC 7672 section 3).
//!
//! Usage 3: the certificate or its key is named, and nothing else about it matters: neither names nor dates. Usage 2: a CA
//! is named, the server sends it along (or the record holds it whole), and the chain, the dates and the name must be right
//! under it as if it were the only root there is. What is signed in the handshake is checked in any case.

use std::sync::Arc;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use staffetta_policy::tls::{AUTHORITY, END_ENTITY, Pins, Tlsa};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::verify::{Judge, Shown};

/// Takes the certificates that match.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) pins: Arc<Pins>,
    /// Of signatures in a chain.
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl Matching {
    fn records(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.pins.records.iter().filter(move |record| record.usage == usage)
    }

    /// Is this certificate one of those of the records with this usage?
    fn is_named(&self, usage: u8, certificate: &CertificateDer<'_>) -> bool {
        let key = public_key(certificate).unwrap_or_default();
        self.records(usage).any(|record| record.matches(certificate, key))
    }

    /// The CAs that the records name: those that the server has sent, and those that a record holds whole.
    fn authorities(&self, chain: &[&CertificateDer<'_>]) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let whole = self.records(AUTHORITY).filter(|record| (record.selector, record.matching) == (0, 0));
        let held = whole.map(|record| CertificateDer::from(record.data.clone()));
        let sent = chain.iter().filter(|sent| self.is_named(AUTHORITY, sent)).map(|sent| (*sent).clone().into_owned());
        for certificate in sent.chain(held) {
            // One that cannot be read vouches for nobody.
            let _ = roots.add(certificate);
        }
        roots
    }

    fn verify_under_authority(&self, &Shown { leaf, intermediates, now, .. }: &Shown<'_>) -> Result<(), Error> {
        let chain: Vec<_> = [leaf].into_iter().chain(intermediates).collect();
        let roots = self.authorities(&chain);
        if roots.is_empty() {
            return Err(no_match());
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, self.algorithms)?;
        let mut result = Err(CertificateError::NotValidForName.into());
        for name in &self.pins.names {
            let Ok(name) = ServerName::try_from(&**name) else { continue };
            result = verify_server_name(&parsed, &name);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

impl Judge for Matching {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), Error> {
        if self.is_named(END_ENTITY, shown.leaf) { Ok(()) } else { self.verify_under_authority(shown) }
    }
}

/// No TLSA record is about any certificate that the server has shown.
fn no_match() -> Error {
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(NoMatch))))
}

/// For the log.
#[derive(Debug, thiserror::Error)]
#[error("no TLSA record matches")]
struct NoMatch;

/// SubjectPublicKeyInfo, as it stands in the certificate.
fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.subject_pki.raw)
}

#[cfg(test)]
mod tests;
