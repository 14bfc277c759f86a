//! `{SSHA}`: salted SHA-1 (RFC 2307, section 5.3), what LDAP servers had for twenty years; also `{SSHA.HEX}`.

use sha1::Sha1;

use super::{Scheme, salted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| salted::verify::<Sha1>(NAME, stored, password),
        |password| Ok(salted::hash::<Sha1>(password)),
    )
};

const NAME: &str = "SSHA";
