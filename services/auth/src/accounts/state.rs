//! What is known of accounts, and whether they may log in.
//!
//! A disabled account keeps its hash behind a `!`, as `passwd -l` writes it, or has that alone, if it has no password (it may
//! log in by a token or a certificate): Staffetta refuses it, and so does whatever else reads the table.

use sqlx::{AssertSqlSafe, Row as _};

use super::{AccountError, Accounts, found, parse};
use crate::scheme::{self, LOCK};
use crate::sql::{Pool, each};

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its address.
    pub login: String,
    /// Under what its password is stored; nothing if it has none.
    pub scheme: Option<String>,
    /// Whether it can log in at all.
    pub state: State,
}

/// Whether an account can log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// With its password.
    Enabled,
    /// Its hash is locked.
    Disabled,
    /// There is none: NULL, or empty.
    NoPassword,
    /// Its hash is under a scheme that is not known, or broken: `454 4.7.0`.
    Unreadable,
}

impl State {
    /// For people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::NoPassword => "no password",
            Self::Unreadable => "unreadable password",
        }
    }
}

impl Record {
    pub(super) fn new(login: String, stored: Option<&str>) -> Self {
        let Some(stored) = stored.filter(|stored| !stored.is_empty()) else {
            return Self { login, scheme: None, state: State::NoPassword };
        };
        let state = match scheme::check(stored) {
            _ if scheme::is_locked(stored) => State::Disabled,
            Ok(_) => State::Enabled,
            Err(_) => State::Unreadable,
        };
        Self { login, scheme: scheme::shown(stored), state }
    }
}

impl Accounts {
    /// All accounts, sorted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn records(&self) -> Result<Vec<Record>, AccountError> {
        const ALL: &str = "SELECT email, password FROM virtual_users ORDER BY email";
        Ok(each!(&self.pool, pool => {
            let rows = sqlx::query(ALL).fetch_all(pool).await?;
            let record = |row| Ok(Record::new(row_text(row, "email")?.unwrap_or_default(), row_text(row, "password")?.as_deref()));
            rows.iter().map(record).collect::<Result<_, sqlx::Error>>()?
        }))
    }

    /// One account, and the addresses that lead to it.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] if there is none.
    pub async fn show(&self, address: &str) -> Result<(Record, Vec<String>), AccountError> {
        let (address, _) = parse(address)?;
        let stored = self.stored(&address).await?;
        let sql = self.sql("SELECT source FROM virtual_aliases WHERE LOWER(destination) = ? ORDER BY source");
        let aliases = each!(&self.pool, pool => {
            let rows = sqlx::query(AssertSqlSafe(sql)).bind(&address).fetch_all(pool).await?;
            rows.iter().map(|row| row.try_get("source")).collect::<Result<_, sqlx::Error>>()?
        });
        Ok((Record::new(address, stored.as_deref()), aliases))
    }

    /// Lets nobody log in to it until [`Accounts::enable`]; says whether that is new.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] if there is none.
    pub async fn disable(&self, address: &str) -> Result<bool, AccountError> {
        self.lock(address, |stored| (!scheme::is_locked(stored)).then(|| format!("{LOCK}{stored}"))).await
    }

    /// Takes the lock away that [`Accounts::disable`] put there; says whether there was one.
    ///
    /// # Errors
    /// As [`Accounts::disable`].
    pub async fn enable(&self, address: &str) -> Result<bool, AccountError> {
        self.lock(address, |stored| stored.strip_prefix(LOCK).map(str::to_owned)).await
    }

    async fn lock(&self, address: &str, change: impl Fn(&str) -> Option<String>) -> Result<bool, AccountError> {
        let (address, _) = parse(address)?;
        let stored = self.stored(&address).await?.unwrap_or_default();
        let Some(changed) = change(&stored) else { return Ok(false) };
        // Only if nobody has set another password meanwhile.
        let sql =
            self.sql("UPDATE virtual_users SET password = ? WHERE LOWER(email) = ? AND COALESCE(password, '') = ?");
        let rows = each!(&self.pool, pool => {
            let update = sqlx::query(AssertSqlSafe(sql)).bind(&changed).bind(&address).bind(&stored);
            update.execute(pool).await?.rows_affected()
        });
        found(rows, address).map(|()| true)
    }

    /// The stored password of an account that is there.
    pub(super) async fn stored(&self, address: &str) -> Result<Option<String>, AccountError> {
        let sql = self.sql("SELECT password FROM virtual_users WHERE LOWER(email) = ?");
        let row = each!(&self.pool, pool => {
            let row = sqlx::query(AssertSqlSafe(sql)).bind(address).fetch_optional(pool).await?;
            row.map(|row| row_text(&row, "password")).transpose()?
        });
        row.ok_or_else(|| AccountError::Unknown(address.to_owned()))
    }
}

fn row_text<'r, R: sqlx::Row>(row: &'r R, column: &'static str) -> Result<Option<String>, sqlx::Error>
where
    &'static str: sqlx::ColumnIndex<R>,
    Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    row.try_get(column)
}
