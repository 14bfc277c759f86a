//! Next hops: which server, or which domain's servers, take the mail of a domain.
//!
//! A route of the configuration names one server for many domains (a smart host); all of them then share its
//! connections. Without a route every domain is a next hop of its own, found through MX. The rules are
//! `staffetta_policy::routing`; here they meet the configuration.

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::ExposeSecret;
use staffetta_config::{self as config, Config, Rate};
use staffetta_mail::{Address, address_literal};
use staffetta_policy::classify::Failure;
use staffetta_policy::routing::{self, Defaults, Path};
use staffetta_policy::tls::{self, Level, Need, NotListed, Published, Security};
use staffetta_smtp::client::{Credentials, Protocol, ServerProfile};

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One server, named by the configuration; no MX look-up, no blocked networks.
    Host {
        /// A name or an address.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
    /// The mail hosts of a domain.
    Domain(Arc<str>),
    /// An address literal in the recipient's address (RFC 5321 section 4.1.3).
    Literal(IpAddr),
}

/// What two domains must share to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HopKey {
    /// Where to.
    pub target: Target,
    lmtp: bool,
    /// Two routes may ask the same host for different levels.
    level: Level,
    /// Index of the route with the login.
    credentials: Option<usize>,
}

/// A place to deliver to, and how.
#[derive(Debug)]
pub struct NextHop {
    /// What stands for it.
    pub key: HopKey,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// As configured; what comes of it for one host is decided in `policy::tls`.
    pub level: Level,
    /// Most connections of this pod.
    pub concurrency: u32,
    /// Most messages, over the cluster.
    pub rate: Option<Rate>,
    /// Our name in EHLO.
    pub helo_name: Arc<str>,
    /// Only sent over an encrypted connection.
    pub credentials: Option<Arc<Credentials>>,
}

impl NextHop {
    /// `smtp` or `lmtp`, for the log.
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        }
    }

    /// What is asked of one of its hosts, of which this is published, for a message with this need. `failed_lately`: TLS did
    /// not work there a moment ago.
    ///
    /// # Errors
    /// The host must not be used.
    pub fn security(
        &self,
        host: &Arc<str>,
        published: &Published,
        need: Need,
        failed_lately: bool,
    ) -> Result<Security, Failure> {
        let (level, login) = (self.level, self.credentials.is_some());
        tls::decide(&tls::Facts { host, level, login, published, need, failed_lately })
            .map_err(|NotListed| self.not_listed(host))
    }

    /// Why a host is not used that the domain's policy does not name.
    pub fn not_listed(&self, host: &str) -> Failure {
        Failure::Unproven { reason: format!("the MTA-STS policy of {} does not list {host}", self.name()) }
    }

    /// Does it matter to mail with this need what its hosts have published? LMTP stays in the house.
    pub fn asks_what_is_published(&self, need: Need) -> bool {
        let login = self.credentials.is_some();
        self.protocol == Protocol::Smtp && tls::asks_what_is_published(self.level, login, need)
    }

    /// For the SMTP client, towards a host that is asked for this.
    pub fn settings(&self, security: &Security) -> ServerProfile {
        ServerProfile {
            helo_name: self.helo_name.to_string(),
            protocol: self.protocol,
            tls: security.starttls,
            verified: security.satisfies(Need::AuthenticatedTls),
            credentials: self.credentials.clone(),
            detect_loop: !matches!(self.key.target, Target::Host { .. }),
        }
    }

    /// A text for the server and a recipient, under which what the one said of the other is kept: where another server is
    /// asked, another answer holds.
    pub fn inquiry(&self, recipient: &Address) -> String {
        let (local, domain) = (recipient.local(), recipient.domain_key().unwrap_or_default());
        let protocol = self.protocol_name();
        match &self.key.target {
            Target::Host { host, port } => format!("{protocol} {host}:{port} {local}@{domain}"),
            Target::Domain(_) | Target::Literal(_) => format!("{protocol} mx {local}@{domain}"),
        }
    }

    /// What its messages are counted by: all that go to the same servers.
    pub fn account(&self) -> String {
        match &self.key.target {
            Target::Host { host, port } => format!("{}:{port}", host.to_ascii_lowercase()),
            Target::Domain(_) | Target::Literal(_) => self.name(),
        }
    }

    /// The name for texts: the domain or the host.
    pub fn name(&self) -> String {
        match &self.key.target {
            Target::Host { host, .. } => host.to_string(),
            Target::Domain(domain) => domain.to_string(),
            Target::Literal(ip) => format!("[{ip}]"),
        }
    }
}

/// The routes of the configuration, ready for questions.
pub struct Router {
    hostname: Arc<str>,
    defaults: Defaults,
    routes: Vec<routing::Route>,
    logins: Vec<Option<Arc<Credentials>>>,
    /// What a route says of the rate, and what holds where none does.
    rates: Vec<Option<Rate>>,
    rate: Option<Rate>,
}

impl Router {
    /// With the routes of `[delivery]`.
    pub fn new(config: &Config) -> Self {
        let delivery = &config.delivery;
        Self {
            hostname: config.hostname.as_str().into(),
            defaults: Defaults { tls: delivery.tls, concurrency: delivery.destination_concurrency.max(1) },
            routes: delivery.route.iter().map(route).collect(),
            logins: delivery.route.iter().map(credentials).collect(),
            rates: delivery.route.iter().map(|route| route.rate).collect(),
            rate: delivery.destination_rate,
        }
    }

    /// The next hop of a domain, or of an address literal in its brackets.
    pub fn hop(&self, domain: &str) -> NextHop {
        let path = self.path(domain);
        let key = key(&path, domain);
        let protocol = if key.lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        NextHop {
            protocol,
            level: path.tls,
            concurrency: path.concurrency.max(1),
            rate: path.route.and_then(|index| *self.rates.get(index)?).or(self.rate),
            helo_name: self.hostname.clone(),
            credentials: path.credentials.and_then(|index| self.logins.get(index).cloned().flatten()),
            key,
        }
    }

    /// What decides whether two domains share connections.
    pub fn key(&self, domain: &str) -> HopKey {
        key(&self.path(domain), domain)
    }

    /// The index of the route that a domain takes, if one is for it.
    pub fn route(&self, domain: &str) -> Option<usize> {
        self.path(domain).route
    }

    fn path(&self, domain: &str) -> Path {
        routing::route(&self.routes, &self.defaults, domain)
    }
}

fn key(path: &Path, literal: &str) -> HopKey {
    let (target, lmtp) = match &path.next_hop {
        routing::NextHop::Mx(domain) => {
            (address_literal(literal).map_or_else(|| Target::Domain(domain.as_str().into()), Target::Literal), false)
        }
        routing::NextHop::Smtp { host, port } => (Target::Host { host: host.as_str().into(), port: *port }, false),
        routing::NextHop::Lmtp { host, port } => (Target::Host { host: host.as_str().into(), port: *port }, true),
    };
    HopKey { target, lmtp, level: path.tls, credentials: path.credentials }
}

fn route(route: &config::Route) -> routing::Route {
    routing::Route {
        pattern: route.domain.clone(),
        via: route.via.clone(),
        tls: route.tls,
        login: route.username.is_some() && route.password.is_some(),
        concurrency: route.concurrency,
    }
}

fn credentials(route: &config::Route) -> Option<Arc<Credentials>> {
    let (username, password) = (route.username.as_ref()?, route.password.as_ref()?);
    Some(Arc::new(Credentials { username: username.clone(), password: password.expose_secret().to_owned() }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_policy::routing::{Pattern, Via};
    use staffetta_policy::tls::{Label, Trust};
    use staffetta_smtp::client::Tls;

    use super::*;

    fn router(routes: Vec<routing::Route>) -> Router {
        let logins = vec![None; routes.len()];
        let defaults = Defaults { tls: Level::May, concurrency: 20 };
        Router { hostname: "relay.test".into(), defaults, routes, logins, rates: Vec::new(), rate: None }
    }

    fn in_clear() -> Security {
        Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label: Label::None }
    }

    #[test]
    fn only_a_server_that_proved_itself_is_told_what_demands_that() {
        let hop = router(Vec::new()).hop("a.test");
        assert!(!hop.settings(&in_clear()).verified);
        let unproven = Security { starttls: Tls::Required, ..in_clear() };
        assert!(!hop.settings(&unproven).verified, "encrypted, with whomever");
        let proven = Security { trust: Trust::WebPki { name: "mx.a.test".into() }, ..unproven };
        assert!(hop.settings(&proven).verified);
    }

    fn to(pattern: Pattern, via: Via) -> routing::Route {
        routing::Route { pattern, via, tls: None, login: false, concurrency: Some(5) }
    }

    #[test]
    fn destinations_of_a_smart_host_share_its_connections() {
        let smart = Via::Smtp { host: "smart.test".to_owned(), port: 26 };
        let router = router(vec![
            to(Pattern::Exact("direct.test".to_owned()), Via::Mx),
            to(Pattern::Exact("local.test".to_owned()), Via::Lmtp { host: "::1".to_owned(), port: 24 }),
            to(Pattern::Any, smart),
        ]);
        let hop = |name: &str| router.hop(name);
        assert_eq!(hop("a.test").key, router.key("b.test"));
        assert_eq!(hop("direct.test").key.target, Target::Domain("direct.test".into()));
        assert_eq!(hop("local.test").protocol, Protocol::Lmtp);
        assert_eq!(hop("a.test").concurrency, 5);
        assert!(!hop("a.test").settings(&in_clear()).detect_loop);
    }

    #[test]
    fn the_same_host_at_another_level_is_another_hop() {
        let smart = || Via::Smtp { host: "smart.test".to_owned(), port: 26 };
        let strict = routing::Route { tls: Some(Level::Verify), ..to(Pattern::Exact("a.test".to_owned()), smart()) };
        let router = router(vec![strict, to(Pattern::Any, smart())]);
        let key = |name: &str| router.key(name);
        assert_ne!(key("a.test"), key("b.test"), "mail for a.test must not join a connection that checks nothing");
    }

    #[test]
    fn what_is_said_of_a_recipient_belongs_to_the_server_that_said_it() {
        let local = Via::Lmtp { host: "::1".to_owned(), port: 24 };
        let router = router(vec![to(Pattern::Exact("a.test".to_owned()), local)]);
        for (address, inquiry) in [("Lisa@A.test", "lmtp ::1:24 Lisa@a.test"), ("lisa@b.test", "smtp mx lisa@b.test")] {
            let address: Address = address.parse().unwrap();
            assert_eq!(router.hop(&address.domain_key().unwrap()).inquiry(&address), inquiry);
        }
    }

    #[test]
    fn without_a_route_each_domain_stands_alone_and_literals_are_addresses() {
        let router = router(Vec::new());
        let key = |name: &str| router.key(name);
        assert_ne!(key("a.test"), key("b.test"));
        assert_eq!(key("[192.0.2.1]").target, Target::Literal("192.0.2.1".parse().unwrap()));
        assert!(matches!(key("[ipv6:::1]").target, Target::Literal(IpAddr::V6(_))));
        assert!(router.hop("a.test").settings(&in_clear()).detect_loop);
    }
}
