//! A real PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use staffetta_config::Config;
use staffetta_testkit::child::Running;

use crate::accounts;
use crate::common::{BAD, Outcome};
use crate::peer::{self, Database, Peer};

/// A server in a scratch folder, on a unix socket only. It does not run as root, so root lends it another user.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

/// Runs a program as the user that owns the data, and makes it end with this process.
fn wrapped(program: &Path, arguments: &[&str]) -> Vec<String> {
    let mut all: Vec<&str> = Vec::new();
    if rustix::process::geteuid().is_root() {
        // A change of user forgets the death signal, so it is set again behind it.
        all.extend([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ]);
    }
    all.push(program.to_str().unwrap());
    all.extend(arguments);
    all.into_iter().map(str::to_owned).collect()
}

/// The newest installation of Debian's layout, or what the path has.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        }
        let data = folder.path().join("data");
        let initdb =
            ["-D", data.to_str().unwrap(), "-U", "staffetta", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"];
        let command = wrapped(&program("initdb"), &initdb);
        let output = Command::new(&command[0]).args(&command[1..]).current_dir(folder.path()).output();
        let output = output
            .unwrap_or_else(|error| panic!("PostgreSQL is needed for this test ({error}); scripts/setup installs it"));
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut server = Self { folder, running: None };
        server.up().await;
        let url = server.url();
        peer::fill(&url, true, async |sql| server.execute(&sql).await).await;
        server.execute("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await;
        accounts::a_right_that_is_missing_is_named(&url.replace("staffetta@", "reader@")).await;
        server
    }

    async fn up(&mut self) {
        let (folder, data) = (self.folder.path().to_str().unwrap(), self.folder.path().join("data"));
        let arguments = ["-D", data.to_str().unwrap(), "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"];
        let command = wrapped(&program("postgres"), &arguments);
        self.running = Some(Running::start(&command[0], &command[1..], &self.folder.path().join("log")).unwrap());
        let end = Instant::now() + Duration::from_secs(30);
        while PgConnection::connect(&self.url()).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL does not answer: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn url(&self) -> String {
        format!("postgres://staffetta@localhost/postgres?host={}", self.folder.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            // Lets it end its own children; `Running` does the rest.
            let _ = running.signal(rustix::process::Signal::QUIT);
        }
    }
}

impl Peer for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn config(&self, auth: &str, sql: &str) -> Config {
        peer::config(&self.url(), auth, sql)
    }

    fn has_look_ups(&self) -> bool {
        true
    }

    /// Ends the server without asking its sessions.
    async fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        running.signal(rustix::process::Signal::QUIT).unwrap();
        running.wait(Duration::from_secs(20)).unwrap();
    }

    async fn start_again(&mut self) {
        self.up().await;
    }
}

impl Database for Postgres {
    async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }
}

/// Casts, other text types, and names that are no parameters.
pub(crate) async fn types_of_operators(server: &Postgres) {
    let stored = staffetta_auth::scheme::hash("SSHA512", &"summersun".into()).unwrap();
    server
        .execute(&format!(
            "CREATE TABLE people (name TEXT, secret CHAR(200)); INSERT INTO people VALUES ('Jörg', '{stored}')"
        ))
        .await;
    let query = "SELECT name::varchar AS login, rtrim(secret) AS password FROM people WHERE name = :login::text AND ':x' <> $$:y$$";
    let world = server.world_with(&format!("password_query = \"{query}\"")).await;
    assert_eq!(world.plain("Jörg", "summersun").await, Outcome::Success("Jörg".to_owned()));
    assert_eq!(world.plain("Jörg", "x").await, BAD);
    world.stop().await;
}
