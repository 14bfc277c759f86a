//! What a database says against a statement: once, in its own words, and what an operator can do about it.

use sqlx::mysql::MySqlDatabaseError;

/// The tables of the ISPmail guide.
pub(crate) const TABLES: [&str; 3] = ["virtual_domains", "virtual_users", "virtual_aliases"];

/// SQLite's SQLITE_ERROR, for whatever has no code of its own; SQLITE_READONLY and SQLITE_CANTOPEN, the last octet of several.
const SQLITE_ERROR: &str = "1";
const SQLITE_READONLY: u32 = 8;
const SQLITE_CANTOPEN: u32 = 14;
/// MySQL's numbers for a user that may not use the database, the table, a column or a procedure, or not do this at all; its
/// SQLSTATE is that of a wrong syntax.
const MYSQL_DENIED: [u16; 5] = [1044, 1142, 1143, 1370, 1227];

/// The message: of a database without the codes and the place in its own source, which sqlx adds.
pub(crate) fn said(error: &sqlx::Error) -> String {
    let text = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let is_ours = lacks_table(error) && TABLES.iter().any(|table| text.contains(table));
    let cure = match () {
        () if is_ours => "; `staffetta user init` makes the tables of the ISPmail guide",
        () if lacks_file(error) => {
            "; the file of auth.sql.url has to be there, for this user to read; `staffetta user add` makes it"
        }
        () => "",
    };
    format!("{text}{cure}")
}

/// SQLite's file is not there, or somebody else's.
fn lacks_file(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| is_sqlite(&error.code().unwrap_or_default(), SQLITE_CANTOPEN))
}

/// Others have codes of five characters.
fn is_sqlite(code: &str, which: u32) -> bool {
    code.len() < 5 && code.parse().is_ok_and(|code: u32| code & 0xff == which)
}

/// A table that is not there. PostgreSQL, MySQL, SQLite.
pub(crate) fn lacks_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| match error.code().as_deref() {
        Some("42P01" | "42S02") => true,
        Some(SQLITE_ERROR) => error.message().starts_with("no such table"),
        _ => false,
    })
}

/// A right that the user of the database does not have, or a file that cannot be written.
pub(crate) fn lacks_right(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            return MYSQL_DENIED.contains(&error.number());
        }
        let code = error.code().unwrap_or_default();
        code == "42501" || is_sqlite(&code, SQLITE_READONLY)
    })
}
