//! `{SSHA256}`: salted SHA-256, as Dovecot and LDAP servers write it; also `{SSHA256.HEX}`.

use sha2::Sha256;

use super::{Scheme, salted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| salted::verify::<Sha256>(NAME, stored, password),
        |password| Ok(salted::hash::<Sha256>(password)),
    )
};

const NAME: &str = "SSHA256";
