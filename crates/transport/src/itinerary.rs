//! The addresses that a delivery may try, in order: look-ups, and `policy::mx` on what they answer.

mod ahead;
mod round;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ipnet::IpNet;
use rand::RngExt;
use staffetta_config::Config;
use staffetta_mail::tls_report::{Destination, destinations};
use staffetta_policy::classify::{Endpoint, Failure};
use staffetta_policy::destination;
pub use staffetta_policy::mx::Candidate;
use staffetta_policy::mx::{self, Answer, Order, Proof, Search};
use staffetta_policy::tls::{Dane, Need, Published, Sts};
use tokio::time::{Instant, timeout, timeout_at};

use crate::connect::has_route;
use crate::dns::{DnsError, MailDomain, MxHost, Resolver};
use crate::hop::{NextHop, Target};
use crate::https::web_server;
use crate::itinerary::ahead::LookUps;
use crate::itinerary::round::Question;
pub use crate::itinerary::round::{Announced, Round};
use crate::own::OwnAddresses;
use crate::sts::{Finding, Policies};

/// How long the look-ups of a plan may take, all together: what is known then is used. With chains that have to be proven, one
/// answer may be many questions.
const PLAN: Duration = Duration::from_secs(20);

/// Of one host.
type Addresses = Answer<Vec<IpAddr>>;

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

/// What was found on one of the ways to a next hop.
#[derive(Debug)]
pub struct Survey {
    /// Where it leads.
    pub target: Target,
    /// What is said of the hosts' names.
    pub proof: Proof,
    /// What the domain has published on its web server.
    pub policy: Finding,
    /// The hosts that were looked at, in the order of attempts.
    pub stops: Vec<Stop>,
    /// Where to deliver, never empty; or why there is nowhere to go.
    pub plan: Result<Vec<Candidate>, Failure>,
    /// The ways behind it are not taken: the recipient's domain takes no mail, or this system is one of its mail hosts.
    pub is_last: bool,
}

/// One host on the way.
#[derive(Debug)]
pub struct Stop {
    /// Lower is better; 0 where there are no preferences.
    pub preference: u16,
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses, or why it is passed by.
    pub found: Result<Vec<IpAddr>, Failure>,
}

impl Survey {
    fn of(target: &Target, plan: Result<Vec<Candidate>, Failure>) -> Self {
        let (target, policy) = (target.clone(), Finding::default());
        Self { target, proof: Proof::Insecure, policy, stops: Vec::new(), plan, is_last: false }
    }
}

/// The mail hosts of a domain, as they are visited.
struct Walk<'a> {
    hop: &'a NextHop,
    target: &'a Target,
    /// Never dialled.
    blocked: &'a [IpNet],
    proof: Proof,
    policy: &'a Finding,
    /// Of the look-ups.
    end: Instant,
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

    /// The names of a domain's mail hosts, as [`destination::normalized`]; none if there are none, or nobody knows.
    pub async fn mail_hosts(&self, domain: &str) -> Vec<String> {
        match self.resolver.mail_domain(domain).await.map(|answer| answer.data) {
            Ok(MailDomain::Hosts(hosts)) => destination::normalized(hosts.iter().map(|host| host.name.as_str())),
            Ok(MailDomain::NullMx | MailDomain::NotFound) | Err(_) => Vec::new(),
        }
    }

    /// Who wants to hear of the TLS of a domain's mail (RFC 8460 section 3).
    ///
    /// # Errors
    /// No answer now.
    pub async fn who_wants_reports(&self, domain: &str) -> Result<Vec<Destination>, DnsError> {
        Ok(destinations(&self.resolver.texts(&format!("_smtp._tls.{domain}")).await?))
    }

    /// The addresses of a web server that a stranger named, as far as they may be dialled.
    ///
    /// # Errors
    /// No answer now.
    pub async fn web_server(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DnsError> {
        web_server(&self.resolver, &self.blocked, host, port).await
    }

    /// The policy that a domain has on its web server; none where nobody asks for policies.
    pub async fn policy_of(&self, domain: &str) -> Finding {
        match &self.policies {
            Some(policies) => policies.of(domain).await,
            None => Finding::default(),
        }
    }

    /// Where to deliver mail with this need; never empty.
    ///
    /// # Errors
    /// Why there is nowhere to go.
    pub async fn plan(&self, hop: &NextHop, need: Need) -> Result<Vec<Candidate>, Failure> {
        if let [target] = &hop.key.targets[..] {
            return self.survey_of(hop, target, need).await.plan;
        }
        mx::one_after_the_other(self.survey(hop, need).await.into_iter().map(|survey| survey.plan))
    }

    /// The same, with what led to it, one way after the other. They are looked up together: none waits for the name servers of
    /// another.
    pub async fn survey(&self, hop: &NextHop, need: Need) -> Vec<Survey> {
        let mut surveys = join_all(hop.key.targets.iter().map(|target| self.survey_of(hop, target, need))).await;
        if let Some(last) = surveys.iter().position(|survey| survey.is_last) {
            surveys.truncate(last + 1);
        }
        surveys
    }

    /// The hosts of a plan for mail with this need, in their order, each to be had with what is published about it.
    pub fn round(&self, hop: &NextHop, need: Need, plan: Vec<Candidate>) -> Round {
        let mut round = Round::default();
        for candidate in plan {
            let published = self.published(hop, &candidate, need);
            round.push(candidate, published);
        }
        round
    }

    async fn survey_of(&self, hop: &NextHop, target: &Target, need: Need) -> Survey {
        match target {
            Target::Host { host, port, .. } => self.host(target, host, *port).await,
            Target::Socket(path) => Survey::of(target, Ok(vec![self.socket(path)])),
            Target::Domain(domain) => {
                let survey = self.domain((hop, need), target, domain, &self.blocked).await;
                let is_last = survey.is_last || matches!(survey.plan, Err(Failure::NullMx | Failure::Loop));
                Survey { is_last, ..survey }
            }
            Target::MailHosts(domain) => {
                let survey = self.domain((hop, need), target, domain, &[]).await;
                let plan = survey.plan.map_err(|failure| failure.of_a_route(domain));
                Survey { plan, is_last: false, ..survey }
            }
            Target::Literal(ip) => Survey::of(target, self.literal(*ip)),
        }
    }

    /// Whoever listens there is a program of this machine.
    fn socket(&self, path: &Arc<str>) -> Candidate {
        let (host, endpoint) = (self.hostname.as_str().into(), Endpoint::Unix(path.clone()));
        Candidate { host, endpoint, proof: Proof::Insecure, sts: Sts::Off, way: 0 }
    }

    fn literal(&self, ip: IpAddr) -> Result<Vec<Candidate>, Failure> {
        if mx::is_blocked(&self.blocked, ip) {
            return Err(Failure::Blocked);
        }
        if self.own.include(ip, self.port) {
            return Err(Failure::Loop);
        }
        Ok(vec![candidate(ip.to_string().as_str().into(), ip, self.port)])
    }

    /// What is published about a candidate that matters to mail with this need, or what has to be asked to know it.
    fn published(&self, hop: &NextHop, candidate: &Candidate, need: Need) -> Result<Published, Box<Question>> {
        let target = hop.target(candidate);
        if !hop.asks_what_is_published(target, need) {
            return Ok(Published::default());
        }
        let published = Published { dane: Dane::Absent, sts: candidate.sts };
        let Candidate { host, endpoint: Endpoint::Tcp(address), proof, .. } = candidate else {
            return Ok(published);
        };
        // Only where nobody can have changed the name on the way (RFC 7672 section 2.2.1), and where it is a name.
        if !self.may_have_dane(*proof) || host.parse::<IpAddr>().is_ok() {
            return Ok(published);
        }
        let names = match target {
            Target::Domain(domain) | Target::MailHosts(domain) => Some(domain.clone()),
            Target::Host { .. } | Target::Socket(_) | Target::Literal(_) => None,
        };
        let (resolver, host) = (self.resolver.clone(), host.clone());
        Err(Box::new(Question { resolver, address: *address, host, names, published }))
    }

    /// The policy of a domain, where it matters.
    async fn policy(&self, (hop, need): (&NextHop, Need), target: &Target, domain: &str) -> Finding {
        if hop.asks_what_is_published(target, need) { self.policy_of(domain).await } else { Finding::default() }
    }

    /// Can the hosts that an answer with this proof names have TLSA records that count?
    fn may_have_dane(&self, proof: Proof) -> bool {
        self.resolver.proves() && proof == Proof::Secure
    }

    /// A server that the operator named: its addresses are not restricted, and that there is none is not the fault of
    /// whoever sent the mail.
    async fn host(&self, target: &Target, host: &Arc<str>, port: u16) -> Survey {
        if let Ok(ip) = host.parse() {
            return Survey::of(target, Ok(vec![candidate(host.clone(), ip, port)]));
        }
        let mut search = Search::new(port, &[], Proof::Secure);
        let answer = timeout(PLAN, self.look_up(host)).await.unwrap_or_else(|_| Err(late(host, "A")));
        let stop = Stop { preference: 0, name: host.clone(), found: addresses(&answer) };
        search.add(host, answer, has_route);
        let plan = search.finish().map_err(|failure| failure.of_a_route(host));
        Survey { stops: vec![stop], ..Survey::of(target, plan) }
    }

    /// Found by MX.
    async fn domain(
        &self,
        (hop, need): (&NextHop, Need),
        target: &Target,
        domain: &Arc<str>,
        blocked: &[IpNet],
    ) -> Survey {
        let end = Instant::now() + PLAN;
        let policy = self.policy((hop, need), target, domain);
        let (answer, policy) = tokio::join!(timeout_at(end, self.resolver.mail_domain(domain)), policy);
        let answer = answer.map_err(|_| late(domain, "MX")).and_then(|answer| answer.map_err(|error| dns(&error)));
        let (proof, hosts, all) = match answer {
            Ok(answer) => {
                let all = if let MailDomain::Hosts(hosts) = &answer.data { hosts.len() } else { 0 };
                (answer.proof, self.hosts(domain, answer.data), all)
            }
            Err(failure) => (Proof::Insecure, Err(failure), 0),
        };
        let survey = match hosts {
            Ok(hosts) => {
                // Those from this system on are left out.
                let is_last = hosts.len() < all;
                let survey = self.walk(&Walk { hop, target, blocked, proof, policy: &policy, end }, hosts).await;
                Survey { is_last: is_last || survey.is_last, ..survey }
            }
            Err(failure) => Survey::of(target, Err(failure)),
        };
        Survey { proof, policy, ..survey }
    }

    /// The hosts of a domain in the order of attempts.
    fn hosts(&self, domain: &str, found: MailDomain) -> Result<Vec<MxHost>, Failure> {
        match found {
            MailDomain::Hosts(hosts) => match self.order(&hosts) {
                Order::Hosts(hosts) => Ok(hosts),
                Order::Loop => Err(Failure::Loop),
            },
            MailDomain::NullMx => Err(Failure::NullMx),
            MailDomain::NotFound => Err(mx::not_found(domain, "MX")),
        }
    }

    /// Looks host after host up, until there are enough addresses.
    async fn walk(&self, walk: &Walk<'_>, hosts: Vec<MxHost>) -> Survey {
        let Walk { hop, target, blocked, proof, policy, end } = *walk;
        let mut search = Search::new(self.port, blocked, proof);
        let hosts: Vec<_> = hosts
            .into_iter()
            .map(|MxHost { preference, name }| {
                let sts = policy.policy.as_ref().map_or(Sts::Off, |policy| policy.about(&name));
                (preference, Arc::<str>::from(name), sts)
            })
            .collect();
        let is_barred = |sts: Sts| sts == Sts::Unlisted && !self.may_have_dane(proof);
        let allowed = hosts.iter().filter(|(.., sts)| !is_barred(*sts)).map(|(_, name, _)| name.clone());
        let mut look_ups = LookUps::new(self, allowed, end);
        let mut stops = Vec::with_capacity(hosts.len());
        for (preference, name, sts) in hosts {
            if !search.wants_more() {
                break;
            }
            search.prefer(preference);
            let found = if is_barred(sts) {
                search.skip(hop.not_listed(target, &name));
                Err(hop.not_listed(target, &name))
            } else {
                search.published(sts);
                let Some(answer) = look_ups.next().await else { break };
                self.visit(&mut search, blocked, &name, answer)
            };
            stops.push(Stop { preference, name, found });
        }
        let is_last = stops.iter().any(|stop| matches!(stop.found, Err(Failure::Loop)));
        Survey { stops, is_last, ..Survey::of(target, search.finish()) }
    }

    /// With what was found of one host.
    fn visit(
        &self,
        search: &mut Search<'_>,
        blocked: &[IpNet],
        name: &Arc<str>,
        answer: Result<Addresses, Failure>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let found = addresses(&answer);
        // What is blocked is not dialled in any case, and is reported as that.
        let is_us = |ip: IpAddr| !mx::is_blocked(blocked, ip) && self.own.include(ip, self.port);
        if answer.as_ref().is_ok_and(|answer| answer.data.iter().any(|&ip| is_us(ip))) {
            search.comes_back();
            return Err(Failure::Loop);
        }
        search.add(name, answer, has_route);
        found
    }

    /// No await while the generator lives: it belongs to the thread.
    fn order(&self, hosts: &[MxHost]) -> Order {
        let mut rng = rand::rng();
        mx::order(hosts, &self.hostname, || rng.random())
    }

    /// An MX record that has an address where a name should be is not rare, and everybody delivers to it (Postfix, too).
    async fn look_up(&self, host: &str) -> Result<Addresses, Failure> {
        if let Ok(ip) = host.trim_end_matches('.').parse() {
            return Ok(Answer { data: vec![ip], proof: Proof::Insecure });
        }
        self.resolver.addresses(host).await.map_err(|error| dns(&error))
    }
}

fn addresses(answer: &Result<Addresses, Failure>) -> Result<Vec<IpAddr>, Failure> {
    answer.as_ref().map(|answer| answer.data.clone()).map_err(Clone::clone)
}

/// An address that needs no look-up.
fn candidate(host: Arc<str>, ip: IpAddr, port: u16) -> Candidate {
    let endpoint = Endpoint::Tcp(SocketAddr::new(ip, port));
    Candidate { host, endpoint, proof: Proof::Insecure, sts: Sts::Off, way: 0 }
}

/// The time of the plan was over.
fn late(name: &str, kind: &str) -> Failure {
    Failure::Dns { detail: format!("for name={name} type={kind}: no answer in time") }
}

fn dns(error: &DnsError) -> Failure {
    Failure::Dns { detail: format!("for name={} type={}: {}", error.name, error.kind, error.reason) }
}
