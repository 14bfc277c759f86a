//! What other domains are told of the TLS of the mail that they get from us (TLSRPT, RFC 8460): `delivery.tls_report`.
//!
//! ```text
//! connections ─▶ Sessions (this worker, some seconds) ─▶ counts of the cluster ─▶ a day later, by one worker: a report
//!                                                    ▲
//!                       does the domain want to hear of it? what is its policy?
//! ```
//!
//! Mail waits for none of it. What a worker that dies has not handed on is not told, and neither is what does not fit: all
//! that is kept has a bound. Mail for which TLS is optional is not counted, and so reports tell nothing of reports.

mod send;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use moka::future::Cache;
use staffetta_config::Config;
use staffetta_mail::tls_report::{Destination, Failure, Flaw, Kind, Outcome, Policy};
use staffetta_policy::tls::{Label, Need, Pins, Security, Sts, Trust};
use staffetta_queue::{Queue, TlsCounts, TlsPeriod};
use staffetta_transport::connect::Fault;
use staffetta_transport::hop::{NextHop, Target};
use staffetta_transport::itinerary::Candidate;
use staffetta_transport::sts::Finding;
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;
use send::Writer;

/// Kinds of sessions that a worker holds between two looks.
const MOST: usize = 10_000;
/// Between two looks, at most.
const LOOK: Duration = Duration::from_secs(5);
/// How long a domain may take to say whether it wants to hear of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Domains that are asked at a time.
const AT_ONCE: usize = 16;
/// Domains whose answer is remembered, and for how long; also that there was none.
const ANSWERS: u64 = 50_000;
const REMEMBERED: Duration = Duration::from_secs(600);
/// Octets that a report has of a policy: of its lines, and again of its hosts; and of a reason.
const POLICY: usize = 512;
const REASON: usize = 200;

/// What connections have seen since the last look.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Session, u64>>);

/// One session, and all that look the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    /// Whose mail it was for.
    domain: Arc<str>,
    basis: Basis,
    failure: Option<Failure>,
}

/// What it was under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Basis {
    Nothing,
    Sts,
    /// The records that can be used, of this host.
    Tlsa(Arc<str>, Option<Arc<Pins>>),
}

/// All that makes reports; only where they are wanted.
pub(crate) struct TlsReports {
    pub(crate) sessions: Sessions,
    /// Whether a domain wants to hear of it.
    wanted: Cache<Arc<str>, bool>,
    counts: TlsCounts,
    period: Duration,
    writer: Writer,
}

impl Sessions {
    /// A session with a host that got as far as TLS, or should have. `fault`: what was wrong.
    pub(crate) fn note(
        &self,
        (hop, need): (&NextHop, Need),
        peer: &Candidate,
        security: &Security,
        (from, fault): (Option<IpAddr>, Option<Fault>),
    ) {
        if security.label == Label::None {
            return;
        }
        let basis = match &security.trust {
            Trust::Dane(pins) => Basis::Tlsa(peer.host.clone(), Some(pins.clone())),
            _ if security.label == Label::Dane => Basis::Tlsa(peer.host.clone(), None),
            _ if peer.sts != Sts::Off => Basis::Sts,
            _ => Basis::Nothing,
        };
        let unlisted =
            || Fault { flaw: Flaw::ValidationFailure, reason: "the policy does not list the host".to_owned() };
        let fault = fault.or_else(|| (peer.sts == Sts::Testing { listed: false }).then(unlisted));
        self.add((hop, need), peer.way, basis, fault.map(|fault| failure(fault, Some(peer), from)));
    }

    /// There was no session with any host, or with this one: what is published about it, or what nobody could find out, forbids it.
    pub(crate) fn note_unproven(&self, hop: (&NextHop, Need), peer: Option<&Candidate>, flaw: Flaw, reason: &str) {
        let basis = match (flaw, peer) {
            (Flaw::DnssecInvalid, Some(peer)) => Basis::Tlsa(peer.host.clone(), None),
            _ => Basis::Sts,
        };
        let fault = Fault { flaw, reason: reason.to_owned() };
        self.add(hop, peer.map_or(0, |peer| peer.way), basis, Some(failure(fault, peer, None)));
    }

    fn add(&self, (hop, need): (&NextHop, Need), way: usize, basis: Basis, failure: Option<Failure>) {
        let Some(Target::Domain(domain)) = hop.key.targets.get(way) else { return };
        if need == Need::Waived {
            return;
        }
        let session = Session { domain: domain.clone(), basis, failure };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&session) {
            *count += 1;
        } else if counts.len() < MOST {
            counts.insert(session, 1);
        }
    }

    fn take(&self) -> HashMap<Session, u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn failure(Fault { flaw, mut reason }: Fault, peer: Option<&Candidate>, from: Option<IpAddr>) -> Failure {
    reason.truncate(reason.floor_char_boundary(REASON));
    Failure {
        flaw,
        from,
        host: peer.map(|peer| peer.host.to_string()),
        address: peer.and_then(|peer| peer.endpoint.ip()),
        reason: Some(reason),
    }
}

impl TlsReports {
    /// None: the configuration asks for no reports.
    pub(crate) fn new(config: &Config, queue: &Queue) -> Option<Self> {
        let (counts, period) = (queue.tls_counts(), config.delivery.tls_report.period);
        let wanted = Cache::builder().max_capacity(ANSWERS).time_to_live(REMEMBERED).build();
        Some(Self { sessions: Sessions::default(), wanted, counts, period, writer: Writer::new(config)? })
    }

    /// Hands on what was seen, and sends what is due, until `stop`. Whoever is slow to take a report keeps no count waiting.
    pub(crate) async fn run(&self, worker: &Worker, stop: CancellationToken) {
        let pause = (self.period / 10).min(LOOK);
        let hand_on = async {
            while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                self.hand_on(worker).await;
            }
        };
        let send = stop.run_until_cancelled(async {
            loop {
                self.send_all(worker).await;
                tokio::time::sleep(pause).await;
            }
        });
        tokio::join!(hand_on, send);
    }

    /// Adds what this worker has seen to what the cluster has.
    pub(crate) async fn hand_on(&self, worker: &Worker) {
        let mut domains = HashMap::<Arc<str>, Vec<(Session, u64)>>::new();
        for (session, count) in self.sessions.take() {
            domains.entry(session.domain.clone()).or_default().push((session, count));
        }
        let period = self.period_of(worker.queue.now());
        let each = domains.into_iter().map(|(domain, sessions)| self.hand_on_one(worker, period, domain, sessions));
        futures_util::stream::iter(each).for_each_concurrent(AT_ONCE, |handed| handed).await;
    }

    async fn hand_on_one(
        &self,
        worker: &Worker,
        (start, end): (u64, u64),
        domain: Arc<str>,
        sessions: Vec<(Session, u64)>,
    ) {
        // Most domains have no such record.
        let asked = async { wishes(worker, &domain).await.is_ok_and(|wishes| !wishes.is_empty()) };
        if !self.wanted.get_with(domain.clone(), asked).await {
            return;
        }
        let finding = worker.planner.policy_of(&domain).await;
        let outcomes: Vec<(String, u64)> = sessions
            .iter()
            .flat_map(|(session, count)| outcomes(session, &finding).map(|text| (text, *count)))
            .collect();
        let period = TlsPeriod { domain: domain.to_string(), start, end };
        let due = end + self.delay(&domain);
        match self.counts.add(&period, due, &outcomes).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(domain = &*domain, "too many TLS reports are pending"),
            Err(error) => tracing::debug!(domain = &*domain, %error, "failed to count sessions for a TLS report"),
        }
    }

    /// The beginning of the period and of the next one, in UTC.
    fn period_of(&self, now: u64) -> (u64, u64) {
        let length = millis(self.period);
        let start = now - now % length;
        (start, start + length)
    }

    /// How long after its period a report is sent, in ms: not all at once (section 4.1), and when all workers have handed on.
    fn delay(&self, domain: &str) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};

        let mut hasher = DefaultHasher::new();
        (domain, self.writer.domain()).hash(&mut hasher);
        let hour = millis(self.period) / 24;
        hour + hasher.finish() % (3 * hour).max(1)
    }
}

/// Who wants to hear of a domain.
async fn wishes(worker: &Worker, domain: &str) -> anyhow::Result<Vec<Destination>> {
    let answer = tokio::time::timeout(PATIENCE, worker.planner.who_wants_reports(domain)).await;
    Ok(answer.context("the name servers do not answer")??)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What is kept of a session: what it was under and how it went; and that the policy could not be had, if so.
fn outcomes(session: &Session, finding: &Finding) -> impl Iterator<Item = String> {
    let policy = |kind| Policy { kind, lines: Vec::new(), domain: session.domain.to_string(), hosts: Vec::new() };
    let sts = || match &finding.policy {
        Some(found) => {
            let lines = cut(found.to_string().lines());
            Policy { lines, hosts: cut(found.hosts.iter().map(String::as_str)), ..policy(Kind::Sts) }
        }
        None => policy(Kind::Sts),
    };
    let basis = match &session.basis {
        Basis::Nothing => policy(Kind::None),
        Basis::Sts => sts(),
        Basis::Tlsa(host, pins) => {
            let domain = pins.as_ref().map_or(host, |pins| &pins.base).to_string();
            let records = pins.iter().flat_map(|pins| &pins.records).map(ToString::to_string).collect::<Vec<_>>();
            Policy { domain, lines: cut(records.iter().map(String::as_str)), ..policy(Kind::Tlsa) }
        }
    };
    let unfound = finding.flaw.filter(|_| session.basis == Basis::Nothing).map(|flaw| {
        let reason = finding.problem.clone().unwrap_or_default();
        Outcome { policy: policy(Kind::Sts), failure: Some(failure(Fault { flaw, reason }, None, None)) }
    });
    let outcome = Outcome { policy: basis, failure: session.failure.clone() };
    [Some(outcome), unfound].into_iter().flatten().map(|outcome| outcome.to_text())
}

/// The first lines, as far as there is room for them.
fn cut<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut left = POLICY;
    let fits = lines.take_while(|line| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    });
    fits.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
