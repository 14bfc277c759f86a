//! One listener as its sessions see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use staffetta_config::{Listener, ListenerTls};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Link, Settings};
use tokio_util::sync::CancellationToken;

use crate::intake::Source;
use crate::limits::{Full, Guest};
use crate::metrics::{self, ListenerMetrics};
use crate::setup::{self, Ground, Shared};
use crate::sparing::Sparing;

/// All that the sessions of one listener have in common.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    /// Its name and rules, for the intake.
    pub(crate) source: Source,
    pub(crate) tls: ListenerTls,
    /// Of this listener alone, with tickets of its own: a session of another, with other rules, is not resumed here.
    pub(crate) server_config: Option<Arc<ServerConfig>>,
    settings: ArcSwap<Settings>,
    /// As it is configured.
    listener: Listener,
    pub(crate) metrics: ListenerMetrics,
    /// Lines about handshakes that failed.
    pub(crate) handshakes: Sparing,
    /// No new sessions; those that wait for a command end.
    pub(crate) stop: CancellationToken,
    /// All sessions end now.
    pub(crate) kill: CancellationToken,
}

impl Door {
    pub(crate) fn new(
        index: usize,
        listener: &Listener,
        shared: Arc<Shared>,
        stop: CancellationToken,
        kill: CancellationToken,
    ) -> anyhow::Result<Self> {
        let certificates = shared.certificates.as_ref().filter(|_| listener.tls != ListenerTls::Off);
        let server_config = certificates
            .map(|certificates| certificates.server_config(shared.examiner.asks()))
            .transpose()
            .context("tls")?;
        let tls = match listener.tls {
            ListenerTls::Starttls => "starttls",
            ListenerTls::Implicit => "implicit",
            ListenerTls::Off => "off",
        };
        Ok(Self {
            source: Source {
                name: listener.name.clone(),
                index,
                kind: setup::kind(listener),
                accepted: metrics::messages_accepted(&listener.name),
            },
            tls: listener.tls,
            server_config,
            settings: ArcSwap::from_pointee(setup::session(listener, &shared)),
            metrics: ListenerMetrics::new(&listener.name, tls),
            handshakes: Sparing::default(),
            listener: listener.clone(),
            shared,
            stop,
            kill,
        })
    }

    /// What a new session is told. What the auth service can do, and so what AUTH offers, may change.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.load_full();
        let mechanisms = self.shared.auth.mechanisms();
        if self.tls == ListenerTls::Off || settings.mechanisms == *mechanisms {
            return settings;
        }
        self.settings.rcu(|settings| Settings { mechanisms: mechanisms.to_vec(), ..Settings::clone(settings) });
        self.settings.load_full()
    }

    /// New sessions are told what the configuration says now.
    pub(crate) fn renew(&self) {
        self.settings.store(Arc::new(setup::session(&self.listener, &self.shared)));
    }

    /// Is this a load balancer, which must say for whom it comes?
    pub(crate) fn is_proxy(&self, ip: IpAddr) -> bool {
        setup::is_in(&self.listener.proxy_from, ip) || self.shared.ground().brings_clients(ip)
    }

    /// Who is at an address, as far as the address says it.
    pub(crate) fn peer(&self, address: SocketAddr) -> Peer {
        Peer { address, name: None, nameless: false, trusted: self.shared.ground().is_trusted(address.ip()) }
    }

    /// A connection of this client, as the session sees it.
    pub(crate) fn link(&self, peer: &Peer) -> Link {
        let ground = self.shared.ground();
        let known = |is: fn(&Ground, IpAddr) -> bool| !peer.nameless && is(&ground, peer.address.ip());
        Link {
            encrypted: self.tls == ListenerTls::Implicit,
            normalize_bare_lf: known(Ground::normalizes_bare_lf),
            xclient: known(Ground::may_xclient),
        }
    }

    /// What a client is told for whom there is no place.
    pub(crate) fn over_limit(&self, full: Full, client: IpAddr) -> Reply {
        let hostname = &self.shared.hostname;
        let (counter, reply) = match full {
            Full::Pod => (&self.metrics.over_limit, Reply::server_busy(hostname)),
            Full::Listener => (&self.metrics.over_listener_limit, Reply::server_busy(hostname)),
            Full::Client => {
                (&self.metrics.over_client_limit, Reply::too_many_connections(hostname, &client.to_string()))
            }
        };
        counter.increment(1);
        reply
    }

    /// The listener's name.
    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What the DNS says that it is called, if that could be verified.
    pub(crate) name: Option<Arc<str>>,
    /// Whoever brought it could not say where it is; it has no rights, least of all those of who brought it.
    pub(crate) nameless: bool,
    /// It is in one of the trusted networks.
    pub(crate) trusted: bool,
}

impl Peer {
    /// Somebody of whom nothing is known but the address through which he comes.
    pub(crate) fn nameless(address: SocketAddr) -> Self {
        Self { address, name: None, nameless: true, trusted: false }
    }

    /// As the limits see it.
    pub(crate) fn guest(&self) -> Guest {
        match self {
            Self { nameless: true, .. } => Guest::Nameless,
            Self { trusted: true, .. } => Guest::Trusted,
            _ => Guest::Stranger(self.address.ip()),
        }
    }
}
