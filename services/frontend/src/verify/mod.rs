//! Would a recipient's own server take mail for him (Postfix: `reject_unverified_recipient`)? It is asked when a stranger
//! names him, so that what it refuses is refused here, and does not go back to whoever the stranger named as its sender.
//!
//! ```text
//! Redis knows it ─▶ the server was out of reach a moment ago ─▶ somebody asks already ─▶ a probe: MAIL, RCPT, QUIT
//! ```
//!
//! A stranger must not be able to make us hammer a mailbox server: answers are kept for the whole cluster, one question
//! at a time for a recipient, few for a server, and so many in ten minutes for a client. A server that cannot be asked
//! in seconds does not stop mail, and is not asked again for a minute. Nothing but a question ever goes there, so no
//! message can loop; a question that comes back to us finds itself under way and ends with its time.

mod flights;
mod hops;
mod probe;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_config::Config;
use staffetta_mail::Address;
use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_policy::client;
use staffetta_policy::relay::AtRoute;
use staffetta_policy::routing::Submitter;
use staffetta_queue::{Queue, Rate, Verification, Verifications};
use staffetta_smtp::client::{Failure as SessionFailure, Stage};
use staffetta_transport::dns::Resolver;
use staffetta_transport::hop::{Login, NextHop, Router};

use crate::metrics::VerifyMetrics;
use crate::quota::Quota;
use flights::{Flight, Flights};
use hops::Hops;
use probe::Prober;

/// Longest wait for a turn to ask, and for the answer. A client waits for both.
const TURN: Duration = Duration::from_millis(1_500);
const PROBE: Duration = Duration::from_secs(4);
/// Questions that a client may cause.
const PER_CLIENT: Rate = Rate { count: 200, per: Duration::from_secs(600) };

/// What is known of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// His server takes mail for him, or cannot be asked.
    Takes,
    /// It refuses him for good, with these words.
    Refuses(Arc<str>),
    /// There is no such server, and this is why.
    NoWay(Arc<str>),
    /// There was no turn to ask.
    Busy,
}

/// What a message demands of the server that gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    pub(crate) smtputf8: bool,
    /// REQUIRETLS.
    pub(crate) require_tls: bool,
}

/// Asks, and remembers what was said. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Verifier(Arc<Inner>);

struct Inner {
    hostname: String,
    router: Router,
    prober: Prober,
    known: Verifications,
    flights: Arc<Flights>,
    hops: Hops,
    clients: Quota,
    metrics: VerifyMetrics,
}

impl Verifier {
    pub(crate) fn new(config: &Config, queue: &Queue, resolver: Resolver) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            hostname: config.hostname.clone(),
            router: Router::new(config),
            prober: Prober::new(config, resolver)?,
            known: queue.verifications(),
            flights: Arc::default(),
            hops: Hops::default(),
            clients: Quota::new(queue, "probe"),
            metrics: VerifyMetrics::new(),
        })))
    }

    /// About a recipient whom this client names for a message that somebody hands in with these demands; where that message would go. The bare postmaster is this host's.
    pub(crate) async fn ask(&self, client: IpAddr, by: Submitter<'_>, recipient: &Address, demands: Demands) -> Answer {
        let inner = &self.0;
        let Some(recipient) = inner.qualified(recipient) else { return Answer::Takes };
        let hop = inner.router.hop(&recipient.domain_key().unwrap_or_default(), Some(by));
        // The tokens are the workers'.
        if matches!(hop.login, Some(Login::Token(_))) {
            return Answer::Takes;
        }
        let who = hop.inquiry(&recipient) + demands.suffix();
        if let Some(said) = inner.recall(&who).await {
            inner.metrics.from_cache.increment(1);
            return said.into();
        }
        if let Some(answer) = inner.hops.resting(&hop.key, Instant::now()) {
            inner.metrics.from_rest.increment(1);
            return answer;
        }
        if let Some(flight) = inner.flights.join(&who) {
            inner.metrics.from_flight.increment(1);
            return flight.answer().await;
        }
        if !inner.clients.acquire(&client::network(client).to_string(), PER_CLIENT).await {
            inner.clients.refused();
            return Answer::Busy;
        }
        let (flight, waiting) = inner.flights.begin(&who);
        if let Some(flight) = flight {
            inner.metrics.from_probe.increment(1);
            // It goes on if the client leaves: what it finds out is paid for.
            tokio::spawn(self.clone().fly(flight, hop, who, (recipient, demands)));
        }
        waiting.answer().await
    }

    async fn fly(self, flight: Flight, hop: NextHop, who: String, asked: (Address, Demands)) {
        let inner = &self.0;
        let answer = match inner.find_out(&hop, &asked.0, asked.1).await {
            Found::Recipient(said) => {
                inner.remember(&who, &said).await;
                said.into()
            }
            Found::Server(answer) => {
                inner.hops.rest(&hop.key, answer.clone(), Instant::now());
                answer
            }
            Found::Nothing(answer) => answer,
        };
        flight.land(answer);
    }
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// An answer about the recipient.
    Recipient(Verification),
    /// Something that holds for all recipients there, for a while.
    Server(Answer),
    /// It was not put.
    Nothing(Answer),
}

impl Inner {
    fn qualified(&self, recipient: &Address) -> Option<Address> {
        match recipient.domain_str() {
            Some(_) => Some(recipient.clone()),
            None => Address::parse(&format!("{recipient}@{}", self.hostname)).ok(),
        }
    }

    async fn recall(&self, who: &str) -> Option<Verification> {
        let said = self.known.recall(who).await;
        said.inspect_err(|error| tracing::debug!(%error, "what is known of a recipient cannot be read")).ok()?
    }

    async fn remember(&self, who: &str, said: &Verification) {
        if let Err(error) = self.known.remember(who, said, said.life()).await {
            tracing::debug!(%error, "what a server said of a recipient is not kept");
        }
    }

    async fn find_out(&self, hop: &NextHop, recipient: &Address, demands: Demands) -> Found {
        let turn = tokio::time::timeout(TURN, self.hops.turn(&hop.key)).await;
        // Those who had a turn may have found out that nobody is there.
        if let Some(answer) = self.hops.resting(&hop.key, Instant::now()) {
            return Found::Nothing(answer);
        }
        let Ok(_turn) = turn else {
            self.metrics.busy.increment(1);
            return Found::Nothing(Answer::Busy);
        };
        let name = hop.name();
        let found = match tokio::time::timeout(PROBE, self.prober.ask(hop, recipient, demands)).await {
            Ok(Ok(())) => Found::Recipient(Verification::Deliverable),
            Ok(Err(failure)) => judged(&failure, &name),
            Err(_) => {
                tracing::info!(hop = name, "a server does not answer questions about recipients in time");
                Found::Server(Answer::Takes)
            }
        };
        self.metrics.probed(&found);
        found
    }
}

/// What a failure says, and of whom. A message is never stopped by what may be different when it is delivered.
fn judged(failure: &Failure, hop: &str) -> Found {
    let verdict = classify(failure, hop);
    let for_good = verdict.finally() == Action::Bounce;
    match failure {
        Failure::Session { failure: SessionFailure::NoSmtpUtf8 { .. } | SessionFailure::NoRequireTls, .. } => {
            Found::Recipient(Verification::Undeliverable(verdict.text))
        }
        Failure::Session { failure, .. } if failure.stage() == Stage::Rcpt => {
            Found::Recipient(if for_good { Verification::Undeliverable(verdict.text) } else { Verification::Unknown })
        }
        // It may be the null path that a server refuses, or this pod's address; workers have others.
        Failure::Session { failure, .. } if *failure != SessionFailure::Loop => unreachable_server(&verdict.text, hop),
        _ if for_good => Found::Server(Answer::NoWay(verdict.text.into())),
        _ => unreachable_server(&verdict.text, hop),
    }
}

fn unreachable_server(reason: &str, hop: &str) -> Found {
    tracing::info!(hop, reason, "a server cannot be asked about recipients now");
    Found::Server(Answer::Takes)
}

impl Demands {
    /// To the name under which an answer is kept.
    const fn suffix(self) -> &'static str {
        match (self.smtputf8, self.require_tls) {
            (false, false) => "",
            (true, false) => " SMTPUTF8",
            (false, true) => " REQUIRETLS",
            (true, true) => " SMTPUTF8 REQUIRETLS",
        }
    }
}

impl From<Verification> for Answer {
    fn from(said: Verification) -> Self {
        match said {
            Verification::Deliverable | Verification::Unknown => Self::Takes,
            Verification::Undeliverable(text) => Self::Refuses(text.into()),
        }
    }
}

impl Answer {
    /// As the policy calls it, and the words of the server.
    pub(crate) fn into_fact(self) -> (AtRoute, Option<Arc<str>>) {
        match self {
            Self::Takes => (AtRoute::Takes, None),
            Self::Refuses(said) => (AtRoute::Refuses, Some(said)),
            Self::NoWay(why) => (AtRoute::NoWay, Some(why)),
            Self::Busy => (AtRoute::Busy, None),
        }
    }
}

impl VerifyMetrics {
    fn probed(&self, found: &Found) {
        let counter = match found {
            Found::Recipient(Verification::Deliverable) => &self.deliverable,
            Found::Recipient(Verification::Undeliverable(_)) => &self.undeliverable,
            Found::Recipient(Verification::Unknown) => &self.unknown,
            Found::Server(_) | Found::Nothing(_) => &self.unavailable,
        };
        counter.increment(1);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
