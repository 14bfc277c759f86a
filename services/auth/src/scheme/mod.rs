//! Password schemes: how stored passwords are verified and made.
//!
//! A stored password says itself what it is: Dovecot's prefix (`{SHA512-CRYPT}$6$…`), or a bare crypt string (`$6$…`).
//! One file a scheme, one row each in [`SCHEMES`]. All functions here are slow on purpose: call them off the async
//! threads. Results are compared in constant time. Stored strings are not trusted: parameters above a scheme's ceiling
//! are refused before any work is done. Plain text is taken only behind the prefix that says so; DES, NTLM and the shared
//! secrets of CRAM-MD5 and DIGEST-MD5 are refused. A locked hash (crypt(5): `!…`, `*`, behind a prefix too) is nobody's
//! password.

mod argon2;
mod argon2i;
mod argon2id;
mod blf_crypt;
mod ldap_md5;
mod md5_crypt;
mod pbkdf2;
mod plain;
mod plain_md5;
mod salted;
mod scram_sha_256;
mod sha;
mod sha256;
mod sha256_crypt;
mod sha512;
mod sha512_crypt;
mod sha_crypt;
mod smd5;
mod ssha;
mod ssha256;
mod ssha512;
mod unsalted;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use self::scram_sha_256::{Key, Verifier, mac};

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
    /// Other names that say the same.
    aliases: &'static [&'static str],
    /// How a string without braces is recognised.
    bare: &'static [&'static str],
    /// The binary part may be written in hex or base64, chosen by a suffix as in `{SSHA256.HEX}`.
    encodings: bool,
    /// Who steals the table has most of the passwords soon.
    weak: bool,
    /// KiB that a verification takes.
    memory: fn(stored: Stored<'_>) -> u32,
    verify: fn(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError>,
    /// Gives the string behind the prefix.
    hash: fn(password: &[u8]) -> Result<String, SchemeError>,
}

impl Scheme {
    /// One that stands behind its prefix only, is written in one way, and takes no memory to speak of.
    const fn new(
        name: &'static str,
        verify: fn(Stored<'_>, &[u8]) -> Result<bool, SchemeError>,
        hash: fn(&[u8]) -> Result<String, SchemeError>,
    ) -> Self {
        Self { name, aliases: &[], bare: &[], encodings: false, weak: false, memory: |_| 0, verify, hash }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }
}

/// The table of schemes that passwords can be stored under, the ones to choose first.
const SCHEMES: [Scheme; 17] = [
    argon2id::SCHEME,
    blf_crypt::SCHEME,
    sha512_crypt::SCHEME,
    sha256_crypt::SCHEME,
    scram_sha_256::SCHEME,
    pbkdf2::SCHEME,
    argon2i::SCHEME,
    ssha512::SCHEME,
    ssha256::SCHEME,
    ssha::SCHEME,
    md5_crypt::SCHEME,
    sha512::SCHEME,
    sha256::SCHEME,
    sha::SCHEME,
    smd5::SCHEME,
    ldap_md5::SCHEME,
    plain_md5::SCHEME,
];

/// How octets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// As they are.
    Text,
    Base64,
    Hex,
}

impl Encoding {
    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok(),
        }
    }

    fn write(self, octets: &[u8]) -> String {
        match self {
            Self::Text => String::from_utf8_lossy(octets).into_owned(),
            Self::Hex => hex::encode(octets),
            Self::Base64 => STANDARD.encode(octets),
        }
    }
}

/// What stands behind the prefix.
#[derive(Clone, Copy)]
struct Stored<'a> {
    text: &'a str,
    /// As a suffix says: `{SSHA256.HEX}`.
    encoding: Option<Encoding>,
}

impl Stored<'_> {
    /// The binary part, written in the scheme's usual way if no suffix says another.
    fn octets(&self, usual: Encoding) -> Option<Vec<u8>> {
        self.encoding.unwrap_or(usual).read(self.text)
    }
}

/// The names that [`hash`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|scheme| scheme.name)
}

/// All names that a stored password can have, [`plain`] among them.
pub(crate) fn all_names() -> impl Iterator<Item = &'static str> {
    names().chain([plain::NAME])
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

/// Is it a scheme whose stolen table gives most of the passwords away soon? For a warning; an unknown one is not.
pub fn is_weak(scheme: &str) -> bool {
    by_name(scheme.trim_matches(['{', '}'])).is_some_and(|scheme| scheme.weak)
}

/// The canonical name of a scheme.
///
/// # Errors
/// There is none of this name that passwords could be stored under.
pub fn known(name: &str) -> Result<&'static str, SchemeError> {
    let name = name.trim_matches(['{', '}']);
    by_name(name).map(|scheme| scheme.name).ok_or_else(|| unknown(name))
}

/// Under what a stored string is kept, by its own words; "unknown" without any.
pub(crate) fn named(stored: &str) -> String {
    match identify(stored) {
        Ok((scheme, _)) => scheme.name.to_owned(),
        Err(SchemeError::Unknown { name }) => name,
        Err(_) => "unknown".to_owned(),
    }
}

/// The same of a stored password as people see it: behind the lock of an account, if there is one. `None`: it has no password.
pub(crate) fn shown(stored: &str) -> Option<String> {
    let bare = stored.strip_prefix(LOCK).unwrap_or(stored);
    if bare.is_empty() {
        return None;
    }
    let is_locked = is_locked(stored) && identify(bare).is_err();
    Some(if is_locked { "locked".to_owned() } else { named(bare) })
}

/// What crypt(5) has at the beginning of a hash that nobody's password fits.
pub(crate) const LOCK: &str = "!";

/// What a verification of this string needs, before any work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Under which scheme it is stored.
    pub(crate) scheme: &'static str,
    /// KiB of memory.
    pub(crate) memory: u32,
    /// It is slow on purpose, as all but plain text are.
    pub(crate) slow: bool,
}

/// Can this stored string be verified at all, and what does that need? Cheap.
pub(crate) fn check(stored: &str) -> Result<Demand, SchemeError> {
    let (scheme, stored) = identify(stored)?;
    Ok(Demand { scheme: scheme.name, memory: (scheme.memory)(stored), slow: scheme.name != plain::SCHEME.name })
}

/// What SCRAM-SHA-256 can do with a stored string.
pub(crate) enum Scram {
    /// It is what SCRAM needs.
    Verifier(Verifier),
    /// A password in clear, prepared as clients do (RFC 4013): [`derived`] makes a verifier of it.
    Password(SecretString),
    /// Nothing: of a digest, no verifier can be made.
    Nothing,
}

/// What SCRAM-SHA-256 can do with this string. Cheap.
pub(crate) fn scram(stored: &str) -> Result<Scram, SchemeError> {
    let (scheme, stored) = identify(stored)?;
    match scheme.name {
        scram_sha_256::NAME => scram_sha_256::verifier(stored).map(Scram::Verifier),
        plain::NAME => {
            let text = plain::text(stored)?;
            let text = scram_sha_256::prepared(&text).unwrap_or(text);
            Ok(std::str::from_utf8(&text).map_or(Scram::Nothing, |text| Scram::Password(text.into())))
        }
        _ => Ok(Scram::Nothing),
    }
}

/// The verifier of a password. Slow, as the iterations say.
pub(crate) fn derived(password: &[u8], salt: &[u8], iterations: u32) -> Verifier {
    Verifier::new(password, salt.to_vec(), iterations)
}

/// Does the string say that nobody can log in (crypt(5), shadow(5))? Plain text may begin with anything.
pub(crate) fn is_locked(stored: &str) -> bool {
    let text = match stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((name, _)) if plain::SCHEME.is(name.split('.').next().unwrap_or(name)) => return false,
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
        None => (name, None),
        Some((base, suffix)) => (base, Some(encoding(suffix).ok_or_else(|| unknown(name))?)),
    };
    let base = match base.to_ascii_uppercase().as_str() {
        "CRYPT" if encoding.is_none() => return bare(text),
        // Dovecot's oldest name says either.
        "MD5" if encoding.is_none() && text.starts_with('$') => md5_crypt::SCHEME.name,
        "MD5" => plain_md5::SCHEME.name,
        _ => base,
    };
    let plain = Some(&plain::SCHEME).filter(|plain| plain.is(base));
    let scheme = plain.or_else(|| by_name(base)).ok_or_else(|| unknown(name))?;
    if encoding.is_some() && !scheme.encodings {
        return Err(unknown(name));
    }
    Ok((scheme, Stored { text, encoding }))
}

/// A crypt string without a prefix, or behind `{CRYPT}`.
fn bare(text: &str) -> Result<(&'static Scheme, Stored<'_>), SchemeError> {
    SCHEMES
        .iter()
        .find(|scheme| scheme.bare.iter().any(|prefix| text.starts_with(prefix)))
        .map(|scheme| (scheme, Stored { text, encoding: None }))
        .ok_or_else(|| SchemeError::Unknown { name: "without a prefix".to_owned() })
}

fn by_name(name: &str) -> Option<&'static Scheme> {
    const TABLE: &[Scheme] = &SCHEMES;
    TABLE.iter().find(|scheme| scheme.is(name))
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
    const DOVECOT: [&str; 23] = [
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
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$a+iBpyvTF3uJNqJkO2LMlw$tKgBEc6zPg07eSOaborqLUnveiazDFJ5U65hLfkTBq4",
        "{MD5-CRYPT}$1$W22ZLSia$CASJ7lwH3fazIFQ9kWme71",
        "{MD5}$1$Pkd5yuxI$yrp9YoBy1Mu6rNmxAndIe/",
        "{SHA}Ap5TVNW58HqFzaJttpTA9LG+U+8=",
        "{SHA1}Ap5TVNW58HqFzaJttpTA9LG+U+8=",
        "{SHA.HEX}029e5354d5b9f07a85cda26db694c0f4b1be53ef",
        "{SHA256}XD3JqG8hnaiYvapXzkcbfAOhuVxX1S9GVOt3fBh1omA=",
        "{SHA512}n/efm01oTCJXNxixfaaoMybEkhdoZ+t/XVUdC4h1+QlNvpYsITRnL7ol9Eajrb9L1zEYRPlwpRWd45/1F5iDvg==",
        "{SSHA}LX8vuN1bgXa2tCU7unTl48cKMrayouYE",
        "{SMD5}dkl65Np+/HVZNtcE60MqW4b8aNI=",
        "{PLAIN-MD5}14cbfb845af1f030e372b1cb9275e6dd",
        "{PLAIN-MD5.B64}FMv7hFrx8DDjcrHLknXm3Q==",
        "{LDAP-MD5}FMv7hFrx8DDjcrHLknXm3Q==",
    ];

    /// All others have a salt.
    const UNSALTED: [&str; 5] = ["SHA", "SHA256", "SHA512", "PLAIN-MD5", "LDAP-MD5"];

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
            assert_eq!(one == two, UNSALTED.contains(&name), "salt");
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
    fn of_a_locked_account_the_scheme_behind_the_lock_is_shown() {
        for (stored, expected) in [
            ("{SHA512-CRYPT}$6$x$y", Some("SHA512-CRYPT")),
            ("!{SHA512-CRYPT}$6$x$y", Some("SHA512-CRYPT")),
            ("!", None),
            ("*", Some("locked")),
            ("!!", Some("locked")),
            ("!no hash", Some("locked")),
            ("{WHIRLPOOL}x", Some("{WHIRLPOOL}")),
        ] {
            assert_eq!(shown(stored).as_deref(), expected, "{stored}");
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
            "{DES-CRYPT}Wg2mbFzLqXdVo",
            "{CRYPT}Wg2mbFzLqXdVo",
            "{CRAM-MD5}x",
            "{MD5-CRYPT.HEX}$1$ab$cd",
            "$2x$05$x",
            "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
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
            "{MD5}x".to_owned(),
            "{MD5}$1$ab$cd".to_owned(),
            "{PLAIN-MD5}14cbfb845af1f030e372b1cb9275e6".to_owned(),
            "{PLAIN-MD5}14cbfb845af1f030e372b1cb9275e6dg".to_owned(),
            "{SHA}FMv7hFrx8DDjcrHLknXm3Q==".to_owned(),
            "{SSHA}Ap5TVNW58HqFzaJttpTA9LG+U+8=".to_owned(),
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
            "$argon2i$v=19$m=262145,t=1,p=1$XytAGhDXmUUJ7lJUmZNT+w$bTwHTcOdypga/Avqm0uL8NzVoaINSAGcdzUcEslwI8A",
            "{PBKDF2}$1$salt$2000001$644ee1b02e022f394977a2ac22a409aabf86221e",
            "{SCRAM-SHA-256}1000001,JvKBaqq69uL8FtR/1AlekQ==,DBBOIg3i3gvucCTSDflf7hicEvhme3KiJvW7TY1cDJw=,fbIJWBd68RxxEovZbcynfb5KntLF8SUDlpECjMI5fpg=",
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
        assert!(hash("sha1", &password).unwrap().starts_with("{SHA}"));
        assert!(is_weak("{sha1}") && is_weak("MD5-CRYPT") && !is_weak("SCRAM-SHA-256") && !is_weak(DEFAULT));
        assert!(hash("DES-CRYPT", &password).unwrap_err().to_string().contains("known are ARGON2ID, BLF-CRYPT"));
    }
}
