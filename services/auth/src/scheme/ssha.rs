//! Salted SHA-2, common to [`super::ssha256`] and [`super::ssha512`]: digest of password and salt, followed by the
//! salt, in base64.
//!
//! Fast, so weak against a stolen table. For accounts that exist already; new ones deserve a slow scheme.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::Digest;
use subtle::ConstantTimeEq as _;

use super::{Encoding, SchemeError, Stored};

/// Octets of salt in new hashes.
const SALT: usize = 16;

/// Verifies a digest with its salt behind it.
pub(super) fn verify<D: Digest>(
    scheme: &'static str,
    stored: Stored<'_>,
    password: &[u8],
) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed { scheme };
    let Some(bytes) = decode(stored) else { return Err(malformed) };
    let length = <D as Digest>::output_size();
    let (Some(digest), Some(salt)) = (bytes.get(..length), bytes.get(length..)) else { return Err(malformed) };
    if salt.is_empty() {
        return Err(malformed);
    }
    let computed = D::new().chain_update(password).chain_update(salt).finalize();
    Ok(computed.as_slice().ct_eq(digest).into())
}

/// Makes a new string.
pub(super) fn hash<D: Digest>(password: &[u8]) -> String {
    let salt: [u8; SALT] = rand::random();
    let mut bytes = D::new().chain_update(password).chain_update(salt).finalize().to_vec();
    bytes.extend_from_slice(&salt);
    STANDARD.encode(bytes)
}

fn decode(stored: Stored<'_>) -> Option<Vec<u8>> {
    match stored.encoding {
        Encoding::Hex => hex::decode(stored.text).ok(),
        Encoding::Default | Encoding::Base64 => STANDARD_NO_PAD.decode(stored.text.trim_end_matches('=')).ok(),
    }
}
