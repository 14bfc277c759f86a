//! What the cases must know of a back end, and the accounts that are in each.

use staffetta_auth::scheme;
use staffetta_config::Config;

use crate::accounts;
use crate::common::{self, World};

/// A back end that is really there, with [`stored`] in it.
pub(crate) trait Peer {
    /// For the output.
    fn name(&self) -> &'static str;

    /// A service on it that offers PLAIN, LOGIN and SCRAM-SHA-256, with these lines more in `[auth]` and `[auth.sql]`.
    fn config(&self, auth: &str, sql: &str) -> Config;

    /// Do senders, domains and recipients go away with it?
    fn has_look_ups(&self) -> bool;

    /// May a password have a TAB or a line end? Dovecot refuses all that have, because its own protocol does not.
    fn takes_any_password(&self) -> bool {
        true
    }

    /// Does `/readyz` notice that it is away? SQLite's file is not looked at for statements that are prepared.
    fn is_watched(&self) -> bool {
        true
    }

    /// Takes it away.
    async fn stop(&mut self);

    /// Brings it back.
    async fn start_again(&mut self);

    /// A service without a cache, ready.
    async fn world(&self) -> World {
        self.world_with("").await
    }

    /// The same with these lines in `[auth.sql]`.
    async fn world_with(&self, sql: &str) -> World {
        let world = World::start(self.config("cache_ttl = \"0s\"", sql)).await;
        world.until_ready().await;
        world
    }
}

/// One of those that are asked in SQL.
pub(crate) trait Database: Peer {
    /// Runs statements as an administrator.
    async fn execute(&self, sql: &str);
}

/// What `[auth]` of a service on a database says beside.
pub(crate) const OFFERED: &str = "mechanisms = [\"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\"]";

/// The password of `odd@example.org`.
pub(crate) const ODD_PASSWORD: &str = "sum\tmer\nsun";

/// The accounts, and under what their passwords are stored; no password is no text.
pub(crate) fn stored() -> Vec<(&'static str, Option<String>)> {
    let hash = |password: &str| scheme::hash("SHA512-CRYPT", &password.into()).unwrap();
    vec![
        ("john@example.org", Some(hash("summersun"))),
        ("lisa@example.org", Some(hash("moonlight"))),
        ("scram@example.org", Some(scheme::hash("SCRAM-SHA-256", &"summersun".into()).unwrap())),
        ("plain@example.org", Some("{PLAIN}summersun".to_owned())),
        ("odd@example.org", Some(hash(ODD_PASSWORD))),
        ("none@example.org", None),
        ("barred@example.org", Some("{SHA512-CRYPT}!$6$x$y".to_owned())),
        ("starred@example.org", Some("*".to_owned())),
        ("unreadable@example.org", Some("{WHIRLPOOL}x".to_owned())),
    ]
}

/// The tables of the guide with these accounts in them, and two addresses without an account. They are made and tried by
/// what `staffetta user` does first.
pub(crate) async fn fill(url: &str, is_server: bool, execute: impl AsyncFn(String)) {
    if is_server {
        accounts::tables_are_made_when_they_are_asked_for(url).await;
    }
    accounts::commands(url).await;
    for (login, stored) in stored() {
        let stored = stored.map_or("NULL".to_owned(), |stored| format!("'{stored}'"));
        let (columns, from) = ("domain_id, email, password", "FROM virtual_domains WHERE name = 'example.org'");
        execute(format!("INSERT INTO virtual_users ({columns}) SELECT id, '{login}', {stored} {from}")).await;
    }
    aliases(execute).await;
}

/// Addresses without an account.
pub(crate) async fn aliases(execute: impl AsyncFn(String)) {
    for source in ["info@example.org", "@catch.example"] {
        let (columns, from) = ("domain_id, source, destination", "FROM virtual_domains WHERE name = 'example.org'");
        let row = format!("INSERT INTO virtual_aliases ({columns}) SELECT id, '{source}', 'john@example.org' {from}");
        execute(row).await;
    }
}

/// A service on this database.
pub(crate) fn config(url: &str, auth: &str, sql: &str) -> Config {
    common::config(&format!("{OFFERED}\n{auth}"), &format!("url = {url:?}\n{sql}"))
}
