//! What a TLS handshake shows beside a cipher: whose certificate the client has, and what ties a login to this very
//! connection (channel binding, RFC 5056).

use std::sync::Arc;

use rustls::ServerConnection;
use staffetta_config::{Config, Fingerprint};
use staffetta_transport::tls::{Certificates, Clients, Identity, TlsError, exporter};

use crate::metrics;

/// What certificates of clients are compared with.
#[derive(Debug)]
pub(crate) struct Examiner {
    clients: Arc<Clients>,
    trusted: Vec<Fingerprint>,
}

/// What was found. Empty for most connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The client's certificate is one of those that may relay.
    pub(crate) trusted: bool,
    /// Whom it names, if an authority of ours vouches for it.
    pub(crate) names: Vec<String>,
    /// What the connection is bound by, if a mechanism wants to know: its exporter, and our own certificate.
    pub(crate) exporter: Vec<u8>,
    pub(crate) end_point: Vec<u8>,
}

impl Examiner {
    /// # Errors
    /// The file of `tls.client_ca` cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let clients = Clients::load(config.tls.client_ca.clone())?;
        Ok(Self { clients, trusted: config.frontend.trusted_certificates.clone() })
    }

    /// Are clients asked for a certificate?
    pub(crate) fn asks(&self) -> bool {
        self.clients.has_authorities() || !self.trusted.is_empty()
    }

    /// The authorities, which may change.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Looks at a handshake that is done. `mechanisms` are those on offer.
    pub(crate) fn examine(
        &self,
        connection: &ServerConnection,
        certificates: Option<&Certificates>,
        mechanisms: &[String],
    ) -> Evidence {
        let mut evidence = Evidence::default();
        if mechanisms.iter().any(|name| binds(name)) {
            evidence.exporter = exporter(connection).unwrap_or_default();
            let end_point = certificates.and_then(|certificates| certificates.end_point(connection.server_name()));
            evidence.end_point = end_point.map(|octets| octets.to_vec()).unwrap_or_default();
        }
        if let Some(identity) = connection.peer_certificates().and_then(|chain| self.clients.identify(chain)) {
            self.judge(identity, &mut evidence);
        }
        evidence
    }

    fn judge(&self, identity: Identity, evidence: &mut Evidence) {
        let fingerprint = Fingerprint(identity.fingerprint);
        evidence.trusted = self.trusted.contains(&fingerprint);
        let proven = identity.names.is_ok();
        let names = identity.names.as_deref().unwrap_or_default().join(" ");
        let unproven = identity.names.as_ref().err().map(tracing::field::display);
        metrics::client_certificate(evidence.trusted, proven).increment(1);
        if evidence.trusted || proven {
            tracing::info!(%fingerprint, names, trusted = evidence.trusted, "a client has shown its certificate");
        } else {
            tracing::debug!(%fingerprint, unproven, "a client has shown a certificate that says nothing to us");
        }
        evidence.names = identity.names.unwrap_or_default();
    }
}

/// Does this mechanism bind a login to the channel?
pub(crate) fn binds(mechanism: &str) -> bool {
    mechanism.ends_with("-PLUS")
}
