//! Accounts in the SQL back end, for the command line: what `staffetta user` does.
//!
//! Works on the ISPmail tables (`virtual_domains`, `virtual_users`, `virtual_aliases`) in all three databases, and on no
//! others: where [`staffetta_config::Sql`] asks other tables, nothing is opened. On SQLite, [`Accounts::open`] makes the
//! file and the tables; on a server [`init`] does. Addresses are stored in lower case, as Postfix and Dovecot look them
//! up. Passwords come in clear and are hashed here; the call takes tens of milliseconds.

mod alias;
mod domain;
mod state;
mod tables;

use secrecy::SecretString;
use sqlx::migrate::MigrateError;
use sqlx::{AssertSqlSafe, Row as _};
use staffetta_config::Sql;
use staffetta_mail::Address;

pub use self::domain::Domain;
pub use self::state::{Record, State};
use crate::scheme::{self, SchemeError};
use crate::sql::query::Dialect;
use crate::sql::said::{lacks_right, lacks_table, said};
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
    /// No client can send one with a NUL.
    #[error("the password has a NUL, which no client can send")]
    Nul,
    /// The service asks other tables.
    #[error(
        "auth.sql.password_query does not ask virtual_users: `staffetta user` knows only the tables of the ISPmail guide \
         (virtual_domains, virtual_users, virtual_aliases) and touches no others; `staffetta hash` makes a password for yours"
    )]
    Foreign,
    /// The accounts are somebody else's to change.
    #[error(
        "auth.sql.schema is \"postfixadmin\": accounts are changed in PostfixAdmin, and `staffetta user` touches none of its \
         tables (mailbox, alias, domain, alias_domain); `staffetta hash` makes a password for them, `staffetta block login` \
         stops one at once"
    )]
    PostfixAdmin,
    /// The tables are to be made by somebody who knows that.
    #[error("{0}")]
    NoTables(String),
    /// There is no SQLite database yet, or not where the URL says.
    #[error("the database file of auth.sql.url cannot be opened; `staffetta user add` makes one that is not there")]
    NoFile,
    /// Somebody else's tables have the same names.
    #[error(
        "of virtual_domains, virtual_users and virtual_aliases only these are there: {0}; all three are made, or none"
    )]
    Halves(String),
    /// An address cannot be both.
    #[error("{0} is an account itself")]
    AliasIsAccount(String),
    /// Of the alias. All other addresses there would be refused from then on.
    #[error(
        "mail to {0} is not ours: with an alias there it would be, and whoever has neither an account nor an alias in it would be \
         refused; say --new-domain if that is meant"
    )]
    UnknownDomain(String),
    /// The alias does not lead there.
    #[error("{alias} does not lead to {address}")]
    NoAlias {
        /// The address that was to be taken away.
        alias: String,
        /// The account.
        address: String,
    },
    /// Not the name of a domain.
    #[error("{0:?} is no domain, such as example.org")]
    Domain(String),
    /// It is not ours.
    #[error("mail to {0} is not ours")]
    NoDomain(String),
    /// With it they would be gone.
    #[error(
        "{0} has accounts or aliases: remove them first; `staffetta user list` and `staffetta user aliases` show them"
    )]
    DomainInUse(String),
    /// The user of the database may not do it; what the database said.
    #[error(
        "the user of auth.sql.url lacks a right: {0}; `staffetta user` needs SELECT, INSERT, UPDATE and DELETE on \
         virtual_domains, virtual_users and virtual_aliases, and `staffetta user init` CREATE"
    )]
    NoRight(String),
    /// The tables are not those of ISPmail, or the database does not answer; what it said.
    #[error("the database of auth.sql.url cannot be used: {0}")]
    Database(String),
    /// The tables of SQLite could not be made; what the database said.
    #[error("the tables could not be made: {0}")]
    Migrate(String),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            error if lacks_right(&error) => Self::NoRight(said(&error)),
            error if lacks_table(&error) => Self::NoTables(said(&error)),
            error => Self::Database(said(&error)),
        }
    }
}

impl From<MigrateError> for AccountError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if lacks_right(&error) => {
                error.into()
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Self::Migrate(said(&error)),
            error => Self::Migrate(error.to_string()),
        }
    }
}

/// An open connection to the accounts.
#[derive(Clone, Debug)]
pub struct Accounts {
    pool: Pool,
    /// What new passwords are stored under.
    scheme: &'static str,
}

/// Makes the tables of a server; says whether they were missing.
///
/// # Errors
/// The service asks other tables, some of the three are there, or the user of the database may not make any.
pub async fn init(sql: &Sql) -> Result<bool, AccountError> {
    tables::are_read(sql)?;
    let pool = Pool::new(&sql.url, SqliteFile::Create)?;
    let made = tables::make(&pool).await;
    pool.close().await;
    made
}

impl Accounts {
    /// Connects to add accounts. A SQLite file is made when missing, and brought to the current schema.
    ///
    /// # Errors
    /// The URL is wrong, the service asks other tables, the database does not answer or has no such tables.
    pub async fn open(sql: &Sql) -> Result<Self, AccountError> {
        Self::connect(sql, SqliteFile::Create).await
    }

    /// Connects to look at accounts or change them. Makes nothing.
    ///
    /// # Errors
    /// As [`Accounts::open`]; a SQLite file that is not there is one.
    pub async fn existing(sql: &Sql) -> Result<Self, AccountError> {
        Self::connect(sql, SqliteFile::MustExist).await
    }

    async fn connect(sql: &Sql, file: SqliteFile) -> Result<Self, AccountError> {
        tables::are_read(sql)?;
        let pool = Pool::new(&sql.url, file)?;
        if file == SqliteFile::Create {
            tables::migrate(&pool).await?;
        }
        if !tables::exist(&pool).await? {
            let what = "there is no table virtual_users; `staffetta user init` makes the tables of the ISPmail guide";
            return Err(AccountError::NoTables(what.to_owned()));
        }
        Ok(Self { pool, scheme: scheme::DEFAULT })
    }

    /// Stores new passwords under this scheme.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn storing_as(self, name: &str) -> Result<Self, AccountError> {
        Ok(Self { scheme: scheme::known(name)?, ..self })
    }

    /// Adds an account, and its domain when that is missing.
    ///
    /// # Errors
    /// [`AccountError::Exists`] for a duplicate; nothing is changed then.
    pub async fn add(&self, address: &str, password: &SecretString) -> Result<(), AccountError> {
        let (address, domain) = parse(address)?;
        let hash = self.hashed(password).await?;
        let insert_user = self.sql(
            "INSERT INTO virtual_users (domain_id, email, password) SELECT id, ?, ? FROM virtual_domains WHERE name = ?",
        );
        let (select_domain, insert_domain) = self.domain();
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

    /// Replaces the password; an account that is disabled stays so. Services that cached the old one accept it until
    /// they are told ([`staffetta_queue::Announcer::revoke`]) or their `auth.cache_ttl` is over. Gives the state that it is in.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] if there is no such account.
    pub async fn set_password(&self, address: &str, password: &SecretString) -> Result<State, AccountError> {
        let (address, _) = parse(address)?;
        let is_locked = self.stored(&address).await?.is_some_and(|stored| stored.starts_with(scheme::LOCK));
        let hash = self.hashed(password).await?;
        let (hash, state) =
            if is_locked { (format!("{}{hash}", scheme::LOCK), State::Disabled) } else { (hash, State::Enabled) };
        let sql = self.sql("UPDATE virtual_users SET password = ? WHERE LOWER(email) = ?");
        let changed = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&hash).bind(&address).execute(pool).await?.rows_affected()
        });
        found(changed, address).map(|()| state)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Ends the connections; a SQLite file is complete on disk afterwards.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Looks for a domain, and adds it.
    fn domain(&self) -> (String, String) {
        let select = self.sql("SELECT 1 FROM virtual_domains WHERE name = ?");
        (select, self.sql("INSERT INTO virtual_domains (name) VALUES (?)"))
    }

    async fn hashed(&self, password: &SecretString) -> Result<String, AccountError> {
        use secrecy::ExposeSecret as _;
        match password.expose_secret() {
            "" => return Err(AccountError::EmptyPassword),
            text if text.contains('\0') => return Err(AccountError::Nul),
            _ => {}
        }
        let (scheme, password) = (self.scheme, password.clone());
        let task = tokio::task::spawn_blocking(move || scheme::hash(scheme, &password));
        Ok(task.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
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

/// The address and its domain, in lower case.
fn parse(address: &str) -> Result<(String, String), AccountError> {
    let wrong = || AccountError::Address(address.to_owned());
    let lower = address.trim().to_lowercase();
    let parsed: Address = lower.parse().map_err(|_| wrong())?;
    let (_, domain) = parsed.as_str().rsplit_once('@').ok_or_else(wrong)?;
    Ok((lower, domain.to_owned()))
}

/// Of an account, or of a domain that somebody else added at the same time.
fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

fn found(rows: u64, address: String) -> Result<(), AccountError> {
    if rows == 0 { Err(AccountError::Unknown(address)) } else { Ok(()) }
}
