//! `{ARGON2I}`: Argon2i (RFC 9106), which Dovecot has beside Argon2id. Weaker against who has the graphics cards.

use ::argon2::Algorithm;

use super::{Scheme, argon2};

pub(super) const SCHEME: Scheme = Scheme {
    bare: &["$argon2i$"],
    memory: argon2::memory,
    ..Scheme::new(
        NAME,
        |stored, password| argon2::verify(NAME, Algorithm::Argon2i, stored, password),
        |password| argon2::hash(NAME, Algorithm::Argon2i, password),
    )
};

const NAME: &str = "ARGON2I";

#[cfg(test)]
mod tests {
    use super::super::{SchemeError, verify};

    #[test]
    fn reference_implementation_vectors() {
        // `test.c` of the reference implementation, version 0x13.
        let rows = [
            ("$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA", "password"),
            ("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", "password"),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }

    /// Version 16 is another function: it would only look like a wrong password.
    #[test]
    fn older_versions_are_no_wrong_passwords() {
        for stored in [
            "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
            "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        ] {
            assert_eq!(verify(stored, b"password"), Err(SchemeError::Malformed { scheme: "ARGON2I" }), "{stored}");
        }
    }
}
