//! `{SMD5}`: salted MD5, of old LDAP servers; also `{SMD5.HEX}`.

use md5::Md5;

use super::{Scheme, salted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| salted::verify::<Md5>(NAME, stored, password),
        |password| Ok(salted::hash::<Md5>(password)),
    )
};

const NAME: &str = "SMD5";
