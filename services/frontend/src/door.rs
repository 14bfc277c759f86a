//! One listener as its sessions see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use rustls::ServerConfig;
use staffetta_config::{Listener, ListenerTls};
use staffetta_smtp::server::Settings;
use staffetta_transport::tls::Certificates;
use tokio_util::sync::CancellationToken;

use crate::intake::Source;
use crate::limits::Guest;
use crate::metrics::{self, ListenerMetrics};
use crate::setup::{self, Shared};

/// All that the sessions of one listener have in common.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    /// Its place in the configuration, for the limits.
    pub(crate) index: usize,
    /// Its name and rules, for the intake.
    pub(crate) source: Source,
    pub(crate) tls: ListenerTls,
    /// Of this listener alone, with tickets of its own: a session of another, with other rules, is not resumed here.
    pub(crate) server_config: Option<Arc<ServerConfig>>,
    /// Who sends a PROXY header.
    proxies: Vec<IpNet>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: ListenerMetrics,
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
        let server_config = certificates.map(Certificates::server_config).transpose().context("tls")?;
        let tls = match listener.tls {
            ListenerTls::Starttls => "starttls",
            ListenerTls::Implicit => "implicit",
            ListenerTls::Off => "off",
        };
        Ok(Self {
            index,
            source: Source {
                name: listener.name.clone(),
                kind: setup::kind(listener),
                accepted: metrics::messages_accepted(&listener.name),
            },
            tls: listener.tls,
            server_config,
            proxies: [shared.proxies.as_slice(), &listener.proxy_from].concat(),
            settings: Arc::new(setup::session(listener, &shared)),
            metrics: ListenerMetrics::new(&listener.name, tls),
            shared,
            stop,
            kill,
        })
    }

    /// Is this a load balancer, which must say for whom it comes?
    pub(crate) fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&ip))
    }

    /// Who is at an address, as far as the address says it.
    pub(crate) fn peer(&self, address: SocketAddr) -> Peer {
        Peer { address, name: None, trusted: self.shared.is_trusted(address.ip()) }
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
    /// It is in one of the trusted networks.
    pub(crate) trusted: bool,
}

impl Peer {
    /// As the limits see it.
    pub(crate) fn guest(&self) -> Guest {
        if self.trusted { Guest::Trusted } else { Guest::Stranger(self.address.ip()) }
    }
}
