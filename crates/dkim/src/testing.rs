//! Keys and messages for tests.

use std::sync::OnceLock;

use crate::{Algorithm, Digest, Draft, Key, Row};

/// The same for a whole test run: one takes a while to make.
pub(crate) fn rsa() -> Key {
    static PEM: OnceLock<String> = OnceLock::new();
    made(PEM.get_or_init(|| pem(Algorithm::Rsa)))
}

pub(crate) fn ed25519() -> Key {
    static PEM: OnceLock<String> = OnceLock::new();
    made(PEM.get_or_init(|| pem(Algorithm::Ed25519)))
}

fn pem(algorithm: Algorithm) -> String {
    Key::generate(algorithm).unwrap().1.to_string()
}

fn made(pem: &str) -> Key {
    Key::from_pem(pem.as_bytes()).unwrap()
}

/// An RSA key `r` and an Ed25519 key `e` of example.org.
pub(crate) fn rows() -> Vec<Row> {
    let row = |selector: &str, key| Row { domain: "example.org".into(), selector: selector.into(), key };
    vec![row("r", rsa()), row("e", ed25519())]
}

/// What verifiers find under a name.
pub(crate) fn published(name: &str) -> Option<String> {
    let rows = rows();
    let row = rows.iter().find(|row| crate::record_name(&row.selector, &row.domain) == name)?;
    crate::record(&row.key).ok()
}

pub(crate) fn digest(message: &[u8]) -> Digest {
    let mut draft = Draft::default();
    draft.update(message).unwrap();
    draft.finish().unwrap()
}

/// The message with its signatures, as it goes out.
pub(crate) fn signed(message: &[u8]) -> Vec<u8> {
    [digest(message).sign(&rows(), 1_764_000_000).unwrap(), message.to_vec()].concat()
}
