//! What SCRAM shows of a login that does not exist: a salt that stays the same, and the iterations of those who do.
//!
//! SCRAM tells the salt of an account to everybody who names it. A salt that changes from one question to the next would
//! say that there is no account; so it is made of the name and a secret, which pods must share, since they answer in turn.

use std::sync::OnceLock;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::scheme::{Key, Verifier, mac};

/// Octets of a salt, as Dovecot and we make them.
const SALT: usize = 16;
/// Dovecot's, and what a verifier of a password in clear has.
pub(crate) const ITERATIONS: u32 = 4096;

/// Makes up what nobody has.
pub(crate) struct Decoys {
    secret: Zeroizing<Key>,
    /// Of most accounts, or of the first that was asked for. One that followed whoever asks would tell them apart.
    iterations: OnceLock<u32>,
}

impl Decoys {
    /// With the secret of the configuration; without one it is drawn, and holds for this process alone.
    pub(crate) fn new(secret: Option<&SecretString>) -> Self {
        let secret = secret.map_or_else(rand::random, |text| Sha256::digest(text.expose_secret()).into());
        Self { secret: Zeroizing::new(secret), iterations: OnceLock::new() }
    }

    /// Accounts have this many, if nobody has said otherwise before.
    pub(crate) fn remember(&self, iterations: u32) {
        self.iterations.get_or_init(|| iterations);
    }

    /// The salt of this login, where none is stored.
    pub(crate) fn salt(&self, login: &str) -> Vec<u8> {
        mac(&self.secret, login.to_lowercase().as_bytes())[..SALT].to_vec()
    }

    /// What no proof fits.
    pub(crate) fn verifier(&self, login: &str) -> Verifier {
        Verifier {
            iterations: self.iterations.get().copied().unwrap_or(ITERATIONS),
            salt: self.salt(login),
            stored_key: rand::random(),
            server_key: rand::random(),
        }
    }
}
