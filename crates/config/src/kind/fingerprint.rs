//! Which certificate: the SHA-256 of it, as `openssl x509 -fingerprint -sha256` prints it.

use std::fmt;

use super::{Kind, Wrong, quoted};

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|octet| format!("{octet:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

/// 64 hexadecimal digits, with colons between their pairs or without.
pub(crate) struct CertificateFingerprint;

impl Kind for CertificateFingerprint {
    type Value = Fingerprint;
    const NOUN: &'static str = "the SHA-256 fingerprint of a certificate";

    fn allowed() -> String {
        "32 octets as `openssl x509 -noout -fingerprint -sha256` prints them, such as \"9A:0B:…\"".into()
    }

    fn parse(text: &str) -> Result<Fingerprint, Wrong> {
        octets(text).map(Fingerprint).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Fingerprint) -> String {
        quoted(&value.to_string())
    }
}

fn octets(text: &str) -> Option<[u8; 32]> {
    let is_hex = |digit: &u8| digit.is_ascii_hexdigit();
    let (step, digits) = if text.contains(':') { (3, 95) } else { (2, 64) };
    if text.len() != digits {
        return None;
    }
    let mut octets = [0; 32];
    for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks(step)) {
        let (digits, end) = pair.split_at(2);
        if !digits.iter().all(is_hex) || !matches!(end, [] | [b':']) {
            return None;
        }
        *octet = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_openssl_prints_it_and_without_colons() {
        let pairs: Vec<String> = (0..32).map(|n| format!("{:02X}", n * 7)).collect();
        let (with, without) = (pairs.join(":"), pairs.concat().to_lowercase());
        let parsed = CertificateFingerprint::parse(&with);
        assert_eq!(parsed.as_ref().map(Fingerprint::to_string).as_ref(), Ok(&with));
        assert_eq!(CertificateFingerprint::parse(&without), parsed);
        let swapped = with.replacen(':', "0", 1);
        let dashes = with.replace(':', "-");
        let letters = without.replacen('0', "g", 1);
        let split = without.replacen("00", "é", 1);
        for text in ["", "9A", &with[3..], &format!("{with}:00"), &swapped, &dashes, &letters, &split, "+1"] {
            assert!(CertificateFingerprint::parse(text).is_err(), "{text}");
        }
    }
}
