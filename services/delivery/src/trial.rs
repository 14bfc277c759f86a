//! Tries what routes log in with, for `staffetta check`.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use staffetta_config::{Config, Timeouts};
use staffetta_policy::classify;
use staffetta_policy::source::Pool;
use staffetta_policy::tls::Need;
use staffetta_queue::{Queue, Revocations, Settings};
use staffetta_smtp::client::{Failure, Secret, Stage};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::fallback::{BrokenTls, Fallback};
use staffetta_transport::hop::{Login, NextHop, Router};
use staffetta_transport::itinerary::{Announced, Candidate, Planner};
use staffetta_transport::token::Tokens;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::{Connection, Opener};
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::{InRedis, planner};

/// How long the servers of a route may take in all, and each step.
const PATIENCE: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_secs(3);
/// Servers of a route that are asked, one after the other: those that do not answer are no proof.
const MOST: usize = 4;

/// No step takes longer than an operator has patience.
fn hasty(timeouts: Timeouts) -> Timeouts {
    let Timeouts { connect, greeting, tls, helo, mail, .. } = timeouts;
    let [connect, greeting, tls, helo, mail] = [connect, greeting, tls, helo, mail].map(|limit| limit.min(STEP));
    Timeouts { connect, greeting, tls, helo, mail, ..timeouts }
}

/// Nobody has let us in at a route.
#[derive(Debug)]
pub enum Closed {
    /// A server has refused the login, with these words.
    Refused(String),
    /// The login was shown to nobody, because of this.
    Untried(String),
}

fn untried(failure: &classify::Failure) -> Closed {
    Closed::Untried(classify::classify(failure, "").text)
}

/// Another day it would be the same.
fn is_refusal(failure: &Failure) -> bool {
    match failure {
        Failure::Reply { stage: Stage::Auth, reply } => reply.code / 100 == 5,
        Failure::NoMechanism => true,
        _ => false,
    }
}

/// A server may repeat what it was shown.
fn without_secret(words: &str, hop: &NextHop) -> String {
    let Some(Login::Password(credentials)) = &hop.login else { return words.to_owned() };
    let Secret::Password(password) = &credentials.secret else { return words.to_owned() };
    let plain = format!("\0{}\0{password}", credentials.username);
    let shown = [password.clone(), BASE64_STANDARD.encode(password), BASE64_STANDARD.encode(plain)];
    shown
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(words.to_owned(), |words, secret| words.replace(secret.as_str(), "…"))
}

/// What connections need, as workers have it.
pub struct Trial {
    /// Of each route that says with what to log in.
    hops: Vec<(usize, NextHop)>,
    planner: Planner,
    tls: TlsClient,
    tokens: Tokens,
    timeouts: Timeouts,
    addresses: Pool,
    metrics: Metrics,
    revocations: Revocations,
    /// Nobody has failed lately.
    lately: (BrokenTls, Fallback),
    _stop: DropGuard,
}

impl Trial {
    /// With the routes of the configuration. What is granted is kept in the queue's Redis, as ever.
    ///
    /// # Errors
    /// The CA bundle is unreadable, or what the file says of the DNS or of Redis cannot be used.
    pub fn new(config: &Config, queue: &Queue) -> anyhow::Result<Self> {
        let delivery = &config.delivery;
        let stop = CancellationToken::new();
        let tls = TlsClient::new(delivery.ca.as_deref()).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let resolver =
            Resolver::new(&DnsSettings::from(&config.dns)).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        Ok(Self {
            hops: Router::new(config).hops_with_login().collect(),
            planner: planner(config, resolver, tls.clone(), queue),
            tokens: Tokens::new(tls.clone(), Box::new(InRedis(queue.tokens()))),
            tls,
            timeouts: hasty(delivery.timeouts),
            addresses: delivery.source_addresses.iter().copied().collect(),
            metrics: Metrics::new(),
            revocations: Revocations::follow(&Settings::from(config), stop.clone())?,
            lately: Default::default(),
            _stop: stop.drop_guard(),
        })
    }

    /// Asks for a token for each route that logs in with one: the index of the route, and why it gets none.
    pub async fn tokens(&self) -> Vec<(usize, String)> {
        let mut problems = Vec::new();
        for (index, hop) in &self.hops {
            if let Some(Login::Token(account)) = &hop.login
                && let Err(error) = self.tokens.try_now(account).await
            {
                problems.push((*index, error.to_string()));
            }
        }
        problems
    }

    /// Logs in at the servers of each route that says with what: the index of the route, and what has become of it where nobody
    /// has let us in.
    pub async fn logins(&self) -> Vec<(usize, Closed)> {
        // Not where a recipient's domain says which servers these are.
        let fixed = self.hops.iter().filter(|(_, hop)| Router::asks_for_hosts(hop) != Some(""));
        let tried = fixed.map(async |(index, hop)| {
            let tried = tokio::time::timeout(PATIENCE, self.login(hop)).await;
            let closed = tried.unwrap_or_else(|_| Err(Closed::Untried("no answer".to_owned()))).err()?;
            Some((*index, closed))
        });
        join_all(tried).await.into_iter().flatten().collect()
    }

    /// The first server that answers decides.
    async fn login(&self, hop: &NextHop) -> Result<(), Closed> {
        let plan = self.planner.plan(hop, Need::Nothing).await.map_err(|failure| untried(&failure))?;
        let mut closed = Closed::Untried("there is no server".to_owned());
        let mut round = self.planner.round(hop, Need::Nothing, plan.into_iter().take(MOST).collect());
        while let Some((candidate, published)) = round.next().await {
            match self.open(hop, &candidate, &published).await {
                Ok(mut connection) => {
                    connection.session.quit();
                    connection.close().await;
                    return Ok(());
                }
                Err(classify::Failure::Session { peer, failure }) if is_refusal(&failure) => {
                    return Err(Closed::Refused(without_secret(&format!("{peer}: {failure}"), hop)));
                }
                Err(failure) => closed = untried(&failure),
            }
        }
        Err(closed)
    }

    async fn open(
        &self,
        hop: &NextHop,
        candidate: &Candidate,
        published: &Announced,
    ) -> Result<Connection, classify::Failure> {
        let pool = hop.pool.as_deref().unwrap_or(&self.addresses);
        let source = candidate.endpoint.ip().and_then(|ip| pool.choose(ip, rand::random(), |_| true));
        let origin = Origin {
            address: source.map(|source| source.address),
            name: source.and_then(|source| source.hostname.clone()),
            allowance: None,
        };
        let opener = Opener {
            hop,
            published,
            tls: &self.tls,
            tokens: &self.tokens,
            timeouts: &self.timeouts,
            origin: &origin,
            metrics: &self.metrics,
            fallback: &self.lately.0,
            unchunked: &self.lately.1,
            unscrammed: &self.lately.1,
            revocations: &self.revocations,
            need: Need::Nothing,
            sessions: None,
        };
        opener.open(candidate, Instant::now()).await
    }
}
