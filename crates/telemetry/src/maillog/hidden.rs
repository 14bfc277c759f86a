//! `log.addresses = "hashed"`: addresses without the names of people.
//!
//! The local part of each address is replaced by twelve hexadecimal digits: of HMAC-SHA256 with the operator's key, over the
//! address in lower case. The same address has the same digits wherever it is written, in all services that have the key,
//! so that a message can still be followed; without the key nobody can try addresses out. Domains stay. Logins go the same way;
//! one without a domain is hashed whole. Message-IDs stay as they are.
//!
//! All text of others comes into either stream as a [`super::Text`], so this is the one place; what a server says of an
//! address in its own words is found, too.

use std::borrow::Cow;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Set once, at the start: addresses are hidden from then on.
static KEY: OnceLock<Hmac<Sha256>> = OnceLock::new();
/// Fields of diagnostics whose values may be addresses.
const KEYS: [&str; 8] = ["login", "sender", "recipient", "from", "to", "name", "error", "reason"];
/// Digits that stand for a local part.
const DIGITS: usize = 12;

/// Hides addresses from now on, behind this key; the first one counts.
pub(crate) fn hide(key: &str) {
    if let Ok(mac) = Hmac::new_from_slice(key.as_bytes()) {
        let _ = KEY.set(mac);
    }
}

/// The text with what is to be hidden in it hidden.
pub(crate) fn in_text(text: &[u8]) -> Cow<'_, [u8]> {
    match KEY.get() {
        Some(key) => Hider(key).text(text),
        None => text.into(),
    }
}

/// The same of a login.
pub(super) fn in_login(login: &[u8]) -> Cow<'_, [u8]> {
    match KEY.get() {
        Some(key) if !login.contains(&b'@') => Hider(key).digits(login, b"").to_vec().into(),
        Some(key) => Hider(key).text(login),
        None => login.into(),
    }
}

struct Hider<'k>(&'k Hmac<Sha256>);

impl Hider<'_> {
    /// Every address in it.
    fn text<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut out = Vec::new();
        // What stands before `done` is in `out`; `seen` is the last that was looked at.
        let (mut done, mut seen) = (0, 0);
        for at in memchr::memchr_iter(b'@', text) {
            if at < seen {
                continue;
            }
            let at = quoted_to(text, done, at).unwrap_or(at);
            seen = at;
            let Some(start) = local(&text[done..at]).map(|length| at - length) else { continue };
            let domain = &text[at + 1..];
            let domain = &domain[..domain.iter().position(|&octet| !is_domain(octet)).unwrap_or(domain.len())];
            if domain.is_empty() {
                continue;
            }
            out.extend_from_slice(&text[done..start]);
            out.extend_from_slice(&self.digits(&text[start..at], trimmed(domain)));
            done = at;
        }
        if done == 0 {
            return text.into();
        }
        out.extend_from_slice(&text[done..]);
        out.into()
    }

    fn digits(&self, local: &[u8], domain: &[u8]) -> [u8; DIGITS] {
        let mut mac = self.0.clone();
        mac.update(&local.to_ascii_lowercase());
        mac.update(b"@");
        mac.update(&domain.to_ascii_lowercase());
        let digest = mac.finalize().into_bytes();
        let digit = |at: usize| b"0123456789abcdef"[usize::from(digest[at / 2] >> (4 * (1 - at % 2)) & 15)];
        std::array::from_fn(digit)
    }
}

/// The `@` behind a quoted local part of which the one at `at` is a part.
fn quoted_to(text: &[u8], from: usize, at: usize) -> Option<usize> {
    opening(&text[from..at])?;
    let rest = &text[at..];
    let close = rest.windows(3).position(|three| matches!(three, [before, b'"', b'@'] if *before != b'\\'))?;
    Some(at + close + 2)
}

/// The last quote that is not escaped.
fn opening(text: &[u8]) -> Option<usize> {
    memchr::memrchr_iter(b'"', text).find(|&at| at == 0 || text[at - 1] != b'\\')
}

/// The octets of a local part that ends here; `None` if there is none, or it is the user of a URL.
fn local(before: &[u8]) -> Option<usize> {
    if let Some(inner) = before.strip_suffix(b"\"") {
        return opening(inner).map(|opening| before.len() - opening);
    }
    let length = before.iter().rev().take_while(|&&octet| is_local(octet)).count();
    let (rest, mut local) = before.split_at(before.len() - length);
    if rest.is_empty() || rest.ends_with(b" ") {
        // A diagnostic as text: the name of a field, and its value.
        local = KEYS.iter().find_map(|key| local.strip_prefix(key.as_bytes())?.strip_prefix(b"=")).unwrap_or(local);
    }
    let length = local.len();
    let is_url = rest.ends_with(b":") && local.starts_with(b"//") || local.windows(3).any(|three| three == b"://");
    (length > 0 && !is_url).then_some(length)
}

/// The dot that ends a sentence is no part of a domain.
fn trimmed(domain: &[u8]) -> &[u8] {
    domain.strip_suffix(b".").unwrap_or(domain)
}

/// The atoms of RFC 5322 section 3.2.3 and the dot, and what is not ASCII.
const fn is_local(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || octet >= 0x80
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
                | b'.'
        )
}

/// Names, and literals.
const fn is_domain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet >= 0x80 || matches!(octet, b'.' | b'-' | b'[' | b']' | b':')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn hidden(text: &str) -> String {
        let key = Hmac::new_from_slice(b"a key").unwrap();
        String::from_utf8(Hider(&key).text(text.as_bytes()).into_owned()).unwrap()
    }

    /// What stands for a local part.
    fn digits(text: &str) -> String {
        hidden(text).split('@').next().unwrap().to_owned()
    }

    #[test]
    fn an_address_has_the_same_digits_wherever_it_stands_and_no_other_has_them() {
        let lisa = digits("lisa@example.com");
        assert_eq!((lisa.len(), lisa.bytes().all(|b| b.is_ascii_hexdigit())), (12, true), "{lisa}");
        for (text, expected) in [
            ("lisa@example.com", format!("{lisa}@example.com")),
            ("LISA@Example.com", format!("{lisa}@Example.com")),
            ("550 5.1.1 <lisa@example.com>: unknown", format!("550 5.1.1 <{lisa}@example.com>: unknown")),
            ("no lisa@example.com.", format!("no {lisa}@example.com.")),
            (
                "to=lisa, <lisa@example.com>,<lisa@example.com>",
                format!("to=lisa, <{lisa}@example.com>,<{lisa}@example.com>"),
            ),
            ("@example.com, a @ b, lisa@", "@example.com, a @ b, lisa@".to_owned()),
            ("redis://***@host:1 postgres://john@db/x", "redis://***@host:1 postgres://john@db/x".to_owned()),
            (" login=lisa@example.com to=x", format!(" login={lisa}@example.com to=x")),
            ("", String::new()),
        ] {
            assert_eq!(hidden(text), expected, "{text}");
        }
        for other in ["lisa@example.org", "lisa+x@example.com", "anna@example.com"] {
            assert_ne!(digits(other), lisa, "{other}");
        }
        let other = Hmac::new_from_slice(b"another key").unwrap();
        assert_ne!(Hider(&other).digits(b"lisa", b"example.com").to_vec(), lisa.into_bytes(), "the key matters");
    }

    #[test]
    fn no_part_of_a_name_is_left_over() {
        for name in ["john.doe", "a+b=c.test", "\"john doe\"", "\"a@b\\\" c\"", "j\u{f6}rg", "o'neil", "x/y", "{a|b}"] {
            let text = hidden(&format!("said: <{name}@x.test> is full"));
            let (before, behind) = text.split_once("@x.test").unwrap();
            assert_eq!((before.len(), behind), ("said: <".len() + 12, "> is full"), "{name}: {text}");
        }
        assert_eq!(hidden("<a@[192.0.2.1]>").len(), "<@[192.0.2.1]>".len() + 12);
    }
}
