//! Who wants reports on the mail of a domain: the TXT record at `_smtp._tls.<domain>` (section 3).

use crate::Address;

/// Where a report may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By mail (`mailto:`).
    Mail(Address),
    /// By POST, to this address (`https:`).
    Web(String),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mail(address) => write!(f, "mailto:{address}"),
            Self::Web(url) => f.write_str(url),
        }
    }
}

/// Most that are looked at.
const MOST: usize = 3;

/// Where a domain with these TXT records wants its reports, in its own order. None: it wants none, or nobody can say; what is of a
/// kind that is not known is left out.
pub fn destinations(texts: &[String]) -> Vec<Destination> {
    let mut records = texts.iter().filter_map(|text| fields(text));
    let (Some(fields), None) = (records.next(), records.next()) else { return Vec::new() };
    let rua = fields.split(';').find_map(|field| {
        let (key, value) = field.split_once('=')?;
        (key.trim() == "rua").then_some(value)
    });
    rua.into_iter().flat_map(|uris| uris.split(',')).filter_map(|uri| destination(uri.trim())).take(MOST).collect()
}

/// What follows the version, if this is such a record.
fn fields(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("v=TLSRPTv1")?.trim_start_matches([' ', '\t']);
    rest.strip_prefix(';')
}

fn destination(uri: &str) -> Option<Destination> {
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        // What RFC 6068 lets follow is not for reports.
        let address = rest.split('?').next().and_then(decoded)?;
        let address: Address = address.parse().ok()?;
        // A report is a message in ASCII.
        let is_usable = address.domain_str().is_some() && address.as_str().is_ascii();
        return is_usable.then_some(Destination::Mail(address));
    }
    (scheme.eq_ignore_ascii_case("https") && rest.starts_with("//")).then(|| Destination::Web(format!("https:{rest}")))
}

/// Without the escapes of RFC 3986 section 2.1.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        octets.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8460_3_one_record_says_who_wants_reports() {
        let mail = |address: &str| Destination::Mail(address.parse().unwrap_or_else(|_| unreachable!("{address}")));
        let web = |url: &str| Destination::Web(url.to_owned());
        for (texts, expected) in [
            (&["v=TLSRPTv1;rua=mailto:reports@example.com"][..], vec![mail("reports@example.com")]),
            (
                &["v=TLSRPTv1; rua=https://reports.example.com/v1/tlsrpt"],
                vec![web("https://reports.example.com/v1/tlsrpt")],
            ),
            (
                &["v=spf1 -all", "v=TLSRPTv1 ; x=y; rua = mailto:a@b.c , https://d.e/"],
                vec![mail("a@b.c"), web("https://d.e/")],
            ),
            (&["v=TLSRPTv1;rua=mailto:a%2Bb@c.d?subject=x"], vec![mail("a+b@c.d")]),
            (&["v=TLSRPTv1;rua=ftp://a.b,HTTPS://a.b/c"], vec![web("https://a.b/c")]),
            (
                &[
                    "v=TLSRPTv1;rua=mailto:%c3%a9@a.b,mailto:nobody,mailto:%zz@a.b,mailto:%e9@a.b,mailto:a%0d%0ab@c.d,mailto:",
                ],
                vec![],
            ),
            (&["v=TLSRPTv1;rua=mailto:a@b.c", "v=TLSRPTv1;rua=mailto:d@e.f"], vec![]),
            (&["v=TLSRPTv2;rua=mailto:a@b.c"], vec![]),
            (&["v=TLSRPTv1"], vec![]),
            (&["v=TLSRPTv1;"], vec![]),
            (&[], vec![]),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(destinations(&texts), expected, "{texts:?}");
        }
    }
}
