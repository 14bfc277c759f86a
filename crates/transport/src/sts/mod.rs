//! MTA-STS (RFC 8461): the policy that holds for the mail of a domain, from its web server, and kept until its time is over.
//!
//! ```text
//! this pod looked a moment ago ─▶ TXT at _mta-sts, and what the cluster keeps ─▶ the same id: what is kept
//!                                                                             ─▶ another: fetched, and kept
//! ```
//!
//! Whoever can hide the record or the web server gets nothing by it while a policy is kept. A fetch that fails is not
//! tried again for some minutes; without a kept policy the domain then has none (section 3.3). A policy that has spent half
//! of its life is fetched again beside the mail.

mod fetch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use metrics::Counter;
use moka::future::Cache;
use staffetta_mail::tls_report::Flaw;
use staffetta_policy::sts::{Policy, announced};

use crate::connect::TlsClient;
use crate::dns::Resolver;
use crate::tally::tally;
pub use fetch::FetchError;
use fetch::Fetcher;

/// Octets that this pod remembers of policies, about: 50,000 ordinary domains, or some 50 whose files are as long as they may be.
const MEMORY: u64 = 32 * 1024 * 1024;
/// Failures that it remembers.
const FAILURES: u64 = 50_000;
/// How long it does not look again.
const FRESH: Duration = Duration::from_secs(60);
/// How long it does not fetch again what could not be fetched (section 3.3).
const REST: Duration = Duration::from_secs(300);
/// Mail does not wait longer than this for the TXT record: a policy that is kept holds without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// A policy is fetched anew at least as often as this, however long it holds (section 5.1).
const DAY: Duration = Duration::from_secs(86_400);

/// What a [`Shelf`] promises.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where the cluster keeps policies, as texts.
pub trait Shelf: Send + Sync + 'static {
    /// The text of a domain, and how long it still holds. `None` also when nobody can say.
    fn recall(&self, domain: &str) -> Later<Option<(String, Duration)>>;
    /// Keeps it for so long, if that is possible.
    fn keep(&self, domain: &str, text: String, life: Duration) -> Later<()>;
}

/// What is known of a domain.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// The policy that holds.
    pub policy: Option<Arc<Policy>>,
    /// Which one it is, in the words of the domain.
    pub id: Option<String>,
    /// Why there is none, or not the newest.
    pub problem: Option<String>,
    /// What the domain is told of that, if it is its fault.
    pub flaw: Option<Flaw>,
}

/// Finds policies. Cheap to clone.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    fetcher: Fetcher,
    shelf: Box<dyn Shelf>,
    known: Cache<String, Finding>,
    /// Domain and id of what could not be fetched, and why.
    failed: Cache<(String, String), (Flaw, String)>,
    fetched: Counter,
    fetch_failed: Counter,
}

/// A policy with its id: what lies on a [`Shelf`].
struct Kept {
    id: String,
    policy: Policy,
    left: Duration,
}

/// The family of fetches: those that were answered, and those that were not.
pub fn declare_metrics() -> [Counter; 2] {
    const FETCHES: &str = "staffetta_mta_sts_fetch_total";
    tally(FETCHES, "Attempts to fetch the MTA-STS policy of a domain.", ["fetched", "failed"])
}

impl Policies {
    /// With what it asks by. `port` is 443 but in tests.
    pub fn new(resolver: Resolver, tls: TlsClient, port: u16, blocked: Vec<IpNet>, shelf: Box<dyn Shelf>) -> Self {
        let [fetched, fetch_failed] = declare_metrics();
        Self(Arc::new(Inner {
            fetcher: Fetcher { resolver: resolver.clone(), tls, port, blocked },
            resolver,
            shelf,
            known: Cache::builder().max_capacity(MEMORY).weigher(Finding::octets).time_to_live(FRESH).build(),
            failed: Cache::builder().max_capacity(FAILURES).time_to_live(REST).build(),
            fetched,
            fetch_failed,
        }))
    }

    /// What holds for the mail of `domain`, now. All that ask at the same time share one look.
    pub async fn of(&self, domain: &str) -> Finding {
        if let Some(finding) = self.0.known.get(domain).await {
            return finding;
        }
        self.0.known.get_with(domain.to_owned(), self.clone().look(domain.to_owned())).await
    }

    async fn look(self, domain: String) -> Finding {
        let inner = &self.0;
        let record = format!("_mta-sts.{domain}");
        let texts = tokio::time::timeout(PATIENCE, inner.resolver.texts(&record));
        let (texts, kept) = tokio::join!(texts, inner.shelf.recall(&domain));
        let kept = kept.and_then(|(text, left)| Kept::read(&text, left));
        let (texts, problem) = match texts {
            Ok(Ok(texts)) => (texts, None),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
            Err(_) => (Vec::new(), Some(format!("no answer in time about {record}"))),
        };
        match announced(&texts) {
            Some(id) if kept.as_ref().is_none_or(|kept| kept.id != id) => {
                match self.renew(domain, id.to_owned()).await {
                    Ok(policy) => {
                        Finding { policy: Some(Arc::new(policy)), id: Some(id.to_owned()), ..Finding::default() }
                    }
                    Err((flaw, problem)) => Finding { flaw: Some(flaw), ..Finding::of(kept).because(problem) },
                }
            }
            // Also without a record: who hides it would else only have to wait until the policy has run out (RFC 8461 section 10.2).
            _ => {
                if let Some(kept) = kept.as_ref().filter(|kept| kept.is_old()) {
                    tokio::spawn(self.clone().renew(domain, kept.id.clone()));
                }
                Finding { problem, ..Finding::of(kept) }
            }
        }
    }

    /// Fetches the policy of this id and keeps it.
    async fn renew(self, domain: String, id: String) -> Result<Policy, (Flaw, String)> {
        let inner = &self.0;
        let which = (domain, id);
        if let Some(known) = inner.failed.get(&which).await {
            return Err(known);
        }
        let (domain, id) = &which;
        match inner.fetcher.fetch(domain).await {
            Ok(policy) => {
                inner.fetched.increment(1);
                let life = Duration::from_secs(policy.max_age);
                inner.shelf.keep(domain, format!("{id}\n{policy}"), life).await;
                Ok(policy)
            }
            Err(error) => {
                inner.fetch_failed.increment(1);
                tracing::info!(domain, %error, "failed to fetch the MTA-STS policy");
                let problem = (error.flaw(), format!("failed to fetch the policy: {error}"));
                inner.failed.insert(which, problem.clone()).await;
                Err(problem)
            }
        }
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

impl Finding {
    /// About what it takes in memory, for the domain of this name.
    #[expect(clippy::ptr_arg, reason = "the cache lends its key as it is")]
    fn octets(domain: &String, finding: &Self) -> u32 {
        let hosts = finding.policy.iter().flat_map(|policy| &policy.hosts);
        let octets = hosts.fold(512 + domain.len(), |sum, host| sum + 40 + host.len());
        octets.try_into().unwrap_or(u32::MAX)
    }

    fn of(kept: Option<Kept>) -> Self {
        let (policy, id) = kept.map(|kept| (Arc::new(kept.policy), kept.id)).unzip();
        Self { policy, id, ..Self::default() }
    }

    fn because(self, problem: String) -> Self {
        Self { problem: Some(problem), ..self }
    }
}

impl Kept {
    /// The id, a line break, the policy. What cannot be read is as good as not kept.
    fn read(text: &str, left: Duration) -> Option<Self> {
        let (id, policy) = text.split_once('\n')?;
        Some(Self { id: id.to_owned(), policy: Policy::parse(policy).ok()?, left })
    }

    /// Has it spent half of its life, or a day?
    fn is_old(&self) -> bool {
        let life = Duration::from_secs(self.policy.max_age);
        life.saturating_sub(self.left) > DAY.min(life / 2)
    }
}

#[cfg(test)]
mod tests;
