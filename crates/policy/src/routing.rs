//! Where mail for a domain goes: the first matching route, else its MX.
//!
//! Patterns are a domain, `*.domain` (every subdomain, not the domain itself) or `*`. Case does not matter. A route may be for
//! some senders or a login only; then all must match.

use std::fmt;

use staffetta_mail::{Address, ReversePath};

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

/// Who has handed in a message.
#[derive(Clone, Copy, Debug)]
pub struct Submitter<'a> {
    /// Of the envelope.
    pub sender: &'a ReversePath,
    /// Who has logged in for it.
    pub login: Option<&'a str>,
}

impl<'a> From<&'a ReversePath> for Submitter<'a> {
    fn from(sender: &'a ReversePath) -> Self {
        Self { sender, login: None }
    }
}

/// Which senders a route is for. Prints as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Senders {
    /// This address; as in Postfix, the case of the local part does not matter.
    Address(Address),
    /// `*@domain`: every address there.
    Domain(Pattern),
    /// `<>`: reports.
    Null,
}

impl Senders {
    /// Is this sender one of them?
    pub fn match_sender(&self, sender: &ReversePath) -> bool {
        match sender {
            ReversePath::Null => *self == Self::Null,
            ReversePath::Address(address) => self.match_address(address),
        }
    }

    /// Is the sender with this address one of them?
    pub fn match_address(&self, address: &Address) -> bool {
        match self {
            Self::Null => false,
            Self::Domain(pattern) => in_domain(pattern, address),
            Self::Address(wanted) => is_same(wanted, address),
        }
    }

    /// Are all of `other` among them?
    pub fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Domain(outer), Self::Domain(inner)) => outer.covers(inner),
            (_, Self::Address(address)) => self.match_address(address),
            _ => false,
        }
    }
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Domain(pattern) => write!(f, "*@{pattern}"),
            Self::Null => f.write_str("<>"),
        }
    }
}

fn in_domain(pattern: &Pattern, address: &Address) -> bool {
    match address.domain_str() {
        Some(domain) if domain.is_ascii() => pattern.matches(domain),
        _ => address.domain_key().is_some_and(|domain| pattern.matches(&domain)),
    }
}

fn is_same(one: &Address, other: &Address) -> bool {
    one.local().eq_ignore_ascii_case(other.local()) && one.domain_key() == other.domain_key()
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
    /// For which senders; `None`: for all.
    pub senders: Option<Senders>,
    /// For mail of this login; `None`: of all, and of nobody.
    pub of_login: Option<String>,
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

impl Route {
    /// `None`: somebody of whom nothing is known, who is none of some.
    fn is_for(&self, domain: &str, by: Option<Submitter<'_>>) -> bool {
        let is_theirs = |senders: &Senders| by.is_some_and(|by| senders.match_sender(by.sender));
        let is_its = |login: &String| by.and_then(|by| by.login).is_some_and(|own| is_same_login(own, login));
        self.pattern.matches(domain)
            && self.senders.as_ref().is_none_or(is_theirs)
            && self.of_login.as_ref().is_none_or(is_its)
    }

    /// Is it for mail of some only?
    pub const fn names_submitters(&self) -> bool {
        self.senders.is_some() || self.of_login.is_some()
    }
}

/// Whatever the case of their letters.
pub fn is_same_login(one: &str, other: &str) -> bool {
    one.chars().flat_map(char::to_lowercase).eq(other.chars().flat_map(char::to_lowercase))
}

/// Does the way of mail for `domain` depend on who has sent it?
pub fn depends_on_submitter(routes: &[Route], domain: &str) -> bool {
    routes.iter().find(|route| route.pattern.matches(domain)).is_some_and(Route::names_submitters)
}

/// The path for recipients in `domain`; of nobody it is that of all who are not named in a route.
pub fn route(routes: &[Route], defaults: &Defaults, domain: &str, by: Option<Submitter<'_>>) -> Path {
    path_by(routes, defaults, routes.iter().position(|route| route.is_for(domain, by)))
}

/// The path by the route at this index.
pub fn path_by(routes: &[Route], defaults: &Defaults, index: Option<usize>) -> Path {
    let Some((index, route)) = index.and_then(|index| Some((index, routes.get(index)?))) else {
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
