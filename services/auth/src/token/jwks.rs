//! A set of public keys (RFC 7517): which of them may have made a signature. Pure.
//!
//! A key that cannot verify signatures here, because it is for encryption, of a kind that is not known, or a common secret,
//! is passed over: providers add such keys to their sets.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys looked at; providers have a handful.
const MAX_KEYS: usize = 100;

/// Why there are no keys. Completes "the keys cannot be used: …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadKeys {
    /// Not JSON, or another document.
    #[error("this is no JWKS, a JSON object with a list `keys`: {0}")]
    Form(#[from] serde_json::Error),
    /// Nothing that verifies signatures.
    #[error("of {0} keys, none is an RSA, P-256, P-384 or Ed25519 key for signatures")]
    None(usize),
}

/// The keys that can be used.
pub(super) struct Ring(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Ring {
    /// Reads a set.
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadKeys> {
        let Document { keys } = serde_json::from_slice(text)?;
        let count = keys.len();
        let usable: Vec<Key> = keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        if usable.is_empty() { Err(BadKeys::None(count)) } else { Ok(Self(usable)) }
    }

    /// Those that may have made a signature with this algorithm: of this name, if the token has one.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let named = self.0.iter().filter(move |key| id.is_none_or(|id| key.id.as_deref() == Some(id)));
        named.filter(move |key| key.algorithms.contains(&algorithm)).map(|key| &key.key)
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if !is_for_signatures(&jwk) {
            return None;
        }
        let algorithms = algorithms(&jwk);
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| !algorithms.is_empty())?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

/// RFC 7517 sections 4.2 and 4.3.
fn is_for_signatures(jwk: &Jwk) -> bool {
    let common = &jwk.common;
    let used = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    used && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// What the kind of key can do, or the one thing that it says it is for (RFC 8725 section 3.1).
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let able: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
        _ => &[],
    };
    let Some(said) = jwk.common.key_algorithm else { return able.to_vec() };
    able.iter().copied().filter(|algorithm| said.to_string() == format!("{algorithm:?}")).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn count(ring: &Ring, id: Option<&str>, algorithm: Algorithm) -> usize {
        ring.candidates(id, algorithm).count()
    }

    fn ring(keys: &Value) -> Result<Ring, BadKeys> {
        Ring::parse(&serde_json::to_vec(&json!({ "keys": keys, "more": 1 })).unwrap())
    }

    #[test]
    fn a_key_does_what_its_kind_and_its_words_allow() {
        let keys = ring(&json!([
            {"kty": "RSA", "kid": "any", "n": N, "e": "AQAB"},
            {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": N, "e": "AQAB"},
            {"kty": "EC", "kid": "p256", "crv": "P-256", "x": X, "y": Y, "key_ops": ["verify"]},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        ]))
        .unwrap();
        let able = |id| {
            let all = [
                Algorithm::RS256,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::ES256,
                Algorithm::ES384,
                Algorithm::EdDSA,
            ];
            all.map(|algorithm| count(&keys, Some(id), algorithm))
        };
        assert_eq!(able("any"), [1, 1, 1, 0, 0, 0]);
        assert_eq!(able("one"), [1, 0, 0, 0, 0, 0]);
        assert_eq!(able("p256"), [0, 0, 0, 1, 0, 0]);
        assert_eq!(able("ed"), [0, 0, 0, 0, 0, 1]);
        assert_eq!(able("other"), [0; 6]);
        assert_eq!(count(&keys, None, Algorithm::RS256), 2, "a token that names no key");
        assert_eq!(count(&keys, None, Algorithm::HS256), 0);
    }

    #[test]
    fn keys_for_something_else_are_passed_over_and_never_all_of_them() {
        let others = json!([
            {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": N, "e": "AQAB"},
            {"kty": "RSA", "kid": "oaep", "alg": "RSA-OAEP", "n": N, "e": "AQAB"},
            {"kty": "EC", "kid": "sign", "crv": "P-256", "x": X, "y": Y, "key_ops": ["sign"]},
            {"kty": "EC", "kid": "mixed", "alg": "RS256", "crv": "P-256", "x": X, "y": Y},
            {"kty": "EC", "kid": "curve", "crv": "secp256k1", "x": X, "y": Y},
            {"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"},
            {"kid": "nothing"}, 7,
        ]);
        assert!(matches!(ring(&others), Err(BadKeys::None(9))));
        let mut with_one = others;
        with_one.as_array_mut().unwrap().push(json!({"kty": "RSA", "kid": "good", "n": N, "e": "AQAB"}));
        assert_eq!(count(&ring(&with_one).unwrap(), None, Algorithm::RS256), 1);
        assert!(matches!(ring(&json!([])), Err(BadKeys::None(0))));
        for text in ["", "{}", "[]", "{\"keys\": {}}", "<html>"] {
            assert!(matches!(Ring::parse(text.as_bytes()), Err(BadKeys::Form(_))), "{text}");
        }
    }
}
