//! The addresses that a delivery may try, in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use staffetta_policy::classify::{Failure, Peer};
use staffetta_transport::dns::{DnsError, MailDomain, MxHost, Resolver, Route, route};

use crate::hop::Target;

/// Most addresses that one attempt tries (Postfix `smtp_mx_address_limit`).
const ADDRESSES: usize = 5;

/// A server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name, for TLS and the log.
    pub(crate) host: Arc<str>,
    pub(crate) address: SocketAddr,
}

impl Candidate {
    /// For the classification of failures.
    pub(crate) fn peer(&self) -> Peer {
        Peer { host: self.host.to_string(), address: self.address.ip().to_canonical(), port: self.address.port() }
    }
}

/// What look-ups obey.
pub(crate) struct Planner {
    pub(crate) resolver: Resolver,
    pub(crate) hostname: String,
    /// Of hosts found through DNS.
    pub(crate) port: u16,
    /// Never dialled after a look-up.
    pub(crate) blocked: Vec<IpNet>,
}

impl Planner {
    /// Where to deliver; never empty.
    pub(crate) async fn plan(&self, target: &Target) -> Result<Vec<Candidate>, Failure> {
        match target {
            Target::Host { host, port } => self.host(host, *port).await,
            Target::Domain(domain) => self.domain(domain).await,
            Target::Literal(ip) if self.is_blocked(*ip) => Err(Failure::Blocked),
            Target::Literal(ip) => Ok(vec![self.candidate(ip.to_string().as_str().into(), *ip)]),
        }
    }

    /// A server that the operator named: its addresses are not restricted.
    async fn host(&self, host: &Arc<str>, port: u16) -> Result<Vec<Candidate>, Failure> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolver.addresses(host).await.map_err(|error| dns(&error))?,
        };
        if addresses.is_empty() {
            return Err(not_found(host, "A"));
        }
        let candidate = |ip| Candidate { host: host.clone(), address: SocketAddr::new(ip, port) };
        Ok(addresses.into_iter().take(ADDRESSES).map(candidate).collect())
    }

    async fn domain(&self, domain: &Arc<str>) -> Result<Vec<Candidate>, Failure> {
        let hosts = match self.resolver.mail_domain(domain).await.map_err(|error| dns(&error))? {
            MailDomain::Hosts(hosts) => hosts,
            MailDomain::NullMx => return Err(Failure::NullMx),
            MailDomain::NotFound => return Err(not_found(domain, "MX")),
        };
        let names = match self.order(&hosts) {
            Route::Hosts(names) => names,
            Route::Loop => return Err(Failure::Loop),
        };
        self.addresses(names).await
    }

    /// RFC 5321 section 5.1. No await while the generator lives: it belongs to the thread.
    fn order(&self, hosts: &[MxHost]) -> Route {
        route(hosts, &self.hostname, &mut rand::rng())
    }

    /// The first few addresses of the hosts. One host's failed look-up does not hide the next host.
    async fn addresses(&self, names: Vec<String>) -> Result<Vec<Candidate>, Failure> {
        let mut found = Vec::new();
        let mut trouble = None;
        for name in names {
            let addresses = match self.resolver.addresses(&name).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    trouble = Some(dns(&error));
                    continue;
                }
            };
            let host: Arc<str> = name.as_str().into();
            let (blocked, usable): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|&ip| self.is_blocked(ip));
            // A look-up that may still succeed outweighs what is certain about another host.
            let certain = if blocked.is_empty() { not_found(&name, "A") } else { Failure::Blocked };
            trouble.get_or_insert(certain);
            found.extend(usable.into_iter().map(|ip| self.candidate(host.clone(), ip)));
            if found.len() >= ADDRESSES {
                break;
            }
        }
        found.truncate(ADDRESSES);
        match trouble {
            Some(trouble) if found.is_empty() => Err(trouble),
            _ => Ok(found),
        }
    }

    fn candidate(&self, host: Arc<str>, ip: IpAddr) -> Candidate {
        Candidate { host, address: SocketAddr::new(ip, self.port) }
    }

    /// An IPv4 address inside of IPv6 is what it stands for.
    fn is_blocked(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_unspecified() || self.blocked.iter().any(|network| network.contains(&ip))
    }
}

fn dns(error: &DnsError) -> Failure {
    Failure::Dns { detail: format!("for name={} type={}: {}", error.name, error.kind, error.reason) }
}

fn not_found(name: &str, kind: &str) -> Failure {
    Failure::NotFound { detail: format!("for name={name} type={kind}: Host not found") }
}
