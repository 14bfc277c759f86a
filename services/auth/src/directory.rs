//! The answers of the service, from back end and caches together. Nothing here knows gRPC.
//!
//! Who may log in is asked of one back end: of hashes in the database ([`Passwords`]), where a token may stand for the
//! password ([`Bearers`]), or of a server that speaks SASL itself ([`Dovecot`]). Senders, domains and recipients are looked
//! up in the database in both cases. Without one, beside Dovecot, a login owns the sender that is spelt like it, and nobody
//! knows a domain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use moka::future::Cache;
use staffetta_config::{Auth, Backend, Sql};
use staffetta_queue::Revocations;

use crate::BackendProblem;
use crate::address;
use crate::aliases::{self, Located};
use crate::bearers::Bearers;
use crate::cache::Verified;
use crate::decoys::Decoys;
use crate::dovecot::{Dovecot, Unavailable};
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::sql::{DEADLINE, Store, StoreError};
use crate::token::Tokens;

/// How long an owned sender is believed, if `cache_ttl` is not shorter: spares a query for each message of a busy
/// session.
const SENDER_TTL: Duration = Duration::from_secs(5);

/// Pairs of login and sender kept.
const MAX_SENDERS: u64 = 50_000;

/// Why a look-up has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookUpError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Which domains are ours, Dovecot does not say.
    #[error("auth.backend = \"dovecot\" knows no domains and recipients without [auth.sql]")]
    NoStore,
}

/// Why the back end is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Dovecot(#[from] Unavailable),
}

impl NotReady {
    /// The operator has to change something; waiting does not help.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permanent(),
            Self::Dovecot(error) => error.is_permanent(),
        }
    }
}

/// Who owns a sender address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The login that was asked about; for so long nobody need ask again.
    Login(Duration),
    Somebody,
    Nobody,
}

/// Who knows the accounts.
pub(crate) enum Logins {
    /// Hashes in the database, tokens for the accounts there, and the mechanisms that are offered for them.
    Sql(Arc<Passwords>, Option<Arc<Bearers>>, Vec<&'static str>),
    /// Dovecot; senders and the rest are in the database, if there is one.
    Dovecot(Dovecot, Option<Box<Store>>),
}

/// The one who knows.
pub(crate) struct Directory {
    logins: Logins,
    verified: Verified,
    /// Pairs of login and sender, with what had been heard of revocations, and when.
    owned: Cache<(String, String), (u64, Instant)>,
    /// How long they are kept.
    owned_for: Duration,
    revocations: Revocations,
}

impl Directory {
    /// Over the back end of this configuration; connects in the background. Hashes one password, so call it off the
    /// async threads' hot path.
    pub(crate) fn new(config: &Auth, metrics: &Metrics, revocations: Revocations) -> anyhow::Result<Self> {
        let verified = Verified::new(config.cache_ttl, revocations.clone());
        let logins = match config.backend {
            Backend::Sql => {
                let store = Store::new(&config.sql, metrics.clone())?;
                let decoys = Decoys::new(config.scram_secret.as_ref());
                let passwords = Passwords::new(store, verified.clone(), decoys, metrics.clone()).context("auth.sql")?;
                let tokens = tokens(config, metrics)?;
                let bearers = tokens.map(|tokens| Bearers::new(tokens, verified.clone(), metrics.clone()));
                bearers.iter().for_each(Bearers::prepare);
                let offered = config.mechanisms.iter().map(|mechanism| mechanism.name()).collect();
                Logins::Sql(Arc::new(passwords), bearers.map(Arc::new), offered)
            }
            Backend::Dovecot => {
                let store =
                    config.has_sql.then(|| Store::without_accounts(&config.sql, metrics.clone())).transpose()?;
                Logins::Dovecot(Dovecot::new(config.dovecot.socket.clone(), metrics.clone()), store.map(Box::new))
            }
        };
        let owned_for = SENDER_TTL.min(config.cache_ttl);
        let owned = Cache::builder().max_capacity(MAX_SENDERS).time_to_live(owned_for).build();
        Ok(Self { logins, verified, owned, owned_for, revocations })
    }

    /// Who knows the accounts, for an exchange.
    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Credentials that were right a moment ago.
    pub(crate) fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The mechanisms that can be used; `None` as long as nobody knows.
    pub(crate) fn mechanisms(&self) -> Option<Vec<String>> {
        match &self.logins {
            Logins::Sql(_, _, offered) => Some(offered.iter().map(|name| (*name).to_owned()).collect()),
            Logins::Dovecot(dovecot, _) => dovecot.mechanisms().map(|offered| offered.to_vec()),
        }
    }

    /// Is everything there that answers come from?
    pub(crate) async fn probe(&self) -> Result<(), NotReady> {
        if let Logins::Dovecot(dovecot, _) = &self.logins {
            dovecot.probe().await?;
        }
        match self.store() {
            Some(store) => Ok(store.probe().await?),
            None => Ok(()),
        }
    }

    /// Looks at the accounts, if that is of use. Where the database is away, nothing is known of them yet.
    pub(crate) async fn look_at_accounts(&self, sql: &Sql) {
        if let Logins::Sql(passwords, _, offered) = &self.logins
            && offered.iter().any(|name| name.starts_with("SCRAM-"))
        {
            passwords.look_at(sql).await;
        }
    }

    /// Ends the connections to the database; that to Dovecot ends with the last exchange.
    pub(crate) async fn close(&self) {
        if let Some(store) = self.store() {
            store.close().await;
        }
    }

    fn store(&self) -> Option<&Store> {
        match &self.logins {
            Logins::Sql(passwords, ..) => Some(passwords.store()),
            Logins::Dovecot(_, store) => store.as_deref(),
        }
    }

    /// Who owns this sender, this login, another or nobody? The first key that the back end knows decides, as in Postfix's
    /// `smtpd_sender_login_maps`.
    pub(crate) async fn owner(&self, login: &str, sender: &str) -> Result<Owner, LookUpError> {
        let Some(store) = self.store() else {
            let own = login.to_lowercase() == sender.to_lowercase();
            return Ok(if own { Owner::Login(self.owned_for) } else { Owner::Nobody });
        };
        let pair = (login.to_owned(), sender.to_owned());
        if let Some((since, asked)) = self.owned.get(&pair).await
            && !self.revocations.is_revoked(login, since)
        {
            return Ok(Owner::Login(self.owned_for.saturating_sub(asked.elapsed())));
        }
        let (since, asked) = (self.revocations.version(), Instant::now());
        for key in address::keys(sender) {
            let owners = store.owners(&key, login).await?;
            if owners.is_empty() {
                continue;
            }
            if !owners.iter().any(|owner| owner.eq_ignore_ascii_case(login)) {
                return Ok(Owner::Somebody);
            }
            self.owned.insert(pair, (since, asked)).await;
            return Ok(Owner::Login(self.owned_for.saturating_sub(asked.elapsed())));
        }
        Ok(Owner::Nobody)
    }

    /// Is it one of our domains?
    pub(crate) async fn has_domain(&self, domain: &str) -> Result<bool, LookUpError> {
        let store = self.store().ok_or(LookUpError::NoStore)?;
        Ok(aliases::is_ours(store, domain).await?)
    }

    /// Is there a mailbox, an alias or a catch-all for it, and where does its mail go?
    pub(crate) async fn locate(&self, recipient: &str) -> Result<Located, LookUpError> {
        let store = self.store().ok_or(LookUpError::NoStore)?;
        let located = tokio::time::timeout(DEADLINE, aliases::locate(store, recipient)).await;
        Ok(located.map_err(|_| StoreError::Timeout)??)
    }
}

/// Who judges tokens, if one may come.
pub(crate) fn tokens(config: &Auth, metrics: &Metrics) -> Result<Option<Tokens>, BackendProblem> {
    let may_come = config.backend == Backend::Sql && config.mechanisms.iter().any(|mechanism| mechanism.is_oauth());
    if may_come { Tokens::new(&config.oauth, metrics) } else { Ok(None) }
}
