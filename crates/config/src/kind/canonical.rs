//! What a sender address becomes.

use staffetta_mail::Address;
use staffetta_policy::canonical::Becomes;

use super::{DomainName, Kind, Wrong, quoted};

/// An address, or a domain for what stands before the `@`. Without UTF-8: a message that was not sent with SMTPUTF8 could not have
/// it.
pub(crate) struct NewSender;

impl Kind for NewSender {
    type Value = Becomes;
    const NOUN: &'static str = "what a sender may become";

    fn allowed() -> String {
        "an address in ASCII \"ops@example.org\", or a domain \"*@example.org\" or \"@example.org\" for the same local part".into()
    }

    fn parse(text: &str) -> Result<Becomes, Wrong> {
        let becomes = || match text.strip_prefix('*').unwrap_or(text).strip_prefix('@') {
            Some(domain) => DomainName::parse(domain).ok().map(Becomes::Domain),
            None if !text.is_ascii() => None,
            None => Address::parse(text).ok().filter(Address::is_fully_qualified).map(Becomes::Address),
        };
        becomes().ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Becomes) -> String {
        quoted(&value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_becomes_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("ops@example.org", "ops@example.org"),
            ("*@Example.org", "*@example.org"),
            ("@example.org", "*@example.org"),
            ("\"*\"@example.org", "\"*\"@example.org"),
        ] {
            let value = NewSender::parse(text).ok().map(|value| NewSender::show(&value));
            assert_eq!(value, Some(quoted(shown)), "{text}");
        }
        for text in
            ["", "*", "@", "ops", "<>", "*@*", "*@*.example.org", "\u{f6}@example.org", "a@b\u{fc}.example", "<a@b.c>"]
        {
            assert!(NewSender::parse(text).is_err(), "{text}");
        }
    }
}
