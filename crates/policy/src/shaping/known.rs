//! What large providers are known to say when they want fewer connections, less mail, or none for now, and how many messages of one
//! connection they like. Some of what they say is final for its message; the mail behind it is spared the same: only what their customers, who write
//! refusals of their own, cannot say. A server of which nothing
//! is known and that has enough connections is no case for a rule: its window shrinks to what it takes (`staffetta_dispatch::Pool`).

use std::time::Duration;

use super::{Measure, Rule, pattern};
use crate::diagnosis::are_of;
use crate::routing::Pattern;

/// After so many of them.
const TIMES: u32 = 3;
const WITHIN: Duration = Duration::from_secs(600);

/// What whoever finds connections, or messages, too many gets of them.
const FEWER: Measure = Measure::Fewer(2);
const SLOW: Measure = Measure::Slow { messages: 10, per: Duration::from_secs(60) };

/// What it is about, below which names its hosts are (without any: the words cannot be mistaken), the words, and what is done.
const KNOWN: &[(&str, &[&str], &str, Measure)] = &[
    ("GMX: connections", &["gmx.net", "web.de"], r"^4\d\d.*too many connections", FEWER),
    ("Microsoft: connections", MICROSOFT, r"^4\d\d.*(\bRP-002\b|\bIB007\b|maximum number of connections)", FEWER),
    ("NetEase: connections", &["netease.com"], r"^4\d\d.*too many connections", FEWER),
    ("Orange: connections", &["orange.fr", "wanadoo.fr"], r"^4\d\d.*trop de connexions", FEWER),
    ("Yahoo: complaints or volume", &[], r"^4\d\d[- ](\d\.\d+\.\d+ )?\[TSS?\d\d\]", Measure::Suspend),
    ("Gmail: unusual rate", &[], r"^4\d\d[- ]4\.7\.28\b", Measure::Suspend),
    ("Gmail: unusual rate", GOOGLE, r"^5\d\d[- ]5\.7\.28\b.*\byour ip\b", Measure::Suspend),
    ("Gmail: reputation", GOOGLE, r"^4\d\d.*(reputation|unsolicited mail)", Measure::Suspend),
    ("Microsoft: rate", MICROSOFT, r"^4\d\d[- ](4\.7\.500|RP-001)\b", SLOW),
    ("Microsoft: rate or reputation", MICROSOFT, r"^4\d\d[- ](4\.7\.[56]\d\d\b|RP-00\d)", Measure::Suspend),
    ("Microsoft: address refused", MICROSOFT, r"^5\d\d[- ]5\.7\.(508|606|649|708)\b", Measure::Suspend),
    (
        "Microsoft: address refused",
        &["olc.protection.outlook.com"],
        r"^5\d\d[- ]5\.7\.1\b.*\(S31[45]0\)",
        Measure::Suspend,
    ),
    ("Apple: rate", &["icloud.com"], r"^4\d\d.*too many messages", SLOW),
    ("Apple: reputation", &["icloud.com"], r"^4\d\d.*(too many errors|\[(CS|HM)\d+\])", Measure::Suspend),
    ("Comcast: rate", &["comcast.net"], r"^4\d\d.*\bRL0000\d\d\b", SLOW),
];
const GOOGLE: &[&str] = &["google.com", "googlemail.com"];
const MICROSOFT: &[&str] = &["outlook.com", "mx.microsoft"];

/// Below which names its hosts are, and the messages of one connection. More are put off, or count against us.
const TOGETHER: &[(&[&str], u32)] = &[
    (&["icloud.com"], 10),
    (&["yahoodns.net"], 20),
    (&["gmx.net", "web.de"], 20),
    (GOOGLE, 50),
    (MICROSOFT, 50),
    (&["orange.fr", "wanadoo.fr"], 100),
];

/// Most messages of one connection that a provider, to which all of these hosts belong, is known to like.
pub fn messages_per_connection(hosts: &[String]) -> Option<u32> {
    TOGETHER.iter().find(|(names, _)| are_of(hosts, names)).map(|(_, messages)| *messages)
}

pub(super) fn rules(lasts: Duration) -> impl Iterator<Item = Rule> {
    KNOWN.iter().filter_map(move |(name, hosts, words, measure)| {
        let hosts = hosts.iter().map(|host| Pattern::Subdomains((*host).to_owned())).collect();
        let rule = Rule::new((*name).to_owned(), (Vec::new(), hosts), pattern(words).ok()?);
        Some(rule.doing(*measure).after(TIMES, WITHIN, lasts).by_mx())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_read() {
        assert_eq!(rules(Duration::from_secs(1)).count(), KNOWN.len());
    }
}
