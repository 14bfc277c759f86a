//! Mutual TLS towards the auth service: authority, certificate and key from files, read again when they change.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// A file that cannot be read. Completes "frontend.auth: …".
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub(crate) struct ClientTlsError {
    path: PathBuf,
    source: std::io::Error,
}

/// The three files of `[rpc]` and what they held when they were last read.
pub(crate) struct ClientTls {
    files: Files,
    contents: Mutex<Contents>,
}

struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(PartialEq, Eq)]
struct Contents {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ClientTls {
    pub(crate) fn load(ca: PathBuf, certificate: PathBuf, key: PathBuf) -> Result<Self, ClientTlsError> {
        let files = Files { ca, certificate, key };
        let contents = Mutex::new(files.read()?);
        Ok(Self { files, contents })
    }

    /// The configuration for connections to `host`, with what the files held last.
    pub(crate) fn config(&self, host: &str) -> ClientTlsConfig {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        ClientTlsConfig::new()
            .domain_name(host)
            .ca_certificate(Certificate::from_pem(&contents.ca))
            .identity(Identity::from_pem(&contents.certificate, &contents.key))
    }

    /// Reads the files again; true if they changed. Unreadable files are as good as unchanged ones.
    pub(crate) fn refresh(&self) -> bool {
        let read = match self.files.read() {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "keeping the certificates towards the auth service");
                return false;
            }
        };
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *contents != read;
        *contents = read;
        changed
    }
}

impl Files {
    fn read(&self) -> Result<Contents, ClientTlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| ClientTlsError { path: path.clone(), source });
        Ok(Contents { ca: read(&self.ca)?, certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}
