//! The files of an encrypted connection to Redis. They are read for each connection that is opened, so a certificate that
//! was renewed is used from the next one on, and nothing has to be restarted.

use std::path::{Path, PathBuf};

use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};
use staffetta_config::{Redis, read_file};

/// Whom to trust, and who we are, with `rediss://` and `rediss-sentinel://`. PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs the certificates of the servers. Without it these are the web's roots.
    pub ca: Option<PathBuf>,
    /// Our certificate with its chain, for servers that ask for one; together with `key`.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl From<&Redis> for TlsFiles {
    fn from(redis: &Redis) -> Self {
        Self { ca: redis.ca.clone(), certificate: redis.certificate.clone(), key: redis.key.clone() }
    }
}

impl TlsFiles {
    /// What they hold now; the error names key and file.
    pub(crate) fn read(&self) -> Result<TlsCertificates, String> {
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read("certificate", certificate)?, client_key: read("key", key)? })
            }
            _ => None,
        };
        let root_cert = self.ca.as_deref().map(|ca| read("ca", ca)).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }

    /// The same place by TLS with these.
    pub(crate) fn secure(&self, place: ConnectionInfo) -> Result<Client, String> {
        Client::build_with_tls(place, self.read()?)
            .map_err(|error| format!("redis.ca, redis.certificate and redis.key: {error}"))
    }
}

/// A file that holds something in PEM: from one without, the client library would make nothing, and say nothing.
fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let content = read_file(path).map_err(|error| format!("redis.{key}: {}: {error}", path.display()))?;
    let begin = b"-----BEGIN ";
    if content.windows(begin.len()).any(|octets| octets == begin) {
        return Ok(content);
    }
    Err(format!("redis.{key}: {}: there is nothing in PEM in it", path.display()))
}
