//! `{SSHA512}`: salted SHA-512, as Dovecot and LDAP servers write it; also `{SSHA512.HEX}`.

use sha2::Sha512;

use super::{Scheme, salted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| salted::verify::<Sha512>(NAME, stored, password),
        |password| Ok(salted::hash::<Sha512>(password)),
    )
};

const NAME: &str = "SSHA512";
