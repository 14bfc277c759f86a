//! Salted digests, common to [`super::ssha`], [`super::ssha256`], [`super::ssha512`] and [`super::smd5`]: digest of
//! password and salt, followed by the salt, in base64.
//!
//! Fast, so weak against a stolen table. For accounts that exist already; new ones deserve a slow scheme.

use sha2::Digest;
use sha2::digest::Output;
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
    let Some(bytes) = stored.octets(Encoding::Base64) else { return Err(malformed) };
    let length = <D as Digest>::output_size();
    let (Some(digest), Some(salt)) = (bytes.get(..length), bytes.get(length..)) else { return Err(malformed) };
    if salt.is_empty() {
        return Err(malformed);
    }
    let computed: Output<D> = D::new().chain_update(password).chain_update(salt).finalize();
    Ok(computed.as_slice().ct_eq(digest).into())
}

/// Makes a new string, in base64.
pub(super) fn hash<D: Digest>(password: &[u8]) -> String {
    let salt: [u8; SALT] = rand::random();
    let mut bytes = D::new().chain_update(password).chain_update(salt).finalize().to_vec();
    bytes.extend_from_slice(&salt);
    Encoding::Base64.write(&bytes)
}
