//! Which login a message of SASL names, as far as that can be seen from outside: for limits, never for a decision about who
//! somebody is.
//!
//! Seen in PLAIN (RFC 4616), SCRAM (RFC 5802), OAUTHBEARER (RFC 7628), XOAUTH2 and CRAM-MD5 (RFC 2195); of LOGIN the name
//! is a message of its own. What other mechanisms say is theirs.

/// The login that the first message of a client names, if it has one.
pub(super) fn named(mechanism: &str, message: &[u8]) -> Option<String> {
    let name = match mechanism {
        "PLAIN" => message.split(|octet| *octet == 0).nth(1)?,
        "CRAM-MD5" => &message[..message.iter().rposition(|octet| *octet == b' ')?],
        "XOAUTH2" => parts(message, 1).find_map(|part| part.strip_prefix(b"user="))?,
        "OAUTHBEARER" => parts(message, b',').nth(1)?.strip_prefix(b"a=")?,
        // Flag and authorization identity come before the name.
        scram if scram.starts_with("SCRAM-") => {
            parts(message, b',').skip(2).find_map(|part| part.strip_prefix(b"n="))?
        }
        _ => return None,
    };
    let name = String::from_utf8_lossy(name);
    let name = match mechanism {
        "PLAIN" | "CRAM-MD5" | "XOAUTH2" => name.into_owned(),
        // RFC 5802 section 5.1: "=2C" is a comma, "=3D" an equals sign.
        _ => name.replace("=2C", ",").replace("=3D", "="),
    };
    (!name.is_empty()).then_some(name)
}

fn parts(message: &[u8], by: u8) -> impl Iterator<Item = &[u8]> {
    message.split(move |octet| *octet == by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_seen_where_a_mechanism_shows_it() {
        for (mechanism, message, login) in [
            ("PLAIN", "\0john\0summersun", Some("john")),
            ("PLAIN", "lisa\0john\0summersun", Some("john")),
            ("PLAIN", "\0\0summersun", None),
            ("PLAIN", "john", None),
            ("PLAIN", "", None),
            ("CRAM-MD5", "john doe 0123456789abcdef", Some("john doe")),
            ("CRAM-MD5", "john", None),
            ("XOAUTH2", "user=john@x.test\x01auth=Bearer abc\x01\x01", Some("john@x.test")),
            ("XOAUTH2", "auth=Bearer abc\x01\x01", None),
            ("OAUTHBEARER", "n,a=john@x.test,\x01host=x\x01auth=Bearer abc\x01\x01", Some("john@x.test")),
            ("OAUTHBEARER", "n,,\x01auth=Bearer abc\x01\x01", None),
            ("SCRAM-SHA-256", "n,,n=john=2Cdoe=3D,r=abc", Some("john,doe=")),
            ("SCRAM-SHA-256-PLUS", "p=tls-exporter,a=lisa,n=john,r=abc", Some("john")),
            ("SCRAM-SHA-256", "n,,r=abc", None),
            ("SCRAM-SHA-256", "c=biws,r=abc,p=xyz", None),
            ("GSSAPI", "\0john\0", None),
        ] {
            assert_eq!(named(mechanism, message.as_bytes()).as_deref(), login, "{mechanism} {message:?}");
        }
        assert_eq!(named("PLAIN", b"\0jo\xffhn\0x").as_deref(), Some("jo\u{fffd}hn"));
    }

    #[test]
    fn fuzzed_messages_name_nobody_who_is_not_in_them() {
        const WORDS: &[&[u8]] =
            &[b"\0", b",", b"n=", b"a=", b"n,,n=", b"user=", b"\x01", b"=2C", b"=3D", b" ", b"\xff"];
        staffetta_testkit::fuzz::fuzz("sasl", WORDS, |input| {
            for mechanism in ["PLAIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "X"] {
                let Some(name) = named(mechanism, input) else { continue };
                assert!(!name.is_empty(), "{mechanism}");
                let text = String::from_utf8_lossy(input);
                if !text.contains("=2C") && !text.contains("=3D") {
                    assert!(text.contains(&name), "{mechanism}: {name:?}");
                }
                let parts: Vec<&[u8]> = input.split(|octet| *octet == 0).collect();
                if let ("PLAIN", [_, login, _]) = (mechanism, &parts[..]) {
                    assert_eq!(name.as_bytes(), String::from_utf8_lossy(login).as_bytes());
                }
            }
        });
    }
}
