//! Mutual TLS towards the auth service: authority, certificate and key from files, read again when they change.

use std::sync::{Mutex, PoisonError};

use staffetta_transport::tls::{RpcContents, RpcError, RpcFiles};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The three files of `[rpc]` and what they held when they were last read.
pub(crate) struct ClientTls {
    files: RpcFiles,
    contents: Mutex<RpcContents>,
}

impl ClientTls {
    pub(crate) fn load(files: RpcFiles) -> Result<Self, RpcError> {
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
