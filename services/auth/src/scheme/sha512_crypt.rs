//! `{SHA512-CRYPT}`: `$6$[rounds=N$]salt$hash`, what crypt(3) of Linux makes.

use ::sha_crypt::Algorithm;

use super::{Scheme, sha_crypt};

pub(super) const SCHEME: Scheme = Scheme {
    bare: &[PREFIX],
    ..Scheme::new(
        NAME,
        |stored, password| sha_crypt::verify(NAME, PREFIX, stored, password),
        |password| sha_crypt::hash(NAME, Algorithm::Sha512Crypt, password),
    )
};

const NAME: &str = "SHA512-CRYPT";
const PREFIX: &str = "$6$";

#[cfg(test)]
mod tests {
    use super::super::verify;

    #[test]
    fn drepper_vectors() {
        let rows = [
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
            (
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
                "Hello world!",
            ),
            (
                "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
                "This is just a test",
            ),
            (
                "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
                "a very much longer text to encrypt.  This one even stretches over morethan one line.",
            ),
            (
                "$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
                "we have a short salt string but not a short password",
            ),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }
}
