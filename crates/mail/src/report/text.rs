//! Makes text from outside safe for header fields and plain parts: printable ASCII, folded, bounded lines.

use jiff::Timestamp;

use super::UnixMillis;

/// Where lines are folded if they can be.
const FOLD_AT: usize = 76;
/// A word above this is broken; far below the 998 octets of RFC 5322 section 2.1.1.
const MAX_WORD: usize = 500;

/// Printable ASCII only; everything else becomes `?`.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// An address of a report as RFC 6533 section 3 has it: `utf-8; \x{FC}@example.org` if it needs more than ASCII, so that
/// who reads it can tell which one is meant; else `rfc822; u@example.org`.
pub(super) fn typed_address(address: &str) -> String {
    format!("{}; {}", if address.is_ascii() { "rfc822" } else { "utf-8" }, in_ascii(address))
}

/// The address alone.
pub(super) fn in_ascii(address: &str) -> String {
    if address.is_ascii() {
        return address.to_owned();
    }
    let escaped = |c| !matches!(c, '!'..='~') || matches!(c, '+' | '=' | '\\');
    let each = |c: char| if escaped(c) { format!("\\x{{{:X}}}", u32::from(c)) } else { c.to_string() };
    address.chars().map(each).collect()
}

/// Appends `Name: value`, folded (RFC 5322 section 2.2.3).
pub(super) fn field(name: &str, value: &str, out: &mut String) {
    folded(&format!("{name}: "), value, "    ", out);
}

/// Appends a paragraph of plain text, its further lines indented.
pub(super) fn wrap(text: &str, out: &mut String) {
    folded("", text, "    ", out);
}

/// Appends `start` and the words of `text`; further lines begin with `indent`. Ends the line.
fn folded(start: &str, text: &str, indent: &str, out: &mut String) {
    out.push_str(start);
    let (mut column, mut first) = (start.len(), true);
    for word in pieces(&clean(text)) {
        if !first && column + 1 + word.len() > FOLD_AT {
            out.push_str("\r\n");
            out.push_str(indent);
            column = indent.len();
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

/// The words of an ASCII text, over-long ones in pieces.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty()).flat_map(|word| {
        let ends = (0..word.len()).step_by(MAX_WORD);
        ends.map(move |at| word.get(at..word.len().min(at + MAX_WORD)).unwrap_or_default())
    })
}

/// RFC 5322 section 3.3, in UTC.
pub(super) fn date(millis: UnixMillis) -> String {
    let timestamp = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    timestamp.unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string()
}

/// RFC 3461 section 4; what is malformed stays as it is. The result may hold any character: [`clean`] it.
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
    fn fields_fold_between_words() {
        let mut out = String::new();
        field("Diagnostic-Code", &"word ".repeat(30), &mut out);
        assert!(out.starts_with("Diagnostic-Code: word word"));
        assert!(out.lines().count() > 1 && out.lines().all(|line| line.len() <= FOLD_AT));
        assert!(out.lines().skip(1).all(|line| line.starts_with("    word")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_escapes_its_field(value in "(\\PC|[\r\n\t \u{0}]){0,40}", long in 0usize..3000) {
            let mut out = String::new();
            field("X", &format!("{value}{}", "a".repeat(long)), &mut out);
            proptest::prop_assert!(out.is_ascii() && out.ends_with("\r\n"));
            for (number, line) in out.split_terminator("\r\n").enumerate() {
                proptest::prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n', '\0']));
                let start = if number == 0 { "X: " } else { "    " };
                proptest::prop_assert!(line.starts_with(start));
                proptest::prop_assert!(number == 0 || !line.trim().is_empty());
            }
        }
    }
}
