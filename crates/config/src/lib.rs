//! The one configuration file: typed, documented, checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Config {
    pub hostname: String,
    pub redis: Redis,
    pub spool: Spool,
    pub tls: Tls,
    pub rpc: Rpc,
    pub auth: Auth,
    pub frontend: Frontend,
    pub dns: Dns,
    pub delivery: Delivery,
    pub log: Log,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Redis {
    pub url: SecretString,
    pub partitions: u16,
    pub durability: Durability,
    pub replicas: u32,
    pub max_memory_ratio: f64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Durability {
    None,
    Fsync,
    Replicated,
    Managed,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Spool {
    pub url: String,
    pub inline_limit: ByteSize,
    pub redis_limit: ByteSize,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Tls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub sni: Vec<Sni>,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Sni {
    pub name: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Rpc {
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Auth {
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub backend: Backend,
    pub cache_ttl: Duration,
    pub sql: Sql,
    pub dovecot: Dovecot,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Backend {
    Sql,
    Dovecot,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Sql {
    pub url: SecretString,
    pub password_query: String,
    pub sender_query: String,
    pub domain_query: String,
    pub recipient_query: String,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Dovecot {
    pub socket: String,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Frontend {
    pub http: SocketAddr,
    pub auth: String,
    pub trusted_networks: Vec<IpNet>,
    pub relay_domains: Vec<String>,
    pub relay_domains_from_auth: bool,
    pub size_limit: ByteSize,
    pub recipient_limit: u32,
    pub reject_unknown_recipient_domain: bool,
    pub sender_must_match_login: bool,
    pub enable_vrfy: bool,
    pub etrn_networks: Vec<IpNet>,
    pub connection_limit: u32,
    pub connections_per_client: u32,
    pub auth_failures_per_client: Option<Rate>,
    pub messages_per_login: Option<Rate>,
    pub timeout: Duration,
    pub drain_delay: Duration,
    pub listener: Vec<Listener>,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Listener {
    pub name: String,
    pub bind: SocketAddr,
    pub kind: ListenerKind,
    pub tls: ListenerTls,
    pub proxy_from: Vec<IpNet>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ListenerKind {
    Relay,
    Submission,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ListenerTls {
    Starttls,
    Implicit,
    Off,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Dns {
    pub servers: Vec<SocketAddr>,
    pub dnssec: Dnssec,
    pub trust_anchor: Option<PathBuf>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dnssec {
    Off,
    Validate,
    TrustAd,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Delivery {
    pub http: SocketAddr,
    pub concurrency: u32,
    pub destination_concurrency: u32,
    pub destination_rate: Option<Rate>,
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub lifetime: Duration,
    pub delay_warning: Option<Duration>,
    pub port: u16,
    pub tls: TlsLevel,
    pub ca: Option<PathBuf>,
    pub timeouts: Timeouts,
    pub source_addresses: Vec<std::net::IpAddr>,
    pub blocked_networks: Vec<IpNet>, // class names are expanded while reading
    pub lease: Duration,
    pub route: Vec<Route>,
    pub dkim: Vec<Dkim>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TlsLevel {
    None,
    May,
    Encrypt,
    Verify,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Timeouts {
    pub connect: Duration,
    pub greeting: Duration,
    pub tls: Duration,
    pub helo: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    pub transfer: Duration,
    pub r#final: Duration,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Route {
    pub domain: DomainPattern,
    pub via: Via,
    pub tls: Option<TlsLevel>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub concurrency: Option<u32>,
    pub rate: Option<Rate>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DomainPattern {
    Exact(String),
    Subdomains(String),
    Any,
}
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Via {
    Smtp { host: String, port: u16 },
    Lmtp { host: String, port: u16 },
    Mx,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Dkim {
    pub domain: String,
    pub selector: String,
    pub key: PathBuf,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Json,
    Postfix,
}
/// Octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);
/// `"10/10m"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// All that is wrong, each with file, line, key and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Errors(String);

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Config {
    /// Reads the file, then the environment over it.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        todo!()
    }
    /// From a text, without the environment; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self, Errors> {
        todo!()
    }
}

impl Default for Config {
    #[allow(clippy::todo)]
    fn default() -> Self {
        todo!()
    }
}
