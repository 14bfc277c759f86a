//! Under which names deliveries are counted where names have to be few, as in labels of metrics: an entry of
//! `[[delivery.destination]]`, the servers of a route, a provider that this program knows, and one for all others.

use std::net::IpAddr;

use staffetta_policy::destination::Entry;
use staffetta_policy::diagnosis;

use super::{NextHop, Router, Target};

/// Whoever has no other name.
const OTHER: &str = "other";
/// Servers of routes of which only addresses are known: those are no labels.
const ROUTE: &str = "route";

impl Router {
    /// All names that [`NextHop::provider`] may give.
    pub fn providers(&self) -> Vec<String> {
        let entries = self.destinations.iter().map(|(entry, _)| entry.name());
        let routes =
            self.targets.iter().flatten().filter(|targets| are_for_many(targets)).map(|targets| of_route(targets));
        let known = diagnosis::providers().chain([OTHER]).map(str::to_owned);
        entries.chain(routes).chain(known).collect()
    }
}

impl NextHop {
    /// What its deliveries are counted under.
    pub fn provider(&self) -> &str {
        self.site.as_ref().map_or(OTHER, |site| &site.provider)
    }
}

/// Of a next hop with these mail hosts, for which this entry is.
pub(super) fn name(hop: &NextHop, said: Option<&Entry>, hosts: &[String]) -> String {
    match said {
        Some(entry) => entry.name(),
        None if are_for_many(&hop.key.targets) => of_route(&hop.key.targets),
        None => diagnosis::provider_of(hosts).unwrap_or(OTHER).to_owned(),
    }
}

/// The configuration names them, not the recipient's domain.
pub(super) fn are_for_many(targets: &[Target]) -> bool {
    !targets.iter().any(|target| matches!(target, Target::Domain(_) | Target::Literal(_)))
}

/// The servers that a route names.
fn of_route(targets: &[Target]) -> String {
    let is_address = |target: &Target| match target {
        Target::Host { host, .. } => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok(),
        _ => false,
    };
    if targets.iter().any(is_address) { ROUTE.to_owned() } else { accounts(targets) }
}

/// What the messages of all of them are counted by.
pub(super) fn accounts(targets: &[Target]) -> String {
    targets.iter().map(Target::account).collect::<Vec<_>>().join(",")
}
