//! Destinations: servers that are treated alike, whoever's mail they take.
//!
//! Domains whose mail hosts are the same are one destination. An entry of the configuration joins some more of them: all hosts of
//! a provider, or some domains.

use sha2::{Digest as _, Sha256};
pub use staffetta_smtp::client::Keyword;

use crate::routing::Pattern;
use crate::tls::Level;

/// Octets of names that are kept as they are.
const MAX_NAME: usize = 200;
/// Octets of a digest that nobody finds other hosts for.
const DIGEST: usize = 16;

/// One `[[delivery.destination]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// For mail to these domains.
    pub domains: Vec<Pattern>,
    /// For mail to all domains whose mail hosts are all among these.
    pub hosts: Vec<Pattern>,
    /// Instead of the general level.
    pub tls: Option<Level>,
    /// Instead of the general number of connections.
    pub concurrency: Option<u32>,
    /// Messages of one connection.
    pub messages: Option<u32>,
    /// What its hosts offer and are not to be used for.
    pub ignored: Vec<Keyword>,
}

impl Entry {
    /// Is it for mail to this domain, whatever its hosts are?
    pub fn is_for_domain(&self, domain: &str) -> bool {
        self.domains.iter().any(|pattern| pattern.matches(domain))
    }

    /// Is it for these hosts? Where one of them is somebody else's, so may the limits be.
    pub fn is_for_hosts(&self, hosts: &[String]) -> bool {
        let ours = |host: &String| self.hosts.iter().any(|pattern| pattern.matches(host));
        !hosts.is_empty() && hosts.iter().all(ours)
    }

    /// What it goes by: its first host, or domain.
    pub fn name(&self) -> String {
        self.hosts.iter().chain(&self.domains).next().map(Pattern::to_string).unwrap_or_default()
    }
}

/// Names of hosts as they are compared: in lower case, each once, in order.
pub fn normalized<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let plain = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let mut hosts: Vec<String> = hosts.into_iter().map(plain).filter(|host| !host.is_empty()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// What some hosts, as [`normalized`], go by together. Of very many the first ones stand for all, with their number and a digest of
/// all: whoever names some hosts of others beside his own is somebody else.
pub fn name_of(hosts: &[String]) -> String {
    let all = hosts.join(",");
    if all.len() <= MAX_NAME {
        return all;
    }
    let mut end = 0;
    let kept = hosts.iter().take_while(|host| {
        end += host.len() + 1;
        end <= MAX_NAME
    });
    let kept: Vec<&str> = kept.map(String::as_str).collect();
    format!(
        "{} and {} more, {}",
        kept.join(","),
        hosts.len() - kept.len(),
        hex::encode(&Sha256::digest(&all)[..DIGEST])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        normalized(names.iter().copied())
    }

    #[test]
    fn an_entry_is_for_a_set_of_hosts_only_if_all_of_them_are_its_own() {
        let below = |name: &str| Pattern::Subdomains(name.to_owned());
        let entry = Entry { hosts: vec![below("google.com"), below("googlemail.com")], ..Entry::default() };
        assert_eq!(entry.name(), "*.google.com");
        for (names, expected) in [
            (&["ASPMX.L.Google.com.", "aspmx2.googlemail.com"][..], true),
            (&["aspmx.l.google.com", "mx.example.net"], false),
            (&["google.com"], false),
            (&[], false),
        ] {
            assert_eq!(entry.is_for_hosts(&hosts(names)), expected, "{names:?}");
        }
        assert!(!entry.is_for_domain("aspmx.l.google.com"), "hosts are no domains");
    }

    #[test]
    fn an_entry_for_domains_asks_nothing_of_their_hosts() {
        let domains = vec![Pattern::Exact("example.net".to_owned()), Pattern::Subdomains("example.org".to_owned())];
        let entry = Entry { domains, ..Entry::default() };
        assert!(entry.is_for_domain("Example.NET") && entry.is_for_domain("a.example.org"));
        assert!(!entry.is_for_domain("example.org") && !entry.is_for_hosts(&hosts(&["example.net"])));
        assert_eq!(entry.name(), "example.net");
    }

    #[test]
    fn the_same_hosts_have_one_name_in_whatever_order_they_come() {
        assert_eq!(name_of(&hosts(&["b.test", "A.test.", "b.TEST"])), "a.test,b.test");
        assert_eq!(name_of(&hosts(&["a.test"])), "a.test");
        let many: Vec<String> = (0..50).map(|n| format!("mx{n:02}.example.com")).collect();
        let name = name_of(&many);
        assert!(name.starts_with("mx00.example.com,mx01.") && name.contains(" more, "), "{name}");
        assert!(name.len() < MAX_NAME + 50, "{name}");
        assert_ne!(name, name_of(&many[1..]));
        // Whoever names those of others first, and as many of his own behind them.
        let mut evil = many[..20].to_vec();
        evil.extend((20..50).map(|n| format!("mx{n:02}.evil.test")));
        assert_ne!(name, name_of(&evil));
    }
}
