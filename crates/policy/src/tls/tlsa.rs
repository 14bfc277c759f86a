//! TLSA records: whose they are, which can be used, and what they say of a certificate (RFC 6698, RFC 7671, RFC 7672).
//!
//! Only the usages 2 (DANE-TA) and 3 (DANE-EE) mean something for mail; the other two want a list of public CAs that
//! sender and receiver do not share (RFC 7672 section 3.1.3).

use std::sync::Arc;

use sha2::{Digest, Sha256, Sha512};

use super::Dane;
use crate::mx::Proof;

/// One TLSA record (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: a CA of the chain; 3: the server's own certificate.
    pub usage: u8,
    /// 0: the certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: SHA-256; 2: SHA-512.
    pub matching: u8,
    /// What it must be.
    pub data: Vec<u8>,
}

/// DANE-TA: a CA that is part of the chain.
pub const AUTHORITY: u8 = 2;
/// DANE-EE: the server's certificate itself.
pub const END_ENTITY: u8 = 3;

/// What a server's certificate must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pins {
    /// The TLSA base domain: where the records are. It goes into SNI (RFC 7672 section 8.1).
    pub base: Arc<str>,
    /// The names of which the certificate must carry one, with usage 2 (section 3.2.2). The base is the first.
    pub names: Vec<Arc<str>>,
    /// The usable records; never empty.
    pub records: Vec<Tlsa>,
}

impl Tlsa {
    /// Does it say something that can be checked? A digest of another length matches nothing, and what is no DER is neither
    /// certificate nor key.
    pub fn is_usable(&self) -> bool {
        let fits = match self.matching {
            0 => is_der_sequence(&self.data),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        fits && matches!(self.usage, AUTHORITY | END_ENTITY) && self.selector <= 1
    }

    /// Does a certificate match? Both are DER; the key is its SubjectPublicKeyInfo. The usage is not looked at.
    pub fn matches(&self, certificate: &[u8], public_key: &[u8]) -> bool {
        let selected = if self.selector == 0 { certificate } else { public_key };
        match self.matching {
            0 => selected == self.data,
            1 => Sha256::digest(selected).as_slice() == self.data,
            2 => Sha512::digest(selected).as_slice() == self.data,
            _ => false,
        }
    }
}

impl std::fmt::Display for Tlsa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// What secure records at `base` mean. `names` are those by which the server may be known besides the base.
pub fn judge(base: &str, names: &[&str], records: Vec<Tlsa>) -> Dane {
    if records.is_empty() {
        return Dane::Absent;
    }
    let usable: Vec<_> = records.into_iter().filter(Tlsa::is_usable).collect();
    let records = strongest(&usable);
    if records.is_empty() {
        return Dane::Unusable;
    }
    let base: Arc<str> = base.into();
    let mut all = vec![base.clone()];
    for name in names {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            all.push((*name).into());
        }
    }
    Dane::Records(Arc::new(Pins { base, names: all, records }))
}

/// RFC 7671 section 9: of several digests of the same thing only the strongest counts.
fn strongest(records: &[Tlsa]) -> Vec<Tlsa> {
    let is_outdone = |record: &Tlsa| {
        let better = |other: &Tlsa| (other.usage, other.selector, other.matching) == (record.usage, record.selector, 2);
        record.matching == 1 && records.iter().any(better)
    };
    records.iter().filter(|record| !is_outdone(record)).cloned().collect()
}

/// What the DNS says on the way from a host's name to its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where the name leads, if it is an alias.
    pub alias: Option<String>,
    /// Of the whole way.
    pub proof: Proof,
    /// Of the first alias alone; without one that of the way.
    pub first: Proof,
}

/// The names at which the TLSA records of a host may be, the best first (RFC 7672 sections 2.2.2 and 2.2.3): where a secure
/// alias leads, then the name itself. Where nobody vouches for the name, its records need not be asked for.
pub fn base_domains(host: &str, way: &Way) -> Vec<String> {
    let mut bases = Vec::with_capacity(2);
    if way.proof == Proof::Secure {
        bases.extend(way.alias.clone());
    }
    if way.first == Proof::Secure {
        bases.push(host.to_owned());
    }
    bases
}

/// One DER SEQUENCE and nothing behind it, as certificates and keys are.
fn is_der_sequence(data: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = data else { return false };
    let short = usize::from(*length);
    if short < 0x80 {
        return rest.len() == short;
    }
    let octets = short - 0x80;
    if !(1..=3).contains(&octets) || rest.len() < octets {
        return false;
    }
    let (length, content) = rest.split_at(octets);
    length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)) == content.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
        Tlsa { usage, selector, matching, data: data.to_vec() }
    }

    /// The smallest SEQUENCE.
    const EMPTY: [u8; 2] = [0x30, 0];

    #[test]
    fn rfc7672_3_1_only_what_can_be_checked_is_usable() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        for (usage, selector, matching, data, usable) in [
            (3, 1, 1, &[1; 32][..], true),
            (3, 0, 2, &[1; 64], true),
            (2, 0, 1, &[1; 32], true),
            (2, 1, 2, &[1; 64], true),
            (2, 0, 0, &EMPTY, true),
            (3, 1, 0, &long, true),
            // Not for mail.
            (0, 1, 1, &[1; 32], false),
            (1, 0, 1, &[1; 32], false),
            (4, 1, 1, &[1; 32], false),
            (255, 1, 1, &[1; 32], false),
            // Not defined.
            (3, 2, 1, &[1; 32], false),
            (3, 1, 3, &[1; 32], false),
            // No digest is so long, nothing is empty, and a certificate has an end.
            (3, 1, 1, &[1; 31], false),
            (3, 1, 1, &[1; 64], false),
            (3, 1, 2, &[1; 32], false),
            (3, 1, 1, &[], false),
            (3, 0, 0, &[], false),
            (3, 0, 0, &[0x30], false),
            (3, 0, 0, &[0x30, 0x80], false),
            (3, 0, 0, &[0x30, 1], false),
            (3, 0, 0, &[0x30, 0, 0], false),
            (3, 0, 0, &[0x30, 0x84, 0, 0, 0, 0], false),
            (2, 0, 0, b"text", false),
        ] {
            assert_eq!(record(usage, selector, matching, data).is_usable(), usable, "{usage} {selector} {matching}");
        }
    }

    #[test]
    fn rfc6698_2_1_selector_and_matching_say_what_is_compared() {
        let (certificate, key) = (b"certificate", b"key");
        let sha256 = |data: &[u8]| Sha256::digest(data).to_vec();
        let sha512 = |data: &[u8]| Sha512::digest(data).to_vec();
        for (selector, matching, data) in [
            (0, 0, certificate.to_vec()),
            (0, 1, sha256(certificate)),
            (0, 2, sha512(certificate)),
            (1, 0, key.to_vec()),
            (1, 1, sha256(key)),
            (1, 2, sha512(key)),
        ] {
            let good = record(3, selector, matching, &data);
            assert!(good.matches(certificate, key), "{selector} {matching}");
            assert!(!good.matches(b"other", b"thing"), "{selector} {matching}");
            let other = record(3, 1 - selector, matching, &data);
            assert!(!other.matches(certificate, key), "the other part of the certificate");
        }
    }

    #[test]
    fn rfc7672_2_2_no_usable_record_is_not_no_record() {
        assert_eq!(judge("mx", &[], Vec::new()), Dane::Absent);
        assert_eq!(judge("mx", &[], vec![record(1, 1, 1, &[1; 32]), record(3, 1, 1, &[])]), Dane::Unusable);
        let good = record(3, 1, 1, &[1; 32]);
        let pins = judge("mx", &["MX", "a.test"], vec![record(0, 1, 1, &[1; 32]), good.clone()]);
        let expected = Pins { base: "mx".into(), names: vec!["mx".into(), "a.test".into()], records: vec![good] };
        assert_eq!(pins, Dane::Records(Arc::new(expected)));
    }

    #[test]
    fn rfc7671_9_a_weaker_digest_of_the_same_thing_does_not_count() {
        let (weak, strong) = (record(3, 1, 1, &[1; 32]), record(3, 1, 2, &[1; 64]));
        let (whole, other) = (record(3, 1, 0, &EMPTY), record(2, 1, 1, &[1; 32]));
        let all = vec![weak.clone(), strong.clone(), whole.clone(), other.clone()];
        assert_eq!(strongest(&all), [strong, whole.clone(), other.clone()]);
        assert_eq!(strongest(&[weak.clone(), whole.clone(), other.clone()]), [weak, whole, other]);
    }

    #[test]
    fn rfc7672_2_2_2_records_are_where_a_secure_alias_leads_or_at_the_name() {
        let (secure, insecure) = (Proof::Secure, Proof::Insecure);
        for (alias, proof, first, expected) in [
            (None, secure, secure, &["mx"][..]),
            (None, insecure, insecure, &[]),
            (Some("real"), secure, secure, &["real", "mx"]),
            (Some("real"), insecure, secure, &["mx"]),
            (Some("real"), insecure, insecure, &[]),
        ] {
            let way = Way { alias: alias.map(str::to_owned), proof, first };
            assert_eq!(base_domains("mx", &way), expected, "{way:?}");
        }
    }
}
