//! Mail addresses by the grammar of RFC 5321 section 4.1.2 with the UTF-8 of RFC 6531 section 3.3, kept byte for byte.
//!
//! A quoted local part keeps its quotes, a domain keeps its case and its U-labels: what came in goes out. Who compares domains
//! or asks the DNS uses [`Address::domain_key`]. Whether UTF-8 is allowed where an address stands is the caller's question.
//!
//! Wider than the grammar where real mail is: dots of a local part may stand anywhere (`a..b@`, `a.@`: old mobile
//! providers gave them out), and it may have 255 octets (VERP, SRS, tokens).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest local part. RFC 5321 section 4.5.3.1.1 says that 64 must be taken, and more may be.
const MAX_LOCAL: usize = 255;
/// Longest domain (RFC 5321 section 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Longest address, in octets.
const MAX_PATH: usize = MAX_LOCAL + 1 + MAX_DOMAIN;

/// `local-part@domain`, or the bare `postmaster` that RFC 5321 section 4.5.1 reserves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    /// Where the `@` stands; the length of the text when there is none.
    at: usize,
}

/// The domain of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain<'a> {
    /// A name, as written.
    Name(&'a str),
    /// An address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

/// Why a text is no address. Completes "bad address: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing between the angle brackets where an address must be.
    #[error("it is empty")]
    Empty,
    /// No `@`, and not `postmaster`.
    #[error("it has no domain")]
    NoDomain,
    /// The local part is neither a dot-string nor a quoted string.
    #[error("the local part is malformed")]
    Local,
    /// The domain is neither a name nor an address literal.
    #[error("the domain is malformed")]
    Domain,
    /// One of the limits of RFC 5321 section 4.5.3.1 is exceeded.
    #[error("it is too long")]
    TooLong,
}

impl Address {
    /// Parses `local-part@domain` without angle brackets.
    ///
    /// Accepts the local part without a domain only for `postmaster` in any case.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > MAX_PATH {
            return Err(AddressError::TooLong);
        }
        if text.chars().any(|c| !c.is_ascii() && is_invisible(c)) {
            return Err(AddressError::Local);
        }
        let at = local_part_end(text.as_bytes())?;
        if at > MAX_LOCAL {
            return Err(AddressError::TooLong);
        }
        match text.as_bytes().get(at) {
            None if text.eq_ignore_ascii_case("postmaster") => {}
            None => return Err(AddressError::NoDomain),
            Some(b'@') => check_domain(&text[at + 1..])?,
            Some(_) => return Err(AddressError::Local),
        }
        Ok(Self { text: text.to_owned(), at })
    }

    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as written, quotes included.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The text after the `@` as written; `None` for the bare `postmaster`.
    pub fn domain_str(&self) -> Option<&str> {
        self.text.get(self.at + 1..)
    }

    /// The domain, taken apart.
    pub fn domain(&self) -> Option<Domain<'_>> {
        let text = self.domain_str()?;
        Some(match address_literal(text) {
            Some(ip) => Domain::Literal(ip),
            None => Domain::Name(text),
        })
    }

    /// The domain in lower case and in A-labels (RFC 5890 section 2.3.2.1): for comparison, for the DNS, and as the key of a
    /// destination queue.
    pub fn domain_key(&self) -> Option<String> {
        let text = self.domain_str()?;
        if text.is_ascii() {
            return Some(text.to_ascii_lowercase());
        }
        // What was parsed has A-labels; see `check_domain`.
        Some(a_labels(text).unwrap_or_else(|| text.to_lowercase()))
    }

    /// True for `postmaster` at any domain or none, in any case (RFC 5321 section 4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local().eq_ignore_ascii_case("postmaster")
    }

    /// True if the domain is a name with a dot in it, or an address literal.
    pub fn is_fully_qualified(&self) -> bool {
        match self.domain() {
            Some(Domain::Name(name)) => name.contains('.'),
            Some(Domain::Literal(_)) => true,
            None => false,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// Where reports go: an address, or nowhere (`<>`, RFC 5321 section 4.5.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a report itself; it never causes another.
    Null,
    /// The sender.
    Address(Address),
}

impl ReversePath {
    /// The address, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// The text between the angle brackets; empty for the null path.
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }

    /// True for `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The index just past the local part, which the grammar of `Local-part` delimits.
fn local_part_end(bytes: &[u8]) -> Result<usize, AddressError> {
    if bytes.first() == Some(&b'"') {
        return quoted_string_end(bytes);
    }
    let end = bytes.iter().position(|&b| !(is_atext(b) || b == b'.')).unwrap_or(bytes.len());
    if end == 0 { Err(AddressError::Local) } else { Ok(end) }
}

/// RFC 5321: `Quoted-string = DQUOTE *QcontentSMTP DQUOTE`.
fn quoted_string_end(bytes: &[u8]) -> Result<usize, AddressError> {
    let mut i = 1;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'"' => return Ok(i + 1),
            b'\\' if bytes.get(i + 1).is_some_and(|b| (32..=126).contains(b)) => i += 2,
            b'\\' => return Err(AddressError::Local),
            32..=126 | 0x80.. => i += 1,
            _ => return Err(AddressError::Local),
        }
    }
    Err(AddressError::Local)
}

/// RFC 5322 section 3.2.3, with the octets of UTF-8 (RFC 6532 section 3.2).
fn is_atext(b: u8) -> bool {
    b >= 0x80 || b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

fn check_domain(text: &str) -> Result<(), AddressError> {
    if text.len() > MAX_DOMAIN {
        return Err(AddressError::TooLong);
    }
    if text.starts_with('[') {
        return address_literal(text).map(drop).ok_or(AddressError::Domain);
    }
    let valid = if text.is_ascii() { is_domain_name(text) } else { a_labels(text).is_some() };
    if valid { Ok(()) } else { Err(AddressError::Domain) }
}

/// The domain in A-labels and lower case; `None` if it has none (RFC 5891, with the mapping of UTS 46).
pub fn a_labels(text: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii(text).ok()?;
    (ascii.len() <= MAX_DOMAIN && is_domain_name(&ascii)).then_some(ascii)
}

/// What would let an address look like another one, or break a line of a log: controls, separators, direction marks.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Letters, digits, hyphens within labels of 1 to 63 octets. The underscore is tolerated because real host names
/// carry it.
pub(crate) fn is_domain_name(text: &str) -> bool {
    let (mut length, mut last) = (0, b'-');
    for &b in text.as_bytes() {
        match b {
            b'.' if length > 0 && last != b'-' => length = 0,
            b'-' if length > 0 => length += 1,
            b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => length += 1,
            _ => return false,
        }
        if length > 63 {
            return false;
        }
        last = b;
    }
    length > 0 && last != b'-'
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3); `None` for anything else. General
/// address literals have no registered tag and are refused.
pub fn address_literal(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn rfc1123_2_1_labels_have_1_to_63_octets_and_no_hyphen_at_an_end() {
        let label = |octets: usize| "a".repeat(octets);
        for text in ["a", "a.b", "a-b.c", "_a._b", "4.2", "A.b9", &label(63), &format!("a.{}.b", label(63))] {
            assert!(is_domain_name(text), "{text:?}");
        }
        let long = [label(64), format!("{}.b", label(64)), format!("a.{}", label(64)), format!("{}-.b", label(62))];
        let long = long.iter().map(String::as_str);
        for text in ["", ".", "a.", ".a", "a..b", "-", "-a", "a-", "a-.b", "a.-b", "a.b-", "a b", "a\n", "\u{e9}"]
            .into_iter()
            .chain(long)
        {
            assert!(!is_domain_name(text), "{text:?}");
        }
    }

    #[test]
    fn rfc5321_4_1_2_valid_addresses_are_kept_byte_for_byte() {
        let long_local = format!("{}@example.org", "a".repeat(255));
        for text in [
            "john@example.org",
            "John.Doe+tag@Example.ORG",
            "\"a b\"@c.d",
            "\"a\\\"b@c\"@d.e",
            "\"\"@d.e",
            "user@[192.0.2.1]",
            "user@[IPv6:::1]",
            "user@[ipv6:2001:db8::1]",
            "x@nodot",
            "postmaster",
            "PostMaster",
            "a@under_score.example",
            ".a@b.c",
            "a..b@c.d",
            "a.@c.d",
            ".@c.d",
            "j\u{f6}rg@c.d",
            "\"j\u{f6}rg b\"@c.d",
            "x@b\u{fc}cher.example",
            "\u{7528}\u{6237}@\u{4f8b}\u{5b50}.example",
            &long_local,
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.as_str(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_their_reason() {
        let long_local = format!("{}@example.org", "a".repeat(256));
        let long_domain = format!("a@{}", "b.".repeat(128) + "b");
        for (text, error) in [
            ("", AddressError::Empty),
            ("john", AddressError::NoDomain),
            ("@example.org", AddressError::Local),
            ("a b@c.d", AddressError::Local),
            ("a\rb@c.d", AddressError::Local),
            ("\"open@c.d", AddressError::Local),
            ("\"a\"b@c.d", AddressError::Local),
            ("\"\u{7f}\"@c.d", AddressError::Local),
            ("a\u{85}b@c.d", AddressError::Local),
            ("a\u{a0}b@c.d", AddressError::Local),
            ("a\u{2028}b@c.d", AddressError::Local),
            ("a\u{202e}b@c.d", AddressError::Local),
            ("a@b\u{fc}..c", AddressError::Domain),
            ("a@\u{fc} .c", AddressError::Domain),
            ("a@", AddressError::Domain),
            ("a@b..c", AddressError::Domain),
            ("a@-b.c", AddressError::Domain),
            ("a@b.c.", AddressError::Domain),
            ("a@b@c", AddressError::Domain),
            ("a@[300.1.1.1]", AddressError::Domain),
            ("a@[IPv6:zz]", AddressError::Domain),
            ("a@[tag:x]", AddressError::Domain),
            (&long_local, AddressError::TooLong),
            (&long_domain, AddressError::TooLong),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_domain_is_a_name_or_a_literal() {
        let literal = Address::parse("a@[IPv6:::1]").unwrap();
        assert_eq!(literal.domain(), Some(Domain::Literal("::1".parse().unwrap())));
        assert!(literal.is_fully_qualified());
        let name = Address::parse("a@Example.ORG").unwrap();
        assert_eq!(name.domain(), Some(Domain::Name("Example.ORG")));
        assert_eq!(name.domain_key().as_deref(), Some("example.org"));
        for text in ["a@B\u{dc}CHER.Example", "a@b\u{fc}cher.example", "a@xn--bcher-kva.example"] {
            let key = Address::parse(text).unwrap().domain_key();
            assert_eq!(key.as_deref(), Some("xn--bcher-kva.example"), "{text}");
        }
        assert!(!Address::parse("a@nodot").unwrap().is_fully_qualified());
        assert!(Address::parse("postmaster").unwrap().is_postmaster());
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_never_changes_the_text(text in ".{0,80}") {
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert_eq!(address.as_str(), &text);
                proptest::prop_assert!(!text.contains(['\r', '\n', '\0']));
            }
        }
    }
}
