//! Where mail for a domain goes: the first matching route, else its MX.
//!
//! Patterns are a domain, `*.domain` (every subdomain, not the domain itself) or `*`. Case does not matter.

use crate::tls::Level;

/// Which domains a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This domain (or address literal).
    Exact(String),
    /// `*.domain`: what has at least one label more than this. An empty label is none: `.domain` is not below.
    Subdomains(String),
    /// `*`
    Any,
}

impl Pattern {
    /// Does it match `domain`?
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(domain),
            Self::Subdomains(parent) => is_below(domain, parent),
            Self::Any => true,
        }
    }

    /// Does it match all that `other` matches?
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Subdomains(outer), Self::Subdomains(inner)) => {
                outer.eq_ignore_ascii_case(inner) || is_below(inner, outer)
            }
            _ => false,
        }
    }
}

/// How a route delivers. A host is a name or an address, without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// By the MX of the recipient's domain.
    Mx,
    /// To this host, without an MX look-up.
    Smtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// To this host by LMTP.
    Lmtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// One `[[delivery.route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// For which domains.
    pub pattern: Pattern,
    /// Where to.
    pub via: Via,
    /// Instead of the general level.
    pub tls: Option<Level>,
    /// The route has a user name and a password.
    pub login: bool,
    /// Instead of the general number of connections.
    pub concurrency: Option<u32>,
}

/// What applies where no route says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `delivery.tls`
    pub tls: Level,
    /// `delivery.destination_concurrency`
    pub concurrency: u32,
}

/// The next hop of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// The mail exchangers of this domain, in lower case; an address literal such as `[192.0.2.1]` is its own.
    Mx(String),
    /// This host and port, its addresses only.
    Smtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// This host and port by LMTP.
    Lmtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// How to reach a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where to.
    pub next_hop: NextHop,
    /// The TLS level that is configured; what comes of it for one host is decided in [`crate::tls`].
    pub tls: Level,
    /// The index of the route whose credentials are to be used.
    pub credentials: Option<usize>,
    /// Most connections at a time.
    pub concurrency: u32,
    /// The index of the route that says so, if one does.
    pub route: Option<usize>,
}

/// The path for recipients in `domain`.
pub fn route(routes: &[Route], defaults: &Defaults, domain: &str) -> Path {
    let Some((index, route)) = routes.iter().enumerate().find(|(_, route)| route.pattern.matches(domain)) else {
        let next_hop = NextHop::Mx(domain.to_ascii_lowercase());
        let (tls, concurrency) = (defaults.tls, defaults.concurrency);
        return Path { next_hop, tls, credentials: None, concurrency, route: None };
    };
    Path {
        next_hop: next_hop(&route.via, domain),
        tls: route.tls.unwrap_or(defaults.tls),
        credentials: route.login.then_some(index),
        concurrency: route.concurrency.unwrap_or(defaults.concurrency),
        route: Some(index),
    }
}

fn next_hop(via: &Via, domain: &str) -> NextHop {
    match via {
        Via::Mx => NextHop::Mx(domain.to_ascii_lowercase()),
        Via::Smtp { host, port } => NextHop::Smtp { host: host.clone(), port: *port },
        Via::Lmtp { host, port } => NextHop::Lmtp { host: host.clone(), port: *port },
    }
}

fn is_below(domain: &str, parent: &str) -> bool {
    let (domain, parent) = (domain.as_bytes(), parent.as_bytes());
    let Some(dot) = domain.len().checked_sub(parent.len() + 1) else { return false };
    dot > 0 && domain[dot] == b'.' && domain[dot + 1..].eq_ignore_ascii_case(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { tls: Level::May, concurrency: 20 };

    fn to(pattern: Pattern, via: Via) -> Route {
        Route { pattern, via, tls: None, login: false, concurrency: None }
    }

    fn smtp(host: &str) -> Via {
        Via::Smtp { host: host.to_owned(), port: 25 }
    }

    #[test]
    fn patterns_match_whole_labels() {
        let exact = Pattern::Exact("example.org".to_owned());
        let below = Pattern::Subdomains("example.org".to_owned());
        for (domain, is_exact, is_below) in [
            ("example.org", true, false),
            ("EXAMPLE.org", true, false),
            ("a.example.org", false, true),
            ("a.b.Example.ORG", false, true),
            ("badexample.org", false, false),
            (".example.org", false, false),
            ("org", false, false),
            ("", false, false),
            ("\u{e9}.example.org", false, true),
        ] {
            assert_eq!((exact.matches(domain), below.matches(domain)), (is_exact, is_below), "{domain:?}");
            assert!(Pattern::Any.matches(domain));
        }
    }

    #[test]
    fn a_pattern_covers_what_it_would_take_from_a_later_route() {
        let exact = |name: &str| Pattern::Exact(name.to_owned());
        let below = |name: &str| Pattern::Subdomains(name.to_owned());
        for (earlier, later, covers) in [
            (Pattern::Any, below("a.org"), true),
            (Pattern::Any, Pattern::Any, true),
            (exact("a.org"), exact("A.org"), true),
            (exact("a.org"), exact("b.a.org"), false),
            (exact("a.org"), below("a.org"), false),
            (below("a.org"), exact("b.a.org"), true),
            (below("a.org"), exact("a.org"), false),
            (below("a.org"), below("A.org"), true),
            (below("a.org"), below("b.a.org"), true),
            (below("b.a.org"), below("a.org"), false),
            (below("a.org"), below("ba.org"), false),
            (below("a.org"), Pattern::Any, false),
            (exact("a.org"), Pattern::Any, false),
        ] {
            assert_eq!(earlier.covers(&later), covers, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn the_first_match_wins_and_no_match_means_mx() {
        let routes = [
            to(Pattern::Exact("a.example.org".to_owned()), Via::Mx),
            to(Pattern::Subdomains("example.org".to_owned()), smtp("sub")),
            to(Pattern::Exact("example.org".to_owned()), Via::Lmtp { host: "dovecot".to_owned(), port: 24 }),
            to(Pattern::Exact("a.example.org".to_owned()), smtp("never")),
        ];
        for (domain, next_hop) in [
            ("A.example.org", NextHop::Mx("a.example.org".to_owned())),
            ("b.example.org", NextHop::Smtp { host: "sub".to_owned(), port: 25 }),
            ("example.org", NextHop::Lmtp { host: "dovecot".to_owned(), port: 24 }),
            ("Example.NET", NextHop::Mx("example.net".to_owned())),
            ("[192.0.2.1]", NextHop::Mx("[192.0.2.1]".to_owned())),
        ] {
            assert_eq!(route(&routes, &DEFAULTS, domain).next_hop, next_hop);
        }
    }

    #[test]
    fn a_route_overrides_the_defaults() {
        let mut relay = to(Pattern::Any, smtp("smart"));
        assert_eq!((route(&[], &DEFAULTS, "x").tls, route(&[], &DEFAULTS, "x").concurrency), (Level::May, 20));
        relay.concurrency = Some(5);
        relay.login = true;
        let path = route(&[to(Pattern::Exact("y".to_owned()), Via::Mx), relay.clone()], &DEFAULTS, "x");
        assert_eq!((path.tls, path.credentials, path.concurrency), (Level::May, Some(1), 5));
        relay.tls = Some(Level::Verify);
        assert_eq!(route(&[relay], &DEFAULTS, "x").tls, Level::Verify);
    }
}
