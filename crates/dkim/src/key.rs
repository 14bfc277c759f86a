//! A private key from a PEM file: what it signs with, and what is published of it.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{digest, error};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use zeroize::{Zeroize, Zeroizing};

/// The shortest RSA key that is taken. RFC 8301 section 3.2 recommends as much; the library signs with nothing shorter.
pub const MIN_BITS: usize = 2048;
/// A longer key takes so long to sign with that others should not have to wait.
const QUICK_BITS: usize = 2048;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 8301. Every verifier knows it.
    Rsa,
    /// RFC 8463. Short, and not known everywhere: beside an RSA key, not instead of one.
    Ed25519,
}

impl Algorithm {
    /// The `a=` of a signature.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// The `k=` of a record.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A private key. It is never shown, not by `Debug` either.
pub struct Key(Pair);

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a file has no key to sign with. Completes `"file" …`; nothing of the file is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no PEM section with a key.
    #[error("holds no private key in PEM form")]
    Missing,
    /// The key has a pass phrase.
    #[error("holds an encrypted private key")]
    Encrypted,
    /// Base64 or lines of the section are broken.
    #[error("holds a damaged PEM section")]
    Damaged,
    /// An RSA key that is too short.
    #[error("holds an RSA key of less than {MIN_BITS} bits")]
    TooSmall,
    /// An RSA key that is too long.
    #[error("holds an RSA key of more than 8192 bits")]
    TooLarge,
    /// EC keys, for example.
    #[error("holds a private key that cannot be read as RSA or Ed25519")]
    Unsupported,
}

impl Key {
    /// The first private key of a file: PKCS #8, or PKCS #1 for RSA.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            _ if is_encrypted(pem) => KeyError::Encrypted,
            PemError::NoItemsFound => KeyError::Missing,
            _ => KeyError::Damaged,
        })?;
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map(Pair::Rsa).map_err(refused),
            PrivateKeyDer::Pkcs8(der) => pkcs8(der.secret_pkcs8_der()),
            _ => Err(KeyError::Unsupported),
        };
        der.zeroize();
        key.map(Self)
    }

    /// A new key, and the text of its file. RSA keys have 2048 bits: longer ones are not known everywhere, and their
    /// records do not fit into one string.
    ///
    /// # Errors
    /// The library's, which says no more.
    pub fn generate(algorithm: Algorithm) -> Result<(Self, Zeroizing<String>), error::Unspecified> {
        let pair = match algorithm {
            Algorithm::Rsa => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate()?),
        };
        let der: Pkcs8V1Der<'_> = match &pair {
            Pair::Rsa(pair) => pair.as_der()?,
            Pair::Ed25519(pair) => pair.as_der()?,
        };
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(der.as_ref()));
        // Made in one piece: a text that grows leaves copies behind.
        let mut pem = Zeroizing::new(String::with_capacity(encoded.len() + encoded.len() / 64 + 64));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for at in (0..encoded.len()).step_by(64) {
            pem.push_str(&encoded[at..encoded.len().min(at + 64)]);
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok((Self(pair), pem))
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The public key as it is published: for RSA a `SubjectPublicKeyInfo` (RFC 6376 section 3.6.1), for Ed25519 the key
    /// itself (RFC 8463 section 4).
    ///
    /// # Errors
    /// The library's, which says no more.
    pub fn public(&self) -> Result<Vec<u8>, error::Unspecified> {
        match &self.0 {
            Pair::Rsa(pair) => {
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
                Ok(der.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.public_key().as_ref().to_vec()),
        }
    }

    /// Does signing take so long that it should not hold up others?
    pub fn is_slow(&self) -> bool {
        matches!(&self.0, Pair::Rsa(pair) if pair.public_modulus_len() * 8 > QUICK_BITS)
    }

    /// Signs the SHA-256 of `octets`; Ed25519 signs the hash as its message (RFC 8463 section 3).
    pub(crate) fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, error::Unspecified> {
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), octets, &mut signature)?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => {
                let hash = digest::digest(&digest::SHA256, octets);
                Ok(pair.try_sign(hash.as_ref())?.as_ref().to_vec())
            }
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm()).finish_non_exhaustive()
    }
}

fn pkcs8(der: &[u8]) -> Result<Pair, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Pair::Ed25519(pair));
    }
    RsaKeyPair::from_pkcs8(der).map(Pair::Rsa).map_err(refused)
}

fn refused(error: error::KeyRejected) -> KeyError {
    match error.description_() {
        "TooSmall" => KeyError::TooSmall,
        "TooLarge" => KeyError::TooLarge,
        _ => KeyError::Unsupported,
    }
}

/// Both ways to write it.
fn is_encrypted(pem: &[u8]) -> bool {
    [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(pem, mark).is_some())
}
