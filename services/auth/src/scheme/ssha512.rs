//! `{SSHA512}`: salted SHA-512, as Dovecot and LDAP servers write it; also `{SSHA512.HEX}`.

use sha2::Sha512;

use super::{Scheme, ssha};

pub(super) const SCHEME: Scheme = Scheme {
    name: NAME,
    bare: &[],
    encodings: true,
    memory: |_| 0,
    verify: |stored, password| ssha::verify::<Sha512>(NAME, stored, password),
    hash: |password| Ok(ssha::hash::<Sha512>(password)),
};

const NAME: &str = "SSHA512";
