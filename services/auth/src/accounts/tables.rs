//! The tables that accounts are kept in: those of the ISPmail guide, and no others. On SQLite they are made when the first
//! account is added; a server's only when `staffetta user init` is asked for it.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use staffetta_config::{Schema, Sql};

use super::AccountError;
use crate::sql::said::{TABLES, lacks_table};
use crate::sql::{Pool, each};

/// SQLite's SQLITE_CANTOPEN.
const NO_FILE: &str = "14";

/// Does the service read the tables that are changed here? An operator with a schema of their own would get three more
/// tables, and an account that nobody looks up.
pub(super) fn are_read(sql: &Sql) -> Result<(), AccountError> {
    if sql.schema == Schema::PostfixAdmin {
        return Err(AccountError::PostfixAdmin);
    }
    let query = sql.password_query.to_lowercase();
    let mut words = query.split(|character: char| !character.is_alphanumeric() && character != '_');
    if words.any(|word| word == TABLES[1]) { Ok(()) } else { Err(AccountError::Foreign) }
}

/// Brings SQLite to the current schema.
pub(super) async fn migrate(pool: &Pool) -> Result<(), AccountError> {
    if let Pool::Sqlite(pool) = pool {
        migrator().run(pool).await?;
    }
    Ok(())
}

/// Is there a table of accounts?
pub(super) async fn exist(pool: &Pool) -> Result<bool, AccountError> {
    exists(pool, TABLES[1]).await
}

/// Makes them on a server. Those that are there are never changed.
pub(super) async fn make(pool: &Pool) -> Result<bool, AccountError> {
    let mut there = Vec::new();
    for table in TABLES {
        if exists(pool, table).await? {
            there.push(table);
        }
    }
    match there.len() {
        0 => {}
        n if n == TABLES.len() => return Ok(false),
        _ => return Err(AccountError::Halves(there.join(", "))),
    }
    let schema = match pool {
        Pool::Sqlite(_) => return migrate(pool).await.map(|()| true),
        Pool::Postgres(_) => include_str!("../../schema/postgres.sql"),
        Pool::Mysql(_) => include_str!("../../schema/mysql.sql"),
    };
    each!(pool, pool => { sqlx::raw_sql(schema).execute(pool).await?; });
    Ok(true)
}

/// An answer of the database that is an error is a no: what else it could be comes back at the next question.
async fn exists(pool: &Pool, table: &str) -> Result<bool, AccountError> {
    let sql = format!("SELECT 1 FROM {table} WHERE 1 = 0");
    match each!(pool, pool => sqlx::query(AssertSqlSafe(sql)).fetch_optional(pool).await.map(|_| ())) {
        Ok(()) => Ok(true),
        Err(error) if lacks_table(&error) => Ok(false),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_FILE) => Err(AccountError::NoFile),
        Err(error) => Err(error.into()),
    }
}

/// The schema of SQLite, step by step. Steps are added, never changed: databases remember their checksums.
fn migrator() -> Migrator {
    let ispmail = include_str!("../../schema/sqlite/0001_ispmail.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(1, "ispmail".into(), MigrationType::Simple, ispmail, false)])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_config::Config;

    use super::*;

    #[test]
    fn only_the_tables_that_are_read_are_ours() {
        for (query, ours) in [
            ("SELECT email AS login, password FROM virtual_users WHERE email = :login", true),
            ("SELECT email AS login, password FROM mail.`Virtual_Users` WHERE email = :login AND enabled", true),
            ("SELECT username AS login, password FROM mailbox WHERE username = :login", false),
            ("SELECT email AS login, password FROM virtual_users_old WHERE email = :login", false),
        ] {
            let text = format!("hostname = \"a.example\"\nauth.sql.password_query = \"{query}\"\n");
            let sql = Config::parse(&text, "t").unwrap().auth.sql;
            assert_eq!(are_read(&sql).is_ok(), ours, "{query}");
        }
    }
}
