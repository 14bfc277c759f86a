//! The auth service: who is this, which senders do they own, which domains and recipients are ours.
//!
//! [`run`] serves the contract of `staffetta-proto` over gRPC until it is told to stop. Inside, a call passes from
//! `service` (gRPC) to `exchange` (one SASL conversation). With accounts in a database, `sasl` (the mechanisms, without
//! I/O) understands it, and `passwords` judges it with `sql` (the operator's queries) and `hashing` with [`scheme`], or
//! `bearers` with `token` (what an identity provider says of a token) and `sql`; with accounts in Dovecot, `dovecot` passes
//! it on. `directory` puts them together with `cache` (credentials verified a moment ago) and answers what else is asked.
//! For the command line, [`accounts`] changes what the service reads, `trial` and `survey` try it.
//!
//! Follows RFC 4422 (SASL), RFC 4616 (PLAIN), RFC 4954 (AUTH), RFC 7628 (OAUTHBEARER), and Postfix and Dovecot where
//! operators expect it.

pub mod accounts;
mod address;
mod aliases;
mod bearers;
mod cache;
mod decoys;
mod directory;
mod dovecot;
mod exchange;
mod hashing;
mod limits;
mod metrics;
mod passwords;
mod probe;
mod sasl;
pub mod scheme;
mod server;
mod service;
mod sql;
mod survey;
mod text;
mod tls;
mod token;
mod trial;

use staffetta_config::{Auth, Backend};
use staffetta_transport::live::Live;
use tokio_util::sync::CancellationToken;

pub use self::limits::{Allowance, Limits};
pub use self::server::{DRAIN, Server};
pub use self::sql::{ConfigError, QueryError, UrlError};
pub use self::survey::warnings;
pub use self::trial::{Trial, Verdict, try_login};

/// Serves until `shutdown` is cancelled and the calls under way have ended.
///
/// # Errors
/// A start that cannot work, see [`Server::bind`]. A back end that is down is not one.
pub async fn run(config: impl Into<Live>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = config.into().current();
    Server::bind(&config).await?.serve(shutdown).await
}

/// What is wrong with a back end; `key` is where the operator has to look.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BackendProblem {
    /// A key of the configuration file, such as `auth.sql.password_query`.
    pub key: &'static str,
    /// What is wrong there, or what the database said.
    pub problem: String,
}

/// Tries Dovecot's socket, if the accounts are there, and the database with all queries that are used, as the service
/// does at its start, and changes nothing.
///
/// # Errors
/// The first problem found; a back end that does not answer is one. Ends within 10 s.
pub async fn check(config: &Auth) -> Result<(), BackendProblem> {
    let metrics = metrics::Metrics::new();
    let store = match config.backend {
        Backend::Sql => sql::Store::new(&config.sql, metrics)?,
        Backend::Dovecot => {
            dovecot::Dovecot::check(&config.dovecot.socket).await?;
            if !config.has_sql {
                return Ok(());
            }
            sql::Store::without_accounts(&config.sql, metrics)?
        }
    };
    let result = store.probe().await;
    store.close().await;
    Ok(result?)
}

/// Reads the keys by which tokens are checked, or asks the identity provider about a token that nobody has, if
/// `auth.mechanisms` lets tokens come.
///
/// # Errors
/// What is wrong with a file, an address or what is there; `key` is below `auth.oauth`. Ends within 5 s.
pub async fn check_tokens(config: &Auth) -> Result<(), BackendProblem> {
    match directory::tokens(config, &metrics::Metrics::new())? {
        Some(tokens) => tokens.probe().await,
        None => Ok(()),
    }
}

/// Declares every family of metrics with its series, for docs/metrics.md.
pub fn declare_metrics() {
    metrics::declare();
}
