//! Credentials that were right, remembered without being kept: by an HMAC-SHA-256 (RFC 2104) under a secret that a process
//! makes at its start; and what addresses are signed with (`verp.rs`). Whoever reads the memory of a cache learns neither logins nor passwords from its keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What credentials are found under, by this process alone.
pub type Sealed = [u8; 32];

/// The secret of a process. Wiped when dropped.
#[derive(Clone)]
pub struct Seal(Zeroizing<[u8; 32]>);

impl Seal {
    /// `secret`: 32 octets that nobody can guess.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret.into())
    }

    /// Of everything on which it depends whether credentials are right.
    pub fn of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Sealed {
        // It takes a key of this length as it is.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&*self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        for part in parts {
            // With its length, so that no two lists of parts give the same text.
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parts_and_no_two_processes_have_one_seal() {
        let lists: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""]];
        let seals = [Seal::new([1; 32]), Seal::new([2; 32])];
        let all: Vec<Sealed> =
            seals.iter().flat_map(|seal| lists.map(|parts| seal.of(parts.iter().copied()))).collect();
        assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])));
        assert_eq!(seals[0].clone().of([&b"ab"[..], b"c"]), all[0]);
    }
}
