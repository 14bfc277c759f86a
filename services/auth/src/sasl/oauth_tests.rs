//! Messages of OAUTHBEARER and XOAUTH2, those of RFC 7628 section 4 among them.

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::*;

const TOKEN: &str = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";

fn message(text: &str) -> Message {
    Zeroizing::new(text.replace("^A", "\x01").into_bytes())
}

fn begun(mut mechanism: OAuth, text: &str) -> Step {
    mechanism.begin(Some(message(text)))
}

fn denied(lacks_scope: bool) -> Denied {
    Denied {
        login: "user@example.com".to_owned(),
        detail: "expired",
        lacks_scope,
        scope: Some("example_scope".to_owned()),
        discovery: Some("https://example.com/.well-known/openid-configuration".to_owned()),
    }
}

#[test]
fn rfc7628_4_1_a_token_is_shown() {
    let user = Some("user@example.com");
    for (mechanism, text, named) in [
        (OAuth::bearer(), "n,a=user@example.com,^Ahost=server.example.com^Aport=143^Aauth=Bearer TOKEN^A^A", user),
        (OAuth::bearer(), "n,,^Aauth=Bearer TOKEN^A^A", None),
        (OAuth::bearer(), "y,,^Aauth=bearer  TOKEN ^A^A", None),
        (OAuth::bearer(), "n,a=user=2Cx=3D@example.com,^Aauth=Bearer TOKEN^Aqs=a=b^A^A", Some("user,x=@example.com")),
        (OAuth::bearer(), "n,a=jörg@example.com,^Amthd=POST^Apost=^Aauth=Bearer TOKEN^A^A", Some("jörg@example.com")),
        (OAuth::x(), "user=user@example.com^Aauth=Bearer TOKEN^A^A", user),
        (OAuth::x(), "auth=Bearer TOKEN^Auser=user@example.com^A^A", user),
    ] {
        let Step::Redeem(bearer) = begun(mechanism, &text.replace("TOKEN", TOKEN)) else { panic!("{text}") };
        assert_eq!((bearer.login.as_deref(), bearer.token.expose_secret()), (named, TOKEN), "{text}");
        assert!(!format!("{bearer:?}").contains("vF9d"));
    }
}

#[test]
fn rfc7628_3_1_other_forms_are_malformed() {
    let long = format!("n,a={},^Aauth=Bearer x^A^A", "a".repeat(321));
    for text in [
        "",
        "^A",
        "n,,",
        "n,,^A",
        "n,,^A^A",
        "n,,^Aauth=Bearer x^A",
        "n,,^Aauth=Bearer x",
        "n,,^A^Aauth=Bearer x^A^A",
        "n,^Aauth=Bearer x^A^A",
        "n,,,^Aauth=Bearer x^A^A",
        "x,,^Aauth=Bearer x^A^A",
        "p=tls-exporter,,^Aauth=Bearer x^A^A",
        "n,user@example.com,^Aauth=Bearer x^A^A",
        "n,a=,^Aauth=Bearer x^A^A",
        "n,a=a=b,^Aauth=Bearer x^A^A",
        "n,a=a=2c,^Aauth=Bearer x^A^A",
        "n,a=a=ä,^Aauth=Bearer x^A^A",
        "n,a=jo\u{7}hn,^Aauth=Bearer x^A^A",
        &long,
        "n,,^Ahost=x^A^A",
        "n,,^Aauth^A^A",
        "n,,^A=Bearer x^A^A",
        "n,,^Aau-th=Bearer x^A^A",
        "n,,^Aauth=Bearer x^Aauth=Bearer y^A^A",
        "n,,^Aauth=Basic eA==^A^A",
        "n,,^Aauth=Bearerx^A^A",
        "n,,^Aauth=Bearer x y^A^A",
        "n,,^Aauth=Bearer x=y^A^A",
        "n,,^Aauth=Bearer ä^A^A",
        "n,,^Ahost=\0^Aauth=Bearer x^A^A",
    ] {
        assert!(matches!(begun(OAuth::bearer(), text), Step::Malformed(_)), "{text}");
    }
    for text in [
        "",
        "auth=Bearer x^A^A",
        "user=^Aauth=Bearer x^A^A",
        "user=john^A^A",
        "user=john^Aauth=Bearer x^A",
        "user=john^Auser=root^Aauth=Bearer x^A^A",
        "n,a=john,^Aauth=Bearer x^A^A",
    ] {
        assert!(matches!(begun(OAuth::x(), text), Step::Malformed(_)), "{text}");
    }
    let not_utf8 = Zeroizing::new(b"n,,\x01auth=Bearer \xff\x01\x01".to_vec());
    assert!(matches!(OAuth::bearer().begin(Some(not_utf8)), Step::Malformed(_)));
}

#[test]
fn rfc7628_4_3_a_client_without_a_token_asks_how_to_get_one() {
    for (mechanism, text) in [
        (OAuth::bearer(), "n,a=user@example.com,^Ahost=server.example.com^Aport=143^Aauth=^A^A"),
        (OAuth::bearer(), "n,,^Aauth=Bearer ^A^A"),
        (OAuth::x(), "user=user@example.com^Aauth=^A^A"),
    ] {
        assert!(matches!(begun(mechanism, text), Step::Redeem(bearer) if bearer.token.expose_secret().is_empty()));
    }
}

#[test]
fn rfc7628_3_2_3_a_refusal_is_explained_and_answered_before_it_is_one() {
    let url = r#""openid-configuration":"https://example.com/.well-known/openid-configuration""#;
    for (mut mechanism, lacks_scope, expected) in [
        (OAuth::bearer(), false, format!(r#"{{{url},"scope":"example_scope","status":"invalid_token"}}"#)),
        (OAuth::bearer(), true, format!(r#"{{{url},"scope":"example_scope","status":"insufficient_scope"}}"#)),
        (OAuth::x(), false, r#"{"schemes":"bearer","scope":"example_scope","status":"401"}"#.to_owned()),
    ] {
        let Step::Challenge(text) = mechanism.deny(denied(lacks_scope)) else { panic!("no challenge") };
        let (said, expected): (Value, Value) =
            (serde_json::from_slice(&text).unwrap_or_default(), serde_json::from_str(&expected).unwrap_or_default());
        assert_eq!(said, expected);
        assert!(said.is_object());
        let end = mechanism.respond(message("^A"));
        assert!(matches!(end, Step::Denied { login, detail: "expired" } if login == "user@example.com"));
    }
    let mut silent = OAuth::bearer();
    let told = silent.deny(Denied { scope: None, discovery: None, ..denied(false) });
    assert!(matches!(told, Step::Challenge(text) if text == br#"{"status":"invalid_token"}"#));
    // Another token is not looked at any more.
    assert!(matches!(silent.respond(message("n,,^Aauth=Bearer x^A^A")), Step::Denied { .. }));
}

#[test]
fn without_an_initial_response_the_challenge_is_empty() {
    for mut mechanism in [OAuth::bearer(), OAuth::x()] {
        assert!(matches!(mechanism.begin(None), Step::Challenge(text) if text.is_empty()));
    }
}
