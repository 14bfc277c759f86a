//! The keys of all domains, and whose are used for a message.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use staffetta_mail::a_labels;

use crate::Key;

/// A key with its place in the DNS.
#[derive(Debug)]
pub struct Row {
    /// The signing domain, in lower case and A-labels.
    pub domain: String,
    /// The name of the key below it.
    pub selector: String,
    /// The key.
    pub key: Key,
}

/// The keys of one domain, in the order of the configuration: each makes a signature of its own.
pub type Signers = Arc<[Row]>;

/// What is known of who brought a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// We made it ourselves, or it came from a trusted network: whoever it names as author.
    Trusted,
    /// A login, with the domain of its name if that is an address. It answers for this domain and for that of its envelope
    /// sender, which it owns, and not for every author.
    Login(Option<&'a str>),
    /// Anybody.
    Stranger,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keyring {
    domains: HashMap<Box<str>, Signers>,
}

impl Keyring {
    /// Of these rows.
    pub fn new(rows: Vec<Row>) -> Self {
        let mut domains: HashMap<Box<str>, Vec<Row>> = HashMap::new();
        for row in rows {
            domains.entry(row.domain.as_str().into()).or_default().push(row);
        }
        Self { domains: domains.into_iter().map(|(domain, rows)| (domain, rows.into())).collect() }
    }

    /// The keys that sign a message of this author, sent by this envelope sender; both are domains as written.
    ///
    /// The author's domain signs, so that the signature is aligned with what the reader sees (RFC 7489 section 3.1.1). If it
    /// has no key, or the login does not answer for it, the sender's domain does: among the tenants of one relay, nobody gets
    /// the signature of another by writing that one's name into From. A stranger's message is never signed.
    pub fn choose(&self, author: Option<&str>, sender: Option<&str>, standing: Standing<'_>) -> Option<&Signers> {
        let of = |domain: Option<&str>| domain.and_then(|domain| self.of(domain));
        match standing {
            Standing::Stranger => None,
            Standing::Trusted => of(author).or_else(|| of(sender)),
            Standing::Login(login) => {
                let own = [of(sender), of(login)];
                let answers = |signers: &&Signers| own.iter().flatten().any(|own| Arc::ptr_eq(own, signers));
                of(author).filter(answers).or(own[0]).or(own[1])
            }
        }
    }

    /// The keys of a domain, or of the nearest one above it that has some.
    pub fn of(&self, domain: &str) -> Option<&Signers> {
        let domain = normal(domain)?;
        let mut name = &*domain;
        loop {
            if let Some(signers) = self.domains.get(name) {
                return Some(signers);
            }
            name = name.split_once('.')?.1;
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }
}

/// As it stands in the table; copied only if it has to be changed.
fn normal(domain: &str) -> Option<Cow<'_, str>> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if !domain.is_ascii() {
        return a_labels(domain).map(Cow::Owned);
    }
    let upper = domain.bytes().any(|octet| octet.is_ascii_uppercase());
    Some(if upper { Cow::Owned(domain.to_ascii_lowercase()) } else { Cow::Borrowed(domain) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing;

    fn ring(domains: &[&str]) -> Keyring {
        let row = |(number, domain): (usize, &&str)| Row {
            domain: (*domain).to_owned(),
            selector: format!("s{number}"),
            key: testing::ed25519(),
        };
        Keyring::new(domains.iter().enumerate().map(row).collect())
    }

    fn chosen(ring: &Keyring, author: &str, sender: &str, standing: Standing<'_>) -> String {
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let signers = ring.choose(some(author), some(sender), standing);
        signers.map_or_else(String::new, |signers| signers[0].domain.clone())
    }

    #[test]
    fn a_domain_has_its_own_keys_or_those_of_the_nearest_one_above() {
        let ring = ring(&["example.org", "news.example.org", "xn--bcher-kva.example"]);
        for (domain, expected) in [
            ("example.org", "example.org"),
            ("EXAMPLE.org", "example.org"),
            ("example.org.", "example.org"),
            ("mail.example.org", "example.org"),
            ("news.example.org", "news.example.org"),
            ("a.b.news.example.org", "news.example.org"),
            ("B\u{dc}CHER.example", "xn--bcher-kva.example"),
            ("xn--BCHER-kva.example", "xn--bcher-kva.example"),
            ("myexample.org", ""),
            ("org", ""),
            ("", ""),
            (".", ""),
            ("[192.0.2.1]", ""),
            ("b\u{fc} cher.example", ""),
        ] {
            let found = ring.of(domain).map_or("", |signers| &signers[0].domain);
            assert_eq!(found, expected, "{domain}");
        }
    }

    #[test]
    fn the_author_signs_and_else_the_sender_and_never_for_strangers() {
        use Standing::{Login, Stranger, Trusted};
        let ring = ring(&["a.test", "b.test"]);
        for (author, sender, standing, expected) in [
            ("a.test", "b.test", Trusted, "a.test"),
            ("a.test", "", Trusted, "a.test"),
            ("x.test", "b.test", Trusted, "b.test"),
            ("", "b.test", Trusted, "b.test"),
            ("x.test", "x.test", Trusted, ""),
            ("", "", Trusted, ""),
            ("a.test", "a.test", Login(None), "a.test"),
            ("sub.a.test", "bounces.a.test", Login(None), "a.test"),
            ("b.test", "a.test", Login(None), "a.test"),
            ("b.test", "a.test", Login(Some("b.test")), "b.test"),
            ("x.test", "a.test", Login(Some("b.test")), "a.test"),
            ("a.test", "x.test", Login(None), ""),
            ("a.test", "x.test", Login(Some("y.test")), ""),
            ("a.test", "", Login(Some("a.test")), "a.test"),
            ("x.test", "", Login(Some("a.test")), "a.test"),
            ("a.test", "", Login(None), ""),
            ("a.test", "a.test", Stranger, ""),
        ] {
            assert_eq!(chosen(&ring, author, sender, standing), expected, "{author} {sender} {standing:?}");
        }
    }

    #[test]
    fn all_keys_of_a_domain_sign_in_their_order() {
        let ring = ring(&["a.test", "b.test", "a.test"]);
        let selectors: Vec<_> = ring.of("a.test").unwrap().iter().map(|row| row.selector.as_str()).collect();
        assert_eq!(selectors, ["s0", "s2"]);
    }
}
