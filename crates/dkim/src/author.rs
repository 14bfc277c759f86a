//! The domain of the author: of the first mailbox in the From field (RFC 5322 section 3.6.2).

use std::borrow::Cow;

use crate::header::{self, Line};

/// Deeper comments are not followed.
const MAX_DEPTH: usize = 64;

/// What the beginning of a message says of its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author<'a> {
    /// His domain, as written but for comments and blanks; borrowed where there are none.
    Domain(Cow<'a, str>),
    /// There is no From field, or no domain in it.
    None,
    /// What was shown ends too early to tell.
    Unknown,
}

impl Author<'_> {
    /// The domain, if there is one.
    pub fn domain(&self) -> Option<&str> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::None | Self::Unknown => None,
        }
    }
}

/// Looks for the first From field in whole lines at the beginning of a message. `complete`: the message ends with them.
pub fn find(message: &[u8], complete: bool) -> Author<'_> {
    let mut at = 0;
    let mut from = None;
    while at < message.len() {
        let end = memchr::memchr(b'\n', &message[at..]).map_or(message.len(), |end| at + end + 1);
        match header::line(&message[at..end]) {
            Line::Continuation if at > 0 => {}
            _ if from.is_some() => break,
            Line::Field(name, value) if name.eq_ignore_ascii_case(b"from") => from = Some(end - value.len()),
            Line::Field(..) => {}
            Line::Blank | Line::Continuation | Line::Other => return Author::None,
        }
        at = end;
    }
    match from {
        _ if at == message.len() && !complete => Author::Unknown,
        Some(start) => domain(&message[start..at]).map_or(Author::None, Author::Domain),
        None => Author::None,
    }
}

/// The domain of the first mailbox in the value of a From field, which may be folded.
///
/// Display names, quoted strings, comments, groups and old routes are understood; a piece of the list without a
/// domain, such as one half of a name with a comma in it, is passed over.
pub fn domain(value: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = value;
    while !rest.is_empty() {
        let mailbox = Mailbox::read(rest);
        if let Some(domain) = mailbox.at.and_then(|at| bare(&rest[at..mailbox.end])) {
            return Some(domain);
        }
        rest = &rest[(mailbox.end + 1).min(rest.len())..];
    }
    None
}

/// Where the first mailbox of a list has its domain.
struct Mailbox {
    /// Behind the last `@` that is not quoted; of what is in angle brackets, if there are any.
    at: Option<usize>,
    /// Where the domain, or the mailbox without one, ends.
    end: usize,
}

impl Mailbox {
    fn read(text: &[u8]) -> Self {
        let (mut at, mut angle, mut i) = (None, false, 0);
        while let Some(&octet) = text.get(i) {
            match octet {
                b'"' => i = quoted_end(text, i),
                b'(' => i = comment_end(text, i),
                b'<' if !angle => (at, angle, i) = (None, true, i + 1),
                b'>' if angle => break,
                b'@' => (at, i) = (Some(i + 1), i + 1),
                // A group: its name is in front.
                b':' if !angle => (at, i) = (None, i + 1),
                b',' | b';' if !angle => break,
                _ => i += 1,
            }
        }
        Self { at, end: i.min(text.len()) }
    }
}

/// Just past a quoted string.
fn quoted_end(text: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while let Some(&octet) = text.get(i) {
        match octet {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

/// Just past a comment, which may have others in it.
fn comment_end(text: &[u8], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while let Some(&octet) = text.get(i) {
        match octet {
            b'\\' => i += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 || depth > MAX_DEPTH {
            break;
        }
    }
    i
}

/// Without comments and blanks; `None` if nothing is left, or no text.
fn bare(text: &[u8]) -> Option<Cow<'_, str>> {
    let text = text.trim_ascii();
    let noise = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'(';
    let Some(first) = text.iter().position(noise) else {
        return std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(Cow::Borrowed);
    };
    let mut octets = text[..first].to_vec();
    let mut i = first;
    while let Some(&octet) = text.get(i) {
        match octet {
            b'(' => i = comment_end(text, i),
            _ if octet.is_ascii_whitespace() => i += 1,
            _ => {
                octets.push(octet);
                i += 1;
            }
        }
    }
    String::from_utf8(octets).ok().filter(|text| !text.is_empty()).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mailbox_counts_however_it_is_written() {
        for (value, expected) in [
            ("john@example.org", "example.org"),
            (" john@Example.ORG \r\n", "Example.ORG"),
            ("<john@example.org>", "example.org"),
            ("John Doe <john@example.org>", "example.org"),
            ("John\r\n Doe\r\n <john@example.org>\r\n", "example.org"),
            ("\"Doe, John\" <john@example.org>", "example.org"),
            ("\"a@b.test\" <john@example.org>", "example.org"),
            ("\"<a@b.test>\" <john@example.org>", "example.org"),
            ("\"a \\\" <x@b.test>\" <john@example.org>", "example.org"),
            ("john@other.test <john@example.org>", "example.org"),
            ("Doe, John <john@example.org>", "example.org"),
            (", john@example.org", "example.org"),
            ("john@example.org (John @ home <a@b.test>)", "example.org"),
            ("(a@b.test (c, \\) d)) john@example.org", "example.org"),
            ("john (his) @ (own) example (dot) . org", "example.org"),
            ("John <john@\r\n example.org>", "example.org"),
            ("\"john@home\"@example.org", "example.org"),
            ("<\"a>b@c\"@example.org>", "example.org"),
            ("john@example.org, lisa@b.test", "example.org"),
            ("John <john@example.org>, Lisa <lisa@b.test>", "example.org"),
            ("Team: john@example.org, lisa@b.test;", "example.org"),
            ("\"Our: team\": John <john@example.org>;", "example.org"),
            ("<@a.test,@b.test:john@example.org>", "example.org"),
            ("John <john@example.org", "example.org"),
            ("=?utf-8?q?J=40b=2Etest?= <john@example.org>", "example.org"),
            ("J\u{f6}rg <j\u{f6}rg@b\u{fc}cher.example>", "b\u{fc}cher.example"),
            ("john@[192.0.2.1]", "[192.0.2.1]"),
            ("MAILER-DAEMON@mail.example.org (Mail Delivery System)", "mail.example.org"),
        ] {
            assert_eq!(domain(value.as_bytes()).as_deref(), Some(expected), "{value}");
        }
        assert!(matches!(domain(b"John <john@example.org>"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn where_nobody_is_named_there_is_no_domain() {
        for value in [
            "john@b.test <john>",
            "",
            " ",
            "john",
            "John <john>",
            "<>",
            "john@",
            "\"john@example.org",
            "(john@example.org",
            ";",
            "a@\u{b}",
        ] {
            let found = domain(value.as_bytes());
            assert_eq!(found.as_deref().map(str::trim).filter(|text| !text.is_empty()), None, "{value}");
        }
        let deep = [&b"(".repeat(100_000)[..], b" john@example.org"].concat();
        domain(&deep);
        assert_eq!(domain(b"J <a@b\xff.test>"), None);
    }

    #[test]
    fn the_from_field_is_found_in_the_header_section_only() {
        let found = |message: &'static str, complete| match find(message.as_bytes(), complete) {
            Author::Domain(domain) => domain.into_owned(),
            other => format!("{other:?}"),
        };
        for (message, complete, expected) in [
            ("Received: x\r\n\ty\r\nFrom: a@b.test\r\nTo: c@d.test\r\n", false, "b.test"),
            ("FROM : a\r\n <a@b.test>\r\n\r\n", false, "b.test"),
            ("From: a@b.test\r\nFrom: c@d.test\r\n\r\n", false, "b.test"),
            ("Subject: x\r\n From: a@b.test\r\n\r\nFrom: c@d.test\r\n", true, "None"),
            ("Subject: x\r\nno field\r\nFrom: c@d.test\r\n", true, "None"),
            ("From: a@b.test\r\n", false, "Unknown"),
            ("From: a@b.test\r\n", true, "b.test"),
            ("From: a@b.test", true, "b.test"),
            ("To: a@b.test\r\n", false, "Unknown"),
            ("To: a@b.test\r\n", true, "None"),
            ("From:\r\n\r\n", false, "None"),
            ("", true, "None"),
        ] {
            assert_eq!(found(message, complete), expected, "{message:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_too_odd(value in proptest::collection::vec(proptest::sample::select(b"a@.<>()\"\\,;: \r\n\xc3".to_vec()), 0..40)) {
            domain(&value);
            find(&[b"From:", &value[..]].concat(), true);
        }
    }
}
