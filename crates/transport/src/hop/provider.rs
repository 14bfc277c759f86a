//! Under which names deliveries are counted where names have to be few, as in labels of metrics: an entry of
//! `[[delivery.destination]]`, the servers of a route, a provider that this program knows, and one for all others.

use staffetta_policy::destination::Entry;
use staffetta_policy::diagnosis;

use super::{NextHop, Router, Target};

/// Whoever has no other name.
const OTHER: &str = "other";

impl Router {
    /// All names that [`NextHop::provider`] may give.
    pub fn providers(&self) -> Vec<String> {
        let entries = self.destinations.iter().map(|(entry, _)| entry.name());
        let routes =
            self.targets.iter().flatten().filter(|targets| are_for_many(targets)).map(|targets| accounts(targets));
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
        None if are_for_many(&hop.key.targets) => accounts(&hop.key.targets),
        None => diagnosis::provider_of(hosts).unwrap_or(OTHER).to_owned(),
    }
}

/// The configuration names them, not the recipient's domain.
pub(super) fn are_for_many(targets: &[Target]) -> bool {
    !targets.iter().any(|target| matches!(target, Target::Domain(_) | Target::Literal(_)))
}

/// What the messages of all of them are counted by.
pub(super) fn accounts(targets: &[Target]) -> String {
    targets.iter().map(Target::account).collect::<Vec<_>>().join(",")
}
