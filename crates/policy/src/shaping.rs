//! Rules about what servers say: after how many replies of a kind a destination gets no mail for a while, or less of it, and
//! which of them are final although the server calls them temporary.
//!
//! A large provider that finds a sender too fast, or not to its liking, says so in words of its own, and takes each further
//! attempt as one more reason. The rules are asked in order, the configured ones before those of this program; the first
//! that is for the reply counts.
//!
//! Servers repeat addresses in their replies, and strangers choose their addresses: what they have chosen is taken out before
//! ([`without_addresses`]), or anybody could have a destination suspended. The rules of this program are for mail hosts that
//! the DNS names, never for the servers of a route.

mod known;

pub use known::messages_per_connection;

use std::time::Duration;

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::Extractor;
use sha2::{Digest as _, Sha256};

use crate::destination::Entry;
use crate::routing::Pattern;

/// Octets that a compiled pattern may take.
const SIZE: usize = 256 * 1024;
/// Octets of a reply that are looked at.
const LOOKED_AT: usize = 1_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The destination rests.
    Suspend,
    /// It gets so many messages in this time at most.
    Slow {
        /// So many.
        messages: u32,
        /// In this time.
        per: Duration,
    },
    /// It gets so many connections at most.
    Fewer(u32),
    /// Whoever such a reply is about is given up although it is temporary.
    Bounce,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// For the log: the key of the configuration, or what it is about.
    pub name: String,
    /// What makes it this rule for every worker, wherever it stands in the configuration: eight hexadecimal digits.
    pub key: String,
    /// For the servers of these; without any for all.
    scope: Entry,
    /// Searched for in the reply.
    reply: Regex,
    /// What it does.
    pub measure: Measure,
    /// After so many replies.
    pub times: u32,
    /// Within this time.
    pub within: Duration,
    /// How long that lasts.
    pub lasts: Duration,
    /// Only for hosts that were looked up.
    by_mx: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// Reads a pattern; case does not matter.
///
/// # Errors
/// Why it is none, in a line.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(text).case_insensitive(true).size_limit(SIZE).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "is too large".to_owned(),
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// Is it certain that this pattern is found in no refusal? It must begin with the reply then, and does not begin with a code
/// as those have: `^too many`, `^250`, `^421-`. Of others nothing is known.
pub fn matches_nothing(text: &str) -> bool {
    let Ok(pattern) = ParserBuilder::new().case_insensitive(true).build().parse(text) else { return false };
    if !pattern.properties().look_set_prefix().contains(Look::Start) {
        return false;
    }
    let begins = Extractor::new().extract(&pattern);
    begins.literals().is_some_and(|literals| !literals.iter().any(|literal| may_begin_refusal(literal.as_bytes())))
}

/// `421 `, or what may become that.
fn may_begin_refusal(text: &[u8]) -> bool {
    let allowed: [fn(u8) -> bool; 4] = [
        |octet| matches!(octet, b'4' | b'5'),
        |octet| octet.is_ascii_digit(),
        |octet| octet.is_ascii_digit(),
        |octet| octet == b' ',
    ];
    text.iter().zip(allowed).all(|(octet, is_allowed)| is_allowed(*octet))
}

impl Rule {
    /// A rule for the servers of these domains, or with these names; without any for all.
    pub fn new(name: String, (domains, hosts): (Vec<Pattern>, Vec<Pattern>), reply: Regex) -> Self {
        let scope = Entry { domains, hosts, ..Entry::default() };
        let (measure, key) = (Measure::Suspend, key(&scope, reply.as_str()));
        let (within, lasts) = (Duration::ZERO, Duration::ZERO);
        Self { name, key, scope, reply, measure, times: 1, within, lasts, by_mx: false }
    }

    fn by_mx(self) -> Self {
        Self { by_mx: true, ..self }
    }

    /// The same, which does this. It suspends otherwise.
    #[must_use]
    pub fn doing(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// The same, which fires after so many replies within this time, for so long.
    #[must_use]
    pub fn after(self, times: u32, within: Duration, lasts: Duration) -> Self {
        Self { times: times.max(1), within, lasts, ..self }
    }

    fn is_for(&self, domain: &str, hosts: &[String]) -> bool {
        if self.by_mx && hosts.is_empty() {
            return false;
        }
        let everywhere = self.scope.domains.is_empty() && self.scope.hosts.is_empty();
        everywhere || self.scope.is_for_domain(domain) || self.scope.is_for_hosts(hosts)
    }
}

impl Rules {
    /// The rules of the configuration; behind them those of this program, if they are wanted, which last so long.
    pub fn new(mut configured: Vec<Rule>, known: Option<Duration>) -> Self {
        configured.extend(known.into_iter().flat_map(known::rules));
        Self(configured)
    }

    /// What they are known by.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| &*rule.key)
    }

    /// Does any of them make replies final? Spares those who would have to read one.
    pub fn have_bounces(&self) -> bool {
        self.0.iter().any(|rule| rule.measure == Measure::Bounce)
    }

    /// The rule for what a server has said of mail to `domain`: `421 4.7.0 text`, on one line.
    pub fn find(&self, domain: &str, hosts: &[String], reply: &str) -> Option<&Rule> {
        let reply = &reply[..reply.floor_char_boundary(LOOKED_AT)];
        self.0.iter().find(|rule| rule.is_for(domain, hosts) && rule.reply.is_match(reply))
    }
}

/// By which replies of whose servers a rule is known.
fn key(scope: &Entry, reply: &str) -> String {
    let mut digest = Sha256::new();
    for patterns in [&scope.domains, &scope.hosts] {
        patterns.iter().for_each(|pattern| digest.update(format!("{pattern}\n")));
        digest.update("\n");
    }
    digest.update(reply);
    hex::encode(&digest.finalize()[..4])
}

/// A reply without these addresses, without their local parts and domains where they are words of their own, without what
/// stands in angle brackets, and without words that have an `@`. In the place of a name stands [`BLANK`]: what is around it
/// becomes no other sentence.
///
/// An address with a quoted local part may have any words in it, and brackets. Of a reply to such mail only the codes are left.
pub fn without_addresses<'a>(reply: &str, addresses: impl IntoIterator<Item = &'a str>) -> String {
    let mut plain = reply[..reply.floor_char_boundary(LOOKED_AT)].to_owned();
    let mut lower = plain.to_ascii_lowercase();
    for address in addresses {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        if local.contains('"') {
            return codes(reply);
        }
        // What is shorter is no pattern, and may be a part of any word.
        for name in [address, local, domain].into_iter().filter(|name| name.len() > 2) {
            blank(&mut plain, &mut lower, name);
        }
    }
    let outside = plain.split('<').enumerate().map(|(index, part)| match part.split_once('>') {
        _ if index == 0 => part,
        Some((_, outside)) => outside,
        None => "",
    });
    let outside = outside.collect::<Vec<_>>().join(" ");
    outside.split_whitespace().filter(|word| !word.contains('@')).collect::<Vec<_>>().join(" ")
}

/// Stands for a name that is nobody's business.
const BLANK: char = '\u{2026}';

/// Wherever this name is a word of its own, whatever the case of its letters. `lower`: the text in lower case.
fn blank(text: &mut String, lower: &mut String, name: &str) {
    let name = name.to_ascii_lowercase();
    let is_word = |(at, _): &(usize, &str)| {
        let before = text[..*at].chars().next_back();
        let behind = text[at + name.len()..].chars().next();
        !before.into_iter().chain(behind).any(char::is_alphanumeric)
    };
    let found: Vec<usize> = lower.match_indices(&name).filter(is_word).map(|(at, _)| at).collect();
    for at in found.into_iter().rev() {
        for text in [&mut *text, &mut *lower] {
            text.replace_range(at..at + name.len(), BLANK.encode_utf8(&mut [0; 4]));
        }
    }
}

/// `450 4.1.8`, of `450 4.1.8 words`.
fn codes(reply: &str) -> String {
    let is_code = |word: &&str| word.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    reply.split_whitespace().take(2).take_while(is_code).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(1800);

    fn rule(name: &str, hosts: &[&str], reply: &str) -> Rule {
        let hosts = hosts.iter().map(|host| Pattern::Subdomains((*host).to_owned())).collect();
        Rule::new(name.to_owned(), (Vec::new(), hosts), pattern(reply).unwrap())
    }

    fn found(rules: &Rules, host: &str, reply: &str) -> Option<String> {
        rules.find("example.com", &[host.to_owned()], reply).map(|rule| rule.name.clone())
    }

    #[test]
    fn the_first_rule_for_the_server_and_its_words_counts() {
        let rules = Rules::new(vec![rule("big", &["big.test"], "too fast"), rule("all", &[], "^4.*TOO")], None);
        let says = |host, reply| found(&rules, host, reply);
        assert_eq!(says("mx.big.test", "421 4.7.0 You are Too Fast").as_deref(), Some("big"));
        assert_eq!(says("mx.other.test", "421 4.7.0 You are Too Fast").as_deref(), Some("all"));
        assert_eq!(says("mx.big.test", "550 5.1.1 No such user"), None);
        assert_eq!(says("mx.other.test", "550 5.7.1 too bad"), None);
    }

    #[test]
    fn what_large_providers_say_of_too_much_mail_is_known() {
        let rules = Rules::new(Vec::new(), Some(REST));
        for (host, reply) in [
            (
                "mta5.am0.yahoodns.net",
                "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
            ),
            ("mta7.am0.yahoodns.net", "421 4.7.0 [TS03] All messages from 192.0.2.1 will be permanently deferred"),
            ("mx.relayed.example", "421 4.7.0 [TS01] deferred"),
            ("alt1.gmail-smtp-in.l.google.com", "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail"),
            ("gmail-smtp-in.l.google.com", "421-4.7.0 very low reputation of the sending IP address"),
            (
                "hotmail-com.olc.protection.outlook.com",
                "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited",
            ),
            ("hotmail-com.olc.protection.outlook.com", "421 RP-001 exceeded the rate limit allowed"),
            ("example-com.mail.protection.outlook.com", "451 4.7.500 Server busy. Please try again later (AS7750)"),
            ("mx01.mail.icloud.com", "421 4.7.0 too many messages from your host"),
            ("mx1a1.comcast.net", "421 4.1.0 192.0.2.1 Throttled - RL000003"),
            ("gmail-smtp-in.l.google.com", "421-4.7.28 Gmail has detected an unusual rate"),
            (
                "gmail-smtp-in.l.google.com",
                "550-5.7.28 unusual rate of unsolicited mail originating from your IP address",
            ),
            ("a.mail.protection.outlook.com", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]"),
            (
                "a.olc.protection.outlook.com",
                "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3140).",
            ),
        ] {
            let rule = rules.find("example.com", &[host.to_owned()], reply);
            assert!(rule.is_some_and(|rule| rule.times > 1 && rule.lasts == REST), "{host}: {reply}");
        }
        for (host, reply) in [
            ("mta5.am0.yahoodns.net", "554 delivery error: This user doesn't have a yahoo.com account"),
            ("mta5.am0.yahoodns.net", "421 4.7.0 Max message per connection reached"),
            (
                "gmail-smtp-in.l.google.com",
                "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
            ),
            ("gmail-smtp-in.l.google.com", "550 5.7.26 unauthenticated"),
            ("gmail-smtp-in.l.google.com", "550-5.7.1 very low reputation of the sending domain"),
            (
                "gmail-smtp-in.l.google.com",
                "550 5.7.28 unusual rate of unsolicited mail originating from your DKIM domain",
            ),
            ("gmail-smtp-in.l.google.com", "550 5.7.1 our rule: the very low reputation of the sending IP address"),
            ("a.mail.protection.outlook.com", "550 5.7.1 our rule: like 550 5.7.606 (S3140)"),
            ("mx.small.example", "550 5.7.606 Access denied"),
            ("a.olc.protection.outlook.com", "550 5.7.509 Access denied, sending domain does not pass DMARC"),
            ("hotmail-com.olc.protection.outlook.com", "550 5.5.0 Requested action not taken: mailbox unavailable"),
            ("mx.small.example", "451 4.7.1 Greylisted, try again in 300 seconds"),
            ("mx.small.example", "421 4.7.0 too many connections"),
            ("mx.small.example", "451 4.7.500 whatever"),
            ("mx.small.example", "421 trop de connexions"),
            ("mx00.gmx.net", "550 5.7.1 too many connections"),
        ] {
            assert_eq!(found(&rules, host, reply), None, "{host}: {reply}");
        }
    }

    #[test]
    fn who_says_that_connections_or_messages_are_too_many_gets_fewer_and_whoever_complains_rests() {
        let rules = Rules::new(Vec::new(), Some(REST));
        let does = |host: &str, reply: &str| {
            rules.find("example.com", &[host.to_owned()], reply).map(|rule| match rule.measure {
                Measure::Fewer(_) => "fewer",
                Measure::Slow { .. } => "slow",
                Measure::Suspend => "suspend",
                Measure::Bounce => "bounce",
            })
        };
        for (host, reply, expected) in [
            ("mx00.gmx.net", "421 gmx.net Service closing transmission channel. Too many connections", "fewer"),
            ("163mx01.mxmail.netease.com", "421 Too many connections", "fewer"),
            ("smtp-in.orange.fr", "421 mwinf5c01 ME Trop de connexions, veuillez verifier", "fewer"),
            ("a.olc.protection.outlook.com", "421 RP-002 The IP has exceeded the connection limit allowed.", "fewer"),
            ("a.olc.protection.outlook.com", "421 RP-001 The IP has exceeded the rate limit allowed.", "slow"),
            ("a.mail.protection.outlook.com", "451 4.7.500 Server busy. Please try again later", "slow"),
            ("a.olc.protection.outlook.com", "421 RP-003 unusual", "suspend"),
            ("mx1a1.comcast.net", "421 4.1.0 192.0.2.1 Throttled - RL000001", "slow"),
            ("mx01.mail.icloud.com", "421 4.7.0 too many messages from your host", "slow"),
            ("mx01.mail.icloud.com", "421 4.7.0 too many errors from your host", "suspend"),
            ("mta5.am0.yahoodns.net", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "suspend"),
        ] {
            assert_eq!(does(host, reply), Some(expected), "{host}: {reply}");
        }
    }

    #[test]
    fn providers_that_are_known_for_it_get_so_many_messages_over_a_connection() {
        let of = |hosts: &[&str]| messages_per_connection(&crate::destination::normalized(hosts.iter().copied()));
        assert_eq!(of(&["ASPMX.L.Google.com.", "alt1.aspmx.l.google.com"]), Some(50));
        assert_eq!(of(&["mx01.mail.icloud.com"]), Some(10));
        for others in [&["mx.example.net"][..], &["aspmx.l.google.com", "mx.example.net"], &["google.com"], &[]] {
            assert_eq!(of(others), None, "{others:?}");
        }
    }

    #[test]
    fn what_strangers_have_chosen_is_no_word_of_the_server() {
        let rules = Rules::new(Vec::new(), Some(REST));
        let addresses = ["\"[TS01]\"@nx.test", "[TSS04]@ours.test", "a@b.test"];
        for reply in [
            "450 4.1.8 <\"[TS01]\"@nx.test>: Sender address rejected: Domain not found",
            "450 4.2.0 <[TSS04]@ours.test>: Recipient address rejected: Greylisted",
            "450 4.2.0 \"[TS01]\"@nx.test greylisted",
            "450 4.2.0 [TSS04]: mailbox busy",
            "450 4.2.0 <<[TSS04]@ours.test>: busy",
        ] {
            let plain = without_addresses(reply, addresses);
            assert_eq!(found(&rules, "mx.test", &plain), None, "{reply} -> {plain}");
            assert!(plain.starts_with("450 4."), "{plain}");
        }
        // A quoted local part closes brackets and opens others.
        for address in ["\"x> [TS04] <<\"@evil.test", "\"a\\\"> [TSS01] <\"@evil.test"] {
            for reply in [
                format!("450 4.1.8 <{address}>: Sender address rejected: Domain not found"),
                format!("450 4.2.0 {address} is greylisted"),
                format!("421 [TS01] {address}"),
            ] {
                let plain = without_addresses(&reply, [address]);
                assert_eq!(found(&rules, "mx.test", &plain), None, "{reply} -> {plain}");
                assert!(plain.len() < 10, "{plain}");
            }
        }
        // What is left is the server's: no word is made of others, and none is torn.
        let of = |reply: &str, address: &str| without_addresses(reply, [address]);
        assert_eq!(of("550 mailbox not found", "mail@a.test"), "550 mailbox not found");
        assert_eq!(of("451 we will never take this", "eve@a.test"), "451 we will never take this");
        assert_eq!(of("550 Sender address rejected", "sender@a.test"), "550 \u{2026} address rejected");
        assert_eq!(
            of("550 no JOHN@A.TEST here, a.test. Nor <x <y@b.test>", "john@a.test"),
            "550 no \u{2026} here, \u{2026}. Nor"
        );
        let fast = Rules::new(vec![rule("fast", &[], "too-fast")], None);
        let plain = without_addresses("450 4.1.8 Sender domain too-fast.test not found", ["a@too-fast.test"]);
        assert_eq!(found(&fast, "mx.test", &plain), None, "{plain}");
        let meant = without_addresses("421 4.7.0 [TSS04] Messages from 192.0.2.1 deferred", ["a@b.test"]);
        assert_eq!(meant, "421 4.7.0 [TSS04] Messages from 192.0.2.1 deferred");
        assert!(found(&rules, "mx.test", &meant).is_some());
        assert!(rules.find("example.com", &[], &meant).is_none(), "not the server of a route");
    }

    #[test]
    fn a_pattern_that_can_be_in_no_refusal_is_told_from_those_that_can() {
        for text in [
            "^Too many",
            "^\u{e9}chec",
            r"^2\d\d ",
            "^250|^354",
            "^(3|2)",
            r"^\s*Too",
            "^421-4.7.0",
            r"^4\.7\.1",
            "^4x",
            "^ 421",
            "^[a-c]d",
            r"\b^[12]50",
            "^(?:over|too)",
        ] {
            let found = pattern(text).unwrap();
            assert!(!found.is_match("421 4.7.0 too many") && !found.is_match("550 250"), "{text}");
            assert!(matches_nothing(text) || text == r"^\s*Too", "{text}");
        }
        for text in [
            "",
            "^",
            "^$",
            "too many",
            "250",
            "^4",
            "^421",
            r"^4\d\d .*later",
            "^(421|250) ",
            "^250|later",
            "^.*later",
            "^[^5]",
            r"^\d",
            r"^\w+ 4\.7",
            "(?m)^too",
            "$^",
            "^5[0-9]{2} 5",
            "^[2-5]",
            r"^4\d{2}\b",
            "(^too)?",
            "^(too)?",
            "a(b",
        ] {
            assert!(!matches_nothing(text), "{text}");
        }
    }

    #[test]
    fn a_rule_is_known_by_its_words_and_servers_wherever_it_stands() {
        let one = rule("delivery.rule[0]", &["big.test"], "never");
        assert_eq!(one.key, rule("delivery.rule[7]", &["big.test"], "never").doing(Measure::Bounce).key);
        assert!(one.key.len() == 8 && one.key.bytes().all(|octet| octet.is_ascii_hexdigit()), "{}", one.key);
        let domains = vec![Pattern::Subdomains("big.test".to_owned())];
        let by_domain = Rule::new(String::new(), (domains, Vec::new()), pattern("never").unwrap());
        for other in [rule("x", &["big.test"], "not now"), rule("x", &[], "never"), by_domain] {
            assert_ne!(one.key, other.key);
        }
    }

    #[test]
    fn a_rule_may_be_for_domains_and_a_pattern_has_its_limits() {
        let domains = vec![Pattern::Exact("example.com".to_owned())];
        let rule = Rule::new("d".to_owned(), (domains, Vec::new()), pattern("later").unwrap());
        let rules = Rules::new(vec![rule.after(0, REST, REST)], None);
        assert_eq!(found(&rules, "mx.test", "450 later").as_deref(), Some("d"));
        assert!(rules.find("example.net", &[], "450 later").is_none());
        assert_eq!(rules.find("example.com", &[], "450 later").unwrap().times, 1);
        let long = format!("450 {}\u{e4}later", "x".repeat(LOOKED_AT - 5));
        assert_eq!(found(&rules, "mx.test", &long), None, "a reply without end costs no more than a long one");
        assert_eq!(pattern("a(b").unwrap_err(), "unclosed group");
        assert_eq!(pattern("(a{500}){500}").unwrap_err(), "is too large");
    }
}
