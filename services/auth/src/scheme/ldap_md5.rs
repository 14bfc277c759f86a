//! `{LDAP-MD5}`: MD5 in base64 (RFC 2307, section 5.3); also `{LDAP-MD5.HEX}`.

use md5::Md5;

use super::{Encoding, Scheme, unsalted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| unsalted::verify::<Md5>(NAME, stored, password),
        |password| Ok(unsalted::hash::<Md5>(Encoding::Base64, password)),
    )
};

const NAME: &str = "LDAP-MD5";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn rfc1321_vectors() {
        for stored in ["{LDAP-MD5}kAFQmDzST7DWlj99KOF/cg==", "{LDAP-MD5.HEX}900150983cd24fb0d6963f7d28e17f72"] {
            assert_eq!(verify(stored, b"abc"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"abd"), Ok(false), "{stored}");
        }
    }
}
