//! `{SHA}`: SHA-1 without a salt (RFC 2307, section 5.3); also `{SHA1}`, `{SHA.HEX}`.

use sha1::Sha1;

use super::{Encoding, Scheme, unsalted};

pub(super) const SCHEME: Scheme = Scheme {
    aliases: &["SHA1"],
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| unsalted::verify::<Sha1>(NAME, stored, password),
        |password| Ok(unsalted::hash::<Sha1>(Encoding::Base64, password)),
    )
};

const NAME: &str = "SHA";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn fips180_vectors() {
        for stored in [
            "{SHA}qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "{SHA1}qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "{SHA}a9993e364706816aba3e25717850c26c9cd0d89d",
            "{SHA1.hex}a9993e364706816aba3e25717850c26c9cd0d89d",
        ] {
            assert_eq!(verify(stored, b"abc"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"abd"), Ok(false), "{stored}");
        }
    }
}
