//! Certificates of clients: asked for, never demanded, and looked at after the handshake.
//!
//! No handshake fails for whose certificate it is: mail servers show theirs to whoever asks, whoever signed it, and their
//! mail must not be lost for it. The handshake sees to it that the client has the key (RFC 8446 section 4.4.3);
//! [`Clients::identify`] says what the certificate is worth then, also in a session that was resumed. A certificate with
//! which nobody can prove anything to us, such as one of version 1 or with a short key, is as good as none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use staffetta_config::read_file;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use super::digest;
use super::pair::{TlsError, pem_cause};
use crate::reload::{self, Reloaded};
use crate::shutdown::Hangup;

/// Names taken from one certificate.
const MAX_NAMES: usize = 16;
/// Octets of the longest address; what is longer is nobody's name.
const MAX_NAME: usize = 320;
/// Bits of RSA keys whose signatures are checked.
const RSA: std::ops::RangeInclusive<usize> = 2048..=8192;
/// P-256, P-384 and P-521 (RFC 5480 section 2.1.1.1).
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
/// RFC 8410 section 3.
const ED25519: &str = "1.3.101.112";

/// Who signs certificates of clients, if anybody does. Share it in an `Arc`.
pub struct Clients(Option<Authorities>);

/// Their file, and what was made of it.
struct Authorities {
    path: PathBuf,
    verifier: Reloaded<Vec<u8>, Verifier>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Whose certificate it is.
#[derive(Debug)]
pub struct Identity {
    /// SHA-256 over the whole of it.
    pub fingerprint: [u8; 32],
    /// Its subject's alternative names, mail addresses before host names; or why nobody vouches for them.
    pub names: Result<Vec<String>, Unproven>,
}

/// Why the names in a certificate are nobody's.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// There is no authority to vouch for anybody.
    #[error("there is no tls.client_ca")]
    NoAuthority,
    /// None of the authorities signed it, it is over, or not meant for clients.
    #[error(transparent)]
    Chain(#[from] rustls::Error),
    /// It holds nothing that could be read.
    #[error("the certificate cannot be read")]
    Unreadable,
}

impl Clients {
    /// Reads the authorities' certificates; without a file nobody is vouched for.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn load(authorities: Option<PathBuf>) -> Result<Arc<Self>, TlsError> {
        let Some(path) = authorities else { return Ok(Arc::new(Self(None))) };
        let verifier = Reloaded::new(read(&path)?, |pem| verifier(&path, pem))?;
        Ok(Arc::new(Self(Some(Authorities { path, verifier }))))
    }

    /// Can anybody be vouched for?
    pub fn has_authorities(&self) -> bool {
        self.0.is_some()
    }

    /// Looks at the file again, as [`super::Certificates::reload`] does.
    pub fn reload(&self) -> Result<bool, TlsError> {
        match &self.0 {
            Some(Authorities { path, verifier: current }) => current.reload(|| read(path), |pem| verifier(path, pem)),
            None => Ok(false),
        }
    }

    /// Reloads on SIGHUP and whenever the file's content changes, until `shutdown`.
    pub async fn watch(self: Arc<Self>, hangup: Hangup, shutdown: CancellationToken) {
        if self.has_authorities() {
            let complain = |error: &str| tracing::error!(error, "keeping the clients' authorities in use");
            reload::watch("clients' authorities", move |_| self.reload(), complain, hangup, shutdown).await;
        }
    }

    /// Whose certificate is this? `chain` is what the client showed, its own first; nobody if that is nothing, or proves
    /// nothing.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Option<Identity> {
        let (own, others) = chain.split_first().filter(|(own, _)| is_provable(own))?;
        Some(Identity { fingerprint: digest::sha256(own), names: self.names(own, others) })
    }

    fn names(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<Vec<String>, Unproven> {
        let authorities = self.0.as_ref().ok_or(Unproven::NoAuthority)?;
        authorities.verifier.look().verify_client_cert(own, others, UnixTime::now())?;
        names(own).ok_or(Unproven::Unreadable)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.0.as_ref().map(|authorities| &authorities.path)).finish()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_file(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn verifier(path: &Path, pem: &[u8]) -> Result<Verifier, TlsError> {
    let bad = |cause: String| TlsError::Content { path: path.to_owned(), what: "certificate", cause };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(pem_cause(&error)))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
    builder.build().map(|verifier| verifier as Verifier).map_err(|error| bad(error.to_string()))
}

/// RFC 5280 section 4.2.1.6: `rfc822Name` and `dNSName`.
fn names(own: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(own).ok()?;
    let Some(alternatives) = certificate.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let all = &alternatives.value.general_names;
    let mail = all.iter().filter_map(|name| if let GeneralName::RFC822Name(text) = name { Some(text) } else { None });
    let hosts = all.iter().filter_map(|name| if let GeneralName::DNSName(text) = name { Some(text) } else { None });
    let named = mail.chain(hosts).filter(|name| name.len() <= MAX_NAME);
    Some(named.take(MAX_NAMES).map(|name| (*name).to_owned()).collect())
}

/// Can the client prove that it has the key? If not, the handshake goes on, and the certificate counts for nothing.
fn is_provable(own: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(own).is_ok() && has_good_key(own).unwrap_or(false)
}

fn has_good_key(own: &CertificateDer<'_>) -> Option<bool> {
    let (_, certificate) = x509_parser::parse_x509_certificate(own).ok()?;
    let key = certificate.public_key();
    Some(match key.parsed() {
        Ok(PublicKey::RSA(key)) => RSA.contains(&key.key_size()),
        Ok(PublicKey::EC(_)) => CURVES.contains(&key.algorithm.parameters()?.as_oid().ok()?.to_id_string().as_str()),
        _ => key.algorithm.oid().to_id_string() == ED25519,
    })
}

/// Takes every certificate whose key the client has, and those with which that cannot be shown.
#[derive(Debug)]
pub(super) struct AnyClient(WebPkiSupportedAlgorithms);

impl AnyClient {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(super::provider().signature_verification_algorithms))
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: a client that has only a certificate of its own making would hold it back.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !is_provable(own) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, own, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !is_provable(own) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, own, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed_by(authority: &CertifiedIssuer<'static, KeyPair>, names: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().into()
    }

    fn mail(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().unwrap())
    }

    fn host(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn names_count_when_an_authority_of_ours_signed_them() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (authority(), authority());
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ours.pem()).unwrap();
        let clients = Clients::load(Some(path.clone())).unwrap();
        let good = signed_by(&ours, &[host("web1.example.org"), mail("john@example.org"), mail("j@example.org")]);
        let identity = clients.identify(std::slice::from_ref(&good)).unwrap();
        assert_eq!(identity.names.unwrap(), ["john@example.org", "j@example.org", "web1.example.org"]);
        let foreign = signed_by(&theirs, &[mail("john@example.org")]);
        let other = clients.identify(std::slice::from_ref(&foreign)).unwrap();
        assert!(matches!(other.names, Err(Unproven::Chain(_))));
        assert_ne!(other.fingerprint, identity.fingerprint);
        assert!(clients.identify(&[]).is_none());

        // Another authority takes over; the file that follows is damaged, and changes nothing.
        std::fs::write(&path, theirs.pem()).unwrap();
        assert!(clients.reload().unwrap());
        assert!(clients.identify(std::slice::from_ref(&good)).unwrap().names.is_err());
        std::fs::write(&path, "nothing").unwrap();
        assert!(clients.reload().unwrap_err().to_string().contains("ca.pem"));
        assert!(clients.identify(&[foreign]).unwrap().names.is_ok());
    }

    #[test]
    fn a_certificate_that_proves_nothing_is_nobodys() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), authority());
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ours.pem()).unwrap();
        let clients = Clients::load(Some(path)).unwrap();
        for (algorithm, good) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, true),
            (&rcgen::PKCS_ECDSA_P384_SHA384, true),
            (&rcgen::PKCS_ECDSA_P521_SHA512, true),
            (&rcgen::PKCS_ED25519, true),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let own = CertificateParams::default().signed_by(&key, &ours).unwrap().into();
            assert_eq!(clients.identify(&[own]).is_some(), good, "{algorithm:?}");
        }
        let mut params = CertificateParams::default();
        let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
        let odd = params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap().into();
        assert!(clients.identify(&[odd]).is_none());
    }

    #[test]
    fn without_an_authority_a_certificate_has_a_fingerprint_only() {
        let clients = Clients::load(None).unwrap();
        let identity = clients.identify(&[signed_by(&authority(), &[mail("john@example.org")])]).unwrap();
        assert!(matches!(identity.names, Err(Unproven::NoAuthority)));
        assert!(Clients::load(Some("/nonexistent/ca.pem".into())).unwrap_err().to_string().contains("/nonexistent"));
    }

    #[test]
    fn a_certificate_with_many_names_is_read_to_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let ours = authority();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ours.pem()).unwrap();
        let long = mail(&format!("{}@example.org", "u".repeat(400)));
        let names: Vec<SanType> =
            [long].into_iter().chain((0..40).map(|n| mail(&format!("u{n}@example.org")))).collect();
        let clients = Clients::load(Some(path)).unwrap();
        let identity = clients.identify(&[signed_by(&ours, &names)]).unwrap();
        let names = identity.names.unwrap();
        assert_eq!((names.len(), &*names[0]), (MAX_NAMES, "u0@example.org"));
    }
}
