//! Dovecot for the passwords, SQLite for everything else.

use staffetta_auth::accounts::Accounts;
use staffetta_config::Config;
use staffetta_testkit::dovecot::Dovecot;

use crate::common;
use crate::peer::{self, Peer};
use crate::sqlite::execute;

pub(crate) struct Peered {
    dovecot: Dovecot,
    url: String,
    _folder: tempfile::TempDir,
}

/// A failed login does not make the next one wait.
const NO_PENALTY: &str = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}";

impl Peered {
    pub(crate) async fn start() -> Self {
        let stored = peer::stored().into_iter();
        let users: Vec<String> =
            stored.map(|(login, stored)| format!("{login}:{}", stored.unwrap_or_default())).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let dovecot = Dovecot::start("plain login scram-sha-256", &users, NO_PENALTY).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        // With other passwords: nobody asks the database for them.
        let accounts = Accounts::open(&common::sql(&url)).await.unwrap();
        for login in ["john@example.org", "lisa@example.org"] {
            accounts.add(login, &"of the database".into()).await.unwrap();
        }
        accounts.close().await;
        peer::aliases(async |sql| execute(&url, &sql).await).await;
        Self { dovecot, url, _folder: folder }
    }
}

impl Peer for Peered {
    fn name(&self) -> &'static str {
        "Dovecot"
    }

    fn config(&self, auth: &str, sql: &str) -> Config {
        let sql = format!("url = {:?}\n{sql}", self.url);
        common::dovecot(auth, self.dovecot.socket().to_str().unwrap(), Some(&sql))
    }

    fn has_look_ups(&self) -> bool {
        false
    }

    fn takes_any_password(&self) -> bool {
        false
    }

    async fn stop(&mut self) {
        self.dovecot.kill();
    }

    async fn start_again(&mut self) {
        self.dovecot.up().unwrap();
    }
}
