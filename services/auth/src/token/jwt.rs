//! A signed token (RFC 7515 section 7.1, RFC 7519): is the signature that of a key of the provider?
//!
//! The algorithm is one that the configuration allows, and one that the key is for; what the token says decides only
//! which of these (RFC 8725 section 3.1). Nothing is fetched that a token points at.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::TokenError;
use super::claims::{Claims, Flaw};
use super::jwks::Ring;
use super::keys::Keys;

/// What `typ` may be (RFC 7519 section 5.1, RFC 9068 section 2.1): other kinds are for other things.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// A token in its parts.
struct Token<'a> {
    header: Header,
    /// What is signed.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// There are extensions that must be understood; we understand none (RFC 7515 section 4.1.11).
    #[serde(default, deserialize_with = "is_there", rename = "crit")]
    has_extensions: bool,
}

/// Whatever it says.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// What the token claims, if it is signed by one of the keys. A key that is not known makes them be fetched once more.
pub(super) async fn claims(token: &str, algorithms: &[Algorithm], keys: &Arc<Keys>) -> Result<Claims, TokenError> {
    let token = Token::parse(token)?;
    let algorithm = token.algorithm(algorithms)?;
    let mut ring = keys.current().await?;
    let mut verified = token.verify(&ring.ring, algorithm);
    // Twice: somebody else may have looked meanwhile, and too early.
    for _ in 0..2 {
        if verified != Err(Flaw::UnknownKey) {
            break;
        }
        let Some(newer) = keys.newer(&ring).await? else { break };
        verified = token.verify(&newer.ring, algorithm);
        ring = newer;
    }
    Ok(Claims::signed(verified.and_then(|()| token.payload())?))
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Result<Self, Flaw> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::Form)?;
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Flaw::Form)?;
        let kind = header.typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        let is_ours = kind.is_none_or(|kind| TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)));
        if header.has_extensions || !is_ours || payload.contains('.') {
            return Err(Flaw::Form);
        }
        Ok(Self { header, signed, payload, signature })
    }

    fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Flaw> {
        let algorithm = self.header.alg.parse().ok().filter(|algorithm| allowed.contains(algorithm));
        algorithm.ok_or(Flaw::Algorithm)
    }

    fn verify(&self, ring: &Ring, algorithm: Algorithm) -> Result<(), Flaw> {
        let mut candidates = ring.candidates(self.header.kid.as_deref(), algorithm).peekable();
        candidates.peek().ok_or(Flaw::UnknownKey)?;
        let is_by = |key| jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm);
        match candidates.any(|key| is_by(key).unwrap_or(false)) {
            true => Ok(()),
            // It may be by a newer one.
            false if self.header.kid.is_none() => Err(Flaw::UnknownKey),
            false => Err(Flaw::Signature),
        }
    }

    /// Only of a token that is verified.
    fn payload(&self) -> Result<Map<String, Value>, Flaw> {
        serde_json::from_slice(&decoded(self.payload)?).map_err(|_| Flaw::Form)
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Flaw> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Form)
}
