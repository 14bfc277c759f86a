//! xtext (RFC 3461 section 4): how ENVID, ORCPT and AUTH= carry any octet as printable ASCII.

use staffetta_mail::{Address, unitext};

/// The octets that the text stands for; `None` if it is no xtext. Lower-case hex digits and an unencoded `=` are forgiven:
/// mailing lists write such addresses.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        octets.push(match b {
            b'+' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'!'..=b'~' => b,
            _ => return None,
        });
    }
    Some(octets)
}

/// True if the text is xtext and stands for printable ASCII.
pub fn is_printable(text: &str) -> bool {
    decode(text).is_some_and(|octets| octets.iter().all(|b| matches!(b, b' '..=b'~')))
}

/// The text with its unencoded `=` encoded: what a strict server takes.
pub fn strict(text: &str) -> String {
    text.replace('=', "+3D")
}

/// The text in xtext: octets outside of `!` to `~`, and `+` and `=`, as `+HH`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'!'..=b'~' if !matches!(b, b'+' | b'=') => encoded.push(char::from(b)),
            _ => encoded.push_str(&format!("+{b:02X}")),
        }
    }
    encoded
}

/// The address as ORCPT says it (RFC 3461 section 4.2; with UTF-8, RFC 6533 section 3).
pub fn orcpt(address: &Address) -> String {
    match address.as_str() {
        ascii if ascii.is_ascii() => format!("rfc822;{}", encode(ascii)),
        utf8 => format!("utf-8;{}", unitext::in_ascii(utf8)),
    }
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3461_4_xtext() {
        for (text, octets) in [
            ("", Some(&b""[..])),
            ("QQ314159", Some(b"QQ314159")),
            ("a+2Bb+3Dc+20d", Some(b"a+b=c d")),
            ("+0a", Some(b"\n")),
            ("a=b", Some(b"a=b")),
            ("a b", None),
            ("+2", None),
            ("+2G", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(decode(text).as_deref(), octets, "{text:?}");
        }
        assert!(is_printable("a+20b") && !is_printable("+0A"));
        assert_eq!((encode("a+b=c d\u{e9}").as_str(), encode("").as_str()), ("a+2Bb+3Dc+20d+C3+A9", ""));
    }

    #[test]
    fn rfc3461_4_2_an_address_as_orcpt_says_it() {
        for (address, orcpt) in [
            ("info@example.org", "rfc822;info@example.org"),
            ("a+b@example.org", "rfc822;a+2Bb@example.org"),
            ("j\u{f6}rg+x@example.org", "utf-8;j\\x{F6}rg\\x{2B}x@example.org"),
        ] {
            assert_eq!(address.parse().as_ref().map(super::orcpt), Ok(orcpt.to_owned()), "{address}");
        }
    }
}
