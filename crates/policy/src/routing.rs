//! Where mail for a domain goes: the first matching route, else its MX.
//!
//! Patterns are a domain, `*.domain` (every subdomain, not the domain itself) or `*`. Case does not matter.

use std::fmt;

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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Subdomains(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// One way of a route to deliver. A host is a name or an address, without brackets. Prints as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// By the MX of the recipient's domain.
    Mx,
    /// By the MX of this domain.
    MxOf(String),
    /// To this host, without an MX look-up.
    Smtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// TLS from the first octet (RFC 8314 section 3.3).
        implicit_tls: bool,
    },
    /// To this host by LMTP.
    Lmtp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// By LMTP through the unix socket at this path.
    LmtpSocket(String),
}

impl Via {
    /// LMTP, not SMTP?
    pub const fn is_lmtp(&self) -> bool {
        matches!(self, Self::Lmtp { .. } | Self::LmtpSocket(_))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Mx => return f.write_str("mx"),
            Self::MxOf(name) => return write!(f, "mx://{name}"),
            Self::LmtpSocket(path) => return write!(f, "lmtp://unix:{path}"),
            Self::Smtp { host, port, implicit_tls: false } => ("smtp", host, port),
            Self::Smtp { host, port, implicit_tls: true } => ("smtps", host, port),
            Self::Lmtp { host, port } => ("lmtp", host, port),
        };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// One `[[delivery.route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// For which domains.
    pub pattern: Pattern,
    /// Where to; the next is tried when the one before cannot be reached. Never empty, and all by the same protocol.
    pub via: Vec<Via>,
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

/// What the routes say of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The index of the route that it takes; `None`: the MX of its domain.
    pub route: Option<usize>,
    /// The TLS level that is configured; what comes of it for one host is decided in [`crate::tls`].
    pub tls: Level,
    /// The index of the route whose credentials are to be used.
    pub credentials: Option<usize>,
    /// Most connections at a time.
    pub concurrency: u32,
}

/// The path for recipients in `domain`.
pub fn route(routes: &[Route], defaults: &Defaults, domain: &str) -> Path {
    let Some((index, route)) = routes.iter().enumerate().find(|(_, route)| route.pattern.matches(domain)) else {
        return Path { route: None, tls: defaults.tls, credentials: None, concurrency: defaults.concurrency };
    };
    Path {
        route: Some(index),
        tls: route.tls.unwrap_or(defaults.tls),
        credentials: route.login.then_some(index),
        concurrency: route.concurrency.unwrap_or(defaults.concurrency),
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
        Route { pattern, via: vec![via], tls: None, login: false, concurrency: None }
    }

    fn smtp(host: &str) -> Via {
        Via::Smtp { host: host.to_owned(), port: 25, implicit_tls: false }
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
        for (domain, index) in [
            ("A.example.org", Some(0)),
            ("b.example.org", Some(1)),
            ("example.org", Some(2)),
            ("Example.NET", None),
            ("[192.0.2.1]", None),
        ] {
            assert_eq!(route(&routes, &DEFAULTS, domain).route, index, "{domain}");
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
