//! Whom a block is about, a suppression or a suspension, in the one spelling under which everybody finds it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use staffetta_mail::Address;
use unicode_normalization::UnicodeNormalization as _;

use super::block::Curb;

/// Longest login that can be named, in octets.
const MAX_LOGIN: usize = 512;
/// Networks that are larger than these are nearly everybody, and most likely a slip.
const MIN_PREFIX: (u8, u8) = (8, 16);

/// Longest name of a destination, in octets.
const MAX_DESTINATION: usize = 300;
/// Longest key of a rule, in octets.
const MAX_RULE: usize = 16;
/// Between servers and a rule.
const BY: &str = " by ";

/// A login, the clients of a network, or a domain; a recipient that gets no mail; servers that get none for a while, or less, or
/// of which some temporary replies are final.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// As [`login_key`] spells it.
    Login(String),
    /// An address is a network of one.
    Client(IpNet),
    /// In lower case and A-labels.
    Domain(String),
    /// An address in lower case, its domain in A-labels; of all of a domain, `@` and the domain.
    Recipient(String),
    /// A recipients' domain, a mail host, `*.` and a domain for all hosts below it, or what some servers go by together; in
    /// lower case and A-labels.
    Destination(String),
    /// The same, of servers that get messages at a lower rate.
    Slow(String),
    /// The same, of servers that get fewer connections.
    Fewer(String),
    /// Servers of which the temporary replies are final for a while that one rule is for.
    Bounce {
        /// The same.
        servers: String,
        /// The key of the rule.
        rule: String,
    },
    /// The address of a host that has not answered commands which came together: it gets them one by one for a while.
    Unpipelined(IpAddr),
    /// An address of ours from which nothing is sent for a while.
    Source(IpAddr),
}

/// Why a text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a login.
    #[error("{0:?} is no login; allowed: up to 512 octets without control characters")]
    Login(String),
    /// Not a network.
    #[error(
        "{0:?} is no network; allowed: an address such as 192.0.2.1, or a network such as 192.0.2.0/24 or 2001:db8::/48"
    )]
    Network(String),
    /// Bits are set behind the prefix: which network is meant?
    #[error("{0} has bits behind its prefix; {1} would be the network")]
    HostBits(String, IpNet),
    /// A network of nearly everybody.
    #[error("{0} is too large; allowed: IPv4 networks from /8 on, IPv6 networks from /16 on")]
    TooLarge(IpNet),
    /// Not a domain.
    #[error("{0:?} is no domain name; allowed: letters, digits and hyphens between dots")]
    Domain(String),
    /// Not an address.
    #[error("{0:?} is no source; allowed: an address of [[delivery.source]], such as 192.0.2.1")]
    Source(String),
    /// Not what servers go by.
    #[error(
        "{0:?} is no destination; allowed: a domain such as example.com, a mail host such as mx.example.com, all below a name \
         such as *.example.com, or a name that `staffetta destination list` shows"
    )]
    Destination(String),
    /// Neither an address nor a domain.
    #[error("{0:?} is no recipient; allowed: an address such as john@example.com, or a domain such as example.com")]
    Recipient(String),
}

/// The spelling by which a login is found, whoever writes it: back ends keep one of `John@Example.org`, `john@example.org`
/// and `john@EXAMPLE.ORG`, people type any of them, and a domain may be in Unicode or in A-labels. To take two accounts
/// for one costs the second a new login; to take one for two lets a thief go on.
pub fn login_key(login: &str) -> String {
    let login = login.trim();
    if login.is_ascii() {
        return login.to_ascii_lowercase();
    }
    let lower: String = login.nfc().flat_map(char::to_lowercase).nfc().collect();
    let Some((local, domain)) = lower.rsplit_once('@') else { return lower };
    match domain_key(domain) {
        Some(domain) => format!("{local}@{domain}"),
        None => lower,
    }
}

fn domain_key(domain: &str) -> Option<String> {
    let address = Address::parse(&format!("postmaster@{domain}")).ok()?;
    address.domain_key().filter(|domain| !domain.starts_with('['))
}

/// The spelling by which a recipient is found: in or without quotes (RFC 5321 section 4.1.2), and in any case, for mailboxes
/// differ by the case of their names in no system that matters here.
pub(super) fn recipient_key(address: &Address) -> Option<String> {
    let local = unquoted(address.as_str().rsplit_once('@')?.0);
    let local: String = local.nfc().flat_map(char::to_lowercase).nfc().collect();
    let domain = address.domain_key()?;
    let literal = domain.strip_prefix("[ipv6:").and_then(|rest| rest.strip_suffix(']'));
    let domain = match literal.and_then(|ip| ip.parse::<std::net::Ipv6Addr>().ok()) {
        Some(ip) => format!("[ipv6:{ip}]"),
        None => domain,
    };
    // One that needs its quotes keeps them: what was said is read again.
    let needs_quotes = local.is_empty() || Address::parse(&format!("{local}@{domain}")).is_err();
    let local = if needs_quotes { format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\"")) } else { local };
    Some(format!("{local}@{domain}"))
}

/// The spelling by which servers are found.
fn destination_key(text: &str) -> Result<String, TargetError> {
    let wrong = || TargetError::Destination(text.to_owned());
    let name = text.trim().trim_end_matches('.');
    let name = match name.is_ascii() {
        true => name.to_ascii_lowercase(),
        false => domain_key(name).ok_or_else(wrong)?,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._*,:[]/ ".contains(&b);
    let good = !matches!(&*name, "" | "*") && name.len() <= MAX_DESTINATION && name.bytes().all(plain);
    if good { Ok(name) } else { Err(wrong()) }
}

/// A local part without quotes and backslashes.
fn unquoted(local: &str) -> String {
    let Some(quoted) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return local.to_owned() };
    let (mut plain, mut escaped) = (String::with_capacity(quoted.len()), false);
    for c in quoted.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    plain
}

impl Target {
    /// A login, as anybody writes it.
    ///
    /// # Errors
    /// It cannot be one.
    pub fn login(text: &str) -> Result<Self, TargetError> {
        let login = login_key(text);
        let good = !login.is_empty() && login.len() <= MAX_LOGIN && !login.chars().any(char::is_control);
        if good { Ok(Self::Login(login)) } else { Err(TargetError::Login(text.to_owned())) }
    }

    /// An address or a network of clients. IPv4 that is mapped into IPv6 is IPv4.
    ///
    /// # Errors
    /// It is no network, or one of nearly everybody.
    pub fn client(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Network(text.to_owned());
        let network = match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
        };
        if network.trunc() != network {
            return Err(TargetError::HostBits(text.to_owned(), network.trunc()));
        }
        let network = match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_canonical() {
                IpAddr::V4(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).map_err(|_| wrong())?,
                IpAddr::V6(_) => network,
            },
            _ => network,
        };
        let least = if matches!(network, IpNet::V4(_)) { MIN_PREFIX.0 } else { MIN_PREFIX.1 };
        if network.prefix_len() < least { Err(TargetError::TooLarge(network)) } else { Ok(Self::Client(network)) }
    }

    /// A domain, in any spelling.
    ///
    /// # Errors
    /// It is none.
    pub fn domain(text: &str) -> Result<Self, TargetError> {
        domain_key(text).map(Self::Domain).ok_or_else(|| TargetError::Domain(text.to_owned()))
    }

    /// An address, or all of a domain: `example.com`, `@example.com` or `*@example.com`.
    ///
    /// # Errors
    /// It is neither.
    pub fn recipient(text: &str) -> Result<Self, TargetError> {
        let domain = if text.contains('@') { text.trim_start_matches('*').strip_prefix('@') } else { Some(text) };
        let key = match domain {
            // A word alone is most likely half of an address.
            Some(domain) if !domain.contains('.') => None,
            Some(domain) => domain_key(domain).map(|domain| format!("@{domain}")),
            None => Address::parse(text).ok().as_ref().and_then(recipient_key),
        };
        key.map(Self::Recipient).ok_or_else(|| TargetError::Recipient(text.to_owned()))
    }

    /// A domain, a mail host, all below a name (`*.example.com`), or what a worker calls some servers.
    ///
    /// # Errors
    /// It is none of them.
    pub fn destination(text: &str) -> Result<Self, TargetError> {
        destination_key(text).map(Self::Destination)
    }

    /// The same servers, which are to get less.
    ///
    /// # Errors
    /// As [`Self::destination`].
    pub fn curbed(text: &str, curb: Curb) -> Result<Self, TargetError> {
        destination_key(text).map(match curb {
            Curb::Rate(_) => Self::Slow,
            Curb::Connections(_) => Self::Fewer,
        })
    }

    /// The same servers, of which the replies are final that this rule is for.
    ///
    /// # Errors
    /// As [`Self::destination`], or that is no key.
    pub fn bounce(text: &str, rule: &str) -> Result<Self, TargetError> {
        let is_key = !rule.is_empty() && rule.len() <= MAX_RULE && rule.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_key {
            return Err(TargetError::Destination(format!("{text}{BY}{rule}")));
        }
        Ok(Self::Bounce { servers: destination_key(text)?, rule: rule.to_owned() })
    }

    /// An address of ours.
    ///
    /// # Errors
    /// It is none.
    pub fn source(text: &str) -> Result<Self, TargetError> {
        let address = text.parse::<IpAddr>().map_err(|_| TargetError::Source(text.to_owned()))?;
        Ok(Self::Source(address.to_canonical()))
    }

    /// This, and all that may hold for the same servers besides.
    pub(super) fn with_others(&self) -> Vec<Self> {
        let Self::Destination(name) = self else { return vec![self.clone()] };
        let host = name.parse::<IpAddr>().ok().map(|address| Self::Unpipelined(address.to_canonical()));
        let curbs = [self.clone(), Self::Slow(name.clone()), Self::Fewer(name.clone())];
        curbs.into_iter().chain(host).collect()
    }

    /// `login`, `client`, `domain`, `recipient`, `destination`, `slow`, `fewer`, `bounce`, `unpipelined` or `source`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::Client(_) => "client",
            Self::Domain(_) => "domain",
            Self::Recipient(_) => "recipient",
            Self::Destination(_) => "destination",
            Self::Slow(_) => "slow",
            Self::Fewer(_) => "fewer",
            Self::Bounce { .. } => "bounce",
            Self::Unpipelined(_) => "unpipelined",
            Self::Source(_) => "source",
        }
    }

    /// The name without its kind.
    pub fn name(&self) -> String {
        match self {
            Self::Login(name) | Self::Domain(name) | Self::Recipient(name) => name.clone(),
            Self::Destination(name) | Self::Slow(name) | Self::Fewer(name) => name.clone(),
            Self::Bounce { servers, rule } => format!("{servers}{BY}{rule}"),
            Self::Source(address) | Self::Unpipelined(address) => address.to_string(),
            Self::Client(network) if network.prefix_len() == network.max_prefix_len() => network.addr().to_string(),
            Self::Client(network) => network.to_string(),
        }
    }

    /// What the servers go by that it is about, whatever it says of them.
    pub fn servers(&self) -> Option<&str> {
        match self {
            Self::Destination(servers) | Self::Slow(servers) | Self::Fewer(servers) => Some(servers),
            Self::Bounce { servers, .. } => Some(servers),
            _ => None,
        }
    }

    /// The servers, and the pool of our addresses, of what holds for mail from that pool only: `mx.example.com from news`.
    pub fn pool(&self) -> Option<(&str, &str)> {
        self.servers()?.split_once(" from ")
    }

    /// What [`fmt::Display`] has written; kinds of newer programs are `None`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        match kind {
            "login" => Self::login(name).ok(),
            "client" => Self::client(name).ok(),
            "domain" => Self::domain(name).ok(),
            "recipient" => Self::recipient(name).ok(),
            "destination" => Self::destination(name).ok(),
            "slow" => destination_key(name).ok().map(Self::Slow),
            "fewer" => destination_key(name).ok().map(Self::Fewer),
            "bounce" => name.rsplit_once(BY).and_then(|(servers, rule)| Self::bounce(servers, rule).ok()),
            "unpipelined" => name.parse().ok().map(Self::Unpipelined),
            "source" => Self::source(name).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use staffetta_config::Rate;

    use super::*;

    #[test]
    fn a_login_has_one_spelling() {
        for (login, key) in [
            ("john@example.org", "john@example.org"),
            (" John@EXAMPLE.org ", "john@example.org"),
            ("john", "john"),
            ("Jörg@bücher.example", "jörg@xn--bcher-kva.example"),
            ("JO\u{308}RG@xn--BCHER-kva.example", "jörg@xn--bcher-kva.example"),
            ("Ω\u{2126}@x", "ωω@x"),
            ("jo hn\\/%*?[]\"'{R}@x", "jo hn\\/%*?[]\"'{r}@x"),
            ("a@b@bücher.example", "a@b@xn--bcher-kva.example"),
            ("jörg@-nonsense-", "jörg@-nonsense-"),
        ] {
            assert_eq!(login_key(login), key, "{login:?}");
            assert_eq!(login_key(key), key, "{login:?}: the key of the key is the key");
        }
    }

    #[test]
    fn targets_are_read_as_they_are_written() {
        for target in [
            Target::login("J\u{f6}rg Doe@example.org").unwrap(),
            Target::client("192.0.2.1").unwrap(),
            Target::client("192.0.2.0/24").unwrap(),
            Target::client("2001:db8::/48").unwrap(),
            Target::domain("B\u{fc}cher.Example").unwrap(),
            Target::recipient("Jo.Hn@B\u{fc}cher.Example").unwrap(),
            Target::recipient("\"jo hn\"@[192.0.2.1]").unwrap(),
            Target::recipient("\"a\\\\b\\\"c\"@example.com").unwrap(),
            Target::recipient("a@[IPv6:2001:DB8::1]").unwrap(),
            Target::recipient("Example.com").unwrap(),
            Target::destination("*.Google.com.").unwrap(),
            Target::destination("mx1.b\u{fc}cher.example").unwrap(),
            Target::destination("mx1.a.test,mx2.a.test and 12 more").unwrap(),
            Target::destination("smart.test:26").unwrap(),
            Target::curbed("MX.a.test", Curb::Connections(2)).unwrap(),
            Target::curbed("*.a.test", Curb::Rate(Rate { count: 1, per: Duration::from_secs(1) })).unwrap(),
            Target::bounce("MX.a.test from news", "1f3a9c2e").unwrap(),
            Target::bounce("stand by me", "1f3a9c2e").unwrap(),
            Target::Unpipelined("2001:db8::1".parse().unwrap()),
            Target::source("192.0.2.1").unwrap(),
            Target::source("2001:DB8::1").unwrap(),
        ] {
            assert_eq!(Target::parse(&target.to_string()), Some(target.clone()), "{target}");
        }
        assert_eq!(Target::client("::ffff:192.0.2.0/120").unwrap(), Target::client("192.0.2.0/24").unwrap());
        assert_eq!(Target::client("::ffff:192.0.2.1").unwrap().name(), "192.0.2.1");
        assert_eq!(Target::recipient("Jo.Hn@B\u{fc}cher.Example").unwrap().name(), "jo.hn@xn--bcher-kva.example");
        assert_eq!(Target::recipient("@Example.com").unwrap(), Target::recipient("example.com").unwrap());
        for (one, other) in [
            ("\"john\"@example.com", "John@example.com"),
            ("\"j\\ohn\"@example.com", "john@example.com"),
            ("\"Jo\\ Hn\"@example.com", "\"jo hn\"@example.com"),
            ("ju\u{308}rgen@example.com", "j\u{fc}rgen@example.com"),
            ("a@[IPv6:2001:DB8:0:0::1]", "a@[IPv6:2001:db8::1]"),
            ("*@star.example", "star.example"),
        ] {
            assert_eq!(Target::recipient(one).unwrap(), Target::recipient(other).unwrap(), "{one}");
        }
        for nonsense in ["", "@", "a b", "a@", "john@example.com@", "[192.0.2.1]", "postmaster"] {
            assert!(Target::recipient(nonsense).is_err(), "{nonsense:?}");
        }
        assert!(Target::source("192.0.2.0/24").is_err() && Target::source("out1.example.org").is_err());
        for nonsense in ["", " ", "*", "a\nb", "\u{e4} b", &"x".repeat(301)] {
            assert!(Target::destination(nonsense).is_err(), "{nonsense:?}");
        }
        assert!(Target::bounce("", "1f3a9c2e").is_err() && Target::bounce("a.test", "a b").is_err());
        for nonsense in ["", "login", "login ", "client x", "comet 1", "domain a b", "bounce a.test", "bounce a by "] {
            assert_eq!(Target::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn what_names_nobody_or_everybody_is_refused() {
        for text in ["", "  ", "a\nb", "a\u{1b}[31m", &"x".repeat(513)] {
            assert!(Target::login(text).is_err(), "{text:?}");
        }
        for (text, says) in [
            ("0.0.0.0/0", "too large"),
            ("10.0.0.0/7", "too large"),
            ("::/0", "too large"),
            ("::ffff:0:0/96", "too large"),
            ("192.0.2.1/24", "192.0.2.0/24 would be the network"),
            ("192.0.2", "is no network"),
            ("", "is no network"),
            ("192.0.2.0/33", "is no network"),
        ] {
            let error = Target::client(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for text in ["", "a b", "[192.0.2.1]", "-", "a@b"] {
            assert!(Target::domain(text).is_err(), "{text:?}");
        }
    }
}
