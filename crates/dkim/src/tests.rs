//! Whole signatures, read by the verifier of the testkit, which shares nothing with the signer.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use staffetta_testkit::dkim::verify;

use crate::testing::{digest, published, rsa, signed};
use crate::{Algorithm, Draft, Key, KeyError, header};

/// RFC 8463 appendix A.3: the message without its signatures.
const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
     To: Suzie Q <suzie@shopping.example.net>\r\n\
     Subject: Is dinner ready?\r\n\
     Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
     Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\
     \r\n\
     Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n";

/// RFC 8463 appendix A.2, as `openssl genpkey` would write it.
fn rfc8463_key() -> Key {
    let seed = BASE64_STANDARD.decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
    let der = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", &*seed].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der));
    Key::from_pem(pem.as_bytes()).unwrap()
}

#[test]
fn rfc8463_a_3_is_made_again_octet_by_octet() {
    let digest = digest(MESSAGE.as_bytes());
    assert_eq!(BASE64_STANDARD.encode(digest.body), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
    let mut signed = Vec::new();
    for name in ["from", "to", "subject", "date", "message-id"] {
        let line = MESSAGE.lines().find(|line| line.to_lowercase().starts_with(name)).unwrap();
        header::relax(name, &line.as_bytes()[name.len() + 1..], &mut signed);
    }
    signed.extend_from_slice(b"dkim-signature:");
    header::relax_value(
        b" v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n \
          q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n \
          bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=",
        &mut signed,
    );
    let key = rfc8463_key();
    assert_eq!(
        BASE64_STANDARD.encode(key.sign(&signed).unwrap()),
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    );
    assert_eq!(crate::record(&key).unwrap(), "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
}

#[test]
fn each_key_signs_and_the_fields_are_well_formed() {
    let message = signed(MESSAGE.as_bytes());
    let found = verify(&message, published).unwrap();
    let each: Vec<_> = found.iter().map(|s| (&*s.domain, &*s.selector, &*s.algorithm)).collect();
    assert_eq!(each, [("example.org", "r", "rsa-sha256"), ("example.org", "e", "ed25519-sha256")]);
    let text = String::from_utf8(message).unwrap();
    let (fields, rest) = text.split_at(text.len() - MESSAGE.len());
    assert_eq!(rest, MESSAGE, "the message is as it was");
    assert!(fields.lines().all(|line| line.len() <= 78), "{fields}");
    assert!(fields.contains(" t=1764000000;") && !fields.contains("l="), "{fields}");
}

#[test]
fn what_is_added_or_changed_on_the_way_breaks_every_signature() {
    let message = String::from_utf8(signed(MESSAGE.as_bytes())).unwrap();
    for name in header::SEALED {
        let added = message.replacen("From:", &format!("{name}: x\r\nFrom:"), 1);
        verify(added.as_bytes(), published).unwrap_err();
    }
    for (part, other) in [
        ("Joe SixPack", "Joe Twelve"),
        ("Suzie Q", "Suzie"),
        ("dinner", "lunch"),
        ("2003 21", "2003 22"),
        ("lost", "won"),
        ("Joe.\r\n", "Joe.\r\nP.S.\r\n"),
        ("t=1764000000", "t=1764000001"),
        ("s=r;", "s=e;"),
    ] {
        assert!(message.contains(part), "{part}");
        verify(message.replace(part, other).as_bytes(), published).unwrap_err();
    }
    // What mail servers on the way do, and may.
    for (part, other) in [
        ("From: Joe", "Received: from a by b\r\nX-Spam: no\r\nFrom:  Joe"),
        ("dinner ready", "dinner\r\n\tready"),
        ("lost the", "lost \t the \t"),
        ("Joe.\r\n\r\n", "Joe.  \r\n"),
    ] {
        assert_eq!(
            verify(message.replacen(part, other, 1).as_bytes(), published).map(|found| found.len()),
            Ok(2),
            "{part}"
        );
    }
}

#[test]
fn keys_are_read_in_their_forms_and_others_named() {
    let (key, pem) = Key::generate(Algorithm::Ed25519).unwrap();
    assert_eq!(Key::from_pem(pem.as_bytes()).unwrap().public(), key.public());
    assert_eq!(format!("{key:?}"), "Key(Ed25519, ..)");
    assert!(!rsa().is_slow() && !key.is_slow());
    let inside = pem.lines().nth(1).unwrap();
    for (text, error) in [
        (String::new(), KeyError::Missing),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), KeyError::Missing),
        (pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), KeyError::Encrypted),
        (pem.replace("PRIVATE KEY-----\n", "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n"), KeyError::Encrypted),
        (pem.replace(inside, "!"), KeyError::Damaged),
        (pem.replace("-----END", "----"), KeyError::Damaged),
        (pem.replace(inside, "AAAA"), KeyError::Unsupported),
        (pem.replace("PRIVATE", "EC PRIVATE"), KeyError::Unsupported),
    ] {
        let found = Key::from_pem(text.as_bytes()).map(|_| ()).unwrap_err();
        assert!(!format!("{found} {found:?}").contains(inside));
        assert_eq!(found, error, "{text}");
    }
}

fn value() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", " ", "\t", "\r\n ", "\r\n\t", ":", ";", "=", "\u{fc}", "<a@b.c>"]), 0..8)
        .prop_map(|parts| parts.concat())
}

fn field() -> impl Strategy<Value = String> {
    let names =
        ["From", "from ", "TO", "Subject", "Date", "X-Any", "Received", "List-Id", "References", "Content-Type"];
    (prop::sample::select(names.to_vec()), value()).prop_map(|(name, value)| format!("{name}:{value}\r\n"))
}

fn body() -> impl Strategy<Value = String> {
    let parts = vec!["a", "b c", " ", "\t", "\r\n", "\r\n\r\n", ".", "\u{e9}", "From: x\r\n"];
    vec(prop::sample::select(parts), 0..20).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies(fields in vec(field(), 0..8), body in body(), cuts in vec(0usize..400, 0..4)) {
        let message = format!("Received: from a\r\n{}\r\n{body}", fields.concat());
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
        cuts.extend([0, message.len()]);
        cuts.sort_unstable();
        let mut draft = Draft::default();
        cuts.windows(2).for_each(|cut| draft.update(&message.as_bytes()[cut[0]..cut[1]]).unwrap());
        let signatures = draft.finish().unwrap().sign(&crate::testing::rows()[1..], 1).unwrap();
        // On the way it gets the line end that it lacks.
        let end = if message.ends_with("\r\n") { "" } else { "\r\n" };
        let sent = [&signatures, message.as_bytes(), end.as_bytes()].concat();
        prop_assert_eq!(verify(&sent, published).map(|found| found.len()), Ok(1));
    }
}
