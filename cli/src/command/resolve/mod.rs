//! `staffetta resolve`: what a delivery would do with mail for a domain, and why. It asks the same questions as a worker and
//! lets the same code decide; nothing is connected to but name servers, Redis and the web servers of MTA-STS policies.
//!
//! Exit code 0: a delivery would have somebody to connect to. 1: it would not, or nobody can say. 2: that is no domain.

mod render;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use staffetta_config::{Config, Service};
use staffetta_delivery::spent_on;
use staffetta_mail::tls_report::Destination;
use staffetta_mail::{Address, ReversePath};
use staffetta_policy::classify::Failure;
use staffetta_policy::mx;
use staffetta_policy::routing::Submitter;
use staffetta_policy::source::{Pool, Source, day_of};
use staffetta_policy::tls::{Need, Security};
use staffetta_queue::{Queue, Settings, Target as Barred};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::dns::{DnsError, DnsSettings, Resolver};
use staffetta_transport::hop::{NextHop, Router, Target};
use staffetta_transport::itinerary::{Candidate, Planner, Survey};
use tokio_util::sync::CancellationToken;

use super::suspended::{Curbed, Suspended};
use crate::arguments::Resolve;
use crate::terminal::{complain, say};

/// How long Redis may take to be there; only policies that were seen before are missed without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that is known in the end.
struct Report {
    domain: String,
    /// The index of the route, if one is for the domain.
    route: Option<usize>,
    /// Mail of some senders goes another way, and nobody has said whose this is.
    others: bool,
    /// Whom the sender became when the message came in, if he did.
    canonical: Option<ReversePath>,
    /// Each recipient gets mail from an address of his own.
    verp: bool,
    hop: NextHop,
    /// One for each way that a delivery would look at, in their order.
    surveys: Vec<Survey>,
    /// What stops mail before it is delivered: blocks of its domain or its sender's, suppressed recipients.
    barred: Vec<Curbed>,
    /// Why it gets no mail for a while, if it does not.
    suspended: Option<String>,
    /// Why it gets none from other addresses of ours than this mail comes from.
    suspended_for_others: Vec<String>,
    /// What it gets less of for a while.
    curbs: Vec<Curbed>,
    /// Our addresses that it may come from; none: what the system chooses.
    sources: Vec<Origin>,
    /// All of them together.
    plan: Result<Vec<Candidate>, Failure>,
    /// Who wants to hear of the TLS of its mail; `None`: nobody is asked, where it does not go to the domain's own hosts.
    wishes: Option<Result<Vec<Destination>, DnsError>>,
    /// Whom a delivery would connect to, in this order.
    ways: Vec<Way>,
}

/// One address of ours.
struct Origin {
    source: Source,
    is_out: bool,
    /// How many messages it may send today, if it is new and the day is known.
    today: Option<u32>,
    /// How many of these are gone.
    spent: Option<u32>,
}

/// One address.
struct Way {
    candidate: Candidate,
    /// What would be asked there; or why it would be passed by.
    security: Result<Security, Failure>,
    /// Why it gets commands one by one, if it does.
    lock_step: Option<String>,
}

pub(super) async fn run(resolve: &Resolve) -> anyhow::Result<ExitCode> {
    let config = resolve.file.load(Service::Delivery)?;
    let Some((domain, recipient)) = destination(&resolve.domain) else {
        let allowed = "a name such as example.org, an address literal such as [192.0.2.1], a mail address";
        complain(&format!("{:?} is no domain; allowed: {allowed}", resolve.domain));
        return Ok(ExitCode::from(2));
    };
    let resolver = Resolver::new(&DnsSettings::from(&config.dns)).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    let tls = TlsClient::new(config.delivery.ca.as_deref()).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let queue = Queue::open(Settings::from(&config).only_looking(), stop).context("cannot use redis.url")?;
    if config.delivery.mta_sts
        && let Err(error) = queue.ready(PATIENCE).await
    {
        complain(&format!("warning: MTA-STS policies that the cluster keeps are not looked at: {error}"));
    }
    let planner = staffetta_delivery::planner(&config, resolver, tls, &queue);
    let login = resolve.login.as_deref();
    let by = match &resolve.sender {
        None if login.is_none() => None,
        sender => Some(Submitter { sender: sender.as_ref().unwrap_or(&ReversePath::Null), login }),
    };
    let report = report(&config, &queue, &planner, (domain, recipient), by).await;
    if resolve.json {
        say(&render::json(&config, &report).to_string());
    } else {
        render::lines(&config, &report).iter().for_each(|line| say(line));
    }
    Ok(if report.is_deliverable() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The domain as deliveries know it, in lower case and A-labels, and the recipient if one was named.
fn destination(text: &str) -> Option<(String, Option<Address>)> {
    if text.contains('@') {
        let address: Address = text.parse().ok()?;
        return Some((address.domain_key()?, Some(address)));
    }
    let postmaster: Address = format!("postmaster@{text}").parse().ok()?;
    Some((postmaster.domain_key()?, None))
}

/// All that may be blocked or suppressed of such mail.
fn targets(domain: &str, recipient: Option<&Address>, by: Option<Submitter<'_>>) -> Vec<Barred> {
    let from = by.and_then(|by| by.sender.address()).and_then(Address::domain_key);
    let login = by.and_then(|by| by.login).map(Barred::login);
    let domains = [Some(domain), from.as_deref()].into_iter().flatten().map(Barred::domain);
    let recipients = [Some(format!("@{domain}")), recipient.map(|address| address.as_str().to_owned())];
    let recipients = recipients.iter().flatten().map(|recipient| Barred::recipient(recipient));
    domains.chain(recipients).chain(login).filter_map(Result::ok).collect()
}

async fn report(
    config: &Config,
    queue: &Queue,
    planner: &Planner,
    (domain, recipient): (String, Option<Address>),
    by: Option<Submitter<'_>>,
) -> Report {
    let address = by.and_then(|by| by.sender.address());
    let canonical = address.and_then(|address| config.frontend.canonical_senders().of(address));
    let canonical = canonical.map(ReversePath::Address);
    let by = by.map(|by| Submitter { sender: canonical.as_ref().unwrap_or(by.sender), ..by });
    let sender = by.map(|by| by.sender);
    let verp = sender.is_some_and(|sender| config.verp().signer(sender).is_some());
    let router = Router::new(config);
    let hop = router.hop(&domain, by);
    let hosts = match Router::asks_for_hosts(&hop) {
        Some(domain) => planner.mail_hosts(domain).await,
        None => Vec::new(),
    };
    let (hop, route) = (router.at_its_site(&hop, hosts), hop.route);
    let others = by.is_none() && router.depends_on_submitter(&domain);
    let surveys = planner.survey(&hop, Need::Nothing).await;
    let plan = mx::one_after_the_other(surveys.iter().map(|survey| survey.plan.clone()));
    let all = Suspended::look_if_possible(config).await;
    let mut ways = Vec::new();
    let mut round = planner.round(&hop, Need::Nothing, plan.clone().unwrap_or_default());
    while let Some((candidate, published)) = round.next().await {
        let security = published.and_then(|published| hop.security(&candidate, &published, Need::Nothing, false));
        let lock_step = all.as_ref().zip(candidate.endpoint.ip()).and_then(|(all, ip)| all.lock_step_of(ip));
        ways.push(Way { candidate, security, lock_step });
    }
    let barred = all.as_ref().map(|all| all.barred(&targets(&domain, recipient.as_ref(), by))).unwrap_or_default();
    let suspended = all.as_ref().and_then(|all| all.among(&hop.names(&domain)));
    let suspended_for_others = all.as_ref().map(|all| all.for_other_pools(&hop.names(&domain))).unwrap_or_default();
    let curbs = all.as_ref().map(|all| all.curbs_of(&[hop.speaker(), hop.party()])).unwrap_or_default();
    let day = all.as_ref().map(|all| day_of(all.now()));
    let origin = async |source: Source| Origin {
        is_out: all.as_ref().is_some_and(|all| all.has_source(source.address)),
        today: day.and_then(|day| source.warm_up.as_ref()?.allowed_on(day)),
        spent: match day {
            Some(day) => spent_on(day, &source, queue).await,
            None => None,
        },
        source,
    };
    let wishes = match &hop.key.targets[..] {
        [Target::Domain(domain)] => Some(planner.who_wants_reports(domain).await),
        _ => None,
    };
    let sources = join_all(sources(config, &hop).into_iter().map(origin)).await;
    Report {
        domain,
        route,
        others,
        canonical,
        verp,
        hop,
        surveys,
        barred,
        suspended,
        suspended_for_others,
        curbs,
        sources,
        plan,
        wishes,
        ways,
    }
}

/// Those of the pool; without one those of `delivery.source_addresses`.
fn sources(config: &Config, hop: &NextHop) -> Vec<Source> {
    match &hop.pool {
        Some(pool) => pool.sources.clone(),
        None => config.delivery.source_addresses.iter().copied().collect::<Pool>().sources,
    }
}

impl Report {
    fn is_deliverable(&self) -> bool {
        self.ways.iter().any(|way| way.security.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_what_a_recipient_may_have() {
        for (text, expected) in [
            ("Example.ORG", Some("example.org")),
            ("john@Example.org", Some("example.org")),
            ("[192.0.2.1]", Some("[192.0.2.1]")),
            ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("", None),
            ("a b", None),
            ("a@b@c", None),
        ] {
            assert_eq!(destination(text).map(|(domain, _)| domain).as_deref(), expected, "{text:?}");
        }
    }
}
