//! One login tried as the service would try it, for `staffetta auth test`: without its cache, without its limits, and with
//! the reason that no client is told.

use secrecy::{ExposeSecret as _, SecretString};
use staffetta_config::Auth;

use crate::BackendProblem;
use crate::hashing::{HashError, Hashing};
use crate::metrics::Metrics;
use crate::passwords::{Refusal, account};
use crate::scheme;
use crate::sql::Store;

/// What came of it.
#[derive(Debug)]
pub struct Trial {
    /// As the back end spells it, if it is there.
    pub login: Option<String>,
    /// What its password is stored under.
    pub scheme: Option<String>,
    /// The answer that a client would get.
    pub verdict: Verdict,
}

/// The answer that a client would get.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `235`
    Accepted,
    /// `535`, and why.
    Refused(String),
    /// `454`, and why.
    Temporary(String),
}

/// Tries a login in the database.
///
/// # Errors
/// The database cannot be asked.
pub async fn try_login(config: &Auth, login: &str, password: &SecretString) -> Result<Trial, BackendProblem> {
    let store = Store::new(&config.sql, Metrics::new())?;
    let found = account(&store, login).await;
    store.close().await;
    let Some(found) = found? else {
        return Ok(Trial { login: None, scheme: None, verdict: refused(&Refusal::UnknownLogin) });
    };
    let stored = found.password.filter(|stored| !stored.expose_secret().is_empty());
    let scheme = stored.as_ref().map(|stored| scheme::named(stored.expose_secret()));
    let verdict = match stored {
        None => refused(&Refusal::NoPassword),
        Some(stored) if scheme::is_locked(stored.expose_secret()) => refused(&Refusal::Locked),
        Some(stored) => verify(stored, password.clone()).await,
    };
    Ok(Trial { login: Some(found.login), scheme, verdict })
}

async fn verify(stored: SecretString, password: SecretString) -> Verdict {
    match Hashing::new(Metrics::new()).verify(stored, password).await {
        Ok(true) => Verdict::Accepted,
        Ok(false) => refused(&Refusal::WrongPassword),
        Err(error) => Verdict::Temporary(HashError::to_string(&error)),
    }
}

fn refused(refusal: &Refusal) -> Verdict {
    Verdict::Refused(refusal.to_string())
}
