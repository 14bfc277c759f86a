//! Names of hosts and domains, and texts with a meaning of their own.

use std::net::IpAddr;

use staffetta_mail::Address;

use super::{Kind, Wrong, quoted};

/// Any text but the empty one.
pub(crate) struct Any;

impl Kind for Any {
    type Value = String;
    const NOUN: &'static str = "a text";

    fn allowed() -> String {
        "any text that is not empty".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        if text.is_empty() { Err(Wrong::because::<Self>(text, "is empty")) } else { Ok(text.into()) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// What programs are called by in a log.
pub(crate) struct SyslogName;

impl Kind for SyslogName {
    type Value = String;
    const NOUN: &'static str = "a name for the log";

    fn allowed() -> String {
        "1 to 32 letters, digits, \"-\" and \"_\", such as \"postfix\"".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_plain && matches!(text.len(), 1..=32) { Ok(text.into()) } else { Err(Wrong::not::<Self>(text)) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A regular expression for replies of servers.
pub(crate) struct ReplyPattern;

impl Kind for ReplyPattern {
    type Value = String;
    const NOUN: &'static str = "a regular expression";

    fn allowed() -> String {
        "a regular expression of the crate regex, in single quotes, such as '^421 .*try again'".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        match staffetta_policy::shaping::pattern(text) {
            _ if text.is_empty() => Err(Wrong::because::<Self>(text, "is empty")),
            Ok(_) => Ok(text.into()),
            Err(why) => Err(Wrong::because::<Self>(text, format!("is not {}: {why}", Self::NOUN))),
        }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// What some of our addresses are called together.
pub(crate) struct SourcePool;

impl Kind for SourcePool {
    type Value = String;
    const NOUN: &'static str = "a name for a pool";

    fn allowed() -> String {
        "1 to 64 letters, digits, \"-\", \"_\" and \".\", such as \"pool-a\"".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if is_plain && matches!(text.len(), 1..=64) { Ok(text.into()) } else { Err(Wrong::not::<Self>(text)) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A mail address with a domain.
pub(crate) struct MailAddress;

impl Kind for MailAddress {
    type Value = Address;
    const NOUN: &'static str = "a mail address";

    fn allowed() -> String {
        "a mail address, such as \"admin@example.org\"".into()
    }

    fn parse(text: &str) -> Result<Address, Wrong> {
        let address = Address::parse(text).ok().filter(Address::is_fully_qualified);
        address.ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Address) -> String {
        quoted(value.as_str())
    }
}

/// A domain name in letters, digits and hyphens; becomes lower case.
pub(crate) struct DomainName;

impl Kind for DomainName {
    type Value = String;
    const NOUN: &'static str = "a domain name";

    fn allowed() -> String {
        "a domain name, such as \"example.org\", with international names in their xn-- form".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        if is_domain(text) { Ok(text.to_ascii_lowercase()) } else { Err(Wrong::not::<Self>(text)) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A fully qualified domain name; empty is the machine's own, whatever that is.
pub(crate) struct HostName;

impl Kind for HostName {
    type Value = String;
    const NOUN: &'static str = "a host name";

    fn allowed() -> String {
        "a fully qualified domain name, such as \"mail.example.org\"".into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        match text {
            "" => Ok(machine_name()),
            // Servers that check the name in a greeting refuse one without a dot.
            // What `effective` shows of the machine's own can be read again.
            text if is_domain(text) && (text.contains('.') || text == machine_name()) => Ok(text.to_owned()),
            text => Err(Wrong::not::<Self>(text)),
        }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_domain(&name) { name } else { "localhost".into() }
}

/// RFC 1123 section 2.1, in at most 253 octets.
pub(super) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err()
}

/// A SQL statement with its parameter.
pub(crate) struct Query<const PARAMETER: char>;

impl<const P: char> Query<P> {
    /// One of these must be used. Named by the first letter of the first, as a string cannot be a parameter of a type.
    /// The auth service, which reads the statement as its database does, asks for the same.
    const NAMES: &'static [&'static str] = match P {
        'l' => &[":login"],
        's' => &[":sender", ":domain"],
        'd' => &[":domain"],
        _ => &[":recipient", ":domain"],
    };

    /// What it may be left empty for: nothing is asked then.
    const OPTIONAL: bool = P == 'a';

    fn names() -> String {
        Self::NAMES.join(" or ")
    }
}

impl<const P: char> Kind for Query<P> {
    type Value = String;
    const NOUN: &'static str = "a query";

    fn allowed() -> String {
        let none = if Self::OPTIONAL { ", or \"\"" } else { "" };
        format!("a SQL statement that uses the parameter {}{none}", Self::names())
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        if Self::NAMES.iter().any(|name| text.contains(name)) || Self::OPTIONAL && text.is_empty() {
            return Ok(text.into());
        }
        Err(Wrong::because::<Self>(
            text,
            format!("does not use {} and would answer every question alike", Self::names()),
        ))
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// A level, or a list of `target=level`.
pub(crate) struct LogLevel;

impl Kind for LogLevel {
    type Value = String;
    const NOUN: &'static str = "a log level";

    fn allowed() -> String {
        "\"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a list such as \"info,staffetta_queue=debug\""
            .into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        let is_level = |level: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&level);
        let is_target =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
        let is_directive = |directive: &str| match directive.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(directive),
        };
        if text.split(',').all(is_directive) { Ok(text.into()) } else { Err(Wrong::not::<Self>(text)) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let long = format!("{}.org", "a".repeat(63));
        for text in ["example.org", "localhost", "a-b.xn--caf-dma.org", "_dmarc.example.org", "1.example.org", &long] {
            assert!(is_domain(text), "{text}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for text in
            ["", ".", "example.org.", "a..b", "-a.org", "a-.org", "caf\u{e9}.org", "a b.org", "192.0.2.1", &long]
        {
            assert!(!is_domain(text), "{text}");
        }
        assert_eq!(DomainName::parse("Example.ORG").as_deref(), Ok("example.org"));
        assert!(!machine_name().is_empty());
    }

    /// The auth service accepts the same.
    #[test]
    fn a_query_uses_a_parameter_that_its_answer_can_depend_on() {
        fn rows<const P: char>(good: &[&str], bad: &[&str], names: &str) {
            for text in good {
                assert!(Query::<P>::parse(&format!("SELECT x WHERE a = {text}")).is_ok(), "{P} {text}");
            }
            for text in bad {
                assert!(Query::<P>::parse(&format!("SELECT x WHERE a = {text}")).is_err(), "{P} {text}");
            }
            assert_eq!(Query::<P>::allowed(), format!("a SQL statement that uses the parameter {names}"));
        }
        assert_eq!(Query::<'a'>::parse("").as_deref(), Ok(""));
        assert!(Query::<'r'>::parse("").is_err());
        rows::<'l'>(&[":login"], &["1", ":domain", ":sender"], ":login");
        rows::<'s'>(&[":sender", ":domain"], &["1", ":login", ":recipient"], ":sender or :domain");
        rows::<'d'>(&[":domain"], &["1", ":recipient"], ":domain");
        rows::<'r'>(&[":recipient", ":domain"], &["1", ":sender", ":login"], ":recipient or :domain");
        rows::<'a'>(&[":recipient", ":domain"], &["1", ":sender", ":login"], ":recipient or :domain, or \"\"");
    }

    #[test]
    fn levels() {
        for text in ["info", "off", "info,staffetta_queue=debug", "warn,a::b=trace"] {
            assert!(LogLevel::parse(text).is_ok(), "{text}");
        }
        for text in ["", "loud", "INFO", "info,", "a=b", "=info", "a b=info"] {
            assert!(LogLevel::parse(text).is_err(), "{text}");
        }
    }
}
