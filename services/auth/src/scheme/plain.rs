//! `{PLAIN}`, `{CLEARTEXT}`: the password itself, when the prefix says so, as Dovecot takes it. Who reads the table can
//! log in as everybody in it; nothing is stored like this by us, and a value without a prefix is never taken for one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Encoding, Scheme, SchemeError, Stored};

/// Not among those that new passwords can be stored as.
pub(super) const SCHEME: Scheme = Scheme { name: NAME, bare: &[], encodings: true, memory: |_| 0, verify, hash };

const NAME: &str = "PLAIN";
/// All its names.
const NAMES: [&str; 3] = [NAME, "CLEARTEXT", "CLEAR"];

/// Is it one of its names?
pub(super) fn is(name: &str) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let malformed = |_| SchemeError::Malformed { scheme: NAME };
    let text = Zeroizing::new(match stored.encoding {
        Encoding::Default => stored.text.as_bytes().to_vec(),
        Encoding::Base64 => STANDARD.decode(stored.text).map_err(|_| malformed(()))?,
        Encoding::Hex => hex::decode(stored.text).map_err(|_| malformed(()))?,
    });
    if text.is_empty() {
        return Err(malformed(()));
    }
    Ok(text.as_slice().ct_eq(password).into())
}

fn hash(_: &[u8]) -> Result<String, SchemeError> {
    Err(SchemeError::Unsuitable { scheme: NAME, problem: "it is not a hash" })
}
