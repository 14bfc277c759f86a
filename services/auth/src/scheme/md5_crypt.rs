//! `{MD5-CRYPT}`: `$1$salt$hash`, Poul-Henning Kamp's crypt(3) of 1994. A thousand rounds of MD5, a microsecond each:
//! for accounts that exist already.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use super::{Scheme, SchemeError, Stored};

pub(super) const SCHEME: Scheme = Scheme { bare: &[PREFIX], weak: true, ..Scheme::new(NAME, verify, hash) };

const NAME: &str = "MD5-CRYPT";
const PREFIX: &str = "$1$";

/// crypt(3)'s own alphabet, six bits a character, the lowest first.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Octets of salt that count.
const SALT: usize = 8;
/// Characters of the hash.
const LENGTH: usize = 22;
const ROUNDS: usize = 1000;

fn verify(stored: Stored<'_>, password: &[u8]) -> Result<bool, SchemeError> {
    let (salt, hash) = parse(stored.text).ok_or(SchemeError::Malformed { scheme: NAME })?;
    Ok(crypt(salt.as_bytes(), password).as_bytes().ct_eq(hash.as_bytes()).into())
}

fn hash(password: &[u8]) -> Result<String, SchemeError> {
    let bits: [u8; SALT] = rand::random();
    let salt: String = bits.iter().map(|bits| character(u32::from(*bits))).collect();
    Ok(format!("{PREFIX}{salt}${}", crypt(salt.as_bytes(), password)))
}

/// Salt and hash. A longer salt is cut, as crypt(3) does.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (salt, hash) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let whole = hash.len() == LENGTH && hash.bytes().all(|octet| ALPHABET.contains(&octet));
    whole.then_some((salt.get(..SALT).unwrap_or(salt), hash))
}

fn crypt(salt: &[u8], password: &[u8]) -> String {
    let mut digest = rounds(first(salt, password), salt, password);
    // The places of the digest whose octets are written together.
    const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::with_capacity(LENGTH);
    for [high, middle, low] in GROUPS {
        let bits = u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]);
        text.extend((0..4).map(|place| character(bits >> (6 * place))));
    }
    text.extend((0..2).map(|place| character(u32::from(digest[11]) >> (6 * place))));
    zeroize::Zeroize::zeroize(&mut digest);
    text
}

fn character(bits: u32) -> char {
    char::from(ALPHABET[(bits & 0x3f) as usize])
}

fn first(salt: &[u8], password: &[u8]) -> [u8; 16] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut digest = Md5::new().chain_update(password).chain_update(PREFIX).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        digest.update(&inner[..chunk.len()]);
    }
    // A slip of the first implementation that became the format: NUL, or the password's first octet, by the bits of
    // its length.
    let mut length = password.len();
    while length > 0 {
        digest.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    digest.finalize().into()
}

fn rounds(mut digest: [u8; 16], salt: &[u8], password: &[u8]) -> [u8; 16] {
    for round in 0..ROUNDS {
        let is_odd = round % 2 == 1;
        let mut next = Md5::new();
        next.update(if is_odd { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &digest } else { password });
        digest = next.finalize().into();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::super::{SchemeError, verify};

    #[test]
    fn published_vectors() {
        // From the tests of passlib; the last made with `openssl passwd -1`.
        let rows = [
            ("$1$dOHYPKoP$tnxS1T8Q6VVn3kpV8cN6o.", ""),
            ("$1$m/5ee7ol$bZn0kIBFipq39e.KDXX8I0", " "),
            ("$1$ec6XvcoW$ghEtNK2U1MC5l.Dwgi3020", "test"),
            ("$1$nX1e7EeI$ljQn72ZUgt6Wxd9hfvHdV0", "Compl3X AlphaNu3meric"),
            ("{CRYPT}$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "password"),
        ];
        for (stored, password) in rows {
            assert_eq!(verify(stored, password.as_bytes()), Ok(true), "{stored}");
        }
    }

    #[test]
    fn a_cut_hash_is_no_wrong_password() {
        for stored in ["$1$ec6XvcoW$ghEtNK2U1MC5l.Dwgi302", "$1$ec6XvcoW", "$1$", "$1$a$ghEtNK2U1MC5l.Dwgi302é"] {
            assert_eq!(verify(stored, b"test"), Err(SchemeError::Malformed { scheme: "MD5-CRYPT" }), "{stored}");
        }
    }
}
