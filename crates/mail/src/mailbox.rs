//! The mailboxes of a From field (RFC 5322 section 3.4), read strictly: for whoever decides by them, what cannot be
//! understood names nobody, rather than somebody else than the reader sees.

use crate::Address;

/// Deeper comments are not followed.
const MAX_DEPTH: u32 = 16;

/// All addresses in the value of a field, which may be folded; display names, quoted strings, comments and groups are
/// understood. `None` if anything in it is not, or if there is no address.
pub fn addresses(value: &str) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    each(value, |mailbox| mailbox.take_into(&mut found))?;
    (!found.is_empty()).then_some(found)
}

/// The recipients that the value of a To, Cc or Bcc field names, or a word of a command line; a bare name is one of `domain`,
/// as programs of that host mean it. A group may be empty. `None` if anything is not understood.
pub fn recipients(value: &str, domain: &str) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    each(value, |mailbox| mailbox.name_into(&mut found, domain))?;
    Some(found)
}

/// Shows each mailbox of a list to `take`.
fn each(value: &str, mut take: impl FnMut(&mut Mailbox) -> Option<()>) -> Option<()> {
    let mut mailbox = Mailbox::default();
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' if !mailbox.is_over() => mailbox.text().push_str(&quoted(&mut rest)?),
            '(' => comment(&mut rest)?,
            ',' | ';' if !mailbox.open => take(&mut mailbox)?,
            // A group: what stands in front is its name.
            ':' if !mailbox.open && mailbox.angle.is_none() && !mailbox.names_another => {
                (mailbox.plain, mailbox.gap, mailbox.words) = Default::default();
            }
            '<' if mailbox.angle.is_none() => (mailbox.angle, mailbox.open) = (Some(String::new()), true),
            '>' if mailbox.open => mailbox.open = false,
            '<' | '>' | '\\' => return None,
            blank if blank.is_ascii_whitespace() => mailbox.gap |= !mailbox.plain.is_empty(),
            control if control.is_control() => return None,
            // Readers disagree about what stands behind an address.
            _ if mailbox.is_over() => return None,
            other => {
                mailbox.names_another |= other == '@' && !mailbox.open;
                mailbox.words |= mailbox.gap && !mailbox.open;
                mailbox.text().push(other);
            }
        }
    }
    take(&mut mailbox)
}

/// One of the list, as far as it is read.
#[derive(Default)]
struct Mailbox {
    /// Outside of angle brackets: the address, if there are none, or a display name.
    plain: String,
    angle: Option<String>,
    /// The angle bracket is not closed.
    open: bool,
    /// An `@` stands outside of brackets and quotes: some readers show that as the address, whatever else there is.
    names_another: bool,
    /// There was a blank behind what stands outside of brackets, and something behind the blank.
    gap: bool,
    words: bool,
}

impl Mailbox {
    /// Its angle brackets are closed.
    fn is_over(&self) -> bool {
        self.angle.is_some() && !self.open
    }

    fn text(&mut self) -> &mut String {
        if self.open { self.angle.get_or_insert_default() } else { &mut self.plain }
    }

    fn take_into(&mut self, found: &mut Vec<Address>) -> Option<()> {
        let Self { plain, angle, open, names_another, .. } = std::mem::take(self);
        if open {
            return None;
        }
        let beside = (names_another || angle.is_none()).then_some(plain).filter(|plain| !plain.is_empty());
        for text in angle.into_iter().chain(beside) {
            found.push(Address::parse(&text).ok().filter(|address| address.domain_str().is_some())?);
        }
        Some(())
    }
}

impl Mailbox {
    /// What stands in the brackets, else the one word that is there.
    fn name_into(&mut self, found: &mut Vec<Address>, domain: &str) -> Option<()> {
        let Self { plain, angle, open, words, .. } = std::mem::take(self);
        if open || angle.is_none() && words {
            return None;
        }
        let Some(text) = angle.or(Some(plain)).filter(|text| !text.is_empty()) else { return Some(()) };
        let whole = Address::parse(&text).ok().filter(|address| address.domain_str().is_some());
        found.push(whole.or_else(|| Address::parse(&format!("{text}@{domain}")).ok())?);
        Some(())
    }
}

/// The rest of a quoted string, with its quotes.
fn quoted(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::from('"');
    loop {
        let character = rest.next()?;
        match character {
            '\r' | '\n' => continue,
            '\\' => text.extend(['\\', rest.next()?]),
            other => text.push(other),
        }
        if character == '"' {
            return Some(text);
        }
    }
}

/// The rest of a comment, and of those within it.
fn comment(rest: &mut std::str::Chars<'_>) -> Option<()> {
    let mut depth = 1;
    while depth > 0 {
        match rest.next()? {
            '\\' => drop(rest.next()?),
            '(' if depth == MAX_DEPTH => return None,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Vec<String>> {
        addresses(value).map(|found| found.iter().map(|address| address.as_str().to_owned()).collect())
    }

    #[test]
    fn rfc5322_3_4_every_way_to_write_one() {
        for value in [
            "john@example.org",
            " john@example.org \r\n",
            "<john@example.org>",
            "John Doe <john@example.org>",
            "John\r\n Doe\r\n <john@\r\n example.org>\r\n",
            "\"Doe, John\" <john@example.org>",
            "\"ceo@bank.test\" <john@example.org>",
            "\"a \\\" <x@b.test>\" <john@example.org>",
            "john@example.org (John @ home <a@b.test> (his, own))",
            "(a@b.test) john@example.org",
            "John <john @ example.org>",
            "Team: john@example.org;",
            "=?utf-8?q?J=40b=2Etest?= <john@example.org>",
            ", john@example.org,",
        ] {
            assert_eq!(read(value), Some(vec!["john@example.org".to_owned()]), "{value}");
        }
        assert_eq!(read("\"john doe\"@example.org"), Some(vec!["\"john doe\"@example.org".to_owned()]));
        assert_eq!(read("J\u{f6}rg <j\u{f6}rg@example.org>"), Some(vec!["j\u{f6}rg@example.org".to_owned()]));
    }

    #[test]
    fn rfc5322_3_6_2_a_list_names_all_of_them() {
        let both = Some(vec!["john@example.org".to_owned(), "ceo@bank.test".to_owned()]);
        for value in [
            "john@example.org, ceo@bank.test",
            "John <john@example.org>,\r\n \"The, CEO\" <ceo@bank.test>",
            "Team: john@example.org, <ceo@bank.test>;",
            "A: john@example.org;, ceo@bank.test",
            "ceo@bank.test <john@example.org>",
            "ceo@bank.test\t(<x>) <john@example.org>",
        ] {
            assert_eq!(read(value), both, "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_names_nobody() {
        for value in [
            "",
            " ",
            "john",
            "John <john>",
            "<>",
            "postmaster",
            "undisclosed:;",
            "Doe, John <john@example.org>",
            "John <john@example.org> <ceo@bank.test>",
            "John <john@example.org",
            "john@example.org>",
            "\"john@example.org",
            "(john@example.org",
            "<@a.test:john@example.org>",
            "john@example.org ceo@bank.test",
            "<john@example.org> ceo@bank.test",
            "<john@example.org> \"ceo@bank.test\"",
            "the ceo, ceo@bank.test <john@example.org>",
            "ceo@bank.test: john@example.org;",
            "ceo@bank.test:;, john@example.org",
            "John \\\" <ceo@bank.test> \" <john@example.org>",
            "john@example.org\0",
            "<john@example.org> x@y: <ceo@bank.test",
            &format!("{}john@example.org", "(".repeat(100)),
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn recipients_of_this_host_need_no_domain() {
        let read = |value: &str| {
            let found = recipients(value, "mail.test")?;
            Some(found.iter().map(|address| address.as_str().to_owned()).collect::<Vec<_>>().join(" "))
        };
        for (value, expected) in [
            ("root", "root@mail.test"),
            (" root,\r\n john@example.org ", "root@mail.test john@example.org"),
            ("The Boss <root>, a@x.test <b@x.test>", "root@mail.test b@x.test"),
            ("\"a, b\" <c@x.test>, d@x.test (e, f)", "c@x.test d@x.test"),
            ("Team: a, b@x.test;, c", "a@mail.test b@x.test c@mail.test"),
            ("undisclosed-recipients:;", ""),
            ("", ""),
        ] {
            assert_eq!(read(value).as_deref(), Some(expected), "{value}");
        }
        for value in ["a b", "the boss, c@x.test", "<a@x.test", "a@x.test>", "<a@x.test> b", "a\\b", "a@"] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_too_odd(value in "[a@.<>()\"\\\\,;: \r\n\u{e9}]{0,40}") {
            for address in addresses(&value).unwrap_or_default() {
                proptest::prop_assert!(address.domain_str().is_some());
            }
        }
    }
}
