//! Of `[[delivery.destination]]`: what names nobody, and what names somebody twice.

use super::Check;
use crate::{Config, Destination};

/// Notes what cannot be said of destinations.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let entries = &config.delivery.destination;
    for (index, entry) in entries.iter().enumerate() {
        let key = |name: &str| format!("delivery.destination[{index}].{name}");
        let is_empty = entry.mx.is_empty() && entry.domain.is_empty();
        if is_empty && !check.has_found(&key("")) {
            check.refuse(&key("mx"), "is missing, and so is domain", "mx, domain, or both");
        }
        type Names = fn(&Destination) -> &[staffetta_policy::routing::Pattern];
        let lists: [(&str, Names); 2] = [("mx", |entry| &entry.mx), ("domain", |entry| &entry.domain)];
        for (name, of) in lists {
            let covered = of(entry).iter().find_map(|pattern| {
                let earlier =
                    (0..index).find(|&earlier| of(&entries[earlier]).iter().any(|other| other.covers(pattern)));
                Some((pattern, earlier?))
            });
            if let Some((pattern, earlier)) = covered {
                let what = format!("names {pattern}, which delivery.destination[{earlier}] is for");
                check.refuse(&key(name), what, "each name once, and a part of a domain before the whole of it");
            }
        }
    }
}
