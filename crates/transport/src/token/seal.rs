//! What is kept of tokens outside of this process is sealed (AES-256-GCM) with a key that comes of the operator's own secrets:
//! whoever reads Redis, or a copy of it, has nothing, and a pod that has the secrets needs no other key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use zeroize::Zeroizing;

/// Octets of a name, before they are written in hexadecimal.
const NAME: usize = 16;

/// Seals and opens what belongs to one grant.
pub(super) struct Seal {
    name: String,
    key: RandomizedNonceKey,
}

impl Seal {
    /// Of these secrets, for what these words say in this order. `None`: the library refuses.
    pub(super) fn new(secrets: &[&str], words: &[&str]) -> Option<Self> {
        // Neither has a NUL in it, so other parts make another text.
        let key = Key::new(HMAC_SHA256, Zeroizing::new(secrets.join("\0")).as_bytes());
        let derived = |purpose: &str| -> Tag { sign(&key, format!("{purpose}\0{}", words.join("\0")).as_bytes()) };
        let name = derived("name").as_ref()[..NAME].iter().map(|octet| format!("{octet:02x}")).collect();
        Some(Self { name, key: RandomizedNonceKey::new(&AES_256_GCM, derived("key").as_ref()).ok()? })
    }

    /// What stands for it, which says nothing of the secrets, and is another one for others.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// With its nonce before it. Only what was sealed as the same `kind` opens as that.
    pub(super) fn seal(&self, kind: &str, text: &str) -> Option<Vec<u8>> {
        let mut sealed = text.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(kind), &mut sealed).ok()?;
        Some([nonce.as_ref(), &sealed[..]].concat())
    }

    /// `None`: it was sealed with other secrets, or is nothing that was sealed.
    pub(super) fn open(&self, kind: &str, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(kind), &mut text).ok()?;
        Some(Zeroizing::new(std::str::from_utf8(opened).ok()?.to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secrets_open_what_was_sealed_for_the_same() {
        let seal = Seal::new(&["s", "r"], &["https://id.test/", "client"]).unwrap();
        let sealed = seal.seal("token", "ya29").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"ya29"));
        assert_ne!(sealed, seal.seal("token", "ya29").unwrap(), "a nonce is used once");
        let again = Seal::new(&["s", "r"], &["https://id.test/", "client"]).unwrap();
        assert_eq!(again.open("token", &sealed).unwrap().as_str(), "ya29");
        assert_eq!((again.name(), again.name().len()), (seal.name(), 32));
        assert!(again.open("refresh", &sealed).is_none());
        for (secrets, words) in [
            (["s", "x"], ["https://id.test/", "client"]),
            (["sr", ""], ["https://id.test/", "client"]),
            (["s", "r"], ["https://id.test/", "other"]),
        ] {
            let other = Seal::new(&secrets, &words).unwrap();
            assert!(other.open("token", &sealed).is_none() && other.name() != seal.name(), "{secrets:?} {words:?}");
        }
        for odd in [&sealed[..5], &sealed[..sealed.len() - 1], b""] {
            assert!(seal.open("token", odd).is_none());
        }
    }
}
