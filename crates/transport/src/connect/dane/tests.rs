//! Certificates against records, each with its reason.

#![expect(clippy::unwrap_used, reason = "tests")]

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use staffetta_policy::tls::{Dane, judge};

use super::*;

/// A CA, and what it has signed.
struct House {
    authority: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl House {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "house");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        Self { authority, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str, over: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if over {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }
}

/// A record about this certificate.
fn about(certificate: &CertificateDer<'_>, usage: u8, selector: u8) -> Tlsa {
    let data = if selector == 0 { certificate.to_vec() } else { public_key(certificate).unwrap().to_vec() };
    Tlsa { usage, selector, matching: 0, data }
}

fn accepts(records: Vec<Tlsa>, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> bool {
    let Dane::Records(pins) = judge("mx.a.test", &["a.test"], records) else { unreachable!() };
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let sni = ServerName::try_from("mx.a.test").unwrap();
    let shown = Shown { leaf, intermediates: sent, name: &sni, ocsp: &[], now: UnixTime::now() };
    Matching { pins, algorithms }.judge(&shown).is_ok()
}

#[test]
fn rfc7672_3_1_1_the_servers_own_certificate_is_taken_for_what_it_is() {
    let house = House::new();
    let (good, other) = (house.leaf("mx.a.test", false), house.leaf("mx.a.test", false));
    let (elsewhere, over) = (house.leaf("elsewhere.test", false), house.leaf("mx.a.test", true));
    for selector in [0, 1] {
        let of = |certificate: &CertificateDer<'_>| about(certificate, END_ENTITY, selector);
        for (record, shown, accepted) in [
            (of(&good), &good, true),
            (of(&elsewhere), &elsewhere, true),
            (of(&over), &over, true),
            (of(&other), &good, false),
            (of(house.authority.der()), &good, false),
        ] {
            assert_eq!(accepts(vec![record], shown, &[house.authority.der().clone()]), accepted, "{selector}");
        }
        assert!(accepts(vec![of(&other), of(&good)], &good, &[]), "one of several is enough");
    }
}

#[test]
fn rfc7672_3_1_2_an_authority_vouches_for_names_and_dates() {
    let (house, stranger) = (House::new(), House::new());
    let authority = house.authority.der();
    let sent = [authority.clone()];
    for selector in [0, 1] {
        let record = || vec![about(authority, AUTHORITY, selector)];
        for (leaf, accepted) in [
            (house.leaf("mx.a.test", false), true),
            (house.leaf("a.test", false), true),
            (house.leaf("*.a.test", false), true),
            (house.leaf("b.test", false), false),
            (house.leaf("mx.a.test", true), false),
            (stranger.leaf("mx.a.test", false), false),
        ] {
            assert_eq!(accepts(record(), &leaf, &sent), accepted, "{selector}");
        }
    }
    let leaf = house.leaf("mx.a.test", false);
    assert!(accepts(vec![about(authority, AUTHORITY, 0)], &leaf, &[]), "the record holds it whole");
    assert!(!accepts(vec![about(authority, AUTHORITY, 1)], &leaf, &[]), "a key alone is no certificate");
    let both = vec![about(stranger.authority.der(), AUTHORITY, 0), about(authority, AUTHORITY, 1)];
    assert!(accepts(both, &leaf, &sent), "one of several is enough");
    assert!(!accepts(vec![about(&leaf, AUTHORITY, 1)], &house.leaf("mx.a.test", false), &sent), "not of this chain");
}

#[test]
fn what_is_no_certificate_matches_nothing() {
    let house = House::new();
    let good = house.leaf("mx.a.test", false);
    let records = || vec![about(&good, END_ENTITY, 1), about(house.authority.der(), AUTHORITY, 1)];
    assert!(accepts(records(), &good, &[]));
    for rubbish in [&b""[..], b"rubbish", &[0x30, 0x82, 0xff]] {
        assert!(!accepts(records(), &CertificateDer::from(rubbish), &[CertificateDer::from(rubbish)]));
    }
}
