//! `{SCRAM-SHA-256}`: `iterations,salt,StoredKey,ServerKey` as Dovecot writes it, the last three in base64 (RFC 5802,
//! RFC 7677). The one scheme whose stolen table does not let anybody log in by SCRAM; PLAIN and LOGIN work with it too.

use ::pbkdf2::pbkdf2_hmac_array;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Scheme, SchemeError, Stored};

pub(super) const SCHEME: Scheme = Scheme::new(NAME, verify, hash);

pub(super) const NAME: &str = "SCRAM-SHA-256";

/// Octets of SHA-256.
const LENGTH: usize = 32;
/// A second. Clients do this work, too: many refuse more.
const ITERATIONS_CEILING: u32 = 1_000_000;
/// Of new hashes; RFC 7677 section 4 asks for 4,096 at least. A client on a telephone takes half a second for it.
const ITERATIONS: u32 = 100_000;

/// A key as SCRAM has them.
pub(crate) type Key = [u8; LENGTH];

/// What is stored of a password: enough to check a proof of it, and to prove that it was known here.
#[derive(Clone)]
pub(crate) struct Verifier {
    pub(crate) iterations: u32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
}

impl Verifier {
    /// Of the string behind the prefix.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(',');
        let mut field = || fields.next();
        let iterations = field()?.parse().ok().filter(|iterations| *iterations > 0)?;
        let salt = STANDARD.decode(field()?).ok().filter(|salt| !salt.is_empty())?;
        let (stored_key, server_key) = (key(field()?)?, key(field()?)?);
        field().is_none().then_some(Self { iterations, salt, stored_key, server_key })
    }

    /// Takes as long as the iterations say.
    pub(super) fn new(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let salted = Zeroizing::new(pbkdf2_hmac_array::<Sha256, LENGTH>(password, &salt, iterations));
        let client_key = Zeroizing::new(mac(&salted, b"Client Key"));
        let stored_key = Sha256::digest(*client_key).into();
        Self { iterations, salt, stored_key, server_key: mac(&salted, b"Server Key") }
    }
}

/// HMAC-SHA-256.
pub(crate) fn mac(key: &Key, message: &[u8]) -> Key {
    // RFC 2104: a key shorter than a block is followed by zeros.
    let mut block = [0; 2 * LENGTH];
    block[..LENGTH].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The verifier of a stored string.
pub(super) fn verifier(stored: Stored<'_>) -> Result<Verifier, SchemeError> {
    let verifier = Verifier::parse(stored.text).ok_or(SchemeError::Malformed { scheme: NAME })?;
    if verifier.iterations > ITERATIONS_CEILING {
        return Err(SchemeError::TooExpensive { scheme: NAME, what: "iterations", ceiling: ITERATIONS_CEILING });
    }
    Ok(verifier)
}

/// As it was typed, and as SASLprep writes it: clients prepare a password before they hash it, Dovecot does not.
fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let known = verifier(stored)?;
    let fits = |password: &[u8]| {
        let computed = Verifier::new(password, known.salt.clone(), known.iterations);
        bool::from(computed.stored_key.ct_eq(&known.stored_key))
    };
    Ok(fits(password) || prepared(password).is_some_and(|prepared| *prepared != *password && fits(&prepared)))
}

fn hash(password: &[u8]) -> Result<String, SchemeError> {
    let salt = rand::random::<[u8; 16]>().to_vec();
    let prepared = prepared(password).unwrap_or_else(|| Zeroizing::new(password.to_vec()));
    let Verifier { iterations, salt, stored_key, server_key } = Verifier::new(&prepared, salt, ITERATIONS);
    let [salt, stored_key, server_key] = [&salt[..], &stored_key, &server_key].map(|octets| STANDARD.encode(octets));
    Ok(format!("{iterations},{salt},{stored_key},{server_key}"))
}

/// RFC 4013. Nothing for what cannot be prepared.
pub(super) fn prepared(password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(password).ok()?;
    stringprep::saslprep(text).ok().map(|prepared| Zeroizing::new(prepared.into_owned().into_bytes()))
}

fn key(text: &str) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{SchemeError, verify};
    use super::*;

    /// The exchange of RFC 7677 section 3, with password "pencil".
    #[test]
    fn rfc7677_vector() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap_or_default();
        let verifier = Verifier::new(b"pencil", salt, 4096);
        let said = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = mac(&verifier.server_key, said.as_bytes());
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let mut client_key = mac(&verifier.stored_key, said.as_bytes());
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap_or_default();
        client_key.iter_mut().zip(&proof).for_each(|(octet, proof)| *octet ^= proof);
        assert_eq!(Key::from(Sha256::digest(client_key)), verifier.stored_key);
    }

    /// Made with `doveadm pw -s SCRAM-SHA-256 -p summersun` of Dovecot 2.3.19.
    #[test]
    fn what_dovecot_writes_is_read() {
        let stored = "{SCRAM-SHA-256}4096,JvKBaqq69uL8FtR/1AlekQ==,DBBOIg3i3gvucCTSDflf7hicEvhme3KiJvW7TY1cDJw=,\
            fbIJWBd68RxxEovZbcynfb5KntLF8SUDlpECjMI5fpg=";
        assert_eq!(verify(stored, b"summersun"), Ok(true));
        assert_eq!(verify(stored, b"summersum"), Ok(false));
    }

    /// RFC 4013: U+2168 is the Roman numeral nine, U+00AD the soft hyphen.
    #[test]
    fn a_password_is_taken_as_typed_and_as_prepared() {
        let stored = |password: &str| {
            let verifier = Verifier::new(password.as_bytes(), b"salt".to_vec(), 1);
            let [stored_key, server_key] = [verifier.stored_key, verifier.server_key].map(|key| STANDARD.encode(key));
            format!("{{SCRAM-SHA-256}}1,c2FsdA==,{stored_key},{server_key}")
        };
        assert_eq!(verify(&stored("IX"), "\u{2168}".as_bytes()), Ok(true), "prepared by who made the hash");
        assert_eq!(verify(&stored("\u{2168}"), "\u{2168}".as_bytes()), Ok(true), "not prepared, as Dovecot does it");
        assert_eq!(verify(&stored("IX"), "I\u{ad}X".as_bytes()), Ok(true));
        assert_eq!(verify(&stored("IX"), "I\u{7}X".as_bytes()), Ok(false), "cannot be prepared");
    }

    #[test]
    fn other_forms_are_malformed() {
        let key = "DBBOIg3i3gvucCTSDflf7hicEvhme3KiJvW7TY1cDJw=";
        for text in [
            format!("0,c2FsdA==,{key},{key}"),
            format!("x,c2FsdA==,{key},{key}"),
            format!("4096,,{key},{key}"),
            format!("4096,####,{key},{key}"),
            format!("4096,c2FsdA==,{key}"),
            format!("4096,c2FsdA==,c2FsdA==,{key}"),
            format!("4096,c2FsdA==,{key},c2FsdA=="),
            format!("4096,c2FsdA==,{key},{key},"),
        ] {
            assert_eq!(verify(&format!("{{SCRAM-SHA-256}}{text}"), b"x"), Err(SchemeError::Malformed { scheme: NAME }));
        }
    }
}
