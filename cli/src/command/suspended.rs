//! Which destinations get no mail for a while, and which of our addresses send none, for commands that tell what becomes of mail.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use staffetta_config::Config;
use staffetta_mail::ReversePath;
use staffetta_policy::routing::Submitter;
use staffetta_queue::{Block, Target, UnixMillis};
use staffetta_transport::dns::{DnsSettings, Resolver};
use staffetta_transport::hop::{NextHop, Router};
use staffetta_transport::itinerary::Planner;

use super::block::{announcer, object, terms};
use crate::terminal::{complain, counted};

/// How long name servers are asked, in all, which destinations belong to the same servers.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sender, and a login.
type By = (ReversePath, Option<String>);

/// What is known of them.
pub(super) struct Suspended {
    destinations: Vec<(Target, Block)>,
    /// Those that only get less, or of which replies are final.
    curbed: Vec<(Target, Block)>,
    sources: Vec<IpAddr>,
    /// Hosts that get commands one by one.
    unpipelined: Vec<(IpAddr, Block)>,
    /// Domains and logins whose mail is refused, and recipients whose mail comes back.
    barred: Vec<(Target, Block)>,
    now: UnixMillis,
    /// By domain, and by sender and login where these matter.
    known: HashMap<(String, Option<By>), Standing>,
    left: Duration,
}

/// How a destination stands.
#[derive(Clone, Default)]
pub(super) struct Standing {
    /// How it is suspended, if it is.
    pub(super) suspended: Option<String>,
    /// What it gets less of.
    pub(super) curbs: Vec<Curbed>,
}

/// One thing that holds, for people and for programs.
#[derive(Clone)]
pub(super) struct Curbed {
    pub(super) text: String,
    pub(super) json: Value,
}

/// Who is asked where mail for a domain goes.
pub(super) struct Sites {
    router: Router,
    planner: Planner,
}

impl Sites {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let resolver = Resolver::new(&DnsSettings::from(&config.dns)).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
        Ok(Self { router: Router::new(config), planner: Planner::new(config, resolver) })
    }

    /// Where mail for a domain goes.
    async fn hop(&self, domain: &str, by: Option<Submitter<'_>>) -> NextHop {
        let hop = self.router.hop(domain, by);
        let hosts = match Router::asks_for_hosts(&hop) {
            Some(domain) => self.planner.mail_hosts(domain).await,
            None => Vec::new(),
        };
        self.router.at_its_site(&hop, hosts)
    }
}

impl Suspended {
    pub(super) async fn look(config: &Config) -> anyhow::Result<Self> {
        let (all, now) = announcer(config).await?.blocks().await?;
        let (mut destinations, mut curbed) = (Vec::new(), Vec::new());
        let (mut sources, mut unpipelined, mut barred) = (Vec::new(), Vec::new(), Vec::new());
        for (target, block) in all {
            match target {
                Target::Destination(_) => destinations.push((target, block)),
                Target::Slow(_) | Target::Fewer(_) | Target::Bounce { .. } => curbed.push((target, block)),
                Target::Source(address) => sources.push(address),
                Target::Unpipelined(address) => unpipelined.push((address, block)),
                Target::Domain(_) | Target::Recipient(_) | Target::Login(_) => barred.push((target, block)),
                Target::Client(_) => {}
            }
        }
        Ok(Self { destinations, curbed, sources, unpipelined, barred, now, known: HashMap::new(), left: PATIENCE })
    }

    /// The same for a list of mail, which is worth showing without it.
    pub(super) async fn look_if_possible(config: &Config) -> Option<Self> {
        match Self::look(config).await {
            Ok(suspended) => Some(suspended),
            Err(error) => {
                complain(&format!("warning: what is suspended is not known: {error:#}"));
                None
            }
        }
    }

    /// A line about how many there are; none if there are none.
    pub(super) fn summary(&self) -> Option<String> {
        let count = self.destinations.len() as u64;
        let line = counted(
            count,
            "destination is suspended, and its mail stays",
            "destinations are suspended, and their mail stays",
        );
        (count > 0).then(|| format!("{line}: see `staffetta destination list`"))
    }

    /// How many destinations get nothing.
    pub(super) fn count(&self) -> usize {
        self.destinations.len()
    }

    /// How many get less: one that gets less of two things is one.
    pub(super) fn count_curbed(&self) -> usize {
        let less = self.curbed.iter().filter(|(_, block)| block.curb.is_some());
        less.map(|(target, _)| target.name()).collect::<HashSet<_>>().len()
    }

    /// How many there are of which replies are final.
    pub(super) fn count_bouncing(&self) -> usize {
        let final_ones = self.curbed.iter().filter(|(_, block)| block.curb.is_none());
        final_ones.filter_map(|(target, _)| target.servers()).collect::<HashSet<_>>().len()
    }

    /// Does nothing hold for any destination?
    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.curbed.is_empty()
    }

    /// When that was so, in ms since 1970.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Is it one of our addresses that are suspended?
    pub(super) fn has_source(&self, address: IpAddr) -> bool {
        self.sources.contains(&address)
    }

    /// Why, and for how long yet, this host gets commands one by one, if it does.
    pub(super) fn lock_step_of(&self, host: IpAddr) -> Option<String> {
        let (_, block) = self.unpipelined.iter().find(|(address, _)| *address == host.to_canonical())?;
        Some(terms(block, self.now))
    }

    /// What servers get less of that go by these names, and which replies of them are final.
    pub(super) fn curbs_of(&self, names: &[String]) -> Vec<Curbed> {
        let is_meant = |target: &Target| {
            names.iter().any(|name| target.servers().is_some_and(|servers| servers.eq_ignore_ascii_case(name)))
        };
        let ours = self.curbed.iter().filter(|(target, _)| is_meant(target));
        let told = |(target, block): &(Target, Block)| Curbed {
            text: match target {
                Target::Bounce { rule, .. } => {
                    format!("refusals are final by a rule, bounce by {rule}: {}", terms(block, self.now))
                }
                _ => format!("its servers have asked for less, {}: {}", target.kind(), terms(block, self.now)),
            },
            json: object(target, block),
        };
        ours.map(told).collect()
    }

    /// What of these is blocked or suppressed.
    pub(super) fn barred(&self, targets: &[Target]) -> Vec<Curbed> {
        let ours = self.barred.iter().filter(|(target, _)| targets.contains(target));
        let told = |(target, block): &(Target, Block)| Curbed {
            text: format!("{target}, {}", terms(block, self.now)),
            json: object(target, block),
        };
        ours.map(told).collect()
    }

    /// How the servers with these names are suspended, if they are.
    pub(super) fn among(&self, names: &[String]) -> Option<String> {
        let is_meant = |target: &Target| matches!(target, Target::Destination(name) if names.contains(name));
        let (target, block) = self.destinations.iter().find(|(target, _)| is_meant(target))?;
        Some(format!("{}, {}", target.name(), terms(block, self.now)))
    }

    /// How they are suspended for mail that comes from one pool of our addresses, none of whose names is among these.
    pub(super) fn for_other_pools(&self, names: &[String]) -> Vec<String> {
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let is_meant = |target: &Target| target.pool().is_some_and(|(servers, _)| has(servers)) && !has(&target.name());
        let ours = self.destinations.iter().filter(|(target, _)| is_meant(target));
        ours.map(|(target, block)| format!("{}, {}", target.name(), terms(block, self.now))).collect()
    }

    /// How those stand that such mail for this domain goes to.
    pub(super) async fn of(&mut self, sites: &Sites, domain: &str, by: Submitter<'_>) -> Standing {
        let by = sites.router.depends_on_submitter(domain).then_some(by);
        let key = (domain.to_owned(), by.map(|by| (by.sender.clone(), by.login.map(str::to_owned))));
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let began = Instant::now();
        let hop = tokio::time::timeout(self.left, sites.hop(domain, by)).await;
        self.left = self.left.saturating_sub(began.elapsed());
        let standing = match hop {
            Ok(hop) => Standing {
                suspended: self.among(&hop.names(domain)),
                curbs: self.curbs_of(&[hop.speaker(), hop.party()]),
            },
            Err(_) => {
                Standing { suspended: self.among(&[domain.to_owned()]), curbs: self.curbs_of(&[domain.to_owned()]) }
            }
        };
        self.known.insert(key, standing.clone());
        standing
    }
}
