//! `{BLF-CRYPT}`: bcrypt, `$2a$`, `$2b$` or `$2y$`, cost, 22 characters of salt, 31 of hash.
//!
//! bcrypt looks at 72 octets of the password. Verification cuts as crypt(3) does; a new password that would be cut is
//! refused.

use super::{Scheme, SchemeError, Stored};

pub(super) const SCHEME: Scheme =
    Scheme { bare: &["$2a$", "$2b$", "$2y$"], memory: |_| 4, ..Scheme::new(NAME, verify, hash) };

const NAME: &str = "BLF-CRYPT";

/// A few seconds; each step doubles it.
const COST_CEILING: u32 = 15;

/// Of new hashes.
const COST: u32 = 11;

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let malformed = || SchemeError::Malformed { scheme: NAME };
    let parts: bcrypt::HashParts = stored.text.parse().map_err(|_| malformed())?;
    if !SCHEME.bare.iter().any(|prefix| stored.text.starts_with(prefix)) {
        return Err(malformed());
    }
    if parts.get_cost() > COST_CEILING {
        return Err(SchemeError::TooExpensive { scheme: NAME, what: "cost", ceiling: COST_CEILING });
    }
    bcrypt::verify(password, stored.text).map_err(|_| malformed())
}

fn hash(password: &[u8]) -> Result<String, SchemeError> {
    let parts = bcrypt::non_truncating_hash_with_result(password, COST);
    let parts =
        parts.map_err(|_| SchemeError::Unsuitable { scheme: NAME, problem: "bcrypt takes at most 71 octets" })?;
    Ok(parts.format_for_version(bcrypt::Version::TwoY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openwall_vectors() {
        // `wrapper.c` of crypt_blowfish 1.3.
        let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored";
        let rows = [
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"),
            ("$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"),
            ("$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui", long),
        ];
        for (stored, password) in rows {
            assert_eq!(super::super::verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }

    #[test]
    fn a_new_password_is_never_cut() {
        assert!(hash(&[b'a'; 71]).is_ok());
        assert!(matches!(hash(&[b'a'; 72]), Err(SchemeError::Unsuitable { .. })));
    }
}
