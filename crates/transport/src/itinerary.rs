//! The addresses that a delivery may try, in order: look-ups, and `policy::mx` on what they answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rand::RngExt;
use staffetta_config::Config;
use staffetta_policy::classify::Failure;
pub use staffetta_policy::mx::Candidate;
use staffetta_policy::mx::{self, Answer, Order, Proof, Search};
use staffetta_policy::tls::{Dane, Need, Published, Sts};

use crate::connect::has_route;
use crate::dns::{DnsError, MailDomain, MxHost, Resolver};
use crate::hop::{NextHop, Target};
use crate::own::OwnAddresses;
use crate::sts::{Finding, Policies};

/// What look-ups obey.
pub struct Planner {
    resolver: Resolver,
    hostname: String,
    /// Of hosts found through DNS.
    port: u16,
    /// Never dialled after a look-up.
    blocked: Vec<IpNet>,
    /// Never dialled either: the mail would come back.
    own: OwnAddresses,
    /// What domains have published on their web servers; `None`: nobody asks.
    policies: Option<Policies>,
}

impl Planner {
    /// With the rules of `[delivery]`.
    pub fn new(config: &Config, resolver: Resolver) -> Self {
        Self {
            resolver,
            hostname: config.hostname.clone(),
            port: config.delivery.port,
            own: OwnAddresses::new(config),
            blocked: staffetta_config::with_translated(&config.delivery.blocked_networks),
            policies: None,
        }
    }

    /// The same, which obeys what domains say on their web servers (MTA-STS).
    #[must_use]
    pub fn obeying(self, policies: Policies) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// Where to deliver; never empty.
    ///
    /// # Errors
    /// Why there is nowhere to go.
    pub async fn plan(&self, hop: &NextHop) -> Result<Vec<Candidate>, Failure> {
        match &hop.key.target {
            Target::Host { host, port } => self.host(host, *port).await,
            Target::Domain(domain) => self.domain(hop, domain).await,
            Target::Literal(ip) if mx::is_blocked(&self.blocked, *ip) => Err(Failure::Blocked),
            Target::Literal(ip) if self.own.include(*ip, self.port) => Err(Failure::Loop),
            Target::Literal(ip) => Ok(vec![candidate(ip.to_string().as_str().into(), *ip, self.port)]),
        }
    }

    /// What is published about a candidate, for mail with this need.
    ///
    /// # Errors
    /// It could not be found out, and somebody may be hiding it: the host must not be used now (RFC 7672 section 2.1.2).
    pub async fn published(&self, hop: &NextHop, candidate: &Candidate, need: Need) -> Result<Published, Failure> {
        if !hop.asks_what_is_published(need) {
            return Ok(Published::default());
        }
        Ok(Published { dane: self.dane(hop, candidate).await?, sts: candidate.sts })
    }

    /// The policy of a domain, where it matters.
    pub async fn policy(&self, hop: &NextHop, domain: &str) -> Finding {
        match &self.policies {
            Some(policies) if hop.asks_what_is_published(Need::Nothing) => policies.of(domain).await,
            _ => Finding::default(),
        }
    }

    /// Can the hosts that an answer with this proof names have TLSA records that count?
    fn may_have_dane(&self, proof: Proof) -> bool {
        self.resolver.proves() && proof == Proof::Secure
    }

    /// Only where nobody can have changed the name on the way (section 2.2.1), and where it is a name.
    async fn dane(&self, hop: &NextHop, candidate: &Candidate) -> Result<Dane, Failure> {
        let Candidate { host, address, proof, .. } = candidate;
        if !self.may_have_dane(*proof) || host.parse::<IpAddr>().is_ok() {
            return Ok(Dane::Absent);
        }
        let names = match &hop.key.target {
            Target::Domain(domain) => vec![&**domain],
            Target::Host { .. } | Target::Literal(_) => Vec::new(),
        };
        self.resolver.dane(host, address.ip(), address.port(), &names).await.map_err(|error| Failure::Unproven {
            reason: format!("TLSA lookup error for {host}:{}: {error}", address.port()),
        })
    }

    /// A server that the operator named: its addresses are not restricted, and that there is none is not the fault of
    /// whoever sent the mail.
    async fn host(&self, host: &Arc<str>, port: u16) -> Result<Vec<Candidate>, Failure> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![candidate(host.clone(), ip, port)]);
        }
        let mut search = Search::new(port, &[], Proof::Secure);
        search.add(host, self.look_up(host).await, has_route);
        search.finish().map_err(Failure::of_a_route)
    }

    async fn domain(&self, hop: &NextHop, domain: &Arc<str>) -> Result<Vec<Candidate>, Failure> {
        let (answer, policy) = tokio::join!(self.resolver.mail_domain(domain), self.policy(hop, domain));
        let (answer, policy) = (answer.map_err(|error| dns(&error))?, policy.policy);
        let hosts = match answer.data {
            MailDomain::Hosts(hosts) => hosts,
            MailDomain::NullMx => return Err(Failure::NullMx),
            MailDomain::NotFound => return Err(mx::not_found(domain, "MX")),
        };
        let hosts = match self.order(&hosts) {
            Order::Hosts(hosts) => hosts,
            Order::Loop => return Err(Failure::Loop),
        };
        let mut search = Search::new(self.port, &self.blocked, answer.proof);
        for MxHost { preference, name } in hosts {
            if !search.wants_more() {
                break;
            }
            search.prefer(preference);
            let sts = policy.as_ref().map_or(Sts::Off, |policy| policy.about(&name));
            if sts == Sts::Unlisted && !self.may_have_dane(answer.proof) {
                search.skip(hop.not_listed(&name));
                continue;
            }
            search.published(sts);
            let answer = self.look_up(&name).await;
            // What is blocked is not dialled in any case, and is reported as that.
            let is_us = |ip: IpAddr| !mx::is_blocked(&self.blocked, ip) && self.own.include(ip, self.port);
            if answer.as_ref().is_ok_and(|answer| answer.data.iter().any(|&ip| is_us(ip))) {
                search.comes_back();
            } else {
                search.add(&name.as_str().into(), answer, has_route);
            }
        }
        search.finish()
    }

    /// No await while the generator lives: it belongs to the thread.
    fn order(&self, hosts: &[MxHost]) -> Order {
        let mut rng = rand::rng();
        mx::order(hosts, &self.hostname, || rng.random())
    }

    async fn look_up(&self, host: &str) -> Result<Answer<Vec<IpAddr>>, Failure> {
        self.resolver.addresses(host).await.map_err(|error| dns(&error))
    }
}

/// An address that needs no look-up.
fn candidate(host: Arc<str>, ip: IpAddr, port: u16) -> Candidate {
    Candidate { host, address: SocketAddr::new(ip, port), proof: Proof::Insecure, sts: Sts::Off }
}

fn dns(error: &DnsError) -> Failure {
    Failure::Dns { detail: format!("for name={} type={}: {}", error.name, error.kind, error.reason) }
}
