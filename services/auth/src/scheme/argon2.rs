//! Argon2 (RFC 9106) as a PHC string, `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, common to [`super::argon2i`] and
//! [`super::argon2id`].

use ::argon2::password_hash::phc::PasswordHash;
use ::argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use ::argon2::{Algorithm, Argon2, Params, Version};

use super::{SchemeError, Stored};

/// KiB. Dovecot's default is 65,536; each core verifies one password at a time.
const MEMORY_CEILING: u32 = 256 * 1024;
/// KiB × passes: a few seconds.
const WORK_CEILING: u32 = 2 * 1024 * 1024;
const LANES_CEILING: u32 = 16;

/// Verifies a string of this kind of Argon2, version 19: older ones and those that say no version are made otherwise.
pub(super) fn verify(
    scheme: &'static str,
    algorithm: Algorithm,
    stored: Stored<'_>,
    password: &[u8],
) -> Result<bool, SchemeError> {
    let malformed = || SchemeError::Malformed { scheme };
    let hash = PasswordHash::new(stored.text).map_err(|_| malformed())?;
    let whole = hash.salt.is_some() && hash.hash.is_some() && hash.version == Some(Version::V0x13.into());
    if !whole || Algorithm::new(hash.algorithm.as_str()) != Ok(algorithm) {
        return Err(malformed());
    }
    affordable(scheme, &Params::try_from(&hash).map_err(|_| malformed())?)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(malformed()),
    }
}

/// What the string says; one that says nothing sound is refused before any is taken.
pub(super) fn memory(stored: Stored<'_>) -> u32 {
    PasswordHash::new(stored.text)
        .ok()
        .and_then(|hash| Params::try_from(&hash).ok())
        .map_or(0, |params| params.m_cost())
}

/// Makes a new string, with the first parameters of OWASP's list: 19 MiB, two passes, one lane.
pub(super) fn hash(scheme: &'static str, algorithm: Algorithm, password: &[u8]) -> Result<String, SchemeError> {
    let salt: [u8; 16] = rand::random();
    let argon2 = Argon2::new(algorithm, Version::V0x13, Params::DEFAULT);
    let hash = argon2.hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string()).map_err(|_| SchemeError::Unsuitable { scheme, problem: "Argon2 refused it" })
}

fn affordable(scheme: &'static str, params: &Params) -> Result<(), SchemeError> {
    let refuse = |what, ceiling| Err(SchemeError::TooExpensive { scheme, what, ceiling });
    if params.m_cost() > MEMORY_CEILING {
        return refuse("KiB of memory", MEMORY_CEILING);
    }
    if params.m_cost().saturating_mul(params.t_cost()) > WORK_CEILING {
        return refuse("KiB times passes", WORK_CEILING);
    }
    if params.p_cost() > LANES_CEILING {
        return refuse("lanes", LANES_CEILING);
    }
    Ok(())
}
