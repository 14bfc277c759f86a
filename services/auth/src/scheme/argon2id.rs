//! `{ARGON2ID}`: Argon2id (RFC 9106), what new passwords are stored as.

use ::argon2::Algorithm;

use super::{Scheme, argon2};

pub(super) const SCHEME: Scheme = Scheme {
    bare: &["$argon2id$"],
    memory: argon2::memory,
    ..Scheme::new(
        NAME,
        |stored, password| argon2::verify(NAME, Algorithm::Argon2id, stored, password),
        |password| argon2::hash(NAME, Algorithm::Argon2id, password),
    )
};

const NAME: &str = "ARGON2ID";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn reference_implementation_vectors() {
        // `test.c` of the reference implementation, version 0x13.
        let rows = [
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"),
            ("$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg", "password"),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }
}
