//! `[dns]`: name resolution.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::kind::{Choice, DnsServer, FilePath, List, Maybe};
use crate::settings::{choices, settings};

settings! {
    /// Name resolution, for recipients' domains in the frontend and for MX hosts in the delivery worker.
    pub struct Dns {
        /// The servers to ask; none means those of the system (`/etc/resolv.conf`).
        value servers: Vec<SocketAddr> as List<DnsServer> = "",
        /// Whether answers are proven with DNSSEC, which DANE needs. With `validate` the servers must hand signatures on;
        /// with `trust-ad` they must validate, and nobody may sit between them and this machine.
        value dnssec: Dnssec as Choice<Dnssec> = "off",
        /// A file with the DNSKEY records to trust, for `dnssec = "validate"`; none means the root of the internet.
        value trust_anchor: Option<PathBuf> as Maybe<FilePath> = "",
    }
}

choices! {
    /// Who proves answers.
    pub enum Dnssec {
        /// Nobody.
        Off = "off",
        /// We do.
        Validate = "validate",
        /// The servers, whose AD bit is believed.
        TrustAd = "trust-ad",
    }
}
