//! `{SHA256-CRYPT}`: `$5$[rounds=N$]salt$hash`, what crypt(3) of Linux makes.

use ::sha_crypt::Algorithm;

use super::{Scheme, sha_crypt};

pub(super) const SCHEME: Scheme = Scheme {
    bare: &[PREFIX],
    ..Scheme::new(
        NAME,
        |stored, password| sha_crypt::verify(NAME, PREFIX, stored, password),
        |password| sha_crypt::hash(NAME, Algorithm::Sha256Crypt, password),
    )
};

const NAME: &str = "SHA256-CRYPT";
const PREFIX: &str = "$5$";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn drepper_vectors() {
        let rows = [
            ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
            ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
            ("$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5", "This is just a test"),
            (
                "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
                "a very much longer text to encrypt.  This one even stretches over morethan one line.",
            ),
            (
                "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
                "we have a short salt string but not a short password",
            ),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }
}
