//! Password schemes: how stored passwords are verified and made.
//!
//! A stored password says itself what it is: Dovecot's prefix (`{SHA512-CRYPT}$6$…`), or a bare crypt string (`$6$…`).
//! One file a scheme, one row each in [`SCHEMES`]. All functions here are slow on purpose: call them off the async
//! threads. Results are compared in constant time. Stored strings are not trusted: parameters above a scheme's ceiling
//! are refused before any work is done. Plain text is taken only behind the prefix that says so; MD5, DES and unsalted
//! hashes are refused. A locked hash (crypt(5): `!…`, `*`, behind a prefix too) is nobody's password.

mod argon2id;
mod blf_crypt;
mod pbkdf2;
mod plain;
mod sha256_crypt;
mod sha512_crypt;
mod sha_crypt;
mod ssha;
mod ssha256;
mod ssha512;

use secrecy::{ExposeSecret as _, SecretString};

/// What new passwords are stored as: tens of milliseconds and 19 MiB a verification, which the cache spares repeated
/// logins.
pub const DEFAULT: &str = argon2id::SCHEME.name;

/// Why a password cannot be verified or hashed. None of these says that the password is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemeError {
    /// Neither a known prefix nor a known crypt string.
    #[error("unknown password scheme {name}; known are {}", names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// As stored, or "without a prefix".
        name: String,
    },
    /// The string does not follow its scheme.
    #[error("the stored password is not a valid {scheme} string")]
    Malformed {
        /// The scheme it says it is.
        scheme: &'static str,
    },
    /// Rounds or memory above the ceiling.
    #[error("the stored password asks for more {what} than {scheme} is allowed here (at most {ceiling})")]
    TooExpensive {
        /// The scheme it says it is.
        scheme: &'static str,
        /// "rounds", "KiB of memory", …
        what: &'static str,
        /// The largest value accepted.
        ceiling: u32,
    },
    /// The scheme cannot take this password, for example bcrypt one of more than 71 octets.
    #[error("{scheme} cannot store this password: {problem}")]
    Unsuitable {
        /// The scheme asked for.
        scheme: &'static str,
        /// Why.
        problem: &'static str,
    },
}

/// One scheme.
struct Scheme {
    /// Between the braces, upper case.
    name: &'static str,
    /// How a string without braces is recognised.
    bare: &'static [&'static str],
    /// The binary part may be written in hex or base64, chosen by a suffix as in `{SSHA256.HEX}`.
    encodings: bool,
    /// KiB that a verification takes.
    memory: fn(stored: Stored<'_>) -> u32,
    verify: fn(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError>,
    /// Gives the string behind the prefix.
    hash: fn(password: &[u8]) -> Result<String, SchemeError>,
}

/// The table of schemes.
const SCHEMES: [Scheme; 7] = [
    argon2id::SCHEME,
    blf_crypt::SCHEME,
    sha512_crypt::SCHEME,
    sha256_crypt::SCHEME,
    pbkdf2::SCHEME,
    ssha512::SCHEME,
    ssha256::SCHEME,
];

/// How binary parts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// The scheme's own.
    Default,
    Base64,
    Hex,
}

/// What stands behind the prefix.
#[derive(Clone, Copy)]
struct Stored<'a> {
    text: &'a str,
    encoding: Encoding,
}

/// The names that [`hash`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|scheme| scheme.name)
}

/// Is this the password? Takes as long as the stored parameters say.
///
/// # Errors
/// When the stored string cannot be used; see [`SchemeError`].
pub fn verify(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let (scheme, stored) = identify(stored)?;
    (scheme.verify)(stored, password)
}

/// Hashes a new password under a scheme, with its prefix and a fresh salt.
///
/// # Errors
/// The scheme is unknown or cannot take the password.
pub fn hash(scheme: &str, password: &SecretString) -> Result<String, SchemeError> {
    let name = scheme.trim_matches(['{', '}']);
    let scheme = by_name(name).ok_or_else(|| unknown(name))?;
    Ok(format!("{{{}}}{}", scheme.name, (scheme.hash)(password.expose_secret().as_bytes())?))
}

/// What a verification of this string needs, before any work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// KiB of memory.
    pub(crate) memory: u32,
    /// It is slow on purpose, as all but plain text are.
    pub(crate) slow: bool,
}

/// Can this stored string be verified at all, and what does that need? Cheap.
pub(crate) fn check(stored: &str) -> Result<Demand, SchemeError> {
    let (scheme, stored) = identify(stored)?;
    Ok(Demand { memory: (scheme.memory)(stored), slow: scheme.name != plain::SCHEME.name })
}

/// Does the string say that nobody can log in (crypt(5), shadow(5))? Plain text may begin with anything.
pub(crate) fn is_locked(stored: &str) -> bool {
    let text = match stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((name, _)) if plain::is(name.split('.').next().unwrap_or(name)) => return false,
        Some((_, text)) => text,
        None => stored,
    };
    text.starts_with(['!', '*'])
}

fn identify(stored: &str) -> Result<(&'static Scheme, Stored<'_>), SchemeError> {
    let Some((name, text)) = stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return bare(stored);
    };
    let (base, encoding) = match name.split_once('.') {
        None => (name, Encoding::Default),
        Some((base, suffix)) => (base, encoding(suffix).ok_or_else(|| unknown(name))?),
    };
    if plain::is(base) {
        return Ok((&plain::SCHEME, Stored { text, encoding }));
    }
    if base.eq_ignore_ascii_case("CRYPT") && encoding == Encoding::Default {
        return bare(text);
    }
    let scheme = by_name(base).ok_or_else(|| unknown(name))?;
    if encoding != Encoding::Default && !scheme.encodings {
        return Err(unknown(name));
    }
    Ok((scheme, Stored { text, encoding }))
}

/// A crypt string without a prefix, or behind `{CRYPT}`.
fn bare(text: &str) -> Result<(&'static Scheme, Stored<'_>), SchemeError> {
    SCHEMES
        .iter()
        .find(|scheme| scheme.bare.iter().any(|prefix| text.starts_with(prefix)))
        .map(|scheme| (scheme, Stored { text, encoding: Encoding::Default }))
        .ok_or_else(|| SchemeError::Unknown { name: "without a prefix".to_owned() })
}

fn by_name(name: &str) -> Option<&'static Scheme> {
    const TABLE: &[Scheme] = &SCHEMES;
    TABLE.iter().find(|scheme| scheme.name.eq_ignore_ascii_case(name))
}

fn encoding(suffix: &str) -> Option<Encoding> {
    match suffix.to_ascii_uppercase().as_str() {
        "HEX" => Some(Encoding::Hex),
        "B64" | "BASE64" => Some(Encoding::Base64),
        _ => None,
    }
}

/// Names go to the log, so a long one is cut.
fn unknown(name: &str) -> SchemeError {
    SchemeError::Unknown { name: format!("{{{}}}", name.chars().take(32).collect::<String>().escape_debug()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Made with `doveadm pw -s SCHEME -p summersun` of Dovecot 2.3.19.
    const DOVECOT: [&str; 10] = [
        "{SHA512-CRYPT}$6$.atVtpvrWCzCrrL.$DSf8UMMWp9VRxJ8zXeLcbnXUSD1cmCgAkbcWixxzlrxA4HHOS7toUz2aB/5QSdmwfWB2uI5hnyHRtRV5wh8Fe.",
        "{SHA256-CRYPT}$5$bdxzO6d4jfdGysws$VInC2iT56WAgzLZnjwTYD4GIgmBh5VydwvIjbkLn3bC",
        "{BLF-CRYPT}$2y$05$vhKC2tizxmlWK.wV4hMOt.Bcxvw2qNSt5fo3NA4ZdYkOzRHr8JgXO",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
        "{PBKDF2}$1$YudTi3y/akuuqC7k$5000$644ee1b02e022f394977a2ac22a409aabf86221e",
        "{SSHA256}WmFMn6WCFxnhaiO4aoIQmjK9dwHfzFwUdGVwUfHq0uiLngBP",
        "{SSHA512}zDfJdrlDsVcAm0LT8jNn6hrEc1Y52Fnu8LpRI3gaGRbKjg+KIxG7shARqnTzn/+ncIDeeb0XU7DcOCUVmyOosoTjcJs=",
        "{SSHA512.HEX}4bb8799dd660a4a5674c869e60899de250d17425ef14fccf4bc541f9fd93b0a111eeb50f57944587516e0ad3c64ab94b55c907d061c5bcdbe080f7f59fc837c1e34aa80b",
        "{SSHA256.HEX}1daa9e6785c07a88ba60a6c5938419bd6b0d6d9ae1c3f40ccc167ac2ccecab8ee563320b",
        "{ssha256.b64}WmFMn6WCFxnhaiO4aoIQmjK9dwHfzFwUdGVwUfHq0uiLngBP",
    ];

    #[test]
    fn what_dovecot_stores_is_verified() {
        for stored in DOVECOT {
            assert_eq!(verify(stored, b"summersun"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"summersum"), Ok(false), "{stored}");
            assert_eq!(verify(stored, b""), Ok(false), "{stored}");
        }
    }

    #[test]
    fn crypt_strings_need_no_prefix() {
        for stored in &DOVECOT[..4] {
            let bare = stored.split_once('}').unwrap().1;
            assert_eq!(verify(bare, b"summersun"), Ok(true), "{bare}");
            assert_eq!(verify(&format!("{{CRYPT}}{bare}"), b"summersun"), Ok(true), "{bare}");
        }
    }

    #[test]
    fn new_hashes_verify_and_are_salted() {
        let password = SecretString::from("pässwörd");
        for name in names() {
            let (one, two) = (hash(name, &password).unwrap(), hash(name, &password).unwrap());
            assert!(one.starts_with(&format!("{{{name}}}")), "{one}");
            assert_ne!(one, two, "salt");
            assert_eq!(verify(&one, "pässwörd".as_bytes()), Ok(true), "{one}");
            assert_eq!(verify(&one, "passwörd".as_bytes()), Ok(false), "{one}");
        }
    }

    #[test]
    fn plain_text_needs_its_prefix() {
        for stored in [
            "{PLAIN}summersun",
            "{plain}summersun",
            "{CLEARTEXT}summersun",
            "{CLEAR}summersun",
            "{PLAIN.b64}c3VtbWVyc3Vu",
            "{CLEARTEXT.HEX}73756d6d657273756e",
        ] {
            assert_eq!(verify(stored, b"summersun"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"summersu"), Ok(false), "{stored}");
            assert_eq!(verify(stored, b""), Ok(false), "{stored}");
        }
        let odd = "{PLAIN}{PLAIN}: %s $1 \\ ' \" --; end";
        assert_eq!(verify(odd, &odd.as_bytes()["{PLAIN}".len()..]), Ok(true));
        assert_eq!(verify("{PLAIN}grüße", "grüße".as_bytes()), Ok(true));
        assert!(verify("{PLAIN}", b"").is_err(), "an empty password is none");
        assert!(hash("PLAIN", &"x".into()).is_err(), "nothing is stored like this");
    }

    #[test]
    fn locked_hashes_are_known_as_such() {
        for stored in ["!", "*", "!!", "!$6$abc$def", "{SHA512-CRYPT}!$6$abc$def", "{CRYPT}*", "*LK*", "{SSHA256}!x"] {
            assert!(is_locked(stored), "{stored}");
        }
        for stored in DOVECOT.iter().chain(&["", "x", "{PLAIN}!secret", "{CLEARTEXT.b64}*", "$6$!"]) {
            assert!(!is_locked(stored), "{stored}");
        }
    }

    #[test]
    fn a_verification_is_charged_what_it_takes() {
        let memory = |stored: &str| check(stored).unwrap().memory;
        assert_eq!(memory(DOVECOT[3]), 65_536);
        assert!(DOVECOT[..3].iter().all(|stored| memory(stored) <= 64));
        assert!(!check("{PLAIN}x").unwrap().slow && check(DOVECOT[0]).unwrap().slow);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for stored in [
            "summersun",
            "",
            "{}",
            "{MD5}x",
            "$1$ab$cd",
            "$2x$05$x",
            "{SHA512-CRYPT.HEX}$6$a$b",
            "{SSHA256.X}a",
            "{SSHA256",
        ] {
            assert!(matches!(verify(stored, b"summersun"), Err(SchemeError::Unknown { .. })), "{stored}");
        }
    }

    #[test]
    fn strings_that_do_not_follow_their_scheme_are_malformed() {
        let mut rows = vec![
            "{SSHA256}####".to_owned(),
            "{SSHA256}YWJj".to_owned(),
            "{PBKDF2}$1$a$x$00".to_owned(),
            "{PBKDF2}a".to_owned(),
        ];
        rows.extend(names().map(|name| format!("{{{name}}}")));
        rows.extend(DOVECOT[..3].iter().map(|stored| stored[..stored.len() - 3].to_owned()));
        for stored in rows {
            assert!(matches!(verify(&stored, b"summersun"), Err(SchemeError::Malformed { .. })), "{stored}");
        }
    }

    /// One above each bound: where a bound is missing, this takes seconds and fails, and does not hang.
    #[test]
    fn hostile_parameters_are_refused_before_any_work() {
        let rows = [
            "$6$rounds=1000001$.atVtpvrWCzCrrL.$DSf8UMMWp9VRxJ8zXeLcbnXUSD1cmCgAkbcWixxzlrxA4HHOS7toUz2aB/5QSdmwfWB2uI5hnyHRtRV5wh8Fe.",
            "$5$rounds=1000001$bdxzO6d4jfdGysws$VInC2iT56WAgzLZnjwTYD4GIgmBh5VydwvIjbkLn3bC",
            "$2y$16$vhKC2tizxmlWK.wV4hMOt.Bcxvw2qNSt5fo3NA4ZdYkOzRHr8JgXO",
            "$argon2id$v=19$m=262145,t=1,p=1$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
            "$argon2id$v=19$m=65536,t=33,p=1$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
            "$argon2id$v=19$m=256,t=1,p=17$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
            "{PBKDF2}$1$salt$2000001$644ee1b02e022f394977a2ac22a409aabf86221e",
        ];
        for stored in rows {
            assert!(matches!(verify(stored, b"summersun"), Err(SchemeError::TooExpensive { .. })), "{stored}");
        }
    }

    /// A number that no bound was made for: it must not wrap around, and must not be begun.
    #[test]
    fn numbers_beyond_all_bounds_are_refused_as_well() {
        for stored in [
            "$6$rounds=99999999999999999999$.atVtpvrWCzCrrL.$DSf8UMMWp9VRxJ8zXeLcbnXUSD1cmCgAkbcWixxzlrxA4HHOS7toUz2aB/5QSdmwfWB2uI5hnyHRtRV5wh8Fe.",
            "$argon2id$v=19$m=65537,t=65537,p=1$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
            "$2y$99$vhKC2tizxmlWK.wV4hMOt.Bcxvw2qNSt5fo3NA4ZdYkOzRHr8JgXO",
            "{PBKDF2}$1$salt$99999999999$644ee1b02e022f394977a2ac22a409aabf86221e",
        ] {
            assert!(verify(stored, b"summersun").is_err(), "{stored}");
        }
    }

    #[test]
    fn hashing_takes_names_as_people_write_them() {
        let password = SecretString::from("x");
        assert!(hash("{ssha512}", &password).is_ok());
        assert!(hash("MD5", &password).unwrap_err().to_string().contains("known are ARGON2ID, BLF-CRYPT"));
    }
}
