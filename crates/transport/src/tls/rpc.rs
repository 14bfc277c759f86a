//! The three files of `[rpc]`, mutual TLS between frontend and auth service. Both ends read them again from time to
//! time and compare what they hold, not when they were touched: Kubernetes and certbot swap symbolic links.

use std::path::{Path, PathBuf};

use staffetta_config::{Rpc, read_file};
use zeroize::Zeroizing;

/// Where authority, certificate and key are.
#[derive(Clone, Debug)]
pub struct RpcFiles {
    /// Who signs the certificates of the other end; PEM.
    pub ca: PathBuf,
    /// Our chain; PEM.
    pub certificate: PathBuf,
    /// Its key; PEM.
    pub key: PathBuf,
}

/// What they held when they were read.
#[derive(PartialEq, Eq)]
#[expect(missing_docs, reason = "as in RpcFiles")]
pub struct RpcContents {
    pub ca: Vec<u8>,
    pub certificate: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// One or two of the three are set.
    #[error("rpc.ca, rpc.certificate and rpc.key must be set together")]
    Incomplete,
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl RpcFiles {
    /// `None` if `[rpc]` is not used.
    ///
    /// # Errors
    /// [`RpcError::Incomplete`]: passwords must not travel in clear because a line was forgotten.
    pub fn new(rpc: &Rpc) -> Result<Option<Self>, RpcError> {
        match (rpc.ca.clone(), rpc.certificate.clone(), rpc.key.clone()) {
            (Some(ca), Some(certificate), Some(key)) => Ok(Some(Self { ca, certificate, key })),
            (None, None, None) => Ok(None),
            _ => Err(RpcError::Incomplete),
        }
    }

    /// Reads all three.
    ///
    /// # Errors
    /// [`RpcError::Read`].
    pub fn read(&self) -> Result<RpcContents, RpcError> {
        let read = |path: &Path| read_file(path).map_err(|source| RpcError::Read { path: path.to_owned(), source });
        Ok(RpcContents { ca: read(&self.ca)?, certificate: read(&self.certificate)?, key: read(&self.key)?.into() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn contents_are_compared_and_a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let rpc = Rpc { ca: path("ca"), certificate: path("crt"), key: path("key") };
        let files = RpcFiles::new(&rpc).unwrap().unwrap();
        for file in [&files.ca, &files.certificate, &files.key] {
            std::fs::write(file, "one").unwrap();
        }
        let first = files.read().unwrap();
        assert!(first == files.read().unwrap());
        std::fs::write(&files.key, "two").unwrap();
        assert!(first != files.read().unwrap());
        std::fs::remove_file(&files.key).unwrap();
        assert!(files.read().map(drop).unwrap_err().to_string().contains("/key: "));
        assert!(matches!(RpcFiles::new(&Rpc { ca: None, ..rpc }), Err(RpcError::Incomplete)));
        assert!(RpcFiles::new(&Rpc { ca: None, certificate: None, key: None }).unwrap().is_none());
    }
}
