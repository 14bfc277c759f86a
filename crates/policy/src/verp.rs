//! Senders of their own for recipients (VERP): what `news@example.org` writes to `lisa@example.com` leaves as
//! `news+mac-lisa=example.com@example.org`. Whatever comes back to that address is about this recipient, in which form
//! and from whom it may come.
//!
//! The MAC says that the address is of our making. Only those whom the mail has passed have seen it, so whoever
//! forges a report can speak of nobody but the recipient of mail that he has got. Servers may change the case of an address: that
//! does not matter here.

use std::fmt;

use sha2::{Digest as _, Sha256};
use staffetta_mail::{Address, ReversePath};
use subtle::ConstantTimeEq as _;

use crate::routing::Senders;
use crate::seal::Seal;

/// Characters of a MAC, each of five bits: too many to be guessed one by one over SMTP.
const MAC: usize = 10;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Octets of a local part that every server takes (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// Makes the addresses of some senders.
#[derive(Clone)]
pub struct Signer {
    seal: Seal,
    suppresses: bool,
}

impl Signer {
    /// `key`: any text that nobody can guess.
    pub fn new(key: &[u8]) -> Self {
        Self { seal: Seal::new(Sha256::digest(key).into()), suppresses: false }
    }

    /// The same, and what comes back to its addresses may suppress recipients, or not.
    #[must_use]
    pub fn suppressing(self, suppresses: bool) -> Self {
        Self { suppresses, ..self }
    }

    /// As whom this sender writes to this recipient. `None`: as himself, for the two do not fit into one address: one of them has
    /// quotes, UTF-8 or an address literal, or both together are too long.
    pub fn sender_for(&self, sender: &Address, recipient: &Address) -> Option<Address> {
        let is_plain = |part: &str| part.is_ascii() && !part.starts_with(['"', '[']);
        let (local, domain) = (sender.local(), sender.domain_str()?);
        let (to, at) = (recipient.local(), recipient.domain_str()?);
        if ![local, domain, to, at].into_iter().all(is_plain) {
            return None;
        }
        let own = format!("{local}+{}-{to}={at}", self.mac(sender, recipient));
        if own.len() > MAX_LOCAL {
            return None;
        }
        Address::parse(&format!("{own}@{domain}")).ok()
    }

    fn mac(&self, sender: &Address, recipient: &Address) -> String {
        let parts = [sender, recipient].map(|address| address.as_str().to_ascii_lowercase());
        let [a, b, c, d, e, f, g, ..] = self.seal.of(["verp", &parts[0], &parts[1]].map(str::as_bytes));
        let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
        let digit = |place: usize| char::from(BASE32[(bits >> (5 * place)) as usize % BASE32.len()]);
        (0..MAC).map(digit).collect()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Which senders have such addresses.
#[derive(Debug, Default)]
pub struct Verp(Vec<(Senders, Signer)>);

/// What an address of our making says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Who wrote.
    pub sender: Address,
    /// To whom.
    pub recipient: Address,
    /// Who has made the address may have recipients suppressed by it.
    pub suppresses: bool,
}

impl Verp {
    /// From entries in their order.
    pub fn new(entries: impl IntoIterator<Item = (Senders, Signer)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Who makes the addresses of this sender: the first entry for it. A sender that is such an address already has none: what
    /// comes back is for whoever made it.
    pub fn signer(&self, sender: &ReversePath) -> Option<&Signer> {
        let address = sender.address()?;
        let signer = self.signers(address).next()?;
        self.read(address).is_none().then_some(signer)
    }

    /// What an address says, if any entry for its sender has made it: an old key behind the new one goes on being known.
    pub fn read(&self, named: &Address) -> Option<Returned> {
        let (local, domain) = (named.local(), named.domain_str()?);
        if self.0.is_empty() || local.len() > MAX_LOCAL {
            return None;
        }
        // Either of the two may have a plus in its own name.
        local.match_indices('+').find_map(|(at, _)| {
            let (mac, recipient) = local[at + 1..].split_at_checked(MAC)?;
            let (to, of) = recipient.strip_prefix('-')?.rsplit_once('=')?;
            let sender = Address::parse(&format!("{}@{domain}", &local[..at])).ok()?;
            let recipient = Address::parse(&format!("{to}@{of}")).ok()?;
            let mac = mac.to_ascii_lowercase();
            let has_made =
                |signer: &Signer| -> bool { signer.mac(&sender, &recipient).as_bytes().ct_eq(mac.as_bytes()).into() };
            let suppresses = self.signers(&sender).find(|signer| has_made(signer))?.suppresses;
            Some(Returned { sender, recipient, suppresses })
        })
    }

    fn signers(&self, sender: &Address) -> impl Iterator<Item = &Signer> {
        self.0.iter().filter(|(senders, _)| senders.match_address(sender)).map(|(_, signer)| signer)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::Pattern;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn all(domain: &str, key: &str) -> (Senders, Signer) {
        (Senders::Domain(Pattern::Exact(domain.to_owned())), Signer::new(key.as_bytes()))
    }

    fn sender_for(verp: &Verp, sender: &str, recipient: &str) -> Option<String> {
        let sender = address(sender);
        let signer = verp.signer(&ReversePath::Address(sender.clone()))?;
        signer.sender_for(&sender, &address(recipient)).map(String::from)
    }

    #[test]
    fn a_recipient_gets_an_address_that_says_who_he_is() {
        let verp = Verp::new([all("example.org", "one key of many")]);
        let own = sender_for(&verp, "news@example.org", "Lisa+x=y@example.com").unwrap();
        let (start, end) = ("news+", "-Lisa+x=y=example.com@example.org");
        assert!(own.starts_with(start) && own.ends_with(end) && own.len() == start.len() + MAC + end.len(), "{own}");
        let read = verp.read(&address(&own.to_uppercase())).unwrap();
        assert_eq!(read.sender, address("NEWS@EXAMPLE.ORG"));
        assert_eq!(read.recipient, address("LISA+X=Y@EXAMPLE.COM"));
        assert_ne!(own, sender_for(&verp, "news@example.org", "lisb+x=y@example.com").unwrap());
        assert_eq!(sender_for(&verp, "news@example.net", "lisa@example.com"), None, "no entry is for him");
        assert_eq!(sender_for(&verp, &own, "lisa@example.com"), None, "another relay has made it, with this key");
    }

    #[test]
    fn what_does_not_fit_into_an_address_leaves_as_it_is() {
        let verp = Verp::new([all("example.org", "one key of many")]);
        let fits = |sender: &str, recipient: &str| sender_for(&verp, sender, recipient).is_some();
        for (sender, recipient) in [
            ("\"a b\"@example.org", "lisa@example.com"),
            ("news@example.org", "\"lisa\"@example.com"),
            ("news@example.org", "lisa@[192.0.2.1]"),
            ("news@example.org", "l\u{fc}sa@example.com"),
            ("n\u{fc}ws@example.org", "lisa@example.com"),
            ("news@example.org", "lisa@b\u{fc}cher.example"),
            ("news@example.org", "postmaster"),
        ] {
            assert!(!fits(sender, recipient), "{sender} {recipient}");
        }
        // "news+" "-" "=example.com" and the MAC are 28 octets.
        let recipient = |octets: usize| format!("{}@example.com", "l".repeat(octets));
        assert!(fits("news@example.org", &recipient(36)) && !fits("news@example.org", &recipient(37)));
    }

    #[test]
    fn only_what_was_made_with_a_key_for_its_sender_is_believed() {
        let (old, new) = ("the key of last year", "the key of this year");
        let before = Verp::new([all("example.org", old)]);
        let own = sender_for(&before, "news@example.org", "lisa@example.com").unwrap();
        let both = Verp::new([all("example.org", new), all("example.org", old)]);
        assert!(both.read(&address(&own)).is_some(), "an old key is known");
        assert_ne!(sender_for(&both, "news@example.org", "lisa@example.com").unwrap(), own, "and no longer used");
        for verp in [Verp::new([all("example.org", new)]), Verp::new([all("example.net", old)]), Verp::default()] {
            assert_eq!(verp.read(&address(&own)), None);
        }
        let (start, end) = own.split_at(own.find('-').unwrap());
        for forged in [
            own.replace("lisa", "lisb"),
            own.replace("news", "mews"),
            own.replace("@example.org", "@mail.example.org"),
            format!("{}{end}", &start[..start.len() - 1]),
            format!("{start}a{end}"),
            format!("news+{}{end}", "a".repeat(MAC)),
            format!("news{end}"),
            format!("+{own}"),
        ] {
            assert_eq!(before.read(&address(&forged)), None, "{forged}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_as_it_was_said(
            sender in "[a-zA-Z0-9+=._-]{1,20}@(example\\.org|a\\.b-c\\.example)",
            recipient in "[a-zA-Z0-9+=._-]{1,20}@([a-z0-9]{1,8}\\.){0,2}example",
        ) {
            let (sender, recipient) = (address(&sender), address(&recipient));
            let signer = Signer::new(b"one key of many");
            if let Some(own) = signer.sender_for(&sender, &recipient) {
                prop_assert!(own.local().len() <= MAX_LOCAL);
                let verp = Verp::new([(Senders::Domain(Pattern::Any), signer)]);
                prop_assert_eq!(verp.read(&own), Some(Returned { sender, recipient, suppresses: false }));
            }
        }

        #[test]
        fn nothing_else_is_read_and_nothing_panics(local in "[a-z2-7+=-]{1,64}", domain in "[a-z.=-]{1,20}") {
            let verp = Verp::new([(Senders::Domain(Pattern::Any), Signer::new(b"one key of many"))]);
            if let Ok(named) = Address::parse(&format!("{local}@{domain}")) {
                prop_assert_eq!(verp.read(&named), None);
            }
        }
    }
}
