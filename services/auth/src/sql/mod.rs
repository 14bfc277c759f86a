//! The SQL back end: SQLite, PostgreSQL or MySQL/MariaDB, chosen by the URL, asked with the operator's own queries.
//!
//! [`Store::new`] checks URL and queries without a connection; connections are made when first needed, at most
//! [`MAX_CONNECTIONS`] of them. Every question ends within [`DEADLINE`]. An error means "nobody knows", never "no".
//! Columns are found by name, values are always bound.

mod lexer;
mod pool;
pub(crate) mod query;
pub(crate) mod said;

use std::time::{Duration, Instant};

use staffetta_config::Sql;

pub use self::pool::UrlError;
pub(crate) use self::pool::{Pool, SqliteFile, each};
pub use self::query::QueryError;
use self::query::{Kind, Query, Values};
use self::said::said;
use crate::BackendProblem;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// Connections of one process to the database.
pub(crate) const MAX_CONNECTIONS: u32 = 16;

/// The longest wait for an answer, the wait for a free connection included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Rows read of one answer; more owners of one address than this are not believed.
pub(crate) const MAX_ROWS: usize = 1000;

/// A configuration that cannot work, found without asking the database.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing came back in time: the database hangs or is overloaded.
    #[error("no answer from the database within {} s", DEADLINE.as_secs())]
    Timeout,
    /// No connection: it is down, the name does not resolve, the credentials are wrong.
    #[error("no connection to the database: {}", said(.0))]
    Connect(sqlx::Error),
    /// The database refused the query, or the connection broke while it ran.
    #[error("{}: {}", kind.key(), said(error))]
    Query { kind: Kind, error: sqlx::Error },
    /// The operator's query names its columns otherwise.
    #[error("{}: {}", kind.key(), missing(column))]
    MissingColumn { kind: Kind, column: &'static str },
    /// One login must be one account.
    #[error("{}: returned more than one row for one login", Kind::Password.key())]
    Ambiguous,
}

impl StoreError {
    /// The operator has to change something; waiting does not help.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Timeout | Self::Connect(_) | Self::Ambiguous => false,
            Self::Query { error, .. } => matches!(error, sqlx::Error::Database(_)),
            Self::MissingColumn { .. } => true,
        }
    }
}

impl From<ConfigError> for BackendProblem {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Url(error) => Self { key: UrlError::KEY, problem: error.problem() },
            ConfigError::Query(error) => Self { key: error.key, problem: error.problem },
        }
    }
}

impl From<StoreError> for BackendProblem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Query { kind, error } => Self { key: kind.key(), problem: said(&error) },
            StoreError::MissingColumn { kind, column } => Self { key: kind.key(), problem: missing(column) },
            error => Self { key: UrlError::KEY, problem: error.to_string() },
        }
    }
}

fn missing(column: &str) -> String {
    format!("returns no column `{column}`; write `… AS {column}`")
}

/// An account as stored.
#[derive(Debug)]
pub(crate) struct Account {
    /// As the back end spells it.
    pub(crate) login: String,
    /// With its scheme; absent: no login is possible.
    pub(crate) password: Option<secrecy::SecretString>,
    /// What it may send, if the query says so.
    pub(crate) limits: Limits,
}

/// The database and the queries, shared by all calls.
pub(crate) struct Store {
    pool: Pool,
    /// Absent where somebody else knows the passwords.
    password: Option<Query>,
    sender: Query,
    domain: Query,
    recipient: Query,
    /// Absent where there are no aliases.
    alias: Option<Query>,
    metrics: Metrics,
}

impl Store {
    /// Checks URL and queries; connects to nothing.
    pub(crate) fn new(sql: &Sql, metrics: Metrics) -> Result<Self, ConfigError> {
        let store = Self::without_accounts(sql, metrics)?;
        let password = Query::parse(Kind::Password, store.pool.dialect(), &sql.password_query)?;
        Ok(Self { password: Some(password), ..store })
    }

    /// The same for senders, domains and recipients alone.
    pub(crate) fn without_accounts(sql: &Sql, metrics: Metrics) -> Result<Self, ConfigError> {
        let pool = Pool::new(&sql.url, SqliteFile::MustExist)?;
        let dialect = pool.dialect();
        Ok(Self {
            password: None,
            sender: Query::parse(Kind::Sender, dialect, &sql.sender_query)?,
            domain: Query::parse(Kind::Domain, dialect, &sql.domain_query)?,
            recipient: Query::parse(Kind::Recipient, dialect, &sql.recipient_query)?,
            alias: match &*sql.alias_query {
                "" => None,
                text => Some(Query::parse(Kind::Alias, dialect, text)?),
            },
            pool,
            metrics,
        })
    }

    /// The account with this login, if there is one.
    pub(crate) async fn account(&self, login: &str) -> Result<Option<Account>, StoreError> {
        let Some(query) = &self.password else { return Ok(None) };
        let (local, domain) = parts(login);
        let values = Values { login, local, domain, ..Values::default() };
        let mut rows = self.ask(query, &values).await?;
        if rows.len() > 1 {
            return Err(StoreError::Ambiguous);
        }
        let Some(row) = rows.pop() else { return Ok(None) };
        let [found, password, messages, recipients, size] = <[Option<String>; 5]>::try_from(row).unwrap_or_default();
        let Some(found) = found.filter(|found| means(login, found)) else { return Ok(None) };
        let limits = Limits::read(&found, [messages, recipients, size]);
        Ok(Some(Account { login: found, password: password.map(Into::into), limits }))
    }

    /// The logins that own this sender, as the back end spells them; a row may have several of them.
    pub(crate) async fn owners(&self, sender: &str, login: &str) -> Result<Vec<String>, StoreError> {
        let (local, domain) = parts(sender);
        let values = Values { login, sender, local, domain, ..Values::default() };
        let rows = self.ask(&self.sender, &values).await?;
        Ok(rows.iter().flatten().flatten().flat_map(|names| named(names)).map(str::to_owned).collect())
    }

    /// Is it one of our domains?
    pub(crate) async fn has_domain(&self, domain: &str) -> Result<bool, StoreError> {
        let values = Values { domain, ..Values::default() };
        Ok(!self.ask(&self.domain, &values).await?.is_empty())
    }

    /// Does it lead to a mailbox or an alias of ours?
    pub(crate) async fn has_recipient(&self, recipient: &str) -> Result<bool, StoreError> {
        let (local, domain) = parts(recipient);
        let values = Values { recipient, local, domain, ..Values::default() };
        Ok(!self.ask(&self.recipient, &values).await?.is_empty())
    }

    /// Where an alias of this very name leads, as the back end has it: a row may name several. `None`: it is none. More than
    /// [`MAX_ROWS`] rows are [`MAX_ROWS`] and one.
    pub(crate) async fn destinations(&self, recipient: &str) -> Result<Option<Vec<String>>, StoreError> {
        let Some(query) = &self.alias else { return Ok(None) };
        let (local, domain) = parts(recipient);
        let values = Values { recipient, local, domain, ..Values::default() };
        let rows = self.ask_for(query, &values, MAX_ROWS + 1).await?;
        Ok((!rows.is_empty()).then(|| rows.into_iter().flatten().flatten().collect()))
    }

    /// Lets the database parse all queries; true answers to all later questions are then likely.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let others = [&self.sender, &self.domain, &self.recipient];
        let queries: Vec<&Query> = self.password.iter().chain(others).chain(&self.alias).collect();
        tokio::time::timeout(DEADLINE, self.pool.prepare(&queries)).await.map_err(|_| StoreError::Timeout)?
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    async fn ask(&self, query: &Query, values: &Values<'_>) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        self.ask_for(query, values, MAX_ROWS).await
    }

    async fn ask_for(
        &self,
        query: &Query,
        values: &Values<'_>,
        rows: usize,
    ) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        let started = Instant::now();
        let answer = tokio::time::timeout(DEADLINE, self.pool.rows(query, values, rows)).await;
        self.metrics.sql(query.kind, started.elapsed());
        answer.map_err(|_| StoreError::Timeout)?
    }
}

/// Is the account that was found the one that was asked for? Many collations of MySQL ignore accents and blanks at the end:
/// whoever may guess a password of `john` ten times would do so again as `jöhn`, `jóhn`, … A login in ASCII, without blanks
/// around it, may stand for an account of any name: the query decides.
fn means(login: &str, found: &str) -> bool {
    let (asked, found) = (login.to_lowercase(), found.to_lowercase());
    let is_short = || found.rsplit_once('@').is_some_and(|(local, _)| local == asked);
    asked == found || login.is_ascii() && login.trim() == login || is_short()
}

/// Whom a row of owners names: one login, which may have a comma in it, or several with commas between them.
fn named(row: &str) -> impl Iterator<Item = &str> {
    let several = row.contains(',').then(|| row.split(',').map(str::trim).filter(|name| !name.is_empty()));
    std::iter::once(row).chain(several.into_iter().flatten())
}

/// What stands before and behind the last `@`; without one there is no domain.
fn parts(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}
