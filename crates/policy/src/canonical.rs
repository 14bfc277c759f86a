//! Which sender address becomes which: that of a machine (`root@web1.lan`) one to which the world can answer. The first entry that
//! matches counts, and what comes out is not looked up again.

use std::fmt;

use staffetta_mail::Address;

use crate::routing::Senders;

/// What an address becomes. Prints as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// This address.
    Address(Address),
    /// `*@domain`: it keeps what stands before the `@`.
    Domain(String),
}

impl Becomes {
    /// What `address` becomes; `None` if that is no address.
    fn of(&self, address: &Address) -> Option<Address> {
        match self {
            Self::Address(other) => Some(other.clone()),
            Self::Domain(domain) => Address::parse(&format!("{}@{domain}", address.local())).ok(),
        }
    }
}

impl fmt::Display for Becomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Domain(domain) => write!(f, "*@{domain}"),
        }
    }
}

/// The entries, in their order.
#[derive(Clone, Debug, Default)]
pub struct Canonical(Vec<(Senders, Becomes)>);

impl Canonical {
    /// From entries in their order.
    pub fn new(entries: impl IntoIterator<Item = (Senders, Becomes)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Does nobody become anybody?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whom this address becomes; `None` if it stays.
    pub fn of(&self, address: &Address) -> Option<Address> {
        let (_, becomes) = self.0.iter().find(|(senders, _)| senders.match_address(address))?;
        becomes.of(address).filter(|other| other != address)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::routing::Pattern;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_entry_that_matches_counts() {
        let canonical = Canonical::new([
            (Senders::Null, Becomes::Address(address("null@example.org"))),
            (Senders::Address(address("root@web1.lan")), Becomes::Address(address("ops@example.org"))),
            (Senders::Domain(Pattern::Exact("web1.lan".to_owned())), Becomes::Domain("example.org".to_owned())),
            (Senders::Domain(Pattern::Subdomains("lan".to_owned())), Becomes::Domain("example.net".to_owned())),
            (Senders::Domain(Pattern::Exact("example.org".to_owned())), Becomes::Address(address("again@example.org"))),
        ]);
        for (from, becomes) in [
            ("root@web1.lan", Some("ops@example.org")),
            ("ROOT@WEB1.LAN", Some("ops@example.org")),
            ("\"a b\"@web1.lan", Some("\"a b\"@example.org")),
            ("cron@web2.lan", Some("cron@example.net")),
            ("cron@lan", None),
            ("again@example.org", None),
            (&format!("root@{}.lan", "a".repeat(63)), Some("root@example.net")),
        ] {
            assert_eq!(canonical.of(&address(from)), becomes.map(address), "{from}");
        }
    }
}
