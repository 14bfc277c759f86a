//! Next hops: which server, or which domain's servers, take the mail of a domain.
//!
//! A route of the configuration names one server for many domains (a smart host), or several that are tried one after the
//! other; all these domains then share its connections. Without a route every domain is a next hop of its own, found
//! through MX. The rules are `staffetta_policy::routing`; here they meet the configuration.

mod login;
mod provider;

use std::net::IpAddr;
use std::sync::Arc;

use staffetta_config::{self as config, Config, Rate};
use staffetta_mail::tls_report::Flaw;
use staffetta_mail::{Address, address_literal};
use staffetta_policy::classify::Failure;
use staffetta_policy::destination::{self, Keyword};
use staffetta_policy::mx::Candidate;
use staffetta_policy::routing::{self, Defaults, Path, Submitter, Via};
use staffetta_policy::shaping::messages_per_connection;
use staffetta_policy::source::{Pool, Source, WarmUp};
use staffetta_policy::tls::{self, Level, Need, NotListed, Published, Security};
use staffetta_smtp::client::{Credentials, Protocol, ServerProfile};

pub use login::Login;
use login::LoginKey;

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One server, named by the configuration; no MX look-up, no blocked networks.
    Host {
        /// A name or an address.
        host: Arc<str>,
        /// Its port.
        port: u16,
        /// TLS from the first octet.
        implicit_tls: bool,
    },
    /// A unix socket of this machine; no TLS.
    Socket(Arc<str>),
    /// The mail hosts of the recipient's domain.
    Domain(Arc<str>),
    /// The mail hosts of a domain that the configuration names; no blocked networks.
    MailHosts(Arc<str>),
    /// An address literal in the recipient's address (RFC 5321 section 4.1.3).
    Literal(IpAddr),
}

impl Target {
    /// The name for texts: the domain, the host, the path.
    pub fn name(&self) -> String {
        match self {
            Self::Host { host: name, .. } | Self::Socket(name) | Self::Domain(name) | Self::MailHosts(name) => {
                name.to_string()
            }
            Self::Literal(ip) => format!("[{ip}]"),
        }
    }

    /// What stands for the servers in what is kept about them. Those of a recipient's domain go without saying.
    fn server(&self) -> String {
        match self {
            Self::Host { host, port, .. } => format!("{host}:{port}"),
            Self::Socket(path) => format!("unix:{path}"),
            Self::Domain(_) | Self::Literal(_) => "mx".to_owned(),
            Self::MailHosts(name) => format!("mx:{name}"),
        }
    }

    /// What their messages are counted by.
    fn account(&self) -> String {
        match self {
            Self::Host { host, port, .. } => format!("{}:{port}", host.to_ascii_lowercase()),
            Self::Socket(_) | Self::Domain(_) | Self::MailHosts(_) | Self::Literal(_) => self.name(),
        }
    }

    /// Are its hosts found by MX, or in an address? Then one of them may turn out to be this system.
    const fn may_be_us(&self) -> bool {
        !matches!(self, Self::Host { .. } | Self::Socket(_))
    }

    const fn implicit_tls(&self) -> bool {
        matches!(self, Self::Host { implicit_tls: true, .. })
    }
}

/// What two messages must share to share a connection: all that a route says. So two routes that say the same, in one
/// configuration or in one and the next, are one next hop, and what is known of it stays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HopKey {
    /// Where to; the next is tried when the one before cannot be reached. Never empty.
    pub targets: Arc<[Target]>,
    lmtp: bool,
    /// Two routes may ask the same host for different levels.
    level: Level,
    login: Option<LoginKey>,
    /// Two routes to the same host may have limits of their own.
    concurrency: u32,
    /// Whoever comes from another address is not let over this connection.
    pool: Option<Arc<Pool>>,
    rate: Option<Rate>,
    /// What one message must not use, the next one on its connection would.
    ignored: Arc<[Keyword]>,
}

/// A place to deliver to, and how.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// What stands for it.
    pub key: HopKey,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// As configured; what comes of it for one host is decided in `policy::tls`.
    pub level: Level,
    /// Most connections, over the cluster.
    pub concurrency: u32,
    /// Most messages, over the cluster.
    pub rate: Option<Rate>,
    /// Our name in EHLO.
    pub helo_name: Arc<str>,
    /// What its servers may offer, and are not asked for.
    ignored: Arc<[Keyword]>,
    /// Only shown over an encrypted connection.
    pub login: Option<Login>,
    /// Our addresses to come from; `None`: those of all, or what the system chooses.
    pub pool: Option<Arc<Pool>>,
    /// The index of the route that led here, in the configuration of the time.
    pub route: Option<usize>,
    by_route: ByRoute,
    /// The destination that its servers belong to, once it is known.
    pub site: Option<Arc<Site>>,
}

/// What a route has said, which goes before what is said of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ByRoute {
    tls: bool,
    concurrency: bool,
    rate: bool,
}

/// Servers that share limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What it goes by: the entry of the configuration, else the hosts, else the domain.
    pub name: String,
    /// Its mail hosts, as far as they were looked up.
    pub hosts: Vec<String>,
    /// Most messages of one connection.
    pub messages: Option<u32>,
    /// What rests when its hosts have said that it is too much: all hosts of its entry, or those that the domain has. Other
    /// servers of the domains that an entry names have said nothing.
    pub speaker: String,
    /// What its deliveries are counted under: one of [`Router::providers`].
    pub provider: String,
}

impl NextHop {
    /// `smtp` or `lmtp`, for the log.
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        }
    }

    /// What its servers may offer, and are not asked for.
    pub fn ignored(&self) -> &[Keyword] {
        &self.ignored
    }

    /// What led to a candidate.
    pub fn target(&self, candidate: &Candidate) -> &Target {
        self.key.targets.get(candidate.way).unwrap_or(&self.key.targets[0])
    }

    /// What is asked of one of its hosts, of which this is published, for a message with this need. `failed_lately`: TLS did
    /// not work there a moment ago.
    ///
    /// # Errors
    /// The host must not be used.
    pub fn security(
        &self,
        candidate: &Candidate,
        published: &Published,
        need: Need,
        failed_lately: bool,
    ) -> Result<Security, Failure> {
        let target = self.target(candidate);
        let (level, implicit) = (self.level_of(target), target.implicit_tls());
        let (host, login) = (&candidate.host, self.login.is_some());
        tls::decide(&tls::Facts { host, level, login, implicit, published, need, failed_lately })
            .map_err(|NotListed| self.not_listed(target, host))
    }

    /// What does not leave this machine needs no TLS.
    fn level_of(&self, target: &Target) -> Level {
        if matches!(target, Target::Socket(_)) { Level::None } else { self.level }
    }

    /// Why a host is not used that the domain's policy does not name.
    pub fn not_listed(&self, target: &Target, host: &str) -> Failure {
        let reason = format!("the MTA-STS policy of {} does not list {host}", target.name());
        Failure::Unproven { flaw: Flaw::ValidationFailure, reason }
    }

    /// Does it matter to mail with this need what these hosts have published? LMTP stays in the house.
    pub fn asks_what_is_published(&self, target: &Target, need: Need) -> bool {
        let encrypted = self.login.is_some() || target.implicit_tls();
        self.protocol == Protocol::Smtp && tls::asks_what_is_published(self.level_of(target), encrypted, need)
    }

    /// For the client, towards a host that is asked for this; `shown` is what comes of the login.
    pub fn settings(
        &self,
        candidate: &Candidate,
        security: &Security,
        shown: Option<Arc<Credentials>>,
    ) -> ServerProfile {
        ServerProfile {
            helo_name: self.helo_name.to_string(),
            protocol: self.protocol,
            ignored: self.ignored.to_vec(),
            tls: security.starttls,
            verified: security.satisfies(Need::AuthenticatedTls),
            credentials: shown,
            nonce: format!("{:032x}", rand::random::<u128>()),
            own_name: self.target(candidate).may_be_us().then(|| self.helo_name.to_string()),
        }
    }

    /// A text for the server and a recipient, under which what the one said of the other is kept: where another server is
    /// asked, another answer holds.
    pub fn inquiry(&self, recipient: &Address) -> String {
        let (local, domain) = (recipient.local(), recipient.domain_key().unwrap_or_default());
        format!("{} {} {local}@{domain}", self.protocol_name(), self.each(Target::server))
    }

    /// What its messages are counted by: all that go to the same servers.
    pub fn account(&self) -> String {
        self.site.as_ref().map_or_else(|| provider::accounts(&self.key.targets), |site| site.name.clone())
    }

    /// What rests when its servers have said that it is too much.
    pub fn speaker(&self) -> String {
        self.site.as_ref().map_or_else(|| self.account(), |site| site.speaker.clone())
    }

    /// The mail hosts that its destination goes by; none: nobody knew any, or the configuration names the servers.
    pub fn mail_hosts(&self) -> &[String] {
        self.site.as_ref().map_or(&[][..], |site| &site.hosts)
    }

    /// Is this one of the hosts that it goes by, as far as they are known?
    pub fn has_host(&self, host: &str) -> bool {
        let hosts = self.mail_hosts();
        hosts.is_empty() || destination::normalized([host]).iter().all(|host| hosts.contains(host))
    }

    /// What rests when they have said that of what comes from some addresses of ours: they know us by these. Mail of other pools
    /// goes on.
    pub fn party(&self) -> String {
        match &self.key.pool {
            Some(pool) => format!("{} from {}", self.speaker(), pool.name),
            None => self.speaker(),
        }
    }

    /// All that its servers go by for mail to this domain: the destination, and each name with all that it is below, as
    /// `*.example.com`; and each of these as far as it is about our addresses. In lower case.
    pub fn names(&self, domain: &str) -> Vec<String> {
        let hosts = self.site.iter().flat_map(|site| site.hosts.iter().cloned());
        let servers = self.key.targets.iter().map(Target::name).chain(hosts).chain([domain.to_owned()]);
        let mut names = [self.speaker(), self.account()].map(|name| name.to_ascii_lowercase()).to_vec();
        for name in servers.map(|name| name.to_ascii_lowercase()) {
            names.extend(name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..])));
            names.push(name);
        }
        if let Some(pool) = self.key.pool.as_ref().map(|pool| pool.name.to_ascii_lowercase()) {
            let from_there: Vec<_> = names.iter().map(|name| format!("{name} from {pool}")).collect();
            names.extend(from_there);
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What its connections are counted by: those to the same servers, of all who may have so many.
    pub fn places(&self) -> String {
        format!("{} {}", self.account(), self.concurrency)
    }

    /// The name for texts: the domain or the host; of several the first.
    pub fn name(&self) -> String {
        self.key.targets[0].name()
    }

    fn each(&self, text: fn(&Target) -> String) -> String {
        self.key.targets.iter().map(text).collect::<Vec<_>>().join(",")
    }
}

/// The routes of the configuration, ready for questions.
pub struct Router {
    hostname: Arc<str>,
    /// Extensions that are used with nobody.
    ignored: Arc<[Keyword]>,
    defaults: Defaults,
    routes: Vec<routing::Route>,
    /// Some of them are for mail of some only.
    by_submitter: bool,
    /// Where each route leads, unless that depends on the domain.
    targets: Vec<Option<Arc<[Target]>>>,
    logins: Vec<Option<Login>>,
    /// What a route says of the rate, and what holds where none does.
    rates: Vec<Option<Rate>>,
    rate: Option<Rate>,
    /// Whose addresses a route uses, and what holds where none says so.
    pools: Vec<Option<Arc<Pool>>>,
    pool: Option<Arc<Pool>>,
    /// What is not used with the servers of a route.
    route_ignored: Vec<Arc<[Keyword]>>,
    /// Whether what this program knows of providers counts.
    knows_providers: bool,
    /// How some destinations are to be treated, each with its rate.
    destinations: Vec<(destination::Entry, Option<Rate>)>,
}

impl Router {
    /// With the routes of `[delivery]`.
    pub fn new(config: &Config) -> Self {
        let delivery = &config.delivery;
        let defaults = Defaults { tls: delivery.tls, concurrency: delivery.destination_concurrency.max(1) };
        Self {
            ignored: (!delivery.chunking).then_some(Keyword::Chunking).into_iter().collect(),
            logins: delivery.route.iter().map(Login::of).collect(),
            rates: delivery.route.iter().map(|route| route.rate).collect(),
            rate: delivery.destination_rate,
            pools: delivery.route.iter().map(|route| pool(delivery, route.source.as_deref()?)).collect(),
            pool: delivery.default_source.as_deref().and_then(|name| pool(delivery, name)),
            route_ignored: delivery.route.iter().map(|route| route.ignore_extensions.as_slice().into()).collect(),
            knows_providers: delivery.known_rules,
            destinations: delivery.destination.iter().map(|entry| (destination(entry), entry.rate)).collect(),
            ..Self::with(&config.hostname, defaults, delivery.route.iter().map(route).collect())
        }
    }

    /// Routes without logins and rates.
    fn with(hostname: &str, defaults: Defaults, routes: Vec<routing::Route>) -> Self {
        let fixed = |route: &routing::Route| route.via.iter().map(fixed).collect();
        Self {
            hostname: hostname.into(),
            ignored: Arc::default(),
            defaults,
            by_submitter: routes.iter().any(routing::Route::names_submitters),
            targets: routes.iter().map(fixed).collect(),
            logins: Vec::new(),
            rates: Vec::new(),
            rate: None,
            pools: Vec::new(),
            pool: None,
            route_ignored: Vec::new(),
            knows_providers: false,
            destinations: Vec::new(),
            routes,
        }
    }

    /// The next hop of a domain, or of an address literal in its brackets, for what somebody hands in; without one, for mail of
    /// all who are not named in a route.
    pub fn hop(&self, domain: &str, by: Option<Submitter<'_>>) -> NextHop {
        self.hop_by(&self.path(domain, by), domain)
    }

    /// The next hops at which a login is shown, each with the index of its route. Where a route leaves the servers to the domain
    /// of a recipient, that has no name.
    pub fn hops_with_login(&self) -> impl Iterator<Item = (usize, NextHop)> {
        (0..self.routes.len()).filter(|&index| self.routes[index].login).map(|index| {
            let path = routing::path_by(&self.routes, &self.defaults, Some(index));
            (index, self.hop_by(&path, ""))
        })
    }

    fn hop_by(&self, path: &Path, domain: &str) -> NextHop {
        let key = self.key_of(path, domain);
        NextHop {
            protocol: if key.lmtp { Protocol::Lmtp } else { Protocol::Smtp },
            level: path.tls,
            concurrency: path.concurrency.max(1),
            rate: key.rate,
            helo_name: self.hostname.clone(),
            ignored: self.ignored.iter().chain(&*key.ignored).copied().collect(),
            login: self.login_of(path).cloned(),
            pool: key.pool.clone(),
            route: path.route,
            by_route: self.by_route(path.route),
            site: None,
            key,
        }
    }

    /// The domain whose mail hosts say which destination a next hop belongs to; `None`: the configuration names the servers.
    pub fn asks_for_hosts(hop: &NextHop) -> Option<&str> {
        match &hop.key.targets[..] {
            [Target::Domain(domain) | Target::MailHosts(domain)] => Some(domain),
            _ => None,
        }
    }

    /// The same next hop, treated as its destination is to be: what a route says goes before what is said of that. `hosts`: of
    /// the domain that [`Self::asks_for_hosts`] names, as [`destination::normalized`]; none if nobody knows.
    #[must_use]
    pub fn at_its_site(&self, hop: &NextHop, hosts: Vec<String>) -> NextHop {
        let domain = match &hop.key.targets[..] {
            [Target::Domain(domain)] => Some(&**domain),
            _ => None,
        };
        let entry = self.entry_for(domain, &hosts);
        let said = entry.and_then(|index| self.destinations.get(index));
        let name = match said {
            Some((entry, _)) => entry.name(),
            None if hosts.is_empty() => hop.account(),
            None => destination::name_of(&hosts),
        };
        let speaker = match said {
            Some((entry, _)) if entry.is_for_hosts(&hosts) => entry.name(),
            _ if hosts.is_empty() => name.clone(),
            _ => destination::name_of(&hosts),
        };
        let unless_routed = |by_route: bool| said.map(|(entry, _)| entry).filter(|_| !by_route);
        let (level, places) = (unless_routed(hop.by_route.tls), unless_routed(hop.by_route.concurrency));
        NextHop {
            level: level.and_then(|entry| entry.tls).unwrap_or(hop.level),
            concurrency: places.and_then(|entry| entry.concurrency).unwrap_or(hop.concurrency),
            rate: said.and_then(|(_, rate)| *rate).filter(|_| !hop.by_route.rate).or(hop.rate),
            ignored: hop
                .ignored
                .iter()
                .chain(said.into_iter().flat_map(|(entry, _)| &entry.ignored))
                .copied()
                .collect(),
            site: Some(Arc::new(Site {
                provider: provider::name(hop, said.map(|(entry, _)| entry), &hosts),
                messages: said.and_then(|(entry, _)| entry.messages).or_else(|| self.known_messages(&hosts)),
                name,
                hosts,
                speaker,
            })),
            ..hop.clone()
        }
    }

    fn known_messages(&self, hosts: &[String]) -> Option<u32> {
        if self.knows_providers { messages_per_connection(hosts) } else { None }
    }

    /// The first entry that is for this domain, or for these hosts.
    fn entry_for(&self, domain: Option<&str>, hosts: &[String]) -> Option<usize> {
        let is_for = |entry: &destination::Entry| {
            domain.is_some_and(|domain| entry.is_for_domain(domain)) || entry.is_for_hosts(hosts)
        };
        self.destinations.iter().position(|(entry, _)| is_for(entry))
    }

    /// What decides whether two messages share connections.
    pub fn key(&self, domain: &str, by: Option<Submitter<'_>>) -> HopKey {
        self.key_of(&self.path(domain, by), domain)
    }

    /// Does mail for several domains go there? Not where the recipient's own domain says where that is.
    pub fn is_for_many(hop: &NextHop) -> bool {
        provider::are_for_many(&hop.key.targets)
    }

    /// Has mail for this domain several next hops, by who hands it in?
    pub fn depends_on_submitter(&self, domain: &str) -> bool {
        self.by_submitter && routing::depends_on_submitter(&self.routes, domain)
    }

    fn path(&self, domain: &str, by: Option<Submitter<'_>>) -> Path {
        routing::route(&self.routes, &self.defaults, domain, by)
    }

    fn login_of(&self, path: &Path) -> Option<&Login> {
        self.logins.get(path.credentials?)?.as_ref()
    }

    fn key_of(&self, path: &Path, domain: &str) -> HopKey {
        let Path { tls: level, concurrency, route, .. } = *path;
        let lmtp = route.and_then(|index| self.routes.get(index)?.via.first()).is_some_and(Via::is_lmtp);
        let login = self.login_of(path).map(Login::key);
        let rate = route.and_then(|index| *self.rates.get(index)?).or(self.rate);
        let pool = route.and_then(|index| self.pools.get(index)?.clone()).or_else(|| self.pool.clone());
        let ignored = route.and_then(|index| self.route_ignored.get(index).cloned()).unwrap_or_default();
        HopKey { targets: self.targets_of(route, domain), lmtp, level, login, concurrency, pool, rate, ignored }
    }

    fn by_route(&self, route: Option<usize>) -> ByRoute {
        let said = route.and_then(|index| self.routes.get(index));
        ByRoute {
            tls: said.is_some_and(|route| route.tls.is_some()),
            concurrency: said.is_some_and(|route| route.concurrency.is_some()),
            rate: route.is_some_and(|index| self.rates.get(index).is_some_and(Option::is_some)),
        }
    }

    fn targets_of(&self, route: Option<usize>, domain: &str) -> Arc<[Target]> {
        if let Some(targets) = route.and_then(|index| self.targets.get(index)?.clone()) {
            return targets;
        }
        let via = route.and_then(|index| self.routes.get(index)).map_or(&[Via::Mx][..], |route| &route.via);
        via.iter().map(|via| fixed(via).unwrap_or_else(|| own(domain))).collect()
    }
}

/// Where a way leads that does not depend on the recipient's domain.
fn fixed(via: &Via) -> Option<Target> {
    Some(match via {
        Via::Mx => return None,
        Via::MxOf(name) => Target::MailHosts(name.as_str().into()),
        Via::Smtp { host, port, implicit_tls } => {
            Target::Host { host: host.as_str().into(), port: *port, implicit_tls: *implicit_tls }
        }
        Via::Lmtp { host, port } => Target::Host { host: host.as_str().into(), port: *port, implicit_tls: false },
        Via::LmtpSocket(path) => Target::Socket(path.as_str().into()),
    })
}

/// The mail hosts of the domain itself.
fn own(domain: &str) -> Target {
    address_literal(domain).map_or_else(|| Target::Domain(domain.to_ascii_lowercase().into()), Target::Literal)
}

fn route(route: &config::Route) -> routing::Route {
    routing::Route {
        pattern: route.domain.clone(),
        senders: route.sender.clone(),
        of_login: route.login.clone(),
        via: route.via.clone(),
        tls: route.tls,
        login: Login::of(route).is_some(),
        concurrency: route.concurrency,
    }
}

/// All addresses of a pool; `None`: there are none, which the check of the configuration refuses.
fn pool(delivery: &config::Delivery, name: &str) -> Option<Arc<Pool>> {
    let source = |source: &config::Source| Source {
        address: source.address,
        hostname: source.hostname.as_deref().map(Into::into),
        weight: source.weight,
        warm_up: source.warm_up.map(|begins| WarmUp { begins, days: delivery.warm_up_days.as_slice().into() }),
    };
    let sources: Vec<_> = delivery.source.iter().filter(|source| source.pool == name).map(source).collect();
    (!sources.is_empty()).then(|| Arc::new(Pool { name: name.into(), sources }))
}

fn destination(entry: &config::Destination) -> destination::Entry {
    destination::Entry {
        domains: entry.domain.clone(),
        hosts: entry.mx.clone(),
        tls: entry.tls,
        concurrency: entry.concurrency,
        messages: entry.messages_per_connection,
        ignored: entry.ignore_extensions.clone(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
