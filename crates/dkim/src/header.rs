//! Header fields: where one begins, which are signed, and their relaxed form (RFC 6376 section 3.4.2).

use memchr::memchr;

/// A longer field name is none: the line belongs to the body.
const MAX_NAME: usize = 128;

/// What readers and filters act on: signed once more often than it is there, also when it is not there at all, so that
/// nobody can put another one on top (RFC 6376 section 8.15; RFC 8058 section 4 for the last two).
pub(crate) const SEALED: [&str; 12] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "message-id",
];

/// Signed, and sealed, where it is there. Where it is not, somebody on the way may have a reason to add it. Of the last three
/// receivers believe only what is signed (Gmail; RFC 9477).
pub(crate) const SIGNED: [&str; 12] = [
    "list-id",
    "in-reply-to",
    "references",
    "sender",
    "list-help",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "feedback-id",
    "cfbl-address",
    "cfbl-feedback-id",
];

/// What a line of a header section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The end of the section.
    Blank,
    /// More of the field before.
    Continuation,
    /// A field, and what stands behind its colon.
    Field(&'a [u8], &'a [u8]),
    /// No field: the body begins here. Mail servers see it so, too, and put the blank line in front that is missing.
    Other,
}

/// Tells what a line is, with or without its end.
pub(crate) fn line(line: &[u8]) -> Line<'_> {
    match line {
        [] | [b'\n'] | [b'\r', b'\n'] => return Line::Blank,
        [b' ' | b'\t', ..] => return Line::Continuation,
        _ => {}
    }
    let Some(colon) = memchr(b':', &line[..line.len().min(MAX_NAME + 16)]) else { return Line::Other };
    let name = line[..colon].trim_ascii_end();
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(|octet| (33..=126).contains(octet));
    if is_name { Line::Field(name, &line[colon + 1..]) } else { Line::Other }
}

/// The name that is signed under, in lower case; `None`: such fields are not signed.
pub(crate) fn signed(name: &[u8]) -> Option<&'static str> {
    let known = |candidate: &&str| candidate.as_bytes().eq_ignore_ascii_case(name);
    SEALED.iter().chain(&SIGNED).copied().find(known)
}

/// Appends `name:value` CRLF in the relaxed form. The value may be folded.
pub(crate) fn relax(name: &str, value: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(name.as_bytes());
    output.push(b':');
    relax_value(value, output);
    output.extend_from_slice(b"\r\n");
}

/// Unfolded, each run of blanks one space, none at either end.
pub(crate) fn relax_value(value: &[u8], output: &mut Vec<u8>) {
    let (start, mut blank) = (output.len(), false);
    for &octet in value {
        match octet {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => blank = true,
            _ => {
                if std::mem::take(&mut blank) && output.len() > start {
                    output.push(b' ');
                }
                output.push(octet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6376_3_4_2_the_relaxed_form() {
        for (name, value, canonical) in [
            ("a", " X\r\n", "a:X\r\n"),
            ("b", " Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"),
            ("subject", "", "subject:\r\n"),
            ("subject", " \r\n \t\r\n", "subject:\r\n"),
            ("subject", "a\r\n b", "subject:a b\r\n"),
            ("subject", "\r\n  a  :  b", "subject:a : b\r\n"),
        ] {
            let mut output = Vec::new();
            relax(name, value.as_bytes(), &mut output);
            assert_eq!(String::from_utf8_lossy(&output), canonical, "{value:?}");
        }
    }

    #[test]
    fn lines_of_a_header_section() {
        let long = format!("{}: x\r\n", "a".repeat(MAX_NAME + 1));
        for (text, expected) in [
            ("From: x\r\n", Line::Field(b"From", b" x\r\n")),
            ("From \t: x\r\n", Line::Field(b"From", b" x\r\n")),
            ("From:", Line::Field(b"From", b"")),
            ("From john Sat Nov 28 12:00:00 2026\r\n", Line::Other),
            (" more\r\n", Line::Continuation),
            ("\t\r\n", Line::Continuation),
            ("\r\n", Line::Blank),
            ("no field\r\n", Line::Other),
            (": x\r\n", Line::Other),
            ("F\u{e9}: x\r\n", Line::Other),
            (long.as_str(), Line::Other),
        ] {
            assert_eq!(line(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn trace_fields_and_signatures_are_not_signed() {
        for name in ["Received", "Return-Path", "DKIM-Signature", "Authentication-Results", "X-Spam", "Bcc"] {
            assert_eq!(signed(name.as_bytes()), None, "{name}");
        }
        assert_eq!(signed(b"SUBJECT"), Some("subject"));
    }
}
