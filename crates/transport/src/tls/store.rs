//! All certificates of a service, chosen by server name at each handshake and swapped as one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::clients::AnyClient;
use super::pair::{Contents, Loaded, Pair, TlsError};
use crate::reload::{self, Reloaded};
use crate::shutdown::Hangup;

/// The certificates in use. Share it in an `Arc`.
pub struct Certificates {
    /// The default pair first.
    pairs: Vec<Pair>,
    table: Reloaded<Vec<Contents>, Table>,
}

/// One consistent set.
struct Table {
    default: Loaded,
    /// By name in lower case; `*.example.org` stands there as written.
    by_name: HashMap<String, Loaded>,
}

impl Certificates {
    /// Reads and checks all pairs; any that cannot be used is an error. `default` serves clients that name no server
    /// (most mail servers) or one that is not in `sni`.
    pub fn load(default: Pair, sni: Vec<Pair>) -> Result<Arc<Self>, TlsError> {
        let pairs: Vec<Pair> = std::iter::once(default).chain(sni).collect();
        let table = Reloaded::new(read_all(&pairs)?, |contents| Table::build(&pairs, contents))?;
        Ok(Arc::new(Self { pairs, table }))
    }

    /// Looks at the files again. `Ok(true)`: they changed and are in use now. On an error everything stays as it was.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.table.reload(|| read_all(&self.pairs), |contents| Table::build(&self.pairs, contents))
    }

    /// Reloads on SIGHUP and whenever the files' content changes, until `shutdown`. Failures are logged, once for
    /// each content.
    pub async fn watch(self: Arc<Self>, hangup: Hangup, shutdown: CancellationToken) {
        let complain = |error: &str| tracing::error!(error, "keeping the certificates in use");
        reload::watch("certificates", move |_| self.reload(), complain, hangup, shutdown).await;
    }

    /// The configuration for servers: TLS 1.2 and 1.3, no ALPN, stateless tickets. `ask`: clients are asked for their
    /// certificates, and whatever they show is taken; [`super::Clients`] says what it is worth.
    pub fn server_config(self: &Arc<Self>, ask: bool) -> Result<Arc<ServerConfig>, TlsError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let builder = ServerConfig::builder_with_provider(thrifty_provider());
        let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS)?;
        let builder =
            if ask { builder.with_client_cert_verifier(AnyClient::new()) } else { builder.with_no_client_auth() };
        let mut config = builder.with_cert_resolver(resolver);
        config.ignore_client_order = true;
        config.ticketer = Ticketer::new()?;
        // Each ticket costs a write and an encryption; mail clients resume one session at a time.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// What the certificate that clients of this name get binds a channel by (`tls-server-end-point`, RFC 5929), if it can.
    pub fn end_point(&self, name: Option<&str>) -> Option<Arc<[u8]>> {
        self.table.look().choose(name).end_point.clone()
    }
}

/// Suites with AES-128 and SHA-256 come first. No attack gets closer to them than to their larger brothers, and processors have
/// instructions for that hash: with SHA-384 the keys of a handshake cost more than its signature.
fn thrifty_provider() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&super::provider());
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.table.look().choose(hello.server_name()).certified))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("pairs", &self.pairs).finish_non_exhaustive()
    }
}

impl Table {
    fn build(pairs: &[Pair], contents: &[Contents]) -> Result<Self, TlsError> {
        let loaded = pairs.iter().zip(contents).map(|(pair, contents)| pair.check(contents));
        let loaded: Vec<Loaded> = loaded.collect::<Result<_, _>>()?;
        for (pair, loaded) in pairs.iter().zip(&loaded) {
            announce(pair, loaded.not_after);
        }
        let mut named = pairs.iter().map(|pair| pair.name.to_ascii_lowercase()).zip(loaded);
        // `load` puts the default pair first, so there is always one.
        let (_, default) = named.next().ok_or(rustls::Error::NoCertificatesPresented)?;
        let by_name = named.collect();
        Ok(Self { default, by_name })
    }

    /// rustls hands out server names in lower case; an address, or nothing, is no name. A mail server may write the dot at
    /// the end of the name that it found in the DNS.
    fn choose(&self, name: Option<&str>) -> &Loaded {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name));
        let found = name.filter(|_| !self.by_name.is_empty()).and_then(|name| {
            let wildcard = || name.split_once('.').and_then(|(_, parent)| self.by_name.get(&format!("*.{parent}")));
            self.by_name.get(name).or_else(wildcard)
        });
        found.unwrap_or(&self.default)
    }
}

fn read_all(pairs: &[Pair]) -> Result<Vec<Contents>, TlsError> {
    pairs.iter().map(Pair::read).collect()
}

/// The gauge that alerts are built on, and a warning when it is too late for them.
fn announce(pair: &Pair, not_after: i64) {
    metrics::gauge!("staffetta_tls_certificate_not_after_timestamp_seconds", "name" => pair.name.clone())
        .set(not_after as f64);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if not_after < i64::try_from(now.as_secs()).unwrap_or(i64::MAX) {
        tracing::warn!(name = pair.name, file = %pair.certificate.display(), "the certificate has expired");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn write(dir: &Path, name: &str) -> Pair {
        let pair = Pair {
            name: name.to_owned(),
            certificate: dir.join(format!("{}.pem", name.replace('*', "_"))),
            key: dir.join(format!("{}.key", name.replace('*', "_"))),
        };
        renew(&pair);
        pair
    }

    fn renew(pair: &Pair) {
        let made = rcgen::generate_simple_self_signed([pair.name.clone()]).unwrap();
        std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
    }

    fn leaf(store: &Certificates, name: Option<&str>) -> Vec<u8> {
        store.table.look().choose(name).certified.cert[0].to_vec()
    }

    #[test]
    fn the_server_name_selects_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let [default, exact, wild] = ["mail.test", "MX.test", "*.wild.test"].map(|name| write(dir.path(), name));
        let store = Certificates::load(default, vec![exact, wild]).unwrap();
        let default = leaf(&store, None);
        assert_ne!(leaf(&store, Some("mx.test")), default);
        assert_eq!(leaf(&store, Some("mx.test.")), leaf(&store, Some("mx.test")));
        assert_ne!(leaf(&store, Some("a.wild.test")), default);
        for (name, why) in [("other.test", "not listed"), ("wild.test", "* is a label"), ("a.b.wild.test", "only one")]
        {
            assert_eq!(leaf(&store, Some(name)), default, "{why}");
        }
        for ask in [false, true] {
            store.server_config(ask).unwrap();
        }
    }

    #[test]
    fn the_cheapest_suite_is_taken_whatever_the_client_would_rather_have() {
        let dir = tempfile::tempdir().unwrap();
        let pair = write(dir.path(), "mail.test");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&pair.certificate).unwrap()).unwrap();
        let store = Certificates::load(pair, Vec::new()).unwrap();
        for (version, expected) in [
            (&rustls::version::TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
            (&rustls::version::TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ] {
            let client = rustls::ClientConfig::builder_with_provider(crate::tls::provider());
            let client = client.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots.clone());
            let client = Arc::new(client.with_no_client_auth());
            let mut client = rustls::ClientConnection::new(client, "mail.test".try_into().unwrap()).unwrap();
            let mut server = rustls::ServerConnection::new(store.server_config(false).unwrap()).unwrap();
            let mut flight = Vec::new();
            while client.is_handshaking() || server.is_handshaking() {
                flight.clear();
                client.write_tls(&mut flight).unwrap();
                server.read_tls(&mut &flight[..]).unwrap();
                server.process_new_packets().unwrap();
                flight.clear();
                server.write_tls(&mut flight).unwrap();
                client.read_tls(&mut &flight[..]).unwrap();
                client.process_new_packets().unwrap();
            }
            assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), expected);
        }
    }

    #[test]
    fn rfc5929_4_a_channel_is_bound_by_the_certificate_that_the_client_got() {
        let dir = tempfile::tempdir().unwrap();
        let [default, other] = ["mail.test", "mx.test"].map(|name| write(dir.path(), name));
        let store = Certificates::load(default, vec![other]).unwrap();
        for name in [None, Some("mx.test"), Some("unknown.test")] {
            let own = crate::tls::digest::sha256(&leaf(&store, name).into());
            assert_eq!(store.end_point(name).as_deref(), Some(&own[..]), "{name:?}");
        }
    }

    #[test]
    fn a_reload_takes_good_files_and_keeps_the_last_good_ones_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let pair = write(dir.path(), "mail.test");
        let store = Certificates::load(pair.clone(), Vec::new()).unwrap();
        let first = leaf(&store, None);
        assert!(!store.reload().unwrap());

        renew(&pair);
        assert!(store.reload().unwrap());
        let second = leaf(&store, None);
        assert_ne!(first, second);

        std::fs::write(&pair.certificate, "rubbish").unwrap();
        assert!(store.reload().is_err());
        assert_eq!(leaf(&store, None), second);
        renew(&pair);
        assert!(store.reload().unwrap());
    }

    #[test]
    fn errors_name_file_and_cause() {
        let dir = tempfile::tempdir().unwrap();
        let [good, other] = ["mail.test", "other.test"].map(|name| write(dir.path(), name));
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let missing = dir.path().join("missing.pem");
        let pair = |certificate: &Path, key: &Path| Pair {
            name: "x".to_owned(),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        for (pair, expected) in [
            (pair(&missing, &good.key), "missing.pem: No such file"),
            (pair(&good.certificate, &missing), "missing.pem: No such file"),
            (pair(&empty, &good.key), "empty.pem holds no usable certificate: there is none"),
            (pair(&good.certificate, &empty), "empty.pem holds no usable private key: there is none"),
            (pair(&good.certificate, &other.key), "does not belong to the certificate"),
        ] {
            let text = Certificates::load(pair, Vec::new()).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
