//! Bearer tokens (RFC 6750): is this one good, and whose is it?
//!
//! A token is either a JWT, which `jwt` checks with the `keys` of the identity provider, or the provider is asked about it,
//! which `introspection` does. What a token claims is judged in `claims`, the same in both cases. "No" is a [`Flaw`] and
//! never mixes with "nobody could say", a [`ProviderError`]. Nothing here knows accounts, and nothing keeps a token or
//! shows one.
//!
//! Follows RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), RFC 7662 (introspection), RFC 8725 (best practices), RFC 9068.

mod claims;
mod introspection;
mod jwks;
mod jwt;
mod keys;
mod web;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use staffetta_config::{OAuth, Signature};
use staffetta_transport::connect::TlsClient;

use self::claims::{Claims, Demands};
pub(crate) use self::claims::{Flaw, Grant};
use self::introspection::Introspection;
use self::keys::Keys;
pub(crate) use self::web::ProviderError;
use self::web::Web;
use crate::BackendProblem;
use crate::metrics::Metrics;

/// Why a token opens nothing.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// It is not good.
    Flaw(Flaw),
    /// The identity provider did not say.
    Provider(ProviderError),
}

impl From<Flaw> for TokenError {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

impl From<ProviderError> for TokenError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

/// Judges tokens.
pub(crate) struct Tokens {
    demands: Demands,
    way: Way,
}

enum Way {
    /// They are signed, with one of these algorithms.
    Signed(Arc<Keys>, Vec<Algorithm>),
    /// The provider is asked.
    Asked(Introspection),
}

impl Tokens {
    /// As the configuration says; `None` if it says nothing of tokens. Asks nobody yet, but reads the files.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn new(oauth: &OAuth, metrics: &Metrics) -> Result<Option<Self>, BackendProblem> {
        let ca = |error: staffetta_transport::connect::TlsSetupError| problem("auth.oauth.ca", error);
        let tls = TlsClient::new(oauth.ca.as_deref()).map_err(ca)?;
        let way = match (&oauth.keys, &oauth.introspection) {
            (Some(source), _) => {
                let keys = Keys::new(source, tls, metrics.clone()).map_err(|error| problem(KEYS, error))?;
                Way::Signed(Arc::new(keys), oauth.algorithms.iter().copied().map(algorithm).collect())
            }
            (None, Some(url)) => {
                let web = Web::new(url, tls, metrics.clone()).map_err(|error| problem(INTROSPECTION, error))?;
                Way::Asked(Introspection::new(web, oauth.client_id.as_deref(), oauth.client_secret.as_ref()))
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { demands: Demands::new(oauth), way }))
    }

    /// Whose the token is, and until when.
    pub(crate) async fn judge(&self, token: &str) -> Result<Grant, TokenError> {
        let claims = match &self.way {
            Way::Signed(keys, algorithms) => jwt::claims(token, algorithms, keys).await?,
            Way::Asked(introspection) => Claims::reported(introspection.ask(token).await?),
        };
        Ok(self.demands.judge(&claims, now())?)
    }

    /// Fetches keys before the first token comes.
    pub(crate) fn prepare(&self) {
        if let Way::Signed(keys, _) = &self.way {
            keys.prepare();
        }
    }

    /// Can tokens be judged now? A provider that knows us says of a token that nobody has that it is not good.
    pub(crate) async fn probe(&self) -> Result<(), BackendProblem> {
        match &self.way {
            Way::Signed(keys, _) => keys.current().await.map(drop).map_err(|error| problem(KEYS, error)),
            Way::Asked(introspection) => match introspection.ask("staffetta-check").await {
                Ok(_) | Err(TokenError::Flaw(_)) => Ok(()),
                Err(TokenError::Provider(error)) => Err(problem(INTROSPECTION, error)),
            },
        }
    }

    /// What a client that is refused is told: the scope that a token must have, and where to get one.
    pub(crate) fn hint(&self) -> (Option<&str>, Option<String>) {
        (self.demands.scope(), self.demands.discovery())
    }
}

const KEYS: &str = "auth.oauth.keys";
const INTROSPECTION: &str = "auth.oauth.introspection";

fn problem(key: &'static str, error: impl std::fmt::Display) -> BackendProblem {
    BackendProblem { key, problem: error.to_string() }
}

fn algorithm(signature: Signature) -> Algorithm {
    match signature {
        Signature::Rs256 => Algorithm::RS256,
        Signature::Rs384 => Algorithm::RS384,
        Signature::Rs512 => Algorithm::RS512,
        Signature::Ps256 => Algorithm::PS256,
        Signature::Ps384 => Algorithm::PS384,
        Signature::Ps512 => Algorithm::PS512,
        Signature::Es256 => Algorithm::ES256,
        Signature::Es384 => Algorithm::ES384,
        Signature::EdDsa => Algorithm::EdDSA,
    }
}

/// Seconds since 1970, which is how tokens tell the time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
