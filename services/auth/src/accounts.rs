//! Accounts in the SQL back end, for the command line: what `staffetta user` does.
//!
//! Works on the ISPmail tables (`virtual_domains`, `virtual_users`) in all three databases. On SQLite,
//! [`Accounts::open`] makes the file and the tables; for the others their SQL is in `services/auth/schema/`. Addresses
//! are stored in lower case, as Postfix and Dovecot look them up. Passwords come in clear and are hashed here under
//! [`crate::scheme::DEFAULT`]; the call takes tens of milliseconds.

use secrecy::SecretString;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};
use staffetta_config::Sql;
use staffetta_mail::Address;

use crate::scheme::{self, SchemeError};
use crate::sql::query::Dialect;
use crate::sql::{Pool, SqliteFile, UrlError, each};

/// Why nothing was changed. Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Not an address of a mailbox.
    #[error("{0:?} is not an address of the form user@domain")]
    Address(String),
    /// Add was asked for an account that exists.
    #[error("{0} exists already; change its password with `staffetta user password`")]
    Exists(String),
    /// Remove or set password was asked for one that does not.
    #[error("there is no account {0}")]
    Unknown(String),
    /// The password cannot be hashed.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// An empty password would never be accepted.
    #[error("the password is empty")]
    EmptyPassword,
    /// The tables are not those of ISPmail, or the database does not answer.
    #[error("the accounts need the ISPmail tables virtual_domains and virtual_users: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables of SQLite could not be made.
    #[error("the tables could not be made: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// An open connection to the accounts.
#[derive(Clone, Debug)]
pub struct Accounts {
    pool: Pool,
}

impl Accounts {
    /// Connects. A SQLite file is made when missing, and brought to the current schema.
    ///
    /// # Errors
    /// The URL is wrong, the database does not answer, the tables cannot be made.
    pub async fn open(sql: &Sql) -> Result<Self, AccountError> {
        let pool = Pool::new(&sql.url, SqliteFile::Create)?;
        if let Pool::Sqlite(pool) = &pool {
            migrator().run(pool).await?;
        }
        Ok(Self { pool })
    }

    /// Adds an account, and its domain when that is missing.
    ///
    /// # Errors
    /// [`AccountError::Exists`] for a duplicate; nothing is changed then.
    pub async fn add(&self, address: &str, password: &SecretString) -> Result<(), AccountError> {
        let (address, domain) = parse(address)?;
        let hash = hashed(password).await?;
        let insert_domain = self.sql("INSERT INTO virtual_domains (name) VALUES (?)");
        let insert_user = self.sql(
            "INSERT INTO virtual_users (domain_id, email, password) SELECT id, ?, ? FROM virtual_domains WHERE name = ?",
        );
        let select_domain = self.sql("SELECT 1 FROM virtual_domains WHERE name = ?");
        let result = each!(&self.pool, pool => async {
            let mut transaction = pool.begin().await?;
            let select = sqlx::query(AssertSqlSafe(select_domain)).bind(&domain);
            if select.fetch_optional(&mut *transaction).await?.is_none() {
                sqlx::query(AssertSqlSafe(insert_domain)).bind(&domain).execute(&mut *transaction).await?;
            }
            let insert = sqlx::query(AssertSqlSafe(insert_user)).bind(&address).bind(&hash).bind(&domain);
            insert.execute(&mut *transaction).await?;
            transaction.commit().await
        }.await);
        match result {
            Err(error) if is_duplicate(&error) && self.list().await?.contains(&address) => {
                Err(AccountError::Exists(address))
            }
            result => Ok(result?),
        }
    }

    /// Removes an account; its domain stays.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] if there is none.
    pub async fn remove(&self, address: &str) -> Result<(), AccountError> {
        let (address, _) = parse(address)?;
        let sql = self.sql("DELETE FROM virtual_users WHERE LOWER(email) = ?");
        let removed = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&address).execute(pool).await?.rows_affected()
        });
        found(removed, address)
    }

    /// All accounts, sorted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list(&self) -> Result<Vec<String>, AccountError> {
        const LIST: &str = "SELECT email FROM virtual_users ORDER BY email";
        Ok(each!(&self.pool, pool => {
            let rows = sqlx::query(LIST).fetch_all(pool).await?;
            rows.iter().map(|row| row.try_get("email")).collect::<Result<_, sqlx::Error>>()?
        }))
    }

    /// Replaces the password. Services that cached the old one accept it until their `auth.cache_ttl` is over.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] if there is no such account.
    pub async fn set_password(&self, address: &str, password: &SecretString) -> Result<(), AccountError> {
        let (address, _) = parse(address)?;
        let hash = hashed(password).await?;
        let sql = self.sql("UPDATE virtual_users SET password = ? WHERE LOWER(email) = ?");
        let changed = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&hash).bind(&address).execute(pool).await?.rows_affected()
        });
        found(changed, address)
    }

    /// Ends the connections; a SQLite file is complete on disk afterwards.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Our own texts, written with `?`, in the database's dialect.
    fn sql(&self, text: &'static str) -> String {
        if self.pool.dialect() != Dialect::Postgres {
            return text.to_owned();
        }
        let mut parts = text.split('?');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for (number, part) in parts.enumerate() {
            sql.push_str(&format!("${}{part}", number + 1));
        }
        sql
    }
}

/// The schema of SQLite, step by step. Steps are added, never changed: databases remember their checksums.
fn migrator() -> Migrator {
    let ispmail = include_str!("../schema/sqlite/0001_ispmail.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(1, "ispmail".into(), MigrationType::Simple, ispmail, false)])
}

/// The address and its domain, in lower case.
fn parse(address: &str) -> Result<(String, String), AccountError> {
    let wrong = || AccountError::Address(address.to_owned());
    let lower = address.trim().to_lowercase();
    let parsed: Address = lower.parse().map_err(|_| wrong())?;
    let (_, domain) = parsed.as_str().rsplit_once('@').ok_or_else(wrong)?;
    Ok((lower, domain.to_owned()))
}

async fn hashed(password: &SecretString) -> Result<String, AccountError> {
    use secrecy::ExposeSecret as _;
    if password.expose_secret().is_empty() {
        return Err(AccountError::EmptyPassword);
    }
    let password = password.clone();
    let task = tokio::task::spawn_blocking(move || scheme::hash(scheme::DEFAULT, &password));
    Ok(task.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
}

/// Of an account, or of a domain that somebody else added at the same time.
fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

fn found(rows: u64, address: String) -> Result<(), AccountError> {
    if rows == 0 { Err(AccountError::Unknown(address)) } else { Ok(()) }
}
