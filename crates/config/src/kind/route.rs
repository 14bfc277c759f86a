//! What a route says: for whom it is, and where it leads.

use std::net::IpAddr;

use staffetta_mail::Address;
use staffetta_policy::routing::{Pattern, Senders, Via};
use toml::de::DeValue;

use super::name::is_domain;
use super::{DomainName, Kind, List, Raw, Wrong, quoted};

/// Octets of a path that fit into the address of a unix socket.
const MAX_PATH: usize = 107;
/// Ways that a route may have: each costs an attempt its time.
const MOST: usize = 8;

/// Which domains a route is for.
pub(crate) struct Domains;

impl Kind for Domains {
    type Value = Pattern;
    const NOUN: &'static str = "a pattern of domains";

    fn allowed() -> String {
        "a domain \"example.org\", all below it \"*.example.org\", or all \"*\"".into()
    }

    fn parse(text: &str) -> Result<Pattern, Wrong> {
        let name = |name: &str| DomainName::parse(name).map_err(|_| Wrong::not::<Self>(text));
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Pattern::Any),
            Some(parent) => name(parent).map(Pattern::Subdomains),
            None => name(text).map(Pattern::Exact),
        }
    }

    fn show(value: &Pattern) -> String {
        quoted(&value.to_string())
    }
}

/// Some names that belong together, of domains or of hosts.
pub(crate) struct NamePattern;

impl Kind for NamePattern {
    type Value = Pattern;
    const NOUN: &'static str = "a pattern of names";

    fn allowed() -> String {
        "a name \"mx.example.org\", or all below it \"*.example.org\"".into()
    }

    fn parse(text: &str) -> Result<Pattern, Wrong> {
        let pattern = Domains::parse(text).ok().filter(|pattern| *pattern != Pattern::Any);
        pattern.ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Pattern) -> String {
        Domains::show(value)
    }
}

/// Which senders a route is for.
pub(crate) struct SenderPattern;

impl Kind for SenderPattern {
    type Value = Senders;
    const NOUN: &'static str = "a pattern of senders";

    fn allowed() -> String {
        format!("{}, or reports \"<>\"", AddressPattern::allowed())
    }

    fn parse(text: &str) -> Result<Senders, Wrong> {
        let senders = (text == "<>").then_some(Senders::Null).or_else(|| senders(text));
        senders.ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Senders) -> String {
        quoted(&value.to_string())
    }
}

/// Senders that have an address.
pub(crate) struct AddressPattern;

impl Kind for AddressPattern {
    type Value = Senders;
    const NOUN: &'static str = "a pattern of addresses";

    fn allowed() -> String {
        let domains = "all of a domain \"*@example.org\" or \"@example.org\", all below it \"*@*.example.org\"";
        format!("an address \"a@example.org\", {domains}, all \"*@*\"")
    }

    fn parse(text: &str) -> Result<Senders, Wrong> {
        senders(text).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Senders) -> String {
        quoted(&value.to_string())
    }
}

/// The domain may be a name without a dot: machines call themselves so.
fn senders(text: &str) -> Option<Senders> {
    match text.strip_prefix('*').unwrap_or(text).strip_prefix('@') {
        Some(domain) => Domains::parse(domain).ok().map(Senders::Domain),
        None => Address::parse(text).ok().filter(|it| it.domain_str().is_some()).map(Senders::Address),
    }
}

/// One way of a route.
pub(crate) struct Target;

impl Kind for Target {
    type Value = Via;
    const NOUN: &'static str = "a target";

    fn allowed() -> String {
        let hosts =
            "\"smtp://host:port\" (port 25 if left out), \"smtps://host:port\" (465), \"lmtp://host:port\" (24)";
        format!("{hosts}, \"lmtp://unix:/path\", \"mx://domain\", \"mx\"")
    }

    fn parse(text: &str) -> Result<Via, Wrong> {
        let smtp = |rest, default, implicit_tls| {
            host_port(rest, default).map(|(host, port)| Via::Smtp { host, port, implicit_tls })
        };
        let via = || match text.split_once("://") {
            None if text == "mx" => Some(Via::Mx),
            Some(("mx", name)) => is_domain(name).then(|| Via::MxOf(name.to_ascii_lowercase())),
            Some(("smtp", rest)) => smtp(rest, 25, false),
            Some(("smtps", rest)) => smtp(rest, 465, true),
            Some(("lmtp", rest)) => match rest.strip_prefix("unix:") {
                Some(path) if path.starts_with('/') => socket(path),
                _ => host_port(rest, 24).map(|(host, port)| Via::Lmtp { host, port }),
            },
            _ => None,
        };
        via().ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Via) -> String {
        quoted(&value.to_string())
    }
}

/// One target, or several that are tried one after the other.
pub(crate) struct Targets;

impl Kind for Targets {
    type Value = Vec<Via>;
    const NOUN: &'static str = "a target, or a list of targets";

    fn allowed() -> String {
        format!("{}; or a list of up to {MOST} of them, to be tried in this order", Target::allowed())
    }

    fn parse(text: &str) -> Result<Vec<Via>, Wrong> {
        Target::parse(text).map(|via| vec![via])
    }

    fn show(value: &Vec<Via>) -> String {
        match &value[..] {
            [only] => Target::show(only),
            _ => List::<Target>::show(value),
        }
    }

    fn read(raw: Raw<'_>) -> Result<Vec<Via>, Vec<Wrong>> {
        let list = match raw {
            Raw::Toml(DeValue::Array(_)) => List::<Target>::read(raw)?,
            Raw::Toml(DeValue::String(text)) => return Self::parse(text).map_err(|wrong| vec![wrong]),
            Raw::Toml(value) => return Err(vec![super::wrong_type::<Self>(value)]),
            Raw::Text(text) => return Self::parse(text).map_err(|wrong| vec![wrong]),
        };
        let problem = match list.len() {
            0 => "has no target".to_owned(),
            1..=MOST => return Ok(list),
            more => format!("has {more} targets"),
        };
        Err(vec![Wrong { value: "the list".to_owned(), ..Wrong::because::<Self>("", problem) }])
    }
}

fn socket(path: &str) -> Option<Via> {
    let fits = path.len() > 1 && path.len() <= MAX_PATH && !path.chars().any(char::is_control);
    fits.then(|| Via::LmtpSocket(path.to_owned()))
}

/// `host`, `host:port`, `192.0.2.1:25`, `[2001:db8::1]:25`; the host comes back without brackets.
fn host_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').filter(|(host, _)| host.contains(':'))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&p: &u16| p > 0)?,
        None if rest.is_empty() => default,
        None => return None,
    };
    let known = is_domain(host) || host.parse::<IpAddr>().is_ok();
    known.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for text in ["example.org", "*.example.org", "*"] {
            assert_eq!(Domains::parse(text).map(|p| Domains::show(&p)), Ok(quoted(text)));
        }
        assert_eq!(Domains::parse("*.Example.ORG"), Ok(Pattern::Subdomains("example.org".to_owned())));
        // Postfix' way to write "*.example.org" is refused rather than taken for something else.
        for text in ["", "*.", "**", "*example.org", "a.*.org", "*.*.org", ".example.org", "*..example.org"] {
            assert!(Domains::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_way_is_read_as_it_is_shown_with_the_port_of_its_scheme() {
        for (text, shown) in [
            ("mx", "mx"),
            ("mx://Relay.example.org", "mx://relay.example.org"),
            ("smtp://smart.example.org", "smtp://smart.example.org:25"),
            ("smtp://Smart.example.org:587", "smtp://smart.example.org:587"),
            ("smtp://[2001:db8::1]:587", "smtp://[2001:db8::1]:587"),
            ("smtps://smart.example.org", "smtps://smart.example.org:465"),
            ("smtps://192.0.2.1:4465", "smtps://192.0.2.1:4465"),
            ("lmtp://dovecot", "lmtp://dovecot:24"),
            ("lmtp://unix", "lmtp://unix:24"),
            ("lmtp://unix:/run/dovecot/lmtp", "lmtp://unix:/run/dovecot/lmtp"),
        ] {
            assert_eq!(Target::parse(text).map(|via| via.to_string()), Ok(shown.to_owned()), "{text}");
            assert_eq!(Target::parse(shown), Target::parse(text));
        }
        let long = format!("lmtp://unix:/{}", "a".repeat(MAX_PATH));
        for text in [
            "",
            "smart.example.org",
            "mx://",
            "mx://relay.example.org:25",
            "mx://192.0.2.1",
            "MX",
            "http://x",
            "smtp://",
            "smtps://",
            "smtp://host:",
            "smtp://host:0",
            "smtp://host:99999",
            "smtp://2001:db8::1",
            "smtp://[host]:25",
            "smtp://a b",
            "smtp://u@host",
            "smtp://unix:/run/smtp",
            "lmtp://unix:",
            "lmtp://unix:/",
            "lmtp://unix:run/lmtp",
            "lmtp:///run/lmtp",
            "submission://a",
            &long,
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn senders_are_read_as_they_are_shown() {
        for (text, shown) in [
            ("bulk@news.example.org", "bulk@news.example.org"),
            ("root@web1", "root@web1"),
            ("*@News.example.org", "*@news.example.org"),
            ("@news.example.org", "*@news.example.org"),
            ("@*.example.org", "*@*.example.org"),
            ("*@*", "*@*"),
            ("<>", "<>"),
        ] {
            assert_eq!(SenderPattern::parse(text).map(|it| it.to_string()), Ok(shown.to_owned()), "{text}");
            assert_eq!(SenderPattern::parse(shown), SenderPattern::parse(text));
        }
        for text in ["", "*", "@", "news.example.org", "postmaster", "a*@example.org@", "*@", "a@b@c", "< >", "*@a..b"]
        {
            assert!(SenderPattern::parse(text).is_err() && AddressPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reports_have_no_address() {
        assert!(AddressPattern::parse("<>").is_err());
        assert_eq!(AddressPattern::parse("root@web1"), SenderPattern::parse("root@web1"));
    }

    #[test]
    fn ways_are_one_text_or_a_list_that_has_some() {
        let read = |text: &str| Targets::read(Raw::Toml(DeValue::parse(text).ok()?.get_ref())).ok();
        let ways = |texts: &[&str]| texts.iter().map(|text| Target::parse(text).ok()).collect::<Option<Vec<_>>>();
        assert_eq!(read("'mx'"), ways(&["mx"]));
        assert_eq!(read("['mx', 'smtp://b']"), ways(&["mx", "smtp://b"]));
        assert_eq!(read("[]"), None);
        assert_eq!(read("['mx', 7]"), None);
        let many = |count: usize| read(&format!("[{}]", "'mx',".repeat(count))).map(|ways| ways.len());
        assert_eq!((many(MOST), many(MOST + 1)), (Some(MOST), None));
    }
}
