//! `{SSHA256}`: salted SHA-256, as Dovecot and LDAP servers write it; also `{SSHA256.HEX}`.

use sha2::Sha256;

use super::{Scheme, ssha};

pub(super) const SCHEME: Scheme = Scheme {
    name: NAME,
    bare: &[],
    encodings: true,
    memory: |_| 0,
    verify: |stored, password| ssha::verify::<Sha256>(NAME, stored, password),
    hash: |password| Ok(ssha::hash::<Sha256>(password)),
};

const NAME: &str = "SSHA256";
