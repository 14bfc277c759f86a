//! Events of TLS, in both directions: what was agreed upon, once a connection. In JSON each message says it, and these come
//! only at level `debug`; in Postfix' format they are the lines of its `tls_loglevel = 1`.

use super::delivery::Relay;
use super::line::{Classic, Event, Json};
use super::reception::Client;

/// TLS was agreed upon with a client.
#[derive(Clone, Copy, Debug)]
pub struct Secured<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who is connected.
    pub client: Client<'a>,
    /// Protocol and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub tls: &'a str,
    /// What is known of the client's certificate: `Anonymous` without one, `Trusted` or `Untrusted`.
    pub trust: &'static str,
}

impl Event for Secured<'_> {
    const NAME: &'static str = "client_tls";
    const LEVEL: &'static str = "debug";
    const ABOUT: &'static str = "TLS was agreed upon with a client. In JSON only from `log.level = \"debug\"` on.";
    const FIELDS: &'static [&'static str] =
        &["listener", "client_name", "client_ip", "client_port", "tls", "tls_trust"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.str("tls", self.tls).str("tls_trust", self.trust);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(Some(self.listener), "smtpd").raw(self.trust).raw(" TLS connection established from ");
        self.client.classic(line);
        classic.raw(": ").cipher(self.tls).end();
    }
}

/// TLS was agreed upon with a server.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted<'a> {
    /// The server.
    pub relay: Relay<'a>,
    /// `smtp` or `lmtp`.
    pub protocol: &'static str,
    /// Protocol and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub tls: &'a str,
    /// What is known of its certificate: `Verified` or `Untrusted`.
    pub trust: &'static str,
}

impl Event for Encrypted<'_> {
    const NAME: &'static str = "relay_tls";
    const LEVEL: &'static str = "debug";
    const ABOUT: &'static str = "TLS was agreed upon with a server. In JSON only from `log.level = \"debug\"` on.";
    const FIELDS: &'static [&'static str] = &["relay", "relay_ip", "relay_port", "protocol", "tls", "tls_trust"];

    fn json(&self, json: &mut Json<'_>) {
        self.relay.json(json);
        json.str("protocol", self.protocol).str("tls", self.tls).str("tls_trust", self.trust);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, self.protocol).raw(self.trust).raw(" TLS connection established to ");
        self.relay.classic(line);
        line.raw(": ").cipher(self.tls).end();
    }
}
