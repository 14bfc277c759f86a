//! A digest of the password and nothing else, common to [`super::sha`], [`super::sha256`], [`super::sha512`],
//! [`super::plain_md5`] and [`super::ldap_md5`]: base64, or hex.
//!
//! Equal passwords look equal in the table, and lists of solved ones are on the web. For accounts that exist already.

use sha2::Digest;
use sha2::digest::Output;
use subtle::ConstantTimeEq as _;

use super::{Encoding, SchemeError, Stored};

/// Verifies a digest. Without a suffix, its length says how it is written, as Dovecot takes it.
pub(super) fn verify<D: Digest>(
    scheme: &'static str,
    stored: Stored<'_>,
    password: &[u8],
) -> Result<bool, SchemeError> {
    let length = <D as Digest>::output_size();
    let usual = if stored.text.len() == 2 * length { Encoding::Hex } else { Encoding::Base64 };
    let digest = stored.octets(usual).filter(|digest| digest.len() == length);
    let digest = digest.ok_or(SchemeError::Malformed { scheme })?;
    let computed: Output<D> = D::new().chain_update(password).finalize();
    Ok(computed.as_slice().ct_eq(&digest).into())
}

/// Makes a new string.
pub(super) fn hash<D: Digest>(encoding: Encoding, password: &[u8]) -> String {
    let digest: Output<D> = D::new().chain_update(password).finalize();
    encoding.write(&digest)
}
