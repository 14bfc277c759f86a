//! From the configuration to what the service runs with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use rustix::process::{Resource, getrlimit, setrlimit};
use staffetta_config::{Config, Frontend, Listener, ListenerKind, ListenerTls, Route};
use staffetta_policy::conduct::Signal;
use staffetta_policy::relay::{self, Postmaster, Rules};
use staffetta_policy::routing::Pattern;
use staffetta_queue::{Conduct, Queue, Revocations};
use staffetta_smtp::server::{BareLf, Kind, Settings};
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::tls::{Certificates, Pair};
use tokio_util::sync::CancellationToken;

use crate::allowance::Allowance;
use crate::auth::Auth;
use crate::evidence::Examiner;
use crate::failures::Failures;
use crate::intake::{Directory, Intake, Terms, Wishes};
use crate::limits::{Cluster, Limits};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::verify::Verifier;

/// Descriptors for anything but SMTP clients: listeners, Redis, the auth service, DNS, HTTP.
const DESCRIPTORS_BESIDE: u64 = 256;
/// How long a DNS server has for one answer: a datagram that was lost must not cost a recipient.
const DNS_PATIENCE: Duration = Duration::from_millis(1500);

/// What all sessions of the service have in common.
pub(crate) struct Shared {
    pub(crate) hostname: String,
    pub(crate) queue: Queue,
    pub(crate) auth: Auth,
    /// Who may not send any longer.
    pub(crate) revocations: Revocations,
    pub(crate) intake: Intake,
    /// What clients are called, if that is looked up.
    pub(crate) names: Option<Names>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) failures: ArcSwap<Failures>,
    /// How logins behave.
    pub(crate) conduct: Arc<Conduct>,
    /// How much a login may send.
    pub(crate) allowance: Arc<Allowance>,
    pub(crate) metrics: Metrics,
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// What clients' certificates are compared with.
    pub(crate) examiner: Examiner,
    /// Asks the DNS.
    resolver: Resolver,
    /// Of the configuration in force.
    ground: ArcSwap<Ground>,
}

/// What new connections and sessions are judged by, as the configuration has it.
pub(crate) struct Ground {
    /// Load balancers in front of all listeners.
    proxies: Vec<IpNet>,
    trusted_networks: Vec<IpNet>,
    etrn_networks: Vec<IpNet>,
    xclient_networks: Vec<IpNet>,
    /// Whose bare LF is normalised in any case.
    bare_lf_networks: Vec<IpNet>,
    sessions: SessionLimits,
}

/// What the sessions of all listeners are told.
struct SessionLimits {
    size: u64,
    recipients: usize,
    vrfy: bool,
    bare_lf: BareLf,
    timeout: Duration,
    min_data_rate: u64,
    /// After so many errors the session ends.
    errors: u32,
    /// So many recipients beyond the limit are no errors.
    overshoot: usize,
}

impl Shared {
    /// Opens the queue, which connects in the background until `background` ends.
    pub(crate) fn new(
        config: &Config,
        certificates: Option<&Arc<Certificates>>,
        background: CancellationToken,
    ) -> anyhow::Result<Self> {
        let frontend = &config.frontend;
        let revocations = Revocations::follow(&config.into(), background.clone()).context("redis")?;
        let queue = Queue::open(config.into(), background).context("redis")?;
        let auth = Auth::new(config, revocations.clone()).context("frontend.auth")?;
        let resolver = resolver(config)?;
        let mechanisms = auth.mechanisms().to_vec();
        let conduct = conduct(config, &queue);
        let (names, asked) = (resolver.clone(), resolver.clone());
        Ok(Self {
            hostname: config.hostname.clone(),
            limits: limits(frontend, Cluster::new(&queue)),
            failures: ArcSwap::new(failures(frontend, &queue, &conduct)),
            allowance: Arc::new(Allowance::new(&queue, frontend)),
            names: frontend.reverse_dns.then(|| Names::new(names)),
            intake: intake(config, queue.clone(), auth.clone(), asked, revocations.clone(), conduct.clone())?,
            conduct,
            queue,
            auth,
            revocations,
            metrics: Metrics::new(&mechanisms),
            certificates: certificates.cloned(),
            examiner: Examiner::new(config).context("tls.client_ca")?,
            resolver,
            ground: ArcSwap::from_pointee(Ground::new(frontend)),
        })
    }

    /// What the configuration says now holds for what begins from here on. Doors are to be told, too.
    ///
    /// # Errors
    /// Everything stays as it was.
    pub(crate) fn renew(&self, config: &Config) -> anyhow::Result<()> {
        let frontend = &config.frontend;
        self.intake.change(terms(config, &self.queue, &self.resolver)?);
        self.ground.store(Arc::new(Ground::new(frontend)));
        raise_descriptor_limit(frontend.connection_limit);
        self.limits.change(frontend.connection_limit, frontend.connections_per_client, &listener_limits(frontend));
        self.allowance.change(frontend);
        // Other limits begin with what Redis knows of each client; the same ones keep what this pod knows, too.
        if !self.failures.load().are(frontend.auth_failures_per_client, frontend.auth_failures_per_login) {
            self.failures.store(failures(frontend, &self.queue, &self.conduct));
        }
        Ok(())
    }

    /// What holds for who comes now.
    pub(crate) fn ground(&self) -> arc_swap::Guard<Arc<Ground>> {
        self.ground.load()
    }
}

impl Ground {
    fn new(frontend: &Frontend) -> Self {
        Self {
            proxies: frontend.proxy_from.clone(),
            trusted_networks: frontend.trusted_networks.clone(),
            etrn_networks: frontend.etrn_networks.clone(),
            xclient_networks: frontend.xclient_from.clone(),
            bare_lf_networks: frontend.bare_lf_from.clone(),
            sessions: SessionLimits {
                size: frontend.size_limit.0,
                recipients: frontend.recipient_limit as usize,
                vrfy: frontend.enable_vrfy,
                bare_lf: match frontend.bare_lf {
                    staffetta_config::BareLf::Normalize => BareLf::Normalize,
                    staffetta_config::BareLf::Reject => BareLf::Reject,
                },
                errors: frontend.error_limit,
                overshoot: frontend.recipient_overshoot_limit as usize,
                timeout: frontend.timeout,
                min_data_rate: frontend.min_data_rate.0,
            },
        }
    }

    /// May this client relay without a login?
    pub(crate) fn is_trusted(&self, ip: IpAddr) -> bool {
        is_in(&self.trusted_networks, ip)
    }

    /// Is this a load balancer in front of every listener?
    pub(crate) fn brings_clients(&self, ip: IpAddr) -> bool {
        is_in(&self.proxies, ip)
    }

    /// Is bare LF of this client normalised, whatever `bare_lf` says?
    pub(crate) fn normalizes_bare_lf(&self, ip: IpAddr) -> bool {
        is_in(&self.bare_lf_networks, ip)
    }

    /// May this client say for whom it comes?
    pub(crate) fn may_xclient(&self, ip: IpAddr) -> bool {
        is_in(&self.xclient_networks, ip)
    }

    /// May this client use ETRN?
    pub(crate) fn may_etrn(&self, ip: IpAddr) -> bool {
        is_in(&self.etrn_networks, ip)
    }
}

/// Is the address in one of the networks?
pub(crate) fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

fn failures(frontend: &Frontend, queue: &Queue, conduct: &Conduct) -> Arc<Failures> {
    let (per_client, per_login) = (frontend.auth_failures_per_client, frontend.auth_failures_per_login);
    Failures::new(queue, per_client, per_login, conduct.watches(Signal::NewNetworks))
}

fn limits(frontend: &Frontend, cluster: Cluster) -> Arc<Limits> {
    let listeners = listener_limits(frontend);
    Limits::new(frontend.connection_limit, frontend.connections_per_client, &listeners, Some(cluster))
}

fn listener_limits(frontend: &Frontend) -> Vec<Option<u32>> {
    frontend.listener.iter().map(|listener| listener.connection_limit).collect()
}

/// What the sessions of this listener are told.
pub(crate) fn session(listener: &Listener, shared: &Shared) -> Settings {
    let mechanisms = shared.auth.mechanisms();
    shared.ground().session(listener, &shared.hostname, &mechanisms)
}

impl Ground {
    fn session(&self, listener: &Listener, hostname: &str, mechanisms: &[String]) -> Settings {
        let limits = &self.sessions;
        Settings {
            hostname: hostname.to_owned(),
            kind: match listener.kind {
                ListenerKind::Relay => Kind::Relay,
                ListenerKind::Submission => Kind::Submission,
            },
            starttls: listener.tls == ListenerTls::Starttls,
            mechanisms: if listener.tls == ListenerTls::Off { Vec::new() } else { mechanisms.to_vec() },
            size_limit: limits.size,
            recipient_limit: limits.recipients,
            overshoot_limit: limits.overshoot,
            error_limit: limits.errors,
            vrfy: limits.vrfy,
            bare_lf: limits.bare_lf,
            timeout: limits.timeout,
            min_data_rate: limits.min_data_rate,
            ..Settings::default()
        }
    }
}

/// The policy's name for the kind of a listener.
pub(crate) fn kind(listener: &Listener) -> relay::Listener {
    match listener.kind {
        ListenerKind::Relay => relay::Listener::Relay,
        ListenerKind::Submission => relay::Listener::Submission,
    }
}

/// Can any session ask the auth service something? Without TLS there is no AUTH.
pub(crate) fn needs_auth(config: &Config) -> bool {
    let frontend = &config.frontend;
    frontend.relay_domains_from_auth || frontend.listener.iter().any(|l| l.tls != ListenerTls::Off)
}

/// Whom the policy asks for what of a sender address.
fn sender_login(choice: staffetta_config::SenderLogin) -> relay::SenderLogin {
    use staffetta_config::SenderLogin::{Authenticated, Mismatch, Off, On, Unauthenticated};
    relay::SenderLogin {
        authenticated: matches!(choice, On | Mismatch | Authenticated),
        unauthenticated: match choice {
            Mismatch | Unauthenticated => true,
            On | Off | Authenticated => false,
        },
    }
}

/// Takes as many file descriptors as the system gives, and warns if that is not enough for all connections.
pub(crate) fn raise_descriptor_limit(connections: u32) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let needed = u64::from(connections) + DESCRIPTORS_BESIDE;
    if limit.current.is_some_and(|current| current < needed) {
        tracing::warn!(limit = limit.current, needed, "too few file descriptors for frontend.connection_limit");
    }
}

/// Reads the certificates. None are needed only if no listener speaks TLS.
///
/// # Errors
/// Names the file that is missing, unreadable, or does not fit its twin.
pub fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Certificates>>> {
    let mut pairs = pairs(config).into_iter();
    let Some(default) = pairs.next() else {
        return match config.frontend.listener.iter().find(|listener| listener.tls != ListenerTls::Off) {
            Some(listener) => bail!(
                "listener \"{}\" speaks TLS: set tls.certificate and tls.key, or tls = \"off\" for every listener",
                listener.name
            ),
            None => Ok(None),
        };
    };
    Certificates::load(default, pairs.collect()).context("tls").map(Some)
}

/// Where the certificates are, the default first; none if that is not set.
pub fn pairs(config: &Config) -> Vec<Pair> {
    let tls = &config.tls;
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Vec::new() };
    let default = Pair { name: config.hostname.clone(), certificate: certificate.clone(), key: key.clone() };
    let sni = tls.sni.iter().map(|sni| Pair {
        name: sni.name.clone(),
        certificate: sni.certificate.clone(),
        key: sni.key.clone(),
    });
    std::iter::once(default).chain(sni).collect()
}

/// Whom recipients' domains and clients' names are asked of.
pub(crate) fn resolver(config: &Config) -> anyhow::Result<Resolver> {
    let settings = DnsSettings { patience: Some(DNS_PATIENCE), ..DnsSettings::from(&config.dns) };
    Resolver::new(&settings).context("dns")
}

/// How logins behave, and what is done about it.
pub(crate) fn conduct(config: &Config, queue: &Queue) -> Arc<Conduct> {
    let abuse = &config.frontend.abuse;
    queue.conduct(abuse.ladder(), abuse.block_for)
}

/// What every message goes through.
pub(crate) fn intake(
    config: &Config,
    queue: Queue,
    auth: Auth,
    resolver: Resolver,
    revocations: Revocations,
    conduct: Arc<Conduct>,
) -> anyhow::Result<Intake> {
    let terms = terms(config, &queue, &resolver)?;
    let directory = Directory::new(auth, resolver, revocations);
    let (hostname, listeners) = (config.hostname.clone(), config.frontend.listener.len());
    Ok(Intake::new(queue, directory, hostname, listeners, terms, conduct))
}

/// What holds for every message.
fn terms(config: &Config, queue: &Queue, resolver: &Resolver) -> anyhow::Result<Terms> {
    let rules = rules(config);
    if let Some(why) = config.postmaster_refused() {
        tracing::warn!("{why}");
    }
    Ok(Terms {
        verifier: asks(config, &rules).then(|| Verifier::new(config, queue, resolver.clone())).transpose()?,
        rules,
        largest: config.frontend.size_limit.0,
        lifetime: config.delivery.lifetime,
        shown: config.frontend.received_client,
        match_authors: config.frontend.header_from_must_match_login,
        counts_queued: config.frontend.queued_per_login.is_some(),
        canonical: Arc::new(config.frontend.canonical_senders()),
        verp: config.verp(),
        wishes: Wishes::new(config),
    })
}

/// Can there be a recipient whose own server must be asked?
fn asks(config: &Config, rules: &Rules) -> bool {
    let postmaster = rules.routed_domains.contains(&rules.postmaster.hostname);
    let frontend = &config.frontend;
    rules.verify_recipients && (postmaster || frontend.relay_domains_from_auth || !frontend.relay_domains.is_empty())
}

fn rules(config: &Config) -> Rules {
    let frontend = &config.frontend;
    let is_known = |route: &&Route| route.domain != Pattern::Any && route.login.is_none();
    let explicit = || config.delivery.route.iter().filter(is_known);
    let for_all = explicit().filter(|route| route.sender.is_none());
    let for_some = explicit().filter_map(|route| Some((route.domain.clone(), route.sender.clone()?)));
    Rules {
        relay_domains: frontend.relay_domains.iter().collect(),
        relay_domains_from_auth: frontend.relay_domains_from_auth,
        verify_recipients: frontend.verify_recipients,
        reject_unknown_recipient_domain: frontend.reject_unknown_recipient_domain,
        routed_domains: for_all.map(|route| route.domain.to_string()).collect(),
        routed_for_senders: for_some.collect(),
        sender_login: sender_login(frontend.sender_must_match_login),
        postmaster: Postmaster { hostname: config.hostname.clone(), destination: frontend.postmaster.clone() },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Time is nothing that a test should wait for; the other limits are seen from outside.
    #[test]
    fn the_patience_of_a_session_is_that_of_the_configuration() {
        let read = |keys: &str| Config::parse(&format!("hostname = \"mail.test\"\n[frontend]\n{keys}"), "t").unwrap();
        for (keys, timeout, rate) in [("", 300, 500), ("timeout = \"7s\"\nmin_data_rate = \"9B/s\"", 7, 9)] {
            let frontend = read(keys).frontend;
            let settings = Ground::new(&frontend).session(&frontend.listener[0], "mail.test", &[]);
            assert_eq!((settings.timeout, settings.min_data_rate), (Duration::from_secs(timeout), rate), "{keys}");
        }
    }
}
