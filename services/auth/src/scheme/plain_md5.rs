//! `{PLAIN-MD5}`: MD5 in hex, what `MD5()` of a database makes; also `{PLAIN-MD5.B64}`.

use md5::Md5;

use super::{Encoding, Scheme, unsalted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| unsalted::verify::<Md5>(NAME, stored, password),
        |password| Ok(unsalted::hash::<Md5>(Encoding::Hex, password)),
    )
};

const NAME: &str = "PLAIN-MD5";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn rfc1321_vectors() {
        for stored in [
            "{PLAIN-MD5}900150983cd24fb0d6963f7d28e17f72",
            "{PLAIN-MD5.b64}kAFQmDzST7DWlj99KOF/cg==",
            "{MD5}900150983cd24fb0d6963f7d28e17f72",
        ] {
            assert_eq!(verify(stored, b"abc"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"abd"), Ok(false), "{stored}");
        }
    }
}
