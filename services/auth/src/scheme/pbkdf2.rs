//! `{PBKDF2}` as Dovecot writes it: `$1$salt$rounds$hex`, PBKDF2 (RFC 8018) with HMAC-SHA-1, the salt taken as text.

use ::pbkdf2::pbkdf2_hmac_array;
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

use super::{Scheme, SchemeError, Stored};

pub(super) const SCHEME: Scheme = Scheme::new(NAME, verify, hash);

const NAME: &str = "PBKDF2";

/// Octets of the derived key, as Dovecot has it.
const LENGTH: usize = 20;

/// A few seconds.
const ROUNDS_CEILING: u32 = 2_000_000;

/// Of new hashes.
const ROUNDS: u32 = 200_000;

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed { scheme: NAME };
    let Some((salt, rounds, key)) = parse(stored.text) else { return Err(malformed) };
    if rounds > ROUNDS_CEILING {
        return Err(SchemeError::TooExpensive { scheme: NAME, what: "rounds", ceiling: ROUNDS_CEILING });
    }
    let computed = pbkdf2_hmac_array::<Sha1, LENGTH>(password, salt.as_bytes(), rounds);
    Ok(computed.ct_eq(&key).into())
}

fn parse(text: &str) -> Option<(&str, u32, [u8; LENGTH])> {
    let mut fields = text.strip_prefix("$1$")?.split('$');
    let (salt, rounds, key) = (fields.next()?, fields.next()?, fields.next()?);
    let rounds = rounds.parse().ok().filter(|rounds| *rounds > 0)?;
    let mut bytes = [0; LENGTH];
    hex::decode_to_slice(key, &mut bytes).ok()?;
    fields.next().is_none().then_some((salt, rounds, bytes))
}

fn hash(password: &[u8]) -> Result<String, SchemeError> {
    let salt = hex::encode(rand::random::<[u8; 16]>());
    let key = pbkdf2_hmac_array::<Sha1, LENGTH>(password, salt.as_bytes(), ROUNDS);
    Ok(format!("$1${salt}${ROUNDS}${}", hex::encode(key)))
}

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn rfc6070_vectors() {
        let rows = [
            ("{PBKDF2}$1$salt$1$0c60c80f961f0e71f3a9b524af6012062fe037a6", "password"),
            ("{PBKDF2}$1$salt$2$ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957", "password"),
            ("{PBKDF2}$1$salt$4096$4b007901b765489abead49d926f721d065a429c1", "password"),
            (
                "{PBKDF2}$1$saltSALTsaltSALTsaltSALTsaltSALTsalt$4096$3d2eec4fe41c849b80c8d83662c0e44a8b291a96",
                "passwordPASSWORDpassword",
            ),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }
}
