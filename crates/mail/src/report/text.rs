//! Makes text from outside safe for header fields and plain parts: printable, folded, bounded lines.

use jiff::Timestamp;

use super::UnixMillis;
use crate::address::is_invisible;
use crate::unitext;

/// Where lines are folded if they can be.
const FOLD_AT: usize = 76;
/// A word above this is broken; far below the 998 octets of RFC 5322 section 2.1.1.
const MAX_WORD: usize = 500;

/// What a text may be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Utf8,
}

impl Charset {
    /// The text without what would break a line or deceive a reader: controls become `?`, and what cannot be written, or
    /// not be seen, is escaped.
    pub(super) fn clean(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                ' '..='~' => out.push(c),
                _ if c.is_control() => out.push('?'),
                _ if self == Self::Utf8 && !is_invisible(c) => out.push(c),
                _ => unitext::embed(c, &mut out),
            }
        }
        out
    }

    /// An address as RFC 6533 section 3 has it, if it is more than ASCII.
    pub(super) fn address(self, address: &str) -> String {
        if address.is_ascii() { address.to_owned() } else { self.utf8_address(address) }
    }

    /// `utf-8; \x{FC}@example.org` for an address with more than ASCII in it, so that who reads it can tell which one is meant;
    /// else `rfc822; u@example.org`.
    pub(super) fn typed_address(self, address: &str) -> String {
        format!("{}; {}", if address.is_ascii() { "rfc822" } else { "utf-8" }, self.address(address))
    }

    /// What ORCPT said, as `type;address`. One of type `utf-8` takes the form that the report has.
    pub(super) fn original_address(self, kind: &str, xtext: &str) -> String {
        let address = from_xtext(xtext);
        match kind.eq_ignore_ascii_case("utf-8") {
            true => format!("{kind};{}", self.utf8_address(&unitext::decode(&address))),
            false => format!("{kind};{address}"),
        }
    }

    fn utf8_address(self, address: &str) -> String {
        match self {
            Self::Ascii => unitext::in_ascii(address),
            Self::Utf8 => unitext::in_utf8(address),
        }
    }

    /// Appends `Name: value`, folded (RFC 5322 section 2.2.3).
    pub(super) fn field(self, name: &str, value: &str, out: &mut String) {
        folded(&format!("{name}: "), &self.clean(value), out);
    }

    /// Appends a paragraph of plain text, its further lines indented.
    pub(super) fn wrap(self, text: &str, out: &mut String) {
        folded("", &self.clean(text), out);
    }
}

/// What begins the further lines.
const INDENT: &str = "    ";

/// Appends `start` and the words of a clean text. Ends the line.
fn folded(start: &str, text: &str, out: &mut String) {
    out.push_str(start);
    let (mut column, mut first) = (start.len(), true);
    for word in pieces(text) {
        if !first && column + 1 + word.len() > FOLD_AT {
            out.push_str("\r\n");
            out.push_str(INDENT);
            column = INDENT.len();
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
        first = false;
    }
    out.push_str("\r\n");
}

/// The words of a text, over-long ones in pieces.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').flat_map(|mut word| {
        std::iter::from_fn(move || {
            let (piece, rest) = word.split_at(word.floor_char_boundary(MAX_WORD));
            word = rest;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

/// RFC 5322 section 3.3, in UTC.
pub(super) fn date(millis: UnixMillis) -> String {
    let timestamp = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    timestamp.unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string()
}

/// RFC 3461 section 4; what is malformed stays as it is. The result may hold any character: [`Charset::clean`] it.
pub(super) fn from_xtext(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&b) = bytes.get(i) {
        let hex = if b == b'+' { bytes.get(i + 1..i + 3).and_then(hex_octet) } else { None };
        decoded.push(hex.unwrap_or(b));
        i += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_octet(digits: &[u8]) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(*digits.first()?)? << 4 | digit(*digits.get(1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5322_3_3_dates() {
        for (millis, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (1_790_000_000_999, "Mon, 21 Sep 2026 14:13:20 +0000"),
            (u64::MAX, "Thu, 1 Jan 1970 00:00:00 +0000"),
        ] {
            assert_eq!(date(millis), text);
        }
    }

    #[test]
    fn rfc3461_4_xtext_is_decoded() {
        for (text, decoded) in [
            ("abc", "abc"),
            ("a+2Bb+3Dc", "a+b=c"),
            ("a+20b", "a b"),
            ("a+2bb", "a+b"),
            ("a+", "a+"),
            ("a+2", "a+2"),
            ("a+zz", "a+zz"),
            ("+0D+0A", "\r\n"),
            ("+C3+A9", "\u{e9}"),
        ] {
            assert_eq!(from_xtext(text), decoded);
        }
    }

    #[test]
    fn rfc6533_3_an_original_address_of_type_utf_8_takes_the_form_of_the_report() {
        for (orcpt, ascii, utf8) in [
            ("rfc822;a+2Bb", "rfc822;a+b", "rfc822;a+b"),
            ("utf-8;j\\x{FC}+2Bx@e.org", "utf-8;j\\x{FC}\\x{2B}x@e.org", "utf-8;j\u{fc}\\x{2B}x@e.org"),
            ("UTF-8;a\\x{2B}b", "UTF-8;a\\x{2B}b", "UTF-8;a\\x{2B}b"),
        ] {
            let (kind, address) = orcpt.split_once(';').unwrap_or_default();
            let shown = |charset: Charset| charset.original_address(kind, address);
            assert_eq!((shown(Charset::Ascii).as_str(), shown(Charset::Utf8).as_str()), (ascii, utf8));
        }
    }

    #[test]
    fn fields_fold_between_words() {
        let mut out = String::new();
        Charset::Ascii.field("Diagnostic-Code", &"word ".repeat(30), &mut out);
        assert!(out.starts_with("Diagnostic-Code: word word"));
        assert!(out.lines().count() > 1 && out.lines().all(|line| line.len() <= FOLD_AT));
        assert!(out.lines().skip(1).all(|line| line.starts_with("    word")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_escapes_its_field(
            value in "(\\PC|[\r\n\t \u{0}\u{202e}]){0,40}", letter in "[a\u{fc}\u{1f4ec}]", long in 0usize..1000,
        ) {
            let forbidden = ['\r', '\n', '\0', '\u{202e}'];
            for charset in [Charset::Ascii, Charset::Utf8] {
                let mut out = String::new();
                charset.field("X", &format!("{value}{}", letter.repeat(long)), &mut out);
                proptest::prop_assert!(out.ends_with("\r\n") && (charset == Charset::Utf8 || out.is_ascii()));
                for (number, line) in out.split_terminator("\r\n").enumerate() {
                    proptest::prop_assert!(line.len() <= 998 && !line.contains(forbidden));
                    let start = if number == 0 { "X: " } else { INDENT };
                    proptest::prop_assert!(line.starts_with(start));
                    proptest::prop_assert!(number == 0 || !line.trim().is_empty());
                }
            }
        }
    }
}
