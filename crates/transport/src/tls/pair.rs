//! One certificate chain with its key: read from PEM files and checked to belong together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use staffetta_config::read_file;

use super::digest;

/// Where a certificate chain and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The server name (SNI) that selects it, `*.` matches one label; for the default pair a label for logs and metrics.
    pub name: String,
    /// PEM, leaf first, then intermediates.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// Why a pair cannot be used. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Missing, or no permission.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has no PEM section of the kind, is damaged, or the key is encrypted.
    #[error("{} holds no usable {what}: {cause}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// The cause.
        cause: String,
    },
    /// Certificate and key are from different pairs, for example because only one was renewed.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// rustls or its provider refused the set-up; not the files' fault.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The octets of both files, to see whether they changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A pair that passed all checks.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) certified: Arc<CertifiedKey>,
    /// End of the leaf's validity, seconds since the Unix epoch.
    pub(super) not_after: i64,
    /// What it binds a channel by, see [`digest::end_point`].
    pub(super) end_point: Option<Arc<[u8]>>,
}

/// What clients look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// End of validity, seconds since the Unix epoch.
    pub not_after: i64,
    /// The certificate is one for the pair's name; of a wildcard, for a name that it matches.
    pub carries_name: bool,
}

impl Pair {
    /// Reads the files and says what they hold.
    ///
    /// # Errors
    /// If the pair cannot be used.
    pub fn leaf(&self) -> Result<Leaf, TlsError> {
        let Loaded { certified, not_after, .. } = self.check(&self.read()?)?;
        let name = self.name.replacen('*', "any", 1);
        let carries_name = certified.end_entity_cert().is_ok_and(|leaf| carries(leaf, &name));
        Ok(Leaf { not_after, carries_name })
    }

    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| read_file(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Contents { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    pub(super) fn check(&self, contents: &Contents) -> Result<Loaded, TlsError> {
        let chain = chain(&contents.certificate).map_err(|cause| self.bad_certificate(&pem_cause(&cause)))?;
        let leaf = chain.first().ok_or_else(|| self.bad_certificate("there is none"))?;
        let not_after = not_after(leaf).map_err(|cause| self.bad_certificate(&cause))?;
        let end_point = digest::end_point(leaf).map(Into::into);
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|cause| self.bad_key(&pem_cause(&cause)))?;
        let certified = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| self.refused(&error))?;
        Ok(Loaded { certified: Arc::new(certified), not_after, end_point })
    }

    fn refused(&self, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            rustls::Error::InvalidCertificate(_) => self.bad_certificate(&error.to_string()),
            _ => self.bad_key(&error.to_string()),
        }
    }

    fn bad_certificate(&self, cause: &str) -> TlsError {
        TlsError::Content { path: self.certificate.clone(), what: "certificate", cause: cause.to_owned() }
    }

    fn bad_key(&self, cause: &str) -> TlsError {
        TlsError::Content { path: self.key.clone(), what: "private key", cause: cause.to_owned() }
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    CertificateDer::pem_slice_iter(pem).collect()
}

fn carries(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(name)) else { return false };
    verify_server_name(&leaf, &name).is_ok()
}

fn not_after(leaf: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.timestamp())
}

/// The PEM reader prints octets as numbers; operators want words.
pub(super) fn pem_cause(error: &PemError) -> String {
    match error {
        PemError::NoItemsFound => "there is none in PEM form".to_owned(),
        PemError::MissingSectionEnd { .. } => "a PEM section has no end".to_owned(),
        PemError::IllegalSectionStart { .. } => "a PEM section starts badly".to_owned(),
        other => other.to_string(),
    }
}
