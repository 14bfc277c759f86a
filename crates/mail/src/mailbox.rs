//! The mailboxes of a From field (RFC 5322 section 3.4), read strictly: for whoever decides by them, what cannot be
//! understood names nobody, rather than somebody else than the reader sees.

use std::ops::Range;

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

/// The value with other addresses where `change` has another for one; everything around them stays. `None` if nothing
/// changes, or if anything is not understood.
pub fn replace(value: &str, mut change: impl FnMut(&Address) -> Option<Address>) -> Option<String> {
    let mut found = Vec::new();
    each(value, |mailbox| mailbox.place_into(&mut found))?;
    let (mut replaced, mut rest, mut changes) = (String::with_capacity(value.len()), 0, false);
    for (place, address) in found {
        let Some(address) = change(&address) else { continue };
        replaced.push_str(&value[rest..place.start]);
        replaced.push_str(address.as_str());
        (rest, changes) = (place.end, true);
    }
    replaced.push_str(&value[rest..]);
    changes.then_some(replaced)
}

/// Shows each mailbox of a list to `take`.
fn each(value: &str, mut take: impl FnMut(&mut Mailbox) -> Option<()>) -> Option<()> {
    let mut mailbox = Mailbox::default();
    let mut rest = value.chars();
    let place = |rest: &std::str::Chars<'_>| value.len() - rest.as_str().len();
    loop {
        let start = place(&rest);
        let Some(character) = rest.next() else { break };
        match character {
            '"' if !mailbox.is_over() => {
                let text = quoted(&mut rest)?;
                mailbox.text().push(&text, start..place(&rest));
            }
            '(' => comment(&mut rest)?,
            ',' | ';' if !mailbox.open => take(&mut mailbox)?,
            // A group: what stands in front is its name.
            ':' if !mailbox.open && mailbox.angle.is_none() && !mailbox.names_another => {
                (mailbox.plain, mailbox.gap, mailbox.words) = Default::default();
            }
            '<' if mailbox.angle.is_none() => (mailbox.angle, mailbox.open) = (Some(Text::default()), true),
            '>' if mailbox.open => mailbox.open = false,
            '<' | '>' | '\\' => return None,
            blank if blank.is_ascii_whitespace() => mailbox.gap |= !mailbox.plain.text.is_empty(),
            control if control.is_control() => return None,
            // Readers disagree about what stands behind an address.
            _ if mailbox.is_over() => return None,
            other => {
                mailbox.names_another |= other == '@' && !mailbox.open;
                mailbox.words |= mailbox.gap && !mailbox.open;
                mailbox.text().push(other.encode_utf8(&mut [0; 4]), start..place(&rest));
            }
        }
    }
    take(&mut mailbox)
}

/// One of the list, as far as it is read.
#[derive(Default)]
struct Mailbox {
    /// Outside of angle brackets: the address, if there are none, or a display name.
    plain: Text,
    angle: Option<Text>,
    /// The angle bracket is not closed.
    open: bool,
    /// An `@` stands outside of brackets and quotes: some readers show that as the address, whatever else there is.
    names_another: bool,
    /// There was a blank behind what stands outside of brackets, and something behind the blank.
    gap: bool,
    words: bool,
}

/// What is written somewhere, without blanks and comments.
#[derive(Default)]
struct Text {
    text: String,
    /// Octets of the value, from the first character to the last.
    place: Range<usize>,
}

impl Text {
    fn push(&mut self, text: &str, place: Range<usize>) {
        let start = if self.text.is_empty() { place.start } else { self.place.start };
        self.text.push_str(text);
        self.place = start..place.end;
    }

    /// The address that it is; it has a domain.
    fn address(&self) -> Option<Address> {
        Address::parse(&self.text).ok().filter(|address| address.domain_str().is_some())
    }
}

impl Mailbox {
    /// Its angle brackets are closed.
    fn is_over(&self) -> bool {
        self.angle.is_some() && !self.open
    }

    fn text(&mut self) -> &mut Text {
        if self.open { self.angle.get_or_insert_default() } else { &mut self.plain }
    }

    fn take_into(&mut self, found: &mut Vec<Address>) -> Option<()> {
        let Self { plain, angle, open, names_another, .. } = std::mem::take(self);
        if open {
            return None;
        }
        let beside = (names_another || angle.is_none()).then_some(plain).filter(|plain| !plain.text.is_empty());
        for text in angle.into_iter().chain(beside) {
            found.push(text.address()?);
        }
        Some(())
    }

    /// The address and where it stands; not where another stands beside it.
    fn place_into(&mut self, found: &mut Vec<(Range<usize>, Address)>) -> Option<()> {
        let Self { plain, angle, open, names_another, .. } = std::mem::take(self);
        if open || angle.is_some() && names_another {
            return None;
        }
        // Of a group may be nothing left, or between commas.
        let Some(text) = angle.or(Some(plain).filter(|text| !text.text.is_empty())) else { return Some(()) };
        found.push((text.place.clone(), text.address()?));
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
        let Some(text) = angle.or(Some(plain)).filter(|text| !text.text.is_empty()) else { return Some(()) };
        found.push(text.address().or_else(|| Address::parse(&format!("{}@{domain}", text.text)).ok())?);
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
#[expect(clippy::unwrap_used, reason = "tests")]
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

    #[test]
    fn one_is_replaced_where_it_stands() {
        let change = |address: &Address| {
            let known = ["root@web1.test", "a\u{e9}@web1.test", "\"x y\"@web1.test"].contains(&address.as_str());
            known.then(|| Address::parse("ops@example.org").unwrap())
        };
        for (value, replaced) in [
            (" root@web1.test\r\n", Some(" ops@example.org\r\n")),
            (" root (the boss)\r\n\t@web1.test\r\n", Some(" ops@example.org\r\n")),
            (" (cron) root@web1.test (Cron)\r\n", Some(" (cron) ops@example.org (Cron)\r\n")),
            (" \"root@web1.test\" <root@web1.test>", Some(" \"root@web1.test\" <ops@example.org>")),
            (
                " R\u{fc}t < a\u{e9}@web1.test >, \"x y\"@web1.test;",
                Some(" R\u{fc}t < ops@example.org >, ops@example.org;"),
            ),
            ("T: john@example.org, root@web1.test;", Some("T: john@example.org, ops@example.org;")),
            ("john@example.org", None),
            ("root", None),
            ("undisclosed:;", None),
            ("root@web1.test, root", None),
            ("<>, root@web1.test", None),
            ("root@web1.test <john@example.org>", None),
            ("john@example.org <root@web1.test>", None),
            ("<root@web1.test", None),
            ("", None),
        ] {
            assert_eq!(replace(value, change).as_deref(), replaced, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_too_odd(value in "[a@.<>()\"\\\\,;: \r\n\u{e9}]{0,40}") {
            for address in addresses(&value).unwrap_or_default() {
                proptest::prop_assert!(address.domain_str().is_some());
            }
            if let Some(same) = replace(&value, |address| Some(address.clone())) {
                proptest::prop_assert_eq!(addresses(&same), addresses(&value));
            }
        }
    }
}
