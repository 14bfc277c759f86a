//! A real MariaDB server.

use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use staffetta_config::Config;
use staffetta_testkit::child::Running;

use crate::accounts;
use crate::common::{BAD, Outcome};
use crate::peer::{self, Database, Peer};

/// A server in a scratch folder, on a unix socket only.
pub(crate) struct Mariadb {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Mariadb {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("my").tempdir().unwrap();
        let data = format!("--datadir={}", folder.path().join("data").display());
        let mut install = vec!["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"];
        install.extend(user());
        let output = Command::new("mariadb-install-db").args(install).output();
        let output = output
            .unwrap_or_else(|error| panic!("MariaDB is needed for this test ({error}); scripts/setup installs it"));
        assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
        let mut server = Self { folder, running: None };
        server.up().await;
        run(&server.url(""), "CREATE DATABASE staffetta").await;
        let url = server.url("staffetta");
        peer::fill(&url, true, async |sql| run(&url, &sql).await).await;
        run(&url, "CREATE USER reader@localhost; GRANT SELECT ON staffetta.* TO reader@localhost").await;
        accounts::a_right_that_is_missing_is_named(&url.replace("root@", "reader@")).await;
        server
    }

    async fn up(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", path("data")),
            format!("--socket={}", path("sock")),
            format!("--pid-file={}", path("pid")),
            "--skip-networking".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
        ];
        arguments.extend(user().map(str::to_owned));
        let program =
            if std::path::Path::new("/usr/sbin/mariadbd").exists() { "/usr/sbin/mariadbd" } else { "mariadbd" };
        self.running = Some(Running::start(program, &arguments, &self.folder.path().join("log")).unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        while MySqlConnection::connect(&self.url("")).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "MariaDB does not answer: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn url(&self, database: &str) -> String {
        format!("mysql://root@localhost/{database}?socket={}", self.folder.path().join("sock").display())
    }
}

/// It does not run as root unless told so.
fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

async fn run(url: &str, sql: &str) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
}

impl Peer for Mariadb {
    fn name(&self) -> &'static str {
        "MariaDB"
    }

    fn config(&self, auth: &str, sql: &str) -> Config {
        peer::config(&self.url("staffetta"), auth, sql)
    }

    fn has_look_ups(&self) -> bool {
        true
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().kill();
    }

    async fn start_again(&mut self) {
        self.up().await;
    }
}

impl Database for Mariadb {
    async fn execute(&self, sql: &str) {
        run(&self.url("staffetta"), sql).await;
    }
}

/// Binary collations and blobs hold text as well; quotes and comments of MySQL hide names.
pub(crate) async fn types_of_operators(server: &Mariadb) {
    let stored = staffetta_auth::scheme::hash("SSHA512", &"summersun".into()).unwrap();
    server
        .execute(
            &format!(
                "CREATE TABLE people (name VARCHAR(99) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, secret BLOB) DEFAULT CHARSET=utf8mb4; \
                 INSERT INTO people VALUES ('Jörg', '{stored}')"
            ),
        )
        .await;
    let query =
        "SELECT `name` AS login, secret AS password FROM people WHERE name = :login AND ':x' <> 'a\\\\':y' # :z";
    let world = server.world_with(&format!("password_query = \"{query}\"")).await;
    assert_eq!(world.plain("Jörg", "summersun").await, Outcome::Success("Jörg".to_owned()));
    assert_eq!(world.plain("jörg", "summersun").await, BAD);
    world.stop().await;
}

/// The usual collations take `jöhn` and `john ` for `john`.
pub(crate) async fn lenient_collations(server: &Mariadb) {
    let stored = staffetta_auth::scheme::hash("SSHA512", &"summersun".into()).unwrap();
    let table = "CREATE TABLE lenient (name VARCHAR(99)) CHARSET=utf8mb4 COLLATE utf8mb4_general_ci; \
                 INSERT INTO lenient VALUES ('john@example.org'), ('jörg@example.org')";
    server.execute(table).await;
    let query = format!("SELECT name AS login, '{stored}' AS password FROM lenient WHERE name = :login");
    let world = server.world_with(&format!("password_query = \"{query}\"")).await;
    for (login, account) in [
        ("john@example.org", Some("john@example.org")),
        ("John@Example.ORG", Some("john@example.org")),
        ("JÖRG@example.org", Some("jörg@example.org")),
        ("jöhn@example.org", None),
        ("john@example.org ", None),
        ("j\u{f3}rg@example.org", None),
    ] {
        let expected = account.map_or(BAD, |account| Outcome::Success(account.to_owned()));
        assert_eq!(world.plain(login, "summersun").await, expected, "{login:?}");
    }
    world.stop().await;
}
