//! One pool of connections, whichever database it is. An enum and not sqlx's `Any`, which knows too few column types.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _,
    Statement as _,
};

use super::query::{Dialect, Query, Values};
use super::{MAX_CONNECTIONS, StoreError};

/// The longest wait for a free or a new connection.
const ACQUIRE: Duration = Duration::from_secs(3);

/// The longest single attempt to connect, made to learn why others failed.
const ONE_ATTEMPT: Duration = Duration::from_secs(1);

/// A connection idle for longer is tested before it is used again.
const TEST_AFTER: Duration = Duration::from_secs(5);

/// `auth.sql.url` cannot be used. The URL itself is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", Self::KEY, self.problem())]
pub struct UrlError(String);

impl UrlError {
    /// Where the URL stands in the configuration.
    pub(super) const KEY: &'static str = "auth.sql.url";

    /// What is wrong, and what is allowed.
    pub(super) fn problem(&self) -> String {
        const ALLOWED: &str =
            "sqlite:///path, postgres://user:password@host/database, mysql://user:password@host/database";
        format!("{}; allowed are {ALLOWED}", self.0)
    }
}

/// What to do about a SQLite file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SqliteFile {
    /// The service never makes one: an empty database would answer "no" to everybody.
    MustExist,
    /// The account commands do.
    Create,
}

/// Connections to one of the three kinds of database.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    Mysql(MySqlPool),
}

/// Runs the same code for each kind; the types differ, the text does not.
macro_rules! each {
    ($pool:expr, $inner:ident => $code:expr) => {
        match $pool {
            Pool::Sqlite($inner) => $code,
            Pool::Postgres($inner) => $code,
            Pool::Mysql($inner) => $code,
        }
    };
}
pub(crate) use each;

impl Pool {
    /// Reads the URL; connects to nothing. A SQLite file that is to be made is made here, empty and for its owner alone.
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(url: &SecretString, file: SqliteFile) -> Result<Self, UrlError> {
        let url = url.expose_secret();
        let wrong = |error: sqlx::Error| UrlError(error.to_string());
        let (scheme, _) = url.split_once(':').ok_or_else(|| UrlError("is not a URL".to_owned()))?;
        match scheme {
            "sqlite" => {
                let options = SqliteConnectOptions::from_str(url).map_err(wrong)?;
                let in_memory = is_in_memory(url);
                if file == SqliteFile::Create && !in_memory {
                    make_private(options.get_filename());
                }
                let options = options.create_if_missing(in_memory).busy_timeout(ACQUIRE);
                Ok(Self::Sqlite(
                    bounded(SqlitePoolOptions::new()).connect_lazy_with(options.disable_statement_logging()),
                ))
            }
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(url).map_err(wrong)?.application_name("staffetta-auth");
                Ok(Self::Postgres(bounded(PgPoolOptions::new()).connect_lazy_with(options.disable_statement_logging())))
            }
            "mysql" | "mariadb" => {
                let options = MySqlConnectOptions::from_str(url).map_err(wrong)?;
                Ok(Self::Mysql(bounded(MySqlPoolOptions::new()).connect_lazy_with(options.disable_statement_logging())))
            }
            other => Err(UrlError(format!("unknown database `{other}`"))),
        }
    }

    /// Whose SQL is spoken there.
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Executes the query and gives the wanted columns of at most `limit` rows, in the order of
    /// [`super::query::Kind::columns`], then those of [`super::query::Kind::optional`].
    pub(crate) async fn rows(
        &self,
        query: &Query,
        values: &Values<'_>,
        limit: usize,
    ) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        each!(self, pool => {
            let mut connection = pool.acquire().await.map_err(StoreError::Connect)?;
            let mut statement = sqlx::query(AssertSqlSafe(Arc::clone(&query.sql)));
            for bind in &query.binds {
                statement = statement.bind(values.of(*bind).to_owned());
            }
            let mut rows = statement.fetch(&mut *connection);
            let failed = |error| StoreError::Query { kind: query.kind, error };
            let mut result = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                result.push(columns(&row, query)?);
                if result.len() == limit {
                    break;
                }
            }
            Ok(result)
        })
    }

    /// Lets the database parse the queries and checks that their columns are there.
    pub(crate) async fn prepare(&self, queries: &[&Query]) -> Result<(), StoreError> {
        each!(self, pool => {
            let mut connection = match pool.acquire().await {
                Ok(connection) => connection,
                Err(sqlx::Error::PoolTimedOut) => return Err(StoreError::Connect(cause(pool).await)),
                Err(error) => return Err(StoreError::Connect(error)),
            };
            connection.ping().await.map_err(StoreError::Connect)?;
            for query in queries {
                // The same parameter types as `rows` binds: the statement stays in the connection's cache.
                let types = vec![text_type(&*connection); query.binds.len()];
                let sql = AssertSqlSafe(Arc::clone(&query.sql)).into_sql_str();
                let statement = (&mut *connection).prepare_with(sql, &types).await;
                let statement = statement.map_err(|error| StoreError::Query { kind: query.kind, error })?;
                let has = |name: &str| statement.columns().iter().any(|column| column.name() == name);
                if let Some(column) = query.kind.columns().iter().find(|name| !has(name)) {
                    return Err(StoreError::MissingColumn { kind: query.kind, column });
                }
            }
            Ok(())
        })
    }

    /// The file, where the database is one.
    pub(crate) fn sqlite_file(&self) -> Option<std::path::PathBuf> {
        match self {
            Self::Sqlite(pool) => Some(pool.connect_options().get_filename().to_owned()),
            Self::Postgres(_) | Self::Mysql(_) => None,
        }
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        each!(self, pool => pool.close().await);
    }
}

/// No file at all.
fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

/// Hashes of passwords are nobody else's business, and SQLite would make the file for all whom the umask lets read; its
/// journals get the mode of the file. One that is there stays as it is; where none can be made, SQLite says so.
fn make_private(path: &Path) {
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// Bounds and checks that are the same everywhere.
fn bounded<DB: sqlx::Database>(options: PoolOptions<DB>) -> PoolOptions<DB> {
    options
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_secs(300))
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for >= TEST_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Why no connection came about: the pool only says that it took too long.
async fn cause<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> sqlx::Error {
    match tokio::time::timeout(ONE_ATTEMPT, pool.connect_options().connect()).await {
        Ok(Err(error)) => error,
        _ => sqlx::Error::PoolTimedOut,
    }
}

/// The type under which text is bound.
fn text_type<C: sqlx::Connection>(_: &C) -> <C::Database as sqlx::Database>::TypeInfo
where
    String: sqlx::Type<C::Database>,
{
    <String as sqlx::Type<C::Database>>::type_info()
}

/// The wanted columns of a row, as text.
fn columns<R: TextRow>(row: &R, query: &Query) -> Result<Vec<Option<String>>, StoreError> {
    let read = |column: &&'static str| {
        row.text(column).map_err(|error| match error {
            sqlx::Error::ColumnNotFound(_) => StoreError::MissingColumn { kind: query.kind, column },
            error => StoreError::Query { kind: query.kind, error },
        })
    };
    let required = query.kind.columns().iter().map(read);
    required.chain(query.kind.optional().iter().map(|column| Ok(row.any(column)))).collect()
}

/// What stands for a value that is there and is neither text nor a whole number.
const OTHER: &str = "?";

/// Reads a column as text, whatever text type the database gives it.
trait TextRow {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error>;

    /// Text, or a whole number of any size; `None`: NULL, or no such column.
    fn any(&self, column: &str) -> Option<String>;
}

/// The first of these that can be read; of a column that is not there, nothing.
macro_rules! first {
    ($row:expr, $column:expr, $($kind:ty),+) => {{
        $(match $row.try_get::<Option<$kind>, _>($column) {
            Ok(value) => return value.map(|value| value.to_string()),
            Err(sqlx::Error::ColumnNotFound(_)) => return None,
            Err(_) => {}
        })+
        Some(OTHER.to_owned())
    }};
}

impl TextRow for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        // SQLite types values, not columns.
        self.try_get_unchecked(column)
    }

    fn any(&self, column: &str) -> Option<String> {
        self.text(column).unwrap_or_default()
    }
}

impl TextRow for PgRow {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn any(&self, column: &str) -> Option<String> {
        first!(self, column, String, i64, i32, i16)
    }
}

impl TextRow for MySqlRow {
    /// Columns with a binary collation count as bytes there, yet hold text.
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        let bytes: Option<Vec<u8>> = self.try_get_unchecked(column)?;
        bytes.map(String::from_utf8).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
    }

    fn any(&self, column: &str) -> Option<String> {
        if let Ok(octets) = self.try_get::<Option<Vec<u8>>, _>(column) {
            return octets.map(|octets| String::from_utf8(octets).unwrap_or_else(|_| OTHER.to_owned()));
        }
        first!(self, column, String, i64, u64)
    }
}
