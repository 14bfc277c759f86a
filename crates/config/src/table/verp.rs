//! `[[verp]]`: senders whose recipients get an address each.

use secrecy::{ExposeSecret, SecretString};
use staffetta_policy::routing::Senders;
use staffetta_policy::verp::{self, Signer};

use crate::Config;
use crate::kind::{AddressPattern, Any, Flag};
use crate::settings::settings;

settings! {
    /// Senders whose mail leaves with an envelope sender of its own for each recipient (VERP), so that a bounce that comes back
    /// later says whom it is about: `news@example.org` writes to `lisa@example.com` as
    /// `news+k3fqa7c2mq-lisa=example.com@example.org`. Mail for such an address is taken, as mail for `news@example.org`, by whichever
    /// frontend it comes to; what reports say that arrive there is logged.
    /// It holds for mail of logins and of trusted clients, and costs a transaction for each recipient. What would be longer than 64
    /// octets in front of the `@`, or has quotes or UTF-8, leaves as it is. Our own reports go to the sender himself. The
    /// first table for a sender counts; addresses made with the key of a later one are still known, so that a new key can be put
    /// in front of an old one.
    pub struct Verp {
        /// Which senders, by the address of MAIL FROM.
        need sender: Senders as AddressPattern = "nobody@example.org",
        /// Any long text, of 16 characters at least, the same for all frontends and workers. Whoever has it can make
        /// addresses.
        hidden key or key_file: Option<SecretString> as Any = "",
        /// What comes back to these addresses counts for `delivery.suppress_after` and `delivery.suppress_complaints`. The sender
        /// himself learns the addresses, by answers of recipients, and could write such reports: only for senders that may have
        /// recipients suppressed for everybody.
        value suppress: bool as Flag = "false",
    }
}

fn signer(row: &Verp) -> Option<Signer> {
    Some(Signer::new(row.key.as_ref()?.expose_secret().as_bytes()).suppressing(row.suppress))
}

impl Config {
    /// Which senders have an address for each recipient.
    pub fn verp(&self) -> verp::Verp {
        let entry = |row: &Verp| Some((row.sender.clone(), signer(row)?));
        verp::Verp::new(self.verp.iter().filter_map(entry))
    }
}
