//! `{SHA256}`: SHA-256 without a salt; also `{SHA256.HEX}`.

use sha2::Sha256;

use super::{Encoding, Scheme, unsalted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| unsalted::verify::<Sha256>(NAME, stored, password),
        |password| Ok(unsalted::hash::<Sha256>(Encoding::Base64, password)),
    )
};

const NAME: &str = "SHA256";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn fips180_vectors() {
        for stored in [
            "{SHA256}ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "{SHA256}ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "{SHA256.HEX}ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(verify(stored, b"abc"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"abd"), Ok(false), "{stored}");
        }
    }
}
