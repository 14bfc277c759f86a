//! The header section of a message or of a part of one, as far as it says what the body is (RFC 2045).

use memchr::memchr;

/// The longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// What a header section says of the body behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) kind: Kind,
    /// The encoding that it names is `8bit` or `binary`.
    pub(crate) says_eight_bit: bool,
    pub(crate) has_type: bool,
    pub(crate) has_version: bool,
}

/// What a body is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Octets as they are meant.
    Text,
    /// An encoding stands between the octets and what they mean, or a type that must not get one.
    Encoded,
    /// A `multipart/signed`: whatever is in it.
    Signed,
    /// Parts with this boundary between them; in a digest they are messages unless they say otherwise.
    Multipart { boundary: Vec<u8>, digest: bool },
    /// A message.
    Message,
}

impl Kind {
    /// Not made of parts that are looked at?
    pub(crate) const fn is_simple(&self) -> bool {
        matches!(self, Self::Text | Self::Encoded | Self::Signed)
    }
}

impl Entity {
    /// Reads a section, blank line or not. `digest`: what names no type is a message.
    pub(crate) fn read(section: &[u8], digest: bool) -> Self {
        let (mut media, mut encoding, mut has_version) = (None, None, false);
        for field in fields(section) {
            if let Some(value) = value(field, b"Content-Type") {
                media.get_or_insert_with(|| Media::read(value));
            } else if let Some(value) = value(field, b"Content-Transfer-Encoding") {
                encoding.get_or_insert_with(|| String::from_utf8_lossy(value).trim().to_ascii_lowercase());
            } else if value_of_version(field) {
                has_version = true;
            }
        }
        let encoding = encoding.as_deref().unwrap_or("7bit");
        let says_eight_bit = matches!(encoding, "8bit" | "binary");
        let is_plain = says_eight_bit || encoding == "7bit";
        let has_type = media.is_some();
        let kind = kind(media.unwrap_or_else(|| Media::absent(digest)), is_plain);
        Self { kind, says_eight_bit, has_type, has_version }
    }
}

fn kind(media: Media, is_plain: bool) -> Kind {
    let Media { name, boundary } = media;
    match name.split_once('/') {
        Some(("multipart", "signed")) => Kind::Signed,
        // RFC 2045 section 6.4: these have no encoding.
        Some(("multipart", subtype)) if is_plain => match boundary {
            Some(boundary) if (1..=MAX_BOUNDARY).contains(&boundary.len()) => {
                Kind::Multipart { boundary, digest: subtype == "digest" }
            }
            _ => Kind::Encoded,
        },
        Some(("message", "rfc822")) if is_plain => Kind::Message,
        // RFC 6532 section 3.7, RFC 6533 section 6: unlike the others, these may have one.
        Some(("message", subtype)) if is_plain && subtype.starts_with("global") => Kind::Text,
        Some(("multipart" | "message", _)) => Kind::Encoded,
        _ if is_plain => Kind::Text,
        _ => Kind::Encoded,
    }
}

/// The value of Content-Type, as far as it matters.
struct Media {
    /// In lower case: `text/plain`.
    name: String,
    boundary: Option<Vec<u8>>,
}

impl Media {
    fn absent(digest: bool) -> Self {
        let name = if digest { "message/rfc822" } else { "text/plain" };
        Self { name: name.to_owned(), boundary: None }
    }

    fn read(value: &[u8]) -> Self {
        let mut pieces = parameters(value).into_iter();
        let name = pieces.next().unwrap_or_default();
        let name = String::from_utf8_lossy(name.split(|octet| *octet == b'(').next().unwrap_or_default());
        let boundary = pieces.find_map(|piece| {
            let at = memchr(b'=', piece)?;
            let (name, value) = (piece[..at].trim_ascii(), piece[at + 1..].trim_ascii());
            name.eq_ignore_ascii_case(b"boundary").then(|| unquoted(value))
        });
        Self { name: name.trim().to_ascii_lowercase(), boundary }
    }
}

/// Cuts at semicolons that are not within quotes.
fn parameters(value: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = |octet: &u8| {
        let was_escaped = escaped;
        escaped = quoted && *octet == b'\\' && !was_escaped;
        quoted ^= *octet == b'"' && !was_escaped;
        *octet == b';' && !quoted
    };
    value.split(is_end).collect()
}

/// A token up to its end, or what stands between quotes.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let is_end = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'(';
        return value.split(is_end).next().unwrap_or_default().to_vec();
    };
    let (mut text, mut octets) = (Vec::with_capacity(quoted.len()), quoted.iter());
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => break,
            b'\\' => text.extend(octets.next()),
            b'\r' | b'\n' => {}
            octet => text.push(*octet),
        }
    }
    text
}

/// The fields of a section, each with its continuation lines; the blank line is none.
pub(crate) fn fields(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = section;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = memchr(b'\n', &rest[end..]).map_or(rest.len(), |at| end + at + 1);
            end = line;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        (!matches!(field, [] | [b'\n'] | [b'\r', b'\n'])).then_some(field)
    })
}

/// What stands behind the colon of a field, if it has this name.
pub(crate) fn value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = field.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    rest.trim_ascii_start().strip_prefix(b":")
}

fn value_of_version(field: &[u8]) -> bool {
    value(field, b"MIME-Version").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc2045_what_a_section_says_of_its_body() {
        let multipart = |boundary: &[u8], digest| Kind::Multipart { boundary: boundary.to_vec(), digest };
        for (section, kind, says_eight_bit) in [
            ("Subject: x\r\n\r\n", Kind::Text, false),
            ("Content-Type: text/plain\r\nContent-Transfer-Encoding: 8BIT\r\n\r\n", Kind::Text, true),
            ("content-type:text/html\r\ncontent-transfer-encoding :\r\n quoted-printable\r\n", Kind::Encoded, false),
            ("Content-Transfer-Encoding: x-uuencode\r\n\r\n", Kind::Encoded, false),
            ("Content-Type: multipart/mixed; boundary=ab\r\n\r\n", multipart(b"ab", false), false),
            (
                "Content-Type: Multipart/Digest;\r\n\tcharset=x; BOUNDARY=\"a;\\\"b\" (c)\r\n\r\n",
                multipart(b"a;\"b", true),
                false,
            ),
            ("Content-Type: multipart/mixed (c); boundary=ab (c)\r\n\r\n", multipart(b"ab", false), false),
            ("Content-Type: multipart/mixed\r\n\r\n", Kind::Encoded, false),
            (
                "Content-Type: multipart/mixed; boundary=a\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                Kind::Encoded,
                false,
            ),
            ("Content-Type: multipart/signed; boundary=a\r\n\r\n", Kind::Signed, false),
            ("Content-Type: message/rfc822\r\n\r\n", Kind::Message, false),
            ("Content-Type: message/partial\r\n\r\n", Kind::Encoded, false),
            ("Content-Type: \r\n\r\n", Kind::Text, false),
        ] {
            let entity = Entity::read(section.as_bytes(), false);
            assert_eq!((entity.kind, entity.says_eight_bit), (kind, says_eight_bit), "{section}");
        }
        assert_eq!(Entity::read(b"\r\n", true).kind, Kind::Message);
        assert_eq!(Entity::read(b"Content-Type: text/plain\r\n\r\n", true).kind, Kind::Text);
    }

    #[test]
    fn a_field_has_its_continuation_lines() {
        let section = b"A: b\r\n c\r\n\td\r\nB:\r\nC: x";
        let fields: Vec<&[u8]> = fields(section).collect();
        assert_eq!(fields, [&b"A: b\r\n c\r\n\td\r\n"[..], b"B:\r\n", b"C: x"]);
        assert_eq!(super::fields(b"\r\n").next(), None);
    }
}
