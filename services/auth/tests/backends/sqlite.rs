//! SQLite, in a file.

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use staffetta_config::Config;

use crate::accounts;
use crate::peer::{self, Database, Peer};

pub(crate) struct Sqlite {
    url: String,
    /// While it lives, nobody else reads.
    lock: Option<SqliteConnection>,
    _folder: tempfile::TempDir,
}

impl Sqlite {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        peer::fill(&url, false, async |sql| execute(&url, &sql).await).await;
        accounts::a_right_that_is_missing_is_named(&format!("{url}?mode=ro")).await;
        Self { url, lock: None, _folder: folder }
    }
}

pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

impl Peer for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn config(&self, auth: &str, sql: &str) -> Config {
        peer::config(&self.url, auth, sql)
    }

    fn has_look_ups(&self) -> bool {
        true
    }

    fn is_watched(&self) -> bool {
        false
    }

    async fn stop(&mut self) {
        let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut connection).await.unwrap();
        self.lock = Some(connection);
    }

    async fn start_again(&mut self) {
        self.lock.take().unwrap().close().await.unwrap();
    }
}

impl Database for Sqlite {
    async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }
}
