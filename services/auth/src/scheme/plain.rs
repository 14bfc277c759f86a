//! `{PLAIN}`, `{CLEARTEXT}`: the password itself, when the prefix says so, as Dovecot takes it. Who reads the table can
//! log in as everybody in it; nothing is stored like this by us, and a value without a prefix is never taken for one.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Encoding, Scheme, SchemeError, Stored};

/// Not among those that new passwords can be stored as.
pub(super) const SCHEME: Scheme =
    Scheme { aliases: &["CLEARTEXT", "CLEAR"], encodings: true, weak: true, ..Scheme::new(NAME, verify, hash) };

pub(super) const NAME: &str = "PLAIN";

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    Ok(text(stored)?.as_slice().ct_eq(password).into())
}

/// The password.
pub(super) fn text(stored: Stored<'_>) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let text = stored.octets(Encoding::Text).map(Zeroizing::new).filter(|text| !text.is_empty());
    text.ok_or(SchemeError::Malformed { scheme: NAME })
}

fn hash(_: &[u8]) -> Result<String, SchemeError> {
    Err(SchemeError::Unsuitable { scheme: NAME, problem: "it is not a hash" })
}
