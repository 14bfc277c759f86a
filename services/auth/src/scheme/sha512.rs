//! `{SHA512}`: SHA-512 without a salt; also `{SHA512.HEX}`.

use sha2::Sha512;

use super::{Encoding, Scheme, unsalted};

pub(super) const SCHEME: Scheme = Scheme {
    encodings: true,
    weak: true,
    ..Scheme::new(
        NAME,
        |stored, password| unsalted::verify::<Sha512>(NAME, stored, password),
        |password| Ok(unsalted::hash::<Sha512>(Encoding::Base64, password)),
    )
};

const NAME: &str = "SHA512";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn fips180_vectors() {
        for stored in [
            "{SHA512}3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==",
            "{SHA512}ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "{SHA512.HEX}ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ] {
            assert_eq!(verify(stored, b"abc"), Ok(true), "{stored}");
            assert_eq!(verify(stored, b"abd"), Ok(false), "{stored}");
        }
    }
}
