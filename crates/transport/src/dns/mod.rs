//! DNS for mail: which hosts take the mail of a domain, and where they are (RFC 5321 section 5).
//!
//! [`Resolver::mail_domain`] answers a domain's mail hosts, [`Resolver::addresses`] the addresses of one host in both
//! families, [`Resolver::verified_name`] the name of an address. "No" and "not now" never mix: an absent name is a value ([`MailDomain::NotFound`], an empty list), while
//! time-outs, SERVFAIL and REFUSED are a [`DnsError`], after which the caller tries again later.
//!
//! Names are always asked with their trailing dot, so the search list of a Kubernetes pod (`ndots:5`) multiplies no
//! query. UDP first, TCP after truncation or an error; answers are cached by their TTL. What MX records mean, order and
//! loop rules are the pure functions of [`staffetta_policy::mx`].
//!
//! Answers carry what DNSSEC says of them, if `dns.dnssec` has somebody prove them: we ourselves from a trust anchor down
//! (`validate`), or the servers, whose AD bit is believed (`trust-ad`). What turns out to be bogus is a [`DnsError`].
//! Otherwise all are [`Proof::Insecure`].

mod observe;
mod proof;
mod reverse;
mod tlsa;
mod txt;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::{Name, RData};

pub use observe::describe_metrics;
use observe::{Kind, Observer, Outcome};
use staffetta_config::{self as config, Dnssec};
use staffetta_policy::mx;
pub use staffetta_policy::mx::{Answer, MailDomain, MxHost, Proof};
use upstream::Upstream;

/// Answers kept in memory.
const CACHE_SIZE: u64 = 200_000;
/// "No such name" is believed at most this long, whatever its SOA says.
const NEGATIVE_TTL: Duration = Duration::from_secs(300);
/// "No such name" is believed for so long when we have proven it ourselves.
const PROVEN_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// Requests that may be under way on one connection to a server.
const ACTIVE_REQUESTS: usize = 1024;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The recursive resolvers; empty: those of the system (`/etc/resolv.conf`), and its hosts file for addresses.
    pub servers: Vec<SocketAddr>,
    /// How long a server has for one answer, of which there may be three tries; `None`: five seconds.
    pub patience: Option<Duration>,
    /// Who proves answers.
    pub dnssec: Dnssec,
    /// A file of DNSKEY records to trust, when we do; `None`: the root of the internet.
    pub trust_anchor: Option<PathBuf>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self { servers: Vec::new(), patience: None, dnssec: Dnssec::Off, trust_anchor: None }
    }
}

impl From<&config::Dns> for DnsSettings {
    fn from(dns: &config::Dns) -> Self {
        Self {
            servers: dns.servers.clone(),
            patience: None,
            dnssec: dns.dnssec,
            trust_anchor: dns.trust_anchor.clone(),
        }
    }
}

/// A question that has no answer now; asking later may help. Completes "failed to look up …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name service error for name={name} type={kind}: {reason}")]
pub struct DnsError {
    /// What was asked.
    pub name: String,
    /// `MX`, `A`, `TLSA` and so on.
    pub kind: &'static str,
    /// What went wrong, in a few words.
    pub reason: String,
}

/// The resolver cannot be set up. Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Of the system.
    #[error("read the system's DNS configuration: {0}")]
    System(String),
    /// Not there, not readable, or no DNSKEY records.
    #[error("read the trust anchor {}: {reason}", path.display())]
    TrustAnchor {
        /// The configured file.
        path: PathBuf,
        /// In a few words.
        reason: String,
    },
}

/// A caching stub resolver. Cheap to clone; clones share the cache and the connections.
#[derive(Clone)]
pub struct Resolver {
    inner: hickory_resolver::Resolver<Upstream>,
    observer: Arc<Observer>,
    dnssec: Dnssec,
}

/// What one question came to, before it means something for mail.
enum Found {
    Records(Lookup),
    NoData,
    /// An answer without records that does not say there are none.
    NoWord,
    NoName,
}

impl Resolver {
    /// Sets the resolver up without asking anything. Install the metrics recorder first: handles are taken here.
    pub fn new(settings: &DnsSettings) -> Result<Self, SetupError> {
        let trust_ad = settings.dnssec == Dnssec::TrustAd;
        let upstream = Upstream { inner: TokioRuntimeProvider::default(), trust_ad };
        let mut builder = if settings.servers.is_empty() {
            hickory_resolver::Resolver::builder(upstream).map_err(|e| SetupError::System(e.to_string()))?
        } else {
            let config = ResolverConfig::from_name_servers(settings.servers.iter().map(name_server).collect());
            let mut builder = hickory_resolver::Resolver::builder_with_config(config, upstream);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.timeout = settings.patience.unwrap_or(options.timeout);
        options.cache_size = CACHE_SIZE;
        options.negative_max_ttl = Some(NEGATIVE_TTL);
        options.try_tcp_on_error = true;
        options.case_randomization = true;
        options.max_active_requests = ACTIVE_REQUESTS;
        // An alias is a link of the chain that is proven.
        options.preserve_intermediates = settings.dnssec != Dnssec::Off;
        options.edns0 |= settings.dnssec != Dnssec::Off;
        if settings.dnssec == Dnssec::Validate {
            // The validator forgets how long a zone wants its "no" to be believed.
            options.negative_min_ttl = Some(PROVEN_NEGATIVE_TTL);
            builder = builder.with_trust_anchor(Arc::new(trust_anchors(settings.trust_anchor.as_ref())?));
        }
        let inner = builder.build().map_err(|e| SetupError::System(e.to_string()))?;
        Ok(Self { inner, observer: Arc::new(Observer::new()), dnssec: settings.dnssec })
    }

    /// Can an answer be [`Proof::Secure`]?
    pub fn proves(&self) -> bool {
        self.dnssec != Dnssec::Off
    }

    /// The hosts that take mail for `domain` (a name without brackets or trailing dot).
    ///
    /// RFC 5321 section 5.1: MX records; without any, the domain itself if it has an address. RFC 7505: a single
    /// `MX 0 .` means that the domain takes no mail.
    pub async fn mail_domain(&self, domain: &str) -> Result<Answer<MailDomain>, DnsError> {
        let Answer { data, proof } = self.ask(domain, Kind::Mx).await?;
        let data = match data {
            Found::Records(lookup) => mx::mail_domain(records_mx(&lookup)),
            Found::NoData | Found::NoWord => None,
            Found::NoName => Some(MailDomain::NotFound),
        };
        match data {
            Some(data) => Ok(Answer { data, proof }),
            None => self.implicit(domain, proof).await,
        }
    }

    /// The addresses of a host, both families interleaved, IPv6 first. Empty: it has none.
    ///
    /// One family's failure is forgiven when the other has addresses.
    pub async fn addresses(&self, host: &str) -> Result<Answer<Vec<IpAddr>>, DnsError> {
        let (v6, v4) = tokio::join!(self.family(host, Kind::Aaaa), self.family(host, Kind::A));
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => {
                // A family that has no address has no say.
                let proof = match (v6.data.is_empty(), v4.data.is_empty()) {
                    (true, false) => v4.proof,
                    (false, true) => v6.proof,
                    _ => v6.proof.and(v4.proof),
                };
                Ok(Answer { data: mx::interleave(v6.data, v4.data), proof })
            }
            (Ok(found), Err(error)) | (Err(error), Ok(found)) => {
                if found.data.is_empty() {
                    Err(error)
                } else {
                    Ok(found)
                }
            }
            (Err(_), Err(error)) => Err(error),
        }
    }

    /// RFC 5321 section 5.1: no MX record, so the domain's own address is treated as an MX of preference 0.
    async fn implicit(&self, domain: &str, no_mx: Proof) -> Result<Answer<MailDomain>, DnsError> {
        let addresses = self.addresses(domain).await?;
        let data = if addresses.data.is_empty() {
            MailDomain::NotFound
        } else {
            MailDomain::Hosts(vec![MxHost { preference: 0, name: domain.to_ascii_lowercase() }])
        };
        Ok(Answer { data, proof: no_mx.and(addresses.proof) })
    }

    async fn family(&self, host: &str, kind: Kind) -> Result<Answer<Vec<IpAddr>>, DnsError> {
        let Answer { data, proof } = self.ask(host, kind).await?;
        let data = match data {
            Found::Records(lookup) => lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect(),
            Found::NoData | Found::NoWord | Found::NoName => Vec::new(),
        };
        Ok(Answer { data, proof })
    }

    /// One question, counted and timed.
    async fn ask(&self, name: &str, kind: Kind) -> Result<Answer<Found>, DnsError> {
        let Some(query) = fully_qualified(name) else {
            return Ok(Answer { data: Found::NoName, proof: Proof::Insecure });
        };
        let asked = Instant::now();
        let result = self.inner.lookup(query, kind.record_type()).await;
        let found = match result {
            Ok(lookup) => Ok(proof::of_lookup(lookup)),
            Err(error) => proof::of_absence(&error).ok_or(error),
        };
        self.observer.asked(kind, Outcome::of(&found), asked.elapsed());
        found.map_err(|error| temporary(name, kind, &error))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn trust_anchors(path: Option<&PathBuf>) -> Result<TrustAnchors, SetupError> {
    let Some(path) = path else { return Ok(TrustAnchors::default()) };
    let fail = |reason| SetupError::TrustAnchor { path: path.clone(), reason };
    let text = config::read_text_file(path).map_err(|error| fail(error.to_string()))?;
    let anchors: TrustAnchors = text.parse().map_err(|error| fail(format!("{error}")))?;
    if !text.contains("DNSKEY") {
        return Err(fail("it holds no DNSKEY record".to_owned()));
    }
    Ok(anchors)
}

/// `None` when the text cannot be a name at all (a label of more than 63 octets): such a domain does not exist.
fn fully_qualified(name: &str) -> Option<Name> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return None;
    }
    let mut parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) }.ok()?;
    parsed.set_fqdn(true);
    Some(parsed)
}

fn records_mx(lookup: &Lookup) -> impl Iterator<Item = MxHost> {
    lookup.answers().iter().filter_map(|record| match &record.data {
        RData::MX(mx) => Some(MxHost { preference: mx.preference, name: host_name(&mx.exchange) }),
        _ => None,
    })
}

/// In lower case without the trailing dot; the root becomes the empty text.
fn host_name(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn temporary(name: &str, kind: Kind, error: &NetError) -> DnsError {
    let reason = match error {
        NetError::Timeout => "no answer in time".to_owned(),
        NetError::Dns(hickory_resolver::net::DnsError::ResponseCode(code)) => format!("the server says {code}"),
        other => other.to_string(),
    };
    DnsError { name: name.to_owned(), kind: kind.name(), reason }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_with_their_trailing_dot() {
        for text in ["example.org", "example.org.", "_dmarc.Example.org", "m\u{fc}nchen.example"] {
            let name = fully_qualified(text).unwrap();
            assert!(name.is_fqdn(), "{text}");
            assert!(name.to_ascii().ends_with('.'), "{text}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_a_name_does_not_exist() {
        let long = format!("{}.example", "a".repeat(64));
        for text in ["", ".", "a..b", &long] {
            assert!(fully_qualified(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn host_names_lose_case_and_dot() {
        assert_eq!(host_name(&Name::from_ascii("MX.Example.ORG.").unwrap()), "mx.example.org");
        assert_eq!(host_name(&Name::root()), "");
    }

    #[tokio::test]
    async fn servers_keep_their_port_for_both_transports() {
        let server = name_server(&"127.0.0.1:5353".parse().unwrap());
        assert!(server.connections.iter().all(|c| c.port == 5353));
        assert_eq!(server.connections.len(), 2);
        assert!(
            Resolver::new(&DnsSettings { servers: vec!["127.0.0.1:5353".parse().unwrap()], ..DnsSettings::default() })
                .is_ok()
        );
    }
}
