//! When a change of a key takes effect in a service that runs.
//!
//! [`AT_ONCE`] is the one list; whatever is not in it waits for a restart. The reference page shows it, and
//! [`Config::adopt`](crate::Config::adopt) obeys it: a service that has read its file again takes over what is in the
//! list, leaves everything else as it was at its start, and names what differs there. A key belongs into the list when
//! everything that reads it asks for it anew: for each connection, each message or each attempt.

use crate::Service;

/// What takes effect at once, for what begins then; of a table or an array, all its keys.
const AT_ONCE: &[&str] = &[
    "frontend.trusted_networks",
    "frontend.relay_domains",
    "frontend.verify_recipients",
    "frontend.postmaster",
    "frontend.complaints",
    "frontend.size_limit",
    "frontend.recipient_limit",
    "frontend.recipient_overshoot_limit",
    "frontend.error_limit",
    "frontend.reject_unknown_recipient_domain",
    "frontend.sender_must_match_login",
    "frontend.header_from_must_match_login",
    "frontend.canonical",
    "frontend.received_client",
    "frontend.enable_vrfy",
    "frontend.etrn_networks",
    "frontend.connection_limit",
    "frontend.connections_per_client",
    "frontend.auth_failures_per_client",
    "frontend.auth_failures_per_login",
    "frontend.messages_per_login",
    "frontend.recipients_per_login",
    "frontend.queued_per_login",
    "frontend.proxy_from",
    "frontend.xclient_from",
    "frontend.bare_lf",
    "frontend.bare_lf_from",
    "frontend.timeout",
    "frontend.min_data_rate",
    "frontend.drain_delay",
    "delivery.destination_concurrency",
    "delivery.destination_rate",
    "delivery.retry_min",
    "delivery.retry_max",
    "delivery.lifetime",
    "delivery.delay_warning",
    "delivery.chunking",
    "delivery.tls",
    "delivery.drain_limit",
    "delivery.timeouts",
    "delivery.route",
    "delivery.default_source",
    "delivery.source",
    "delivery.warm_up_days",
    "delivery.destination",
    "delivery.suppress_after",
    "delivery.suppress_for",
    "delivery.suppress_complaints",
    "delivery.known_rules",
    "delivery.rule",
    "verp",
    "log.level",
];

/// True: it takes effect at once. False: after a restart.
pub(crate) fn is_at_once(path: &str) -> bool {
    AT_ONCE.iter().any(|key| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// What a configuration that was read again brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The keys that have another value from now on, each once, in the order of the file.
    pub adopted: Vec<String>,
    /// The keys whose new value waits for a restart.
    pub waiting: Vec<String>,
}

impl Change {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.adopted.is_empty() && self.waiting.is_empty()
    }

    /// Notes that a key differs. True: its new value is to be taken.
    pub(crate) fn takes(&mut self, path: &str) -> bool {
        let at_once = is_at_once(path);
        let noted = if at_once { &mut self.adopted } else { &mut self.waiting };
        if noted.last().is_none_or(|last| last != path) && !noted.iter().any(|known| known == path) {
            noted.push(path.to_owned());
        }
        at_once
    }

    /// Nobody restarts a service for what it does not read.
    pub(crate) fn of_concern_to(mut self, service: Service) -> Self {
        self.waiting.retain(|path| service.reads(path));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::settings::Entry;

    /// Every key, and every array.
    fn paths() -> Vec<String> {
        let paths = Config::entries().into_iter().map(|entry| match entry {
            Entry::Table(table) => table.path,
            Entry::Key(key) => key.path,
        });
        paths.collect()
    }

    #[test]
    fn the_list_names_nothing_that_is_not_there_and_nothing_twice() {
        let paths = paths();
        for (index, key) in AT_ONCE.iter().enumerate() {
            assert!(paths.iter().any(|path| path == key), "{key}: there is no such key");
            assert!(AT_ONCE.iter().enumerate().all(|(other, it)| other == index || !is_within(key, it)), "{key}");
        }
    }

    fn is_within(key: &str, other: &str) -> bool {
        key == other || key.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
    }

    #[test]
    fn an_array_takes_effect_as_a_whole() {
        let lists = Config::entries().into_iter().filter_map(|entry| match entry {
            Entry::Table(table) if table.is_list => Some(table.path),
            _ => None,
        });
        for list in lists {
            let inside = list.clone() + ".";
            let differs =
                paths().into_iter().find(|path| path.starts_with(&inside) && is_at_once(path) != is_at_once(&list));
            assert_eq!(differs, None, "{list}");
        }
    }
}
