//! Text that came from a peer, made harmless for a log.
//!
//! Whatever a peer sends may end up in a terminal, a spreadsheet or a shell pipeline. It is cut at 1 KiB; control
//! characters, line separators and the marks that reorder text on screen are escaped; bytes that are no UTF-8 are
//! replaced. One record stays one line whatever it carries.

use std::borrow::Cow;

use staffetta_mail::{Address, ReversePath};

use super::hidden;

/// Longest text that is taken over, in octets; what is cut off is marked with `...`.
pub const MAX_TEXT: usize = 1024;

/// Octets of unknown origin and encoding; made with `.into()` from `&str`, `&[u8]`, `&String`, an address or a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8], Kind);

/// What is hidden of a text, if addresses are ([`super::hidden`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Addresses in it.
    #[default]
    Any,
    /// It is a login.
    Login,
    /// Nothing.
    Whole,
}

impl<'a> Text<'a> {
    /// The same, as the name of a login.
    pub(crate) const fn login(self) -> Self {
        Self(self.0, Kind::Login)
    }

    /// The same, in which nothing is an address, although it looks like one: a Message-ID, an operator.
    pub(crate) const fn whole(self) -> Self {
        Self(self.0, Kind::Whole)
    }

    /// As anybody may read it.
    fn shown(self) -> Cow<'a, [u8]> {
        match self.1 {
            Kind::Any => hidden::in_text(self.0),
            Kind::Login => hidden::in_login(self.0),
            Kind::Whole => self.0.into(),
        }
    }

    /// The octets as they came.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Appends the text as it stands between the quotes of a JSON string.
    pub(super) fn push_json(self, out: &mut Vec<u8>) {
        self.push(out, is_plain_json, push_json_char, b"\\ufffd");
    }

    /// Appends the text for a Postfix line, where everything unprintable is `?`.
    pub(super) fn push_classic(self, out: &mut Vec<u8>) {
        self.push(out, is_plain, push_classic_char, b"?");
    }

    /// As [`Self::push_json`], of any length.
    pub(super) fn push_json_whole(self, out: &mut Vec<u8>) {
        push(&self.shown(), out, is_plain_json, push_json_char, b"\\ufffd");
    }

    fn push(self, out: &mut Vec<u8>, plain: impl Fn(u8) -> bool, push_char: fn(&mut Vec<u8>, char), invalid: &[u8]) {
        let shown = self.shown();
        let (bytes, cut) = capped(&shown);
        push(bytes, out, plain, push_char, invalid);
        if cut {
            out.extend_from_slice(b"...");
        }
    }
}

/// At most [`MAX_TEXT`] octets, not cut inside a character, and whether something was cut.
fn capped(octets: &[u8]) -> (&[u8], bool) {
    if octets.len() <= MAX_TEXT {
        return (octets, false);
    }
    let is_continuation = |at: usize| octets[at] & 0xc0 == 0x80;
    let mut end = MAX_TEXT;
    while end > MAX_TEXT - 3 && is_continuation(end) {
        end -= 1;
    }
    (&octets[..end], true)
}

fn push(
    bytes: &[u8],
    out: &mut Vec<u8>,
    plain: impl Fn(u8) -> bool,
    push_char: fn(&mut Vec<u8>, char),
    invalid: &[u8],
) {
    if bytes.iter().all(|&b| plain(b)) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            chunk.valid().chars().for_each(|c| push_char(out, c));
            if !chunk.invalid().is_empty() {
                out.extend_from_slice(invalid);
            }
        }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes(), Kind::Any)
    }
}

impl<'a> From<&'a String> for Text<'a> {
    fn from(text: &'a String) -> Self {
        Self(text.as_bytes(), Kind::Any)
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes, Kind::Any)
    }
}

impl<'a> From<&'a Address> for Text<'a> {
    fn from(address: &'a Address) -> Self {
        address.as_str().into()
    }
}

impl<'a> From<&'a ReversePath> for Text<'a> {
    fn from(path: &'a ReversePath) -> Self {
        path.as_str().into()
    }
}

const fn is_plain(b: u8) -> bool {
    matches!(b, 0x20..=0x7e)
}

const fn is_plain_json(b: u8) -> bool {
    is_plain(b) && b != b'"' && b != b'\\'
}

/// Characters that end a line, drive a terminal or reorder what is read.
pub(crate) const fn is_dangerous(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c if is_dangerous(c) => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn push_classic_char(out: &mut Vec<u8>, c: char) {
    match c {
        c if is_dangerous(c) => out.push(b'?'),
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn json(text: impl AsRef<[u8]>) -> String {
        let mut out = Vec::new();
        Text::from(text.as_ref()).push_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn classic(text: impl AsRef<[u8]>) -> String {
        let mut out = Vec::new();
        Text::from(text.as_ref()).push_classic(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let rows: [(&[u8], &str, &str); 9] = [
            (b"mx.example.org", "mx.example.org", "mx.example.org"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\"b\\c"),
            (b"a\r\nb\tc", "a\\r\\nb\\tc", "a??b?c"),
            (b"\x1b[2J\x00\x7f", "\\u001b[2J\\u0000\\u007f", "?[2J??"),
            (b"caf\xc3\xa9", "caf\u{e9}", "caf\u{e9}"),
            (b"caf\xe9 \xff\xfe", "caf\\ufffd \\ufffd\\ufffd", "caf? ??"),
            ("\u{202e}gro".as_bytes(), "\\u202egro", "?gro"),
            ("a\u{2028}b\u{85}c".as_bytes(), "a\\u2028b\\u0085c", "a?b?c"),
            (b"", "", ""),
        ];
        for (text, in_json, in_classic) in rows {
            assert_eq!(json(text), in_json, "{text:?}");
            assert_eq!(classic(text), in_classic, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(json("a".repeat(1024)), "a".repeat(1024));
        assert_eq!(json("a".repeat(1025)), "a".repeat(1024) + "...");
        let text = "a".repeat(1023) + "\u{e9}" + "b";
        assert_eq!(classic(text), "a".repeat(1023) + "...");
        let text = "a".repeat(1021) + "\u{1f4e7}" + "b";
        assert_eq!(classic(text), "a".repeat(1021) + "...");
        // Bytes that are no text at all are cut too, and cost no more than their number.
        assert_eq!(classic([0x80; 4000]), "?".repeat(1021) + "...");
    }

    #[test]
    fn what_json_gets_is_json() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let parsed: String = serde_json::from_str(&format!("\"{}\"", json(&every_byte))).unwrap();
        assert!(parsed.starts_with("\0\u{1}\u{2}"));
    }
}
