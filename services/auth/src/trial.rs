//! One login tried as the service would try it, for `staffetta auth test`: without its cache, without its limits, and with
//! the reason that no client is told.

use secrecy::{ExposeSecret as _, SecretString};
use staffetta_config::Auth;

use crate::BackendProblem;
use crate::hashing::{HashError, Hashing};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::passwords::{Refusal, account, usable};
use crate::scheme;
use crate::sql::Store;

/// What came of it.
#[derive(Debug)]
pub struct Trial {
    /// As the back end spells it, if it is there.
    pub login: Option<String>,
    /// What its password is stored under.
    pub scheme: Option<String>,
    /// What the account may send, where its row says so.
    pub limits: Limits,
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
        return Ok(Trial {
            login: None,
            scheme: None,
            limits: Limits::default(),
            verdict: refused(&Refusal::UnknownLogin),
        });
    };
    let text = found.password.as_ref().map(|stored| stored.expose_secret()).filter(|text| !text.is_empty());
    let scheme = text.and_then(scheme::shown);
    let verdict = match usable(found.password) {
        Ok(stored) => verify(stored, password.clone()).await,
        Err(refusal) => refused(&refusal),
    };
    Ok(Trial { login: Some(found.login), scheme, limits: found.limits, verdict })
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
