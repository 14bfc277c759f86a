//! Passwords against the hashes of the database.
//!
//! An unknown login costs the same time as a wrong password: the password is then verified against the stored string
//! seen last, and the result thrown away. (Accounts under schemes of different cost can still be told apart by who
//! measures long enough.)

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use staffetta_config::Sql;

use crate::address;
use crate::cache::Verified;
use crate::decoys::{self, Decoys};
use crate::hashing::{HashError, Hashing};
use crate::limits::{Admitted, Limits};
use crate::metrics::Metrics;
use crate::sasl::{Credentials, Recalled};
use crate::scheme::{self, SchemeError, Scram};
use crate::sql::{Account, Store, StoreError};
use crate::survey;

/// Longest look at the accounts at the start.
const LOOK: Duration = Duration::from_secs(5);

/// Why credentials were not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such account.
    #[error("unknown login")]
    UnknownLogin,
    /// The account exists, the password is another one.
    #[error("wrong password")]
    WrongPassword,
    /// The account has no password: NULL in the database.
    #[error("the account has no password")]
    NoPassword,
    /// The account's hash is one that nothing matches.
    #[error("the account is locked")]
    Locked,
    /// The back end does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password could not be checked.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Refusal {
    /// Nobody knows whether the credentials are right.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::UnknownLogin | Self::WrongPassword | Self::NoPassword | Self::Locked => false,
            Self::Store(_) | Self::Hash(_) => true,
        }
    }
}

/// What is known of an account beside its verifier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) limits: Limits,
    /// Under what its password is stored.
    pub(crate) scheme: Option<&'static str>,
}

impl Known {
    fn of(account: &Account) -> Self {
        let stored = account.password.as_ref().map(|stored| scheme::check(stored.expose_secret()));
        Self { limits: account.limits, scheme: stored.and_then(Result::ok).map(|demand| demand.scheme) }
    }
}

/// The accounts of a database.
pub(crate) struct Passwords {
    store: Store,
    hashing: Hashing,
    verified: Verified,
    /// What an unknown login is measured against.
    seen: Mutex<SecretString>,
    decoys: Decoys,
    metrics: Metrics,
}

impl Passwords {
    /// Over this database. Hashes one password.
    pub(crate) fn new(store: Store, verified: Verified, decoys: Decoys, metrics: Metrics) -> Result<Self, SchemeError> {
        let decoy = scheme::hash(scheme::DEFAULT, &SecretString::from(rand::random::<u64>().to_string()))?;
        let hashing = Hashing::new(metrics.clone());
        Ok(Self { store, hashing, verified, seen: Mutex::new(decoy.into()), decoys, metrics })
    }

    /// Looks once at what accounts have, so that those who do not exist look like them from the first question on.
    pub(crate) async fn look_at(&self, sql: &Sql) {
        if let Ok(Some(iterations)) = tokio::time::timeout(LOOK, survey::iterations(sql)).await {
            self.decoys.remember(iterations);
        }
    }

    /// The database.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whom these credentials let in.
    pub(crate) async fn authenticate(&self, credentials: &Credentials) -> Result<Admitted, Arc<Refusal>> {
        let Credentials { login, password } = credentials;
        let key = self.verified.key([login.as_bytes(), password.expose_secret().as_bytes()]);
        let cached = self.verified.find(key.as_ref()).await;
        self.metrics.cache(cached.is_some());
        match cached {
            Some(admitted) => Ok(admitted),
            None => self.verified.verify(key, || self.verify(credentials)).await,
        }
    }

    async fn verify(&self, credentials: &Credentials) -> Result<Admitted, Refusal> {
        let account = account(&self.store, &credentials.login).await?;
        let Some(Account { login, password: stored, limits }) = account else {
            return self.pretend(credentials, Refusal::UnknownLogin).await;
        };
        let stored = match usable(stored) {
            Ok(stored) => stored,
            Err(refusal) => return self.pretend(credentials, refusal).await,
        };
        let demand = scheme::check(stored.expose_secret()).map_err(HashError::from)?;
        let right = self.hashing.verify(stored.clone(), credentials.password.clone()).await?;
        if demand.slow {
            self.remember(stored);
        }
        if !right {
            return Err(Refusal::WrongPassword);
        }
        self.metrics.proven(demand.scheme);
        Ok(Admitted::new(login, limits))
    }

    /// What a proof by this login is checked by, and what it may send. Who does not exist, is locked, or has another
    /// kind of hash gets a decoy, after the same work: a verifier is made of a password in every case, since some are
    /// stored in clear.
    pub(crate) async fn recall(&self, login: &str) -> Result<(Recalled, Known), Refusal> {
        let account = account(&self.store, login).await?;
        let known = account.as_ref().map(Known::of).unwrap_or_default();
        let (canonical, found) = match account {
            None => (login.to_owned(), Err("unknown login")),
            Some(Account { login, password, .. }) => match usable(password) {
                Ok(stored) => (login, Ok(scheme::scram(stored.expose_secret()).map_err(HashError::from)?)),
                Err(Refusal::Locked) => (login, Err("the account is locked")),
                Err(_) => (login, Err("the account has no password")),
            },
        };
        let password = match &found {
            Ok(Scram::Password(password)) => password.clone(),
            _ => SecretString::from("x"),
        };
        let derived = self.hashing.derive(password, self.decoys.salt(&canonical), decoys::ITERATIONS).await?;
        let (verifier, refused) = match found {
            Ok(Scram::Verifier(verifier)) => {
                self.decoys.remember(verifier.iterations);
                (verifier, None)
            }
            Ok(Scram::Password(_)) => (derived, None),
            Ok(Scram::Nothing) => (self.decoys.verifier(&canonical), Some("the stored hash is not one for SCRAM")),
            Err(detail) => (self.decoys.verifier(&canonical), Some(detail)),
        };
        Ok((Recalled { login: canonical, verifier, refused }, known))
    }

    /// Lets a client in that has proven by other means than a password to be each of these: as the first that is an
    /// account. One without a password will do, a locked one will not.
    pub(crate) async fn admit(&self, names: &[String]) -> Result<Admitted, Refusal> {
        for name in names {
            if let Some(Account { login, password, limits }) = account(&self.store, name).await? {
                let admitted = Admitted::new(login, limits);
                return if is_locked(password) { Err(Refusal::Locked) } else { Ok(admitted) };
            }
        }
        Err(Refusal::UnknownLogin)
    }

    /// Takes the time that a wrong password takes. Whatever comes out the answer is no, unless nothing comes out: then
    /// it is the one that a login that exists would get, so that overload does not tell which logins exist.
    async fn pretend(&self, credentials: &Credentials, refusal: Refusal) -> Result<Admitted, Refusal> {
        let decoy = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.hashing.verify(decoy, credentials.password.clone()).await?;
        Err(refusal)
    }

    fn remember(&self, stored: SecretString) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stored;
    }
}

/// The account of a login, as it is spelt or in lower case.
pub(crate) async fn account(store: &Store, login: &str) -> Result<Option<Account>, StoreError> {
    for login in address::spellings(login) {
        if let Some(account) = store.account(&login).await? {
            return Ok(Some(account));
        }
    }
    Ok(None)
}

/// What a password can be compared with, or why nobody can log in.
pub(crate) fn usable(stored: Option<SecretString>) -> Result<SecretString, Refusal> {
    match stored.filter(|stored| !stored.expose_secret().is_empty()) {
        Some(stored) if scheme::is_locked(stored.expose_secret()) => Err(Refusal::Locked),
        Some(stored) => Ok(stored),
        None => Err(Refusal::NoPassword),
    }
}

/// May nobody come in, by whatever other proof? An account without a password is open to those.
pub(crate) fn is_locked(stored: Option<SecretString>) -> bool {
    matches!(usable(stored), Err(Refusal::Locked))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
    use staffetta_config::Config;

    use super::*;
    use crate::accounts::Accounts;

    /// The passwords of a database in which `cheap@example.org` has a cheap hash of "summersun", and `locked@example.org`
    /// none.
    async fn passwords(folder: &tempfile::TempDir) -> (Passwords, String) {
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        let sql = Config::parse(&format!("hostname = \"a.example\"\nauth.sql.url = {url:?}\n"), "t").unwrap().auth.sql;
        let accounts = Accounts::open(&sql).await.unwrap();
        accounts.add("john@example.org", &"moonlight".into()).await.unwrap();
        accounts.close().await;
        let cheap = scheme::hash("SSHA512", &"summersun".into()).unwrap();
        let insert = |email: &str, password: &str| {
            format!(
                "INSERT INTO virtual_users (domain_id, email, password) SELECT id, '{email}', {password} FROM virtual_domains;"
            )
        };
        let rows = insert("cheap@example.org", &format!("'{cheap}'")) + &insert("locked@example.org", "NULL");
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
        let store = Store::new(&sql, Metrics::new()).unwrap();
        let config = Config::parse("hostname = \"a.example\"\nredis.url = \"redis://127.0.0.1:1\"\n", "t").unwrap();
        let end = tokio_util::sync::CancellationToken::new();
        let revocations = staffetta_queue::Revocations::follow(&(&config).into(), end).unwrap();
        let verified = Verified::new(Duration::ZERO, revocations);
        (Passwords::new(store, verified, Decoys::new(None), Metrics::new()).unwrap(), cheap)
    }

    fn seen(passwords: &Passwords) -> String {
        passwords.seen.lock().unwrap().expose_secret().to_owned()
    }

    async fn refusal(passwords: &Passwords, login: &str) -> Refusal {
        let credentials = Credentials { login: login.to_owned(), password: "wrong".into() };
        Arc::into_inner(passwords.authenticate(&credentials).await.unwrap_err()).unwrap()
    }

    #[tokio::test]
    async fn an_unknown_login_is_measured_against_the_scheme_that_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let (passwords, cheap) = passwords(&folder).await;
        assert!(seen(&passwords).starts_with("{ARGON2ID}"), "before anybody has come: what new accounts get");
        assert!(matches!(refusal(&passwords, "cheap@example.org").await, Refusal::WrongPassword));
        assert_eq!(seen(&passwords), cheap);
        assert!(matches!(refusal(&passwords, "nobody@example.org").await, Refusal::UnknownLogin));
        assert!(matches!(refusal(&passwords, "locked@example.org").await, Refusal::NoPassword));
        assert_eq!(seen(&passwords), cheap, "who is not there changes nothing");
        assert!(matches!(refusal(&passwords, "john@example.org").await, Refusal::WrongPassword));
        assert!(seen(&passwords).starts_with("{ARGON2ID}"));
    }
}
