//! `{ARGON2ID}`: Argon2id (RFC 9106) as a PHC string, `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use super::{Scheme, SchemeError, Stored};

pub(super) const SCHEME: Scheme = Scheme { name: NAME, bare: &["$argon2id$"], encodings: false, memory, verify, hash };

const NAME: &str = "ARGON2ID";

/// KiB. Dovecot's default is 65,536; each core verifies one password at a time.
const MEMORY_CEILING: u32 = 256 * 1024;
/// KiB × passes: a few seconds.
const WORK_CEILING: u32 = 2 * 1024 * 1024;
const LANES_CEILING: u32 = 16;

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed { scheme: NAME };
    let Ok(hash) = PasswordHash::new(stored.text) else { return Err(malformed) };
    let (Ok(Algorithm::Argon2id), Some(_), Some(_)) = (Algorithm::new(hash.algorithm.as_str()), &hash.salt, &hash.hash)
    else {
        return Err(malformed);
    };
    let params = Params::try_from(&hash).map_err(|_| malformed)?;
    affordable(&params)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(SchemeError::Malformed { scheme: NAME }),
    }
}

/// What the string says; one that says nothing sound is refused before any is taken.
fn memory(stored: Stored<'_>) -> u32 {
    PasswordHash::new(stored.text)
        .ok()
        .and_then(|hash| Params::try_from(&hash).ok())
        .map_or(0, |params| params.m_cost())
}

fn affordable(params: &Params) -> Result<(), SchemeError> {
    let refuse = |what, ceiling| Err(SchemeError::TooExpensive { scheme: NAME, what, ceiling });
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

/// With the first parameters of OWASP's list: 19 MiB, two passes, one lane.
fn hash(password: &[u8]) -> Result<String, SchemeError> {
    let salt: [u8; 16] = rand::random();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
    let hash = argon2.hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string())
        .map_err(|_| SchemeError::Unsuitable { scheme: NAME, problem: "Argon2 refused it" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_implementation_vectors() {
        // `test.c` of the reference implementation, version 0x13.
        let rows = [
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"),
            ("$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg", "password"),
        ];
        for (text, password) in rows {
            let stored = Stored { text, encoding: super::super::Encoding::Default };
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{text}");
        }
    }
}
