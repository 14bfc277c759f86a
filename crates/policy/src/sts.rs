//! MTA-STS: what a domain says on its web server about the hosts that take its mail (RFC 8461).
//!
//! [`announced`] reads the TXT records that say that there is a policy, and which; [`Policy::parse`] reads the policy.

use crate::tls::Sts;

/// Longest life of a policy, in seconds: a year (section 3.2).
const LONGEST: u64 = 31_557_600;

/// How strictly a policy is meant (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Other hosts, and hosts without a good certificate, get no mail.
    Enforce,
    /// They do; the domain wants to hear of it.
    Testing,
    /// There is no policy any more.
    None,
}

impl Mode {
    /// The word in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// What a domain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How strictly it is meant.
    pub mode: Mode,
    /// How long it holds once it was fetched, in seconds.
    pub max_age: u64,
    /// Names of hosts, in lower case; `*.` stands for one label.
    pub hosts: Vec<String>,
}

/// Why a text is no policy. Completes "the policy …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// `version` is the first thing to know.
    #[error("is not of version STSv1")]
    Version,
    /// A word that is not one of the three, or none.
    #[error("has no mode that is known")]
    Mode,
    /// Not a number of seconds.
    #[error("has no max_age")]
    MaxAge,
    /// None, though the mode needs some.
    #[error("names no host")]
    Hosts,
}

/// The id of the policy that the texts at `_mta-sts.<domain>` announce (section 3.1). `None`: none, or several.
pub fn announced(texts: &[String]) -> Option<&str> {
    let mut ours = texts.iter().filter_map(|text| text.strip_prefix("v=STSv1")).filter_map(|rest| {
        let rest = rest.trim_start_matches([' ', '\t']);
        rest.strip_prefix(';')
    });
    let (fields, more) = (ours.next()?, ours.next());
    if more.is_some() {
        return None;
    }
    let id = fields.split(';').map(str::trim).find_map(|field| {
        let (key, value) = field.split_once('=')?;
        (key.trim_end() == "id").then(|| value.trim_start())
    })?;
    let fits = (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    fits.then_some(id)
}

impl Policy {
    /// Reads what a web server gave (section 3.2). Fields that are not known are for others; of a field that is given twice
    /// the first counts.
    ///
    /// # Errors
    /// It is no policy.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let fields: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let first = |wanted: &str| fields.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
        if first("version") != Some("STSv1") {
            return Err(BadPolicy::Version);
        }
        let mode = match first("mode") {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(BadPolicy::Mode),
        };
        let max_age = first("max_age").filter(|age| age.len() <= 10 && age.bytes().all(|octet| octet.is_ascii_digit()));
        let max_age: u64 = max_age.and_then(|age| age.parse().ok()).ok_or(BadPolicy::MaxAge)?;
        let mx = fields.iter().filter(|(key, _)| *key == "mx").map(|(_, value)| value);
        let hosts: Vec<String> = mx.map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect();
        if hosts.is_empty() && mode != Mode::None {
            return Err(BadPolicy::Hosts);
        }
        Ok(Self { mode, max_age: max_age.min(LONGEST), hosts })
    }

    /// Does it name this host (section 4.1)?
    pub fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
            }
            None => pattern.eq_ignore_ascii_case(host),
        })
    }

    /// What it means for this host.
    pub fn about(&self, host: &str) -> Sts {
        match self.mode {
            Mode::None => Sts::Off,
            Mode::Testing => Sts::Testing { listed: self.names(host) },
            Mode::Enforce if self.names(host) => Sts::Enforce,
            Mode::Enforce => Sts::Unlisted,
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "version: STSv1\nmode: {}", self.mode.as_str())?;
        self.hosts.iter().try_for_each(|host| writeln!(f, "mx: {host}"))?;
        writeln!(f, "max_age: {}", self.max_age)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc8461_3_1_one_record_announces_a_policy() {
        for (texts, id) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=a"], Some("a")),
            (&["v=STSv1 ; id=a ; x=y"], Some("a")),
            (&["v=STSv1; x=y; id=b;"], Some("b")),
            (&["v=spf1 -all", "v=STSv1; id=a;"], Some("a")),
            // Two of them are none.
            (&["v=STSv1; id=a;", "v=STSv1; id=b;"], None),
            (&["v=STSv1; id=;"], None),
            (&["v=STSv1; id=a-b;"], None),
            (&["v=STSv1; id=123456789012345678901234567890123;"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv1"], None),
            (&["v=STSv2; id=a;"], None),
            (&["v=STSv11; id=a;"], None),
            (&["id=a; v=STSv1;"], None),
            (&[" v=STSv1; id=a;"], None),
            (&[], None),
        ] {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(announced(&texts), id, "{texts:?}");
        }
    }

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net.\r\nmax_age: 604800\r\n";

    #[test]
    fn rfc8461_3_2_a_policy_is_read() {
        let policy = Policy::parse(GOOD);
        let hosts = vec!["mail.example.com".to_owned(), "*.example.net".to_owned()];
        assert_eq!(policy, Ok(Policy { mode: Mode::Enforce, max_age: 604_800, hosts }));
        for (text, expected) in [
            ("mode: none\nmax_age: 1\nversion: STSv1", Ok((Mode::None, 1, 0))),
            ("version:STSv1\nmode:testing\nmx:a\nmax_age:0", Ok((Mode::Testing, 0, 1))),
            ("version: STSv1\nmode: enforce\nmode: none\nmx: a\nmax_age: 9\nmax_age: 8", Ok((Mode::Enforce, 9, 1))),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: 9\nnew: thing\n\nnothing", Ok((Mode::Enforce, 9, 1))),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: 9999999999", Ok((Mode::Enforce, LONGEST, 1))),
            ("", Err(BadPolicy::Version)),
            ("<html>", Err(BadPolicy::Version)),
            ("version: STSv2\nmode: enforce\nmx: a\nmax_age: 9", Err(BadPolicy::Version)),
            ("version: STSv1\nmx: a\nmax_age: 9", Err(BadPolicy::Mode)),
            ("version: STSv1\nmode: Enforce\nmx: a\nmax_age: 9", Err(BadPolicy::Mode)),
            ("version: STSv1\nmode: enforce\nmx: a", Err(BadPolicy::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: +9", Err(BadPolicy::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: ", Err(BadPolicy::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: 99999999999", Err(BadPolicy::MaxAge)),
            ("version: STSv1\nmode: enforce\nmax_age: 9", Err(BadPolicy::Hosts)),
            ("version: STSv1\nmode: testing\nmax_age: 9", Err(BadPolicy::Hosts)),
        ] {
            let policy = Policy::parse(text).map(|policy| (policy.mode, policy.max_age, policy.hosts.len()));
            assert_eq!(policy, expected, "{text:?}");
        }
    }

    /// A policy with many hosts that was as good as none would be a downgrade.
    #[test]
    fn a_policy_may_name_as_many_hosts_as_its_file_holds() -> Result<(), BadPolicy> {
        let policy = format!("version: STSv1\nmode: enforce\nmax_age: 9\n{}mx: b\n", "mx: a\n".repeat(10_000));
        assert_eq!(Policy::parse(&policy)?.about("b"), Sts::Enforce);
        Ok(())
    }

    /// Who keeps policies as they are written here has to know how long they get.
    #[test]
    fn a_policy_is_written_in_little_more_than_it_was_read_from() -> Result<(), BadPolicy> {
        for line in ["mx:\n", "mx:a\n", "mx: mail.example.com\r\n"] {
            let text = format!("version: STSv1\nmode: enforce\nmax_age: 9\n{}", line.repeat(10_000));
            assert!(Policy::parse(&text)?.to_string().len() <= text.len() * 5 / 4, "{line:?}");
        }
        Ok(())
    }

    #[test]
    fn rfc8461_4_1_a_star_is_one_label() -> Result<(), BadPolicy> {
        let policy = Policy::parse(GOOD)?;
        for (host, named) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("a.example.net", true),
            ("A.Example.NET", true),
            ("a.b.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("aexample.net", false),
            ("a.mail.example.com", false),
            ("example.com", false),
            ("", false),
        ] {
            assert_eq!(policy.names(host), named, "{host}");
        }
        Ok(())
    }

    #[test]
    fn rfc8461_5_only_enforce_is_enforced() {
        for (mode, listed, other) in [
            (Mode::Enforce, Sts::Enforce, Sts::Unlisted),
            (Mode::Testing, Sts::Testing { listed: true }, Sts::Testing { listed: false }),
            (Mode::None, Sts::Off, Sts::Off),
        ] {
            let policy = Policy { mode, max_age: 1, hosts: vec!["mx.test".to_owned()] };
            assert_eq!((policy.about("mx.test"), policy.about("b.test")), (listed, other));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_reads_the_same_when_it_is_written(text in "(?s).{0,200}", body in "[a-z:*. \r\n0-9]{0,100}") {
            for text in [text, format!("version: STSv1\nmode: enforce\nmx: a\nmax_age: 1\n{body}")] {
                if let Ok(policy) = Policy::parse(&text) {
                    prop_assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
                }
            }
        }
    }
}
