//! The service on a real MariaDB server.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use staffetta_testkit::child::Running;

/// A server in a scratch folder, on a unix socket only.
struct Mariadb {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Mariadb {
    async fn start() -> Self {
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
        server.execute("", "CREATE DATABASE staffetta".to_owned()).await;
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

    async fn execute(&self, database: &str, sql: String) {
        let mut connection = MySqlConnection::connect(&self.url(database)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

/// It does not run as root unless told so.
fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

#[tokio::test]
async fn mariadb_is_a_back_end() {
    let mut server = Mariadb::start().await;
    let url = server.url("staffetta");
    common::tables(&url).await;
    common::contract(&url, async |sql| server.execute("staffetta", sql).await).await;
    operators_types(&server).await;
    lenient_collation(&server).await;
    let server = std::cell::RefCell::new(&mut server);
    #[expect(clippy::await_holding_refcell_ref, reason = "nobody else borrows meanwhile")]
    let start = async || server.borrow_mut().up().await;
    common::outage(&url, async || server.borrow_mut().running.take().unwrap().kill(), start).await;
}

/// Binary collations and blobs hold text as well; quotes and comments of MySQL hide names.
async fn operators_types(server: &Mariadb) {
    let stored = staffetta_auth::scheme::hash("SSHA512", &"summersun".into()).unwrap();
    server
        .execute(
            "staffetta",
            format!(
                "CREATE TABLE people (name VARCHAR(99) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, secret BLOB) DEFAULT CHARSET=utf8mb4; \
                 INSERT INTO people VALUES ('Jörg', '{stored}')"
            ),
        )
        .await;
    let query =
        "SELECT `name` AS login, secret AS password FROM people WHERE name = :login AND ':x' <> 'a\\\\':y' # :z";
    let sql = format!("url = {:?}\npassword_query = \"{query}\"", server.url("staffetta"));
    let world = common::World::start(common::config("", &sql)).await;
    assert_eq!(world.plain("Jörg", "summersun").await, common::Outcome::Success("Jörg".to_owned()));
    assert_eq!(world.plain("jörg", "summersun").await, common::BAD);
    world.stop().await;
}

/// The usual collations take `jöhn` and `john ` for `john`.
async fn lenient_collation(server: &Mariadb) {
    let stored = staffetta_auth::scheme::hash("SSHA512", &"summersun".into()).unwrap();
    let table = "CREATE TABLE lenient (name VARCHAR(99)) CHARSET=utf8mb4 COLLATE utf8mb4_general_ci; \
                 INSERT INTO lenient VALUES ('john@example.org'), ('jörg@example.org')";
    server.execute("staffetta", table.to_owned()).await;
    let query = format!("SELECT name AS login, '{stored}' AS password FROM lenient WHERE name = :login");
    let sql = format!("url = {:?}\npassword_query = \"{query}\"", server.url("staffetta"));
    let world = common::World::start(common::config("", &sql)).await;
    for (login, account) in [
        ("john@example.org", Some("john@example.org")),
        ("John@Example.ORG", Some("john@example.org")),
        ("JÖRG@example.org", Some("jörg@example.org")),
        ("jöhn@example.org", None),
        ("john@example.org ", None),
        ("j\u{f3}rg@example.org", None),
    ] {
        let expected = account.map_or(common::BAD, |account| common::Outcome::Success(account.to_owned()));
        assert_eq!(world.plain(login, "summersun").await, expected, "{login:?}");
    }
    world.stop().await;
}
