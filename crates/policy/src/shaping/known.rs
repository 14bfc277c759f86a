//! What large providers are known to say when they want less mail, or none for now.

use std::time::Duration;

use super::{Rule, pattern};
use crate::routing::Pattern;

/// After so many of them.
const TIMES: u32 = 3;
const WITHIN: Duration = Duration::from_secs(600);

/// What it is about, below which names its hosts are (without any: the words cannot be mistaken), and the words.
const KNOWN: &[(&str, &[&str], &str)] = &[
    ("Yahoo: complaints or volume", &[], r"^4\d\d[- ](\d\.\d+\.\d+ )?\[TSS?\d\d\]"),
    ("Gmail: unusual rate", &[], r"^4\d\d[- ]4\.7\.28\b"),
    ("Gmail: reputation", &["google.com", "googlemail.com"], r"^4\d\d.*(reputation|unsolicited mail)"),
    ("Microsoft: rate or reputation", &["outlook.com", "mx.microsoft"], r"^4\d\d[- ](4\.7\.[56]\d\d\b|RP-00\d)"),
    ("Apple: rate", &["icloud.com"], r"^4\d\d.*(too many (messages|errors)|\[(CS|HM)\d+\])"),
    ("Comcast: rate", &["comcast.net"], r"^4\d\d.*\bRL0000\d\d\b"),
];

pub(super) fn rules(rest: Duration) -> impl Iterator<Item = Rule> {
    KNOWN.iter().filter_map(move |(name, hosts, words)| {
        let hosts = hosts.iter().map(|host| Pattern::Subdomains((*host).to_owned())).collect();
        let rule = Rule::new((*name).to_owned(), (Vec::new(), hosts), pattern(words).ok()?);
        Some(rule.after(TIMES, WITHIN, rest).by_mx())
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
