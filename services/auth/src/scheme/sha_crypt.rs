//! SHA-crypt (Ulrich Drepper's specification), common to [`super::sha256_crypt`] and [`super::sha512_crypt`].

use ::sha_crypt::{Algorithm, Params, PasswordHasher as _, PasswordVerifier as _, ShaCrypt, password_hash};

use super::{SchemeError, Stored};

/// About one second.
const ROUNDS_CEILING: u32 = 1_000_000;

/// Of new hashes; crypt(3)'s default of 5,000 is from 2007.
const ROUNDS: u32 = 100_000;

/// Verifies a `$5$` or `$6$` string.
pub(super) fn verify(
    scheme: &'static str,
    prefix: &str,
    stored: Stored<'_>,
    password: &[u8],
) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed { scheme };
    let Some(rest) = stored.text.strip_prefix(prefix) else { return Err(malformed) };
    let rounds = rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$'));
    if let Some((rounds, _)) = rounds {
        match rounds.parse::<u32>() {
            Err(_) => return Err(malformed),
            Ok(rounds) if rounds > ROUNDS_CEILING => {
                return Err(SchemeError::TooExpensive { scheme, what: "rounds", ceiling: ROUNDS_CEILING });
            }
            Ok(_) => {}
        }
    }
    // A digest cut by a narrow column would only look like a wrong password.
    if rest.rsplit('$').next().is_none_or(|digest| digest.len() != digest_length(prefix)) {
        return Err(malformed);
    }
    match ShaCrypt::default().verify_password(password, stored.text) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(malformed),
    }
}

/// Characters of the digest.
fn digest_length(prefix: &str) -> usize {
    if prefix == "$5$" { 43 } else { 86 }
}

/// Makes a new string.
pub(super) fn hash(scheme: &'static str, algorithm: Algorithm, password: &[u8]) -> Result<String, SchemeError> {
    // Twelve octets are written as the 16 characters that SHA-crypt uses of a salt.
    let salt: [u8; 12] = rand::random();
    let refused = || SchemeError::Unsuitable { scheme, problem: "SHA-crypt refused it" };
    let params = Params::new(ROUNDS).map_err(|_| refused())?;
    let hash = ShaCrypt::new(algorithm, params).hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string()).map_err(|_| refused())
}
