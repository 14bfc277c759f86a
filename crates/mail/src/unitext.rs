//! Addresses of type `utf-8` in reports and in ORCPT (RFC 6533 section 3): what they say, and the two ways to write it.
//!
//! [`in_ascii`] is `utf-8-addr-xtext`, which travels everywhere; [`in_utf8`] is `utf-8-addr-unitext`, for what goes by SMTPUTF8
//! anyway. Both write `\x{2B}` for what would have a meaning of its own, and [`decode`] reads both.

use std::fmt::Write as _;

use crate::address::is_invisible;

/// `j\x{FC}rgen\x{2B}x@example.org`
pub fn in_ascii(address: &str) -> String {
    escaped(address, |_| true)
}

/// `jürgen\x{2B}x@example.org`; what no reader would see is escaped here, too.
pub fn in_utf8(address: &str) -> String {
    escaped(address, is_invisible)
}

/// Escapes what is no QCHAR, beyond ASCII only if `also` says so.
fn escaped(text: &str, also: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '=' | '\\' => embed(c, &mut out),
            '!'..='~' => out.push(c),
            _ if c.is_ascii() || also(c) => embed(c, &mut out),
            _ => out.push(c),
        }
    }
    out
}

/// Characters beyond ASCII as `\x{FC}`, and nothing else: of a text that has its escapes.
pub fn embedded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() { out.push(c) } else { embed(c, &mut out) }
    }
    out
}

/// Appends `\x{FC}`.
pub(crate) fn embed(c: char, out: &mut String) {
    // A String takes whatever is written.
    let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
}

/// What an address in either form says; what is no escape stays as it is. The result may hold any character.
pub fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x{") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let escape = from[3..].split_once('}').and_then(|(digits, behind)| Some((character(digits)?, behind)));
        rest = match escape {
            Some((c, behind)) => {
                out.push(c);
                behind
            }
            None => {
                out.push_str(&from[..3]);
                &from[3..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// HEXPOINT: two to six digits.
fn character(digits: &str) -> Option<char> {
    let is_hexpoint = (2..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_hexpoint).and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6533_3_both_forms_say_the_same() {
        for (address, ascii, utf8) in [
            ("a@example.org", "a@example.org", "a@example.org"),
            ("j\u{fc}rgen@b\u{fc}cher.example", "j\\x{FC}rgen@b\\x{FC}cher.example", "j\u{fc}rgen@b\u{fc}cher.example"),
            ("u+x=y\\z@e.org", "u\\x{2B}x\\x{3D}y\\x{5C}z@e.org", "u\\x{2B}x\\x{3D}y\\x{5C}z@e.org"),
            ("\"a b\"@e.org", "\"a\\x{20}b\"@e.org", "\"a\\x{20}b\"@e.org"),
            ("\u{1f4ec}@e.org", "\\x{1F4EC}@e.org", "\u{1f4ec}@e.org"),
            ("a\u{202e}b@e.org", "a\\x{202E}b@e.org", "a\\x{202E}b@e.org"),
        ] {
            assert_eq!((in_ascii(address).as_str(), in_utf8(address).as_str()), (ascii, utf8));
            assert_eq!((decode(ascii).as_str(), decode(utf8).as_str()), (address, address));
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in
            ["\\x{", "\\x{}", "\\x{zz}", "\\x{A}", "\\x{D800}", "\\x{1234567}", "\\x{+FC}", "a\\xFC", "\\x{\u{fc}}"]
        {
            assert_eq!(decode(text), text);
        }
        assert_eq!(decode("\\x{zz}\\x{FC}"), "\\x{zz}\u{fc}");
        assert_eq!(embedded("\u{fc}+2B\\x{FC}"), "\\x{FC}+2B\\x{FC}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_read(text in "(\\PC|[+=\\\\x{}FC]|\u{202e}|\u{0}){0,20}") {
            proptest::prop_assert_eq!(&decode(&in_ascii(&text)), &text);
            proptest::prop_assert_eq!(&decode(&in_utf8(&text)), &text);
            proptest::prop_assert!(in_ascii(&text).bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
