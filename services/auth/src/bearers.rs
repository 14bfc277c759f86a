//! Tokens against the accounts of the database: a good token is a login only if there is such an account.
//!
//! The account needs no password; a locked one lets nobody in. What was found out is kept as passwords are, so that a client
//! with a connection for each message costs neither a query nor a question to the identity provider, and ends with the
//! token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;

use crate::cache::{Right, Verified};
use crate::limits::Admitted;
use crate::metrics::Metrics;
use crate::passwords::{account, is_locked};
use crate::sasl::{Bearer, Denied};
use crate::sql::{Account, Store, StoreError};
use crate::token::{Flaw, ProviderError, TokenError, Tokens};

/// Tells tokens from passwords where both are kept.
const KIND: &[u8] = b"bearer";

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not good.
    #[error("{0}")]
    Flaw(Flaw),
    /// No such account.
    #[error("unknown login")]
    UnknownLogin(String),
    /// The account's hash is one that nothing matches.
    #[error("the account is locked")]
    Locked(String),
    /// The client wants to be somebody else.
    #[error("the token is for another login")]
    Other(Arc<str>),
    /// The identity provider does not answer.
    #[error("the identity provider gave no answer: {0}")]
    Provider(ProviderError),
    /// The back end does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Flaw(flaw) => Self::Flaw(flaw),
            TokenError::Provider(error) => Self::Provider(error),
        }
    }
}

/// Who may come in by a token.
pub(crate) struct Bearers {
    tokens: Tokens,
    verified: Verified,
    metrics: Metrics,
}

impl Bearers {
    pub(crate) fn new(tokens: Tokens, verified: Verified, metrics: Metrics) -> Self {
        Self { tokens, verified, metrics }
    }

    /// Makes ready for the first token, in the background.
    pub(crate) fn prepare(&self) {
        self.tokens.prepare();
    }

    /// Whom this token lets in.
    pub(crate) async fn redeem(&self, bearer: &Bearer, store: &Store) -> Result<Admitted, Arc<Refusal>> {
        let token = bearer.token.expose_secret();
        if token.is_empty() {
            return Err(Arc::new(Refusal::Flaw(Flaw::Missing)));
        }
        let key = self.verified.key([KIND, b"", token.as_bytes()]);
        let cached = self.verified.find(key.as_ref()).await;
        self.metrics.cache(cached.is_some());
        let admitted = match cached {
            Some(admitted) => admitted,
            None => self.verified.verify_ending(key, || self.verify(token, store)).await?,
        };
        let login = admitted.login.to_lowercase();
        let is_other = bearer.login.as_ref().is_some_and(|named| named.to_lowercase() != login);
        if is_other { Err(Arc::new(Refusal::Other(admitted.login))) } else { Ok(admitted) }
    }

    async fn verify(&self, token: &str, store: &Store) -> Result<Right, Refusal> {
        let asked = Instant::now();
        let grant = self.tokens.judge(token).await?;
        let Some(Account { login, password, limits }) = account(store, &grant.login).await? else {
            return Err(Refusal::UnknownLogin(grant.login));
        };
        if is_locked(password) {
            return Err(Refusal::Locked(login));
        }
        let until = grant.left.and_then(|left| asked.checked_add(Duration::from_secs(left)));
        Ok(Right { admitted: Admitted::new(login, limits), until })
    }

    /// What the mechanism has to know of a refusal, or that nobody knows whether it is one.
    pub(crate) fn denied(&self, bearer: &Bearer, refusal: &Refusal) -> Option<Denied> {
        let named = bearer.login.as_deref().unwrap_or_default();
        let (login, detail) = match refusal {
            Refusal::Provider(_) | Refusal::Store(_) => return None,
            Refusal::Flaw(flaw) => (named, flaw.text()),
            Refusal::UnknownLogin(login) => (login.as_str(), "unknown login"),
            Refusal::Locked(login) => (login.as_str(), "the account is locked"),
            Refusal::Other(_) => (named, "the token is for another login"),
        };
        let (scope, discovery) = self.tokens.hint();
        let lacks_scope = matches!(refusal, Refusal::Flaw(Flaw::Scope));
        Some(Denied { login: login.to_owned(), detail, lacks_scope, scope: scope.map(str::to_owned), discovery })
    }
}
